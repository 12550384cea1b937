//! Netlify.
//!
//! `_headers` takes `*` anywhere in a path and `:placeholder` for a component; a later rule's header replaces an earlier
//! one's. `_redirects` takes `*` at the end only, so what is elsewhere takes a line for each repository. No value can hold what
//! a path spelled: digests are a script's affair.
//!
//! A path without a page's ending is answered with the page of that name, so a tag that ends in `.html` must be no file.

use std::fmt::Write as _;

use super::budget::{Budget, Limits};
use super::plain::{self, Header, HeaderRule, Paths};
use super::{ConfigFile, FileText, Group, Host, Unsupported, by_name, edge};
use crate::oci::Reference;
use crate::site::{self, Form, Site};

/// Netlify.
pub(super) struct Netlify;

impl Host for Netlify {
    fn name(&self) -> &'static str {
        "netlify"
    }

    fn group(&self) -> Group {
        Group::Site
    }

    fn summary(&self) -> &'static str {
        "plain files and `_headers`, or with --edge a function that answers everything"
    }

    fn public(&self) -> Option<&'static str> {
        Some("public")
    }

    fn budgets(&self) -> &'static [Budget] {
        &[]
    }

    fn serves_as_page(&self, _form: Form, reference: &Reference) -> bool {
        matches!(reference, Reference::Tag(tag) if tag.as_str().to_ascii_lowercase().ends_with(".html"))
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        let limits = Limits { host: self.name(), budgets: self.budgets(), site };
        plain::check_files(&limits, "--blobs-at takes the blobs out of the site")?;
        let file = |name: &str, place: &str, text: FileText<'a>| ConfigFile {
            name: name.to_owned(),
            place: place.to_owned(),
            text,
        };
        let mut files = vec![
            file("netlify.toml", "what `netlify deploy` reads, above the folder of the site", TOML.into()),
            file("public/_redirects", "redirects, in the folder of the site", redirects(site)?.into()),
            file("public/404.html", "what is missing, in the same folder", plain::missing().into()),
        ];
        match site.form {
            Form::Edge => files.push(edge::script(site, "netlify/edge-functions/registry.js", edge::NETLIFY)),
            Form::Site => files.push(file("public/_headers", "headers, in the same folder", headers(site))),
            form => return Err(Unsupported::Form { host: self.name(), form }),
        }
        Ok(files)
    }
}

/// Pages are not to be prettified: a manifest's bytes count.
const TOML: &str = r#"[build]
  publish = "public"
  edge_functions = "netlify/edge-functions"

[build.processing]
  skip_processing = true
"#;

fn headers(site: &Site) -> FileText<'_> {
    let rules = plain::header_rules(site);
    FileText::written(move |f| {
        f.write_str("# A registry of plain files. Made by roadstead.\n")?;
        rules.iter().try_for_each(|HeaderRule { paths, headers }| {
            let said = headers.iter().filter_map(|(name, value)| match value {
                Header::Text(value) => Some(format!("  {}: {value}\n", site::spelled(name))),
                Header::Digest(_) => None,
            });
            let lines: String = said.collect();
            if lines.is_empty() { Ok(()) } else { write!(f, "\n{}\n{lines}", pattern(&paths)) }
        })
    })
}

fn pattern(paths: &Paths<'_>) -> String {
    match paths {
        Paths::All => "/*".to_owned(),
        Paths::Ping => "/v2/".to_owned(),
        Paths::Catalog => "/v2/_catalog".to_owned(),
        Paths::TagsLists => "/v2/*/tags/list".to_owned(),
        Paths::Referrers => "/v2/*/referrers/:subject".to_owned(),
        Paths::Blobs(algorithm) => format!("/v2/*/blobs/{algorithm}:*"),
        Paths::Manifests => "/v2/*/manifests/:reference".to_owned(),
        Paths::Digests(algorithm) => format!("/v2/*/manifests/{algorithm}:*"),
        Paths::Repository(name) => format!("/v2/{name}/manifests/:reference"),
        Paths::RepositoryDigests(name, algorithm) => format!("/v2/{name}/manifests/{algorithm}:*"),
        Paths::Name(name, reference) => format!("/v2/{name}/manifests/{reference}"),
    }
}

fn redirects(site: &Site) -> Result<String, Unsupported> {
    let mut text = "# A registry of plain files. Made by roadstead.\n".to_owned();
    // Manifests that are elsewhere are asked for there, by whatever name.
    let here = |_: &_| site.manifests_at.is_none();
    for (name, named) in plain::tags_ending(site, &[".html"]).filter(here) {
        let (reference, digest) = (&named.reference, named.digest);
        let _ = writeln!(text, "/v2/{name}/manifests/{reference} /v2/{name}/manifests/{digest} 200");
    }
    for (from, to) in by_name::redirects(site, "netlify", ":splat")? {
        let _ = writeln!(text, "{from}* {to} 302");
    }
    Ok(text)
}

//! Cloudflare Pages, and Workers with static assets.
//!
//! Both read `_headers` and `_redirects` in the folder of the site, with one syntax: a rule has one `*` at most, which reaches
//! any depth, and `:placeholders` within a component. All rules that match hold together, equal headers joined by commas,
//! unless the later one takes the header back first. They hold for what is missing, too.
//!
//! A colon and a letter make a placeholder, also in what is meant to be the digest of one manifest: there stands `*`.

use std::fmt::Write as _;

use super::budget::{Budget, Limits};
use super::plain::{self, Header, HeaderRule, Paths};
use super::{ConfigFile, Group, Host, Unsupported, edge};
use crate::oci::{Algorithm, Reference};
use crate::site::{self, Elsewhere, Form, Measure, Piece, Site};

/// Cloudflare Pages.
pub(super) struct Pages;

/// Cloudflare Workers with static assets.
pub(super) struct Workers;

/// What both say of `_headers`, `_redirects` and files.
macro_rules! budgets {
    ($headers:literal, $redirects:literal, $files:literal) => {
        &[
            Budget { measure: Measure::Files, at_most: 20_000, source: $files },
            Budget { measure: Measure::FileSize, at_most: 25 << 20, source: $files },
            Budget { measure: Measure::HeaderRules, at_most: 100, source: $headers },
            Budget { measure: Measure::LineLength, at_most: 2_000, source: $headers },
            Budget { measure: Measure::Redirects, at_most: 2_000, source: $redirects },
            Budget { measure: Measure::PatternRedirects, at_most: 100, source: $redirects },
        ]
    };
}

const PUBLIC: &str = "public";

impl Host for Pages {
    fn name(&self) -> &'static str {
        "cloudflare-pages"
    }

    fn group(&self) -> Group {
        Group::Site
    }

    fn summary(&self) -> &'static str {
        "plain files and `_headers`; 25 MiB a file, or blobs elsewhere"
    }

    fn public(&self) -> Option<&'static str> {
        Some(PUBLIC)
    }

    fn budgets(&self) -> &'static [Budget] {
        budgets!(
            "https://developers.cloudflare.com/pages/configuration/headers/",
            "https://developers.cloudflare.com/pages/configuration/redirects/",
            "https://developers.cloudflare.com/pages/platform/limits/"
        )
    }

    fn serves_as_page(&self, _form: Form, reference: &Reference) -> bool {
        is_page(reference)
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        let limits = Limits { host: self.name(), budgets: self.budgets(), site };
        if site.form != Form::Site {
            return Err(Unsupported::Form { host: self.name(), form: site.form });
        }
        plain::check_files(&limits, TOO_LARGE)?;
        let ignored = |name: &String| name.split('/').any(|component| component == "node_modules");
        let mut names = site.survey.repositories.keys().map(|repository| plain::full_name(site, repository));
        if let Some(value) = names.find(ignored) {
            let problem = "wrangler uploads nothing from a folder of this name; cloudflare-workers has no such rule";
            return Err(Unsupported::Value { host: self.name(), what: "a repository", value, problem });
        }
        let way_out = "cloudflare-workers with --edge needs no rules";
        let headers = headers(&limits, way_out)?;
        let mut redirects = Redirects::default();
        redirects.exact("/v2", "/v2/", 200);
        if site.manifests_at.is_none() {
            // A name that ends so is a page to it, and answered with a redirect to one without; see `serves_as_page`.
            for (name, named) in plain::tags_ending(site, &[".html"]) {
                let reference = &named.reference;
                let digest = named.digest.to_string().replace(':', "%3A");
                redirects.exact(
                    &format!("/v2/{name}/manifests/{reference}"),
                    &format!("/v2/{name}/manifests/{digest}"),
                    200,
                );
            }
        }
        redirects.elsewhere(self.name(), site)?;
        for algorithm in Algorithm::ALL {
            for folder in ["manifests", "blobs", "referrers"] {
                let to = format!("/v2/:splat/{folder}/{algorithm}::hex");
                redirects.pattern(&format!("/v2/*/{folder}/{algorithm}%3A:hex"), &to, 307);
            }
        }
        redirects.check(&limits, way_out)?;
        Ok(vec![
            file("_headers", "headers, in the folder that is deployed", headers),
            file("_redirects", "redirects, in the same folder", redirects.text()),
            file(
                "404.html",
                "what is missing, in the same folder: without it, a miss is answered with a page",
                plain::missing(),
            ),
        ])
    }
}

const TOO_LARGE: &str = "--blobs-at takes the blobs out of the site, to a bucket such as R2";

/// Whether a name is taken for that of a page.
fn is_page(reference: &Reference) -> bool {
    matches!(reference, Reference::Tag(tag) if tag.as_str().ends_with(".html"))
}

fn file(name: &str, place: &str, text: String) -> ConfigFile<'static> {
    ConfigFile { name: format!("{PUBLIC}/{name}"), place: place.to_owned(), text: text.into() }
}

/// The text of `_headers`.
fn headers(limits: &Limits<'_>, way_out: &'static str) -> Result<String, Unsupported> {
    let rules = plain::header_rules(limits.site);
    let over = rules.iter().nth(100).map(|rule| pattern(&rule.paths));
    let for_what = || {
        format!(" for media types that few names have{}", over.map(|at| format!(", from {at} on")).unwrap_or_default())
    };
    limits.check(Measure::HeaderRules, rules.len() as u64, for_what, way_out)?;
    let mut text = "# A registry of plain files. Made by roadstead.\n".to_owned();
    for HeaderRule { paths, headers } in rules.iter() {
        let _ = write!(text, "\n{}\n", pattern(&paths));
        for (name, value) in headers {
            let name = site::spelled(&name);
            // A rule for all manifests said something else.
            if paths.is_some_manifests() && name == "Content-Type" {
                let _ = writeln!(text, "  ! {name}");
            }
            let _ = match value {
                Header::Text(value) => writeln!(text, "  {name}: {value}"),
                Header::Digest(algorithm) => writeln!(text, "  {name}: {algorithm}::hex"),
            };
        }
    }
    lines(limits, &text, way_out)?;
    Ok(text)
}

fn lines(limits: &Limits<'_>, text: &str, way_out: &'static str) -> Result<(), Unsupported> {
    let Some(longest) = text.lines().max_by_key(|line| line.len()) else { return Ok(()) };
    limits.check(Measure::LineLength, longest.len() as u64, || format!(" for {longest}"), way_out)
}

fn pattern(paths: &Paths<'_>) -> String {
    match paths {
        Paths::All => "/*".to_owned(),
        Paths::Ping => "/v2/".to_owned(),
        Paths::Catalog => "/v2/_catalog".to_owned(),
        Paths::TagsLists => "/v2/*/tags/list".to_owned(),
        Paths::Referrers => "/v2/*/referrers/:subject".to_owned(),
        Paths::Blobs(algorithm) => format!("/v2/*/blobs/{algorithm}::hex"),
        Paths::Manifests => "/v2/*/manifests/:reference".to_owned(),
        Paths::Digests(algorithm) => format!("/v2/*/manifests/{algorithm}::hex"),
        Paths::Repository(name) => format!("/v2/{name}/manifests/:reference"),
        Paths::RepositoryDigests(name, algorithm) => format!("/v2/{name}/manifests/{algorithm}::hex"),
        Paths::Name(name, reference) => {
            format!("/v2/{name}/manifests/{}", reference.to_string().replace(':', "*"))
        }
    }
}

/// A colon and a letter would be a placeholder; escaped, the colon says the same.
fn without_placeholders(text: &str) -> String {
    let mut written = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(':') {
        written += before;
        written += if behind.starts_with(|c: char| c.is_ascii_alphabetic()) { "%3A" } else { ":" };
        rest = behind;
    }
    written + rest
}

/// The text of `_redirects`: those for one path first, as is asked for.
#[derive(Default)]
struct Redirects {
    exact: Vec<String>,
    patterns: Vec<String>,
}

impl Redirects {
    fn exact(&mut self, from: &str, to: &str, status: u16) {
        self.exact.push(format!("{from} {to} {status}"));
    }

    fn pattern(&mut self, from: &str, to: &str, status: u16) {
        self.patterns.push(format!("{from} {to} {status}"));
    }

    /// To what isn't in the site.
    fn elsewhere(&mut self, host: &'static str, site: &Site) -> Result<(), Unsupported> {
        for place in site.blobs_at.iter().chain(&site.manifests_at) {
            let value = place.to_string();
            if !value.starts_with("https://") {
                let problem =
                    "its redirects lead to https:// alone; those of cloudflare-workers with --edge lead anywhere";
                return Err(Unsupported::Value { host, what: "a place elsewhere", value, problem });
            }
        }
        let written = |place: &Elsewhere, algorithm, hex: &str| {
            place.written(|piece| match piece {
                Piece::Text(text) => without_placeholders(text),
                piece => plain::target(piece, algorithm, ":splat", hex),
            })
        };
        for algorithm in Algorithm::ALL {
            for (folder, place) in [("blobs", &site.blobs_at), ("manifests", &site.manifests_at)] {
                let Some(place) = place else { continue };
                for colon in [":", "%3A"] {
                    self.pattern(
                        &format!("/v2/*/{folder}/{algorithm}{colon}:hex"),
                        &written(place, algorithm, ":hex"),
                        307,
                    );
                }
            }
        }
        if let Some(place) = &site.manifests_at {
            let to = place.written(|piece| match piece {
                Piece::Reference => ":reference".to_owned(),
                Piece::Text(text) => without_placeholders(text),
                piece => plain::target(piece, Algorithm::Sha256, ":splat", ""),
            });
            self.pattern("/v2/*/manifests/:reference", &to, 307);
        }
        Ok(())
    }

    fn check(&self, limits: &Limits<'_>, way_out: &'static str) -> Result<(), Unsupported> {
        let for_what =
            || format!(" for tags that end in .html, up to {}", self.exact.last().map_or("", String::as_str));
        limits.check(Measure::Redirects, self.exact.len() as u64, for_what, way_out)?;
        limits.check(Measure::PatternRedirects, self.patterns.len() as u64, String::new, way_out)?;
        lines(limits, &self.text(), way_out)
    }

    fn text(&self) -> String {
        let lines = self.exact.iter().chain(&self.patterns);
        lines.fold("# A registry of plain files. Made by roadstead.\n".to_owned(), |text, line| text + line + "\n")
    }
}

impl Host for Workers {
    fn name(&self) -> &'static str {
        "cloudflare-workers"
    }

    fn group(&self) -> Group {
        Group::Site
    }

    fn summary(&self) -> &'static str {
        "static assets, or with --edge a script that answers everything"
    }

    fn public(&self) -> Option<&'static str> {
        Some(PUBLIC)
    }

    fn budgets(&self) -> &'static [Budget] {
        budgets!(
            "https://developers.cloudflare.com/workers/static-assets/headers/",
            "https://developers.cloudflare.com/workers/static-assets/redirects/",
            "https://developers.cloudflare.com/workers/platform/limits/#static-assets"
        )
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        let limits = Limits { host: self.name(), budgets: self.budgets(), site };
        plain::check_files(&limits, TOO_LARGE)?;
        let place = "what `wrangler deploy` reads, above the folder of the site; its name is yours to choose";
        match site.form {
            Form::Edge => Ok(vec![
                ConfigFile { name: "wrangler.jsonc".to_owned(), place: place.to_owned(), text: WITH_SCRIPT.into() },
                edge::script(site, "worker.js", edge::WORKER),
            ]),
            Form::Site => {
                let way_out = "--edge needs no rules";
                let headers = headers(&limits, way_out)?;
                let mut redirects = Redirects::default();
                redirects.exact("/v2", "/v2/index.html", 200);
                redirects.exact("/v2/", "/v2/index.html", 200);
                redirects.elsewhere(self.name(), site)?;
                // It answers what has a raw colon with a redirect to what is escaped.
                for algorithm in Algorithm::ALL {
                    for folder in ["manifests", "blobs", "referrers"] {
                        let to = format!("/v2/:splat/{folder}/{algorithm}%3A:hex");
                        redirects.pattern(&format!("/v2/*/{folder}/{algorithm}::hex"), &to, 200);
                    }
                }
                redirects.check(&limits, way_out)?;
                Ok(vec![
                    ConfigFile { name: "wrangler.jsonc".to_owned(), place: place.to_owned(), text: STATIC.into() },
                    file("_headers", "headers, in the folder of the site", headers),
                    file("_redirects", "redirects, in the same folder", redirects.text()),
                    file("404.html", "what is missing, in the same folder", plain::missing()),
                ])
            }
            form => Err(Unsupported::Form { host: self.name(), form }),
        }
    }
}

const STATIC: &str = r#"{
  "name": "registry",
  "compatibility_date": "2026-01-01",
  "assets": {
    "directory": "./public",
    "html_handling": "none",
    "not_found_handling": "404-page"
  }
}
"#;

const WITH_SCRIPT: &str = r#"{
  "name": "registry",
  "main": "worker.js",
  "compatibility_date": "2026-01-01",
  "assets": {
    "directory": "./public",
    "binding": "ASSETS",
    "run_worker_first": true,
    "html_handling": "none",
    "not_found_handling": "none"
  }
}
"#;

//! static-web-server: one program that serves a folder, and adds headers to paths that match a pattern.
//!
//! `*` in the patterns of its headers reaches any depth, and all rules that match hold, the later one instead of the earlier:
//! so what can't be told apart by a pattern is by the order. Patterns are held against the path as it was sent, in which the
//! colon of a digest may be escaped; those of redirects and rewrites are another kind, with captures.
//!
//! What isn't there is answered with the page of that name, if there is one: so a tag that ends in `.html` must be no file.

use std::fmt::Write as _;

use super::plain::{self, Header, HeaderRule, HeaderRules, Paths};
use super::{ConfigFile, Group, Host, Unsupported};
use crate::oci::{Algorithm, Reference};
use crate::site::{self, Elsewhere, Form, Piece, Site};

/// static-web-server.
pub(super) struct StaticWebServer;

const NAME: &str = "static-web-server";

impl Host for StaticWebServer {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Server
    }

    fn summary(&self) -> &'static str {
        "2.44: plain files and a configuration made for them"
    }

    fn public(&self) -> Option<&'static str> {
        Some("public")
    }

    fn serves_as_page(&self, _form: Form, reference: &Reference) -> bool {
        matches!(reference, Reference::Tag(tag) if tag.as_str().to_ascii_lowercase().ends_with(".html"))
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        plain::begin(self, site)?;
        let mut text = GENERAL.to_owned();
        for (from, to) in rewrites(site) {
            let _ =
                write!(text, "\n[[advanced.rewrites]]\nsource = {}\ndestination = {}\n", quoted(&from), quoted(&to));
        }
        for (from, to) in redirects(site) {
            let _ = write!(
                text,
                "\n[[advanced.redirects]]\nsource = {}\ndestination = {}\nkind = 302\n",
                quoted(&from),
                quoted(&to)
            );
        }
        for HeaderRule { paths, headers } in in_order(&rules(site)?) {
            let said = headers.iter().filter_map(|(name, value)| match value {
                Header::Text(value) => Some(format!("{} = {}\n", site::spelled(name), quoted(value))),
                Header::Digest(_) => None,
            });
            let said: String = said.collect();
            if !said.is_empty() {
                let source = quoted(&pattern(&paths));
                let _ = write!(text, "\n[[advanced.headers]]\nsource = {source}\n[advanced.headers.headers]\n{said}");
            }
        }
        Ok(vec![
            ConfigFile {
                name: "sws.toml".to_owned(),
                place: "what `static-web-server` reads where it is started, above the folder of the site".to_owned(),
                text: text.into(),
            },
            ConfigFile {
                name: "404.json".to_owned(),
                place: "what is missing, beside it".to_owned(),
                text: plain::missing().into(),
            },
        ])
    }
}

/// What is on by default and would change bytes or headers is off; address and port are left to the command line, which the
/// file would overrule.
const GENERAL: &str = r#"# A registry of plain files. Made by roadstead.
[general]
root = "./public"
page404 = "./404.json"
index-files = "index.html"
compression = false
compression-static = false
cache-control-headers = false
security-headers = false
directory-listing = false
accept-markdown = false
"#;

/// Text between quotes. What JSON escapes, TOML does in the same way.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The rules, in the order that tells apart what patterns don't.
fn rules(site: &Site) -> Result<HeaderRules<'_>, Unsupported> {
    let rules = plain::header_rules(site);
    for (paths, _) in &rules.exceptions {
        if let Paths::Repository(name) = paths {
            apart(site, name)?;
        }
    }
    Ok(rules)
}

/// The pattern for manifests takes in what lies in a repository `a/manifests/b`, so these come before all others.
fn in_order<'a>(rules: &HeaderRules<'a>) -> impl Iterator<Item = HeaderRule<'a>> {
    let is_of_manifests =
        |rule: &HeaderRule<'_>| matches!(rule.paths, Paths::All | Paths::Manifests) || rule.paths.is_some_manifests();
    let (mut before, behind): (Vec<_>, Vec<_>) = rules.general.iter().cloned().partition(is_of_manifests);
    before.sort_by_key(|rule| match &rule.paths {
        Paths::All => 0,
        Paths::Manifests => 1,
        _ => 2,
    });
    before.into_iter().chain(rules.exceptions()).chain(behind)
}

/// Refuses what no order helps with: the pattern of one repository's manifests would be one of another's.
fn apart(site: &Site, name: &str) -> Result<(), Unsupported> {
    plain::inside(site, name, "manifests").map_or(Ok(()), |value| {
        let problem = "its patterns take the manifests of this one for those of the repository before `/manifests/`";
        Err(Unsupported::Value { host: NAME, what: "a repository", value, problem })
    })
}

fn pattern(paths: &Paths<'_>) -> String {
    let digest = |algorithm: &Algorithm, hex: &str| format!("{algorithm}{COLON}{hex}");
    match paths {
        Paths::All => "*".to_owned(),
        // As it is after the rewrite.
        Paths::Ping => "/v2/index.html".to_owned(),
        Paths::Catalog => "/v2/_catalog".to_owned(),
        Paths::TagsLists => "/v2/*/tags/list".to_owned(),
        Paths::Referrers => format!("/v2/*/referrers/sha{{256,512}}{COLON}*"),
        Paths::Blobs(algorithm) => format!("/v2/*/blobs/{}", digest(algorithm, "*")),
        Paths::Manifests => "/v2/*/manifests/*".to_owned(),
        Paths::Digests(algorithm) => format!("/v2/*/manifests/{}", digest(algorithm, "*")),
        Paths::Repository(name) => format!("/v2/{name}/manifests/*"),
        Paths::RepositoryDigests(name, algorithm) => format!("/v2/{name}/manifests/{}", digest(algorithm, "*")),
        Paths::Name(name, Reference::Tag(tag)) => format!("/v2/{name}/manifests/{tag}"),
        Paths::Name(name, Reference::Digest(of)) => {
            format!("/v2/{name}/manifests/{}", digest(&of.algorithm(), &of.hex()))
        }
    }
}

/// A colon, which clients may escape.
const COLON: &str = "{:,%3A,%3a}";

/// The ping, and tags that are no files.
fn rewrites(site: &Site) -> Vec<(String, String)> {
    let mut rewrites: Vec<_> = ["/v2", "/v2/"].map(|from| (from.to_owned(), "/v2/index.html".to_owned())).into();
    if site.manifests_at.is_none() {
        for (name, named) in plain::tags_ending(site, &[".html"]) {
            let at = format!("/v2/{name}/manifests");
            rewrites.push((format!("{at}/{}", named.reference), format!("{at}/{}", named.digest)));
        }
    }
    rewrites
}

/// From patterns to what isn't in the site. `{**}` captures a name, `{*}` a component, and each choice counts as one, too.
fn redirects(site: &Site) -> Vec<(String, String)> {
    let mut redirects = Vec::new();
    let written = |place: &Elsewhere, reference: &str, algorithm: Algorithm| {
        place.written(|piece| match piece {
            Piece::Reference => reference.to_owned(),
            piece => plain::target(piece, algorithm, "$1", "$3"),
        })
    };
    for algorithm in Algorithm::ALL {
        for (folder, place) in [("blobs", &site.blobs_at), ("manifests", &site.manifests_at)] {
            let Some(place) = place else { continue };
            let to = written(place, &format!("{algorithm}:$3"), algorithm);
            redirects.push((format!("/v2/{{**}}/{folder}/{algorithm}{COLON}{{*}}"), to));
        }
    }
    if let Some(place) = &site.manifests_at {
        redirects.push(("/v2/{**}/manifests/{*}".to_owned(), written(place, "$2", Algorithm::Sha256)));
    }
    redirects
}

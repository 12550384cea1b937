//! h2o: one program that serves folders, and adds headers to what lies below a path.
//!
//! Of several paths the longest holds, and it ends at a slash or is the whole: so each repository has its own, and each name
//! whose media type isn't that of most.

use std::fmt;

use super::by_name::{self, At, Headers, Overlap, PathRules};
use super::shell::yaml;
use super::{ConfigFile, FileText, Group, Host, Unsupported, plain};
use crate::site::{Piece, Site};

/// h2o.
pub(super) struct H2o;

const NAME: &str = "h2o";

impl Host for H2o {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Server
    }

    fn summary(&self) -> &'static str {
        "2.2: plain files and a configuration made for them"
    }

    fn public(&self) -> Option<&'static str> {
        Some("public")
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        plain::begin(self, site)?;
        Ok(vec![
            ConfigFile {
                name: "h2o.yaml".to_owned(),
                place: "what `h2o -c h2o.yaml` reads where it is started, above the folder of the site".to_owned(),
                text: configuration(site)?,
            },
            ConfigFile {
                name: "public/404.json".to_owned(),
                place: "what is missing, in the folder of the site".to_owned(),
                text: plain::missing().into(),
            },
        ])
    }
}

/// What is on by default and would change bytes or headers is off.
const GENERAL: &str = r#"# A registry of plain files. Made by roadstead.
listen:
  host: 127.0.0.1
  port: 5000
send-server-name: OFF
compress: OFF
file.send-compressed: OFF
file.dirlisting: OFF
file.mime.setdefaulttype: "application/octet-stream"
hosts:
  default:
    error-doc:
      status: 404
      url: "/404.json"
"#;

fn configuration(site: &Site) -> Result<FileText<'_>, Unsupported> {
    for place in site.blobs_at.iter().chain(&site.manifests_at) {
        if !matches!(place.pieces().last(), Some(Piece::Reference)) {
            let problem = "its redirects add the rest of the path, so the digest must stand at the end";
            return Err(Unsupported::Value {
                host: NAME,
                what: "a place elsewhere",
                value: place.to_string(),
                problem,
            });
        }
    }
    let rules = PathRules::of(site, Overlap::First)?;
    let redirects = by_name::redirects(site, NAME, "")?;
    Ok(FileText::written(move |f| {
        f.write_str(GENERAL)?;
        headers(f, "    ", &rules.everywhere)?;
        f.write_str("    paths:\n      \"/\":\n        file.dir: \"public\"\n")?;
        rules.each(|at, said| {
            let (path, serves) = match at {
                // Also of what is in no repository: the longest path holds.
                At::Path(path) if path == "/v2/" => (path, "dir"),
                At::Path(path) => (path, "file"),
                At::Below(path) => (path, "dir"),
            };
            write!(f, "      {}:\n        file.{serves}: {}\n", yaml(path), yaml(&format!("public{path}")))?;
            headers(f, "        ", said)
        })?;
        redirects.iter().try_for_each(|(from, to)| {
            let (from, to) = (yaml(from), yaml(to));
            write!(f, "      {from}:\n        redirect:\n          status: 302\n          url: {to}\n")
        })
    }))
}

fn headers(f: &mut fmt::Formatter<'_>, indent: &str, headers: &Headers) -> fmt::Result {
    let mut said = headers.iter().map(|(name, value)| yaml(&format!("{name}: {value}")));
    said.try_for_each(|said| writeln!(f, "{indent}header.set: {said}"))
}

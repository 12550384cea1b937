//! Static sites of Render.
//!
//! Headers are said by path with `*`, and what holds where two paths meet is documented nowhere: so none do. Redirects are
//! permanent ones, and hold for what is no file.

use std::fmt;

use super::by_name::{self, Headers, Overlap, PathRules};
use super::shell::yaml;
use super::{ConfigFile, FileText, Group, Host, Unsupported, plain};
use crate::site::Site;

/// A static site of Render.
pub(super) struct Render;

const NAME: &str = "render";

impl Host for Render {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Site
    }

    fn summary(&self) -> &'static str {
        "a static site of Render: plain files and a blueprint"
    }

    fn public(&self) -> Option<&'static str> {
        Some("public")
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        plain::begin(self, site)?;
        Ok(vec![
            ConfigFile {
                name: "render.yaml".to_owned(),
                place: "the blueprint, at the root of the repository, above the folder of the site".to_owned(),
                text: blueprint(site)?,
            },
            ConfigFile {
                name: "public/404.html".to_owned(),
                place: "what is missing, in the folder of the site".to_owned(),
                text: plain::missing().into(),
            },
        ])
    }
}

const GENERAL: &str = r#"# A registry of plain files. Made by roadstead.
services:
  - type: web
    name: registry
    runtime: static
    buildCommand: "true"
    staticPublishPath: ./public
    headers:
"#;

fn blueprint(site: &Site) -> Result<FileText<'_>, Unsupported> {
    let rules = PathRules::of(site, Overlap::Unknown { host: NAME })?;
    let redirects = by_name::redirects(site, NAME, "*")?;
    Ok(FileText::written(move |f| {
        f.write_str(GENERAL)?;
        push(f, "/*", &rules.everywhere)?;
        rules.each(|at, headers| push(f, &at.pattern(), headers))?;
        if !redirects.is_empty() {
            f.write_str("    routes:\n")?;
        }
        redirects.iter().try_for_each(|(from, to)| {
            let (from, to) = (yaml(&format!("{from}*")), yaml(to));
            write!(f, "      - type: redirect\n        source: {from}\n        destination: {to}\n")
        })
    }))
}

fn push(f: &mut fmt::Formatter<'_>, path: &str, headers: &Headers) -> fmt::Result {
    let path = yaml(path);
    headers.iter().try_for_each(|(name, value)| {
        write!(f, "      - path: {path}\n        name: {}\n        value: {}\n", yaml(name), yaml(value))
    })
}

//! Static sites of Render.
//!
//! Headers are said by path with `*`, and what holds where two paths meet is documented nowhere: so none do. Redirects are
//! permanent ones, and hold for what is no file.

use std::fmt::Write as _;

use super::budget::Limits;
use super::by_name::{self, Overlap, PathRule};
use super::shell::yaml;
use super::{ConfigFile, Group, Host, Unsupported, plain};
use crate::site::{Form, Site};

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

    fn render(&self, site: &Site) -> Result<Vec<ConfigFile>, Unsupported> {
        let limits = Limits { host: NAME, budgets: self.budgets(), site };
        if site.form != Form::Site {
            return Err(Unsupported::Form { host: NAME, form: site.form });
        }
        plain::check_files(&limits, "--blobs-at takes the blobs out of the site")?;
        Ok(vec![
            ConfigFile {
                name: "render.yaml".to_owned(),
                place: "the blueprint, at the root of the repository, above the folder of the site".to_owned(),
                text: blueprint(site)?,
            },
            ConfigFile {
                name: "public/404.html".to_owned(),
                place: "what is missing, in the folder of the site".to_owned(),
                text: plain::missing(),
            },
        ])
    }
}

fn blueprint(site: &Site) -> Result<String, Unsupported> {
    let mut text = "# A registry of plain files. Made by roadstead.\n\
                    services:\n  - type: web\n    name: registry\n    runtime: static\n    buildCommand: \"true\"\n    \
                    staticPublishPath: ./public\n    headers:\n"
        .to_owned();
    let mut push = |path: &str, headers: &[(String, String)]| {
        for (name, value) in headers {
            let _ = write!(
                text,
                "      - path: {}\n        name: {}\n        value: {}\n",
                yaml(path),
                yaml(name),
                yaml(value)
            );
        }
    };
    push("/*", &by_name::everywhere(site));
    for PathRule { at, headers } in by_name::rules(site, Overlap::Unknown { host: NAME })? {
        push(&at.pattern(), &headers);
    }
    let redirects = by_name::redirects(site, NAME, "*")?;
    if !redirects.is_empty() {
        text += "    routes:\n";
    }
    for (from, to) in redirects {
        let (from, to) = (yaml(&format!("{from}*")), yaml(&to));
        let _ = write!(text, "      - type: redirect\n        source: {from}\n        destination: {to}\n");
    }
    Ok(text)
}

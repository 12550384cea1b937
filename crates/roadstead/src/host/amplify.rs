//! AWS Amplify Hosting.
//!
//! Headers are said by pattern, and what holds where two patterns meet is documented nowhere: so none do. A redirect may have
//! one wildcard, at its end.

use std::fmt;

use serde_json::json;

use super::budget::Budget;
use super::by_name::{self, Headers, Overlap, PathRules};
use super::shell::yaml;
use super::{ConfigFile, FileText, Group, Host, Unsupported, plain};
use crate::site::{Measure, Site};

/// AWS Amplify Hosting.
pub(super) struct Amplify;

const NAME: &str = "amplify";

impl Host for Amplify {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Site
    }

    fn summary(&self) -> &'static str {
        "AWS Amplify Hosting: plain files, headers by repository"
    }

    fn public(&self) -> Option<&'static str> {
        Some("public")
    }

    fn budgets(&self) -> &'static [Budget] {
        &[
            Budget {
                measure: Measure::SiteSize,
                at_most: 5_000_000_000,
                source: "https://docs.aws.amazon.com/amplify/latest/userguide/quotas-chapter.html",
            },
            Budget {
                measure: Measure::ConfigSize,
                at_most: 25_000,
                source: "https://docs.aws.amazon.com/amplify/latest/APIReference/API_UpdateApp.html",
            },
        ]
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        let limits = plain::begin(self, site)?;
        let headers = headers(site)?;
        let way_out = "a host whose rules are patterns, such as cloudflare-pages or firebase";
        limits.check(Measure::ConfigSize, headers.size(), String::new, way_out)?;
        let file = |name: &str, place: &str, text| ConfigFile { name: name.to_owned(), place: place.to_owned(), text };
        let redirects = redirects(site)?.into();
        Ok(vec![
            file("customHttp.yml", "headers, for `aws amplify update-app --custom-headers`", headers),
            file("redirects.json", "redirects, for `aws amplify update-app --custom-rules`", redirects),
            file("public/404.html", "what is missing, in the folder of the site", plain::missing().into()),
        ])
    }
}

fn headers(site: &Site) -> Result<FileText<'_>, Unsupported> {
    let rules = PathRules::of(site, Overlap::Unknown { host: NAME })?;
    Ok(FileText::written(move |f| {
        f.write_str("# A registry of plain files. Made by roadstead.\ncustomHeaders:\n")?;
        push(f, "**/*", &rules.everywhere)?;
        rules.each(|at, headers| push(f, &at.pattern(), headers))
    }))
}

fn push(f: &mut fmt::Formatter<'_>, pattern: &str, headers: &Headers) -> fmt::Result {
    write!(f, "  - pattern: {}\n    headers:\n", yaml(pattern))?;
    headers
        .iter()
        .try_for_each(|(key, value)| write!(f, "      - key: {}\n        value: {}\n", yaml(key), yaml(value)))
}

fn redirects(site: &Site) -> Result<String, Unsupported> {
    let mut rules = Vec::new();
    for (from, to) in by_name::redirects(site, NAME, "<*>")? {
        rules.push(json!({ "source": format!("{from}<*>"), "target": to, "status": "302" }));
    }
    // In place of the rule by which what is missing is the first page, with 200.
    rules.push(json!({ "source": "/<*>", "target": "/404.html", "status": "404" }));
    Ok(format!("{:#}\n", json!(rules)))
}

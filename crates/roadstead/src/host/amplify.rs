//! AWS Amplify Hosting.
//!
//! Headers are said by pattern, and what holds where two patterns meet is documented nowhere: so none do. A redirect may have
//! one wildcard, at its end.

use std::fmt::Write as _;

use serde_json::json;

use super::budget::{Budget, Limits};
use super::by_name::{self, Overlap, PathRule};
use super::shell::yaml;
use super::{ConfigFile, Group, Host, Unsupported, plain};
use crate::site::{Form, Measure, Site};

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
        &[Budget {
            measure: Measure::SiteSize,
            at_most: 5_000_000_000,
            source: "https://docs.aws.amazon.com/amplify/latest/userguide/quotas-chapter.html",
        }]
    }

    fn render(&self, site: &Site) -> Result<Vec<ConfigFile>, Unsupported> {
        let limits = Limits { host: NAME, budgets: self.budgets(), site };
        if site.form != Form::Site {
            return Err(Unsupported::Form { host: NAME, form: site.form });
        }
        plain::check_files(&limits, "--blobs-at takes the blobs out of the site")?;
        let file =
            |name: &str, place: &str, text: String| ConfigFile { name: name.to_owned(), place: place.to_owned(), text };
        Ok(vec![
            file("customHttp.yml", "headers, for `aws amplify update-app --custom-headers`", headers(site)?),
            file("redirects.json", "redirects, for `aws amplify update-app --custom-rules`", redirects(site)?),
            file("public/404.html", "what is missing, in the folder of the site", plain::missing()),
        ])
    }
}

fn headers(site: &Site) -> Result<String, Unsupported> {
    let mut text = "# A registry of plain files. Made by roadstead.\ncustomHeaders:\n".to_owned();
    let mut push = |pattern: &str, headers: &[(String, String)]| {
        let _ = write!(text, "  - pattern: {}\n    headers:\n", yaml(pattern));
        for (key, value) in headers {
            let _ = write!(text, "      - key: {}\n        value: {}\n", yaml(key), yaml(value));
        }
    };
    push("**/*", &by_name::everywhere(site));
    for PathRule { at, headers } in by_name::rules(site, Overlap::Unknown { host: NAME })? {
        push(&at.pattern(), &headers);
    }
    Ok(text)
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

//! Azure Static Web Apps.
//!
//! The first route that matches counts, and `*` may stand at its end only. So every repository has routes of its own, its
//! exceptions first, and the whole configuration may have 20 KB: this host is for trees of a few dozen repositories.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json, json};

use super::budget::Budget;
use super::by_name::{Headers, Overlap, PathRules};
use super::{ConfigFile, FileText, Group, Host, Unsupported, plain};
use crate::site::{self, METHOD_NOT_ALLOWED, Measure, Site};

/// Azure Static Web Apps.
pub(super) struct StaticWebApps;

impl Host for StaticWebApps {
    fn name(&self) -> &'static str {
        "azure-static-web-apps"
    }

    fn group(&self) -> Group {
        Group::Site
    }

    fn summary(&self) -> &'static str {
        "plain files and routes, for small trees"
    }

    fn public(&self) -> Option<&'static str> {
        Some("public")
    }

    fn budgets(&self) -> &'static [Budget] {
        const QUOTAS: &str = "https://learn.microsoft.com/azure/static-web-apps/quotas";
        &[
            Budget {
                measure: Measure::ConfigSize,
                at_most: 20 << 10,
                source: "https://learn.microsoft.com/azure/static-web-apps/configuration#restrictions",
            },
            Budget { measure: Measure::SiteSize, at_most: 250_000_000, source: QUOTAS },
        ]
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        let limits = plain::begin_without_redirects(
            self,
            site,
            "its redirects can't repeat a part of the path; another host of plain files can",
        )?;
        let text = configuration(site)?;
        let way_out =
            "a host whose rules are patterns, such as cloudflare-pages or firebase, takes any number of names";
        limits.check(Measure::ConfigSize, text.size(), String::new, way_out)?;
        Ok(vec![
            ConfigFile {
                name: "public/staticwebapp.config.json".to_owned(),
                place: "in the folder that `swa deploy` deploys".to_owned(),
                text,
            },
            ConfigFile {
                name: "public/404.html".to_owned(),
                place: "what is missing, in the same folder".to_owned(),
                text: plain::missing().into(),
            },
        ])
    }
}

/// A route.
#[derive(Serialize)]
struct Route<'a> {
    route: &'a str,
    methods: [&'static str; 2],
    #[serde(serialize_with = "as_map")]
    headers: &'a Headers,
}

fn as_map<S: Serializer>(headers: &Headers, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(headers.iter().map(|(name, value)| (name, value)))
}

fn configuration(site: &Site) -> Result<FileText<'_>, Unsupported> {
    let rules = PathRules::of(site, Overlap::First)?;
    // What is missing has no type of its own, and others than `GET` and `HEAD` are refused by a route.
    let status = METHOD_NOT_ALLOWED.status.as_u16();
    let others = json!({ "route": "/v2/*", "methods": ["POST", "PUT", "PATCH", "DELETE"], "statusCode": status });
    let missing = json!({ "404": { "rewrite": "/404.html", "statusCode": 404 } });
    Ok(FileText::written(move |f| {
        f.write_str("{\"routes\":[")?;
        rules.each(|at, headers| {
            let route = Route { route: &at.pattern(), methods: ["GET", "HEAD"], headers };
            write!(f, "{},", serde_json::to_string(&route).map_err(|_| fmt::Error)?)
        })?;
        write!(f, "{others}],\"responseOverrides\":{missing}")?;
        if site.cors {
            let headers = plain::cors(site).map(|(name, value)| (site::spelled(&name), Json::from(value)));
            write!(f, ",\"globalHeaders\":{}", Json::Object(headers.collect::<Map<_, _>>()))?;
        }
        writeln!(f, "}}")
    }))
}

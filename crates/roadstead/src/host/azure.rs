//! Azure Static Web Apps.
//!
//! The first route that matches counts, and `*` may stand at its end only. So every repository has routes of its own, its
//! exceptions first, and the whole configuration may have 20 KB: this host is for trees of a few dozen repositories.

use serde_json::{Map, Value as Json, json};

use super::budget::{Budget, Limits};
use super::by_name::{self, Overlap, PathRule};
use super::{ConfigFile, Group, Host, Unsupported, plain};
use crate::site::{self, Form, METHOD_NOT_ALLOWED, Measure, Site};

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

    fn render(&self, site: &Site) -> Result<Vec<ConfigFile>, Unsupported> {
        let host = self.name();
        let limits = Limits { host, budgets: self.budgets(), site };
        if site.form != Form::Site {
            return Err(Unsupported::Form { host, form: site.form });
        }
        for (what, place) in [("--blobs-at", &site.blobs_at), ("--manifests-at", &site.manifests_at)] {
            if let Some(place) = place {
                let problem = "its redirects can't repeat a part of the path; another host of plain files can";
                return Err(Unsupported::Value { host, what, value: place.to_string(), problem });
            }
        }
        plain::check_files(&limits, "no redirect of this host can send blobs elsewhere")?;
        let mut configuration = json!({
            "routes": routes(by_name::rules(site, Overlap::First)?),
            "responseOverrides": { "404": { "rewrite": "/404.html", "statusCode": 404 } },
        });
        if site.cors {
            let headers = plain::cors(site).map(|(name, value)| (site::spelled(&name), Json::from(value)));
            configuration["globalHeaders"] = Json::Object(headers.collect());
        }
        let text = format!("{configuration}\n");
        let way_out =
            "a host whose rules are patterns, such as cloudflare-pages or firebase, takes any number of names";
        limits.check(Measure::ConfigSize, text.len() as u64, String::new, way_out)?;
        Ok(vec![
            ConfigFile {
                name: "public/staticwebapp.config.json".to_owned(),
                place: "in the folder that `swa deploy` deploys".to_owned(),
                text,
            },
            ConfigFile {
                name: "public/404.html".to_owned(),
                place: "what is missing, in the same folder".to_owned(),
                text: plain::missing(),
            },
        ])
    }
}

/// Others than `GET` and `HEAD` are refused by a route.
fn routes(rules: Vec<PathRule>) -> Vec<Json> {
    let route = |PathRule { at, headers }: PathRule| {
        let headers: Map<_, _> = headers.into_iter().map(|(name, value)| (name, Json::from(value))).collect();
        json!({ "route": at.pattern(), "methods": ["GET", "HEAD"], "headers": headers })
    };
    let mut routes: Vec<_> = rules.into_iter().map(route).collect();
    // What is missing has no type of its own, and other methods are refused.
    let status = METHOD_NOT_ALLOWED.status.as_u16();
    routes.push(json!({ "route": "/v2/*", "methods": ["POST", "PUT", "PATCH", "DELETE"], "statusCode": status }));
    routes
}

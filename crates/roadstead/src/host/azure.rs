//! Azure Static Web Apps.
//!
//! The first route that matches counts, and `*` may stand at its end only. So every repository has routes of its own, its
//! exceptions first, and the whole configuration may have 20 KB: this host is for trees of a few dozen repositories.

use serde_json::{Map, Value as Json, json};

use super::budget::{Budget, Limits};
use super::plain::{self, Header, HeaderRule, Paths};
use super::{ConfigFile, Group, Host, Unsupported};
use crate::oci::Reference;
use crate::site::{self, Form, METHOD_NOT_ALLOWED, Measure, Named, Site};

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
        let configuration = json!({
            "routes": routes(site),
            "responseOverrides": { "404": { "rewrite": "/404.html", "statusCode": 404 } },
        });
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

/// A route with these headers; others than `GET` and `HEAD` are refused by it.
fn route(path: &str, headers: &Map<String, Json>) -> Json {
    json!({ "route": path, "methods": ["GET", "HEAD"], "headers": headers })
}

fn routes(site: &Site) -> Vec<Json> {
    let rules = plain::header_rules(site);
    // What a rule says, with what more general ones say and it doesn't: here one route has everything.
    let said = |paths: &Paths<'_>| {
        let mut headers = Map::new();
        for HeaderRule { headers: said, .. } in
            rules.iter().filter(|rule| rule.paths.covers(paths) || rule.paths == *paths)
        {
            for (name, value) in said {
                if let Header::Text(text) = value {
                    headers.insert(site::spelled(name), text.clone().into());
                }
            }
        }
        headers
    };
    let mut routes = vec![route("/v2/", &said(&Paths::Ping)), route("/v2/_catalog", &said(&Paths::Catalog))];
    for (repository, names) in &site.survey.repositories {
        let name = plain::full_name(site, repository);
        let typed = |media_type: &str| {
            let mut headers = said(&Paths::Manifests);
            headers.insert("Content-Type".to_owned(), media_type.into());
            headers
        };
        let most = plain::most_frequent(names.iter()).map(|(most, _)| most);
        for Named { reference, media_type, digest } in names.iter().filter(|named| Some(&named.media_type) != most) {
            let mut headers = typed(media_type.as_str());
            // The route is about one name anyway.
            if matches!(reference, Reference::Tag(_)) {
                headers.insert("Docker-Content-Digest".to_owned(), digest.to_string().into());
            }
            routes.push(route(&format!("/v2/{name}/manifests/{reference}"), &headers));
        }
        if let Some(most) = most {
            routes.push(route(&format!("/v2/{name}/manifests/*"), &typed(most.as_str())));
        }
        routes.push(route(&format!("/v2/{name}/tags/list"), &said(&Paths::TagsLists)));
        routes.push(route(&format!("/v2/{name}/blobs/*"), &said(&Paths::Blobs(crate::oci::Algorithm::Sha256))));
        routes.push(route(&format!("/v2/{name}/referrers/*"), &said(&Paths::Referrers)));
    }
    // What is missing has no type of its own, and other methods are refused.
    let status = METHOD_NOT_ALLOWED.status.as_u16();
    routes.push(json!({ "route": "/v2/*", "methods": ["POST", "PUT", "PATCH", "DELETE"], "statusCode": status }));
    routes
}

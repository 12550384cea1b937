//! Vercel, by its Build Output API: a folder with routes, as `vercel deploy --prebuilt` takes it.
//!
//! Routes are expressions whose captures headers can repeat, and each that matches adds to the headers, later ones in place of
//! earlier ones. They hold before files are looked for, so also for what is missing.

use serde_json::{Map, Value as Json, json};

use super::budget::Budget;
use super::plain::{self, Header};
use super::{ConfigFile, Group, Host, Unsupported};
use crate::oci::Repository;
use crate::site::{self, Answer, Body, Elsewhere, METHOD_NOT_ALLOWED, Measure, Named, PREFLIGHT, Piece, Site, Value};

/// Vercel.
pub(super) struct Vercel;

impl Host for Vercel {
    fn name(&self) -> &'static str {
        "vercel"
    }

    fn group(&self) -> Group {
        Group::Site
    }

    fn summary(&self) -> &'static str {
        "plain files, and routes with headers"
    }

    fn public(&self) -> Option<&'static str> {
        Some(".vercel/output/static")
    }

    fn budgets(&self) -> &'static [Budget] {
        &[Budget {
            measure: Measure::HeaderRules,
            at_most: 2_048,
            source: "https://vercel.com/docs/project-configuration#headers",
        }]
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        let limits = plain::begin(self, site)?;
        // In a header `$1` and `$name` are what the expression has captured, and nothing says how to write the character.
        let said = |(_, named): &(&Repository, &Named)| named.media_type.as_str().contains('$');
        if let Some((repository, named)) = site.survey.names().find(said).filter(|_| site.manifests_at.is_none()) {
            let name = plain::full_name(site, repository);
            return Err(Unsupported::Value {
                host: self.name(),
                what: "the media type of a manifest",
                value: format!("{} of v2/{name}/manifests/{}", named.media_type, named.reference),
                problem: "a $ means something else in its headers: remove what has it, or choose another host",
            });
        }
        let routes = routes(site);
        let way_out = "fewer names with unusual media types, or a host with --edge";
        limits.check(Measure::HeaderRules, routes.len() as u64, String::new, way_out)?;
        let configuration = json!({ "version": 3, "routes": routes });
        Ok(vec![
            ConfigFile {
                name: ".vercel/output/config.json".to_owned(),
                place: "what `vercel deploy --prebuilt` reads, above the folder of the site".to_owned(),
                text: format!("{configuration:#}\n").into(),
            },
            ConfigFile {
                name: ".vercel/output/static/404.html".to_owned(),
                place: "what is missing, in the folder of the site".to_owned(),
                text: plain::missing().into(),
            },
        ])
    }
}

fn routes(site: &Site) -> Vec<Json> {
    let refused = |methods: &[&str], answer: &Answer| {
        json!({
            "src": "^/v2(?:/.*)?$",
            "methods": methods,
            "status": answer.status.as_u16(),
            "headers": fixed(site, answer),
        })
    };
    let mut routes = Vec::new();
    if site.cors {
        routes.push(refused(&["OPTIONS"], &PREFLIGHT));
    }
    routes.push(refused(&["POST", "PUT", "PATCH", "DELETE", "OPTIONS"], &METHOD_NOT_ALLOWED));
    let digest = "(sha256|sha512):([0-9a-f]+)";
    let mut elsewhere = |src: String, place: &Elsewhere, reference: &str| {
        let location = place.written(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Name => "$1".to_owned(),
            Piece::Reference => reference.to_owned(),
            Piece::Algorithm => "$2".to_owned(),
            Piece::Hex => "$3".to_owned(),
        });
        let mut headers: Map<_, _> =
            plain::cors(site).map(|(name, value)| (site::spelled(&name), Json::from(value))).collect();
        headers.insert("Location".to_owned(), location.into());
        routes.push(json!({ "src": src, "status": 307, "headers": headers }));
    };
    if let Some(place) = &site.blobs_at {
        elsewhere(format!("^/v2/(.+)/blobs/{digest}$"), place, "$2:$3");
    }
    if let Some(place) = &site.manifests_at {
        elsewhere("^/v2/(.+)/manifests/([^/]+)$".to_owned(), place, "$2");
    }
    for (expression, headers) in plain::expressions(plain::header_rules(site)) {
        let mut said = Map::new();
        for (name, value) in headers {
            let value = match value {
                Header::Text(text) => text,
                Header::Digest(algorithm) => format!("{algorithm}:$1"),
            };
            said.insert(site::spelled(&name), value.into());
        }
        routes.push(json!({ "src": expression, "headers": said, "continue": true }));
    }
    routes.push(json!({ "src": "^/v2/?$", "dest": "/v2/index.html" }));
    routes.push(json!({ "handle": "filesystem" }));
    routes.push(json!({ "handle": "error" }));
    routes.push(json!({ "status": 404, "src": "^.*$", "dest": "/404.html" }));
    routes
}

/// The headers of an answer that is always the same.
fn fixed(site: &Site, answer: &Answer) -> Json {
    debug_assert!(matches!(answer.body, Body::Fixed(_)));
    let said = site.headers(answer).filter_map(|(name, value)| match value {
        Value::Fixed(text) => Some((site::spelled(&name), Json::from(text))),
        _ => None,
    });
    Json::Object(said.collect())
}

//! Firebase Hosting.
//!
//! Headers are said for regular expressions of RE2, and the last that matches counts; they hold for what is missing, too. So
//! names with the same media type share an expression, and a configuration has few rules however many names there are. No value
//! can hold what a path spelled.

use serde_json::{Map, Value as Json, json};

use super::budget::{Budget, Limits};
use super::plain::{self, Header};
use super::{ConfigFile, Host, Unsupported};
use crate::oci::Algorithm;
use crate::site::{self, Elsewhere, Form, Measure, Piece, Site};

/// Firebase Hosting.
pub(super) struct Firebase;

impl Host for Firebase {
    fn name(&self) -> &'static str {
        "firebase"
    }

    fn public(&self) -> Option<&'static str> {
        Some("public")
    }

    fn budgets(&self) -> &'static [Budget] {
        &[Budget {
            measure: Measure::FileSize,
            at_most: 2 << 30,
            source: "https://firebase.google.com/docs/hosting/usage-quotas-pricing",
        }]
    }

    fn render(&self, site: &Site) -> Result<Vec<ConfigFile>, Unsupported> {
        let limits = Limits { host: self.name(), budgets: self.budgets(), site };
        if site.form != Form::Site {
            return Err(Unsupported::Form { host: self.name(), form: site.form });
        }
        plain::check_files(&limits, "--blobs-at takes the blobs out of the site")?;
        let configuration = json!({
            "hosting": {
                "public": "public",
                "ignore": [],
                "cleanUrls": false,
                "redirects": redirects(site),
                "headers": headers(site),
            }
        });
        Ok(vec![
            ConfigFile {
                name: "firebase.json".to_owned(),
                place: "what `firebase deploy` reads, above the folder of the site".to_owned(),
                text: format!("{configuration:#}\n"),
            },
            ConfigFile {
                name: "public/404.html".to_owned(),
                place: "what is missing, in the folder of the site".to_owned(),
                text: plain::missing(),
            },
        ])
    }
}

fn headers(site: &Site) -> Vec<Json> {
    let mut rules = Vec::new();
    for (regex, headers) in plain::expressions(plain::header_rules(site)) {
        let headers: Vec<_> = headers
            .iter()
            .filter_map(|(name, value)| match value {
                Header::Text(value) => Some(json!({ "key": site::spelled(name), "value": value })),
                Header::Digest(_) => None,
            })
            .collect();
        if !headers.is_empty() {
            rules.push(json!({ "regex": regex, "headers": headers }));
        }
    }
    rules
}

fn redirects(site: &Site) -> Vec<Json> {
    let mut redirects = Vec::new();
    let mut push = |regex: String, destination: String| {
        let mut redirect = Map::new();
        redirect.insert("regex".into(), regex.into());
        redirect.insert("destination".into(), destination.into());
        redirect.insert("type".into(), 302.into());
        redirects.push(Json::Object(redirect));
    };
    let digest = |algorithm: Algorithm| format!("{algorithm}(?::|%3[Aa])(?P<hex>[0-9a-f]+)$");
    let place = |place: &Elsewhere, algorithm| place.written(|piece| plain::target(piece, algorithm, ":name", ":hex"));
    for algorithm in Algorithm::ALL {
        for (folder, at) in [("blobs", &site.blobs_at), ("manifests", &site.manifests_at)] {
            if let Some(at) = at {
                push(format!("^/v2/(?P<name>.+)/{folder}/{}", digest(algorithm)), place(at, algorithm));
            }
        }
        // What is escaped is no file's name.
        push(format!("^/v2/(?P<path>.+)/{algorithm}%3[Aa](?P<hex>[0-9a-f]+)$"), format!("/v2/:path/{algorithm}::hex"));
    }
    if let Some(at) = &site.manifests_at {
        let to = at.written(|piece| match piece {
            Piece::Reference => ":reference".to_owned(),
            piece => plain::target(piece, Algorithm::Sha256, ":name", ""),
        });
        push("^/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)$".to_owned(), to);
    }
    redirects
}

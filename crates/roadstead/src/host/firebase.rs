//! Firebase Hosting.
//!
//! Headers are said for regular expressions of RE2, and the last that matches counts; they hold for what is missing, too. So
//! names with the same media type share an expression, and a configuration has few rules however many names there are. No value
//! can hold what a path spelled.

use serde_json::{Value as Json, json};

use super::budget::Budget;
use super::plain::{self, Header};
use super::{ConfigFile, Group, Host, Unsupported};
use crate::oci::Algorithm;
use crate::site::{self, Elsewhere, Measure, Piece, Site};

/// Firebase Hosting.
pub(super) struct Firebase;

impl Host for Firebase {
    fn name(&self) -> &'static str {
        "firebase"
    }

    fn group(&self) -> Group {
        Group::Site
    }

    fn summary(&self) -> &'static str {
        "plain files, and headers by regular expression"
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

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        plain::begin(self, site)?;
        let configuration = json!({
            "hosting": {
                "public": "public",
                "ignore": [],
                "cleanUrls": false,
                "redirects": redirects(site)?,
                "headers": headers(site),
            }
        });
        Ok(vec![
            ConfigFile {
                name: "firebase.json".to_owned(),
                place: "what `firebase deploy` reads, above the folder of the site".to_owned(),
                text: format!("{configuration:#}\n").into(),
            },
            ConfigFile {
                name: "public/404.html".to_owned(),
                place: "what is missing, in the folder of the site".to_owned(),
                text: plain::missing().into(),
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

fn redirects(site: &Site) -> Result<Vec<Json>, Unsupported> {
    let redirect = |regex: String, to: String| json!({ "regex": regex, "destination": to, "type": 302 });
    let digest = "(?P<digest>(?P<algorithm>sha256|sha512):(?P<hex>[0-9a-f]+))";
    // What is escaped is no file's name.
    let escaped = Algorithm::ALL.map(|algorithm| {
        let regex = format!("^/v2/(?P<path>.+)/{algorithm}%3[Aa](?P<hex>[0-9a-f]+)$");
        redirect(regex, format!("/v2/:path/{algorithm}::hex"))
    });
    let mut redirects = Vec::from(escaped);
    if let Some(place) = &site.blobs_at {
        redirects.push(redirect(format!("^/v2/(?P<name>.+)/blobs/{digest}$"), elsewhere(place, ":digest")?));
    }
    if let Some(place) = &site.manifests_at {
        let reference = "(?P<reference>[^/]+)";
        redirects.push(redirect(format!("^/v2/(?P<name>.+)/manifests/{reference}$"), elsewhere(place, ":reference")?));
    }
    Ok(redirects)
}

fn elsewhere(place: &Elsewhere, reference: &str) -> Result<String, Unsupported> {
    let refused = |problem| {
        Err(Unsupported::Value { host: "firebase", what: "a place elsewhere", value: place.to_string(), problem })
    };
    let colon = |piece: &Piece| matches!(piece, Piece::Text(text) if text.replacen("://", "", 1).contains(':'));
    if place.pieces().iter().any(colon) {
        return refused("a colon stands before a capture there, so there can be no port");
    }
    let to = place.written(|piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Name => ":name".to_owned(),
        Piece::Reference => reference.to_owned(),
        Piece::Algorithm => ":algorithm".to_owned(),
        Piece::Hex => ":hex".to_owned(),
    });
    if to.contains("/:") { Ok(to) } else { refused("a capture must begin behind a slash") }
}

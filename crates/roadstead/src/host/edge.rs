//! Scripts that hosts run for each request: [`RULES`] as data, one piece of JavaScript that
//! answers by them, and a few lines for each host.
//!
//! A script never grows with the tree: it reads type and digest from the manifest itself. Only tags whose digest is not the
//! SHA-256 of what they name (of another algorithm, or of a signed payload) are listed.

use serde_json::{Value as Json, json};

use super::script::COMMON;
use super::{ConfigFile, plain, script};
use crate::oci::{Algorithm, MediaType, Reference};
use crate::site::{
    self, BAD_REQUEST, BEHIND_THE_END, Elsewhere, METHOD_NOT_ALLOWED, PREFLIGHT, PathPattern, Piece, RULES, Rule, Site,
};

/// What all of them have in common.
const SCRIPT: &str = include_str!("edge.js");

/// What Cloudflare's Workers add.
pub(super) const WORKER: &str = include_str!("edge_worker.js");

/// What Netlify's edge functions add.
pub(super) const NETLIFY: &str = include_str!("edge_netlify.js");

/// The script for a site.
pub(super) fn script(site: &Site, name: &str, host: &str) -> ConfigFile<'static> {
    let mut text = SCRIPT.to_owned();
    for (place, value) in [
        ("/*RULES*/", rules(site)),
        ("/*METHOD_NOT_ALLOWED*/", pretty(&script::answer(site, &METHOD_NOT_ALLOWED))),
        ("/*PREFLIGHT*/", pretty(&if site.cors { script::answer(site, &PREFLIGHT) } else { Json::Null })),
        ("/*REDIRECTED*/", pretty(&redirected(site))),
        ("/*BAD_REQUEST*/", pretty(&script::answer(site, &BAD_REQUEST))),
        ("/*DIGESTS*/", pretty(&digests(site))),
        ("/*BEHIND_THE_END*/", json!(BEHIND_THE_END).to_string()),
    ] {
        text = text.replace(place, &value);
    }
    ConfigFile {
        name: name.to_owned(),
        place: "the script that answers below /v2/".to_owned(),
        text: (text + "\n" + COMMON + "\n" + host).into(),
    }
}

fn pretty(value: &Json) -> String {
    format!("{value:#}")
}

/// The rules below `/v2/` as JavaScript: JSON but for the expressions.
fn rules(site: &Site) -> String {
    let mut text = "[\n".to_owned();
    let mut push = |regex: &str, json: Json| {
        // In an expression between slashes, those of the path need a backslash.
        let regex = regex.replace('/', r"\/");
        let rest = pretty(&json).replace('\n', "\n  ");
        text += &format!("  {{\n    path: /{regex}/,{}", rest.trim_start_matches('{').replacen('\n', "\n  ", 0));
        text += ",\n";
    };
    for of in RULES.iter() {
        if matches!(of.pattern, PathPattern::Page | PathPattern::Outside) {
            continue;
        }
        push(&of.pattern.regex(site.name_prefix.as_ref()), rule(site, of));
        if let Some(missing) = script::without_prefix(site, of) {
            push(&of.pattern.regex(None), missing);
        }
    }
    text + "]"
}

fn rule(site: &Site, of: &Rule) -> Json {
    let elsewhere = match of.pattern {
        PathPattern::Blob => site.blobs_at.as_ref(),
        PathPattern::ManifestByTag | PathPattern::ManifestByDigest => site.manifests_at.as_ref(),
        _ => None,
    };
    if let Some(place) = elsewhere {
        return json!({ "at": pieces(place) });
    }
    Json::Object(script::rule(site, of))
}

fn pieces(place: &Elsewhere) -> Json {
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => json!(text),
        Piece::Name => json!({ "of": "name" }),
        Piece::Reference => json!({ "of": "reference" }),
        Piece::Algorithm => json!({ "of": "algorithm" }),
        Piece::Hex => json!({ "of": "hex" }),
    };
    place.pieces().iter().map(piece).collect()
}

/// What an answer says besides that something is elsewhere.
fn redirected(site: &Site) -> Json {
    let headers = plain::cors(site).map(|(name, value)| (site::spelled(&name), Json::from(value)));
    Json::Object(headers.collect())
}

/// The digests that the bytes don't tell.
fn digests(site: &Site) -> Json {
    let signed = [MediaType::DOCKER_SCHEMA1, MediaType::DOCKER_SCHEMA1_UNSIGNED];
    let untold = site.survey.names().filter(|(_, named)| {
        matches!(named.reference, Reference::Tag(_))
            && (named.digest.algorithm() != Algorithm::Sha256 || signed.contains(&named.media_type))
    });
    let entry = |(repository, named): (_, &crate::site::Named)| {
        let path = format!("/v2/{}/manifests/{}", plain::full_name(site, repository), named.reference);
        (path, json!(named.digest.to_string()))
    };
    Json::Object(untold.map(entry).collect())
}

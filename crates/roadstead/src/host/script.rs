//! The rules as data, for scripts that a host runs for each request, and what these scripts have in common.

use serde_json::{Map, Value as Json, json};

use crate::site::{self, Answer, Body, Capture, Content, PathPattern, Rule, Site, Value};

/// What all of the scripts need: the end of each.
pub(super) const COMMON: &str = include_str!("script.js");

/// What a form of path is answered with. Pages are none of a script's.
pub(super) fn rule(site: &Site, of: &Rule) -> Map<String, Json> {
    let mut json = Map::new();
    if let Some(found) = of.found.as_ref().filter(|_| of.pattern != PathPattern::Page) {
        json.insert("found".into(), answer(site, found));
    }
    let list = match of.pattern {
        PathPattern::TagsList => Some("tags"),
        PathPattern::Catalog => Some("repositories"),
        PathPattern::Referrers => Some("manifests"),
        _ => None,
    };
    json.extend(list.map(|list| ("list".into(), list.into())));
    json.insert("missing".into(), answer(site, &of.missing));
    json
}

/// What lacks the prefix of names is missing in the way that fits its path.
pub(super) fn without_prefix(site: &Site, of: &Rule) -> Option<Json> {
    let has_one = site.name_prefix.is_some() && of.found.is_some() && of.pattern != PathPattern::Page;
    (has_one && of.pattern != PathPattern::Catalog).then(|| json!({ "missing": answer(site, &of.missing) }))
}

/// An answer: `{type}` and `{digest}` stand for what an object says.
pub(super) fn answer(site: &Site, of: &Answer) -> Json {
    let mut headers = Map::new();
    for (name, value) in site.headers(of) {
        let value = match value {
            Value::Fixed(text) => text,
            Value::FromPath(Capture::Digest) | Value::OfContent(Content::Digest) => "{digest}",
            Value::OfContent(Content::MediaType) => "{type}",
            Value::OfPage => continue,
        };
        let value = if name == http::header::ETAG { format!("\"{value}\"") } else { value.to_owned() };
        headers.insert(site::spelled(&name), value.into());
    }
    let mut json = json!({ "status": of.status.as_u16(), "headers": headers });
    if let Body::Fixed(body) = &of.body {
        json["body"] = json!(body);
    }
    json
}

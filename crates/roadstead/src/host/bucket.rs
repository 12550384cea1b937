//! What hosts of trees in buckets have in common: `s3://BUCKET[/PREFIX]`, and the rules as data.

use serde_json::{Map, Value as Json, json};

use super::Unsupported;
use crate::site::{self, Answer, Body, CORS, Capture, Content, Form, PREFLIGHT, PathPattern, RULES, Site, Value};
use crate::store::bucket::BucketUrl;

/// A tree's place, written as `--tree` takes it. Names of buckets are of an alphabet that every language takes between quotes;
/// whoever writes a prefix quotes it.
pub(super) fn place(site: &Site, host: &'static str) -> Result<BucketUrl, Unsupported> {
    site.root.parse().map_err(|_| Unsupported::Value {
        host,
        what: "the tree",
        value: site.root.clone(),
        problem: "it serves a tree in a bucket: s3://BUCKET or s3://BUCKET/PREFIX",
    })
}

/// A bucket that is the host itself: the tree has it to itself, and nothing stands between its objects and clients.
pub(super) fn whole(site: &Site, host: &'static str) -> Result<BucketUrl, Unsupported> {
    let refused =
        |what, value: &dyn ToString, problem| Err(Unsupported::Value { host, what, value: value.to_string(), problem });
    if site.form != Form::Site {
        return Err(Unsupported::Form { host, form: site.form });
    }
    let place = place(site, host)?;
    if place.prefix().is_some() {
        let problem = "clients ask for /v2/ where a name begins, so the tree has to be in a bucket of its own";
        return refused("the tree", &place, problem);
    }
    if let Some(prefix) = &site.name_prefix {
        return refused("a prefix of names", prefix, "objects lie where they lie");
    }
    Ok(place)
}

/// What lets pages of other origins read, for a service that says it itself.
pub(super) struct Cors {
    pub(super) origins: Vec<&'static str>,
    pub(super) methods: Vec<&'static str>,
    pub(super) headers: Vec<&'static str>,
    pub(super) exposed: Vec<&'static str>,
}

/// How long a browser may remember it.
pub(super) const CORS_SECONDS: u32 = 86_400;

pub(super) fn cors() -> Cors {
    let said = |header: &http::HeaderName| {
        let all = CORS.iter().chain(&PREFLIGHT.headers);
        let values = all.filter(|(name, _)| name == header).map(|(_, value)| match value {
            Value::Fixed(text) => *text,
            _ => "",
        });
        values.flat_map(|text| text.split(", ")).collect()
    };
    Cors {
        origins: said(&http::header::ACCESS_CONTROL_ALLOW_ORIGIN),
        methods: said(&http::header::ACCESS_CONTROL_ALLOW_METHODS),
        headers: said(&http::header::ACCESS_CONTROL_ALLOW_HEADERS),
        exposed: said(&http::header::ACCESS_CONTROL_EXPOSE_HEADERS),
    }
}

/// The rules, in their order, for a script that knows what an object says: `{type}` and `{digest}` stand for it. Pages are none
/// of a bucket's.
pub(super) fn rules(site: &Site) -> Json {
    let mut rules = Vec::new();
    for rule in RULES.iter() {
        let mut json = Map::new();
        json.insert("path".into(), rule.pattern.regex(site.name_prefix.as_ref()).into());
        let found = rule.found.as_ref().filter(|_| rule.pattern != PathPattern::Page);
        if let Some(found) = found {
            json.insert("found".into(), answer(site, found));
        }
        match rule.pattern {
            PathPattern::TagsList => drop(json.insert("list".into(), "tags".into())),
            PathPattern::Catalog => drop(json.insert("list".into(), "repositories".into())),
            PathPattern::Referrers => drop(json.insert("list".into(), "manifests".into())),
            _ => {}
        }
        let missing = answer(site, &rule.missing);
        json.insert("missing".into(), missing.clone());
        rules.push(Json::Object(json));
        // What lacks the prefix is missing in the way that fits its path.
        if site.name_prefix.is_some() && found.is_some() && rule.pattern != PathPattern::Catalog {
            rules.push(json!({ "path": rule.pattern.regex(None), "missing": missing }));
        }
    }
    rules.into()
}

/// An answer, for the same script.
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

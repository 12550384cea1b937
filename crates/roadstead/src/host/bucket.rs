//! What hosts of trees in buckets have in common: `s3://BUCKET[/PREFIX]` or at Google's `gs://`, and what lets pages of other origins read.

use super::{Unsupported, plain};
use crate::site::{CORS, Form, PREFLIGHT, Site, Value};
use crate::store::bucket::{BucketUrl, Cloud};

/// The place of a tree in a bucket of the S3 API, written as `--tree` takes it. Names of buckets are of an alphabet that every language takes between quotes;
/// whoever writes a prefix quotes it.
pub(super) fn place(site: &Site, host: &'static str) -> Result<BucketUrl, Unsupported> {
    place_in(&[Cloud::S3], "it serves a tree in a bucket: s3://BUCKET or s3://BUCKET/PREFIX", site, host)
}

fn place_in(
    clouds: &[Cloud],
    problem: &'static str,
    site: &Site,
    host: &'static str,
) -> Result<BucketUrl, Unsupported> {
    plain::refuse_for(host, site)?;
    let bucket = site.root.parse().ok().filter(|bucket: &BucketUrl| clouds.contains(&bucket.cloud()));
    bucket.ok_or_else(|| Unsupported::Value { host, what: "the tree", value: site.root.clone(), problem })
}

/// A bucket of which clients get the objects as they lie there, so that no name can be another on the way.
pub(super) fn as_it_is(site: &Site, host: &'static str) -> Result<BucketUrl, Unsupported> {
    unchanged(place(site, host)?, site, host)
}

fn unchanged(place: BucketUrl, site: &Site, host: &'static str) -> Result<BucketUrl, Unsupported> {
    if site.form != Form::Site {
        return Err(Unsupported::Form { host, form: site.form });
    }
    site.name_prefix.as_ref().map_or(Ok(place), |prefix| {
        let problem = "lists are objects, and would not have it";
        Err(Unsupported::Value { host, what: "a prefix of names", value: prefix.to_string(), problem })
    })
}

/// The same, if the bucket is the host itself: the tree has it to itself.
pub(super) fn whole(site: &Site, host: &'static str) -> Result<BucketUrl, Unsupported> {
    alone(as_it_is(site, host)?, host)
}

/// The same at Google's, whose buckets are of the S3 API, too.
pub(super) fn whole_of_google(site: &Site, host: &'static str) -> Result<BucketUrl, Unsupported> {
    let place = place_in(&[Cloud::Google, Cloud::S3], "it serves a tree in a bucket: gs://BUCKET", site, host)?;
    alone(unchanged(place, site, host)?, host)
}

fn alone(place: BucketUrl, host: &'static str) -> Result<BucketUrl, Unsupported> {
    if place.prefix().is_none() {
        return Ok(place);
    }
    let problem = "clients ask for /v2/ where a name begins, so the tree has to be in a bucket of its own";
    Err(Unsupported::Value { host, what: "the tree", value: place.to_string(), problem })
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

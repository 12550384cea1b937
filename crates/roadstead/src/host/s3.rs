//! Amazon S3 and what speaks its API: a policy by which anybody may read the objects of a tree, and nothing else.
//!
//! The bucket serves: media types and caching stand with each object. It can't name the digest of a tag in the header that
//! clients look for, and says what is missing in XML; all clients pull from it nevertheless.

use serde_json::json;

use super::bucket;
use super::{ConfigFile, Group, Host, Unsupported};
use crate::site::Site;

/// A bucket by itself.
pub(super) struct S3;

const NAME: &str = "s3";

const SCRIPT: &str = r#"#!/bin/sh
# Lets anybody pull from the registry in a bucket. Made by roadstead.
#
# Needs the `aws` command, and keys that may change the bucket's settings. For a service other than Amazon's:
# ENDPOINT_URL=https://... sh s3.sh
set -eu

bucket='BUCKET'
s3api() { aws ${ENDPOINT_URL:+--endpoint-url "$ENDPOINT_URL"} s3api "$@"; }

if [ -z "${ENDPOINT_URL:-}" ]; then
    # Amazon refuses policies for everybody until it is told otherwise. Access control lists stay refused.
    s3api put-public-access-block --bucket "$bucket" --public-access-block-configuration \
        BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=false,RestrictPublicBuckets=false
fi

# The second statement lets a missing object be a 404 instead of a 403. It also lets anybody list names, not contents, of
# what is in the bucket: without it, pulls work, and looking for signatures and referrers fails.
s3api put-bucket-policy --bucket "$bucket" --policy 'POLICY'
"#;

const CORS_SCRIPT: &str = r#"
s3api put-bucket-cors --bucket "$bucket" --cors-configuration 'RULES'
"#;

impl Host for S3 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Bucket
    }

    fn summary(&self) -> &'static str {
        "a bucket of Amazon S3, or of a service with its API, that anybody may read"
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        let place = bucket::whole(site, NAME)?;
        let name = place.bucket();
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "AnybodyMayPull",
                    "Effect": "Allow",
                    "Principal": "*",
                    "Action": "s3:GetObject",
                    // The first is what answers a ping; to some services no pattern means it.
                    "Resource": [format!("arn:aws:s3:::{name}/v2/"), format!("arn:aws:s3:::{name}/v2/*")],
                },
                {
                    "Sid": "WhatIsMissingIsMissing",
                    "Effect": "Allow",
                    "Principal": "*",
                    "Action": "s3:ListBucket",
                    "Resource": format!("arn:aws:s3:::{name}"),
                },
            ],
        });
        let mut text = SCRIPT.replace("BUCKET", name).replace("POLICY", &format!("{policy:#}"));
        if site.cors {
            text += &CORS_SCRIPT.replace("RULES", &format!("{:#}", cors()));
        }
        let place = "run it once, where the `aws` command has keys for the bucket".to_owned();
        Ok(vec![ConfigFile { name: "s3.sh".to_owned(), place, text: text.into() }])
    }
}

/// What lets pages of other origins read, in the words of the API.
fn cors() -> serde_json::Value {
    let bucket::Cors { origins, methods, headers, exposed } = bucket::cors();
    json!({
        "CORSRules": [{
            "AllowedOrigins": origins,
            "AllowedMethods": methods,
            "AllowedHeaders": headers,
            "ExposeHeaders": exposed,
            "MaxAgeSeconds": bucket::CORS_SECONDS,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_can_not_do_is_refused() {
        let site = |root: &str| Site { root: root.to_owned(), ..Site::default() };
        let text = S3.render(&site("s3://my.bucket-1_x")).unwrap().remove(0).text.to_string();
        assert!(
            text.contains("bucket='my.bucket-1_x'\n") && text.contains("arn:aws:s3:::my.bucket-1_x/v2/*"),
            "{text}"
        );
        assert!(!text.contains("put-bucket-cors"), "{text}");
        for root in ["/srv/registry", "s3://bucket/below", "s3://a'b"] {
            assert!(S3.render(&site(root)).is_err(), "{root}");
        }
        assert!(S3.render(&Site { name_prefix: Some("x".parse().unwrap()), ..site("s3://bucket") }).is_err());
        let cors = S3.render(&Site { cors: true, ..site("s3://bucket") }).unwrap().remove(0).text.to_string();
        for word in ["\"GET\"", "\"HEAD\"", "\"Docker-Content-Digest\"", "\"If-Range\"", "\"*\""] {
            assert!(cors.contains(word), "{word}: {cors}");
        }
    }
}

//! Google Cloud Storage: a folder of a bucket that anybody may read.
//!
//! The bucket serves as one of S3 does: media types and caching stand with each object, and the digest of a tag can't be named.

use serde_json::json;

use super::bucket;
use super::{ConfigFile, Group, Host, Unsupported};
use crate::site::Site;

/// A bucket by itself.
pub(super) struct Gcs;

const NAME: &str = "gcs";

const SCRIPT: &str = r#"#!/bin/sh
# Lets anybody pull from the registry in a bucket of Google Cloud Storage. Made by roadstead.
#
# Needs the `gcloud` command, logged in as somebody who may change the bucket's settings.
set -eu

bucket='BUCKET'

# What is below v2/ is for everybody, by its path alone: access by object can't be mixed with that. Listing is part of the
# role; it lets a missing object be a 404 instead of a 403.
gcloud storage buckets update "gs://$bucket" --uniform-bucket-level-access --no-public-access-prevention
gcloud storage managed-folders describe "gs://$bucket/v2/" >/dev/null 2>&1 ||
    gcloud storage managed-folders create "gs://$bucket/v2/"
gcloud storage managed-folders add-iam-policy-binding "gs://$bucket/v2/" \
    --member=allUsers --role=roles/storage.objectViewer

settings=$(mktemp -d)
trap 'rm -rf "$settings"' EXIT

# What an interrupted upload has left behind goes after a week.
cat >"$settings/lifecycle.json" <<'JSON'
LIFECYCLE
JSON
gcloud storage buckets update "gs://$bucket" --lifecycle-file="$settings/lifecycle.json"
"#;

const CORS_SCRIPT: &str = r#"
cat >"$settings/cors.json" <<'JSON'
RULES
JSON
gcloud storage buckets update "gs://$bucket" --cors-file="$settings/cors.json"
"#;

impl Host for Gcs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Bucket
    }

    fn summary(&self) -> &'static str {
        "a bucket of Google Cloud Storage that anybody may read below v2/"
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        let place = bucket::whole_of_google(site, NAME)?;
        let lifecycle = json!({
            "rule": [{ "action": { "type": "AbortIncompleteMultipartUpload" }, "condition": { "age": 7 } }],
        });
        let mut text = SCRIPT.replace("BUCKET", place.bucket()).replace("LIFECYCLE", &format!("{lifecycle:#}"));
        if site.cors {
            let bucket::Cors { origins, methods, headers, exposed } = bucket::cors();
            // One list for what may be sent and what may be read.
            let named = [headers, exposed].concat();
            let rules = json!([{
                "origin": origins,
                "method": methods,
                "responseHeader": named,
                "maxAgeSeconds": bucket::CORS_SECONDS,
            }]);
            text += &CORS_SCRIPT.replace("RULES", &format!("{rules:#}"));
        }
        let place = "run it once, where the `gcloud` command is logged in".to_owned();
        Ok(vec![ConfigFile { name: "gcs.sh".to_owned(), place, text: text.into() }])
    }
}

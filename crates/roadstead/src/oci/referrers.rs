//! Lists of what refers to a manifest.
//!
//! Source: distribution specification, "Listing Referrers" and "Referrers Tag Schema".

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Digest, Manifest, MediaType};

/// A list of referrers, sorted by digest. Entries are kept as they stand, so that what others wrote survives.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrers {
    schema_version: u64,
    media_type: String,
    manifests: Vec<Value>,
}

/// How a list describes a referrer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Referrer<'a> {
    media_type: &'a MediaType,
    digest: &'a Digest,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl Default for Referrers {
    fn default() -> Self {
        Self { schema_version: 2, media_type: MediaType::OCI_INDEX.to_string(), manifests: Vec::new() }
    }
}

impl Referrers {
    /// Reads a list.
    ///
    /// # Errors
    ///
    /// If it is no image index.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Adds a manifest, if it isn't there yet. Returns whether that changed the list.
    pub fn add(&mut self, manifest: &Manifest) -> bool {
        let digest = manifest.digest().to_string();
        if self.manifests.iter().any(|entry| entry["digest"] == *digest) {
            return false;
        }
        let entry = serde_json::to_value(Referrer {
            media_type: manifest.media_type(),
            digest: manifest.digest(),
            size: manifest.bytes().len(),
            artifact_type: manifest.artifact_type(),
            annotations: manifest.annotations(),
        });
        self.manifests.push(entry.expect("text and numbers are JSON"));
        self.manifests.sort_by_cached_key(|entry| entry["digest"].as_str().map(str::to_owned));
        true
    }

    /// The list as an image index.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("JSON can be written as such").into()
    }
}

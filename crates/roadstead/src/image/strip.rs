//! Takes entries out of an index: the one place where a manifest is written anew, because somebody asked for it.

use std::collections::HashMap;

use serde_json::Value;

use crate::oci::{Descriptor, Digest, Manifest, ManifestError};

/// An index with only the entries in `kept`, each naming what `kept` says: an index within it may have another digest now.
/// Every other field stays, in its order.
pub(super) fn index(index: &Manifest, kept: &HashMap<Digest, Descriptor>) -> Result<Manifest, ManifestError> {
    let unchanged = |entry: &Descriptor| kept.get(&entry.digest).is_some_and(|now| now.digest == entry.digest);
    if index.manifests().iter().all(unchanged) {
        // Written anew it could differ by a space, and then have another digest for nothing.
        return Ok(index.clone());
    }
    let failed = |source| ManifestError::Json { excerpt: String::new(), source };
    let mut value: Value = serde_json::from_slice(index.bytes()).map_err(failed)?;
    if let Some(Value::Array(entries)) = value.get_mut("manifests") {
        entries.retain_mut(|entry| {
            let digest = entry["digest"].as_str().and_then(|digest| digest.parse::<Digest>().ok());
            let Some(descriptor) = digest.and_then(|digest| kept.get(&digest)) else { return false };
            entry["digest"] = descriptor.digest.to_string().into();
            entry["size"] = descriptor.size.into();
            true
        });
    }
    let bytes = serde_json::to_vec(&value).map_err(failed)?;
    Manifest::parse(bytes.into(), index.digest().algorithm())
}

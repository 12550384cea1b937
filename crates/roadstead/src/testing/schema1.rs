//! Docker's schema 1, with a signature that verifies.
//!
//! Source: Docker, *Image Manifest Version 2, Schema 1*, "Signed Manifests".

use serde_json::json;

use crate::image::{SigningKey, pretty};
use crate::oci::{Algorithm, Digest, Platform, Repository};

/// The manifest of an image with these layers, base first.
pub(super) fn write(
    name: &Repository,
    platform: &Platform,
    entrypoint: &[String],
    layers: &[Digest],
    signed: bool,
) -> String {
    assert!(!layers.is_empty(), "schema 1 has no images without layers");
    let mut history = Vec::new();
    let mut parent: Option<String> = None;
    for (position, layer) in layers.iter().enumerate() {
        // An identifier depends on everything below it, so that the same layer above another one has another.
        let id = Algorithm::Sha256.digest(format!("{layer} on {parent:?}").as_bytes()).hex();
        let mut entry = json!({ "id": id, "created": "1970-01-01T00:00:00Z" });
        if let Some(parent) = parent {
            entry["parent"] = json!(parent);
        }
        if position + 1 == layers.len() {
            entry["architecture"] = json!(platform.architecture);
            entry["os"] = json!(platform.os);
            entry["config"] = json!({ "Entrypoint": entrypoint });
        }
        history.push(json!({ "v1Compatibility": entry.to_string() }));
        parent = Some(id);
    }
    history.reverse();
    let fs_layers: Vec<_> = layers.iter().rev().map(|digest| json!({ "blobSum": digest })).collect();
    let payload = pretty(&json!({
        "schemaVersion": 1,
        "name": name,
        "tag": "latest",
        "architecture": platform.architecture,
        "fsLayers": fs_layers,
        "history": history,
    }));
    if !signed {
        return payload;
    }
    SigningKey::from_secret(&[0x52; 32]).expect("below the order of the curve").sign(&payload)
}

#[cfg(test)]
mod tests {
    use crate::oci::{Algorithm, Kind, MediaType};
    use crate::testing::{Format, ImageBuilder};

    #[test]
    fn the_digest_is_that_of_the_payload() {
        let builder = ImageBuilder::new().layer("base").layer("top");
        let signed = builder.clone().format(Format::Schema1Signed).build();
        let unsigned = builder.format(Format::Schema1Unsigned).build();
        assert_eq!(signed.manifest.kind(), Kind::Schema1);
        assert_eq!(signed.manifest.media_type(), &MediaType::DOCKER_SCHEMA1);
        assert_eq!(unsigned.manifest.media_type(), &MediaType::DOCKER_SCHEMA1_UNSIGNED);
        assert_eq!(signed.digest(), unsigned.digest());
        assert_ne!(signed.digest(), Algorithm::Sha256.digest(signed.manifest.bytes()));
        assert_eq!(signed.manifest.layers(), unsigned.manifest.layers());
        assert!(signed.manifest.layers().iter().all(|layer| signed.blobs.contains_key(&layer.digest)));
    }
}

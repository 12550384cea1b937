//! Docker's schema 1, with a signature that verifies.
//!
//! Source: Docker, *Image Manifest Version 2, Schema 1*, "Signed Manifests"; RFC 7515 (JSON Web Signature) and RFC 7518,
//! section 3.4 (ES256).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde::Serialize as _;
use serde_json::{Value, json};

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
    if signed { sign(&payload) } else { payload }
}

/// JSON indented by three spaces, as Docker writes it.
fn pretty(value: &Value) -> String {
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    let mut serializer = serde_json::Serializer::with_formatter(Vec::new(), formatter);
    value.serialize(&mut serializer).expect("a vector takes every write");
    String::from_utf8(serializer.into_inner()).expect("JSON is UTF-8")
}

/// Splices a signature into the payload in front of its closing brace.
fn sign(payload: &str) -> String {
    let key = SigningKey::from_slice(&[0x52; 32]).expect("below the order of the curve");
    let point = key.verifying_key().to_sec1_point(false);
    let coordinate = |coordinate: &[u8]| URL_SAFE_NO_PAD.encode(coordinate);
    // An uncompressed point is 0x04 and the two coordinates.
    let (x, y) = point.as_bytes()[1..].split_at(32);

    let head = payload.strip_suffix('}').expect("a JSON object").trim_end();
    let tail = &payload[head.len()..];
    let protected = json!({
        "formatLength": head.len(),
        "formatTail": URL_SAFE_NO_PAD.encode(tail),
        "time": "1970-01-01T00:00:00Z",
    });
    let protected = URL_SAFE_NO_PAD.encode(protected.to_string());
    let signature: Signature = key.sign(format!("{protected}.{}", URL_SAFE_NO_PAD.encode(payload)).as_bytes());
    let signature = json!({
        "header": {
            "jwk": { "crv": "P-256", "kty": "EC", "x": coordinate(x), "y": coordinate(y) },
            "alg": "ES256",
        },
        "signature": URL_SAFE_NO_PAD.encode(signature.to_bytes()),
        "protected": protected,
    });
    format!("{head},\n   \"signatures\": [{signature}]{tail}")
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

//! Docker's schema 1: layers without sizes, in reverse, inside a signature envelope.
//!
//! The digest of a signed manifest is not that of its bytes but of the payload that was signed: the bytes up to the place
//! where the signatures were spliced in, and the tail that stood there.
//!
//! Source: Docker, *Image Manifest Version 2, Schema 1*, "Signed Manifests".

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::digest::Digest;
use super::manifest::{Descriptor, ManifestError};

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FsLayer {
    blob_sum: Digest,
}

#[derive(serde::Deserialize)]
pub(super) struct Signature {
    protected: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Protected {
    format_length: usize,
    format_tail: String,
}

/// The layers, base first, each once: schema 1 repeats the empty layer for every instruction that changed no file.
pub(super) fn layers(fs_layers: &[FsLayer]) -> Vec<Descriptor> {
    let mut seen = std::collections::HashSet::new();
    fs_layers
        .iter()
        .rev()
        .filter(|layer| seen.insert(layer.blob_sum))
        .map(|layer| Descriptor {
            size: None,
            ..Descriptor::new("application/vnd.docker.container.image.rootfs.diff+x-gtar", layer.blob_sum, 0)
        })
        .collect()
}

/// The payload that was signed, whose digest is the manifest's.
pub(super) fn payload(bytes: &[u8], signatures: &[Signature]) -> Result<Vec<u8>, ManifestError> {
    let decode = |text: &str| {
        URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| ManifestError::Schema1("a part of its signature is not base64url"))
    };
    let mut payloads = signatures.iter().map(|signature| {
        let protected: Protected = serde_json::from_slice(&decode(&signature.protected)?).map_err(|_| {
            ManifestError::Schema1("the protected part of its signature has no formatLength and formatTail")
        })?;
        let head = bytes
            .get(..protected.format_length)
            .ok_or(ManifestError::Schema1("its signature covers more bytes than there are"))?;
        Ok::<_, ManifestError>([head, &decode(&protected.format_tail)?].concat())
    });
    let first = payloads.next().ok_or(ManifestError::Schema1("it has no signature"))??;
    for other in payloads {
        if other? != first {
            return Err(ManifestError::Schema1("its signatures cover different payloads"));
        }
    }
    Ok(first)
}

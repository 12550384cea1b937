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

/// What the signing spliced in behind the payload's last field.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Spliced {
    #[serde(rename = "signatures")]
    _signatures: serde::de::IgnoredAny,
}

/// The payload that was signed, whose digest is the manifest's.
///
/// The signatures say themselves which bytes they cover. Believed, one that covers none of these bytes but brings a payload
/// of its own would give any content the digest of any other; so the manifest must be its payload and the
/// signatures, nothing more.
pub(super) fn payload(bytes: &[u8], signatures: &[Signature]) -> Result<Vec<u8>, ManifestError> {
    let decode = |text: &str| {
        URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| ManifestError::Schema1("a part of its signature is not base64url"))
    };
    let mut covered: Option<(usize, Vec<u8>)> = None;
    for signature in signatures {
        let protected: Protected = serde_json::from_slice(&decode(&signature.protected)?).map_err(|_| {
            ManifestError::Schema1("the protected part of its signature has no formatLength and formatTail")
        })?;
        let covers = (protected.format_length, decode(&protected.format_tail)?);
        match &covered {
            Some(first) if *first != covers => {
                return Err(ManifestError::Schema1("its signatures cover different payloads"));
            }
            _ => covered = Some(covers),
        }
    }
    let (length, tail) = covered.ok_or(ManifestError::Schema1("it has no signature"))?;
    let (head, spliced) = bytes
        .split_at_checked(length)
        .ok_or(ManifestError::Schema1("its signature covers more bytes than there are"))?;
    let only_signatures = spliced
        .trim_ascii_start()
        .strip_prefix(b",")
        .is_some_and(|member| serde_json::from_slice::<Spliced>(&[b"{", member].concat()).is_ok());
    if tail.trim_ascii() != b"}" || !only_signatures {
        return Err(ManifestError::Schema1("its signature covers other content than what it stands in"));
    }
    Ok([head, &tail].concat())
}

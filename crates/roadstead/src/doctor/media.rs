//! What a `Content-Type` means, and what bytes look like.

use super::observation::Answer;
use crate::oci::{Kind, Manifest, MediaType};

/// The types that clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    OciManifest,
    OciIndex,
    DockerManifest,
    DockerList,
    Schema1,
}

impl Named {
    pub(super) fn of(essence: &str) -> Option<Self> {
        let known = [
            (MediaType::OCI_MANIFEST, Self::OciManifest),
            (MediaType::OCI_INDEX, Self::OciIndex),
            (MediaType::DOCKER_MANIFEST, Self::DockerManifest),
            (MediaType::DOCKER_LIST, Self::DockerList),
            (MediaType::DOCKER_SCHEMA1, Self::Schema1),
            (MediaType::DOCKER_SCHEMA1_UNSIGNED, Self::Schema1),
        ];
        known.into_iter().find(|(media_type, _)| media_type.as_str() == essence).map(|(_, named)| named)
    }

    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::OciManifest | Self::DockerManifest => Kind::Image,
            Self::OciIndex | Self::DockerList => Kind::Index,
            Self::Schema1 => Kind::Schema1,
        }
    }
}

/// `Content-Type` without parameters, in lower case: what Go's `mime.ParseMediaType` makes of it.
pub(super) fn essence(answer: &Answer) -> Option<String> {
    let text = answer.content_type()?;
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // Several types in one line, as they come of rules that add up, are none.
    (!essence.is_empty() && !essence.contains([',', ' '])).then_some(essence)
}

/// Whether there is more to a type than its name.
pub(super) fn has_parameters(answer: &Answer) -> bool {
    answer.content_type().is_some_and(|text| text.contains(';'))
}

/// The type that a manifest must be served as.
pub(super) fn right(manifest: &Manifest) -> Option<Named> {
    Named::of(manifest.media_type().as_str())
}

/// Whether bytes begin as a layer of this type does; a type that says nothing of compression fits all.
pub(super) fn begins_as(media_type: &str, start: &[u8]) -> bool {
    if media_type.ends_with("gzip") {
        start.starts_with(&[0x1f, 0x8b])
    } else if media_type.ends_with("zstd") {
        start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
    } else {
        true
    }
}

/// Whether a config is that of an image, rather than of an artifact.
pub(super) fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json")
}

/// The tags of a list.
pub(super) fn tags(body: &[u8]) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct List {
        tags: Option<Vec<String>>,
    }
    Some(serde_json::from_slice::<List>(body).ok()?.tags.unwrap_or_default())
}

/// The repositories of a catalogue.
pub(super) fn repositories(body: &[u8]) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Catalog {
        repositories: Vec<String>,
    }
    Some(serde_json::from_slice::<Catalog>(body).ok()?.repositories)
}

/// Whether an error says that there is no such repository.
pub(super) fn says_name_unknown(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|body| {
        body["errors"].as_array().is_some_and(|all| all.iter().any(|one| one["code"] == "NAME_UNKNOWN"))
    })
}

//! Joins images into one index: those of several platforms, made by different machines, under one name.
//!
//! Of an image that is an index itself the entries are taken, each as it stands with all its fields, so that what attests an
//! image goes on doing so. Indexes don't nest: few clients look into a second level.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::oci::{Algorithm, Descriptor, Digest, Kind, Manifest, ManifestError, MediaType, Platform};

/// An image that becomes a part of an index.
#[derive(Debug, Clone)]
pub struct Part {
    /// The image as people write it.
    pub image: String,
    /// Its manifest, or index.
    pub manifest: Manifest,
    /// What it runs on, if it is no index.
    pub platform: Option<Platform>,
}

/// Why images can't be joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Who asks for that platform could get either.
    #[error("{first} and {second} are both for {platform}")]
    SamePlatform {
        /// The platform.
        platform: Platform,
        /// One image as people write it.
        first: String,
        /// The other one.
        second: String,
    },
    /// Nobody could be given the image, who asks for a platform.
    #[error("{0} says no platform that it runs on")]
    NoPlatform(String),
    /// Its digest isn't that of its bytes, which an index could not say.
    #[error("{0} is a schema 1 manifest, which no index can name")]
    Schema1(String),
    /// What comes out is no manifest: too large, too many entries.
    #[error("the images don't fit into one index")]
    Index(#[from] ManifestError),
}

/// An entry in the making.
struct Entry {
    image: String,
    descriptor: Descriptor,
    value: Value,
}

/// The index of all `parts`, in their order. With `onto` the entries of that index come first, without those for a platform
/// that one of the parts is for, and without what attests those.
///
/// It is a Docker manifest list if everything in it is Docker's and nothing annotates it, else an OCI index. The same parts
/// make the same bytes.
///
/// # Errors
///
/// [`JoinError`].
pub fn join(
    parts: &[Part],
    onto: Option<&Part>,
    annotations: &BTreeMap<String, String>,
) -> Result<Manifest, JoinError> {
    let mut entries = Vec::new();
    for part in parts {
        take(part, &mut entries)?;
    }
    if let Some(onto) = onto {
        let mut before = Vec::new();
        take(onto, &mut before)?;
        before.retain(|entry| find_platform(&entries, entry).is_none());
        let gone = |subject: &Digest| !before.iter().chain(&entries).any(|entry| entry.descriptor.digest == *subject);
        let orphaned = |entry: &Entry| entry.descriptor.attests().is_some_and(|subject| gone(&subject));
        let orphans: Vec<Digest> =
            before.iter().filter(|entry| orphaned(entry)).map(|entry| entry.descriptor.digest).collect();
        before.retain(|entry| {
            let digest = &entry.descriptor.digest;
            !orphans.contains(digest) && entries.iter().all(|other| other.descriptor.digest != *digest)
        });
        before.append(&mut entries);
        entries = before;
    }
    for (at, entry) in entries.iter().enumerate() {
        if let Some(other) = find_platform(&entries[..at], entry) {
            let platform = entry.descriptor.platform.clone().expect("what was found by its platform has one");
            return Err(JoinError::SamePlatform { platform, first: other.image.clone(), second: entry.image.clone() });
        }
    }
    let is_docker = |entry: &Entry| entry.descriptor.media_type == MediaType::DOCKER_MANIFEST.as_str();
    let media_type = if annotations.is_empty() && entries.iter().all(is_docker) {
        MediaType::DOCKER_LIST
    } else {
        MediaType::OCI_INDEX
    };
    let manifests: Vec<Value> = entries.into_iter().map(|entry| entry.value).collect();
    let mut index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
    if !annotations.is_empty() {
        index["annotations"] = json!(annotations);
    }
    Ok(Manifest::parse(index.to_string().into(), Algorithm::Sha256)?)
}

/// Another entry for the same platform.
fn find_platform<'a>(entries: &'a [Entry], entry: &Entry) -> Option<&'a Entry> {
    let platform = entry.descriptor.platform.as_ref().filter(|platform| !platform.is_unknown())?;
    entries.iter().find(|other| {
        other.descriptor.platform.as_ref() == Some(platform) && other.descriptor.digest != entry.descriptor.digest
    })
}

/// Adds the entries of a part, each digest once.
fn take(part: &Part, entries: &mut Vec<Entry>) -> Result<(), JoinError> {
    let image = &part.image;
    let values = match part.manifest.kind() {
        Kind::Schema1 => return Err(JoinError::Schema1(image.clone())),
        Kind::Image => vec![entry(part)?],
        Kind::Index => listed(&part.manifest)?,
    };
    for value in values {
        let json = |source| ManifestError::Json { excerpt: String::new(), source };
        let descriptor: Descriptor = serde::Deserialize::deserialize(&value).map_err(json)?;
        if entries.iter().all(|other| other.descriptor.digest != descriptor.digest) {
            entries.push(Entry { image: image.clone(), descriptor, value });
        }
    }
    Ok(())
}

/// The entries of an index as they stand.
fn listed(index: &Manifest) -> Result<Vec<Value>, ManifestError> {
    #[derive(serde::Deserialize)]
    struct Listed {
        #[serde(default)]
        manifests: Option<Vec<Value>>,
    }
    let json = |source| ManifestError::Json { excerpt: String::new(), source };
    let Listed { manifests } = serde_json::from_slice(index.bytes()).map_err(json)?;
    Ok(manifests.unwrap_or_default())
}

/// The entry of an image that stands alone.
///
/// Source: image specification, *Image Index*, `manifests`.
fn entry(part: &Part) -> Result<Value, JoinError> {
    let Some(platform) = &part.platform else { return Err(JoinError::NoPlatform(part.image.clone())) };
    let mut fields = Map::new();
    fields.insert("architecture".to_owned(), json!(platform.architecture));
    fields.insert("os".to_owned(), json!(platform.os));
    if let Some(version) = &platform.os_version {
        fields.insert("os.version".to_owned(), json!(version));
    }
    if let Some(variant) = &platform.variant {
        fields.insert("variant".to_owned(), json!(variant));
    }
    let manifest = &part.manifest;
    Ok(json!({
        "mediaType": manifest.media_type(),
        "digest": manifest.digest(),
        "size": manifest.bytes().len(),
        "platform": fields,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Format, Image, ImageBuilder, IndexBuilder};

    fn image(platform: &str, layer: &'static str) -> ImageBuilder {
        ImageBuilder::new().platform(platform).layer(layer)
    }

    fn part(name: &str, image: &Image, platform: &str) -> Part {
        Part { image: name.to_owned(), manifest: image.manifest.clone(), platform: platform.parse().ok() }
    }

    fn joined(parts: &[Part], onto: Option<&Part>) -> Result<Manifest, JoinError> {
        join(parts, onto, &BTreeMap::new())
    }

    fn digests(index: &Manifest) -> Vec<Digest> {
        index.manifests().iter().map(|entry| entry.digest).collect()
    }

    #[test]
    fn images_become_entries_with_their_platforms() {
        let amd64 = image("linux/amd64", "a").build();
        let arm = image("linux/arm/v6", "b").build();
        let windows = image("windows/amd64:10.0.20348.1", "c").build();
        let parts = [
            part("a", &amd64, "linux/amd64"),
            part("b", &arm, "linux/arm/v6"),
            part("c", &windows, "windows/amd64:10.0.20348.1"),
        ];
        let index = joined(&parts, None).unwrap();
        assert_eq!(digests(&index), [amd64.digest(), arm.digest(), windows.digest()]);
        let platforms = index.manifests().iter().map(|entry| entry.platform.as_ref().unwrap().to_string());
        assert_eq!(platforms.collect::<Vec<_>>(), ["linux/amd64", "linux/arm/v6", "windows/amd64:10.0.20348.1"]);
        assert_eq!(*index.media_type(), MediaType::OCI_INDEX);
        assert_eq!(index.bytes(), joined(&parts, None).unwrap().bytes(), "the same parts make the same bytes");
    }

    #[test]
    fn entries_of_indexes_stay_as_they_are() {
        let attested = IndexBuilder::new().attested_image(image("linux/amd64", "a").build()).build();
        let other = image("linux/arm64", "b").build();
        let index =
            joined(&[part("a", &attested, ""), part("b", &other, "linux/arm64"), part("c", &attested, "")], None);
        let index = index.unwrap();
        let mut expected: Vec<Value> = listed(&attested.manifest).unwrap();
        expected.push(listed(&index).unwrap().pop().unwrap());
        assert_eq!(listed(&index).unwrap(), expected, "each once, with all its fields");
    }

    #[test]
    fn docker_images_make_a_manifest_list() {
        let docker = |platform, layer| image(platform, layer).format(Format::Docker).build();
        let parts = [
            part("a", &docker("linux/amd64", "a"), "linux/amd64"),
            part("b", &docker("linux/arm64", "b"), "linux/arm64"),
        ];
        assert_eq!(*joined(&parts, None).unwrap().media_type(), MediaType::DOCKER_LIST);
        let annotations = BTreeMap::from([("key".to_owned(), "value".to_owned())]);
        let annotated = join(&parts, None, &annotations).unwrap();
        assert_eq!(*annotated.media_type(), MediaType::OCI_INDEX, "a list has no annotations");
        assert_eq!(*annotated.annotations(), annotations);
    }

    #[test]
    fn appending_replaces_an_image_for_the_same_platform() {
        let (old, kept) = (image("linux/amd64", "old").build(), image("linux/s390x", "kept").build());
        let before = IndexBuilder::new().attested_image(old.clone()).image(kept.clone()).build();
        let new = image("linux/amd64", "new").build();
        let index = joined(&[part("new", &new, "linux/amd64")], Some(&part("before", &before, ""))).unwrap();
        assert_eq!(digests(&index), [kept.digest(), new.digest()], "what attested the old one is gone with it");
        let again = joined(&[part("old", &before, "")], Some(&part("before", &before, ""))).unwrap();
        assert_eq!(digests(&again), before.manifest.manifests().iter().map(|e| e.digest).collect::<Vec<_>>());
    }

    #[test]
    fn refusals() {
        let (one, two) = (image("linux/amd64", "1").build(), image("linux/amd64", "2").build());
        let error = joined(&[part("one", &one, "linux/amd64"), part("two", &two, "linux/amd64")], None).unwrap_err();
        assert_eq!(error.to_string(), "one and two are both for linux/amd64");
        let error = joined(&[part("chart", &one, "")], None).unwrap_err();
        assert_eq!(error.to_string(), "chart says no platform that it runs on");
    }
}

//! Indexes: several images under one digest.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::image::{Format, Image, ImageBuilder, descriptor, finish, parse};
use crate::oci::{Algorithm, Descriptor, Digest, Manifest};

/// Builds an [`Image`] whose manifest is an index.
///
/// ```
/// use roadstead::testing::{ImageBuilder, IndexBuilder};
///
/// let inner = IndexBuilder::new().image(ImageBuilder::new().layer("a").build()).build();
/// let outer = IndexBuilder::new().image(inner).image(ImageBuilder::new().platform("linux/s390x").build()).build();
/// assert_eq!(outer.children.len(), 3);
/// ```
#[derive(Debug, Clone)]
pub struct IndexBuilder {
    format: Format,
    algorithm: Algorithm,
    entries: Vec<Value>,
    children: Vec<Manifest>,
    blobs: BTreeMap<Digest, Bytes>,
    annotations: Map<String, Value>,
    artifact_type: Option<String>,
    subject: Option<Descriptor>,
}

impl Default for IndexBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl IndexBuilder {
    /// An empty OCI index, named by sha256.
    #[must_use]
    pub fn new() -> Self {
        Self {
            format: Format::Oci,
            algorithm: Algorithm::Sha256,
            entries: Vec::new(),
            children: Vec::new(),
            blobs: BTreeMap::new(),
            annotations: Map::new(),
            artifact_type: None,
            subject: None,
        }
    }

    /// Adds an image, or another index, with all that it holds.
    #[must_use]
    pub fn image(mut self, image: Image) -> Self {
        self.entries.push(Value::Object(image.entry()));
        for manifest in image.manifests() {
            if !self.children.iter().any(|child| child.digest() == manifest.digest()) {
                self.children.push(manifest.clone());
            }
        }
        self.blobs.extend(image.blobs);
        self
    }

    /// Adds an image whose entry doesn't say what platform it is for, as old tools did.
    #[must_use]
    pub fn image_of_any_platform(self, image: Image) -> Self {
        let mut index = self.image(image);
        if let Some(Value::Object(entry)) = index.entries.last_mut() {
            entry.remove("platform");
        }
        index
    }

    /// Adds an image as BuildKit does: with a manifest after it that attests how it was built, for no platform.
    #[must_use]
    pub fn attested_image(self, image: Image) -> Self {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{ "name": "_", "digest": { "sha256": image.digest().hex() } }],
            "predicate": { "builder": { "id": "" }, "buildType": "https://mobyproject.org/buildkit@v1" },
        });
        let attestation = ImageBuilder::new()
            .platform("unknown/unknown")
            .algorithm(self.algorithm)
            .blob("application/vnd.in-toto+json", statement.to_string())
            .build();
        let mut entry = attestation.entry();
        entry.insert(
            "annotations".to_owned(),
            json!({
                "vnd.docker.reference.digest": image.digest(),
                "vnd.docker.reference.type": "attestation-manifest",
            }),
        );
        let mut index = self.image(image).image(attestation);
        index.entries.pop();
        index.entries.push(Value::Object(entry));
        index
    }

    /// Names an image without holding it, so that the index is sparse.
    #[must_use]
    pub fn absent(mut self, image: &Image) -> Self {
        self.entries.push(Value::Object(image.entry()));
        self
    }

    /// Adds a blob as an entry, as the caches of BuildKit have them.
    #[must_use]
    pub fn blob(mut self, media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = self.algorithm.digest(&bytes);
        self.entries.push(Value::Object(descriptor(media_type, digest, bytes.len())));
        self.blobs.insert(digest, bytes);
        self
    }

    /// The specification that it is written by: [`Format::Docker`] makes a manifest list.
    ///
    /// # Panics
    ///
    /// If that has no indexes.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        assert!(
            matches!(format, Format::Oci | Format::OciWithoutMediaType | Format::Docker),
            "{format:?} has no indexes"
        );
        self.format = format;
        self
    }

    /// What it is named by. Its children keep their names.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), json!(value));
        self
    }

    /// Makes it an artifact of this type.
    #[must_use]
    pub fn artifact_type(mut self, artifact_type: &str) -> Self {
        self.artifact_type = Some(artifact_type.to_owned());
        self
    }

    /// Makes it refer to another manifest.
    #[must_use]
    pub fn subject(mut self, subject: &Descriptor) -> Self {
        self.subject = Some(subject.clone());
        self
    }

    /// The index.
    #[must_use]
    pub fn build(self) -> Image {
        let mut index = Map::new();
        index.insert("schemaVersion".to_owned(), json!(2));
        let media_type = match self.format {
            Format::Docker => Some("application/vnd.docker.distribution.manifest.list.v2+json"),
            Format::OciWithoutMediaType => None,
            _ => Some("application/vnd.oci.image.index.v1+json"),
        };
        if let Some(media_type) = media_type {
            index.insert("mediaType".to_owned(), json!(media_type));
        }
        if let Some(artifact_type) = &self.artifact_type {
            index.insert("artifactType".to_owned(), json!(artifact_type));
        }
        index.insert("manifests".to_owned(), Value::Array(self.entries));
        let json = finish(index, self.subject.as_ref(), &self.annotations);
        Image { manifest: parse(json, self.algorithm), children: self.children, blobs: self.blobs, platform: None }
    }
}

//! Manifests: the exact bytes, and a read-only view of what they name.
//!
//! The bytes are never written anew, since any change of a space would change the digest; so this module parses and
//! does not serialise. The view keeps what copying, serving and listing need and ignores every other field.
//!
//! Source: image specification, *Image Manifest* and *Image Index*; Docker's *Image Manifest V2, Schema 1* and *2*.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::digest::{Algorithm, Digest, excerpt};
use super::media_type::{MediaType, MediaTypeError};
use super::platform::Platform;
use super::{schema1, spelling};

/// The largest manifest that is read: 4 MiB, what the distribution specification asks registries to accept.
pub const MAX_MANIFEST_SIZE: u64 = 4 << 20;

/// The most descriptors that one manifest may hold. Docker stops at 127 layers; artifacts hold a few hundred.
pub const MAX_DESCRIPTORS: usize = 10_000;

/// The largest blob that a descriptor may claim: 16 TiB, what the common file systems can hold in one file.
pub const MAX_BLOB_SIZE: u64 = 16 << 40;

/// Names content: what it is, how large, and the digest that proves it.
///
/// Source: image specification, *Content Descriptors*.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type as written. It is text from outside: layers may carry any, and it never becomes a path or a header.
    #[serde(default)]
    pub media_type: String,
    /// The digest.
    pub digest: Digest,
    /// The size in bytes. `None` only for the layers of schema 1, which names no sizes.
    #[serde(default)]
    pub size: Option<u64>,
    /// What it runs on, if an index says so.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// The type of the artifact, if this names one.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Annotations.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A descriptor of `size` bytes, without platform or annotations.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size: Some(size),
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Whether this is a layer that its owner does not allow to be passed on: foreign or nondistributable.
    ///
    /// Source: image specification, *Image Layer Filesystem Changeset*, "Non-Distributable Layers".
    #[must_use]
    pub fn is_nondistributable(&self) -> bool {
        self.media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
            || self.media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
    }

    /// Whether this names a manifest. An entry of an index may also name a blob, as the caches of BuildKit do; one
    /// without a media type is taken for a manifest.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        self.media_type.is_empty() || self.media_type.parse::<MediaType>().is_ok_and(|t| t.is_manifest())
    }

    /// The digest of the image that this entry of an index attests, if it is an attestation that BuildKit wrote.
    #[must_use]
    pub fn attests(&self) -> Option<Digest> {
        (self.annotations.get("vnd.docker.reference.type")? == "attestation-manifest")
            .then(|| self.annotations.get("vnd.docker.reference.digest")?.parse().ok())?
    }
}

/// The structure of a manifest, which decides what may be done with it whatever its media type is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Config and layers: an image, or an artifact.
    Image,
    /// Manifests of several platforms or kinds.
    Index,
    /// Docker's signed manifest of old.
    Schema1,
}

/// Why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// More than [`MAX_MANIFEST_SIZE`].
    #[error("a manifest of {0} bytes: at most {MAX_MANIFEST_SIZE} are accepted")]
    TooLarge(u64),
    /// Not UTF-8, as JSON has to be.
    #[error("not a manifest: the content is not UTF-8")]
    Encoding(#[source] std::str::Utf8Error),
    /// Not a JSON object of the fields that manifests have.
    #[error("not a manifest: the content is no JSON object of that form{}", looks_like(.excerpt))]
    Json {
        /// How the bytes begin.
        excerpt: String,
        /// What the parser found.
        source: serde_json::Error,
    },
    /// `mediaType` can't be a path or a header.
    #[error("the manifest names its own media type badly")]
    MediaType(#[from] MediaTypeError),
    /// Neither `mediaType` nor the fields tell what it is.
    #[error("the manifest can't be typed: it has neither config and layers, nor manifests")]
    Untypable,
    /// The fields of two kinds, or fields that contradict `mediaType`: readers would disagree about what it means.
    #[error("the manifest is ambiguous: {0}")]
    Ambiguous(&'static str),
    /// A schema version that is neither 1 nor 2.
    #[error("the manifest has schemaVersion {0}: 1 and 2 are known")]
    SchemaVersion(u64),
    /// More than [`MAX_DESCRIPTORS`].
    #[error("the manifest names {0} blobs or manifests: at most {MAX_DESCRIPTORS} are accepted")]
    TooMany(usize),
    /// A descriptor without size, or with one beyond [`MAX_BLOB_SIZE`].
    #[error("the manifest gives {digest} no size that can be true")]
    Size {
        /// The descriptor's digest.
        digest: Digest,
    },
    /// A schema 1 manifest whose signature envelope is broken, so that its digest can't be computed.
    #[error("the signed manifest is broken: {0}")]
    Schema1(&'static str),
    /// The bytes are not the ones that were asked for.
    #[error("the manifest's digest is {actual}, expected {expected}")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The size is not the one that the parent's descriptor gives.
    #[error("the manifest has {actual} bytes, expected {expected}")]
    WrongSize {
        /// What was asked for.
        expected: u64,
        /// What came.
        actual: u64,
    },
}

fn looks_like(excerpt: &str) -> String {
    let start = excerpt.trim_start().to_ascii_lowercase();
    if start.starts_with("<!doctype") || start.starts_with("<html") {
        " (it is an HTML page)".to_owned()
    } else {
        String::new()
    }
}

/// Some writers put `"annotations": null` where there are none.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de> + Default,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}

/// The fields that are read. A `null` counts as absent.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    /// The artifact manifest's name for layers.
    blobs: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
    fs_layers: Option<Vec<schema1::FsLayer>>,
    signatures: Option<Vec<schema1::Signature>>,
}

/// A manifest: its exact bytes, their digest and media type, and what they name.
#[derive(Debug, Clone)]
pub struct Manifest {
    bytes: Bytes,
    digest: Digest,
    media_type: MediaType,
    kind: Kind,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Vec<Descriptor>,
    manifests: Vec<Descriptor>,
    subject: Option<Descriptor>,
    annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Parses a manifest that is named by `algorithm`.
    ///
    /// The media type is a function of the bytes alone: the `mediaType` field, else the structure. What a server said
    /// in its `Content-Type` is not asked, since two servers may disagree about the same bytes.
    ///
    /// # Errors
    ///
    /// [`ManifestError`], for bytes that are too large, are no manifest, or can be read in two ways.
    pub fn parse(bytes: Bytes, algorithm: Algorithm) -> Result<Self, ManifestError> {
        let size = bytes.len() as u64;
        if size > MAX_MANIFEST_SIZE {
            return Err(ManifestError::TooLarge(size));
        }
        let text = str::from_utf8(&bytes).map_err(ManifestError::Encoding)?;
        let json = |source| ManifestError::Json { excerpt: excerpt(text), source };
        if text.trim_start().starts_with('[') {
            // A list of the fields' values in their order would be read as if they had their names.
            return Err(json(serde::de::Error::custom("a list where an object is expected")));
        }
        if !spelling::is_unambiguous(text).map_err(json)? {
            return Err(ManifestError::Ambiguous(
                "the name of a field differs from a known one only in the case of its letters",
            ));
        }
        let fields: Fields = serde_json::from_str(text).map_err(json)?;
        if let Some(version) = fields.schema_version.filter(|version| !matches!(version, 1 | 2)) {
            return Err(ManifestError::SchemaVersion(version));
        }
        let named = fields.media_type.as_deref().filter(|named| !named.is_empty());
        let named = named.map(str::parse::<MediaType>).transpose()?;
        let kind = kind(&fields, named.as_ref())?;

        let mut layers = fields.layers.or(fields.blobs).unwrap_or_default();
        let mut digest = algorithm.digest(&bytes);
        let mut structural = match kind {
            Kind::Image => MediaType::OCI_MANIFEST,
            Kind::Index => MediaType::OCI_INDEX,
            Kind::Schema1 => MediaType::DOCKER_SCHEMA1_UNSIGNED,
        };
        if kind == Kind::Schema1 {
            layers = schema1::layers(&fields.fs_layers.unwrap_or_default());
            if let Some(signatures) = fields.signatures.filter(|signatures| !signatures.is_empty()) {
                digest = algorithm.digest(&schema1::payload(&bytes, &signatures)?);
                structural = MediaType::DOCKER_SCHEMA1;
            }
        }
        let manifests = fields.manifests.unwrap_or_default();
        let count = layers.len() + manifests.len();
        if count > MAX_DESCRIPTORS {
            return Err(ManifestError::TooMany(count));
        }
        if kind != Kind::Schema1 {
            let all = fields.config.iter().chain(&layers).chain(&manifests).chain(&fields.subject);
            if let Some(bad) = { all }.find(|d| d.size.is_none_or(|size| size > MAX_BLOB_SIZE)) {
                return Err(ManifestError::Size { digest: bad.digest });
            }
        }
        Ok(Self {
            media_type: named.unwrap_or(structural),
            digest,
            kind,
            artifact_type: fields.artifact_type.filter(|artifact_type| !artifact_type.is_empty()),
            config: fields.config,
            layers,
            manifests,
            subject: fields.subject,
            annotations: fields.annotations.unwrap_or_default(),
            bytes,
        })
    }

    /// Parses a manifest and checks that it is the one that `expected` names, by digest and size.
    ///
    /// # Errors
    ///
    /// As [`Manifest::parse`], and [`ManifestError::Digest`] or [`ManifestError::WrongSize`] if it is another one.
    pub fn verify(bytes: Bytes, expected: &Descriptor) -> Result<Self, ManifestError> {
        let actual_size = bytes.len() as u64;
        // The bytes are judged before the structure: a page of HTML in place of a manifest is reported as such, while a
        // manifest that somebody altered is reported as not being the one that was asked for.
        let manifest = Self::parse(bytes, expected.digest.algorithm())?;
        if manifest.digest != expected.digest {
            return Err(ManifestError::Digest { expected: expected.digest, actual: manifest.digest });
        }
        match expected.size {
            Some(expected) if expected != actual_size => {
                Err(ManifestError::WrongSize { expected, actual: actual_size })
            }
            _ => Ok(manifest),
        }
    }

    /// The exact bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The digest: of the bytes, or of the signed payload for schema 1.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The media type that it must be served as.
    #[must_use]
    pub const fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// Its structure.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What names this manifest.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.as_str(), self.digest, self.bytes.len() as u64)
    }

    /// The config, which every image has.
    #[must_use]
    pub const fn config(&self) -> Option<&Descriptor> {
        self.config.as_ref()
    }

    /// The layers in order, base first; for schema 1 as well, though it is written the other way round.
    #[must_use]
    pub fn layers(&self) -> &[Descriptor] {
        &self.layers
    }

    /// The entries of an index, in order: manifests, and now and then blobs ([`Descriptor::is_manifest`]).
    #[must_use]
    pub fn manifests(&self) -> &[Descriptor] {
        &self.manifests
    }

    /// The manifest that this one refers to.
    #[must_use]
    pub const fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_ref()
    }

    /// The type that a list of referrers shows: `artifactType`, else for images the config's media type.
    ///
    /// Source: distribution specification, "Listing Referrers".
    #[must_use]
    pub fn artifact_type(&self) -> Option<&str> {
        self.artifact_type.as_deref().or_else(|| match self.kind {
            Kind::Image => self.config.as_ref().map(|config| config.media_type.as_str()),
            Kind::Index | Kind::Schema1 => None,
        })
    }

    /// The annotations.
    #[must_use]
    pub const fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// Every blob that it names: config, layers, and entries of an index that are blobs.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers).chain(self.manifests.iter().filter(|entry| !entry.is_manifest()))
    }

    /// Every manifest that it contains. The subject is not one of them: that it is absent is no fault.
    pub fn children(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().filter(|entry| entry.is_manifest())
    }
}

/// What the fields make it, if they make it one thing only and that is what `mediaType` says.
fn kind(fields: &Fields, named: Option<&MediaType>) -> Result<Kind, ManifestError> {
    let image = fields.config.is_some() || fields.layers.is_some() || fields.blobs.is_some();
    let index = fields.manifests.is_some();
    let schema1 = fields.schema_version == Some(1);
    let kind = match (image, index, schema1) {
        (true, true, _) => return Err(ManifestError::Ambiguous("it has both layers and manifests")),
        (true, false, true) | (false, true, true) => {
            return Err(ManifestError::Ambiguous("it has schemaVersion 1 and the fields of version 2"));
        }
        (true, false, false) => Kind::Image,
        (false, true, false) => Kind::Index,
        (false, false, true) => Kind::Schema1,
        // An artifact of nothing but annotations may leave its empty list of blobs out.
        (false, false, false) if named == Some(&MediaType::OCI_ARTIFACT) => Kind::Image,
        (false, false, false) => return Err(ManifestError::Untypable),
    };
    if fields.layers.is_some() && fields.blobs.is_some() {
        return Err(ManifestError::Ambiguous("it has both layers and blobs"));
    }
    if kind != Kind::Schema1 && fields.fs_layers.is_some() {
        return Err(ManifestError::Ambiguous("it has the fsLayers of schemaVersion 1 and the fields of version 2"));
    }
    let Some(named) = named else {
        let complete = kind != Kind::Image || (fields.config.is_some() && fields.layers.is_some());
        return if complete { Ok(kind) } else { Err(ManifestError::Untypable) };
    };
    let meant = if [MediaType::OCI_INDEX, MediaType::DOCKER_LIST].contains(named) {
        Some(Kind::Index)
    } else if [MediaType::DOCKER_SCHEMA1, MediaType::DOCKER_SCHEMA1_UNSIGNED].contains(named) {
        Some(Kind::Schema1)
    } else if named.is_manifest() {
        Some(Kind::Image)
    } else {
        None
    };
    // Only the artifact manifest has blobs, and it has nothing else: readers of other types would see no content.
    let is_artifact = *named == MediaType::OCI_ARTIFACT;
    if meant == Some(Kind::Image)
        && (is_artifact && (fields.config.is_some() || fields.layers.is_some())
            || !is_artifact && fields.blobs.is_some())
    {
        return Err(ManifestError::Ambiguous("its mediaType contradicts its fields"));
    }
    match meant {
        Some(meant) if meant != kind => Err(ManifestError::Ambiguous("its mediaType contradicts its fields")),
        _ => Ok(kind),
    }
}

//! Images for one platform, and artifacts.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::layer::{Compression, Layer};
use super::schema1;
use crate::image::{Architecture, GreetingImage, greeting_elf};
use crate::oci::{Algorithm, Descriptor, Digest, Manifest, Platform, Repository};

/// The specification that a manifest is written by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// OCI.
    Oci,
    /// OCI, without the optional `mediaType` field.
    OciWithoutMediaType,
    /// The OCI artifact manifest, withdrawn before version 1.1: `blobs`, no config.
    OciArtifact,
    /// Docker's version 2, schema 2; as an index, its manifest list.
    Docker,
    /// Docker's version 2, schema 1, signed.
    Schema1Signed,
    /// Docker's version 2, schema 1, without signatures.
    Schema1Unsigned,
}

impl Format {
    /// Every format of an image that clients can run, the oldest last.
    pub const RUNNABLE: [Self; 4] = [Self::Oci, Self::OciWithoutMediaType, Self::Docker, Self::Schema1Signed];

    pub(super) const fn is_docker(self) -> bool {
        matches!(self, Self::Docker | Self::Schema1Signed | Self::Schema1Unsigned)
    }

    pub(super) const fn is_schema1(self) -> bool {
        matches!(self, Self::Schema1Signed | Self::Schema1Unsigned)
    }
}

/// A whole image: a manifest, or an index with all below it, and every blob that they name.
#[derive(Debug, Clone)]
pub struct Image {
    /// What a tag would name.
    pub manifest: Manifest,
    /// All manifests below it, each after its own children.
    pub children: Vec<Manifest>,
    /// All blobs, of the children too.
    pub blobs: BTreeMap<Digest, Bytes>,
    /// What an index says that it runs on.
    pub platform: Option<Platform>,
}

impl Image {
    /// The digest of its manifest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        *self.manifest.digest()
    }

    /// What names it.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        self.manifest.descriptor()
    }

    /// All manifests in the order in which they may be written: its own comes last.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.children.iter().chain(std::iter::once(&self.manifest))
    }

    /// Its descriptor as an index writes it.
    pub(super) fn entry(&self) -> Map<String, Value> {
        let mut entry = descriptor(self.manifest.media_type().as_str(), self.digest(), self.manifest.bytes().len());
        if let Some(artifact_type) = self.manifest.artifact_type().filter(|_| self.manifest.subject().is_some()) {
            entry.insert("artifactType".to_owned(), json!(artifact_type));
        }
        if let Some(platform) = &self.platform {
            let mut written = json!({ "architecture": platform.architecture, "os": platform.os });
            if let Some(variant) = &platform.variant {
                written["variant"] = json!(variant);
            }
            if let Some(version) = &platform.os_version {
                written["os.version"] = json!(version);
            }
            entry.insert("platform".to_owned(), written);
        }
        entry
    }
}

impl From<GreetingImage> for Image {
    fn from(greeting: GreetingImage) -> Self {
        Self {
            manifest: greeting.index,
            children: greeting.manifests,
            blobs: greeting.blobs.into_iter().map(|(descriptor, bytes)| (descriptor.digest, bytes)).collect(),
            platform: None,
        }
    }
}

pub(super) fn descriptor(media_type: &str, digest: Digest, size: usize) -> Map<String, Value> {
    let mut entry = Map::new();
    entry.insert("mediaType".to_owned(), json!(media_type));
    entry.insert("digest".to_owned(), json!(digest));
    entry.insert("size".to_owned(), json!(size));
    entry
}

pub(super) fn parse(json: impl Into<Bytes>, algorithm: Algorithm) -> Manifest {
    Manifest::parse(json.into(), algorithm).unwrap_or_else(|error| panic!("the builder wrote no manifest: {error}"))
}

/// Builds an [`Image`] of one platform, or an artifact.
///
/// ```
/// use roadstead::testing::{Format, ImageBuilder};
///
/// let image = ImageBuilder::new().greeting("ahoy\n").platform("linux/arm64").format(Format::Docker).build();
/// assert_eq!(image.blobs.len(), 2);
/// ```
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    format: Format,
    algorithm: Algorithm,
    compression: Compression,
    platform: Platform,
    layers: Vec<Content>,
    /// Instructions that changed no file, each with the number of layers before it.
    instructions: Vec<(usize, String)>,
    entrypoint: Vec<String>,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    artifact_type: Option<String>,
    subject: Option<Descriptor>,
    name: Repository,
}

#[derive(Debug, Clone)]
enum Content {
    Layer(Layer),
    /// A program for the platform, which may be chosen later.
    Greeting(String),
    Blob {
        media_type: String,
        bytes: Bytes,
    },
    Absent(Descriptor),
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageBuilder {
    /// An OCI image for `linux/amd64` without layers; those added are compressed by gzip and named by sha256.
    #[must_use]
    pub fn new() -> Self {
        Self {
            format: Format::Oci,
            algorithm: Algorithm::Sha256,
            compression: Compression::Gzip,
            platform: Platform::new("linux", "amd64", None, None),
            layers: Vec::new(),
            instructions: Vec::new(),
            entrypoint: Vec::new(),
            labels: Map::new(),
            annotations: Map::new(),
            artifact_type: None,
            subject: None,
            name: "library/example".parse().expect("a repository name"),
        }
    }

    /// Adds a layer: bytes, which become its one file, or a [`Layer`].
    #[must_use]
    pub fn layer(mut self, layer: impl Into<Layer>) -> Self {
        self.layers.push(Content::Layer(layer.into()));
        self
    }

    /// Adds an instruction that changed no file to the history, behind the layers so far.
    #[must_use]
    pub fn instruction(mut self, text: &str) -> Self {
        self.instructions.push((self.layers.len(), text.to_owned()));
        self
    }

    /// Adds a layer with `/hello`, a static program for the platform that prints `text`, and makes it the entrypoint.
    ///
    /// Only `linux/amd64` and `linux/arm64` have one.
    #[must_use]
    pub fn greeting(mut self, text: &str) -> Self {
        self.layers.push(Content::Greeting(text.to_owned()));
        self.entrypoint(&["/hello"])
    }

    /// Adds a blob among the layers that is no archive, as artifacts have.
    #[must_use]
    pub fn blob(mut self, media_type: &str, bytes: impl Into<Bytes>) -> Self {
        self.layers.push(Content::Blob { media_type: media_type.to_owned(), bytes: bytes.into() });
        self
    }

    /// Names a layer whose bytes the image does not hold, such as a nondistributable one.
    #[must_use]
    pub fn absent_layer(mut self, descriptor: Descriptor) -> Self {
        self.layers.push(Content::Absent(descriptor));
        self
    }

    /// Compresses all layers that do not say otherwise by gzip.
    #[must_use]
    pub fn gzip(self) -> Self {
        self.compression(Compression::Gzip)
    }

    /// Compresses all layers that do not say otherwise by Zstandard.
    #[must_use]
    pub fn zstd(self) -> Self {
        self.compression(Compression::Zstd)
    }

    /// Leaves all layers that do not say otherwise as they are.
    #[must_use]
    pub fn uncompressed(self) -> Self {
        self.compression(Compression::None)
    }

    /// Compresses all layers that do not say otherwise so.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// What it runs on, such as `linux/arm/v7`.
    ///
    /// # Panics
    ///
    /// If the text is no platform.
    #[must_use]
    pub fn platform(mut self, platform: &str) -> Self {
        self.platform = platform.parse().unwrap_or_else(|error| panic!("{error}"));
        self
    }

    /// The specification that it is written by.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// What its manifest and its blobs are named by.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// What runs when nothing else is asked for.
    #[must_use]
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Adds a label to the config.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), json!(value));
        self
    }

    /// Adds an annotation to the manifest.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), json!(value));
        self
    }

    /// Makes it an artifact of this type, whose config is the empty object.
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

    /// The repository that a schema 1 manifest names inside. Others name none.
    ///
    /// # Panics
    ///
    /// If the text is no repository name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.parse().unwrap_or_else(|error| panic!("{error}"));
        self
    }

    /// The image.
    ///
    /// # Panics
    ///
    /// If a greeting is asked for on a platform that has none, or a schema 1 image holds what that can't name.
    #[must_use]
    pub fn build(self) -> Image {
        let mut blobs = BTreeMap::new();
        let mut keep = |bytes: Bytes, algorithm: Algorithm| {
            let digest = algorithm.digest(&bytes);
            blobs.insert(digest, bytes);
            digest
        };
        let mut layers = Vec::new();
        let mut digests = Vec::new();
        let mut diff_ids = Vec::new();
        for content in &self.layers {
            let layer = match content {
                Content::Layer(layer) => layer.clone(),
                Content::Greeting(text) => Layer::new().file("hello", self.greeting_program(text), 0o755),
                Content::Blob { media_type, bytes } => {
                    let digest = keep(bytes.clone(), self.algorithm);
                    layers.push(Value::Object(descriptor(media_type, digest, bytes.len())));
                    diff_ids.push(Algorithm::Sha256.digest(bytes));
                    continue;
                }
                Content::Absent(absent) => {
                    let size = absent.size.and_then(|size| usize::try_from(size).ok()).expect("a layer has a size");
                    layers.push(Value::Object(descriptor(&absent.media_type, absent.digest, size)));
                    diff_ids.push(absent.digest);
                    continue;
                }
            };
            let (bytes, compression, diff_id) = layer.build(self.compression);
            let size = bytes.len();
            let digest = keep(bytes, self.algorithm);
            layers.push(Value::Object(descriptor(self.layer_type(compression), digest, size)));
            digests.push(digest);
            diff_ids.push(diff_id);
        }
        let manifest = if self.format.is_schema1() {
            assert_eq!(digests.len(), self.layers.len(), "schema 1 names nothing but layers");
            schema1::write(&self.name, &self.platform, &self.entrypoint, &digests, self.format == Format::Schema1Signed)
        } else {
            let config = self.config(&diff_ids);
            let config = (self.format != Format::OciArtifact)
                .then(|| descriptor(self.config_type(), keep(config.clone(), self.algorithm), config.len()));
            self.manifest(config, layers)
        };
        Image {
            manifest: parse(manifest, self.algorithm),
            children: Vec::new(),
            blobs,
            platform: self.artifact_type.is_none().then_some(self.platform),
        }
    }

    fn greeting_program(&self, text: &str) -> Vec<u8> {
        let architecture = Architecture::ALL
            .into_iter()
            .find(|architecture| self.platform.architecture == architecture.as_str() && self.platform.os == "linux")
            .unwrap_or_else(|| panic!("there is no greeting for {}", self.platform));
        greeting_elf(architecture, text)
    }

    fn layer_type(&self, compression: Compression) -> &'static str {
        match (self.format.is_docker(), compression) {
            (true, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (true, Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (true, Compression::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
            (false, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            (false, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (false, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    fn config_type(&self) -> &'static str {
        match (&self.artifact_type, self.format.is_docker()) {
            (Some(_), _) => "application/vnd.oci.empty.v1+json",
            (None, true) => "application/vnd.docker.container.image.v1+json",
            (None, false) => "application/vnd.oci.image.config.v1+json",
        }
    }

    fn config(&self, diff_ids: &[Digest]) -> Bytes {
        if self.artifact_type.is_some() {
            return Bytes::from_static(b"{}");
        }
        const CREATED: &str = "1970-01-01T00:00:00Z";
        let empty = |after: usize| {
            self.instructions
                .iter()
                .filter(move |(layers, _)| *layers == after)
                .map(|(_, text)| json!({ "created": CREATED, "created_by": text, "empty_layer": true }))
        };
        let mut history: Vec<_> = empty(0).collect();
        for position in 1..=diff_ids.len() {
            history.push(json!({ "created": CREATED, "created_by": "roadstead testing" }));
            history.extend(empty(position));
        }
        let mut inner = Map::new();
        if !self.entrypoint.is_empty() {
            inner.insert("Entrypoint".to_owned(), json!(self.entrypoint));
        }
        if !self.labels.is_empty() {
            inner.insert("Labels".to_owned(), json!(self.labels));
        }
        let mut config = json!({
            "created": CREATED,
            "architecture": self.platform.architecture,
            "os": self.platform.os,
            "config": inner,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": history,
        });
        if let Some(variant) = &self.platform.variant {
            config["variant"] = json!(variant);
        }
        if let Some(version) = &self.platform.os_version {
            config["os.version"] = json!(version);
        }
        config.to_string().into()
    }

    fn manifest(&self, config: Option<Map<String, Value>>, layers: Vec<Value>) -> String {
        let mut manifest = Map::new();
        let media_type = match self.format {
            Format::Docker => Some("application/vnd.docker.distribution.manifest.v2+json"),
            Format::OciArtifact => Some("application/vnd.oci.artifact.manifest.v1+json"),
            Format::OciWithoutMediaType => None,
            _ => Some("application/vnd.oci.image.manifest.v1+json"),
        };
        if self.format != Format::OciArtifact {
            manifest.insert("schemaVersion".to_owned(), json!(2));
        }
        if let Some(media_type) = media_type {
            manifest.insert("mediaType".to_owned(), json!(media_type));
        }
        if let Some(artifact_type) = &self.artifact_type {
            manifest.insert("artifactType".to_owned(), json!(artifact_type));
        }
        let layers_field = if config.is_some() { "layers" } else { "blobs" };
        if let Some(config) = config {
            manifest.insert("config".to_owned(), Value::Object(config));
        }
        manifest.insert(layers_field.to_owned(), Value::Array(layers));
        finish(manifest, self.subject.as_ref(), &self.annotations)
    }
}

/// Adds what manifests and indexes have in common, and writes them.
pub(super) fn finish(
    mut manifest: Map<String, Value>,
    subject: Option<&Descriptor>,
    annotations: &Map<String, Value>,
) -> String {
    if let Some(subject) = subject {
        let size = subject.size.and_then(|size| usize::try_from(size).ok()).expect("a subject has a size");
        let entry = descriptor(&subject.media_type, subject.digest, size);
        manifest.insert("subject".to_owned(), Value::Object(entry));
    }
    if !annotations.is_empty() {
        manifest.insert("annotations".to_owned(), json!(annotations));
    }
    Value::Object(manifest).to_string()
}

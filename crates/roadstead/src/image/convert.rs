//! Manifests written anew: the one place where that happens, because somebody asked for it.
//!
//! An image gets the names of its compressed layers, the media types of the other specification, or both; an index gets the
//! digests of what was written anew below it, and perhaps fewer entries. Every other field stays, in its order. What the
//! other specification can't say is refused, never dropped.
//!
//! Source: image specification, *Image Manifest*, *Image Index* and "Compatibility Matrix"; Docker's *Image Manifest V2,
//! Schema 2*.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::compress::Method;
use crate::oci::{Descriptor, Digest, Kind, Manifest, ManifestError, MediaType, excerpt};

/// The specification that manifests are to be written by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ManifestFormat {
    /// Each by its own.
    #[default]
    Keep,
    /// OCI's.
    Oci,
    /// Docker's version 2, schema 2.
    V2s2,
}

/// Why a manifest can't be written anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A schema 1 manifest: what the others say of an image would have to be computed from its layers.
    #[error(
        "{0} is a manifest of schema 1, which has no config and says no sizes: pull it with an old engine and push it again"
    )]
    Schema1(Digest),
    /// A manifest of neither specification.
    #[error("{digest} is of type {media_type}, which is neither Docker's nor OCI's")]
    Stranger {
        /// The manifest.
        digest: Digest,
        /// Its type.
        media_type: MediaType,
    },
    /// Something has a media type that the other specification doesn't know.
    #[error("{digest} holds {media_type:?}, which {} has no name for", name(*.format))]
    Unnamed {
        /// The manifest.
        digest: Digest,
        /// The media type of a config, layer or entry.
        media_type: String,
        /// The other specification.
        format: ManifestFormat,
    },
    /// A field that the other specification has no place for.
    #[error("{digest} has {field}, which Docker's schema 2 has no place for")]
    Lost {
        /// The manifest.
        digest: Digest,
        /// What would be lost.
        field: String,
    },
    /// The result is no manifest, such as one that would be too large.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

const fn name(format: ManifestFormat) -> &'static str {
    match format {
        ManifestFormat::V2s2 => "Docker's schema 2",
        ManifestFormat::Oci | ManifestFormat::Keep => "OCI",
    }
}

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What a layer's media type says, in either specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LayerType {
    docker: bool,
    nondistributable: bool,
    method: Option<Method>,
}

impl LayerType {
    /// What the types begin with: Docker's or not, nondistributable or not.
    const BEGINNINGS: [(&str, bool, bool); 4] = [
        ("application/vnd.docker.image.rootfs.diff.tar", true, false),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar", true, true),
        ("application/vnd.oci.image.layer.v1.tar", false, false),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", false, true),
    ];

    fn parse(media_type: &str) -> Option<Self> {
        Self::BEGINNINGS.into_iter().find_map(|(beginning, docker, nondistributable)| {
            let separator = if docker { '.' } else { '+' };
            let method = match media_type.strip_prefix(beginning)? {
                "" => None,
                end => match end.strip_prefix(separator)? {
                    "gzip" => Some(Method::Gzip),
                    "zstd" => Some(Method::Zstd),
                    _ => return None,
                },
            };
            Some(Self { docker, nondistributable, method })
        })
    }

    fn name(self) -> String {
        let same = |(_, docker, nondistributable): &&(&str, bool, bool)| {
            (*docker, *nondistributable) == (self.docker, self.nondistributable)
        };
        let beginning = Self::BEGINNINGS.iter().find(same).map_or("", |(beginning, ..)| beginning);
        let separator = if self.docker { "." } else { "+" };
        match self.method {
            None => beginning.to_owned(),
            Some(Method::Gzip) => format!("{beginning}{separator}gzip"),
            Some(Method::Zstd) => format!("{beginning}{separator}zstd"),
        }
    }
}

/// The type of a layer that can be compressed: a tar archive as it is. One that its owner doesn't allow to be passed on isn't
/// touched.
fn plain(media_type: &str) -> Option<LayerType> {
    LayerType::parse(media_type).filter(|layer| layer.method.is_none() && !layer.nondistributable)
}

fn is_plain(layer: &Descriptor) -> bool {
    plain(&layer.media_type).is_some()
}

/// Whether this is what runs, rather than an artifact of any kind.
fn is_image(manifest: &Manifest) -> bool {
    manifest.config().is_some_and(|config| [OCI_CONFIG, DOCKER_CONFIG].contains(&&*config.media_type))
}

/// Whether this is an image down to its layers: cosign's signatures only look like one.
pub(super) fn runs(manifest: &Manifest) -> bool {
    is_image(manifest) && manifest.layers().iter().all(|layer| LayerType::parse(&layer.media_type).is_some())
}

/// The compressed bytes of layers, by the digests of what they were.
pub(super) type Compressed = HashMap<Digest, (Digest, u64)>;

/// How an image's manifest is to be written anew.
pub(super) struct Rewriting<'a> {
    manifest: &'a Manifest,
    /// Keep if its specification stays.
    format: ManifestFormat,
    method: Option<Method>,
}

impl<'a> Rewriting<'a> {
    /// What is to be done, `None` if the manifest stays as it is. Refuses here what can't be done, so that nothing is moved
    /// for it.
    pub(super) fn plan(
        manifest: &'a Manifest,
        format: ManifestFormat,
        method: Option<Method>,
    ) -> Result<Option<Self>, ConvertError> {
        let method = method.filter(|_| is_image(manifest) && manifest.layers().iter().any(is_plain));
        let is_docker = *manifest.media_type() == MediaType::DOCKER_MANIFEST;
        let format = match format {
            // Docker's own have no name for such layers.
            ManifestFormat::Keep if is_docker && method == Some(Method::Zstd) => ManifestFormat::Oci,
            ManifestFormat::V2s2 if method == Some(Method::Zstd) => {
                let media_type = LayerType { docker: true, nondistributable: false, method }.name();
                return Err(ConvertError::Unnamed { digest: *manifest.digest(), media_type, format });
            }
            asked => asked,
        };
        let format = if is_of(manifest, format)? { ManifestFormat::Keep } else { format };
        if format == ManifestFormat::Keep && method.is_none() {
            return Ok(None);
        }
        let rewriting = Self { manifest, format, method };
        rewriting.check()?;
        Ok(Some(rewriting))
    }

    /// The layers that have to be compressed, with their positions.
    pub(super) fn plain_layers(&self) -> impl Iterator<Item = (usize, &'a Descriptor)> {
        let layers = self.manifest.layers().iter().enumerate();
        layers.filter(|(_, layer)| self.method.is_some() && is_plain(layer))
    }

    /// The manifest, once it is known what those layers have become.
    pub(super) fn write(&self, compressed: &Compressed) -> Result<Manifest, ConvertError> {
        write(self.manifest, |fields| {
            self.name(fields);
            if let Some(config) = fields.get_mut("config") {
                self.translate(config, None);
            }
            for layer in fields.get_mut("layers").and_then(Value::as_array_mut).into_iter().flatten() {
                self.translate(layer, Some(compressed));
            }
        })
    }

    /// Names the specification that the whole is written by.
    fn name(&self, fields: &mut Map<String, Value>) {
        match self.format {
            ManifestFormat::Keep => {}
            ManifestFormat::Oci => set_type(fields, &MediaType::OCI_MANIFEST),
            ManifestFormat::V2s2 => set_type(fields, &MediaType::DOCKER_MANIFEST),
        }
    }

    /// Writes what a config or layer has become into its descriptor.
    fn translate(&self, descriptor: &mut Value, compressed: Option<&Compressed>) {
        let mut media_type = descriptor["mediaType"].as_str().unwrap_or_default().to_owned();
        if let (Some(compressed), Some(layer)) = (compressed.filter(|_| self.method.is_some()), plain(&media_type))
            && let Some(digest) = descriptor["digest"].as_str().and_then(|digest| digest.parse::<Digest>().ok())
            && let Some((digest, size)) = compressed.get(&digest)
        {
            descriptor["digest"] = digest.to_string().into();
            descriptor["size"] = (*size).into();
            media_type = LayerType { method: self.method, ..layer }.name();
        }
        let translated = translated(&media_type, self.format).unwrap_or(media_type);
        if descriptor["mediaType"] != translated.as_str() {
            descriptor["mediaType"] = translated.into();
        }
    }

    /// Refuses what the other specification can't say.
    fn check(&self) -> Result<(), ConvertError> {
        let (manifest, digest) = (self.manifest, *self.manifest.digest());
        let all = || manifest.config().into_iter().chain(manifest.layers());
        for descriptor in all() {
            if translated(&descriptor.media_type, self.format).is_none() {
                let media_type = excerpt(&descriptor.media_type);
                return Err(ConvertError::Unnamed { digest, media_type, format: self.format });
            }
        }
        if self.format == ManifestFormat::V2s2 {
            refuse_losses(manifest, all())?;
        }
        Ok(())
    }
}

/// The media type of a config or layer in another specification; `None` if that has no name for it.
fn translated(media_type: &str, format: ManifestFormat) -> Option<String> {
    match (format, LayerType::parse(media_type)) {
        (ManifestFormat::Keep, _) => Some(media_type.to_owned()),
        (ManifestFormat::Oci, Some(layer)) => Some(LayerType { docker: false, ..layer }.name()),
        (ManifestFormat::V2s2, Some(layer)) => {
            (layer.method != Some(Method::Zstd)).then(|| LayerType { docker: true, ..layer }.name())
        }
        (ManifestFormat::Oci, None) if media_type == DOCKER_CONFIG => Some(OCI_CONFIG.to_owned()),
        // Anything may be in an artifact, but what only Docker knows means nothing there.
        (ManifestFormat::Oci, None) => {
            (!media_type.starts_with("application/vnd.docker.")).then(|| media_type.to_owned())
        }
        (ManifestFormat::V2s2, None) => {
            [OCI_CONFIG, DOCKER_CONFIG].contains(&media_type).then(|| DOCKER_CONFIG.to_owned())
        }
    }
}

/// Whether a manifest is written by that specification already.
fn is_of(manifest: &Manifest, format: ManifestFormat) -> Result<bool, ConvertError> {
    let media_type = manifest.media_type();
    let is_docker = [MediaType::DOCKER_MANIFEST, MediaType::DOCKER_LIST].contains(media_type);
    let is_oci = [MediaType::OCI_MANIFEST, MediaType::OCI_INDEX, MediaType::OCI_ARTIFACT].contains(media_type);
    match format {
        ManifestFormat::Keep => Ok(true),
        _ if manifest.kind() == Kind::Schema1 => Err(ConvertError::Schema1(*manifest.digest())),
        ManifestFormat::Oci if is_docker || is_oci => Ok(is_oci),
        ManifestFormat::V2s2 if *media_type == MediaType::OCI_ARTIFACT => {
            let media_type = media_type.to_string();
            Err(ConvertError::Unnamed { digest: *manifest.digest(), media_type, format })
        }
        ManifestFormat::V2s2 if is_docker || is_oci => Ok(is_docker),
        ManifestFormat::Oci | ManifestFormat::V2s2 => {
            Err(ConvertError::Stranger { digest: *manifest.digest(), media_type: media_type.clone() })
        }
    }
}

/// Refuses what Docker's manifests have no place for.
fn refuse_losses<'a>(manifest: &Manifest, below: impl Iterator<Item = &'a Descriptor>) -> Result<(), ConvertError> {
    let lost = |field: String| Err(ConvertError::Lost { digest: *manifest.digest(), field });
    if manifest.subject().is_some() {
        return lost("a subject".to_owned());
    }
    // That of an image is its config's media type, if it doesn't say another.
    let own_type =
        manifest.artifact_type().filter(|own| manifest.config().is_none_or(|config| config.media_type != *own));
    if let Some(artifact_type) = own_type {
        return lost(format!("the artifact type {:?}", excerpt(artifact_type)));
    }
    let annotated = below.map(|descriptor| (&descriptor.annotations, format!("of {}", descriptor.digest)));
    for (annotations, whose) in [(manifest.annotations(), "of its own".to_owned())].into_iter().chain(annotated) {
        if !annotations.is_empty() {
            let names = annotations.keys().map(|key| excerpt(key)).collect::<Vec<_>>().join(", ");
            return lost(format!("annotations {whose}: {}", excerpt(&names)));
        }
    }
    Ok(())
}

/// Refuses an index that can't be written by that specification with these entries, before any of them is copied.
pub(super) fn check_index(
    index: &Manifest,
    entries: &[Descriptor],
    format: ManifestFormat,
) -> Result<(), ConvertError> {
    if is_of(index, format)? || format != ManifestFormat::V2s2 {
        return Ok(());
    }
    if let Some(blob) = entries.iter().find(|entry| !entry.is_manifest()) {
        let media_type = excerpt(&blob.media_type);
        return Err(ConvertError::Unnamed { digest: *index.digest(), media_type, format });
    }
    refuse_losses(index, entries.iter())
}

/// An index whose entries are named by what they have become in `copied`. If anything changes, or if `only` those shall stay, it
/// names nothing else: what others have left out of it under its old digest doesn't belong to the new one.
pub(super) fn index(
    index: &Manifest,
    copied: &HashMap<Digest, Descriptor>,
    format: ManifestFormat,
    only: bool,
) -> Result<Manifest, ConvertError> {
    let changed = |entry: &Descriptor| copied.get(&entry.digest).is_some_and(|now| now.digest != entry.digest);
    let any_changed = index.manifests().iter().any(changed);
    let format = match format {
        // A list of Docker's whose images have become OCI's.
        ManifestFormat::Keep if *index.media_type() == MediaType::DOCKER_LIST => {
            let oci = [MediaType::OCI_MANIFEST, MediaType::OCI_INDEX];
            let is_oci = |now: &Descriptor| oci.iter().any(|media_type| now.media_type == media_type.as_str());
            let became = |entry: &Descriptor| changed(entry) && copied.get(&entry.digest).is_some_and(is_oci);
            if index.manifests().iter().any(became) { ManifestFormat::Oci } else { ManifestFormat::Keep }
        }
        asked => asked,
    };
    let converts = !is_of(index, format)?;
    let gone = |entry: &Descriptor| !copied.contains_key(&entry.digest);
    let any_gone = only && index.manifests().iter().any(gone);
    if !(converts || any_changed || any_gone) {
        // Written anew it could differ by a space, and then have another digest for nothing.
        return Ok(index.clone());
    }
    write(index, |fields| {
        match format {
            ManifestFormat::Oci if converts => set_type(fields, &MediaType::OCI_INDEX),
            ManifestFormat::V2s2 if converts => set_type(fields, &MediaType::DOCKER_LIST),
            _ => {}
        }
        let Some(Value::Array(entries)) = fields.get_mut("manifests") else { return };
        let become_of = |digest: &Value| copied.get(&digest.as_str()?.parse::<Digest>().ok()?);
        entries.retain_mut(|entry| {
            let Some(now) = become_of(&entry["digest"]) else { return false };
            if entry["digest"] != now.digest.to_string() {
                entry["digest"] = now.digest.to_string().into();
                entry["size"] = now.size.into();
                entry["mediaType"] = now.media_type.clone().into();
            }
            // What BuildKit attests is named beside the attestation.
            if let Some(attested) = entry.pointer_mut("/annotations/vnd.docker.reference.digest")
                && let Some(now) = become_of(attested)
            {
                *attested = now.digest.to_string().into();
            }
            true
        });
    })
}

/// Names the media type, behind the schema's version where it had none.
fn set_type(fields: &mut Map<String, Value>, media_type: &MediaType) {
    match fields.get_mut("mediaType") {
        Some(named) => *named = media_type.as_str().into(),
        None => {
            let place = fields.keys().position(|key| key == "schemaVersion").map_or(0, |at| at + 1);
            fields.shift_insert(place, "mediaType".to_owned(), media_type.as_str().into());
        }
    }
}

/// A manifest with other fields.
fn write(manifest: &Manifest, change: impl FnOnce(&mut Map<String, Value>)) -> Result<Manifest, ConvertError> {
    let failed = |source| ManifestError::Json { excerpt: String::new(), source };
    let mut fields: Map<String, Value> = serde_json::from_slice(manifest.bytes()).map_err(failed)?;
    change(&mut fields);
    let bytes = serde_json::to_vec(&fields).map_err(failed)?;
    Ok(Manifest::parse(bytes.into(), manifest.digest().algorithm())?)
}

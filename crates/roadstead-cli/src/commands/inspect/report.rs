//! What is known about a manifest: the value that scripts read.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use roadstead::image::{MAX_DEPTH, MAX_REFERRERS};
use roadstead::oci::{Algorithm, Descriptor, Digest, Kind, MAX_MANIFEST_SIZE, Manifest, Reference, Repository, Tag};
use roadstead::tree::{Tree, TreeError, keys};
use serde_json::Value;

/// What is said about a manifest, and about those within it.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<String>,
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) size: u64,
    /// With all that it names, each thing once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) total_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<Digest>,
    /// Of which manifest in the same index this is an attestation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attests: Option<Digest>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) config: Option<Content>,
    /// The config's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) layers: Vec<Content>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) manifests: Vec<Self>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) referrers: Vec<Referrer>,
    /// Whether an index names it and the tree doesn't have it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) absent: bool,
}

/// A blob.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Content {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// Something that refers to a manifest, and what refers to that.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Referrer {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    /// Cosign's tag, where only that tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tag: Option<Tag>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) referrers: Vec<Self>,
}

impl From<&Descriptor> for Content {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            digest: descriptor.digest,
            media_type: descriptor.media_type.clone(),
            size: descriptor.size,
            annotations: descriptor.annotations.clone(),
        }
    }
}

/// The bytes of a config; `None` if the tree doesn't have them, or too many of them to be one.
pub(super) async fn config(
    tree: &Tree,
    repository: &Repository,
    config: &Descriptor,
) -> Result<Option<Bytes>, TreeError> {
    let Some(object) = tree.blob(repository, &config.digest, None).await? else { return Ok(None) };
    if object.entry.size > MAX_MANIFEST_SIZE {
        return Ok(None);
    }
    let key = keys::blob(repository, &config.digest);
    Ok(Some(object.body.into_bytes(MAX_MANIFEST_SIZE, &key).await?))
}

/// What an image's config says; `None` of an artifact, whose config is something else.
pub(super) async fn image(
    tree: &Tree,
    repository: &Repository,
    manifest: &Manifest,
) -> Result<Option<Value>, TreeError> {
    let Some(descriptor) = manifest.config() else { return Ok(None) };
    let bytes = config(tree, repository, descriptor).await?.unwrap_or_default();
    let value: Option<Value> = serde_json::from_slice(&bytes).ok();
    Ok(value.filter(|value| value.get("rootfs").is_some() || value.get("architecture").is_some()))
}

/// Reads what a report says.
pub(super) struct Reporter<'a> {
    tree: &'a Tree,
    repository: &'a Repository,
    /// What was shown as a referrer: a tree that comes from elsewhere may claim circles.
    shown: HashSet<Digest>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(tree: &'a Tree, repository: &'a Repository) -> Self {
        Self { tree, repository, shown: HashSet::new() }
    }

    pub(super) async fn report(mut self, name: String, manifest: &Manifest) -> Result<Report, TreeError> {
        let mut report = self.manifest(manifest, None, 0).await?;
        let pointer = self.tree.resolve(self.repository, &Reference::Digest(report.digest)).await?;
        if let Some(pointer) = pointer {
            report.total_size = Some(self.tree.summary(self.repository, &pointer).await?.size);
        }
        report.name = Some(name);
        Ok(report)
    }

    async fn manifest(
        &mut self,
        manifest: &Manifest,
        entry: Option<&Descriptor>,
        depth: usize,
    ) -> Result<Report, TreeError> {
        let (tree, repository) = (self.tree, self.repository);
        let mut manifests = Vec::new();
        // A tree that a copy wrote is no deeper; another one is not followed without end.
        for child in manifest.manifests().iter().filter(|_| depth < MAX_DEPTH) {
            let found =
                if child.is_manifest() { tree.find(repository, &Reference::Digest(child.digest)).await? } else { None };
            manifests.push(match found {
                Some(found) => Box::pin(self.manifest(&found, Some(child), depth + 1)).await?,
                None => {
                    let there = !child.is_manifest() && tree.blob(repository, &child.digest, None).await?.is_some();
                    Report::of_entry(child, !there)
                }
            });
        }
        let image = image(tree, repository, manifest).await?;
        let platform = match entry {
            Some(entry) => entry.platform.clone(),
            None => image.as_ref().and_then(|image| serde_json::from_value(image.clone()).ok()),
        };
        let is_artifact = manifest.kind() != Kind::Image || manifest.subject().is_some() || image.is_none();
        Ok(Report {
            name: None,
            platform: platform.filter(|platform| !platform.is_unknown()).map(|platform| platform.to_string()),
            digest: *manifest.digest(),
            media_type: manifest.media_type().to_string(),
            size: manifest.bytes().len() as u64,
            total_size: None,
            artifact_type: manifest.artifact_type().filter(|_| is_artifact).map(str::to_owned),
            subject: manifest.subject().map(|subject| subject.digest),
            attests: entry.and_then(Descriptor::attests),
            annotations: manifest.annotations().clone(),
            config: manifest.config().map(Content::from),
            image,
            layers: manifest.layers().iter().map(Content::from).collect(),
            manifests,
            referrers: self.referrers(*manifest.digest(), 0).await?,
            absent: false,
        })
    }

    /// What the tree lists as referring to `subject`, and what cosign's tags name.
    async fn referrers(&mut self, subject: Digest, depth: usize) -> Result<Vec<Referrer>, TreeError> {
        let mut found = Vec::new();
        if let Some(object) = self.tree.referrers(self.repository, &subject).await? {
            let key = keys::referrers(self.repository, &subject);
            let bytes = object.body.into_bytes(MAX_MANIFEST_SIZE, &key).await?;
            let list = Manifest::parse(bytes, Algorithm::Sha256)
                .map_err(|source| TreeError::Damaged { key, source: Box::new(source) })?;
            found.extend(list.manifests().iter().map(|entry| (entry.clone(), None)));
        }
        for tag in Tag::cosign(&subject) {
            if let Some(manifest) = self.tree.find(self.repository, &Reference::Tag(tag.clone())).await? {
                let artifact_type = manifest.layers().first().map(|layer| layer.media_type.clone());
                let annotations = manifest.annotations().clone();
                found.push((Descriptor { artifact_type, annotations, ..manifest.descriptor() }, Some(tag)));
            }
        }
        let mut referrers = Vec::new();
        for (entry, tag) in found {
            if depth == MAX_DEPTH || self.shown.len() >= MAX_REFERRERS || !self.shown.insert(entry.digest) {
                continue;
            }
            referrers.push(Referrer {
                digest: entry.digest,
                media_type: entry.media_type,
                size: entry.size.unwrap_or(0),
                artifact_type: entry.artifact_type,
                tag,
                annotations: entry.annotations,
                referrers: Box::pin(self.referrers(entry.digest, depth + 1)).await?,
            });
        }
        Ok(referrers)
    }
}

impl Report {
    /// What an index says about one of its entries: a blob, or a manifest that the tree doesn't have.
    fn of_entry(entry: &Descriptor, absent: bool) -> Self {
        let platform = entry.platform.as_ref().filter(|platform| !platform.is_unknown());
        Self {
            name: None,
            platform: platform.map(ToString::to_string),
            digest: entry.digest,
            media_type: entry.media_type.clone(),
            size: entry.size.unwrap_or(0),
            total_size: None,
            artifact_type: entry.artifact_type.clone(),
            subject: None,
            attests: entry.attests(),
            annotations: entry.annotations.clone(),
            config: None,
            image: None,
            layers: Vec::new(),
            manifests: Vec::new(),
            referrers: Vec::new(),
            absent,
        }
    }
}

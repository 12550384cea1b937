//! What `docker save` writes, and what others write in its likeness.
//!
//! There are two forms, and some archives have both:
//!
//! - `manifest.json` names a config and layers for each image, but no manifest. One is made here, Docker's schema 2, the same
//!   for the same archive: the config as it is, each layer as it is. A layer that isn't compressed is named by its diff ID in
//!   the config, unread, since whoever copies it checks it against that; a compressed one (crane, kaniko, Bazel) is hashed.
//! - Docker since 25, and containerd, write an OCI layout beside it. Its manifests are taken if they are whole: with
//!   containerd's store they are those that were pulled, so that the image keeps its digest. If an index has one image of
//!   several, since the others were never pulled, that one is what the archive holds, as it is for `docker push`.
//!
//! An engine with the graph store keeps no manifests: those in its archives were made as they were written, and have a digest
//! that no registry knows (and, of 25.0, layers in any order). It gives itself away by `LayerSources` that say of each layer that
//! it isn't compressed: containerd's store and all others write none. There the table counts, as if the layout weren't there.
//!
//! Names are those of the layout, else the `RepoTags`. What Docker wrote before 1.10 has no `manifest.json` and is refused.

mod sink;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use tokio::io::AsyncRead;

use super::content::{Content, Files, Locate};
use super::image_layout;
use super::section::{Section, blocking};
use super::spool::Compression;
use super::tar::Tar;
use crate::image::{Collection, Held, RepositorySource, SourceError};
use crate::oci::{Algorithm, Descriptor, Digest, Kind, MAX_MANIFEST_SIZE, Manifest, MediaType, excerpt};

pub use sink::DockerArchiveSink;

/// The table of contents.
pub(super) const TABLE: &str = "manifest.json";
/// The largest one that is read.
const MAX_TABLE: u64 = 16 << 20;

/// The images in an archive.
#[derive(Debug)]
pub struct DockerArchive(Content);

impl DockerArchive {
    /// The archive in a file, which may be compressed by gzip or zstd; then it is unpacked to a file without a name in the
    /// folder `spool`.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotFound`] if there is no such file, [`SourceError::Invalid`] if it is no such archive, or one that no
    /// honest program writes.
    pub async fn open(path: &Path, spool: &Path) -> Result<Self, SourceError> {
        Self::new(Tar::open(path, format!("docker-archive:{}", path.display()), spool).await?).await
    }

    /// The archive that comes through `input`, such as standard input or a daemon's answer. It is written to a file without a
    /// name in the folder `spool`. `place` says for messages where it comes from.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and if `input` ends with an error.
    pub async fn read(
        input: impl AsyncRead + Send + Unpin + 'static,
        place: &str,
        spool: &Path,
    ) -> Result<Self, SourceError> {
        Self::new(Tar::read(input, place.to_owned(), spool).await?).await
    }

    async fn new(tar: Tar) -> Result<Self, SourceError> {
        blocking(move || Ok(Self(content(tar)?))).await
    }
}

#[async_trait]
impl Collection for DockerArchive {
    async fn images(&self) -> Result<Vec<Held>, SourceError> {
        self.0.images().await
    }

    fn content(&self) -> Box<dyn RepositorySource> {
        Box::new(self.0.clone())
    }
}

fn content(tar: Tar) -> Result<Content, SourceError> {
    let tar = Arc::new(tar);
    let has_table = tar.section(TABLE)?.is_some();
    let table: Option<Result<Vec<Entry>, _>> = has_table.then(|| image_layout::json(&*tar, TABLE, MAX_TABLE));
    let is_made_up = matches!(&table, Some(Ok(entries)) if is_of_a_graph_store(entries));
    if !is_made_up && image_layout::is_layout(&*tar)? {
        let layout = image_layout::content(tar.clone()).and_then(|layout| whole(&layout, &tar));
        // Without the other form there is nothing to fall back to.
        match layout {
            Err(_) if has_table => {}
            decided => return decided,
        }
    }
    let Some(table) = table else {
        let what = tar.place().to_owned();
        let problem = if tar.section("repositories")?.is_some() {
            "it was written by Docker before 1.10, without manifest.json: load it with Docker and save it again"
                .to_owned()
        } else {
            format!("it holds no images: it has no {TABLE}, and no index.json")
        };
        return Err(SourceError::Invalid { what, problem });
    };
    let mut synthesis = Synthesis { tar: &tar, sections: HashMap::new(), layers: HashMap::new() };
    let mut entries = Vec::new();
    for entry in table? {
        let descriptor = synthesis.image(&entry)?;
        let names = entry.repo_tags.unwrap_or_default();
        if names.is_empty() {
            entries.push(Held { name: None, descriptor: descriptor.clone() });
        }
        entries.extend(names.into_iter().map(|name| Held { name: Some(name), descriptor: descriptor.clone() }));
    }
    let sections = synthesis.sections;
    Ok(Content::new(tar.place(), entries, Sections(sections)))
}

/// The layout of an archive, if every image that it names is whole.
fn whole(layout: &Content, tar: &Arc<Tar>) -> Result<Content, SourceError> {
    let mut entries = Vec::new();
    for entry in layout.entries() {
        let manifest = layout.manifest_now(&entry.descriptor)?;
        let only = if manifest.kind() == Kind::Index { single(layout, &manifest) } else { None };
        if manifest.kind() != Kind::Index {
            expect_blobs(layout, &manifest)?;
        }
        entries.push(Held { name: entry.name.clone(), descriptor: only.unwrap_or_else(|| entry.descriptor.clone()) });
    }
    Ok(Content::new(tar.place(), entries, image_layout::Blobs(tar.clone())))
}

/// The one image of an index that is whole, if others aren't.
fn single(layout: &Content, index: &Manifest) -> Option<Descriptor> {
    let images = || index.children().filter(|child| child.attests().is_none());
    let is_whole =
        |child: &&Descriptor| layout.manifest_now(child).and_then(|manifest| expect_blobs(layout, &manifest)).is_ok();
    let mut whole = images().filter(is_whole);
    let first = whole.next()?;
    (whole.next().is_none() && images().count() > 1).then(|| first.clone())
}

fn expect_blobs(layout: &Content, manifest: &Manifest) -> Result<(), SourceError> {
    manifest.blobs().filter(|blob| !blob.is_nondistributable()).try_for_each(|blob| layout.expect_blob(&blob.digest))
}

/// An entry of the table of contents.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
    /// What layers are, by diff ID.
    layer_sources: Option<HashMap<String, LayerSource>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayerSource {
    #[serde(default)]
    media_type: String,
}

/// Whether the manifests beside this table were made up with it. One that was written by hand to seem so hides no more than its
/// own manifests.
fn is_of_a_graph_store(table: &[Entry]) -> bool {
    const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
    let is_told = |entry: &Entry, layer: &String| {
        let sources = entry.layer_sources.as_ref();
        let source = sources.zip(promised(layer)).and_then(|(sources, digest)| sources.get(&digest.to_string()));
        source.is_some_and(|source| source.media_type == PLAIN)
    };
    let mut layers =
        table.iter().flat_map(|entry| entry.layers.iter().flatten().map(move |layer| (entry, layer))).peekable();
    layers.peek().is_some() && layers.all(|(entry, layer)| is_told(entry, layer))
}

/// What of a config decides about its layers.
#[derive(serde::Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(serde::Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// Manifests in the making.
struct Synthesis<'a> {
    tar: &'a Tar,
    sections: HashMap<Digest, Section>,
    /// Compressed layers by their names: several images share them, and none is hashed twice.
    layers: HashMap<String, Digest>,
}

impl Synthesis<'_> {
    fn what(&self, name: &str) -> String {
        format!("{}: {}", self.tar.place(), excerpt(name))
    }

    fn named(&self, role: &str, name: &str) -> Result<Section, SourceError> {
        self.tar.section(name)?.ok_or_else(|| SourceError::Invalid {
            what: self.what(TABLE),
            problem: format!("it names the {role} {:?}, which is not in the archive", excerpt(name)),
        })
    }

    /// The manifest of an image, its content put where it is found by digest.
    fn image(&mut self, entry: &Entry) -> Result<Descriptor, SourceError> {
        let what = self.what(&entry.config);
        let invalid = |problem| SourceError::Invalid { what: what.clone(), problem };
        let section = self.named("config", &entry.config)?;
        let bytes = section.read(MAX_MANIFEST_SIZE, &what)?;
        let digest = Algorithm::Sha256.digest(&bytes);
        // Nothing but its name vouches for a config.
        if let Some(promised) = promised(&entry.config).filter(|promised| *promised != digest) {
            return Err(invalid(format!("its bytes are {digest}, and its name says {promised}")));
        }
        let config: Config = serde_json::from_slice(&bytes)
            .map_err(|e| SourceError::Failed { what: format!("reading {what}"), source: e.into() })?;
        let (diff_ids, names) = (&config.rootfs.diff_ids, entry.layers.as_deref().unwrap_or_default());
        if diff_ids.len() != names.len() {
            let problem = format!("it has {} diff IDs, and {TABLE} names {} layers", diff_ids.len(), names.len());
            return Err(invalid(problem));
        }
        self.sections.insert(digest, section);
        let mut layers = Vec::new();
        for (name, diff_id) in names.iter().zip(diff_ids) {
            layers.push(self.layer(name, diff_id)?);
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::DOCKER_MANIFEST,
            "config": descriptor("application/vnd.docker.container.image.v1+json", &digest, bytes.len() as u64),
            "layers": layers,
        });
        let manifest = Manifest::parse(manifest.to_string().into(), Algorithm::Sha256)
            .map_err(|source| SourceError::Manifest { what, source: Box::new(source) })?;
        self.sections.insert(*manifest.digest(), Section::Memory(manifest.bytes().clone()));
        Ok(manifest.descriptor())
    }

    fn layer(&mut self, name: &str, diff_id: &Digest) -> Result<serde_json::Value, SourceError> {
        const TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";
        let what = self.what(name);
        let section = self.named("layer", name)?;
        let (media_type, digest) = match Compression::of(&section.head(Compression::HEAD, &what)?) {
            Compression::None => (TAR.to_owned(), *diff_id),
            Compression::Other(program) => {
                let problem = format!("it is compressed by {program}, which no registry takes");
                return Err(SourceError::Invalid { what, problem });
            }
            compression => {
                let suffix = if compression == Compression::Gzip { "gzip" } else { "zstd" };
                let digest = match self.layers.get(name) {
                    Some(digest) => *digest,
                    None => section.digest(Algorithm::Sha256, &what)?,
                };
                self.layers.insert(name.to_owned(), digest);
                (format!("{TAR}.{suffix}"), digest)
            }
        };
        let layer = descriptor(&media_type, &digest, section.size());
        self.sections.insert(digest, section);
        Ok(layer)
    }
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> serde_json::Value {
    json!({ "mediaType": media_type, "size": size, "digest": digest })
}

/// The digest in the name of a config or a layer: `HEX.json`, `sha256:HEX`, `blobs/sha256/HEX`.
fn promised(name: &str) -> Option<Digest> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let hex = last.strip_suffix(".json").unwrap_or(last);
    format!("sha256:{}", hex.strip_prefix("sha256:").unwrap_or(hex)).parse().ok()
}

/// Finds what an archive names by other names than digests.
struct Sections(HashMap<Digest, Section>);

impl Locate for Sections {
    fn manifest(&self, digest: &Digest) -> Result<Option<Section>, SourceError> {
        Ok(self.0.get(digest).cloned())
    }

    fn blob(&self, digest: &Digest) -> Result<Option<Section>, SourceError> {
        Ok(self.0.get(digest).cloned())
    }

    fn is_made_here(&self, manifest: &Digest) -> bool {
        // Everything else lies in the archive.
        matches!(self.0.get(manifest), Some(Section::Memory(_)))
    }
}

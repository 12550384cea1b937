//! An OCI image layout, in a folder or in a tar archive.
//!
//! Its names are annotations of the entries of `index.json`: `io.containerd.image.name`, the whole name, is worth more than
//! `org.opencontainers.image.ref.name`, which most writers use for the tag alone. An entry without either counts as an image
//! if no other entry contains it or is its subject; some writers list everything they have.
//!
//! Source: image specification, *Image Layout* and *Annotations*.

mod sink;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::AsyncRead;

use super::content::{Content, Files, Locate};
use super::folder::Folder;
use super::section::{Section, blocking};
use super::tar::Tar;
use crate::image::{Collection, Held, RepositorySource, SourceError};
use crate::oci::{Descriptor, Digest};

pub use sink::ImageLayoutSink;
pub(super) use sink::{Spooled, closing, write_archive};

/// The annotation of an entry that has the whole name of the image.
pub(super) const FULL_NAME: &str = "io.containerd.image.name";
/// The annotation of an entry that has its tag, or whatever its writer took for the reference.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The file that says that a folder is a layout.
pub(super) const MARKER: &str = "oci-layout";
/// The table of contents.
pub(super) const INDEX: &str = "index.json";
/// The largest table of contents that is read: room for thirty thousand images.
pub(super) const MAX_INDEX: u64 = 16 << 20;

/// The images of a layout.
#[derive(Debug)]
pub struct ImageLayout(Content);

impl ImageLayout {
    /// The layout in a folder. Symbolic links in it are never followed.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotFound`] if there is no such folder, [`SourceError::Invalid`] if it is no layout.
    pub async fn open(folder: &Path) -> Result<Self, SourceError> {
        let (root, place) = (folder.to_owned(), format!("oci:{}", folder.display()));
        blocking(move || Ok(Self(content(Arc::new(Folder::open(&root, place)?))?))).await
    }

    /// The layout in a tar archive, which may be compressed by gzip or zstd; then it is unpacked to a file without a name in
    /// the folder `spool`.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotFound`] if there is no such file, [`SourceError::Invalid`] if it is no layout, or an archive that no
    /// honest program writes.
    pub async fn open_archive(file: &Path, spool: &Path) -> Result<Self, SourceError> {
        Self::new(Tar::open(file, format!("oci-archive:{}", file.display()), spool).await?).await
    }

    /// The layout in the tar archive that comes through `input`, such as standard input. It is written to a file without a
    /// name in the folder `spool`. `place` says for messages where it comes from.
    ///
    /// # Errors
    ///
    /// As [`open_archive`](Self::open_archive), and if `input` ends with an error.
    pub async fn read_archive(
        input: impl AsyncRead + Send + Unpin + 'static,
        place: &str,
        spool: &Path,
    ) -> Result<Self, SourceError> {
        Self::new(Tar::read(input, place.to_owned(), spool).await?).await
    }

    async fn new(tar: Tar) -> Result<Self, SourceError> {
        blocking(move || Ok(Self(content(Arc::new(tar))?))).await
    }
}

#[async_trait]
impl Collection for ImageLayout {
    async fn images(&self) -> Result<Vec<Held>, SourceError> {
        self.0.images().await
    }

    fn content(&self) -> Box<dyn RepositorySource> {
        Box::new(self.0.clone())
    }
}

/// The path of a blob, manifests among them.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// Whether there is a layout among these files.
pub(super) fn is_layout(files: &dyn Files) -> Result<bool, SourceError> {
    Ok(files.section(MARKER)?.is_some() && files.section(INDEX)?.is_some())
}

/// What a layout holds. Blocks.
pub(super) fn content<F: Files + 'static>(files: Arc<F>) -> Result<Content, SourceError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    #[derive(serde::Deserialize)]
    struct Index {
        /// Some writers put `null` where there are none.
        manifests: Option<Vec<Descriptor>>,
    }
    let place = files.place().to_owned();
    let marker: Marker = json(&*files, MARKER, 4096)?;
    if !marker.image_layout_version.starts_with("1.") {
        let problem = format!("version {:?} of the layout is not known, only 1", marker.image_layout_version);
        return Err(SourceError::Invalid { what: place, problem });
    }
    let index: Index = json(&*files, INDEX, MAX_INDEX)?;
    let entries =
        index.manifests.unwrap_or_default().into_iter().filter(Descriptor::is_manifest).map(|descriptor| Held {
            name: [FULL_NAME, REF_NAME].iter().find_map(|key| descriptor.annotations.get(*key)).cloned(),
            descriptor,
        });
    Ok(Content::new(&place, entries.collect(), Blobs(files)))
}

/// A file of JSON, which has to be there.
pub(super) fn json<T: serde::de::DeserializeOwned>(
    files: &dyn Files,
    name: &str,
    limit: u64,
) -> Result<T, SourceError> {
    let what = format!("{}: {name}", files.place());
    let Some(section) = files.section(name)? else {
        return Err(SourceError::Invalid { what: files.place().to_owned(), problem: format!("it has no {name}") });
    };
    let bytes = section.read(limit, &what)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| SourceError::Failed { what: format!("reading {what}"), source: e.into() })
}

/// Finds everything by its digest.
pub(super) struct Blobs<F>(pub(super) Arc<F>);

impl<F: Files> Locate for Blobs<F> {
    fn manifest(&self, digest: &Digest) -> Result<Option<Section>, SourceError> {
        self.0.section(&blob_path(digest))
    }

    fn blob(&self, digest: &Digest) -> Result<Option<Section>, SourceError> {
        self.0.section(&blob_path(digest))
    }
}

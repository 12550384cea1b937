//! skopeo's `dir:`: a folder with one image, its files named by the digits of their digests.
//!
//! `manifest.json` is the manifest, or the index; the manifests below an index are `HEX.manifest.json`, blobs are `HEX`. The
//! image has no name there. Signatures (`signature-1`) are not read.

mod sink;

use std::path::Path;

use async_trait::async_trait;

use super::content::{Content, Files as _, Locate};
use super::folder::Folder;
use super::section::{Section, blocking};
use crate::image::{Collection, Held, RepositorySource, SourceError};
use crate::oci::{Algorithm, Digest, MAX_MANIFEST_SIZE, Manifest};

pub use sink::DirSink;

/// The manifest, or the index.
pub(super) const MANIFEST: &str = "manifest.json";

/// The image in such a folder.
#[derive(Debug)]
pub struct Dir(Content);

impl Dir {
    /// The image in a folder. Symbolic links in it are never followed.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotFound`] if there is no such folder, [`SourceError::Invalid`] or [`SourceError::Manifest`] if it has no
    /// image.
    pub async fn open(folder: &Path) -> Result<Self, SourceError> {
        let (root, place) = (folder.to_owned(), format!("dir:{}", folder.display()));
        blocking(move || {
            let folder = Folder::open(&root, place)?;
            let what = format!("{}: {MANIFEST}", folder.place());
            let Some(section) = folder.section(MANIFEST)? else {
                let problem = format!("it has no {MANIFEST}");
                return Err(SourceError::Invalid { what: folder.place().to_owned(), problem });
            };
            let bytes = section.read(MAX_MANIFEST_SIZE, &what)?;
            let manifest = Manifest::parse(bytes, Algorithm::Sha256)
                .map_err(|source| SourceError::Manifest { what, source: Box::new(source) })?;
            let place = folder.place().to_owned();
            let held = Held { name: None, descriptor: manifest.descriptor() };
            Ok(Self(Content::new(&place, vec![held], Named { folder, top: *manifest.digest() })))
        })
        .await
    }
}

#[async_trait]
impl Collection for Dir {
    async fn images(&self) -> Result<Vec<Held>, SourceError> {
        self.0.images().await
    }

    fn content(&self) -> Box<dyn RepositorySource> {
        Box::new(self.0.clone())
    }
}

struct Named {
    folder: Folder,
    top: Digest,
}

impl Locate for Named {
    fn manifest(&self, digest: &Digest) -> Result<Option<Section>, SourceError> {
        if *digest == self.top {
            return self.folder.section(MANIFEST);
        }
        self.folder.section(&format!("{}.{MANIFEST}", digest.hex()))
    }

    fn blob(&self, digest: &Digest) -> Result<Option<Section>, SourceError> {
        self.folder.section(&digest.hex())
    }
}

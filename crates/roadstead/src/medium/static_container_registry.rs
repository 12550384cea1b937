//! A folder laid out for static-container-registry: for each tag a folder in skopeo's `dir:` form.
//!
//! ```text
//! images/<name>/<tag>/
//! ├── manifest.json          what the tag names
//! ├── <hex>.manifest.json    the manifests below an index
//! └── <hex>                  the blobs, by the digits of their digests
//! ```
//!
//! That program knows names of one component. Here they may have several: a folder with such a folder in it is a repository.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::dir::MANIFEST;
use super::shelf::{Layout, Shelf, Shelved, Visit, key};
use crate::image::{RepositorySource, Source, SourceError};
use crate::oci::{Digest, Reference, Repository, Tag};
use crate::store::{Key, Listed};

/// How many folders of tags are remembered. Those of all images that are copied at once should be among them.
const REMEMBERED: usize = 64;

/// Such a folder as a source of images.
pub struct StaticContainerRegistry(Shelved<Folders>);

impl StaticContainerRegistry {
    /// The images in a folder, or in the folder `images` in it. It may be mounted read-only.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotFound`] if there is no such folder, [`SourceError::Invalid`] if it has no images in that form.
    pub async fn open(folder: &Path) -> Result<Self, SourceError> {
        let place = format!("static-container-registry:{}", folder.display());
        let mut folders = Folders::new(Shelf::folder(folder, place.clone(), Some("images")).await?);
        // A repository may be called so, too.
        if folders.visit(folders.shelf.root()).await?.is_repository {
            folders = Folders::new(Shelf::folder(folder, place.clone(), None).await?);
        }
        let shelved = Shelved::new(folders);
        if shelved.is_anything_there().await {
            return Ok(Self(shelved));
        }
        let problem = format!("it has no images, which would be NAME/TAG/{MANIFEST}");
        Err(SourceError::Invalid { what: place, problem })
    }
}

#[async_trait]
impl Source for StaticContainerRegistry {
    async fn repositories(&self) -> Result<BoxStream<'_, Result<Repository, SourceError>>, SourceError> {
        self.0.repositories().await
    }

    fn repository(&self, name: &Repository) -> Box<dyn RepositorySource> {
        self.0.repository(name)
    }
}

struct Folders {
    shelf: Shelf,
    /// Where manifests were found last. Their blobs lie there, too, so that not every tag's folder has to be looked into.
    recent: Mutex<VecDeque<Key>>,
}

impl Folders {
    fn new(shelf: Shelf) -> Self {
        Self { shelf, recent: Mutex::default() }
    }

    fn remember(&self, folder: &Key) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|known| known != folder);
        recent.push_front(folder.clone());
        recent.truncate(REMEMBERED);
    }

    /// The remembered folders of a repository's tags.
    fn remembered(&self, repository: &Repository) -> Vec<Key> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.shelf.folder_of(repository);
        recent.iter().filter(|folder| folder.parent().as_ref() == Some(&own)).cloned().collect()
    }

    /// The folders of a repository's tags.
    fn folders(&self, repository: &Repository) -> BoxStream<'_, Result<Key, SourceError>> {
        let own = self.shelf.folder_of(repository);
        stream::once(async move { self.shelf.list(&own) })
            .flatten()
            .try_filter_map(async |listed| {
                let Listed::Prefix(folder) = listed else { return Ok(None) };
                Ok(self.shelf.has(&manifest_in(&folder)).await?.then_some(folder))
            })
            .boxed()
    }
}

fn manifest_in(folder: &Key) -> Key {
    key(&format!("{folder}/{MANIFEST}"))
}

#[async_trait]
impl Layout for Folders {
    fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    async fn visit(&self, folder: &Key) -> Result<Visit, SourceError> {
        let mut visit = Visit::default();
        let mut below = self.shelf.list(folder);
        while let Some(listed) = below.try_next().await? {
            let Listed::Prefix(child) = listed else { continue };
            if self.shelf.has(&manifest_in(&child)).await? {
                visit.is_repository = true;
            } else {
                visit.below.push(child);
            }
        }
        Ok(visit)
    }

    fn tags(&self, repository: &Repository) -> BoxStream<'_, Result<Tag, SourceError>> {
        self.folders(repository).and_then(async |folder| self.shelf.tag(&folder)).boxed()
    }

    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<(Key, Option<Digest>)>, SourceError> {
        let digest = match reference {
            Reference::Tag(tag) => {
                let folder = self.shelf.key(repository, tag.as_str());
                let at = manifest_in(&folder);
                self.remember(&folder);
                return Ok(self.shelf.has(&at).await?.then_some((at, None)));
            }
            Reference::Digest(digest) => digest,
        };
        let remembered = stream::iter(self.remembered(repository)).map(Ok);
        let mut folders = remembered.chain(self.folders(repository));
        while let Some(folder) = folders.try_next().await? {
            let child = key(&format!("{folder}/{}.{MANIFEST}", digest.hex()));
            let top = manifest_in(&folder);
            let found = if self.shelf.has(&child).await? {
                Some(child)
            } else {
                // One that can't be read is found when its tag is asked for.
                let named = self.shelf.digest(&top, digest.algorithm()).await?;
                (named == Some(*digest)).then_some(top)
            };
            if let Some(at) = found {
                self.remember(&folder);
                return Ok(Some((at, Some(*digest))));
            }
        }
        Ok(None)
    }

    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Key>, SourceError> {
        let remembered = stream::iter(self.remembered(repository)).map(Ok);
        let mut folders = remembered.chain(self.folders(repository));
        while let Some(folder) = folders.try_next().await? {
            let at = key(&format!("{folder}/{}", digest.hex()));
            if self.shelf.has(&at).await? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}

//! A folder laid out for registrish: the paths of the distribution API as plain files.
//!
//! ```text
//! v2/<name>/
//! ├── manifests/<tag>        the bytes of what the tag names
//! ├── manifests/<digest>     the same, and every other manifest
//! └── blobs/<digest>
//! ```
//!
//! Beside them may lie what a web server was told with: `.htaccess`, `error.json`.

use std::path::Path;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::shelf::{Layout, Shelf, Shelved, Visit};
use crate::image::{RepositorySource, Source, SourceError};
use crate::oci::{Digest, Reference, Repository, Tag};
use crate::store::{Key, Listed};

/// Such a folder as a source of images.
pub struct Registrish(Shelved<Files>);

impl Registrish {
    /// The images in a folder: `v2`, or the one that holds it. It may be mounted read-only.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotFound`] if there is no such folder, [`SourceError::Invalid`] if it has no images in that form.
    pub async fn open(folder: &Path) -> Result<Self, SourceError> {
        let place = format!("registrish:{}", folder.display());
        let shelved = Shelved::new(Files { shelf: Shelf::folder(folder, place.clone(), Some("v2")).await? });
        if shelved.is_anything_there().await {
            return Ok(Self(shelved));
        }
        let problem = "it has no images, which would be v2/NAME/manifests/TAG".to_owned();
        Err(SourceError::Invalid { what: place, problem })
    }
}

#[async_trait]
impl Source for Registrish {
    async fn repositories(&self) -> Result<BoxStream<'_, Result<Repository, SourceError>>, SourceError> {
        self.0.repositories().await
    }

    fn repository(&self, name: &Repository) -> Box<dyn RepositorySource> {
        self.0.repository(name)
    }
}

struct Files {
    shelf: Shelf,
}

#[async_trait]
impl Layout for Files {
    fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    async fn visit(&self, folder: &Key) -> Result<Visit, SourceError> {
        let mut visit = Visit::default();
        let mut below = self.shelf.list(folder);
        while let Some(listed) = below.try_next().await? {
            let Listed::Prefix(child) = listed else { continue };
            if child.name() != "manifests" {
                visit.below.push(child);
                continue;
            }
            // A repository's own folder, a component of another's name, or both.
            let mut names = self.shelf.list(&child);
            let mut passes_through = false;
            while let Some(name) = names.try_next().await? {
                match name {
                    Listed::Object(name) => visit.is_repository |= name.name().parse::<Reference>().is_ok(),
                    Listed::Prefix(_) => passes_through = true,
                }
            }
            if passes_through {
                visit.below.push(child);
            }
        }
        Ok(visit)
    }

    fn tags(&self, repository: &Repository) -> BoxStream<'_, Result<Tag, SourceError>> {
        let folder = self.shelf.key(repository, "manifests");
        stream::once(async move { self.shelf.list(&folder) })
            .flatten()
            .try_filter_map(async |listed| match listed {
                Listed::Object(key) if key.name().starts_with('.') || key.name().parse::<Digest>().is_ok() => Ok(None),
                Listed::Object(key) => self.shelf.tag(&key).map(Some),
                Listed::Prefix(_) => Ok(None),
            })
            .boxed()
    }

    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<(Key, Option<Digest>)>, SourceError> {
        let at = self.shelf.key(repository, &format!("manifests/{reference}"));
        let digest = match reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(_) => None,
        };
        Ok(self.shelf.has(&at).await?.then_some((at, digest)))
    }

    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Key>, SourceError> {
        let at = self.shelf.key(repository, &format!("blobs/{digest}"));
        Ok(self.shelf.has(&at).await?.then_some(at))
    }
}

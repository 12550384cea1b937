//! The storage of the distribution project's registry (`registry:2`, `registry:3`): a folder, or a bucket.
//!
//! ```text
//! docker/registry/v2/
//! ├── repositories/<name>/
//! │   ├── _manifests/tags/<tag>/current/link             the digest of what the tag names
//! │   ├── _manifests/revisions/<algorithm>/<hex>/link    that the repository has this manifest
//! │   └── _layers/<algorithm>/<hex>/link                 that the repository has this blob
//! └── blobs/<algorithm>/<first two of hex>/<hex>/data    the bytes of all manifests and blobs
//! ```
//!
//! A `link` is a file with the text of a digest. It is read beside a registry that runs: a registry writes bytes before the
//! links to them, and a tag last.
//!
//! Source: distribution, `registry/storage/paths.go`.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::section;
use super::shelf::{self, Layout, Shelf, Shelved, Visit, key};
use crate::image::{RepositorySource, Source, SourceError};
use crate::oci::{Algorithm, Digest, Reference, Repository, Tag, excerpt};
use crate::store::{Key, Listed, LocalStore, Store};

/// The levels that a store may begin at, the outermost first.
const LEVELS: [&str; 4] = ["docker/registry/v2/", "registry/v2/", "v2/", ""];

/// The longest link: that of sha512 has 135 bytes.
const MAX_LINK: u64 = 256;

/// The storage of a registry as a source of images.
pub struct DistributionDisk(Shelved<Disk>);

impl DistributionDisk {
    /// The storage in a folder: the one that holds `docker/registry/v2`, or one on the way there. It may be mounted read-only.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotFound`] if there is no such folder, [`SourceError::Invalid`] if no registry has written to it.
    pub async fn open(folder: &Path) -> Result<Self, SourceError> {
        let (folder, place) = (folder.to_owned(), format!("distribution:{}", folder.display()));
        let (store, place) = section::blocking(move || {
            let folder = shelf::canonical(&folder, &place)?;
            Ok((LocalStore::open(&folder).map_err(shelf::failed)?, place))
        })
        .await?;
        Self::in_store(Arc::new(store), place).await
    }

    /// The storage in a store, such as a bucket, that people call `place`.
    ///
    /// # Errors
    ///
    /// [`SourceError::Invalid`] if no registry has written to it.
    pub async fn in_store(store: Arc<dyn Store>, place: String) -> Result<Self, SourceError> {
        for level in LEVELS {
            let root = key(&format!("{level}repositories"));
            let is_there = store.list(&root).try_next().await.map_err(shelf::failed)?.is_some();
            if is_there {
                return Ok(Self(Shelved::new(Disk { shelf: Shelf::new(place, store, root), level })));
            }
        }
        let problem = "no registry keeps its images there: name the folder that holds docker/registry/v2".to_owned();
        Err(SourceError::Invalid { what: place, problem })
    }
}

#[async_trait]
impl Source for DistributionDisk {
    async fn repositories(&self) -> Result<BoxStream<'_, Result<Repository, SourceError>>, SourceError> {
        self.0.repositories().await
    }

    fn repository(&self, name: &Repository) -> Box<dyn RepositorySource> {
        self.0.repository(name)
    }
}

struct Disk {
    shelf: Shelf,
    /// What stands before `blobs` and `repositories`.
    level: &'static str,
}

impl Disk {
    /// The bytes of a digest.
    fn data(&self, digest: &Digest) -> Key {
        let (level, algorithm, hex) = (self.level, digest.algorithm(), digest.hex());
        key(&format!("{level}blobs/{algorithm}/{}/{hex}/data", &hex[..2]))
    }

    async fn link(&self, key: &Key) -> Result<Option<Digest>, SourceError> {
        let Some(bytes) = self.shelf.read(key, MAX_LINK).await? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        text.trim_end().parse().map(Some).map_err(|_| SourceError::Invalid {
            what: self.shelf.describe(key),
            problem: format!("it holds {:?}, which is no digest", excerpt(&text)),
        })
    }

    /// Whether a repository has something of that digest, in one of its folders of links.
    async fn links(&self, repository: &Repository, folder: &str, digest: &Digest) -> Result<bool, SourceError> {
        let key = self.shelf.key(repository, &format!("{folder}/{}/{}/link", digest.algorithm(), digest.hex()));
        match self.link(&key).await? {
            Some(named) if named != *digest => Err(SourceError::Invalid {
                what: self.shelf.describe(&key),
                problem: format!("it holds {named}, which is not the digest that it lies under"),
            }),
            named => Ok(named.is_some()),
        }
    }

    /// Whether a manifest of the repository names a blob. Asked only for a blob without a link, which no registry of today leaves.
    async fn is_named(&self, repository: &Repository, blob: &Digest) -> Result<bool, SourceError> {
        for algorithm in Algorithm::ALL {
            let folder = self.shelf.key(repository, &format!("_manifests/revisions/{algorithm}"));
            let mut revisions = self.shelf.list(&folder);
            while let Some(listed) = revisions.try_next().await? {
                let Listed::Prefix(revision) = listed else { continue };
                let Ok(digest) = format!("{algorithm}:{}", revision.name()).parse::<Digest>() else { continue };
                if self.links(repository, "_manifests/revisions", &digest).await?
                    && let Some(manifest) = self.shelf.manifest(&self.data(&digest), Some(&digest)).await?
                    && manifest.blobs().any(|named| named.digest == *blob)
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

#[async_trait]
impl Layout for Disk {
    fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    async fn visit(&self, folder: &Key) -> Result<Visit, SourceError> {
        let mut visit = Visit::default();
        let mut below = self.shelf.list(folder);
        while let Some(listed) = below.try_next().await? {
            match listed {
                Listed::Prefix(child) if child.name() == "_manifests" => visit.is_repository = true,
                // No name of a repository has a component that begins so.
                Listed::Prefix(child) if child.name().starts_with('_') => {}
                Listed::Prefix(child) => visit.below.push(child),
                Listed::Object(_) => {}
            }
        }
        Ok(visit)
    }

    fn tags(&self, repository: &Repository) -> BoxStream<'_, Result<Tag, SourceError>> {
        let folder = self.shelf.key(repository, "_manifests/tags");
        stream::once(async move { self.shelf.list(&folder) })
            .flatten()
            .try_filter_map(async |listed| {
                let Listed::Prefix(folder) = listed else { return Ok(None) };
                // A tag that is being deleted loses its link first.
                let link = key(&format!("{folder}/current/link"));
                if self.shelf.has(&link).await? { self.shelf.tag(&folder).map(Some) } else { Ok(None) }
            })
            .boxed()
    }

    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<(Key, Option<Digest>)>, SourceError> {
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(tag) => {
                let link = self.shelf.key(repository, &format!("_manifests/tags/{tag}/current/link"));
                let Some(digest) = self.link(&link).await? else { return Ok(None) };
                digest
            }
        };
        let is_there = self.links(repository, "_manifests/revisions", &digest).await?;
        Ok(is_there.then(|| (self.data(&digest), Some(digest))))
    }

    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Key>, SourceError> {
        let is_there = self.links(repository, "_layers", digest).await? || self.is_named(repository, digest).await?;
        Ok(is_there.then(|| self.data(digest)))
    }
}

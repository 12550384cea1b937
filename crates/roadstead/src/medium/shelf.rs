//! Registries at rest: folders and buckets that others own, in which everything lies under a key that its name gives.
//!
//! A [`Layout`] says which key that is; what a source owes beyond it is here. A shelf is read through a [`Store`], so what holds
//! for a folder holds for a bucket. Nothing is written to it, no symbolic link in it is followed, and what it says is as
//! untrusted as what comes over a network.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::section;
use crate::image::{ByteStream, RepositorySource, Source, SourceError};
use crate::oci::{
    Algorithm, Descriptor, Digest, Kind, MAX_MANIFEST_SIZE, Manifest, ManifestError, Reference, Repository, Tag,
};
use crate::store::{Key, Listed, LocalStore, Object, Store, StoreError};

/// The most bytes that a repository's name has, so that no folder deeper than that can be one.
const MAX_NAME: usize = 255;

/// A part of a store, and what people call it.
pub(super) struct Shelf {
    place: String,
    store: Arc<dyn Store>,
    /// The folder below which each repository has its own.
    root: Key,
}

impl Shelf {
    pub(super) fn new(place: String, store: Arc<dyn Store>, root: Key) -> Self {
        Self { place, store, root }
    }

    /// A folder of this machine: `inner` in it if there is such a folder, else itself.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotFound`] if there is no such folder.
    pub(super) async fn folder(folder: &Path, place: String, inner: Option<&'static str>) -> Result<Self, SourceError> {
        let folder = folder.to_owned();
        section::blocking(move || {
            let folder = canonical(&folder, &place)?;
            let within =
                inner.filter(|inner| fs::symlink_metadata(folder.join(inner)).is_ok_and(|metadata| metadata.is_dir()));
            let (below, name) = match (within, folder.parent(), folder.file_name()) {
                (Some(inner), ..) => (&*folder, Some(inner)),
                (None, Some(above), Some(name)) => (above, name.to_str()),
                (None, ..) => (&*folder, None),
            };
            let Some(root) = name.and_then(|name| name.parse().ok()) else {
                let problem = "its name has bytes that can't be read as text".to_owned();
                return Err(SourceError::Invalid { what: place, problem });
            };
            let store = LocalStore::open(below).map_err(failed)?;
            Ok(Self::new(place, Arc::new(store), root))
        })
        .await
    }

    /// How people write the whole: `registrish:FOLDER`.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn root(&self) -> &Key {
        &self.root
    }

    /// A key of a repository's folder; `rest` is ours, or made of parsed names.
    pub(super) fn key(&self, repository: &Repository, rest: &str) -> Key {
        key(&format!("{}/{repository}/{rest}", self.root))
    }

    /// A repository's folder.
    pub(super) fn folder_of(&self, repository: &Repository) -> Key {
        key(&format!("{}/{repository}", self.root))
    }

    /// An object, which is never a link.
    pub(super) async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>, SourceError> {
        match self.store.get(key, range).await.map_err(failed)? {
            Some(object) if object.entry.target.is_some() => Err(self.link(key)),
            other => Ok(other),
        }
    }

    /// The bytes of a small object, at most `limit`.
    pub(super) async fn read(&self, key: &Key, limit: u64) -> Result<Option<Bytes>, SourceError> {
        let Some(object) = self.get(key, None).await? else { return Ok(None) };
        let size = object.entry.size;
        if size > limit {
            let problem = format!("it has {size} bytes, and at most {limit} are accepted");
            return Err(SourceError::Invalid { what: self.describe(key), problem });
        }
        object.body.into_bytes(limit, key).await.map(Some).map_err(failed)
    }

    /// Whether there is an object, which is never a link.
    pub(super) async fn has(&self, key: &Key) -> Result<bool, SourceError> {
        match self.store.head(key).await.map_err(failed)? {
            Some(entry) if entry.target.is_some() => Err(self.link(key)),
            entry => Ok(entry.is_some()),
        }
    }

    pub(super) fn list(&self, prefix: &Key) -> BoxStream<'_, Result<Listed, SourceError>> {
        self.store.list(prefix).map_err(failed).boxed()
    }

    /// The manifest under a key.
    pub(super) async fn manifest(&self, at: &Key, expected: Option<&Digest>) -> Result<Option<Manifest>, SourceError> {
        let Some(object) = self.get(at, None).await? else { return Ok(None) };
        let unusable = |source| SourceError::Manifest { what: self.describe(at), source: Box::new(source) };
        if object.entry.size > MAX_MANIFEST_SIZE {
            return Err(unusable(ManifestError::TooLarge(object.entry.size)));
        }
        let bytes = object.body.into_bytes(MAX_MANIFEST_SIZE, at).await.map_err(failed)?;
        let algorithm = expected.map_or(Algorithm::Sha256, Digest::algorithm);
        let manifest = Manifest::parse(bytes, algorithm).map_err(unusable)?;
        match expected {
            Some(expected) if expected != manifest.digest() => {
                Err(unusable(ManifestError::Digest { expected: *expected, actual: *manifest.digest() }))
            }
            _ => Ok(Some(manifest)),
        }
    }

    /// The digest of the manifest under a key; `None` if there is none that can be read.
    pub(super) async fn digest(&self, at: &Key, algorithm: Algorithm) -> Result<Option<Digest>, SourceError> {
        let bytes = match self.read(at, MAX_MANIFEST_SIZE).await {
            Err(SourceError::Invalid { .. }) => None,
            other => other?,
        };
        Ok(bytes.and_then(|bytes| Manifest::parse(bytes, algorithm).ok()).map(|manifest| *manifest.digest()))
    }

    /// How people write a key.
    pub(super) fn describe(&self, key: &Key) -> String {
        format!("{}: {key}", self.place)
    }

    /// The last component of a key as the tag that it has to be.
    pub(super) fn tag(&self, key: &Key) -> Result<Tag, SourceError> {
        let problem = || SourceError::Invalid { what: self.describe(key), problem: "its name is no tag".to_owned() };
        key.name().parse().map_err(|_| problem())
    }

    fn link(&self, key: &Key) -> SourceError {
        let problem = "it is a symbolic link, and those are not followed".to_owned();
        SourceError::Invalid { what: self.describe(key), problem }
    }
}

/// The folder without links on the way to it. It may itself be one.
pub(super) fn canonical(folder: &Path, place: &str) -> Result<std::path::PathBuf, SourceError> {
    let canonical = fs::canonicalize(folder).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => SourceError::NotFound { what: place.to_owned(), source: None },
        _ => section::failed(place, e),
    })?;
    if canonical.is_dir() {
        return Ok(canonical);
    }
    Err(SourceError::Invalid { what: place.to_owned(), problem: "it is no folder".to_owned() })
}

/// A key of parsed names and words of ours.
pub(super) fn key(text: &str) -> Key {
    text.parse().expect("parsed names make keys")
}

/// What a store's error means for whoever wanted an image.
pub(super) fn failed(error: StoreError) -> SourceError {
    match error {
        StoreError::Io { operation, what, source } => {
            SourceError::Failed { what: format!("{operation} {what}"), source }
        }
        StoreError::Escape { what, .. } => {
            SourceError::Invalid { what, problem: "it is a symbolic link, and those are not followed".to_owned() }
        }
        error => SourceError::Failed { what: "reading".to_owned(), source: error.into() },
    }
}

/// What a folder is.
#[derive(Default)]
pub(super) struct Visit {
    pub(super) is_repository: bool,
    /// The folders in it that repositories may be in.
    pub(super) below: Vec<Key>,
}

/// Which key everything lies under.
#[async_trait]
pub(super) trait Layout: Send + Sync + 'static {
    fn shelf(&self) -> &Shelf;

    /// Looks at a folder, the root or one below it.
    async fn visit(&self, folder: &Key) -> Result<Visit, SourceError>;

    /// The tags of a repository.
    fn tags(&self, repository: &Repository) -> BoxStream<'_, Result<Tag, SourceError>>;

    /// Where the manifest is that a reference names, and its digest if the layout says so; `None` if there is no such name.
    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<(Key, Option<Digest>)>, SourceError>;

    /// Where a blob of a repository is; `None` if the repository hasn't got it.
    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Key>, SourceError>;
}

/// The images on a shelf. Clones share it.
pub(super) struct Shelved<L>(Arc<L>);

impl<L: Layout> Shelved<L> {
    pub(super) fn new(layout: L) -> Self {
        Self(Arc::new(layout))
    }

    /// Whether there is a repository, or something that makes looking for one fail.
    pub(super) async fn is_anything_there(&self) -> bool {
        self.walk().next().await.is_some()
    }

    /// The repositories, in no promised order. Holds as many names as the folders on the way down have.
    fn walk(&self) -> BoxStream<'_, Result<Repository, SourceError>> {
        let (layout, shelf) = (&self.0, self.0.shelf());
        let above = shelf.root().as_str().len() + 1;
        stream::try_unfold(vec![shelf.root().clone()], move |mut open| async move {
            while let Some(folder) = open.pop() {
                let Visit { is_repository, below } = layout.visit(&folder).await?;
                open.extend(below.into_iter().filter(|below| below.as_str().len() - above <= MAX_NAME));
                if !is_repository {
                    continue;
                }
                let repository = folder.as_str().get(above..).unwrap_or_default().parse().map_err(|_| {
                    let problem = "it holds images, and its name is not that of a repository".to_owned();
                    SourceError::Invalid { what: shelf.describe(&folder), problem }
                })?;
                return Ok(Some((repository, open)));
            }
            Ok(None)
        })
        .boxed()
    }
}

#[async_trait]
impl<L: Layout> Source for Shelved<L> {
    async fn repositories(&self) -> Result<BoxStream<'_, Result<Repository, SourceError>>, SourceError> {
        Ok(self.walk())
    }

    fn repository(&self, name: &Repository) -> Box<dyn RepositorySource> {
        Box::new(ShelvedRepository { layout: self.0.clone(), repository: name.clone() })
    }
}

struct ShelvedRepository<L> {
    layout: Arc<L>,
    repository: Repository,
}

impl<L: Layout> ShelvedRepository<L> {
    async fn find(&self, reference: &Reference) -> Result<Manifest, SourceError> {
        let Some((at, digest)) = self.layout.manifest(&self.repository, reference).await? else {
            return Err(SourceError::NotFound { what: self.describe(reference), source: None });
        };
        let manifest = self.layout.shelf().manifest(&at, digest.as_ref()).await?;
        manifest.ok_or_else(|| gone(self.describe(reference), &at))
    }
}

/// The error for what has a name and no bytes.
fn gone(what: String, at: &Key) -> SourceError {
    SourceError::NotFound { what, source: Some(format!("there is no file {at}").into()) }
}

#[async_trait]
impl<L: Layout> RepositorySource for ShelvedRepository<L> {
    fn describe(&self, reference: &Reference) -> String {
        let (place, repository) = (self.layout.shelf().place(), &self.repository);
        match reference {
            Reference::Tag(tag) => format!("{place}//{repository}:{tag}"),
            Reference::Digest(digest) => format!("{place}//{repository}@{digest}"),
        }
    }

    async fn resolve(&self, reference: &Reference) -> Result<Descriptor, SourceError> {
        Ok(self.find(reference).await?.descriptor())
    }

    async fn manifest(&self, expected: &Descriptor) -> Result<Manifest, SourceError> {
        let reference = Reference::Digest(expected.digest);
        let manifest = self.find(&reference).await?;
        let actual = manifest.bytes().len() as u64;
        match expected.size.filter(|expected| *expected != actual) {
            None => Ok(manifest),
            Some(expected) => Err(SourceError::Manifest {
                what: self.describe(&reference),
                source: Box::new(ManifestError::WrongSize { expected, actual }),
            }),
        }
    }

    async fn blob(&self, expected: &Descriptor, from: u64) -> Result<ByteStream, SourceError> {
        let (shelf, digest) = (self.layout.shelf(), &expected.digest);
        let what = || format!("{}//{}: blob {digest}", shelf.place(), self.repository);
        let Some(at) = self.layout.blob(&self.repository, digest).await? else {
            return Err(SourceError::NotFound { what: what(), source: None });
        };
        let object = shelf.get(&at, Some(from..u64::MAX)).await?.ok_or_else(|| gone(what(), &at))?;
        match expected.size.filter(|size| *size != object.entry.size) {
            None => Ok(object.body.into_stream(&at).map_err(failed).boxed()),
            Some(size) => {
                let problem = format!("it has {} bytes, expected {size}", object.entry.size);
                Err(SourceError::Invalid { what: what(), problem })
            }
        }
    }

    async fn location(&self, expected: &Descriptor) -> Result<Option<String>, SourceError> {
        let store = &self.layout.shelf().store;
        // Asked first, since folders lie nowhere in this sense.
        if store.location(self.layout.shelf().root()).is_none() {
            return Ok(None);
        }
        let at = self.layout.blob(&self.repository, &expected.digest).await?;
        Ok(at.and_then(|at| store.location(&at)))
    }

    /// Without the names of lists of referrers, which [`referrers`](RepositorySource::referrers) reads.
    fn tags(&self) -> BoxStream<'_, Result<Tag, SourceError>> {
        let tags = self.layout.tags(&self.repository);
        tags.try_filter(|tag| std::future::ready(!tag.is_referrers_fallback())).boxed()
    }

    /// By the tag that clients keep where a registry has no such list.
    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, SourceError> {
        let fallback = Reference::Tag(Tag::referrers_fallback(subject));
        match self.find(&fallback).await {
            Ok(index) if index.kind() == Kind::Index => Ok(index.manifests().to_vec()),
            Ok(_) => Err(SourceError::Invalid {
                what: self.describe(&fallback),
                problem: "it names what refers to a manifest, and is no index".to_owned(),
            }),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

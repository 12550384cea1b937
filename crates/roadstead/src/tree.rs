//! The registry tree: the only code that knows a path.
//!
//! ```text
//! v2/                                  what clients ask for
//! ├── index.html                       answers GET /v2/ on a host with directory indexes
//! ├── _catalog                         {"repositories": [...]}
//! └── <repository>/
//!     ├── manifests/<tag>              → content/manifests/<type>/<subtype>/<digest>
//!     ├── manifests/<digest>           → the same
//!     ├── manifests/<alg>-<hex>        the referrers of a subject, for clients that ask by tag
//!     ├── blobs/<digest>               → content/blobs/<digest>
//!     ├── tags/list                    {"name": ..., "tags": [...]}
//!     └── referrers/<digest>           an image index
//! content/                             the bytes, each once
//! .roadstead/                          private: format version, locks, temporary files, what was left out, what images
//!                                      name, what is not for everybody
//! ```
//!
//! A name is a link whose target spells media type and digest, so a tag moves in one instant with everything that it is
//! answered with. Where a store has no links ([`Naming::Copies`], a bucket), the objects themselves lie under `v2/`, with
//! their media type and digest as headers. `docs/format.md` is the normative description.
//!
//! Everything that is derived (lists, catalogue, referrers) can be made again from the links and bytes.

mod diff;
mod fence;
mod graph;
mod holding;
pub mod keys;
mod left_out;
mod lists;
mod mend;
mod needs;
mod pattern;
mod private;
mod prune;
mod remove;
mod renew;
mod shown;
mod sink;
mod source;
mod splice;
mod spread;
mod summary;
mod unnamed;
mod usage;
mod verify;
mod walk;

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::oci::{
    Descriptor, Digest, MAX_CONFIG_SIZE, MAX_DESCRIPTORS, MAX_MANIFEST_SIZE, Manifest, ManifestError, MediaType,
    Reference, Repository,
};
use crate::store::{Condition, Headers, Key, Naming, Object, Reach, Small, Store, StoreError};
pub use diff::{Difference, Side};
pub use holding::{Holding, ListOfReferrers};
pub(crate) use holding::{Keys, Surveyed, place};
use keys::Content;
pub(crate) use left_out::record;
pub(crate) use lists::{list_of_repositories, list_of_tags};
pub use mend::RefetchError;
pub use pattern::{Pattern, PatternError};
pub use private::Private;
pub use prune::{GRACE, PruneOptions, Pruned, Pruning, Thinned};
pub use remove::Removed;
pub use shown::Shown;
pub use sink::Lack;
pub(crate) use sink::Publishing;
pub use source::TreeSource;
pub use summary::Summary;
pub use usage::{RepositoryUsage, Usage};
pub use verify::{Derived, Finding, Verified, VerifyOptions, Verifying, Watch};

/// The version of the format that this code reads and writes.
pub const FORMAT: u64 = 1;

/// The version of the headers that objects get in a bucket: raised whenever anything about them changes, so that whoever publishes
/// renews those that are there.
const HEADERS: u64 = 1;

/// For how long an answer holds that a digest names: its bytes are the same for ever.
pub(crate) const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// Tags, lists and referrers change; a minute keeps a cache in front useful and its staleness bearable.
pub(crate) const SHORTLY: &str = "public, max-age=60";

/// From which size on it is worth a request to say that a repository of a bucket holds a blob: whatever fits into one request is
/// sent in fewer than it takes to note it, to find it and to have it copied.
pub(crate) const WORTH_A_HINT: u64 = (8 << 20) + 1;

/// The headers of a list.
fn derived() -> Headers {
    Headers { content_type: Some(MediaType::JSON), digest: None, cache_control: Some(SHORTLY.into()) }
}

/// The headers of a blob, whose type no client reads here.
fn blob_headers(digest: &Digest) -> Headers {
    Headers { content_type: None, digest: Some(*digest), cache_control: Some(FOR_EVER.into()) }
}

/// The headers of a manifest under a name that is its digest, or changes.
fn manifest_headers(media_type: &MediaType, digest: &Digest, name: &Reference) -> Headers {
    let caching = match name {
        Reference::Digest(_) => FOR_EVER,
        Reference::Tag(_) => SHORTLY,
    };
    Headers { content_type: Some(media_type.clone()), digest: Some(*digest), cache_control: Some(caching.into()) }
}

/// What a name leads to, as the target of its link spells it.
fn pointer(reference: &Reference, key: &Key, target: Key) -> Result<Pointer, TreeError> {
    match keys::content(&target) {
        Some(Content::Manifest(media_type, digest)) if !matches!(reference, Reference::Digest(named) if *named != digest) => {
            Ok(Pointer { media_type, digest, at: target })
        }
        _ => Err(TreeError::Misled { key: key.clone(), target }),
    }
}

/// A registry tree in a store. Clones share it.
#[derive(Clone)]
pub struct Tree(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    /// Blobs that this process has finished and whose names the store holds back until its next sync.
    unsynced: Arc<sink::Unsynced>,
    unlisted: Arc<sink::Unlisted>,
    known: Arc<lists::Known>,
    noted: Arc<needs::Noted>,
    /// Whom others see at work in the store, if somebody is.
    beside: Option<fence::Beside>,
    /// What was announced for pushes.
    together: Arc<fence::Together>,
    /// How often a removal had begun or ended when that was last looked at.
    removals: Arc<AtomicU64>,
    /// What time it was for the store when it proved that it refuses what is late, and when that was.
    fenced: OnceCell<(SystemTime, Instant)>,
    /// The version of the headers of what is there, once it is known.
    headers: Arc<OnceLock<u64>>,
}

/// What a reference leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// The manifest's media type.
    pub media_type: MediaType,
    /// The manifest's digest.
    pub digest: Digest,
    /// Where its bytes lie.
    pub at: Key,
}

/// What a tree couldn't do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no tree.
    #[error("there is no registry tree at {0}")]
    Absent(String),
    /// The tree was written by a newer version.
    #[error("the tree at {place} has format {found}, and this version of roadstead knows formats up to {FORMAT}")]
    Newer {
        /// The store.
        place: String,
        /// The tree's format.
        found: u64,
    },
    /// `.roadstead/format` is not what a tree writes there.
    #[error("{0} does not say which format the tree has")]
    Format(String),
    /// A link leads to something that is no manifest.
    #[error("{key} does not lead to a manifest but to {target}")]
    Misled {
        /// The link.
        key: Key,
        /// Its target.
        target: Key,
    },
    /// Bytes are not what their name says.
    #[error("the manifest at {key} is damaged")]
    Damaged {
        /// Where the bytes lie.
        key: Key,
        /// What is wrong with them.
        #[source]
        source: Box<ManifestError>,
    },
    /// The list of private repositories is none.
    #[error("{place}, line {line}: {problem}")]
    Private {
        /// The list.
        place: String,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A list can't be read.
    #[error("the list at {key} is damaged")]
    DamagedList {
        /// Where it lies.
        key: Key,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A list of referrers would be larger than a manifest may be.
    #[error(
        "more refers to {repository}@{subject} than a list holds: {MAX_DESCRIPTORS} entries, and {MAX_MANIFEST_SIZE} bytes of types and annotations"
    )]
    TooManyReferrers {
        /// The repository.
        repository: Repository,
        /// What is referred to.
        subject: Digest,
    },
    /// Nothing can be removed from a repository while somebody else is at work there.
    #[error("somebody else is writing to {repository}, or removing something from it, as {sign} says")]
    Busy {
        /// The repository.
        repository: Repository,
        /// Where that is said.
        sign: String,
    },
    /// There is no such repository, tag or manifest.
    #[error("{0} is not in the tree")]
    Unknown(String),
    /// A manifest that others need can't be removed.
    #[error("{what} can't be removed: {needed_by} needs it")]
    Needed {
        /// The manifest.
        what: String,
        /// The tag or index.
        needed_by: String,
    },
    /// A repository of which something is lost can't be thinned out.
    #[error("{repository} lacks {lacks}")]
    Incomplete {
        /// The repository.
        repository: Repository,
        /// What is lost.
        lacks: String,
    },
}

/// The most bytes that are read of what says the format.
const MAX_FORMAT: u64 = 64 << 10;

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Format {
    format: u64,
    /// By which rules objects got their headers. The first have no number.
    #[serde(default = "first_headers", skip_serializing_if = "is_first_headers")]
    headers: u64,
    /// Whether the store was found to keep to conditions when the tree was made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    conditional: bool,
    /// How often a removal beside writers began or ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    removals: u64,
    /// The one that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removing: Option<fence::Removing>,
    /// What later versions say.
    #[serde(flatten)]
    other: serde_json::Map<String, serde_json::Value>,
}

impl Format {
    /// That of a new tree.
    fn new(conditional: bool) -> Self {
        let (removals, removing, other) = (0, None, serde_json::Map::new());
        Self { format: FORMAT, headers: HEADERS, conditional, removals, removing, other }
    }
}

const fn first_headers() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "that is how serde asks")]
const fn is_first_headers(version: &u64) -> bool {
    *version == first_headers()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "that is how serde asks")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Tree {
    /// The tree in a store.
    ///
    /// # Errors
    ///
    /// [`TreeError::Absent`] if there is none, [`TreeError::Newer`] if it has a format that this version doesn't know.
    pub async fn open(store: Arc<dyn Store>) -> Result<Self, TreeError> {
        let tree = Self::at(store);
        if tree.format().await? { Ok(tree) } else { Err(TreeError::Absent(tree.0.store.describe())) }
    }

    /// The tree in a store, which is made if there is none. Whether it is still there after a power cut is only sure when
    /// something was written to it.
    ///
    /// # Errors
    ///
    /// As [`Tree::open`], and if the store can't be written.
    pub async fn create(store: Arc<dyn Store>) -> Result<Self, TreeError> {
        let tree = Self::at(store);
        if !tree.format().await? {
            let store = &tree.0.store;
            let conditional = store.reach() == Reach::Process;
            if conditional {
                store.try_conditions().await?;
            }
            let format = serde_json::to_vec(&Format::new(conditional))
                .map_err(|source| TreeError::DamagedList { key: keys::format(), source })?;
            // The format last: a folder with one is a whole tree, if an empty one.
            let naming = tree.0.store.naming();
            let (ping, pong) = lists::pong(naming);
            let (catalog, empty) = lists::empty_catalog()?;
            let files = [
                (ping, pong, derived()),
                (catalog, empty, derived()),
                (keys::format(), format.into(), Headers::default()),
            ];
            let small = |(key, bytes, headers)| Small { key, bytes, headers, condition: Condition::Absent };
            // Another process may be as far, and writes the same. Its first sync covers that of the names.
            let _ = tree.0.store.put_all(files.map(small).into()).await?;
        }
        Ok(tree)
    }

    fn at(store: Arc<dyn Store>) -> Self {
        Self(Arc::new(Inner {
            store,
            unsynced: Arc::default(),
            unlisted: Arc::default(),
            noted: Arc::default(),
            known: Arc::default(),
            beside: None,
            together: Arc::default(),
            removals: Arc::default(),
            fenced: OnceCell::new(),
            headers: Arc::default(),
        }))
    }

    /// The same tree, as somebody changes it whom others see at work.
    fn over(&self, beside: &fence::Beside) -> Self {
        let Inner { unsynced, unlisted, known, noted, removals, headers, .. } = &*self.0;
        Self(Arc::new(Inner {
            store: Arc::new(beside.clone()),
            unsynced: unsynced.clone(),
            unlisted: unlisted.clone(),
            noted: noted.clone(),
            known: known.clone(),
            beside: Some(beside.clone()),
            together: Arc::default(),
            removals: removals.clone(),
            fenced: OnceCell::new(),
            headers: headers.clone(),
        }))
    }

    /// Whether there is a tree, of a format that this version knows.
    async fn format(&self) -> Result<bool, TreeError> {
        let (store, key) = (&self.0.store, keys::format());
        let object = match store.get(&key, None).await {
            // The private folder is closed to other users, who may still read the tree.
            Err(error) if error.is_permission_denied() => {
                return Ok(store.head(&keys::ping(store.naming())).await?.is_some());
            }
            other => other?,
        };
        let Some(object) = object else { return Ok(false) };
        let bytes = object.body.into_bytes(MAX_FORMAT, &key).await?;
        let Ok(Format { format, headers, removals, .. }) = serde_json::from_slice(&bytes) else {
            return Err(TreeError::Format(format!("{}/{key}", store.describe())));
        };
        if format == 0 {
            return Err(TreeError::Format(format!("{}/{key}", store.describe())));
        }
        if format > FORMAT {
            return Err(TreeError::Newer { place: store.describe(), found: format });
        }
        self.note_removals(removals);
        let _ = self.0.headers.set(headers);
        Ok(true)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// What a reference leads to; `None` if the repository has no such name. Asks for the name alone: one `readlink` in
    /// a directory, one `HEAD` in a bucket.
    ///
    /// # Errors
    ///
    /// [`TreeError::Misled`] if something else than a tree wrote that name.
    pub async fn resolve(&self, repository: &Repository, reference: &Reference) -> Result<Option<Pointer>, TreeError> {
        let key = keys::manifest(repository, reference);
        match self.0.store.naming() {
            Naming::Links => {
                let target = self.0.store.target(&key).await?;
                target.map(|target| pointer(reference, &key, target)).transpose()
            }
            Naming::Copies => {
                let Some(entry) = self.0.store.head(&key).await? else { return Ok(None) };
                let named = match reference {
                    Reference::Digest(digest) => Some(*digest),
                    Reference::Tag(_) => entry.headers.digest,
                };
                match (entry.headers.content_type, named) {
                    (Some(media_type), Some(digest)) => Ok(Some(Pointer { media_type, digest, at: key })),
                    _ => Err(TreeError::Misled { target: key.clone(), key }),
                }
            }
        }
    }

    /// What [`resolve`](Self::resolve) says of each of several references of a repository.
    async fn resolve_each(
        &self,
        repository: &Repository,
        references: &[Reference],
    ) -> Vec<Result<Option<Pointer>, TreeError>> {
        if self.0.store.naming() == Naming::Copies {
            let resolved = stream::iter(0..references.len()).map(|at| self.resolve(repository, &references[at]));
            return resolved.buffered(spread::QUESTIONS_AT_ONCE).collect().await;
        }
        let keys: Vec<Key> = references.iter().map(|reference| keys::manifest(repository, reference)).collect();
        let targets = self.0.store.targets(&keys).await;
        let resolved = references.iter().zip(&keys).zip(targets);
        resolved
            .map(|((reference, key), target)| target?.map(|target| pointer(reference, key, target)).transpose())
            .collect()
    }

    /// The manifest that a pointer names, whole and verified; `None` if its bytes are gone.
    ///
    /// # Errors
    ///
    /// [`TreeError::Damaged`] if other bytes are there.
    pub async fn manifest(&self, pointer: &Pointer) -> Result<Option<Manifest>, TreeError> {
        let Some(object) = self.0.store.get(&pointer.at, None).await? else { return Ok(None) };
        let damaged = |source| Err(TreeError::Damaged { key: pointer.at.clone(), source: Box::new(source) });
        let size = object.entry.size;
        if size > MAX_MANIFEST_SIZE {
            return damaged(ManifestError::TooLarge(size));
        }
        let expected = Descriptor::new(pointer.media_type.as_str(), pointer.digest, size);
        let bytes = object.body.into_bytes(MAX_MANIFEST_SIZE, &pointer.at).await?;
        match Manifest::verify(bytes, &expected) {
            Ok(manifest) if *manifest.media_type() != pointer.media_type => {
                damaged(ManifestError::Ambiguous("it lies where another media type belongs"))
            }
            Ok(manifest) => Ok(Some(manifest)),
            Err(source) => damaged(source),
        }
    }

    /// Resolves and reads at once.
    ///
    /// # Errors
    ///
    /// As [`Tree::resolve`] and [`Tree::manifest`].
    pub async fn find(&self, repository: &Repository, reference: &Reference) -> Result<Option<Manifest>, TreeError> {
        match self.resolve(repository, reference).await? {
            Some(pointer) => self.follow(repository, reference, pointer).await,
            None => Ok(None),
        }
    }

    /// Reads what a reference led to a moment ago, or leads to by now: a tag that is a copy may have become another
    /// manifest.
    ///
    /// # Errors
    ///
    /// As [`Tree::find`].
    pub(crate) async fn follow(
        &self,
        repository: &Repository,
        reference: &Reference,
        mut pointer: Pointer,
    ) -> Result<Option<Manifest>, TreeError> {
        loop {
            let damaged = match self.manifest(&pointer).await {
                Err(error @ TreeError::Damaged { .. }) if self.0.store.naming() == Naming::Copies => error,
                other => return other,
            };
            match self.resolve(repository, reference).await? {
                Some(now) if now == pointer => return Err(damaged),
                Some(now) => pointer = now,
                None => return Ok(None),
            }
        }
    }

    /// A manifest by its digest; `None` also where what is there is damaged or leads astray.
    async fn find_sound(&self, repository: &Repository, digest: &Digest) -> Result<Option<Manifest>, TreeError> {
        match self.find(repository, &Reference::Digest(*digest)).await {
            Err(TreeError::Damaged { .. } | TreeError::Misled { .. } | TreeError::Store(StoreError::Escape { .. })) => {
                Ok(None)
            }
            other => other,
        }
    }

    /// A blob of a repository, or a range of it (end exclusive, cut to what there is).
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<Option<Object>, TreeError> {
        let object = self.0.store.get(&keys::blob(repository, digest), range).await?;
        // A link made by somebody else may lead to other content, or to what is private.
        Ok(object.filter(|object| object.entry.target.as_ref().is_none_or(|at| *at == keys::blob_content(digest))))
    }

    /// The bytes of a config, whole and verified; `None` if they are not there, are others, or are too many.
    async fn small_blob(&self, repository: &Repository, blob: &Descriptor) -> Result<Option<Bytes>, TreeError> {
        let Some(object) = self.blob(repository, &blob.digest, None).await? else { return Ok(None) };
        let size = object.entry.size;
        if size > MAX_CONFIG_SIZE || blob.size.is_some_and(|expected| expected != size) {
            return Ok(None);
        }
        let bytes = object.body.into_bytes(size, &keys::blob(repository, &blob.digest)).await?;
        Ok((blob.digest.algorithm().digest(&bytes) == blob.digest).then_some(bytes))
    }

    /// The list of a repository's tags, as JSON: `{"name": …, "tags": […]}`, sorted.
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    pub async fn tags_list(&self, repository: &Repository) -> Result<Option<Object>, TreeError> {
        self.list(&keys::tags_list(repository)).await
    }

    /// The list of all repositories, as JSON: `{"repositories": […]}`, sorted.
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    pub async fn catalog(&self) -> Result<Option<Object>, TreeError> {
        self.list(&keys::catalog()).await
    }

    /// What refers to `subject`, as an image index; `None` if nothing does.
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    pub async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Option<Object>, TreeError> {
        self.list(&keys::referrers(repository, subject)).await
    }

    /// A list, which is never a link.
    async fn list(&self, key: &Key) -> Result<Option<Object>, TreeError> {
        let object = self.0.store.get(key, None).await?;
        Ok(object.filter(|object| object.entry.target.is_none()))
    }
}

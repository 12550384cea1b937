//! Where the bytes of a site come from: a tree, or another host.
//!
//! [`Pull`](super::Pull) knows what a request is answered with, an origin what lies under a path. What an origin hands out of a
//! manifest is whole and verified; each remembers what it may, since only it knows what changes.

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::cache::Cache;
use crate::http::Endpoint;
use crate::oci::{Digest, MAX_MANIFEST_SIZE, MediaType, Reference, Repository};
use crate::site::{self, Answer};
use crate::store::{Body, Key, Naming, Object, Version};
use crate::tree::{Private, Tree, keys};

/// What a site is answered from.
pub enum Origin {
    /// A tree, as if private repositories weren't there.
    Tree(Tree),
    /// A tree and all that is in it. Whoever stands in front of the server lets nobody in who may not see that.
    WholeTree(Tree),
    /// What lies below a URL under the paths of a registry, on a host whose headers nobody relies on.
    Upstream(Endpoint),
}

impl From<Tree> for Origin {
    fn from(tree: Tree) -> Self {
        Self::Tree(tree)
    }
}

impl From<Endpoint> for Origin {
    fn from(upstream: Endpoint) -> Self {
        Self::Upstream(upstream)
    }
}

/// Why an origin can't say. The cause is for the log.
pub(super) type Failure = Box<dyn Error + Send + Sync>;

/// A manifest, whole and verified.
#[derive(Debug, Clone)]
pub(super) struct FoundManifest {
    pub(super) media_type: MediaType,
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
}

/// Any other object.
pub(super) struct Found {
    /// Its whole size; `None` if nobody knows before its end.
    pub(super) size: Option<u64>,
    /// Its version, if it has one that changes with its bytes.
    pub(super) version: Option<Version>,
    /// The bytes that were wanted.
    pub(super) body: Body,
}

/// What of a blob is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Want {
    /// Its size alone. More may be handed out where that costs nothing: an open file.
    Size,
    /// All of it.
    Whole,
    /// A part that lies inside.
    Part(Range<u64>),
}

/// What lies under a site's paths. `None` means that nothing does.
#[async_trait]
pub(super) trait Content: Send + Sync {
    async fn manifest(&self, repository: &Repository, reference: &Reference) -> Result<Option<FoundManifest>, Failure>;
    async fn blob(&self, repository: &Repository, digest: &Digest, want: Want) -> Result<Option<Found>, Failure>;
    async fn tags_list(&self, repository: &Repository) -> Result<Option<Found>, Failure>;
    async fn catalog(&self) -> Result<Option<Found>, Failure>;
    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Option<Found>, Failure>;
    async fn page(&self, key: &Key) -> Result<Option<Found>, Failure>;
    /// What a client is answered when this can't say, and what the log calls that.
    fn silence(&self) -> (&'static Answer, &'static str);
}

/// What an entry of a cache takes beside its bytes, roughly.
pub(super) const OVERHEAD: usize = 256;

/// A tree. Nothing that it can change is remembered but by a name that changes with it, manifests by digest; and for a moment
/// what is private.
pub(super) struct OfTree {
    tree: Tree,
    manifests: Cache<Digest, Bytes>,
    /// What is private, and when that was read; `None` if it is nobody's business here.
    private: Option<Mutex<Option<Look>>>,
}

/// What was private, and when.
type Look = (Instant, Arc<Private>);

/// For how long it counts what is private. In a bucket each look is a request.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl OfTree {
    /// A tree, as if private repositories weren't there.
    pub(super) fn public(tree: Tree, memory: usize) -> Self {
        Self { tree, manifests: Cache::new(memory), private: Some(Mutex::default()) }
    }

    /// A tree and all that is in it.
    pub(super) fn whole(tree: Tree, memory: usize) -> Self {
        Self { tree, manifests: Cache::new(memory), private: None }
    }

    /// What is not to be shown. Who can't tell shows nothing.
    async fn private(&self) -> Result<Arc<Private>, Failure> {
        let Some(private) = &self.private else { return Ok(Arc::default()) };
        let mut known = private.lock().await;
        if let Some((read, private)) = &*known
            && read.elapsed() < LOOK_AGAIN
        {
            return Ok(Arc::clone(private));
        }
        let private = Arc::new(self.tree.private().await?);
        *known = Some((Instant::now(), Arc::clone(&private)));
        Ok(private)
    }

    async fn hides(&self, repository: &Repository) -> Result<bool, Failure> {
        Ok(self.private().await?.contains(repository))
    }
}

impl From<Object> for Found {
    fn from(Object { entry, body }: Object) -> Self {
        Self { size: Some(entry.size), version: Some(entry.version), body }
    }
}

#[async_trait]
impl Content for OfTree {
    async fn manifest(&self, repository: &Repository, reference: &Reference) -> Result<Option<FoundManifest>, Failure> {
        if self.hides(repository).await? {
            return Ok(None);
        }
        let Some(pointer) = self.tree.resolve(repository, reference).await? else { return Ok(None) };
        if let Some(bytes) = self.manifests.get(&pointer.digest) {
            return Ok(Some(FoundManifest { media_type: pointer.media_type, digest: pointer.digest, bytes }));
        }
        let Some(manifest) = self.tree.follow(repository, reference, pointer).await? else { return Ok(None) };
        let bytes = manifest.bytes().clone();
        debug_assert!(bytes.len() as u64 <= MAX_MANIFEST_SIZE, "the tree reads no larger manifest");
        let (media_type, digest) = (manifest.media_type().clone(), *manifest.digest());
        self.manifests.insert(digest, bytes.clone(), bytes.len() + OVERHEAD);
        Ok(Some(FoundManifest { media_type, digest, bytes }))
    }

    async fn blob(&self, repository: &Repository, digest: &Digest, want: Want) -> Result<Option<Found>, Failure> {
        if self.hides(repository).await? {
            return Ok(None);
        }
        let range = match want {
            // A bucket would begin to send what nobody reads.
            Want::Size if self.tree.store().naming() == Naming::Copies => {
                let entry = self.tree.store().head(&keys::blob(repository, digest)).await?;
                return Ok(entry.map(|entry| Object { entry, body: Body::Bytes(Bytes::new()) }.into()));
            }
            Want::Size | Want::Whole => None,
            Want::Part(range) => Some(range),
        };
        Ok(self.tree.blob(repository, digest, range).await?.map(Found::from))
    }

    async fn tags_list(&self, repository: &Repository) -> Result<Option<Found>, Failure> {
        if self.hides(repository).await? {
            return Ok(None);
        }
        Ok(self.tree.tags_list(repository).await?.map(Found::from))
    }

    async fn catalog(&self) -> Result<Option<Found>, Failure> {
        let private = self.private().await?;
        Ok(self.tree.catalog_without(&private).await?.map(Found::from))
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Option<Found>, Failure> {
        if self.hides(repository).await? {
            return Ok(None);
        }
        Ok(self.tree.referrers(repository, subject).await?.map(Found::from))
    }

    async fn page(&self, key: &Key) -> Result<Option<Found>, Failure> {
        Ok(self.tree.store().get(key, None).await?.map(Found::from))
    }

    fn silence(&self) -> (&'static Answer, &'static str) {
        (&site::UNREADABLE, "the tree can't be read")
    }
}

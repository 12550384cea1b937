//! Writing: a level is written, made durable, and only then named by the next one.

mod publishing;
mod push;
mod unlisted;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};

use super::lists::{Change, Walked};
use super::{Tree, TreeError, WORTH_A_HINT, blob_headers, keys, manifest_headers};
use crate::image::{ByteStream, Claim, PutError, RepositorySink, Sink, SinkError};
use crate::oci::{Algorithm, Descriptor, Digest, MAX_BLOB_SIZE, Manifest, MediaType, Reference, Repository, Tag};
use crate::store::{Aim, Condition, Headers, Key, Listed, LockGuard, Naming, StoreError, Upload};

pub(crate) use publishing::Publishing;
pub use push::Lack;
use unlisted::Given;
pub(super) use unlisted::Unlisted;

/// The lock that keeps a sweep away from whoever relies on content that nothing names yet.
pub(super) const WRITERS: &str = "writers";

/// Blobs that were finished and have no name yet, with their sizes: another repository may want them too.
#[derive(Default)]
pub(super) struct Unsynced(Mutex<HashMap<Digest, u64>>);

impl Unsynced {
    fn held(&self) -> MutexGuard<'_, HashMap<Digest, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Sink for Tree {
    async fn repository(&self, name: &Repository) -> Result<Box<dyn RepositorySink>, SinkError> {
        Ok(Box::new(self.open_sink(name).await?))
    }
}

impl Tree {
    async fn open_sink(&self, name: &Repository) -> Result<TreeSink, SinkError> {
        self.open_repository(name)
            .await
            .map_err(|e| SinkError::new(&format!("{name} in {}", self.0.store.describe()), e))
    }

    /// Refuses a repository whose folder would have to be a file that is there, or the other way round, before anything is
    /// copied: `foo/manifests/bar` beside a tag `bar` of `foo`, `foo/tags/list` beside `foo`, `index.html`.
    async fn refuse_collision(&self, repository: &Repository) -> Result<(), TreeError> {
        let store = &self.0.store;
        if store.naming() == Naming::Copies {
            return Ok(());
        }
        let mut folder = Some(keys::repository(repository));
        while let Some(key) = folder {
            if store.head(&key).await?.is_some() || store.target(&key).await?.is_some() {
                return Err(self.collision(&key));
            }
            folder = key.parent();
        }
        self.refuse_folder(&keys::tags_list(repository)).await
    }

    /// Refuses a key under which other keys lie, where that can't be.
    async fn refuse_folder(&self, key: &Key) -> Result<(), TreeError> {
        let store = &self.0.store;
        if store.naming() == Naming::Links && store.list(key).try_next().await?.is_some() {
            return Err(self.collision(key));
        }
        Ok(())
    }

    /// Says that a repository holds a blob of that size, in a store with copies, if that is worth a request.
    pub(super) async fn put_hint(&self, repository: &Repository, digest: &Digest, size: u64) -> Result<(), TreeError> {
        if size < WORTH_A_HINT {
            return Ok(());
        }
        let (store, hint) = (&self.0.store, keys::hint(repository, digest));
        match store.put(&hint, Bytes::new(), &Headers::default(), Condition::Always).await {
            // Others say so just now, more often than the service takes.
            Err(error) if error.is_throttled() && store.head(&hint).await?.is_some() => Ok(()),
            put => Ok(put.map(drop)?),
        }
    }

    fn collision(&self, key: &Key) -> TreeError {
        StoreError::Collision { what: format!("{}/{key}", self.0.store.describe()) }.into()
    }
}

/// What waits for its names, in a store with links; lists of referrers wait in every store, since many may come for one subject.
#[derive(Default)]
struct Queue {
    blobs: BTreeSet<Digest>,
    manifests: Vec<(MediaType, Digest)>,
    /// By subject, what refers to it.
    referrers: BTreeMap<Digest, BTreeSet<Digest>>,
    /// Of which indexes which children are left out.
    left_out: BTreeMap<Digest, Vec<Digest>>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.manifests.is_empty() && self.referrers.is_empty() && self.left_out.is_empty()
    }
}

/// What a commit took out of the queue. What it could not finish, for a failure or since nobody waits for it any more, goes
/// back: who shares the sink relies on it, too.
struct Taken<'a> {
    sink: &'a TreeSink,
    queue: Queue,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let mut queue = self.sink.queue();
        let newer = std::mem::replace(&mut *queue, std::mem::take(&mut self.queue));
        queue.blobs.extend(newer.blobs);
        queue.manifests.extend(newer.manifests);
        for (subject, referrers) in newer.referrers {
            queue.referrers.entry(subject).or_default().extend(referrers);
        }
        queue.left_out.extend(newer.left_out);
    }
}

impl Drop for TreeSink {
    fn drop(&mut self) {
        // The lock goes, and with it the promise that nobody sweeps what has no name.
        let queue = self.queue.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut unsynced = self.tree.0.unsynced.held();
        for digest in &queue.blobs {
            unsynced.remove(digest);
        }
    }
}

/// One repository of a tree, open for writing.
struct TreeSink {
    tree: Tree,
    repository: Repository,
    queue: Mutex<Queue>,
    /// The tags that it gave and no list names yet.
    given: Mutex<Vec<Given>>,
    /// Whoever waits here finds its own names made by whoever was first.
    committing: tokio::sync::Mutex<()>,
    /// While this is open nothing is removed, and whoever adds a referrer lists it.
    walked: Walked,
    /// Whether the tree is announced for this alone.
    own: bool,
    _writing: LockGuard,
}

impl TreeSink {
    fn new(tree: Tree, repository: Repository, own: bool, writing: LockGuard) -> Self {
        let (queue, given) = (Mutex::default(), Mutex::default());
        let (committing, walked) = (tokio::sync::Mutex::default(), Walked::default());
        Self { tree, repository, queue, given, committing, walked, own, _writing: writing }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn given(&self) -> MutexGuard<'_, Vec<Given>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: impl Into<TreeError>) -> SinkError {
        SinkError::new(&format!("{} in {}", self.repository, self.tree.0.store.describe()), error.into())
    }

    /// Where a blob's bytes go.
    fn blob_key(&self, digest: &Digest) -> Key {
        match self.tree.0.store.naming() {
            Naming::Links => keys::blob_content(digest),
            Naming::Copies => keys::blob(&self.repository, digest),
        }
    }

    async fn claim_now(&self, blob: &Descriptor) -> Result<Claim, TreeError> {
        let store = &self.tree.0.store;
        let own = keys::blob(&self.repository, &blob.digest);
        let fits = |size: u64| blob.size.is_none_or(|expected| expected == size);
        match store.naming() {
            Naming::Links => {
                let content = keys::blob_content(&blob.digest);
                let whole = store.head(&content).await?.is_some_and(|entry| fits(entry.size));
                if whole && self.leads_to(&own, &content).await? {
                    return Ok(Claim::Present);
                }
                let unsynced = self.tree.0.unsynced.held().get(&blob.digest).copied();
                if whole || unsynced.is_some_and(fits) {
                    self.queue().blobs.insert(blob.digest);
                    return Ok(Claim::Linked);
                }
            }
            Naming::Copies => {
                if store.head(&own).await?.is_some_and(|entry| fits(entry.size)) {
                    return Ok(Claim::Present);
                }
                if blob.size.is_some_and(|size| size < WORTH_A_HINT) {
                    return Ok(Claim::Missing);
                }
                let mut hints = store.list(&keys::hints(&blob.digest));
                while let Some(listed) = hints.try_next().await? {
                    let Listed::Object(hint) = listed else { continue };
                    let Some(other) = keys::hinted(&hint) else { continue };
                    let theirs = keys::blob(&other, &blob.digest);
                    if let Some(entry) = store.head(&theirs).await?.filter(|entry| fits(entry.size)) {
                        if let Err(error) = store.link(&own, &theirs, &blob_headers(&blob.digest)).await {
                            // Nobody keeps it from being removed there.
                            if store.head(&theirs).await?.is_none() {
                                continue;
                            }
                            return Err(error.into());
                        }
                        self.tree.put_hint(&self.repository, &blob.digest, entry.size).await?;
                        return Ok(Claim::Linked);
                    }
                }
            }
        }
        Ok(Claim::Missing)
    }

    /// Makes a blob that was judged good the content of its digest.
    async fn keep(&self, upload: Box<dyn Upload>, digest: Digest, size: u64) -> Result<(), SinkError> {
        self.keep_now(upload, digest, size).await.map_err(|e| self.failed(e))
    }

    async fn keep_now(&self, upload: Box<dyn Upload>, digest: Digest, size: u64) -> Result<(), TreeError> {
        let (store, key) = (&self.tree.0.store, self.blob_key(&digest));
        match upload.finish(&key, &blob_headers(&digest)).await {
            // Others send the same, more often than the service takes.
            Err(error) if error.is_throttled() && store.head(&key).await?.is_some_and(|entry| entry.size == size) => {}
            finished => finished?,
        }
        match store.naming() {
            Naming::Links => {
                self.tree.0.unsynced.held().insert(digest, size);
                self.queue().blobs.insert(digest);
                Ok(())
            }
            Naming::Copies => self.tree.put_hint(&self.repository, &digest, size).await,
        }
    }

    /// Whether a name leads where it should. One that somebody else led astray is made anew.
    async fn leads_to(&self, name: &Key, content: &Key) -> Result<bool, TreeError> {
        match self.tree.0.store.target(name).await {
            Err(StoreError::Escape { .. }) => Ok(false),
            other => Ok(other?.as_ref() == Some(content)),
        }
    }

    /// Puts a manifest, if it isn't there; one that is there already may stay as old as it is.
    async fn put_manifest_now(&self, manifest: &Manifest) -> Result<(), TreeError> {
        let store = &self.tree.0.store;
        let (media_type, digest) = (manifest.media_type(), manifest.digest());
        let by_digest = Reference::Digest(*digest);
        let headers = manifest_headers(media_type, digest, &by_digest);
        let name = keys::manifest(&self.repository, &by_digest);
        match store.naming() {
            Naming::Links => {
                let content = keys::manifest_content(media_type, digest);
                // Manifests are small, so they are compared; a damaged one is replaced.
                let whole = self.tree.holds(&content, manifest.bytes()).await?;
                let named = whole && self.leads_to(&name, &content).await?;
                if !whole {
                    let mut upload = store.begin_upload(digest.algorithm().hasher()).await?;
                    upload.write(manifest.bytes().clone()).await?;
                    upload.finish(&content, &headers).await?;
                }
                if !named {
                    self.queue().manifests.push((media_type.clone(), *digest));
                }
            }
            Naming::Copies => {
                if !self.tree.holds(&name, manifest.bytes()).await? {
                    self.tree.put_same(&name, manifest.bytes(), &headers).await?;
                }
            }
        }
        if let Some(subject) = manifest.subject() {
            self.queue().referrers.entry(subject.digest).or_default().insert(*digest);
        }
        self.tree.note_needs(&self.repository, manifest);
        Ok(())
    }

    async fn commit_now(&self) -> Result<(), TreeError> {
        let store = &self.tree.0.store;
        let _committing = self.committing.lock().await;
        let mut taken = Taken { sink: self, queue: std::mem::take(&mut *self.queue()) };
        let queue = &taken.queue;
        if queue.is_empty() {
            return Ok(());
        }
        let mut records = BTreeMap::new();
        for (index, children) in &queue.left_out {
            // Nobody may find an index whose children are absent without a word. Where there is a word already, the index has
            // been visible since, so what is less than that is said only when the children are there.
            let key = keys::left_out(&self.repository, index);
            if !children.is_empty() && store.head(&key).await?.is_none() {
                self.tree.put_left_out(&key, &children.iter().copied().collect()).await?;
            } else {
                records.insert(key, children);
            }
        }
        store.publish().await?;
        let headers = Headers::default();
        for digest in &queue.blobs {
            store.link(&keys::blob(&self.repository, digest), &keys::blob_content(digest), &headers).await?;
        }
        for (media_type, digest) in &queue.manifests {
            let name = keys::manifest(&self.repository, &Reference::Digest(*digest));
            store.link(&name, &keys::manifest_content(media_type, digest), &headers).await?;
        }
        for (subject, referrers) in &queue.referrers {
            let change = Change::Add(referrers);
            self.tree.change_referrers(&self.repository, subject, change, &self.walked).await?;
        }
        store.sync_names().await?;
        for (key, children) in records {
            if children.is_empty() {
                store.delete(&key).await?;
            } else {
                self.tree.put_left_out(&key, &children.iter().copied().collect()).await?;
            }
        }
        let queue = std::mem::take(&mut taken.queue);
        let mut unsynced = self.tree.0.unsynced.held();
        for digest in &queue.blobs {
            unsynced.remove(digest);
        }
        Ok(())
    }

    /// Brings the lists of the repository up to date.
    async fn finish_lists(&self) -> Result<(), TreeError> {
        let given = std::mem::take(&mut *self.given());
        self.tree.finish_lists(&self.repository, given).await
    }

    async fn tag_now(&self, tag: &Tag, manifest: &Descriptor) -> Result<bool, TreeError> {
        let store = &self.tree.0.store;
        self.commit_now().await?;
        let by_digest = Reference::Digest(manifest.digest);
        let Some(pointer) = self.tree.resolve(&self.repository, &by_digest).await? else {
            return Err(TreeError::Unknown(format!("{}@{by_digest}", self.repository)));
        };
        let name = Reference::Tag(tag.clone());
        let headers = manifest_headers(&pointer.media_type, &pointer.digest, &name);
        let name = keys::manifest(&self.repository, &name);
        if self.leads_to(&name, &pointer.at).await? {
            return Ok(false);
        }
        let behind = store.fall_behind()?;
        let changed = store.link(&name, &pointer.at, &headers).await?;
        self.given().push((tag.clone(), behind));
        Ok(changed)
    }
}

#[async_trait]
impl RepositorySink for TreeSink {
    async fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, SinkError> {
        // What is damaged or led astray is fetched and written again.
        self.tree.find_sound(&self.repository, digest).await.map_err(|e| self.failed(e))
    }

    async fn small_blob(&self, blob: &Descriptor) -> Result<Option<Bytes>, SinkError> {
        self.tree.small_blob(&self.repository, blob).await.map_err(|e| self.failed(e))
    }

    async fn claim(&self, blob: &Descriptor) -> Result<Claim, SinkError> {
        self.claim_now(blob).await.map_err(|e| self.failed(e))
    }

    async fn adopt(&self, expected: &Descriptor, location: &str) -> Result<bool, SinkError> {
        let (store, failed) = (&self.tree.0.store, |e| self.failed(TreeError::Store(e)));
        let begun = store.begin_copy(location, expected.digest.algorithm(), expected.size).await;
        let Some(mut upload) = begun.map_err(failed)? else { return Ok(false) };
        let (actual, size) = upload.digest().await.map_err(failed)?;
        // What another says isn't enough to condemn it.
        if PutError::check(expected, &actual, size).is_err() {
            return Ok(false);
        }
        self.keep(upload, actual, size).await?;
        Ok(true)
    }

    async fn put_blob(&self, expected: &Descriptor, mut bytes: ByteStream) -> Result<(), PutError> {
        let store = &self.tree.0.store;
        let failed = |e| PutError::Sink(self.failed(TreeError::Store(e)));
        let aim =
            Aim { key: self.blob_key(&expected.digest), headers: blob_headers(&expected.digest), size: expected.size };
        let upload = store.begin_upload_to(expected.digest.algorithm().hasher(), aim).await;
        let mut upload = upload.map_err(failed)?;
        let limit = expected.size.unwrap_or(MAX_BLOB_SIZE);
        let mut size = 0;
        while let Some(piece) = bytes.next().await {
            let piece = piece?;
            size += piece.len() as u64;
            // An endless stream is cut as soon as it is longer than it may be.
            if size > limit {
                return Err(PutError::too_long(&expected.digest, limit));
            }
            upload.write(piece).await.map_err(failed)?;
        }
        let (actual, _) = upload.digest().await.map_err(failed)?;
        PutError::check(expected, &actual, size)?;
        Ok(self.keep(upload, actual, size).await?)
    }

    async fn add_blob(&self, algorithm: Algorithm, mut bytes: ByteStream) -> Result<(Digest, u64), PutError> {
        let failed = |e| PutError::Sink(self.failed(TreeError::Store(e)));
        let mut upload = self.tree.0.store.begin_upload(algorithm.hasher()).await.map_err(failed)?;
        let mut size = 0;
        while let Some(piece) = bytes.next().await {
            let piece = piece?;
            size += piece.len() as u64;
            if size > MAX_BLOB_SIZE {
                return Err(PutError::Mismatch { problem: format!("a blob is longer than {MAX_BLOB_SIZE} bytes") });
            }
            upload.write(piece).await.map_err(failed)?;
        }
        let (digest, _) = upload.digest().await.map_err(failed)?;
        self.keep(upload, digest, size).await?;
        Ok((digest, size))
    }

    async fn put_manifest(&self, manifest: &Manifest) -> Result<(), SinkError> {
        self.put_manifest_now(manifest).await.map_err(|e| self.failed(e))
    }

    fn records_left_out(&self) -> bool {
        true
    }

    async fn leave_out(&self, index: &Digest, children: &[Digest]) -> Result<(), SinkError> {
        // An index that never had a record needs none to say that nothing is absent.
        let key = keys::left_out(&self.repository, index);
        let known = self.tree.0.store.head(&key).await.map_err(|e| self.failed(e))?.is_some();
        if !known && !children.is_empty() && self.tree.0.store.naming() == Naming::Copies {
            // There the index shows as soon as it is put, so what it lacks is said now.
            let absent = children.iter().copied().collect();
            return self.tree.put_left_out(&key, &absent).await.map_err(|e| self.failed(e));
        }
        if known || !children.is_empty() {
            self.queue().left_out.insert(*index, children.to_vec());
        }
        Ok(())
    }

    async fn commit(&self) -> Result<(), SinkError> {
        self.commit_now().await.map_err(|e| self.failed(e))
    }

    async fn admit(&self, tags: &[Tag]) -> Result<(), SinkError> {
        for tag in tags {
            let tag = Reference::Tag(tag.clone());
            self.tree.refuse_folder(&keys::manifest(&self.repository, &tag)).await.map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    async fn look_up(&self, tag: &Tag) -> Result<Option<Descriptor>, SinkError> {
        match self.tree.resolve(&self.repository, &Reference::Tag(tag.clone())).await {
            Ok(named) => Ok(named
                .map(|named| Descriptor { size: None, ..Descriptor::new(named.media_type.as_str(), named.digest, 0) })),
            // What was led astray is named anew.
            Err(TreeError::Misled { .. } | TreeError::Store(StoreError::Escape { .. })) => Ok(None),
            Err(e) => Err(self.failed(e)),
        }
    }

    async fn tag(&self, tag: &Tag, manifest: &Descriptor) -> Result<bool, SinkError> {
        self.tag_now(tag, manifest).await.map_err(|e| self.failed(e))
    }

    async fn finish(&self) -> Result<(), SinkError> {
        let finish = async {
            self.commit_now().await?;
            self.finish_lists().await?;
            self.tree.keep_noted_needs(&self.repository).await;
            self.tree.0.store.sync_names().await?;
            if self.own { self.tree.withdraw().await } else { Ok(()) }
        };
        finish.await.map_err(|e: TreeError| self.failed(e))
    }
}

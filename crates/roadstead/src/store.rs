//! Bytes and headers under keys: what a tree lives in.
//!
//! # Why not a file-system interface
//!
//! A tree is written to directories and to buckets, and read by web servers that know neither. What both have is small:
//! whole objects under keys, a few headers, a list. Directories, renames, permissions and locks are how one store keeps
//! these promises; they are not part of it. The one difference that can't be hidden is how several names share the
//! same bytes, so it is stated: [`Naming`].
//!
//! # Promises
//!
//! An object is visible whole or not at all, and replaced in one instant. What is deleted is gone for the next reader.
//! A write that returned is visible at once, and durable after the next [`Store::sync`].

mod behind;
pub mod bucket;
mod error;
mod key;
mod lease;
pub mod local;
pub mod memory;
mod object;
mod task_locks;
mod upload;
mod walk;

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

pub use behind::Behind;
pub use bucket::BucketStore;
pub use error::StoreError;
pub use key::{Key, KeyError};
pub use lease::{LEASE, Lease};
pub use local::LocalStore;
pub(crate) use local::open_regular;
pub use memory::MemoryStore;
use object::clamp;
pub use object::{Body, Object};
pub use upload::{Resumed, Session, SessionId, Upload};
pub use walk::{Md5, Named};

use crate::oci::{Algorithm, Digest, Hasher, MediaType};

/// How a store lets several keys name the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Naming {
    /// By links: a link's target spells the headers, and [`Store::link`] moves a name in one instant.
    Links,
    /// By copies, each with its own headers, which [`Store::link`] makes without moving the bytes through this process.
    Copies,
}

/// What an object is answered with, beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers {
    /// `Content-Type`.
    pub content_type: Option<MediaType>,
    /// `Docker-Content-Digest`.
    pub digest: Option<Digest>,
    /// `Cache-Control`.
    pub cache_control: Option<Cow<'static, str>>,
}

/// An opaque version of an object, for conditional writes. Equal versions of one key have equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(pub(crate) Box<str>);

/// What is known of an object without its bytes.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The size in bytes, of the target for a link.
    pub size: u64,
    /// The version.
    pub version: Version,
    /// The headers, where the store keeps any ([`Naming::Copies`]).
    pub headers: Headers,
    /// What it links to ([`Naming::Links`]).
    pub target: Option<Key>,
}

/// When a write may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    Always,
    /// Only if nothing is there.
    Absent,
    /// Only if exactly this version is there.
    Unchanged(Version),
}

/// How many small objects are put at once.
const PUT_AT_ONCE: usize = 64;

/// A small object to be [put](Store::put_all).
#[derive(Debug, Clone)]
pub struct Small {
    /// Its key.
    pub key: Key,
    /// Its bytes.
    pub bytes: Bytes,
    /// Its headers.
    pub headers: Headers,
    /// When it may be written.
    pub condition: Condition,
}

/// Whether a conditional write happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// It did.
    Done,
    /// It didn't, since the condition did not hold.
    Refused,
}

/// One entry of a [list](Store::list).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// An object under this key.
    Object(Key),
    /// Keys that go on behind this one and a slash.
    Prefix(Key),
}

/// Whom the locks of a store keep away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Everybody who uses the store.
    Everybody,
    /// Only those in this process: others may write at any time, and [conditions](Condition) are all that keeps them apart.
    Process,
}

/// Where an upload is meant to end, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aim {
    /// The key.
    pub key: Key,
    /// The headers.
    pub headers: Headers,
    /// How many bytes will come, if known.
    pub size: Option<u64>,
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockMode {
    /// Beside others that share it.
    Shared,
    /// Alone.
    Exclusive,
}

/// What writers left that are dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOvers {
    /// How many temporary files, or uploads that nobody will finish.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many folders without a key.
    pub folders: u64,
}

/// Holds a lock until it is dropped.
pub struct LockGuard(#[expect(dead_code, reason = "held for its Drop")] Box<dyn Send + Sync>);

impl LockGuard {
    /// A guard that releases by dropping `held`.
    #[must_use]
    pub fn new(held: Box<dyn Send + Sync>) -> Self {
        Self(held)
    }
}

/// How many questions are asked at once of a store that is far away.
const AT_ONCE: usize = 16;

/// Where a tree's bytes live.
#[async_trait]
pub trait Store: Send + Sync {
    /// How people name this store: a path or a URL, without credentials.
    fn describe(&self) -> String;

    /// How several keys name the same bytes.
    fn naming(&self) -> Naming;

    /// What is known of the object under `key`; `None` if there is none. A link is not followed but described: its
    /// target, and the size of what that holds. A link to nothing counts as nothing.
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    async fn head(&self, key: &Key) -> Result<Option<Entry>, StoreError>;

    /// Where the link under `key` leads, without looking whether anything is there; `None` if there is no link.
    /// The cheapest question a store with [`Naming::Links`] answers; the others always say `None`.
    ///
    /// # Errors
    ///
    /// If the store can't be read, or the link leads anywhere but to a key of this store.
    async fn target(&self, key: &Key) -> Result<Option<Key>, StoreError>;

    /// What [`target`](Self::target) says of each of several keys. A directory says it faster of names that lie together;
    /// elsewhere several are asked at once.
    async fn targets(&self, keys: &[Key]) -> Vec<Result<Option<Key>, StoreError>> {
        stream::iter(0..keys.len()).map(|at| self.target(&keys[at])).buffered(AT_ONCE).collect().await
    }

    /// The size in bytes that [`head`](Self::head) says of each of several keys; `None` for what isn't there. As
    /// [`targets`](Self::targets) is to one, this is to that, of keys that are no links: others cost more.
    async fn sizes(&self, keys: &[Key]) -> Vec<Result<Option<u64>, StoreError>> {
        let size = |at: usize| async move { Ok(self.head(&keys[at]).await?.map(|entry| entry.size)) };
        stream::iter(0..keys.len()).map(size).buffered(AT_ONCE).collect().await
    }

    /// When the object under `key` was written; of a link, when that was made or moved, whatever it leads to. `None` if there
    /// is nothing, or the store can't tell.
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    async fn modified(&self, _key: &Key) -> Result<Option<SystemTime>, StoreError> {
        Ok(None)
    }

    /// The object under `key`, following one link; `range` (end exclusive) is cut to what there is.
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>, StoreError>;

    /// The first bytes of each of several small objects, `limit` at most; `None` for what isn't there. As
    /// [`targets`](Self::targets) is to one, this is to [`get`](Self::get). Whoever asks verifies: of what is no file at all,
    /// this may be anything.
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    async fn beginnings(&self, keys: &[Key], limit: u64) -> Result<Vec<Option<Bytes>>, StoreError> {
        let beginning = |at: usize| async move {
            let key = &keys[at];
            match self.get(key, Some(0..limit)).await? {
                Some(object) => Ok(Some(object.body.into_bytes(limit, key).await?)),
                None => Ok(None),
            }
        };
        stream::iter(0..keys.len()).map(beginning).buffered(AT_ONCE).try_collect().await
    }

    /// Writes a small object whole.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    async fn put(
        &self,
        key: &Key,
        bytes: Bytes,
        headers: &Headers,
        condition: Condition,
    ) -> Result<Written, StoreError>;

    /// Writes small objects, each whole, the last one behind all others, after everything that was visible before is durable.
    /// Those of one key are written in their order. Does nothing if there are none. Whatever fails, others may be written, but not the last one without all of them.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    async fn put_all(&self, mut objects: Vec<Small>) -> Result<Vec<Written>, StoreError> {
        let Some(last) = objects.pop() else { return Ok(Vec::new()) };
        self.sync().await?;
        let put =
            |Small { key, bytes, headers, condition }| async move { self.put(&key, bytes, &headers, condition).await };
        let mut written = Vec::with_capacity(objects.len() + 1);
        while !objects.is_empty() {
            // Those of one key are written in their order.
            let mut keys = HashSet::new();
            let behind = objects.split_off(objects.iter().take_while(|object| keys.insert(object.key.clone())).count());
            let together = stream::iter(std::mem::replace(&mut objects, behind));
            // None is dropped on its way because another one failed.
            let done: Vec<_> = together.map(put).buffered(PUT_AT_ONCE).collect().await;
            written.extend(done.into_iter().collect::<Result<Vec<_>, _>>()?);
        }
        written.push(put(last).await?);
        Ok(written)
    }

    /// Deletes what may be under a key, where it doesn't matter whether something was.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    async fn discard(&self, key: &Key) -> Result<(), StoreError> {
        self.delete(key).await.map(drop)
    }

    /// Begins an object whose key need not be known yet. `hasher` goes over every byte written: a fresh one, or the state
    /// of an upload that goes on elsewhere.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    async fn begin_upload(&self, hasher: Hasher) -> Result<Box<dyn Upload>, StoreError>;

    /// Begins an upload as [`begin_upload`](Self::begin_upload) does, of which is known where it will end if all goes well: a store
    /// that has to name an object before its bytes come needn't copy it afterwards. Nothing shows before [`Upload::finish`], which
    /// has to say the same key and headers again.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    async fn begin_upload_to(&self, hasher: Hasher, aim: Aim) -> Result<Box<dyn Upload>, StoreError> {
        let _ = aim;
        self.begin_upload(hasher).await
    }

    /// Begins an upload that another process can go on with, where the store has room for such: bytes that were
    /// [settled](Upload::settle) stay when it is dropped, until it is finished or forgotten. `id` is new. A store that keeps
    /// nothing begins one as [`begin_upload`](Self::begin_upload) does.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    async fn begin_session(
        &self,
        _id: &SessionId,
        _session: Session,
        hasher: Hasher,
    ) -> Result<Box<dyn Upload>, StoreError> {
        self.begin_upload(hasher).await
    }

    /// Goes on with an upload that was begun in a process that is dead. `None` if there is none, or it has lain still for longer
    /// than it may, or somebody else has gone on with it.
    ///
    /// # Errors
    ///
    /// If the store can't be read or written.
    async fn resume_session(&self, _id: &SessionId, _now: SystemTime) -> Result<Option<Resumed>, StoreError> {
        Ok(None)
    }

    /// Lets nobody go on with an upload any more, and gives its space back.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    async fn forget_session(&self, _id: &SessionId) -> Result<(), StoreError> {
        Ok(())
    }

    /// Forgets the uploads of dead processes that have lain still for longer than they may. Returns what that freed.
    ///
    /// # Errors
    ///
    /// If the store can't be read or written.
    async fn expire_sessions(&self, _now: SystemTime) -> Result<LeftOvers, StoreError> {
        Ok(LeftOvers::default())
    }

    /// Where the object under `key` lies, whether or not there is one, in words that [`begin_copy`](Self::begin_copy) of another
    /// store may understand; `None` if none can.
    fn location(&self, _key: &Key) -> Option<String> {
        None
    }

    /// A URL by which whoever has it may read the object under `key`, whole or in ranges, for so long, and do nothing
    /// else. Nobody looks whether there is one. `None` if there is no such URL.
    ///
    /// # Errors
    ///
    /// If there are no credentials to sign it with.
    async fn signed_url(&self, _key: &Key, _time: Duration) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    /// Begins an upload whose bytes come from where [another store](Self::location) has them, without moving through this
    /// process: they are there when this returns, and [`Upload::digest`] says what the service that copied them found them
    /// to be. `None` if the store can't do that or the service doesn't say; then nothing was written. Whatever is wrong with
    /// the object that is to be copied is no error here, but `None`: whoever reads it finds out.
    ///
    /// # Errors
    ///
    /// If the service can't be asked.
    async fn begin_copy(
        &self,
        _from: &str,
        _algorithm: Algorithm,
        _size: Option<u64>,
    ) -> Result<Option<Box<dyn Upload>>, StoreError> {
        Ok(None)
    }

    /// Makes `key` name what is under `target`, in one instant, replacing what it named. Returns whether anything changed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Collision`] if `key` can't exist beside another key; if `target` isn't there (where the store looks).
    async fn link(&self, key: &Key, target: &Key, headers: &Headers) -> Result<bool, StoreError>;

    /// Deletes the object or link under `key`. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    async fn delete(&self, key: &Key) -> Result<bool, StoreError>;

    /// Makes the object or link under `key`, if there is one, as [old](Self::modified) as if it had been written now.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    async fn renew(&self, _key: &Key) -> Result<(), StoreError> {
        Ok(())
    }

    /// The objects whose keys are `prefix`, a slash, and one more component, and the prefixes of those with more. In no
    /// promised order; objects that come and go meanwhile may or may not show.
    fn list(&self, prefix: &Key) -> BoxStream<'_, Result<Listed, StoreError>>;

    /// Of what [`list`](Self::list) gives only the prefixes. A directory finds them without a look at each name.
    fn list_prefixes(&self, prefix: &Key) -> BoxStream<'_, Result<Key, StoreError>> {
        let prefixes = |listed| match listed {
            Listed::Prefix(key) => Some(key),
            Listed::Object(_) => None,
        };
        self.list(prefix).try_filter_map(move |listed| std::future::ready(Ok(prefixes(listed)))).boxed()
    }

    /// Every object whose key goes on behind `prefix` and a slash, in the order of the bytes of their keys, with what can be seen
    /// of each without asking for it: in a bucket one request for every thousand. Links to nothing, and such as lead out of the
    /// store, are not among them; nor is the [index](Key::index) of the prefix.
    fn walk(&self, prefix: &Key) -> BoxStream<'_, Result<Named, StoreError>> {
        walk::folders(self, prefix)
    }

    /// Makes every upload visible that was finished before it was called: the bytes are durable then, the names with the
    /// next [`sync`](Self::sync), so that other names may be made in between at no cost. Concurrent calls share the work.
    ///
    /// # Errors
    ///
    /// If any of it can't be made durable.
    async fn publish(&self) -> Result<(), StoreError> {
        self.sync().await
    }

    /// Makes everything durable that was written before it was called. Concurrent calls share the work.
    ///
    /// # Errors
    ///
    /// If any of it can't be made durable.
    async fn sync(&self) -> Result<(), StoreError>;

    /// Makes everything durable that was visible before it was called. Of uploads that still wait for their names it promises
    /// nothing, so that it need not wait for those of others. Concurrent calls share the work.
    ///
    /// # Errors
    ///
    /// If any of it can't be made durable.
    async fn sync_names(&self) -> Result<(), StoreError> {
        self.sync().await
    }

    /// Says that what is derived is about to lag behind what it is made from, until the value that this returns is told that it
    /// has [caught up](Behind::caught_up). However the process ends before, others learn of it by the
    /// [casualties](Self::casualties).
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    fn fall_behind(&self) -> Result<Behind, StoreError> {
        Ok(Behind::untold())
    }

    /// A number that is another one whenever somebody who [fell behind](Self::fall_behind) and never caught up has become known
    /// since it was asked for last. It grows also for some who owed nothing. `None` if the store can't tell; whoever
    /// relies on what is derived has to look at what it is made from then.
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    async fn casualties(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    /// What writers left that are dead, and no key names: temporary files, unfinished uploads, empty folders. Removes it if
    /// `remove` says so; what belongs to a writer that lives stays.
    ///
    /// # Errors
    ///
    /// If the store can't be read or written.
    async fn left_overs(&self, _remove: bool) -> Result<LeftOvers, StoreError> {
        Ok(LeftOvers::default())
    }

    /// Lets everybody who may enter the store ask for what lies under a key, private or not, if they know it. Says nothing of
    /// the object's own rights, and does nothing where keys have no folders.
    ///
    /// # Errors
    ///
    /// If that isn't ours to say.
    async fn reveal(&self, _key: &Key) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whom [locks](Self::lock) keep away.
    fn reach(&self) -> Reach {
        Reach::Everybody
    }

    /// Whether [leases](Self::lease) end: whether the store itself refuses what comes too late, as far as is known.
    ///
    /// # Errors
    ///
    /// If what proves who asks can't be had.
    async fn is_fenced(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Puts a small object that says who is at work, and gives the store as that worker may use it: see [`Lease`]. `None` if the
    /// condition did not hold.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unfenced`] if the store has no leases; if it can't be written.
    async fn lease(&self, _key: &Key, _bytes: Bytes, _when: Condition) -> Result<Option<Lease>, StoreError> {
        Err(StoreError::Unfenced { what: self.describe(), how: "knows no leases" })
    }

    /// Tries whether the store keeps to [conditions](Condition), if that isn't known.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unconditional`] if it doesn't.
    async fn try_conditions(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Tries whether leases do end, and says what time it is for the store: that by which it tells when objects were
    /// [written](Self::modified).
    ///
    /// # Errors
    ///
    /// [`StoreError::Unfenced`] if they don't.
    async fn try_lease(&self) -> Result<SystemTime, StoreError> {
        Err(StoreError::Unfenced { what: self.describe(), how: "knows no leases" })
    }

    /// Waits for the lock `name`, among all whom [`reach`](Self::reach) names.
    ///
    /// # Errors
    ///
    /// If the store has no locks to give.
    async fn lock(&self, name: &str, mode: LockMode) -> Result<LockGuard, StoreError>;
}

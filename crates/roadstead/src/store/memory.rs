//! A store in memory: the model of a bucket, and with links the model of a directory.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use super::task_locks::TaskLocks;
use super::{
    Behind, Body, Condition, Entry, Headers, Key, Listed, LockGuard, LockMode, Md5, Named, Naming, Object, Store,
    StoreError, Upload, Version, Written,
};
use crate::oci::{Algorithm, Digest, Hasher};

/// What is under a key.
#[derive(Clone)]
enum Held {
    Object { bytes: Bytes, headers: Headers },
    Link { target: Key },
}

#[derive(Default)]
struct Contents {
    objects: BTreeMap<Key, (u64, Held)>,
    /// When each was written.
    written: BTreeMap<Key, SystemTime>,
    clock: u64,
}

struct Inner {
    naming: Naming,
    contents: Mutex<Contents>,
    locks: TaskLocks,
    casualties: AtomicU64,
}

/// A store whose objects live as long as it does. Clones share them.
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStore {
    /// An empty store that behaves as a bucket or, with [`Naming::Links`], as a directory.
    #[must_use]
    pub fn new(naming: Naming) -> Self {
        let (contents, locks, casualties) = (Mutex::default(), TaskLocks::default(), AtomicU64::default());
        Self(Arc::new(Inner { naming, contents, locks, casualties }))
    }

    /// An object as this store keeps it: a directory has no place for headers.
    fn object(&self, bytes: Bytes, headers: &Headers) -> Held {
        let headers = match self.0.naming {
            Naming::Links => Headers::default(),
            Naming::Copies => headers.clone(),
        };
        Held::Object { bytes, headers }
    }

    fn write(&self, key: &Key, new: Held, condition: &Condition) -> Result<Written, StoreError> {
        let mut contents = held(&self.0.contents);
        let present = contents.objects.get(key).map(|(version, _)| Version(version.to_string().into()));
        let allowed = match condition {
            Condition::Always => true,
            Condition::Absent => present.is_none(),
            Condition::Unchanged(version) => present.as_ref() == Some(version),
        };
        if !allowed {
            return Ok(Written::Refused);
        }
        // A bucket takes `a` beside `a/b`, a directory can't.
        if self.0.naming == Naming::Links {
            let inside = format!("{key}/");
            let above = std::iter::successors(key.parent(), Key::parent).any(|k| contents.objects.contains_key(&k));
            let below = contents.objects.range::<str, _>((Bound::Excluded(key.as_str()), Bound::Unbounded));
            let below = { below }.take_while(|(k, _)| k.as_str().starts_with(key.as_str()));
            if above || { below }.any(|(k, _)| k.as_str().starts_with(&inside)) {
                return Err(StoreError::Collision { what: key.to_string() });
            }
        }
        contents.clock += 1;
        let version = contents.clock;
        contents.objects.insert(key.clone(), (version, new));
        contents.written.insert(key.clone(), SystemTime::now());
        Ok(Written::Done)
    }
}

impl Contents {
    /// The object under a key, one link followed.
    fn object(&self, key: &Key) -> Option<(Entry, Bytes)> {
        let (version, held) = self.objects.get(key)?;
        let version = Version(version.to_string().into());
        match held {
            Held::Object { bytes, headers } => {
                let entry = Entry { size: bytes.len() as u64, version, headers: headers.clone(), target: None };
                Some((entry, bytes.clone()))
            }
            Held::Link { target } => match self.objects.get(target)? {
                (_, Held::Object { bytes, .. }) => {
                    let (size, target) = (bytes.len() as u64, Some(target.clone()));
                    Some((Entry { size, version, headers: Headers::default(), target }, bytes.clone()))
                }
                (_, Held::Link { .. }) => None,
            },
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn naming(&self) -> Naming {
        self.0.naming
    }

    async fn head(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(held(&self.0.contents).object(key).map(|(entry, _)| entry))
    }

    async fn target(&self, key: &Key) -> Result<Option<Key>, StoreError> {
        Ok(match held(&self.0.contents).objects.get(key) {
            Some((_, Held::Link { target })) => Some(target.clone()),
            _ => None,
        })
    }

    async fn modified(&self, key: &Key) -> Result<Option<SystemTime>, StoreError> {
        Ok(held(&self.0.contents).written.get(key).copied())
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>, StoreError> {
        let found = held(&self.0.contents).object(key);
        Ok(found.map(|(entry, bytes)| {
            let range = super::clamp(range, entry.size);
            // Both ends are within the bytes, which fit into memory.
            let bytes = bytes.slice(range.start as usize..range.end as usize);
            Object { entry, body: Body::Bytes(bytes) }
        }))
    }

    async fn put(
        &self,
        key: &Key,
        bytes: Bytes,
        headers: &Headers,
        condition: Condition,
    ) -> Result<Written, StoreError> {
        self.write(key, self.object(bytes, headers), &condition)
    }

    async fn begin_upload(&self, hasher: Hasher) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(MemoryUpload { store: self.clone(), hasher, bytes: BytesMut::new() }))
    }

    async fn link(&self, key: &Key, target: &Key, headers: &Headers) -> Result<bool, StoreError> {
        let new = match self.0.naming {
            Naming::Links => Held::Link { target: target.clone() },
            Naming::Copies => {
                let Some((_, bytes)) = held(&self.0.contents).object(target) else {
                    let source = std::io::Error::from(std::io::ErrorKind::NotFound).into();
                    return Err(StoreError::Io { operation: "copying", what: target.to_string(), source });
                };
                Held::Object { bytes, headers: headers.clone() }
            }
        };
        let same = match (held(&self.0.contents).objects.get(key), &new) {
            (Some((_, Held::Link { target: old })), Held::Link { target: new }) => old == new,
            (
                Some((_, Held::Object { bytes: old, headers: old_headers })),
                Held::Object { bytes: new, headers: new_headers },
            ) => old == new && old_headers == new_headers,
            _ => false,
        };
        if same {
            return Ok(false);
        }
        self.write(key, new, &Condition::Always).map(|_| true)
    }

    async fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        let mut contents = held(&self.0.contents);
        contents.written.remove(key);
        Ok(contents.objects.remove(key).is_some())
    }

    async fn renew(&self, key: &Key) -> Result<(), StoreError> {
        if let Some(written) = held(&self.0.contents).written.get_mut(key) {
            *written = SystemTime::now();
        }
        Ok(())
    }

    fn list(&self, prefix: &Key) -> BoxStream<'_, Result<Listed, StoreError>> {
        let inside = format!("{prefix}/");
        let contents = held(&self.0.contents);
        let range = contents.objects.range::<str, _>((Bound::Included(inside.as_str()), Bound::Unbounded));
        let mut listed: Vec<Listed> = range
            .take_while(|(key, _)| key.as_str().starts_with(&inside))
            .filter_map(|(key, _)| match key.as_str()[inside.len()..].split_once('/') {
                // The index of the prefix itself.
                None if key.as_str() == inside => None,
                None => Some(Listed::Object(key.clone())),
                Some((component, _)) => prefix.child(component).ok().map(Listed::Prefix),
            })
            .collect();
        listed.dedup();
        stream::iter(listed).map(Ok).boxed()
    }

    fn walk(&self, prefix: &Key) -> BoxStream<'_, Result<Named, StoreError>> {
        let inside = format!("{prefix}/");
        let contents = held(&self.0.contents);
        let range = contents.objects.range::<str, _>((Bound::Excluded(inside.as_str()), Bound::Unbounded));
        let found = range.take_while(|(key, _)| key.as_str().starts_with(&inside)).filter_map(|(key, _)| {
            let (entry, bytes) = contents.object(key)?;
            // As a bucket does.
            let md5 = (self.0.naming == Naming::Copies).then(|| Md5::of(&bytes));
            Some(Named { key: key.clone(), size: entry.size, target: entry.target, md5 })
        });
        let found: Vec<Named> = found.collect();
        stream::iter(found).map(Ok).boxed()
    }

    async fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn fall_behind(&self) -> Result<Behind, StoreError> {
        let store = self.clone();
        Ok(Behind::new(move |paid| {
            store.0.casualties.fetch_add(u64::from(!paid), Ordering::SeqCst);
        }))
    }

    async fn casualties(&self) -> Result<Option<u64>, StoreError> {
        Ok(Some(self.0.casualties.load(Ordering::SeqCst)))
    }

    async fn lock(&self, name: &str, mode: LockMode) -> Result<LockGuard, StoreError> {
        Ok(self.0.locks.lock(name, mode).await)
    }
}

struct MemoryUpload {
    store: MemoryStore,
    hasher: Hasher,
    bytes: BytesMut,
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.hasher.update(&bytes);
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn digest(&mut self) -> Result<(Digest, u64), StoreError> {
        Ok((self.hasher.clone().finish(), self.bytes.len() as u64))
    }

    async fn digest_by(&mut self, algorithm: Algorithm) -> Result<Option<Digest>, StoreError> {
        Ok(Some(algorithm.digest(&self.bytes)))
    }

    async fn finish(self: Box<Self>, key: &Key, headers: &Headers) -> Result<(), StoreError> {
        let object = self.store.object(self.bytes.freeze(), headers);
        self.store.write(key, object, &Condition::Always).map(|_| ())
    }
}

//! A bucket that several processes use, and that does one thing at a time, when it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use roadstead::oci::{Algorithm, Digest, Hasher, Manifest};
use roadstead::store::{
    Condition, Entry, Headers, Key, LEASE, Lease, Listed, LockGuard, LockMode, MemoryStore, Named, Naming, Object,
    Reach, Store, StoreError, Upload, Written,
};
use tokio::sync::oneshot;

/// What somebody is about to ask.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) writes: bool,
    pub(crate) key: String,
    /// Whether it is about everything below the key.
    pub(crate) below: bool,
}

impl Call {
    /// Whether it makes a difference which of two comes first.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        let covers = |one: &Self, other: &Self| {
            one.key == other.key || (one.below && other.key.starts_with(&format!("{}/", one.key)))
        };
        (self.writes || other.writes) && (covers(self, other) || covers(other, self))
    }
}

#[derive(Default)]
struct Actor {
    waiting: VecDeque<(Call, oneshot::Sender<()>)>,
}

struct State {
    actors: Vec<Actor>,
    /// What time the service has it, in seconds.
    clock: u64,
    written: BTreeMap<Key, u64>,
    broken: Option<String>,
}

/// The service.
#[derive(Clone)]
pub(crate) struct World(Arc<Shared>);

struct Shared {
    store: MemoryStore,
    state: Mutex<State>,
}

fn time(clock: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(clock)
}

impl World {
    pub(crate) fn new(store: MemoryStore, actors: usize) -> Self {
        let actors = (0..actors).map(|_| Actor::default()).collect();
        let state = State { actors, clock: 1_000_000, written: BTreeMap::new(), broken: None };
        Self(Arc::new(Shared { store, state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// The service as an actor's process asks it.
    pub(crate) fn client(&self, actor: usize) -> Client {
        Client { world: self.clone(), actor, signed: None, locks: MemoryStore::new(Naming::Copies) }
    }

    /// What is there, asked by nobody.
    pub(crate) fn store(&self) -> &MemoryStore {
        &self.0.store
    }

    /// What an actor is about to ask.
    pub(crate) fn next(&self, actor: usize) -> Option<Call> {
        self.state().actors[actor].waiting.front().map(|(call, _)| call.clone())
    }

    /// Lets an actor ask it.
    pub(crate) fn grant(&self, actor: usize) {
        let (_, sender) = self.state().actors[actor].waiting.pop_front().unwrap();
        let _ = sender.send(());
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.state().clock += time.as_secs();
    }

    /// What was found wrong.
    pub(crate) fn broken(&self) -> Option<String> {
        self.state().broken.clone()
    }

    /// Notes that a key was written, and looks whether every tag is whole.
    fn changed(&self, key: &Key) {
        let mut state = self.state();
        let clock = state.clock;
        state.written.insert(key.clone(), clock);
        if state.broken.is_none()
            && key.as_str().starts_with("v2/")
            && let Err(problem) = whole(&self.0.store)
        {
            state.broken = Some(format!("after {key} was changed: {problem}"));
        }
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory does not wait")
}

/// The bytes under a key.
pub(crate) fn read(store: &MemoryStore, key: &str) -> Option<Bytes> {
    let key: Key = key.parse().unwrap();
    let object = now(store.get(&key, None)).unwrap()?;
    Some(now(object.body.into_bytes(1 << 24, &key)).unwrap())
}

/// The names of all objects below a prefix.
pub(crate) fn names(store: &MemoryStore, prefix: &str) -> Vec<String> {
    let walked: Vec<Named> = now(store.walk(&prefix.parse().unwrap()).try_collect()).unwrap();
    walked.into_iter().map(|named| named.key.to_string()).collect()
}

/// Another store with the same objects.
pub(crate) fn copy_of(store: &MemoryStore) -> MemoryStore {
    let copy = MemoryStore::new(Naming::Copies);
    for name in names(store, "v2").into_iter().chain(names(store, ".roadstead")) {
        let key: Key = name.parse().unwrap();
        let headers = now(store.head(&key)).unwrap().unwrap().headers;
        let _ = now(copy.put(&key, read(store, &name).unwrap(), &headers, Condition::Always)).unwrap();
    }
    copy
}

/// Whether everything is there that any tag leads to.
fn whole(store: &MemoryStore) -> Result<(), String> {
    for name in names(store, "v2") {
        let Some((repository, tag)) = name.split_once("/manifests/") else { continue };
        if tag.contains(':') {
            continue;
        }
        let mut next = vec![(name.clone(), Manifest::parse(read(store, &name).unwrap(), Algorithm::Sha256).unwrap())];
        while let Some((name, manifest)) = next.pop() {
            let by_digest = format!("{repository}/manifests/{}", manifest.digest());
            let blobs = manifest.blobs().map(|blob| format!("{repository}/blobs/{}", blob.digest));
            for needed in blobs.chain([by_digest]) {
                if now(store.head(&needed.parse().unwrap())).unwrap().is_none() {
                    return Err(format!("{name} needs {needed}, which is absent"));
                }
            }
            for child in manifest.children() {
                let name = format!("{repository}/manifests/{}", child.digest);
                let bytes = read(store, &name).ok_or_else(|| format!("{name} is absent"))?;
                next.push((name, Manifest::verify(bytes, child).unwrap()));
            }
        }
    }
    Ok(())
}

/// The service as a process sees it. Clones are of the same process.
#[derive(Clone)]
pub(crate) struct Client {
    world: World,
    actor: usize,
    /// When what it changes is signed, if not now.
    signed: Option<u64>,
    locks: MemoryStore,
}

impl Client {
    async fn turn(&self, writes: bool, key: &Key, below: bool) {
        let call = Call { writes, key: key.to_string(), below };
        let (sender, granted) = oneshot::channel();
        self.world.state().actors[self.actor].waiting.push_back((call, sender));
        if granted.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// As services judge it.
    fn check(&self, key: &Key) -> Result<(), StoreError> {
        let is_late = self.signed.is_some_and(|signed| self.world.state().clock > signed + LEASE.as_secs());
        if is_late { Err(StoreError::Late { what: key.to_string() }) } else { Ok(()) }
    }
}

#[async_trait]
impl Store for Client {
    fn describe(&self) -> String {
        "the bucket".to_owned()
    }

    fn naming(&self) -> Naming {
        Naming::Copies
    }

    async fn head(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.turn(false, key, false).await;
        self.world.0.store.head(key).await
    }

    async fn target(&self, _: &Key) -> Result<Option<Key>, StoreError> {
        Ok(None)
    }

    async fn modified(&self, key: &Key) -> Result<Option<SystemTime>, StoreError> {
        self.turn(false, key, false).await;
        Ok(self.world.state().written.get(key).map(|clock| time(*clock)))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>, StoreError> {
        self.turn(false, key, false).await;
        self.world.0.store.get(key, range).await
    }

    async fn put(&self, key: &Key, bytes: Bytes, headers: &Headers, when: Condition) -> Result<Written, StoreError> {
        self.turn(true, key, false).await;
        self.check(key)?;
        let written = self.world.0.store.put(key, bytes, headers, when).await?;
        if written == Written::Done {
            self.world.changed(key);
        }
        Ok(written)
    }

    async fn begin_upload(&self, hasher: Hasher) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(ClientUpload { client: self.clone(), upload: self.world.0.store.begin_upload(hasher).await? }))
    }

    async fn link(&self, key: &Key, target: &Key, headers: &Headers) -> Result<bool, StoreError> {
        self.turn(true, key, false).await;
        self.check(key)?;
        let changed = self.world.0.store.link(key, target, headers).await?;
        self.world.changed(key);
        Ok(changed)
    }

    async fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        self.turn(true, key, false).await;
        self.check(key)?;
        let deleted = self.world.0.store.delete(key).await?;
        self.world.changed(key);
        Ok(deleted)
    }

    fn list(&self, prefix: &Key) -> BoxStream<'_, Result<Listed, StoreError>> {
        let prefix = prefix.clone();
        let listed = async move {
            self.turn(false, &prefix, true).await;
            let listed: Vec<_> = self.world.0.store.list(&prefix).collect().await;
            stream::iter(listed)
        };
        stream::once(listed).flatten().boxed()
    }

    fn walk(&self, prefix: &Key) -> BoxStream<'_, Result<Named, StoreError>> {
        let prefix = prefix.clone();
        let walked = async move {
            self.turn(false, &prefix, true).await;
            let walked: Vec<_> = self.world.0.store.walk(&prefix).collect().await;
            stream::iter(walked)
        };
        stream::once(walked).flatten().boxed()
    }

    async fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn reach(&self) -> Reach {
        Reach::Process
    }

    async fn is_fenced(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn lease(&self, key: &Key, bytes: Bytes, when: Condition) -> Result<Option<Lease>, StoreError> {
        self.turn(true, key, false).await;
        if self.world.0.store.put(key, bytes, &Headers::default(), when).await? == Written::Refused {
            return Ok(None);
        }
        self.world.changed(key);
        let version = self.world.0.store.head(key).await?.unwrap().version;
        let clock = self.world.state().clock;
        let store = Arc::new(Self { signed: Some(clock), ..self.clone() });
        Ok(Some(Lease { store, version, at: time(clock), unanswered: Arc::default() }))
    }

    async fn try_lease(&self) -> Result<SystemTime, StoreError> {
        self.turn(false, &"probe".parse().unwrap(), false).await;
        Ok(time(self.world.state().clock))
    }

    async fn lock(&self, name: &str, mode: LockMode) -> Result<LockGuard, StoreError> {
        self.locks.lock(name, mode).await
    }
}

struct ClientUpload {
    client: Client,
    upload: Box<dyn Upload>,
}

#[async_trait]
impl Upload for ClientUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.upload.write(bytes).await
    }

    async fn digest(&mut self) -> Result<(Digest, u64), StoreError> {
        self.upload.digest().await
    }

    async fn finish(self: Box<Self>, key: &Key, headers: &Headers) -> Result<(), StoreError> {
        self.client.turn(true, key, false).await;
        self.upload.finish(key, headers).await?;
        self.client.world.changed(key);
        Ok(())
    }
}

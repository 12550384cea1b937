//! A store as somebody uses it who has announced itself, or has closed the gate.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::{Announcement, Condition, Format, Headers, Key, Lease, RENEW, Store, StoreError, Written, json, keys};
use crate::oci::{Algorithm, Digest, Hasher, Repository};
use crate::store::{Aim, Entry, LeftOvers, Listed, LockGuard, LockMode, Named, Naming, Object, Reach, Upload};

/// Announces a writer as soon as it asks for anything, and keeps the lease alive as long as it does. Clones share it.
#[derive(Clone)]
pub(in crate::tree) struct Beside(Arc<Inner>);

struct Inner {
    base: Arc<dyn Store>,
    role: Role,
    state: Mutex<State>,
}

enum Role {
    /// In some repositories. For how long it waits until nothing is removed there, if not for as long as it takes.
    Writer(Vec<Repository>, Option<Duration>),
    Remover,
}

enum State {
    /// Nothing is said.
    Silent,
    Held(Box<Held>),
    /// Somebody has taken the lease away, or it is given back.
    Lost,
}

struct Held {
    key: Key,
    says: Says,
    lease: Lease,
    /// Before it was taken.
    since: Instant,
    /// The count of removals that was seen then.
    removals: u64,
    /// Whether something that was sent under an earlier lease may yet be done.
    unsettled: bool,
}

impl Held {
    /// Whether everything that was sent is done.
    fn is_settled(&self) -> bool {
        !self.unsettled && !self.lease.unanswered.load(Ordering::SeqCst)
    }
}

enum Says {
    Writing(Announcement),
    Removing(Format),
}

impl Says {
    /// The same once more, in other bytes.
    fn again(&mut self) -> Bytes {
        match self {
            Self::Writing(announcement) => {
                announcement.turn += 1;
                json(announcement)
            }
            Self::Removing(format) => {
                format.removing.iter_mut().for_each(|removing| removing.turn += 1);
                json(format)
            }
        }
    }
}

impl Beside {
    pub(super) fn writer(base: Arc<dyn Store>, repositories: Vec<Repository>) -> Self {
        Self(Arc::new(Inner { base, role: Role::Writer(repositories, None), state: Mutex::new(State::Silent) }))
    }

    /// One that gives up when something is removed there for longer than `patience`.
    pub(super) fn patient_writer(base: Arc<dyn Store>, repositories: Vec<Repository>, patience: Duration) -> Self {
        let role = Role::Writer(repositories, Some(patience));
        Self(Arc::new(Inner { base, role, state: Mutex::new(State::Silent) }))
    }

    /// Whether both are the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether anybody has it but who asks.
    pub(super) fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whoever has closed the gate.
    pub(super) fn remover(base: Arc<dyn Store>, format: Format, lease: Lease, since: Instant) -> Self {
        let (removals, key) = (format.removals, keys::format());
        let held = Held { key, says: Says::Removing(format), lease, since, removals, unsettled: false };
        Self(Arc::new(Inner { base, role: Role::Remover, state: Mutex::new(State::Held(Box::new(held))) }))
    }

    fn lost(&self) -> StoreError {
        StoreError::Fenced { what: self.0.base.describe() }
    }

    /// The state with a lease that holds for a while, on a writer's first call with an announcement.
    async fn held(&self, renew: bool) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.0.state.lock().await;
        match (&mut *state, &self.0.role) {
            (State::Held(held), _) if renew || held.since.elapsed() >= RENEW => {
                held.unsettled = !held.is_settled();
                let (since, when) = (Instant::now(), Condition::Unchanged(held.lease.version.clone()));
                match self.0.base.lease(&held.key, held.says.again(), when).await? {
                    Some(lease) => (held.lease, held.since) = (lease, since),
                    None => *state = State::Lost,
                }
            }
            (State::Silent, Role::Writer(repositories, patience)) => {
                *state = State::Held(Box::new(self.enter(repositories, *patience).await?));
            }
            _ => {}
        }
        match &*state {
            State::Held(_) => Ok(state),
            State::Silent | State::Lost => Err(self.lost()),
        }
    }

    /// Waits until nothing is removed from some repositories, and keeps it so.
    async fn enter(&self, repositories: &[Repository], patience: Option<Duration>) -> Result<Held, StoreError> {
        let (base, waiting) = (&self.0.base, Instant::now());
        let names: Vec<String> = repositories.iter().map(ToString::to_string).collect();
        loop {
            let (key, since) = (keys::writer(&super::word()), Instant::now());
            let announcement = Announcement { repositories: names.clone(), fenced: base.is_fenced().await?, turn: 0 };
            let Some(lease) = base.lease(&key, json(&announcement), Condition::Absent).await? else { continue };
            let (format, when) = match super::read_gate(&**base).await {
                Ok(gate) => gate,
                Err(error) => {
                    // Nobody is at work, and nobody should wait until that is clear.
                    let _ = super::silence(&**base, &key).await;
                    return Err(error);
                }
            };
            let Some(removing) = format.removing.as_ref().filter(|by| names.contains(&by.repository)) else {
                let (says, removals) = (Says::Writing(announcement), format.removals);
                return Ok(Held { key, says, lease, since, removals, unsettled: false });
            };
            tracing::info!("waits until whoever removes something from {} is done", removing.repository);
            super::silence(&**base, &key).await?;
            if super::is_dead(base.modified(&keys::format()).await?, lease.at) {
                super::reopen(&**base, format, when).await?;
            } else if patience.is_some_and(|patience| waiting.elapsed() >= patience) {
                return Err(StoreError::Closed { what: format!("{}/{}", base.describe(), keys::format()) });
            } else {
                tokio::time::sleep(super::PAUSE).await;
            }
        }
    }

    /// Announces the writer, unless it is announced. Returns the count of removals since which nothing is removed.
    pub(super) async fn announce(&self) -> Result<u64, StoreError> {
        match &*self.held(false).await? {
            State::Held(held) => Ok(held.removals),
            State::Silent | State::Lost => Err(self.lost()),
        }
    }

    /// Says that the writer is done; whatever it does later begins with another announcement.
    pub(super) async fn withdraw(&self) -> Result<(), StoreError> {
        let mut state = self.0.state.lock().await;
        match std::mem::replace(&mut *state, State::Silent) {
            State::Held(held) if held.is_settled() => super::silence(&*self.0.base, &held.key).await?,
            // Others wait until nothing that was sent can come any more.
            State::Held(_) | State::Silent => {}
            State::Lost => *state = State::Lost,
        }
        Ok(())
    }

    /// Opens the gate, unless somebody has done that.
    pub(super) async fn open_gate(&self) -> Result<(), StoreError> {
        let mut state = self.0.state.lock().await;
        let State::Held(held) = std::mem::replace(&mut *state, State::Lost) else { return Ok(()) };
        if !held.is_settled() {
            tracing::warn!("an answer is missing, so writers wait until nothing more can be removed");
            return Ok(());
        }
        if let Says::Removing(format) = held.says {
            super::reopen(&*self.0.base, format, Condition::Unchanged(held.lease.version)).await?;
        }
        Ok(())
    }

    /// The store as it may be changed now; `renew` after it was refused as too late.
    async fn store(&self, renew: bool) -> Result<Arc<dyn Store>, StoreError> {
        match &*self.held(renew).await? {
            State::Held(held) => Ok(held.lease.store.clone()),
            State::Silent | State::Lost => Err(self.lost()),
        }
    }

    /// The store to read from, and to upload to: what is read is relied upon.
    async fn base(&self) -> Result<&Arc<dyn Store>, StoreError> {
        self.held(false).await.map(|_| &self.0.base)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A writer that failed says so, if it can. Else it is taken for dead in time.
        if let (Role::Writer(..), State::Held(held), Ok(runtime)) =
            (&self.role, self.state.get_mut(), tokio::runtime::Handle::try_current())
            && held.is_settled()
        {
            let (base, key) = (self.base.clone(), held.key.clone());
            runtime.spawn(async move { super::silence(&*base, &key).await });
        }
    }
}

#[async_trait]
impl Store for Beside {
    fn describe(&self) -> String {
        self.0.base.describe()
    }

    fn naming(&self) -> Naming {
        self.0.base.naming()
    }

    async fn head(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.base().await?.head(key).await
    }

    async fn target(&self, key: &Key) -> Result<Option<Key>, StoreError> {
        self.base().await?.target(key).await
    }

    async fn modified(&self, key: &Key) -> Result<Option<SystemTime>, StoreError> {
        self.base().await?.modified(key).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>, StoreError> {
        self.base().await?.get(key, range).await
    }

    async fn put(&self, key: &Key, bytes: Bytes, headers: &Headers, when: Condition) -> Result<Written, StoreError> {
        match self.store(false).await?.put(key, bytes.clone(), headers, when.clone()).await {
            Err(StoreError::Late { .. }) => self.store(true).await?.put(key, bytes, headers, when).await,
            other => other,
        }
    }

    async fn begin_upload(&self, hasher: Hasher) -> Result<Box<dyn Upload>, StoreError> {
        let upload = self.base().await?.begin_upload(hasher).await?;
        Ok(Box::new(UploadBeside { beside: self.clone(), upload }))
    }

    async fn begin_upload_to(&self, hasher: Hasher, aim: Aim) -> Result<Box<dyn Upload>, StoreError> {
        let upload = self.base().await?.begin_upload_to(hasher, aim).await?;
        Ok(Box::new(UploadBeside { beside: self.clone(), upload }))
    }

    fn location(&self, key: &Key) -> Option<String> {
        self.0.base.location(key)
    }

    async fn begin_copy(
        &self,
        from: &str,
        algorithm: Algorithm,
        size: Option<u64>,
    ) -> Result<Option<Box<dyn Upload>>, StoreError> {
        self.base().await?.begin_copy(from, algorithm, size).await
    }

    async fn link(&self, key: &Key, target: &Key, headers: &Headers) -> Result<bool, StoreError> {
        match self.store(false).await?.link(key, target, headers).await {
            Err(StoreError::Late { .. }) => self.store(true).await?.link(key, target, headers).await,
            other => other,
        }
    }

    async fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        match self.store(false).await?.delete(key).await {
            Err(StoreError::Late { .. }) => self.store(true).await?.delete(key).await,
            other => other,
        }
    }

    async fn discard(&self, key: &Key) -> Result<(), StoreError> {
        match self.store(false).await?.discard(key).await {
            Err(StoreError::Late { .. }) => self.store(true).await?.discard(key).await,
            other => other,
        }
    }

    async fn renew(&self, key: &Key) -> Result<(), StoreError> {
        self.base().await?.renew(key).await
    }

    fn list(&self, prefix: &Key) -> BoxStream<'_, Result<Listed, StoreError>> {
        let prefix = prefix.clone();
        stream::once(async move { Ok(self.base().await?.list(&prefix)) }).try_flatten().boxed()
    }

    fn walk(&self, prefix: &Key) -> BoxStream<'_, Result<Named, StoreError>> {
        let prefix = prefix.clone();
        stream::once(async move { Ok(self.base().await?.walk(&prefix)) }).try_flatten().boxed()
    }

    async fn publish(&self) -> Result<(), StoreError> {
        self.0.base.publish().await
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.0.base.sync().await
    }

    async fn left_overs(&self, remove: bool) -> Result<LeftOvers, StoreError> {
        self.0.base.left_overs(remove).await
    }

    fn reach(&self) -> Reach {
        self.0.base.reach()
    }

    async fn lock(&self, name: &str, mode: LockMode) -> Result<LockGuard, StoreError> {
        self.0.base.lock(name, mode).await
    }
}

/// An upload that keeps the lease alive, however long it takes.
struct UploadBeside {
    beside: Beside,
    upload: Box<dyn Upload>,
}

#[async_trait]
impl Upload for UploadBeside {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        drop(self.beside.held(false).await?);
        self.upload.write(bytes).await
    }

    async fn digest(&mut self) -> Result<(Digest, u64), StoreError> {
        self.upload.digest().await
    }

    async fn digest_by(&mut self, algorithm: Algorithm) -> Result<Option<Digest>, StoreError> {
        self.upload.digest_by(algorithm).await
    }

    async fn finish(self: Box<Self>, key: &Key, headers: &Headers) -> Result<(), StoreError> {
        drop(self.beside.held(false).await?);
        self.upload.finish(key, headers).await
    }
}

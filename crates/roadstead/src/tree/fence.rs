//! Removing beside writers, in a store whose locks don't reach them all.
//!
//! A writer *announces* itself: an object says in which repositories it relies on what is there. A remover closes a *gate* in
//! front of one repository, in the file that says the format. Each writes its own object first and then looks at the other's, so
//! at least one of two sees the other: a remover waits until those who were there before it have gone, a writer that finds the
//! gate closed steps back until it is open. What either does in between is done under a [lease](crate::store::Lease) on its
//! object, so one of whom nothing was heard for long enough can be taken for dead by whoever waits, and is harmless even if it
//! wakes: the store refuses what it sends, and its lease can't be renewed.
//!
//! The gate counts how often it was closed and opened. Who has compared before it announced itself sees by the count whether
//! what it saw may be gone.
//!
//! *Rejected:* announcing each blob that is relied upon, which takes a request for each or knowledge of all beforehand; clocks of
//! writers, which sleep.

mod beside;
mod together;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub(super) use beside::Beside;
pub(super) use together::Together;

use super::{Format, Tree, TreeError, keys, lists, sink};
use crate::oci::Repository;
use crate::store::{Condition, Headers, Key, LEASE, Lease, Listed, LockMode, Reach, Store, StoreError, Written};

/// After which time without a word somebody is dead: a lease, and what a service may take to finish what came at its end, with
/// clocks of its machines that differ a little.
const DEAD: Duration = LEASE.saturating_add(Duration::from_mins(2));

/// After which time a lease is renewed, whenever something is done.
const RENEW: Duration = Duration::from_mins(4);

/// How long somebody waits before looking again.
const PAUSE: Duration = Duration::from_secs(1);

/// For how long a remover keeps new writers out while it waits for those who are there.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many questions are asked at once.
const AT_ONCE: usize = 16;

/// The most bytes of an announcement: a few hundred names.
const MAX_ANNOUNCEMENT: u64 = 1 << 20;

/// Who removes, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Removing {
    /// A word that nobody else has.
    by: String,
    repository: String,
    /// How often it has said so.
    turn: u64,
}

/// A writer's announcement.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Announcement {
    #[serde(default)]
    repositories: Vec<String>,
    /// Whether its lease ends: else nobody may take it for dead.
    #[serde(default)]
    fenced: bool,
    #[serde(default)]
    turn: u64,
}

/// What nobody else has.
fn word() -> String {
    format!("{:032x}", fastrand::u128(..))
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("names are strings").into()
}

/// The format and the gate as they stand, and what has to hold for them to be replaced.
async fn read_gate(store: &dyn Store) -> Result<(Format, Condition), StoreError> {
    let key = keys::format();
    let damaged = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Io {
        operation: "understanding",
        what: format!("{}/{key}", store.describe()),
        source,
    };
    let object = store.get(&key, None).await?.ok_or_else(|| damaged("it is gone".into()))?;
    let version = object.entry.version.clone();
    let bytes = object.body.into_bytes(super::MAX_FORMAT, &key).await?;
    let format: Format = serde_json::from_slice(&bytes).map_err(|e| damaged(e.into()))?;
    // Somebody who vouched for being alone made the tree, perhaps where that is the only way.
    if !format.conditional {
        store.try_conditions().await?;
    }
    Ok((format, Condition::Unchanged(version)))
}

/// Whether nothing that was last heard of then can still act.
fn is_dead(heard: Option<SystemTime>, now: SystemTime) -> bool {
    heard.is_some_and(|heard| now.duration_since(heard).is_ok_and(|silent| silent > DEAD))
}

/// Opens the gate that somebody left closed who is dead, unless that changed meanwhile.
async fn reopen(store: &dyn Store, mut format: Format, when: Condition) -> Result<(), StoreError> {
    format.removals += 1;
    format.removing = None;
    let _ = store.put(&keys::format(), json(&format), &Headers::default(), when).await?;
    Ok(())
}

/// Takes an announcement back. Whoever may not delete says that it is about nothing.
async fn silence(store: &dyn Store, key: &Key) -> Result<(), StoreError> {
    match store.discard(key).await {
        Err(error) if error.is_permission_denied() => {
            let nothing = json(&Announcement::default());
            store.put(key, nothing, &Headers::default(), Condition::Always).await.map(drop)
        }
        deleted => deleted,
    }
}

/// Writers that are at work now: in a repository, or without one in any. Those who are dead are made sure of.
async fn writers(store: &dyn Store, repository: Option<&Repository>, now: SystemTime) -> Result<Vec<Key>, StoreError> {
    let mut alive = Vec::new();
    let listed: Vec<Listed> = store.list(&keys::writers()).try_collect().await?;
    for listed in listed {
        let Listed::Object(key) = listed else { continue };
        let Some(object) = store.get(&key, None).await? else { continue };
        let when = Condition::Unchanged(object.entry.version.clone());
        let bytes = object.body.into_bytes(MAX_ANNOUNCEMENT, &key).await?;
        // What can't be understood may be about anything.
        let said: Option<Announcement> = serde_json::from_slice(&bytes).ok();
        if let Some(said) = &said {
            if said.repositories.is_empty() {
                store.discard(&key).await?;
                continue;
            }
            if repository.is_some_and(|repository| !said.repositories.iter().any(|name| name == repository.as_str())) {
                continue;
            }
        }
        let fenced = said.is_some_and(|said| said.fenced);
        if !fenced || !is_dead(store.modified(&key).await?, now) {
            alive.push(key);
            continue;
        }
        // Who renews it at this moment lives, and changes it first or finds it changed.
        let void = json(&Announcement::default());
        match store.put(&key, void, &Headers::default(), when).await? {
            Written::Done => store.discard(&key).await?,
            Written::Refused => alive.push(key),
        }
    }
    Ok(alive)
}

impl Tree {
    /// Does something that deletes what a writer may rely on before it has a name, while every writer is kept away: from the
    /// tree, or, where locks don't reach them all, from one repository.
    ///
    /// # Errors
    ///
    /// [`TreeError::Busy`] if somebody is at work there, and stays; [`StoreError::Unfenced`] if there may be writers whom
    /// neither locks nor leases of the store keep away; else those of the work.
    pub(super) async fn alone<T, F>(
        &self,
        repository: &Repository,
        work: impl FnOnce(Self) -> F,
    ) -> Result<T, TreeError>
    where
        F: Future<Output = Result<T, TreeError>>,
    {
        let store = &self.0.store;
        let lock_name = self.lock_of_writers(repository);
        let lock = store.lock(&lock_name, LockMode::Exclusive);
        if store.reach() == Reach::Everybody {
            let _lock = lock.await?;
            return work(self.clone()).await;
        }
        // As long as it is waited for, nobody else of this process begins to write there: a blob may be on its way for
        // minutes.
        let _lock = match tokio::time::timeout(PATIENCE, lock).await {
            Ok(lock) => lock?,
            Err(_) => return Err(self.busy(repository, Some(&keys::writers()))),
        };
        self.end_pushes(repository).await?;
        let (proved, since) = self.prove_leases().await?;
        let now = || proved + since.elapsed();
        let beside = self.close_gate(repository, now).await?;
        let waiting = Instant::now();
        let entered = loop {
            match writers(&**store, Some(repository), now()).await {
                Ok(writers) if writers.is_empty() => break Ok(()),
                Ok(_) if waiting.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
                Ok(writers) => break Err(self.busy(repository, writers.first())),
                Err(error) => break Err(error.into()),
            }
        };
        let done = match entered {
            Ok(()) => work(self.over(&beside)).await,
            Err(error) => Err(error),
        };
        let opened = beside.open_gate().await;
        let value = done?;
        opened?;
        Ok(value)
    }

    /// The lock that writers share, and whoever removes something holds alone. Where no lock reaches everybody it is
    /// about some repositories: who removes something from one waits for others, and lets nobody wait in the others
    /// meanwhile.
    pub(super) fn lock_of_writers(&self, repository: &Repository) -> Cow<'static, str> {
        match self.0.store.reach() {
            Reach::Everybody => sink::WRITERS.into(),
            Reach::Process => format!("{}-{:02x}", sink::WRITERS, lists::stripe(repository)).into(),
        }
    }

    /// What time it was for the store when it proved that it refuses what is late, and when that was.
    async fn prove_leases(&self) -> Result<(SystemTime, Instant), StoreError> {
        let prove = || async { Ok((self.0.store.try_lease().await?, Instant::now())) };
        self.0.fenced.get_or_try_init(prove).await.copied()
    }

    /// Removes what writers left who are dead.
    pub(super) async fn forget_the_dead(&self) -> Result<(), TreeError> {
        let store = &self.0.store;
        if store.reach() == Reach::Process && store.list(&keys::writers()).try_next().await?.is_some() {
            let (proved, since) = self.prove_leases().await?;
            writers(&**store, None, proved + since.elapsed()).await?;
        }
        Ok(())
    }

    fn busy(&self, repository: &Repository, sign: Option<&Key>) -> TreeError {
        let sign = sign.map_or_else(|| keys::format().to_string(), ToString::to_string);
        TreeError::Busy { repository: repository.clone(), sign: format!("{}/{sign}", self.0.store.describe()) }
    }

    /// Closes the gate in front of a repository. `now` says what time it is for the store, or an earlier one.
    async fn close_gate(&self, repository: &Repository, now: impl Fn() -> SystemTime) -> Result<Beside, TreeError> {
        let (store, waiting) = (&self.0.store, Instant::now());
        let by = word();
        loop {
            let (mut format, when) = read_gate(&**store).await?;
            if format.removing.is_some() && !is_dead(store.modified(&keys::format()).await?, now()) {
                if waiting.elapsed() >= PATIENCE {
                    return Err(self.busy(repository, None));
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let since = Instant::now();
            format.removals += 1;
            format.removing = Some(Removing { by: by.clone(), repository: repository.to_string(), turn: 0 });
            if let Some(lease) = store.lease(&keys::format(), json(&format), when).await? {
                return Ok(Beside::remover(store.clone(), format, lease, since));
            }
        }
    }

    /// The tree as a writer of these repositories may change it, beside whom nothing is removed from them.
    pub(crate) fn beside(&self, repositories: Vec<Repository>) -> Self {
        if self.0.store.reach() == Reach::Everybody || self.0.beside.is_some() || repositories.is_empty() {
            return self.clone();
        }
        self.over(&Beside::writer(self.0.store.clone(), repositories))
    }

    /// Announces the writer, if there is one to be announced. Returns the count of removals since which nothing is removed.
    pub(crate) async fn announce(&self) -> Result<Option<u64>, TreeError> {
        let Some(beside) = &self.0.beside else { return Ok(None) };
        let removals = beside.announce().await?;
        self.note_removals(removals);
        Ok(Some(removals))
    }

    /// Repositories that have a list of tags, and in which writers are at work who announced themselves.
    pub(super) async fn listed_by_others(&self) -> Result<Vec<Repository>, TreeError> {
        let store = &self.0.store;
        if store.reach() == Reach::Everybody {
            return Ok(Vec::new());
        }
        let listed: Vec<Listed> = store.list(&keys::writers()).try_collect().await?;
        let said = stream::iter(listed).map(|listed| async move {
            let Listed::Object(key) = listed else { return Ok(Vec::new()) };
            let Some(object) = store.get(&key, None).await? else { return Ok(Vec::new()) };
            let bytes = object.body.into_bytes(MAX_ANNOUNCEMENT, &key).await?;
            let said: Announcement = serde_json::from_slice(&bytes).unwrap_or_default();
            Ok::<_, StoreError>(said.repositories)
        });
        let said: Vec<Vec<String>> = said.buffered(AT_ONCE).try_collect().await?;
        let named: BTreeSet<Repository> = said.into_iter().flatten().filter_map(|name| name.parse().ok()).collect();
        let listed = stream::iter(named).map(|repository| async move {
            let there = store.head(&keys::tags_list(&repository)).await?;
            Ok::<_, TreeError>(there.map(|_| repository))
        });
        let listed: Vec<Option<Repository>> = listed.buffered(AT_ONCE).try_collect().await?;
        Ok(listed.into_iter().flatten().collect())
    }

    /// Says that the writer is done.
    pub(crate) async fn withdraw(&self) -> Result<(), TreeError> {
        if let Some(beside) = &self.0.beside {
            beside.withdraw().await?;
        }
        Ok(())
    }

    /// How many removals there had been when that was last looked at.
    pub(crate) fn removals(&self) -> u64 {
        self.0.removals.load(Ordering::SeqCst)
    }

    pub(super) fn note_removals(&self, removals: u64) {
        self.0.removals.store(removals, Ordering::SeqCst);
    }
}

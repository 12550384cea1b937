//! Announcements that the pushes of one process share.
//!
//! A push is several requests, and a repository that is pushed to gets many, so an announcement for each of them would
//! be most of what a bucket is asked to write. Those that come while one stands share it. It is taken back when nobody
//! has used it for [`IDLE`]; and after [`TURN`] whoever comes makes another one, and so looks at the gate, however many
//! push: a remover waits no longer than the steps take that were under way by then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use tokio::time::Instant;

use super::{AT_ONCE, Beside, PATIENCE, Tree, TreeError};
use crate::oci::Repository;
use crate::store::{Reach, Store, StoreError};

/// After which time without a push an announcement is taken back.
const IDLE: Duration = Duration::from_secs(3);

/// For how long others may join one: a part of the time for which removers wait.
const TURN: Duration = Duration::from_secs(10);

/// Announcements that stand, by what they are about.
#[derive(Default)]
pub(in crate::tree) struct Together(Mutex<HashMap<Repository, Shared>>);

struct Shared {
    beside: Beside,
    since: Instant,
    used: Instant,
}

impl Together {
    fn standing(&self) -> MutexGuard<'_, HashMap<Repository, Shared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The announcement about a repository. One that is new is made when something is first asked of it.
    fn join(self: &Arc<Self>, base: &Arc<dyn Store>, repository: &Repository) -> Beside {
        let mut standing = self.standing();
        let now = Instant::now();
        if let Some(shared) = standing.get_mut(repository) {
            shared.used = now;
            return shared.beside.clone();
        }
        let beside = Beside::patient_writer(base.clone(), vec![repository.clone()], PATIENCE);
        standing.insert(repository.clone(), Shared { beside: beside.clone(), since: now, used: now });
        drop(standing);
        let (together, repository) = (Arc::downgrade(self), repository.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE).await;
                let Some(together) = together.upgrade() else { return };
                match together.look_at(&repository, now) {
                    Next::Wait => {}
                    Next::Over(ended) => return withdraw(&repository, ended).await,
                }
            }
        });
        beside
    }

    /// Whether an announcement that stands since then goes on. One that doesn't can't be joined any more.
    fn look_at(&self, repository: &Repository, since: Instant) -> Next {
        let mut standing = self.standing();
        let Some(shared) = standing.get(repository).filter(|shared| shared.since == since) else {
            return Next::Over(None);
        };
        let idle = !shared.beside.is_used() && shared.used.elapsed() >= IDLE;
        if !idle && since.elapsed() < TURN {
            return Next::Wait;
        }
        Next::Over(standing.remove(repository).map(|shared| shared.beside))
    }

    /// Lets nobody join an announcement any more, which is another one than that which stands by now, perhaps.
    fn forget(&self, repository: &Repository, beside: &Beside) {
        let mut standing = self.standing();
        if standing.get(repository).is_some_and(|shared| shared.beside.is(beside)) {
            standing.remove(repository);
        }
    }

    fn take(&self, repository: &Repository) -> Option<Beside> {
        self.standing().remove(repository).map(|shared| shared.beside)
    }
}

enum Next {
    Wait,
    /// With what nobody else can join now.
    Over(Option<Beside>),
}

/// Takes an announcement back, unless somebody still uses it; then that happens when the last one is done.
async fn withdraw(repository: &Repository, ended: Option<Beside>) {
    let Some(beside) = ended.filter(|beside| !beside.is_used()) else { return };
    if let Err(error) = beside.withdraw().await {
        let cause: &(dyn std::error::Error + 'static) = &error;
        tracing::warn!(
            error = cause,
            "removers of {repository} wait a while, since this can't say that nobody is at work"
        );
    }
}

impl Tree {
    /// The tree as a push changes one of its repositories, beside whom nothing is removed from it. When this returns,
    /// that holds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Closed`] if something is being removed, and that doesn't end; if the store can't be read or
    /// written.
    pub(in crate::tree) async fn beside_pushes(&self, repository: &Repository) -> Result<Self, TreeError> {
        let Self(inner) = self;
        if inner.store.reach() == Reach::Everybody || inner.beside.is_some() {
            return Ok(self.clone());
        }
        let mut tries = 0;
        loop {
            let beside = inner.together.join(&inner.store, repository);
            let error = match beside.announce().await {
                Ok(removals) => {
                    self.note_removals(removals);
                    return Ok(self.over(&beside));
                }
                Err(error) => error,
            };
            inner.together.forget(repository, &beside);
            // It was taken for dead while nobody used it.
            if !matches!(error, StoreError::Fenced { .. }) || tries == 2 {
                return Err(error.into());
            }
            tries += 1;
        }
    }

    /// Takes back what was announced for pushes into a repository. Whoever calls keeps others of this process from
    /// pushing there.
    pub(super) async fn end_pushes(&self, repository: &Repository) -> Result<(), TreeError> {
        match self.0.together.take(repository) {
            Some(beside) => Ok(beside.withdraw().await?),
            None => Ok(()),
        }
    }

    /// Takes back everything that was announced for pushes, so that nobody waits for a process that ends. What is still
    /// under way is taken back when it is done.
    pub async fn end_all_pushes(&self) {
        let standing: Vec<(Repository, Shared)> = self.0.together.standing().drain().collect();
        let ended = stream::iter(standing);
        ended.for_each_concurrent(AT_ONCE, async |(name, shared)| withdraw(&name, Some(shared.beside)).await).await;
    }
}

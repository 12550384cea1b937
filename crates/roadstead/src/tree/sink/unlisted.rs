//! Tags that were given and are in no list yet: one writer brings up to date what several wait for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Tree, TreeError};
use crate::oci::{Repository, Tag};
use crate::store::Behind;

/// A tag that this process gave. Others are told if no list comes to name it.
pub(super) type Given = (Tag, Behind);

/// Repositories whose lists wait to be written, with the tags that came.
///
/// Whoever finishes one writes the lists of all that wait, and the catalogue once for them; the others wait for that.
#[derive(Default)]
pub(in super::super) struct Unlisted {
    waiting: Mutex<BTreeMap<Repository, Vec<Given>>>,
    turn: tokio::sync::Mutex<()>,
}

impl Unlisted {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Repository, Vec<Given>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Repositories whose lists are being written. They wait again if that fails, or nobody waits for it any more; the tags count as
/// casualties then, so that the names are looked at again.
struct Listing<'a> {
    unlisted: &'a Unlisted,
    repositories: BTreeMap<Repository, Vec<Given>>,
}

impl Listing<'_> {
    fn done(mut self) {
        for (_, behind) in std::mem::take(&mut self.repositories).into_values().flatten() {
            behind.caught_up();
        }
    }
}

impl Drop for Listing<'_> {
    fn drop(&mut self) {
        let again = std::mem::take(&mut self.repositories).into_keys();
        let mut waiting = self.unlisted.waiting();
        again.for_each(|repository| {
            waiting.entry(repository).or_default();
        });
    }
}

fn tags(given: &[Given]) -> BTreeSet<Tag> {
    given.iter().map(|(tag, _)| tag.clone()).collect()
}

impl Tree {
    /// Brings the lists of a repository up to date, to which these tags were given, together with those of all repositories that
    /// wait for it as well.
    pub(super) async fn finish_lists(&self, repository: &Repository, given: Vec<Given>) -> Result<(), TreeError> {
        let unlisted = &self.0.unlisted;
        unlisted.waiting().entry(repository.clone()).or_default().extend(given);
        let _turn = unlisted.turn.lock().await;
        let repositories = std::mem::take(&mut *unlisted.waiting());
        let mut listing = Listing { unlisted, repositories };
        if !listing.repositories.contains_key(repository) {
            return Ok(());
        }
        let new = listing.repositories.iter().map(|(name, given)| (name.clone(), tags(given))).collect();
        let together = self.add_to_lists(&new).await;
        if together.is_err() && new.len() > 1 {
            // Each learns by itself which one can't be written.
            drop(listing.repositories.remove(repository));
            return self.write_lists(&BTreeSet::from([repository.clone()])).await;
        }
        together.map(|()| listing.done())
    }
}

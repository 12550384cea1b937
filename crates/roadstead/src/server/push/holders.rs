//! Repositories that came to hold a blob by way of this server.
//!
//! In a bucket a small blob costs less to send than to say who has it, so nothing there does; a client that asks for
//! one to be mounted without a word from where is served from what this process remembers. Whoever is told looks
//! whether it is still so.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::oci::{Digest, Repository};
use crate::store::Naming;
use crate::tree::Tree;

/// Of how many blobs that is remembered at most.
const MOST: usize = 4096;

/// Who was last seen to hold a blob; nothing where the tree says that itself.
pub(super) struct Holders(Option<Mutex<HashMap<Digest, Repository>>>);

impl Holders {
    pub(super) fn over(tree: &Tree) -> Self {
        Self((tree.store().naming() == Naming::Copies).then(Mutex::default))
    }

    pub(super) fn note(&self, repository: &Repository, digest: &Digest) {
        let Some(holders) = &self.0 else { return };
        let mut holders = holders.lock().unwrap_or_else(PoisonError::into_inner);
        if holders.len() >= MOST {
            holders.clear();
        }
        holders.insert(*digest, repository.clone());
    }

    pub(super) fn of(&self, digest: &Digest) -> Option<Repository> {
        self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }
}

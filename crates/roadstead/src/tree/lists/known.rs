//! What this process knows of lists as they lie, so that it needn't make all of one anew for each name that comes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::oci::Repository;
use crate::store::Version;

/// Of how many lists of tags something is known at most.
const MOST: usize = 4096;

/// Lists that were right in a version, and are as long as that version lies there.
#[derive(Default)]
pub(in super::super) struct Known {
    tags: Mutex<HashMap<Repository, Right>>,
    catalog: Mutex<Option<Version>>,
}

/// A list of tags that lacked none when it had this version, but those of writers that live: everybody adds their own, under
/// the lock of the list.
#[derive(PartialEq, Eq)]
struct Right {
    version: Version,
    /// How many [casualties](crate::store::Store::casualties) there had been. Whoever joins them may have made a tag that no list
    /// names.
    casualties: u64,
}

impl Known {
    fn tags(&self) -> MutexGuard<'_, HashMap<Repository, Right>> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn catalog(&self) -> MutexGuard<'_, Option<Version>> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the list of a repository's tags is known to be right.
    pub(super) fn are_right(&self, repository: &Repository, version: &Version, casualties: u64) -> bool {
        self.tags().get(repository).is_some_and(|right| right.casualties == casualties && right.version == *version)
    }

    pub(super) fn note_tags(&self, repository: &Repository, version: Version, casualties: u64) {
        let mut tags = self.tags();
        if tags.len() >= MOST && !tags.contains_key(repository) {
            // Each is found out again with the next tag.
            tags.clear();
        }
        tags.insert(repository.clone(), Right { version, casualties });
    }

    /// Whether the catalogue is known to be one, and sorted.
    pub(super) fn is_catalog(&self, version: &Version) -> bool {
        self.catalog().as_ref() == Some(version)
    }

    pub(super) fn note_catalog(&self, version: Version) {
        *self.catalog() = Some(version);
    }
}

//! The catalogue.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};

use super::super::splice::Spliced;
use super::super::{Tree, TreeError, derived, keys};
use super::json;
use crate::oci::Repository;
use crate::store::{Condition, Key, LockMode, Reach, Small, Written};

/// What the catalogue begins with.
const HEAD: &str = "{\"repositories\":[";

/// What `_catalog` says.
#[derive(Serialize, Deserialize)]
pub(in super::super) struct Catalog {
    pub(in super::super) repositories: Vec<String>,
}

impl Tree {
    /// The repositories that the catalogue names; none if it can't be read.
    pub(crate) async fn listed_repositories(&self) -> Result<BTreeSet<String>, TreeError> {
        let (bytes, _) = self.read_list(&keys::catalog()).await?;
        let catalog = bytes.and_then(|bytes| serde_json::from_slice::<Catalog>(&bytes).ok());
        Ok(catalog.map(|catalog| catalog.repositories.into_iter().collect()).unwrap_or_default())
    }

    /// Whether the catalogue names exactly these repositories.
    pub(in super::super) async fn catalog_is_right(
        &self,
        repositories: &BTreeSet<Repository>,
    ) -> Result<bool, TreeError> {
        let key = keys::catalog();
        let catalog = Catalog { repositories: repositories.iter().map(ToString::to_string).collect() };
        self.holds(&key, &json(&key, &catalog)?).await
    }

    /// Makes the catalogue anew from the names.
    pub(in super::super) async fn rebuild_catalog(&self) -> Result<(), TreeError> {
        let key = keys::catalog();
        let _lock = self.0.store.lock("catalog", LockMode::Exclusive).await?;
        loop {
            let (held, condition) = self.read_list(&key).await?;
            let names: BTreeSet<Repository> = self.repositories().try_collect().await?;
            let catalog = Catalog { repositories: names.iter().map(ToString::to_string).collect() };
            let bytes = json(&key, &catalog)?;
            if held.as_ref() == Some(&bytes)
                || self.0.store.put(&key, bytes, &derived(), condition).await? == Written::Done
            {
                return Ok(());
            }
        }
    }

    /// Writes `lists`, and then the catalogue with or without some repositories. Returns what became of the former.
    ///
    /// Where others write it at the same time (`contended` if that is known), it gets what these are about to write as well: of
    /// thirty that wait for their turn, one does it for all.
    pub(super) async fn change_catalog(
        &self,
        repositories: &BTreeSet<Repository>,
        present: bool,
        lists: Vec<Small>,
        mut contended: bool,
    ) -> Result<Vec<Written>, TreeError> {
        let store = &self.0.store;
        let key = keys::catalog();
        let _lock = store.lock("catalog", LockMode::Exclusive).await?;
        let (mut lists, mut became) = (lists, Vec::new());
        loop {
            let (held, condition) = self.read_list(&key).await?;
            // Of one that was read or written before, only the places of these are looked at.
            let known = present
                && !contended
                && matches!(&condition, Condition::Unchanged(version) if self.0.known.is_catalog(version));
            let spliced = held.as_ref().filter(|_| known).and_then(|held| {
                let with = Spliced::new(held, HEAD)?.with(repositories.iter().map(Repository::as_str))?;
                Some((with != *held).then_some(with))
            });
            let new = match spliced {
                Some(spliced) => spliced,
                None => self.changed_catalog(held, repositories, present, contended).await?,
            };
            let unchanged = new.is_none();
            match (new, condition) {
                (Some(bytes), condition) => {
                    lists.push(Small { key: key.clone(), bytes, headers: derived(), condition });
                }
                (None, Condition::Unchanged(version)) => self.0.known.note_catalog(version),
                (None, _) => {}
            }
            // The lists go with the first attempt; further ones are about the catalogue.
            let mut written = store.put_all(std::mem::take(&mut lists)).await?;
            let last = if unchanged { Some(Written::Done) } else { written.pop() };
            became.append(&mut written);
            if last == Some(Written::Done) {
                if !unchanged
                    && store.reach() == Reach::Everybody
                    && let Some(entry) = store.head(&key).await?
                {
                    self.0.known.note_catalog(entry.version);
                }
                return Ok(became);
            }
            contended = true;
        }
    }

    /// The catalogue with or without some repositories, and if it is `contended` with what others are about to write; `None` if it
    /// says that.
    async fn changed_catalog(
        &self,
        held: Option<Bytes>,
        repositories: &BTreeSet<Repository>,
        present: bool,
        contended: bool,
    ) -> Result<Option<Bytes>, TreeError> {
        let catalog = held.and_then(|bytes| serde_json::from_slice::<Catalog>(&bytes).ok());
        let catalog = catalog.filter(|catalog| catalog.repositories.is_sorted_by(|a, b| a < b));
        // It is derived: what is missing or damaged is made again, and then written whatever it says.
        let right = catalog.is_some();
        let named: BTreeSet<String> = match catalog {
            Some(catalog) => catalog.repositories.into_iter().collect(),
            None => self.repositories().map_ok(|repository| repository.to_string()).try_collect().await?,
        };
        let mut names = named.clone();
        for repository in repositories {
            if present {
                names.insert(repository.to_string());
            } else {
                names.remove(repository.as_str());
            }
        }
        if right && names == named {
            return Ok(None);
        }
        if present && contended {
            names.extend(self.listed_by_others().await?.iter().map(ToString::to_string));
        }
        json(&keys::catalog(), &Catalog { repositories: names.into_iter().collect() }).map(Some)
    }
}

/// The list of some repositories, whose names are sorted.
pub(crate) fn list_of_repositories(repositories: Vec<String>) -> Bytes {
    serde_json::to_vec(&Catalog { repositories }).expect("names are strings").into()
}

/// Where the catalogue of an empty tree lies, and what it says.
pub(in super::super) fn empty_catalog() -> Result<(Key, Bytes), TreeError> {
    let key = keys::catalog();
    let bytes = json(&key, &Catalog { repositories: Vec::new() })?;
    Ok((key, bytes))
}

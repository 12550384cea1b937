//! Lists of tags.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::stream;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::super::splice::Spliced;
use super::super::{Tree, TreeError, derived, keys};
use super::{READ_AT_ONCE, ROUNDS, json, stripe};
use crate::oci::{Reference, Repository, Tag};
use crate::store::{Condition, Listed, Small, Written};

#[derive(Serialize)]
struct TagsList<'a> {
    name: &'a Repository,
    tags: BTreeSet<Tag>,
}

/// What a list of tags is to say.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// What the names say.
    Names,
    /// The same, where these came.
    With(&'a BTreeMap<Repository, BTreeSet<Tag>>),
    These(&'a BTreeSet<Tag>),
}

impl Tree {
    /// The tags of a repository, sorted, as its names say.
    pub(in super::super) async fn read_tags(&self, repository: &Repository) -> Result<BTreeSet<Tag>, TreeError> {
        let mut tags = BTreeSet::new();
        let folder = keys::folder(repository, keys::MANIFESTS);
        let mut names = self.0.store.list(&folder);
        while let Some(listed) = names.try_next().await? {
            if let Listed::Object(key) = listed
                && let Ok(tag) = key.name().parse::<Tag>()
                && !tag.is_referrers_fallback()
            {
                tags.insert(tag);
            }
        }
        Ok(tags)
    }

    /// Makes the lists of tags of repositories and the catalogue say what the names say. All are written together. Writes
    /// nothing that is right already.
    ///
    /// Locks don't reach every writer of every store. So a list is looked at before the names are, and written on condition that
    /// it is still the one that was seen: who gave a name later looks at the list later, and sees both.
    pub(in super::super) async fn write_lists(&self, repositories: &BTreeSet<Repository>) -> Result<(), TreeError> {
        self.write_lists_of(repositories, Wanted::Names).await
    }

    /// The same, where these tags came since. A list of which this process knows that it was right only gets them.
    pub(in super::super) async fn add_to_lists(
        &self,
        new: &BTreeMap<Repository, BTreeSet<Tag>>,
    ) -> Result<(), TreeError> {
        self.write_lists_of(&new.keys().cloned().collect(), Wanted::With(new)).await
    }

    /// Makes the list of tags of a repository say these, some of which may be about to go. Whoever calls is
    /// [alone](Self::alone).
    pub(in super::super) async fn write_list(
        &self,
        repository: &Repository,
        tags: &BTreeSet<Tag>,
    ) -> Result<(), TreeError> {
        self.write_lists_of(&BTreeSet::from([repository.clone()]), Wanted::These(tags)).await
    }

    async fn write_lists_of(&self, repositories: &BTreeSet<Repository>, wanted: Wanted<'_>) -> Result<(), TreeError> {
        let store = &self.0.store;
        let stripes: BTreeSet<u8> = repositories.iter().map(stripe).collect();
        let mut locks = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            locks.push(self.lock_stripe(stripe).await?);
        }
        // Asked for before the names are: who dies later leaves behind what may not be among them.
        let casualties = match wanted {
            Wanted::With(_) => store.casualties().await?,
            Wanted::Names | Wanted::These(_) => None,
        };
        let mut stale: Vec<&Repository> = repositories.iter().collect();
        let mut rounds = 0;
        loop {
            let looked: Vec<_> =
                stale.into_iter().map(|repository| self.stale_list(repository, wanted, casualties)).collect();
            let looked: Vec<_> = stream::iter(looked).buffered(READ_AT_ONCE).try_collect().await?;
            let (changed, lists): (Vec<_>, Vec<_>) = looked.into_iter().flatten().unzip();
            stale = match self.change_catalog(repositories, true, lists, rounds > 0).await {
                Ok(written) => {
                    let (written, refused): (Vec<_>, Vec<_>) =
                        changed.into_iter().zip(written).partition(|(_, written)| *written == Written::Done);
                    if let Some(casualties) = casualties {
                        for (repository, _) in written {
                            self.note_list(repository, casualties).await?;
                        }
                    }
                    refused.into_iter().map(|(repository, _)| repository).collect()
                }
                // So many write that the service refuses most; what another one wrote may do for this one, too.
                Err(TreeError::Store(error)) if error.is_throttled() && rounds < ROUNDS => {
                    repositories.iter().collect()
                }
                Err(error) => return Err(error),
            };
            if stale.is_empty() {
                return Ok(());
            }
            rounds += 1;
        }
    }

    /// Notes that the list of a repository's tags is right as it lies. Whoever calls keeps others from writing it.
    pub(in super::super) async fn note_list(&self, repository: &Repository, casualties: u64) -> Result<(), TreeError> {
        if let Some(entry) = self.0.store.head(&keys::tags_list(repository)).await? {
            self.0.known.note_tags(repository, entry.version, casualties);
        }
        Ok(())
    }

    /// What has to be written so that the list of a repository's tags says what is wanted, if it doesn't.
    async fn stale_list<'a>(
        &self,
        repository: &'a Repository,
        wanted: Wanted<'_>,
        casualties: Option<u64>,
    ) -> Result<Option<(&'a Repository, Small)>, TreeError> {
        let key = keys::tags_list(repository);
        let (held, condition) = self.read_list(&key).await?;
        let mut bytes = None;
        if let (Wanted::With(new), Some(casualties)) = (wanted, casualties)
            && let (Some(held), Condition::Unchanged(version), Some(new)) = (&held, &condition, new.get(repository))
            && self.0.known.are_right(repository, version, casualties)
        {
            bytes = self.spliced(repository, held, new).await?;
        }
        let bytes = match (bytes, wanted) {
            (Some(bytes), _) => bytes,
            (None, Wanted::These(tags)) => tags_list(repository, tags.clone())?,
            (None, Wanted::Names | Wanted::With(_)) => tags_list(repository, self.read_tags(repository).await?)?,
        };
        if held.as_ref() != Some(&bytes) {
            return Ok(Some((repository, Small { key, bytes, headers: derived(), condition })));
        }
        if let (Some(casualties), Condition::Unchanged(version)) = (casualties, condition) {
            self.0.known.note_tags(repository, version, casualties);
        }
        Ok(None)
    }

    /// The list of a repository's tags with some that came; `None` if that has to be found out from the names.
    async fn spliced(
        &self,
        repository: &Repository,
        held: &Bytes,
        new: &BTreeSet<Tag>,
    ) -> Result<Option<Bytes>, TreeError> {
        for tag in new {
            // What a list names exists.
            if self.0.store.head(&keys::manifest(repository, &Reference::Tag(tag.clone()))).await?.is_none() {
                return Ok(None);
            }
        }
        let list = Spliced::new(held, &head_of(repository));
        let named = new.iter().filter(|tag| !tag.is_referrers_fallback());
        Ok(list.and_then(|list| list.with(named.map(Tag::as_str))))
    }

    /// Takes a tag that is about to go off its repository's list, if that can be done without a look at all of them: returns
    /// what to [note](Self::note_list) once it is gone. Whoever calls is [alone](Self::alone).
    pub(in super::super) async fn unlist(&self, repository: &Repository, tag: &Tag) -> Result<Option<u64>, TreeError> {
        let store = &self.0.store;
        let _lock = self.lock_lists(repository).await?;
        let Some(casualties) = store.casualties().await? else { return Ok(None) };
        let key = keys::tags_list(repository);
        let (Some(held), Condition::Unchanged(version)) = self.read_list(&key).await? else { return Ok(None) };
        if !self.0.known.are_right(repository, &version, casualties) {
            return Ok(None);
        }
        let list = Spliced::new(&held, &head_of(repository));
        let Some(bytes) = list.and_then(|list| list.without(tag.as_str())) else { return Ok(None) };
        let list = Small { key, bytes, headers: derived(), condition: Condition::Unchanged(version) };
        let written = store.put_all(vec![list]).await?;
        Ok((written == [Written::Done]).then_some(casualties))
    }

    /// Makes the lists of tags of repositories and the catalogue say what the names say, and waits until that is durable.
    pub(crate) async fn bring_lists_up_to_date(&self, repositories: &BTreeSet<Repository>) -> Result<(), TreeError> {
        if !repositories.is_empty() {
            self.write_lists(repositories).await?;
        }
        Ok(self.0.store.sync().await?)
    }

    /// Whether the list of a repository's tags says what the names say.
    pub(in super::super) async fn tags_list_is_right(&self, repository: &Repository) -> Result<bool, TreeError> {
        let bytes = tags_list(repository, self.read_tags(repository).await?)?;
        self.holds(&keys::tags_list(repository), &bytes).await
    }

    /// Takes a repository's lists away.
    pub(in super::super) async fn delete_lists(&self, repository: &Repository) -> Result<(), TreeError> {
        let _lock = self.lock_lists(repository).await?;
        self.change_catalog(&BTreeSet::from([repository.clone()]), false, Vec::new(), false).await?;
        self.0.store.delete(&keys::tags_list(repository)).await?;
        Ok(())
    }
}

/// The list of some tags.
pub(crate) fn list_of_tags(name: &Repository, tags: BTreeSet<Tag>) -> Bytes {
    serde_json::to_vec(&TagsList { name, tags }).expect("tags are strings").into()
}

/// What the list of a repository's tags has to say.
fn tags_list(repository: &Repository, tags: BTreeSet<Tag>) -> Result<Bytes, TreeError> {
    json(&keys::tags_list(repository), &TagsList { name: repository, tags })
}

/// What a repository's list of tags begins with.
fn head_of(repository: &Repository) -> String {
    format!("{{\"name\":\"{repository}\",\"tags\":[")
}

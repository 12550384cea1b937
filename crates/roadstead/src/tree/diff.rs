//! What two trees name differently.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;

use super::{Tree, TreeError, keys};
use crate::oci::{Digest, Reference, Repository, Tag};
use crate::store::Listed;

/// Something that one tree names and the other doesn't, or otherwise.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Difference {
    /// A tag that only one tree has.
    Tag {
        /// Which one.
        only: Side,
        /// The repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
        /// What it leads to.
        digest: Digest,
    },
    /// A tag that leads elsewhere.
    Moved {
        /// The repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
        /// Where it leads in the first tree.
        first: Digest,
        /// And in the second.
        second: Digest,
    },
    /// A manifest that no tag names there, and that only one tree has.
    Manifest {
        /// Which one.
        only: Side,
        /// The repository.
        repository: Repository,
        /// The manifest.
        digest: Digest,
    },
}

/// One of two trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// The one that is compared.
    First,
    /// The one that it is compared with.
    Second,
}

/// The names of a repository.
#[derive(Default)]
struct Names {
    tags: BTreeMap<Tag, Digest>,
    /// Without what tags name, and without lists of referrers, which are derived.
    untagged: BTreeSet<Digest>,
}

impl Tree {
    /// Tells `different` of everything that this tree and another one name differently, a repository after the other, sorted.
    /// Reads names alone, and holds those of one repository and the names of all repositories.
    ///
    /// # Errors
    ///
    /// If a store can't be read, or with whatever `different` returns.
    pub async fn diff<E: From<TreeError>>(
        &self,
        other: &Self,
        mut different: impl FnMut(Difference) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut repositories: BTreeSet<Repository> = self.repositories().try_collect().await?;
        let mut others = other.repositories();
        while let Some(repository) = others.try_next().await? {
            repositories.insert(repository);
        }
        drop(others);
        for repository in repositories {
            let (first, second) = (self.names_of(&repository).await?, other.names_of(&repository).await?);
            compare(&repository, &first, &second).into_iter().try_for_each(&mut different)?;
        }
        Ok(())
    }

    async fn names_of(&self, repository: &Repository) -> Result<Names, TreeError> {
        let (mut names, mut lists) = (Names::default(), BTreeSet::new());
        let mut listed = self.0.store.list(&keys::folder(repository, keys::MANIFESTS));
        while let Some(entry) = listed.try_next().await? {
            let Listed::Object(key) = entry else { continue };
            let Ok(reference) = key.name().parse::<Reference>() else { continue };
            let Some(pointer) = self.resolve_sound(repository, &reference).await? else { continue };
            match reference {
                Reference::Digest(digest) => {
                    names.untagged.insert(digest);
                }
                Reference::Tag(tag) if tag.is_referrers_fallback() => {
                    lists.insert(pointer.digest);
                }
                Reference::Tag(tag) => {
                    names.tags.insert(tag, pointer.digest);
                }
            }
        }
        let Names { tags, untagged } = &mut names;
        untagged.retain(|digest| !lists.contains(digest));
        for digest in tags.values() {
            untagged.remove(digest);
        }
        Ok(names)
    }
}

fn compare(repository: &Repository, first: &Names, second: &Names) -> Vec<Difference> {
    let mut differences = Vec::new();
    let tags: BTreeSet<&Tag> = first.tags.keys().chain(second.tags.keys()).collect();
    for tag in tags {
        let (repository, name) = (repository.clone(), tag.clone());
        differences.extend(match (first.tags.get(tag), second.tags.get(tag)) {
            (Some(here), Some(there)) if here == there => None,
            (Some(&first), Some(&second)) => Some(Difference::Moved { repository, tag: name, first, second }),
            (Some(&digest), None) => Some(Difference::Tag { only: Side::First, repository, tag: name, digest }),
            (None, Some(&digest)) => Some(Difference::Tag { only: Side::Second, repository, tag: name, digest }),
            (None, None) => None,
        });
    }
    for (only, here, there) in [(Side::First, first, second), (Side::Second, second, first)] {
        let tagged: BTreeSet<&Digest> = there.tags.values().collect();
        let missing =
            here.untagged.iter().filter(|digest| !there.untagged.contains(*digest) && !tagged.contains(digest));
        let difference =
            |digest: &Digest| Difference::Manifest { only, repository: repository.clone(), digest: *digest };
        differences.extend(missing.map(difference));
    }
    differences
}

//! Removing names, and with them what nothing else needs: lists first, then tags, manifests, blobs, and last the bytes.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;

use super::lists::Change;
use super::sink::WRITERS;
use super::{Pointer, Tree, TreeError, keys};
use crate::oci::{Digest, Kind, Manifest, Reference, Repository, Tag};
use crate::store::{Listed, LockMode, Naming};

/// What a removal took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Tags.
    pub tags: Vec<Tag>,
    /// Manifests that no name of the repository leads to any more.
    pub manifests: Vec<Digest>,
    /// Bytes that no repository names any more.
    pub bytes: u64,
}

/// A repository's manifests: what its tags and digests lead to, and what each needs.
struct Repo {
    tags: BTreeMap<Tag, Digest>,
    manifests: BTreeMap<Digest, (Pointer, Manifest)>,
}

impl Tree {
    /// Removes a tag, a manifest, or a whole repository, and what nothing in the repository needs then: a tag's manifest, if no
    /// other tag and no index names it; an index's children alike; their blobs; and of the bytes, those that no repository
    /// names. What was added by digest alone, and isn't part of what is removed, stays.
    ///
    /// Waits until nobody writes to the tree, since a writer may rely on bytes that nothing names yet.
    ///
    /// # Errors
    ///
    /// [`TreeError::Unknown`] if there is no such thing, [`TreeError::Needed`] if a tag or an index needs the manifest.
    pub async fn remove(&self, repository: &Repository, what: Option<&Reference>) -> Result<Removed, TreeError> {
        let _alone = self.0.store.lock(WRITERS, LockMode::Exclusive).await?;
        let repo = self.read_repo(repository).await?;
        let unknown = || TreeError::Unknown(display(repository, what));
        let mut removed = Removed::default();
        let mut doomed = BTreeSet::new();
        match what {
            None if repo.manifests.is_empty() && repo.tags.is_empty() => return Err(unknown()),
            None => {
                removed.tags = repo.tags.keys().cloned().collect();
                doomed.extend(repo.manifests.keys().copied());
            }
            Some(Reference::Tag(tag)) => {
                let digest = repo.tags.get(tag).ok_or_else(unknown)?;
                removed.tags.push(tag.clone());
                repo.doom(*digest, tag, &mut doomed);
            }
            Some(Reference::Digest(digest)) => {
                if !repo.manifests.contains_key(digest) {
                    return Err(unknown());
                }
                if let Some(needed_by) = repo.needed_by(digest, &|_| true, &doomed) {
                    return Err(TreeError::Needed { what: display(repository, what), needed_by });
                }
                repo.doom_children(*digest, &mut doomed);
            }
        }
        self.take_away(repository, &repo, &doomed, &mut removed).await?;
        removed.manifests = doomed.into_iter().collect();
        Ok(removed)
    }

    async fn read_repo(&self, repository: &Repository) -> Result<Repo, TreeError> {
        let mut repo = Repo { tags: BTreeMap::new(), manifests: BTreeMap::new() };
        let mut names = self.names(repository);
        while let Some((reference, pointer)) = names.try_next().await? {
            match reference {
                // The lists of referrers go with their subjects.
                Reference::Tag(tag) if tag.is_referrers_fallback() => {}
                Reference::Tag(tag) => {
                    repo.tags.insert(tag, pointer.digest);
                }
                Reference::Digest(digest) => {
                    if let Some(manifest) = self.manifest(&pointer).await? {
                        repo.manifests.insert(digest, (pointer, manifest));
                    }
                }
            }
        }
        Ok(repo)
    }

    async fn take_away(
        &self,
        repository: &Repository,
        repo: &Repo,
        doomed: &BTreeSet<Digest>,
        removed: &mut Removed,
    ) -> Result<(), TreeError> {
        let store = &self.0.store;
        let last = repo.manifests.keys().all(|digest| doomed.contains(digest));
        let tags = removed.tags.iter().cloned().collect();
        if last {
            self.delete_lists(repository).await?;
        } else {
            self.write_lists(repository, &tags).await?;
        }
        for tag in &tags {
            store.delete(&keys::manifest(repository, &Reference::Tag(tag.clone()))).await?;
        }
        store.sync().await?;

        // A parent goes before its children: the order in which they are named, turned round.
        let mut order: Vec<&(Pointer, Manifest)> =
            doomed.iter().filter_map(|digest| repo.manifests.get(digest)).collect();
        order.sort_by_key(|(_, manifest)| std::cmp::Reverse(repo.height(manifest, 0)));
        for (pointer, manifest) in &order {
            if let Some(subject) = manifest.subject() {
                self.change_referrers(repository, &subject.digest, Change::Remove(&pointer.digest)).await?;
            }
            store.delete(&keys::manifest(repository, &Reference::Digest(pointer.digest))).await?;
            store.delete(&keys::left_out(repository, &pointer.digest)).await?;
        }
        let kept: BTreeSet<&Digest> = repo
            .manifests
            .iter()
            .filter(|(digest, _)| !doomed.contains(digest))
            .flat_map(|(_, (_, manifest))| manifest.blobs().map(|blob| &blob.digest))
            .collect();
        let mut blobs: BTreeSet<Digest> =
            order.iter().flat_map(|(_, manifest)| manifest.blobs().map(|blob| blob.digest)).collect();
        if last {
            // What an interrupted copy left goes with its repository.
            let mut names = store.list(&keys::folder(repository, keys::BLOBS));
            while let Some(listed) = names.try_next().await? {
                if let Listed::Object(key) = listed
                    && let Ok(digest) = key.name().parse()
                {
                    blobs.insert(digest);
                }
            }
        }
        blobs.retain(|digest| !kept.contains(digest));
        for digest in &blobs {
            let name = keys::blob(repository, digest);
            if store.naming() == Naming::Copies {
                removed.bytes += store.head(&name).await?.map_or(0, |entry| entry.size);
                store.delete(&keys::hint(repository, digest)).await?;
            }
            store.delete(&name).await?;
        }
        store.sync().await?;

        if store.naming() == Naming::Links {
            for (pointer, _) in &order {
                if !self.is_manifest_named_elsewhere(repository, &pointer.digest).await? {
                    removed.bytes += store.head(&pointer.at).await?.map_or(0, |entry| entry.size);
                    store.delete(&pointer.at).await?;
                }
            }
            for digest in &blobs {
                if !self.is_blob_named_elsewhere(repository, digest).await? {
                    let content = keys::blob_content(digest);
                    removed.bytes += store.head(&content).await?.map_or(0, |entry| entry.size);
                    store.delete(&content).await?;
                }
            }
        } else {
            removed.bytes += order.iter().map(|(_, manifest)| manifest.bytes().len() as u64).sum::<u64>();
        }
        Ok(())
    }
}

impl Repo {
    /// The tag or index that needs a manifest, among the tags that `counts` says count and the manifests that stay.
    fn needed_by(&self, digest: &Digest, counts: &dyn Fn(&Tag) -> bool, doomed: &BTreeSet<Digest>) -> Option<String> {
        let tag = self.tags.iter().find(|(tag, named)| *named == digest && counts(tag));
        let index = || {
            self.manifests.values().find(|(pointer, manifest)| {
                !doomed.contains(&pointer.digest) && manifest.children().any(|child| child.digest == *digest)
            })
        };
        tag.map(|(tag, _)| format!("tag {tag}"))
            .or_else(|| index().map(|(pointer, _)| format!("index {}", pointer.digest)))
    }

    /// Dooms what only `tag` needs.
    fn doom(&self, digest: Digest, tag: &Tag, doomed: &mut BTreeSet<Digest>) {
        if self.needed_by(&digest, &|other| other != tag, doomed).is_none() {
            self.doom_children(digest, doomed);
        }
    }

    /// Dooms a manifest, and of its children those that nothing else needs.
    fn doom_children(&self, digest: Digest, doomed: &mut BTreeSet<Digest>) {
        let Some((_, manifest)) = self.manifests.get(&digest) else { return };
        if !doomed.insert(digest) {
            return;
        }
        for child in manifest.children() {
            // A tag that is being removed names a root, which is doomed already; every other tag counts.
            if self.needed_by(&child.digest, &|_| true, doomed).is_none() {
                self.doom_children(child.digest, doomed);
            }
        }
    }

    /// How many levels of manifests are below one; a digest can't be part of itself, but a limit costs nothing.
    fn height(&self, manifest: &Manifest, depth: usize) -> usize {
        if manifest.kind() != Kind::Index || depth > 16 {
            return 0;
        }
        let below = manifest.children().filter_map(|child| self.manifests.get(&child.digest));
        below.map(|(_, child)| 1 + self.height(child, depth + 1)).max().unwrap_or(0)
    }
}

fn display(repository: &Repository, what: Option<&Reference>) -> String {
    match what {
        None => repository.to_string(),
        Some(Reference::Tag(tag)) => format!("{repository}:{tag}"),
        Some(Reference::Digest(digest)) => format!("{repository}@{digest}"),
    }
}

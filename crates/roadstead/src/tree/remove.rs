//! Removing names, and with them what nothing else needs: lists first, then tags, manifests, blobs, and last the bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;

use super::keys::Content;
use super::lists::{Change, Walked};
use super::sink::WRITERS;
use super::{Pointer, Tree, TreeError, keys};
use crate::image::MAX_DEPTH;
use crate::oci::{Digest, Kind, Manifest, Reference, Repository, Tag};
use crate::store::{Listed, LockMode, Naming, Reach, StoreError};

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
    /// Without the manifest where its bytes are gone or damaged.
    manifests: BTreeMap<Digest, (Pointer, Option<Manifest>)>,
    /// What the fallback tags name: lists of referrers, which go with their subjects and need nothing.
    lists: BTreeMap<Digest, Pointer>,
}

impl Tree {
    /// Removes a tag, a manifest, or a whole repository, and what nothing in the repository needs then: a tag's manifest, if no
    /// other tag and no index names it; an index's children and what refers to a manifest alike; their blobs; and of the bytes, those that no repository
    /// names. What was added by digest alone, and isn't part of what is removed, stays.
    ///
    /// Waits until nobody writes to the tree, since a writer may rely on bytes that nothing names yet.
    ///
    /// # Errors
    ///
    /// [`TreeError::Unknown`] if there is no such thing, [`TreeError::Needed`] if a tag or an index needs the manifest,
    /// [`TreeError::Unlocked`] if the store can't keep writers away.
    pub async fn remove(&self, repository: &Repository, what: Option<&Reference>) -> Result<Removed, TreeError> {
        if self.0.store.reach() == Reach::Process {
            return Err(TreeError::Unlocked(self.0.store.describe()));
        }
        let _alone = self.0.store.lock(WRITERS, LockMode::Exclusive).await?;
        let repo = self.read_repo(repository, what).await?;
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
                repo.doom_below(*digest, &mut doomed);
            }
        }
        self.take_away(repository, &repo, &doomed, &mut removed).await?;
        removed.manifests = doomed.into_iter().collect();
        Ok(removed)
    }

    /// Everything that a repository names. A name that leads nowhere needs nothing. A manifest whose bytes are damaged may
    /// need what can't be known, so nothing is removed beside one; but itself it can go, and the whole repository can.
    async fn read_repo(&self, repository: &Repository, removed: Option<&Reference>) -> Result<Repo, TreeError> {
        let mut repo = Repo { tags: BTreeMap::new(), manifests: BTreeMap::new(), lists: BTreeMap::new() };
        let mut damage = Vec::new();
        let mut names = self.0.store.list(&keys::folder(repository, keys::MANIFESTS));
        while let Some(listed) = names.try_next().await? {
            let Listed::Object(key) = listed else { continue };
            let Ok(reference) = key.name().parse::<Reference>() else { continue };
            let pointer = match self.resolve(repository, &reference).await {
                Err(TreeError::Misled { .. } | TreeError::Store(StoreError::Escape { .. })) | Ok(None) => continue,
                other => other?,
            };
            let Some(pointer) = pointer else { continue };
            match reference {
                Reference::Tag(tag) if tag.is_referrers_fallback() => {
                    repo.lists.insert(pointer.digest, pointer);
                }
                Reference::Tag(tag) => {
                    repo.tags.insert(tag, pointer.digest);
                }
                Reference::Digest(digest) => {
                    let manifest = match self.manifest(&pointer).await {
                        Err(error @ TreeError::Damaged { .. }) => {
                            damage.push((digest, error));
                            None
                        }
                        other => other?,
                    };
                    repo.manifests.insert(digest, (pointer, manifest));
                }
            }
        }
        let meant = match removed {
            None => return Ok(repo.without_lists()),
            Some(Reference::Digest(digest)) => Some(*digest),
            Some(Reference::Tag(tag)) => repo.tags.get(tag).copied(),
        };
        match damage.into_iter().find(|(digest, _)| Some(*digest) != meant) {
            Some((_, error)) => Err(error),
            None => Ok(repo.without_lists()),
        }
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
            self.write_lists(&BTreeSet::from([repository.clone()]), &tags).await?;
        }
        store.sync().await?;
        for tag in &tags {
            store.delete(&keys::manifest(repository, &Reference::Tag(tag.clone()))).await?;
        }
        store.sync().await?;

        // What nothing names any more, in a store with links.
        let mut contents = BTreeMap::new();
        let mut give_up = |pointer: &Pointer| {
            contents.insert(Content::Manifest(pointer.media_type.clone(), pointer.digest), pointer.at.clone());
        };
        // A parent goes before its children: the order in which they are named, turned round, a level at a time.
        let mut levels: BTreeMap<Reverse<usize>, Vec<(&Pointer, Option<&Manifest>)>> = BTreeMap::new();
        for (pointer, manifest) in doomed.iter().filter_map(|digest| repo.manifests.get(digest)) {
            let height = manifest.as_ref().map_or(0, |manifest| repo.height(manifest, 0));
            levels.entry(Reverse(height)).or_default().push((pointer, manifest.as_ref()));
        }
        let order = || levels.values().flatten();
        let mut referrers: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        for (pointer, manifest) in order() {
            if let Some(subject) = manifest.and_then(Manifest::subject) {
                referrers.entry(subject.digest).or_default().insert(pointer.digest);
            }
        }
        let walked = Walked::default();
        for (subject, referrers) in &referrers {
            let change = Change::Remove(referrers);
            let orphan = self.change_referrers(repository, subject, change, &walked).await?;
            orphan.iter().for_each(&mut give_up);
        }
        for level in levels.values() {
            for (pointer, _) in level {
                store.delete(&keys::manifest(repository, &Reference::Digest(pointer.digest))).await?;
                store.delete(&keys::left_out(repository, &pointer.digest)).await?;
                give_up(pointer);
            }
            store.sync().await?;
        }
        let kept: BTreeSet<&Digest> = repo
            .manifests
            .iter()
            .filter(|(digest, _)| !doomed.contains(digest))
            .filter_map(|(_, (_, manifest))| manifest.as_ref())
            .flat_map(|manifest| manifest.blobs().map(|blob| &blob.digest))
            .collect();
        let mut blobs: BTreeSet<Digest> = { order() }
            .filter_map(|(_, manifest)| *manifest)
            .flat_map(|manifest| manifest.blobs().map(|blob| blob.digest))
            .collect();
        if last {
            // What an interrupted copy left, and what somebody else put there, goes with its repository.
            repo.lists.values().for_each(&mut give_up);
            for folder in [keys::MANIFESTS, keys::REFERRERS] {
                let names: Vec<Listed> = store.list(&keys::folder(repository, folder)).try_collect().await?;
                for name in names {
                    if let Listed::Object(key) = name
                        && key.name().parse::<Reference>().is_ok()
                    {
                        store.delete(&key).await?;
                    }
                }
            }
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
            contents.extend(blobs.iter().map(|digest| (Content::Blob(*digest), keys::blob_content(digest))));
            self.retain_unnamed_elsewhere(repository, &mut contents).await?;
            for content in contents.values() {
                removed.bytes += store.head(content).await?.map_or(0, |entry| entry.size);
                store.delete(content).await?;
            }
        } else {
            removed.bytes += order().filter_map(|(_, m)| *m).map(|manifest| manifest.bytes().len() as u64).sum::<u64>();
        }
        Ok(())
    }
}

impl Repo {
    /// The repository without the lists of referrers, which are no images. One that a tag names as well is.
    fn without_lists(mut self) -> Self {
        let tagged: BTreeSet<Digest> = self.tags.values().copied().collect();
        self.lists.retain(|digest, _| !tagged.contains(digest));
        self.manifests.retain(|digest, _| !self.lists.contains_key(digest));
        self
    }

    /// The manifests that can be read.
    fn readable(&self) -> impl Iterator<Item = (&Digest, &Manifest)> {
        self.manifests.iter().filter_map(|(digest, (_, manifest))| Some((digest, manifest.as_ref()?)))
    }

    /// The tag or index that needs a manifest, among the tags that `counts` says count and the manifests that stay.
    fn needed_by(&self, digest: &Digest, counts: &dyn Fn(&Tag) -> bool, doomed: &BTreeSet<Digest>) -> Option<String> {
        let tag = self.tags.iter().find(|(tag, named)| *named == digest && counts(tag));
        let index = || {
            self.readable().find(|(parent, manifest)| {
                !doomed.contains(parent) && manifest.children().any(|child| child.digest == *digest)
            })
        };
        tag.map(|(tag, _)| format!("tag {tag}")).or_else(|| index().map(|(digest, _)| format!("index {digest}")))
    }

    /// Dooms what only `tag` needs.
    fn doom(&self, digest: Digest, tag: &Tag, doomed: &mut BTreeSet<Digest>) {
        if self.needed_by(&digest, &|other| other != tag, doomed).is_none() {
            self.doom_below(digest, doomed);
        }
    }

    /// Dooms a manifest, and of its children and of what refers to it those that nothing else needs.
    fn doom_below(&self, root: Digest, doomed: &mut BTreeSet<Digest>) {
        let mut next = vec![root];
        while let Some(digest) = next.pop() {
            let Some((_, manifest)) = self.manifests.get(&digest) else { continue };
            if !doomed.insert(digest) {
                continue;
            }
            let children = { manifest.iter() }.flat_map(|manifest| manifest.children().map(|child| child.digest));
            let referrers = self
                .readable()
                .filter(|(_, manifest)| manifest.subject().is_some_and(|subject| subject.digest == digest));
            for below in { children }.chain(referrers.map(|(digest, _)| *digest)) {
                // A tag that is being removed names a root, which is doomed already; every other tag counts.
                if self.needed_by(&below, &|_| true, doomed).is_none() {
                    next.push(below);
                }
            }
        }
    }

    /// How many levels of manifests are below one; a digest can't be part of itself, but a limit costs nothing.
    fn height(&self, manifest: &Manifest, depth: usize) -> usize {
        if manifest.kind() != Kind::Index || depth > MAX_DEPTH {
            return 0;
        }
        let below = { manifest.children() }.filter_map(|child| self.manifests.get(&child.digest)?.1.as_ref());
        below.map(|child| 1 + self.height(child, depth + 1)).max().unwrap_or(0)
    }
}

fn display(repository: &Repository, what: Option<&Reference>) -> String {
    match what {
        None => repository.to_string(),
        Some(Reference::Tag(tag)) => format!("{repository}:{tag}"),
        Some(Reference::Digest(digest)) => format!("{repository}@{digest}"),
    }
}

//! What the names of one repository lead to, and what is derived from them.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{Check, Derived, Finding};
use crate::oci::{Digest, Reference, Repository, Tag};
use crate::store::{Key, Listed, LockMode, Naming, StoreError};
use crate::tree::graph::Graph;
use crate::tree::keys::{self, Content};
use crate::tree::remove::{Doomed, display};
use crate::tree::sink::WRITERS;
use crate::tree::{Pointer, Tree, TreeError, WORTH_A_HINT};

impl Tree {
    /// Verifies a repository, or one name of it and what that needs.
    pub(super) async fn verify_repository(
        &self,
        repository: &Repository,
        reference: Option<&Reference>,
        check: &mut Check,
    ) -> Result<(), TreeError> {
        // Who may only read goes without: then something may be removed meanwhile.
        let _beside = self.0.store.lock(WRITERS, LockMode::Shared).await.ok();
        let graph = self.graph(repository).await?;
        let scope: BTreeSet<Digest> = match reference {
            None => graph.manifests.keys().chain(graph.lists.keys()).copied().collect(),
            Some(reference) => {
                let pointer = self.resolve(repository, reference).await?;
                let unknown = || TreeError::Unknown(display(repository, Some(reference)));
                let Pointer { digest: root, at, .. } = pointer.ok_or_else(unknown)?;
                if !graph.is_named(&root) {
                    check.found(&Finding::LostManifest {
                        repository: repository.clone(),
                        reference: reference.clone(),
                        digest: root,
                        at,
                    });
                }
                graph.reach([root])
            }
        };
        if reference.is_none() {
            self.verify_names(repository, &graph, check).await?;
        }
        let (blobs, whole) = self.verify_manifests(repository, &graph, &scope, check).await?;
        if check.reads {
            self.verify_bytes_of(repository, &graph, &scope, &blobs, check).await?;
        }
        if reference.is_none() {
            // What is lost may need blobs, too.
            let needed: Option<BTreeSet<Digest>> = whole.then(|| blobs.into_keys().collect());
            self.verify_blob_names(repository, needed.as_ref(), check).await?;
            self.verify_lists(repository, &graph, check).await?;
        }
        check.verified.repositories += 1;
        check.verified.manifests += scope.len() as u64;
        Ok(())
    }

    /// Looks where each name of a manifest leads.
    async fn verify_names(&self, repository: &Repository, graph: &Graph, check: &Check) -> Result<(), TreeError> {
        let mut names = self.0.store.list(&keys::folder(repository, keys::MANIFESTS));
        while let Some(listed) = names.try_next().await? {
            let Listed::Object(key) = listed else { continue };
            let Ok(reference) = key.name().parse::<Reference>() else { continue };
            match self.resolve(repository, &reference).await {
                Ok(Some(pointer)) => self.verify_pointer(repository, &reference, &pointer, graph, check).await?,
                Ok(None) if self.is_listed(&key).await => check.found(&Finding::Stray { key }),
                Ok(None) => {}
                Err(TreeError::Misled { key, target }) => check.found(&Finding::Misled { key, target: Some(target) }),
                Err(TreeError::Store(StoreError::Escape { .. })) => check.found(&Finding::Misled { key, target: None }),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn verify_pointer(
        &self,
        repository: &Repository,
        reference: &Reference,
        pointer: &Pointer,
        graph: &Graph,
        check: &Check,
    ) -> Result<(), TreeError> {
        let Reference::Tag(tag) = reference else { return Ok(()) };
        let digest = pointer.digest;
        // A fallback is judged with its list.
        let named = graph.manifests.contains_key(&digest) || tag.is_referrers_fallback();
        if !named {
            let (repository, reference) = (repository.clone(), reference.clone());
            check.found(&Finding::LostManifest { repository, reference, digest, at: pointer.at.clone() });
        } else if self.0.store.naming() == Naming::Copies {
            // A tag is a copy, with bytes of its own.
            match self.manifest(pointer).await {
                Err(TreeError::Damaged { key, source }) => {
                    check.found(&Finding::DamagedManifest { key, digest, problem: source.to_string() });
                }
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Looks for what each manifest needs. Returns the blobs that are needed, and whether they are there; and whether that is
    /// all that may be needed.
    async fn verify_manifests(
        &self,
        repository: &Repository,
        graph: &Graph,
        scope: &BTreeSet<Digest>,
        check: &mut Check,
    ) -> Result<(BTreeMap<Digest, bool>, bool), TreeError> {
        let mut whole = graph.unnamed_of_tags(&Doomed::default()).is_none();
        let mut needed_by: BTreeMap<Digest, Digest> = BTreeMap::new();
        for digest in scope {
            let Some(node) = graph.manifests.get(digest) else { continue };
            let Some(needs) = &node.needs else {
                if !graph.damage.iter().any(|(damaged, _)| damaged == digest) {
                    let (repository, reference) = (repository.clone(), Reference::Digest(*digest));
                    let at = node.pointer.at.clone();
                    check.found(&Finding::LostManifest { repository, reference, digest: *digest, at });
                }
                whole = false;
                continue;
            };
            for blob in &needs.blobs {
                needed_by.entry(*blob).or_insert(*digest);
            }
            let absent: Vec<Digest> = needs.children.iter().filter(|child| !graph.is_named(child)).copied().collect();
            if !absent.is_empty() && !graph.superseded.contains(digest) {
                whole &= self.verify_absent(repository, digest, &absent, check).await?;
            }
        }
        let (tree, name) = (self.clone(), repository.clone());
        let looked = self.spread(needed_by.keys().copied().collect(), move |blob: Digest| {
            let (tree, name) = (tree.clone(), name.clone());
            async move { Ok((blob, tree.has_blob(&name, &blob).await?)) }
        });
        let blobs: BTreeMap<Digest, bool> = looked.await?.into_iter().collect();
        for (blob, _) in blobs.iter().filter(|(_, there)| !**there) {
            let (repository, manifest) = (repository.clone(), needed_by[blob]);
            check.found(&Finding::LostBlob { repository, manifest, digest: *blob });
        }
        Ok((blobs, whole))
    }

    /// Tells what was left out on purpose from what was lost. Returns whether nothing was lost.
    async fn verify_absent(
        &self,
        repository: &Repository,
        index: &Digest,
        absent: &[Digest],
        check: &mut Check,
    ) -> Result<bool, TreeError> {
        let mut whole = true;
        let left_out = match self.left_out(repository, index).await {
            Err(error @ (TreeError::DamagedList { .. } | TreeError::Store(_))) => {
                let key = keys::left_out(repository, index);
                check.found(&Finding::DamagedRecord { key, problem: super::chain(&error) });
                BTreeSet::new()
            }
            other => other?,
        };
        for child in absent {
            if left_out.contains(child) {
                check.verified.left_out += 1;
            } else {
                let (repository, index) = (repository.clone(), *index);
                check.found(&Finding::LostChild { repository, index, digest: *child });
                whole = false;
            }
        }
        Ok(whole)
    }

    /// Whether a repository names a blob, and its bytes are there.
    async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, TreeError> {
        let name = keys::blob(repository, digest);
        match self.0.store.head(&name).await {
            Ok(Some(entry)) => Ok(match self.0.store.naming() {
                Naming::Links => entry.target == Some(keys::blob_content(digest)),
                Naming::Copies => true,
            }),
            Ok(None) | Err(StoreError::Escape { .. }) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Reads the bytes that manifests of a repository consist of and need.
    async fn verify_bytes_of(
        &self,
        repository: &Repository,
        graph: &Graph,
        scope: &BTreeSet<Digest>,
        blobs: &BTreeMap<Digest, bool>,
        check: &mut Check,
    ) -> Result<(), TreeError> {
        let shared = self.0.store.naming() == Naming::Links;
        let manifests = scope.iter().filter_map(|digest| {
            let pointer = graph.lists.get(digest).or_else(|| Some(&graph.manifests.get(digest)?.pointer))?;
            Some((Content::Manifest(pointer.media_type.clone(), *digest), pointer.at.clone()))
        });
        let blobs = blobs.iter().filter(|(_, there)| **there).map(|(digest, _)| {
            let at = if shared { keys::blob_content(digest) } else { keys::blob(repository, digest) };
            (Content::Blob(*digest), at)
        });
        let mut contents: Vec<(Content, Key)> = manifests.chain(blobs).collect();
        if shared {
            contents.retain(|(content, _)| check.seen.insert(content.clone()));
        }
        check.verified.files += contents.len() as u64;
        let (jobs, reading) = (check.jobs, &*check);
        let read = stream::iter(contents)
            .map(|(content, key)| async move { self.verify_bytes(&content, key, reading).await })
            .buffer_unordered(jobs);
        let bytes: u64 = read.fold(0, |sum, bytes| std::future::ready(sum + bytes)).await;
        check.verified.bytes += bytes;
        Ok(())
    }

    /// Looks where each name of a blob leads, and whether anything needs it.
    async fn verify_blob_names(
        &self,
        repository: &Repository,
        needed: Option<&BTreeSet<Digest>>,
        check: &Check,
    ) -> Result<(), TreeError> {
        let store = &self.0.store;
        for digest in self.blob_names(repository).await? {
            let key = keys::blob(repository, &digest);
            match (store.naming(), store.target(&key).await) {
                (_, Err(StoreError::Escape { .. })) => check.found(&Finding::Misled { key, target: None }),
                (_, Err(error)) => return Err(error.into()),
                (Naming::Links, Ok(None)) if self.is_listed(&key).await => check.found(&Finding::Stray { key }),
                (Naming::Links, Ok(None)) => {}
                (Naming::Links, Ok(Some(target))) if target != keys::blob_content(&digest) => {
                    check.found(&Finding::Misled { key, target: Some(target) });
                }
                _ if needed.is_some_and(|needed| !needed.contains(&digest)) => {
                    let size = store.head(&key).await?.map_or(0, |entry| entry.size);
                    let bytes = if store.naming() == Naming::Copies { size } else { 0 };
                    check.found(&Finding::LeftOver { key, bytes });
                }
                (Naming::Copies, _)
                    if store.head(&keys::hint(repository, &digest)).await?.is_none()
                        && store.head(&key).await?.is_some_and(|entry| entry.size >= WORTH_A_HINT) =>
                {
                    let derived = Derived::Hint(repository.clone(), digest);
                    check.found(&Finding::Stale { key: keys::hint(repository, &digest), derived });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Compares lists with what they are derived from.
    async fn verify_lists(&self, repository: &Repository, graph: &Graph, check: &Check) -> Result<(), TreeError> {
        let store = &self.0.store;
        let has_manifests = !graph.manifests.is_empty() || !graph.tags.is_empty();
        let key = keys::tags_list(repository);
        let right = match has_manifests {
            true => self.tags_list_is_right(repository).await?,
            false => self.is_nothing(&key).await?,
        };
        if !right {
            check.found(&Finding::Stale { key, derived: Derived::Tags(repository.clone()) });
        }
        let mut fallbacks: BTreeSet<Tag> = BTreeSet::new();
        for (subject, referrers) in graph.subjects() {
            fallbacks.insert(Tag::referrers_fallback(subject));
            let referrers = referrers.iter().copied().collect();
            if !self.referrers_are_right(repository, subject, &referrers).await? {
                let derived = Derived::Referrers(repository.clone(), *subject);
                check.found(&Finding::Stale { key: keys::referrers(repository, subject), derived });
            }
        }
        let mut lists = store.list(&keys::folder(repository, keys::REFERRERS));
        while let Some(listed) = lists.try_next().await? {
            let Listed::Object(key) = listed else { continue };
            let Ok(subject) = key.name().parse::<Digest>() else { continue };
            if !graph.subjects().contains_key(&subject) {
                fallbacks.insert(Tag::referrers_fallback(&subject));
                check.found(&Finding::Stale { key, derived: Derived::Referrers(repository.clone(), subject) });
            }
        }
        let mut names = store.list(&keys::folder(repository, keys::MANIFESTS));
        while let Some(listed) = names.try_next().await? {
            let Listed::Object(key) = listed else { continue };
            // Something else under a name that is kept for lists.
            if key.name().parse::<Tag>().is_ok_and(|tag| tag.is_referrers_fallback() && !fallbacks.contains(&tag)) {
                check.found(&Finding::Stray { key });
            }
        }
        Ok(())
    }
}

//! Bytes that no repository names, in a store with links.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt as _;

use super::{Ledger, PruneOptions, Pruned};
use crate::oci::{Digest, Reference, Repository};
use crate::store::{Key, Listed, LockMode};
use crate::tree::keys::{self, Content};
use crate::tree::remove::Doomed;
use crate::tree::sink::WRITERS;
use crate::tree::{Tree, TreeError};

/// How many contents are held in memory, and looked for in one walk over all names.
const CANDIDATES: usize = 50_000;
/// How many questions are asked while the lock is held once: each content of a batch, of each repository.
const QUESTIONS: usize = 50_000;
/// And how many contents a batch has at least and at most.
const BATCH: std::ops::RangeInclusive<usize> = 16..=1024;

/// Contents that may be unnamed.
#[derive(Default)]
struct Candidates {
    blobs: HashMap<Digest, Key>,
    manifests: HashMap<Digest, Vec<(Content, Key)>>,
    count: usize,
}

impl Candidates {
    fn add(&mut self, content: Content, key: Key) {
        self.count += 1;
        match content {
            Content::Blob(digest) => drop(self.blobs.insert(digest, key)),
            Content::Manifest(_, digest) => self.manifests.entry(digest).or_default().push((content, key)),
        }
    }

    fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.manifests.is_empty()
    }

    fn into_map(self) -> BTreeMap<Content, Key> {
        let blobs = self.blobs.into_iter().map(|(digest, key)| (Content::Blob(digest), key));
        blobs.chain(self.manifests.into_values().flatten()).collect()
    }
}

impl Tree {
    /// Removes the bytes that no repository names: those that this run released, and unless only some repositories are looked
    /// at, older ones.
    pub(super) async fn sweep_content(
        &self,
        options: &PruneOptions,
        ledger: &Ledger,
        pruned: &mut Pruned,
    ) -> Result<(), TreeError> {
        if !options.repositories.is_empty() {
            let mut candidates = Candidates::default();
            { ledger.released.iter() }.for_each(|(content, key)| candidates.add(content.clone(), key.clone()));
            return self.sweep_candidates(candidates, options, ledger, pruned).await;
        }
        let mut found = self.contents();
        loop {
            let mut candidates = Candidates::default();
            while candidates.count < CANDIDATES
                && let Some(key) = found.try_next().await?
            {
                if let Some(content) = keys::content(&key) {
                    candidates.add(content, key);
                }
            }
            if candidates.count == 0 {
                return Ok(());
            }
            self.sweep_candidates(candidates, options, ledger, pruned).await?;
        }
    }

    async fn sweep_candidates(
        &self,
        mut candidates: Candidates,
        options: &PruneOptions,
        ledger: &Ledger,
        pruned: &mut Pruned,
    ) -> Result<(), TreeError> {
        let mut repositories = 0;
        let mut holders = self.holders();
        while !candidates.is_empty()
            && let Some(repository) = holders.try_next().await?
        {
            repositories += 1;
            self.drop_named(&repository, ledger.hidden.get(&repository), &mut candidates).await?;
        }
        let unnamed: Vec<(Content, Key)> = candidates.into_map().into_iter().collect();
        let mut going = Vec::new();
        for (content, key) in unnamed {
            if ledger.released.contains_key(&content) || options.is_old(self.0.store.modified(&key).await?) {
                going.push((content, key));
            }
        }
        let batch = (QUESTIONS / repositories.max(1)).clamp(*BATCH.start(), *BATCH.end());
        for batch in going.chunks(batch) {
            self.sweep_batch(batch.iter().cloned().collect(), options, pruned).await?;
        }
        Ok(())
    }

    /// Takes out of the candidates what a repository names, but for what it would lose.
    async fn drop_named(
        &self,
        repository: &Repository,
        hidden: Option<&Doomed>,
        candidates: &mut Candidates,
    ) -> Result<(), TreeError> {
        for blob in self.blob_names(repository).await? {
            if !hidden.is_some_and(|hidden| hidden.blobs.contains(&blob)) {
                candidates.blobs.remove(&blob);
            }
        }
        let mut names = self.0.store.list(&keys::folder(repository, keys::MANIFESTS));
        while let Some(listed) = names.try_next().await? {
            let Listed::Object(key) = listed else { continue };
            let named = match key.name().parse::<Reference>() {
                Ok(Reference::Digest(digest)) => {
                    Some(digest).filter(|digest| !hidden.is_some_and(|hidden| hidden.manifests.contains(digest)))
                }
                // Mostly the same as a name by digest, but for what is damaged.
                Ok(Reference::Tag(tag)) if !hidden.is_some_and(|hidden| hidden.tags.contains(&tag)) => {
                    let pointer = self.resolve_sound(repository, &Reference::Tag(tag)).await?;
                    pointer.map(|pointer| pointer.digest)
                }
                _ => None,
            };
            if let Some(digest) = named {
                candidates.manifests.remove(&digest);
            }
        }
        Ok(())
    }

    /// Removes a batch, but for what got a name meanwhile.
    async fn sweep_batch(
        &self,
        mut batch: BTreeMap<Content, Key>,
        options: &PruneOptions,
        pruned: &mut Pruned,
    ) -> Result<(), TreeError> {
        let store = &self.0.store;
        let _alone = match options.dry_run {
            true => None,
            false => {
                let alone = store.lock(WRITERS, LockMode::Exclusive).await?;
                self.retain_unnamed(None, &mut batch).await?;
                Some(alone)
            }
        };
        for key in batch.values() {
            let Some(entry) = store.head(key).await? else { continue };
            if options.dry_run || store.delete(key).await? {
                pruned.contents += 1;
                pruned.bytes += entry.size;
            }
        }
        Ok(())
    }
}

//! Bytes that no repository names, in a store with links.

use std::collections::BTreeMap;

use super::{Ledger, PruneOptions, Pruned};
use crate::store::Key;
use crate::tree::keys::Content;
use crate::tree::unnamed::Candidates;
use crate::tree::{Tree, TreeError};

/// How many questions are asked while the lock is held once: each content of a batch, of each repository.
const QUESTIONS: usize = 50_000;
/// And how many contents a batch has at least and at most.
const BATCH: std::ops::RangeInclusive<usize> = 16..=1024;

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
            candidates.fill(&mut found).await?;
            if candidates.is_empty() {
                return Ok(());
            }
            self.sweep_candidates(candidates, options, ledger, pruned).await?;
        }
    }

    async fn sweep_candidates(
        &self,
        candidates: Candidates,
        options: &PruneOptions,
        ledger: &Ledger,
        pruned: &mut Pruned,
    ) -> Result<(), TreeError> {
        let (unnamed, repositories) = self.unnamed(candidates, &ledger.hidden).await?;
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

    /// Removes a batch, but for what got a name meanwhile.
    async fn sweep_batch(
        &self,
        mut batch: BTreeMap<Content, Key>,
        options: &PruneOptions,
        pruned: &mut Pruned,
    ) -> Result<(), TreeError> {
        let store = &self.0.store;
        let mut alone = None;
        if !options.dry_run {
            alone = Some(self.alone().await?);
            self.retain_unnamed(None, &mut batch).await?;
        }
        for key in batch.values() {
            let Some(entry) = store.head(key).await? else { continue };
            if options.dry_run || store.delete(key).await? {
                pruned.contents += 1;
                pruned.bytes += entry.size;
            }
        }
        drop(alone);
        Ok(())
    }
}

//! Bytes that no repository names, in a store with links.

use std::collections::{BTreeMap, HashMap};

use super::{Ledger, PruneOptions, Pruned};
use crate::store::{Key, LockMode};
use crate::tree::keys::Content;
use crate::tree::sink::WRITERS;
use crate::tree::unnamed::{Candidates, Unnamed};
use crate::tree::{Tree, TreeError};

/// How many contents are looked for while the lock is held once: each is asked of each repository, or all names are walked over.
const ASKED: usize = 1024;
const WALKED: usize = 8192;
/// How many names are walked over in the time of one question.
const NAMES_A_QUESTION: usize = 4;

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
        let Unnamed { contents: unnamed, repositories, names } = self.unnamed(candidates, &ledger.hidden).await?;
        let mut going = Vec::new();
        for (content, key) in unnamed {
            if ledger.released.contains_key(&content) || options.is_old(self.0.store.modified(&key).await?) {
                going.push((content, key));
            }
        }
        let walks = going.len().min(ASKED) * repositories > names / NAMES_A_QUESTION;
        for batch in going.chunks(if walks { WALKED } else { ASKED }) {
            self.sweep_batch(batch, walks, options, pruned).await?;
        }
        Ok(())
    }

    /// Removes a batch, but for what got a name meanwhile.
    async fn sweep_batch(
        &self,
        batch: &[(Content, Key)],
        walks: bool,
        options: &PruneOptions,
        pruned: &mut Pruned,
    ) -> Result<(), TreeError> {
        let store = &self.0.store;
        let mut batch: BTreeMap<Content, Key> = batch.iter().cloned().collect();
        let mut alone = None;
        if !options.dry_run {
            alone = Some(store.lock(WRITERS, LockMode::Exclusive).await?);
            if walks {
                let mut candidates = Candidates::default();
                batch.into_iter().for_each(|(content, key)| candidates.add(content, key));
                batch = self.unnamed(candidates, &HashMap::new()).await?.contents.into_iter().collect();
            } else {
                self.retain_unnamed(self.holders(), &mut batch).await?;
            }
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

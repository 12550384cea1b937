//! Bytes that no repository names, in a store with links.

use std::collections::HashMap;

use futures::TryStreamExt as _;
use futures::stream::BoxStream;

use super::keys::{self, Content};
use super::remove::Doomed;
use super::{Tree, TreeError};
use crate::oci::{Digest, Reference, Repository};
use crate::store::{Key, Listed};

/// How many contents are held in memory, and looked for in one walk over all names.
const AT_ONCE: usize = 50_000;

/// Contents that may be unnamed.
#[derive(Default)]
pub(super) struct Candidates {
    blobs: HashMap<Digest, Key>,
    manifests: HashMap<Digest, Vec<(Content, Key)>>,
}

impl Candidates {
    pub(super) fn add(&mut self, content: Content, key: Key) {
        match content {
            Content::Blob(digest) => {
                self.blobs.insert(digest, key);
            }
            Content::Manifest(_, digest) => self.manifests.entry(digest).or_default().push((content, key)),
        }
    }

    /// Takes as many as are looked for at once.
    pub(super) async fn fill(&mut self, found: &mut BoxStream<'_, Result<Key, TreeError>>) -> Result<(), TreeError> {
        while self.blobs.len() + self.manifests.len() < AT_ONCE
            && let Some(key) = found.try_next().await?
        {
            if let Some(content) = keys::content(&key) {
                self.add(content, key);
            }
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.manifests.is_empty()
    }
}

impl Tree {
    /// Those of the candidates that no repository names, in one walk over all names; what repositories are about to lose
    /// doesn't count. Also says how many repositories there are.
    pub(super) async fn unnamed(
        &self,
        mut candidates: Candidates,
        doomed: &HashMap<Repository, Doomed>,
    ) -> Result<(Vec<(Content, Key)>, usize), TreeError> {
        let mut repositories = 0;
        let mut holders = self.holders();
        while !candidates.is_empty()
            && let Some(repository) = holders.try_next().await?
        {
            repositories += 1;
            self.drop_named(&repository, doomed.get(&repository), &mut candidates).await?;
        }
        let blobs = candidates.blobs.into_iter().map(|(digest, key)| (Content::Blob(digest), key));
        Ok((blobs.chain(candidates.manifests.into_values().flatten()).collect(), repositories))
    }

    /// Takes out of the candidates what a repository names.
    async fn drop_named(
        &self,
        repository: &Repository,
        doomed: Option<&Doomed>,
        candidates: &mut Candidates,
    ) -> Result<(), TreeError> {
        for blob in self.blob_names(repository).await? {
            if !doomed.is_some_and(|doomed| doomed.blobs.contains(&blob)) {
                candidates.blobs.remove(&blob);
            }
        }
        let mut names = self.0.store.list(&keys::folder(repository, keys::MANIFESTS));
        while let Some(listed) = names.try_next().await? {
            let Listed::Object(key) = listed else { continue };
            let named = match key.name().parse::<Reference>() {
                Ok(Reference::Digest(digest)) => {
                    Some(digest).filter(|digest| !doomed.is_some_and(|doomed| doomed.manifests.contains(digest)))
                }
                // Mostly the same as a name by digest, but for what is damaged.
                Ok(Reference::Tag(tag)) if !doomed.is_some_and(|doomed| doomed.tags.contains(&tag)) => {
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
}

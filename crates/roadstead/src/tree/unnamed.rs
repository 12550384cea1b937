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

/// What a walk over all names found.
pub(super) struct Unnamed {
    /// Those of the candidates that no repository names.
    pub(super) contents: Vec<(Content, Key)>,
    /// How many repositories it came by, until every candidate was named.
    pub(super) repositories: usize,
    /// And how many names.
    pub(super) names: usize,
}

impl Tree {
    /// Those of the candidates that no repository names, in one walk over all names; what repositories are about to lose
    /// doesn't count.
    pub(super) async fn unnamed(
        &self,
        mut candidates: Candidates,
        doomed: &HashMap<Repository, Doomed>,
    ) -> Result<Unnamed, TreeError> {
        let (mut repositories, mut names) = (0, 0);
        let mut holders = self.holders();
        while !candidates.is_empty()
            && let Some(repository) = holders.try_next().await?
        {
            repositories += 1;
            names += self.drop_named(&repository, doomed.get(&repository), &mut candidates).await?;
        }
        let blobs = candidates.blobs.into_iter().map(|(digest, key)| (Content::Blob(digest), key));
        let contents = blobs.chain(candidates.manifests.into_values().flatten()).collect();
        Ok(Unnamed { contents, repositories, names })
    }

    /// Takes out of the candidates what a repository names. Returns how many names it has.
    async fn drop_named(
        &self,
        repository: &Repository,
        doomed: Option<&Doomed>,
        candidates: &mut Candidates,
    ) -> Result<usize, TreeError> {
        let blobs = self.blob_names(repository).await?;
        let mut count = blobs.len();
        for blob in blobs {
            if !doomed.is_some_and(|doomed| doomed.blobs.contains(&blob)) {
                candidates.blobs.remove(&blob);
            }
        }
        let mut names = self.0.store.list(&keys::folder(repository, keys::MANIFESTS));
        while let Some(listed) = names.try_next().await? {
            let Listed::Object(key) = listed else { continue };
            count += 1;
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
        Ok(count)
    }
}

//! How many bytes what takes.

use std::collections::HashMap;

use futures::TryStreamExt as _;

use super::{Tree, TreeError, keys};
use crate::oci::{Digest, Reference, Repository};
use crate::store::{Key, Listed, Naming};

/// How many sizes are asked for at once.
const QUESTIONS_AT_ONCE: usize = 16;

/// The bytes of manifests and blobs that a repository names, each once. Lists and links are not counted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RepositoryUsage {
    /// The repository.
    pub repository: Repository,
    /// Those that no other repository names: what its removal would free.
    pub own: u64,
    /// Those that others name as well.
    pub shared: u64,
    /// All of them.
    pub total: u64,
}

/// The bytes of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// By repository, the largest first.
    pub repositories: Vec<RepositoryUsage>,
    /// Those that repositories name, each once however many do.
    pub named: u64,
    /// Those that no repository names: `prune` removes them.
    pub unnamed: u64,
    /// All of them.
    pub total: u64,
}

/// Content that has been counted.
struct Counted {
    size: u64,
    /// The repository that named it first, by its position.
    first: usize,
    shared: bool,
}

impl Tree {
    /// How many bytes each repository and the whole tree take. Holds about 200 bytes for each content.
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    pub async fn usage(&self) -> Result<Usage, TreeError> {
        let mut usage = Usage::default();
        let mut counted: HashMap<(bool, Digest), Counted> = HashMap::new();
        let mut repositories = self.holders();
        while let Some(repository) = repositories.try_next().await? {
            let position = usage.repositories.len();
            let mut of = RepositoryUsage { repository: repository.clone(), own: 0, shared: 0, total: 0 };
            for folder in [keys::MANIFESTS, keys::BLOBS] {
                let is_manifest = folder == keys::MANIFESTS;
                let names = self.0.store.list(&keys::folder(&repository, folder)).map_err(TreeError::from);
                let digests = names.try_filter_map(async |listed| match listed {
                    Listed::Object(key) => Ok(key.name().parse::<Digest>().ok()),
                    Listed::Prefix(_) => Ok(None),
                });
                let repository = &repository;
                let sizes = digests.map_ok(|digest| async move {
                    let size = self.size_of(repository, is_manifest, digest).await?;
                    Ok::<_, TreeError>((digest, size))
                });
                let mut sizes = std::pin::pin!(sizes.try_buffer_unordered(QUESTIONS_AT_ONCE));
                while let Some((digest, size)) = sizes.try_next().await? {
                    of.total += size;
                    // Copies are shared by nobody.
                    if self.0.store.naming() == Naming::Copies {
                        of.own += size;
                        usage.named += size;
                        continue;
                    }
                    counted
                        .entry((is_manifest, digest))
                        .and_modify(|counted| counted.shared = true)
                        .or_insert_with(|| Counted { size, first: position, shared: false });
                }
            }
            usage.repositories.push(of);
        }
        for counted in counted.values() {
            usage.named += counted.size;
            if !counted.shared {
                usage.repositories[counted.first].own += counted.size;
            }
        }
        if self.0.store.naming() == Naming::Links {
            let mut contents = self.contents();
            while let Some(key) = contents.try_next().await? {
                let named = match keys::content(&key) {
                    Some(keys::Content::Manifest(_, digest)) => counted.contains_key(&(true, digest)),
                    Some(keys::Content::Blob(digest)) => counted.contains_key(&(false, digest)),
                    None => continue,
                };
                if !named {
                    usage.unnamed += self.size_at(&key).await?;
                }
            }
        }
        for of in &mut usage.repositories {
            of.shared = of.total - of.own;
        }
        usage.repositories.sort_by(|a, b| b.total.cmp(&a.total).then_with(|| a.repository.cmp(&b.repository)));
        usage.total = usage.named + usage.unnamed;
        Ok(usage)
    }

    /// The size of what a name leads to; nothing, where it leads nowhere or astray.
    async fn size_of(&self, repository: &Repository, is_manifest: bool, digest: Digest) -> Result<u64, TreeError> {
        if is_manifest {
            let pointer = self.resolve_sound(repository, &Reference::Digest(digest)).await?;
            return match pointer {
                Some(pointer) => self.size_at(&pointer.at).await,
                None => Ok(0),
            };
        }
        match self.0.store.naming() {
            Naming::Links => self.size_at(&keys::blob_content(&digest)).await,
            Naming::Copies => self.size_at(&keys::blob(repository, &digest)).await,
        }
    }

    async fn size_at(&self, key: &Key) -> Result<u64, TreeError> {
        match self.0.store.head(key).await {
            Err(crate::store::StoreError::Escape { .. }) => Ok(0),
            other => Ok(other?.map_or(0, |entry| entry.size)),
        }
    }
}

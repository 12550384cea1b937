//! Mending what a verification found: what is derived is made again, what is damaged or lost is fetched again.

use std::collections::BTreeSet;

use futures::TryStreamExt as _;

use super::lists::{Change, Walked, pong};
use super::sink::WRITERS;
use super::verify::Broken;
use super::{Derived, Finding, Tree, TreeError, WORTH_A_HINT, keys};
use crate::image::{Copier, CopyError, PutError, RepositorySource, Sink as _, SinkError, SourceError};
use crate::oci::{Descriptor, Digest, Reference, Repository, Tag};
use crate::store::{Condition, LockMode, StoreError};

/// Why something wasn't fetched again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefetchError {
    /// The source has it not, or failed.
    #[error("{digest} can't be read from the source")]
    Source {
        /// What was asked for.
        digest: Digest,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// A blob couldn't be replaced.
    #[error("{digest} is not replaced")]
    Put {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: PutError,
    },
    /// A manifest, or something below it, couldn't be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The tree couldn't be written.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The tree couldn't be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl RefetchError {
    /// Whether the source simply hasn't got it: another one may.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Source { source, .. } | Self::Copy(CopyError::Source { source, .. }) => {
                matches!(source, SourceError::NotFound { .. })
            }
            _ => false,
        }
    }
}

impl Tree {
    /// Makes what is derived again, from names and bytes, and changes nothing else. Of what images name, of which nothing is
    /// wrong if it is not known, it keeps what was read to verify them.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    pub async fn repair(&self, derived: &BTreeSet<Derived>) -> Result<(), TreeError> {
        let noted = self.noted_needs();
        if derived.is_empty() && noted.is_empty() {
            return Ok(());
        }
        let _beside = self.0.store.lock(WRITERS, LockMode::Shared).await?;
        let repositories: BTreeSet<&Repository> = { derived.iter() }
            .filter_map(|one| match one {
                Derived::Ping | Derived::Catalog => None,
                Derived::Tags(repository) | Derived::Referrers(repository, _) | Derived::Hint(repository, _) => {
                    Some(repository)
                }
            })
            .collect();
        let tree = self.beside(repositories.into_iter().chain(&noted).cloned().collect());
        for one in derived {
            tree.repair_one(one).await?;
        }
        for repository in &noted {
            tree.keep_noted_needs(repository).await;
        }
        tree.0.store.sync().await?;
        tree.withdraw().await
    }

    async fn repair_one(&self, derived: &Derived) -> Result<(), TreeError> {
        let store = &self.0.store;
        match derived {
            Derived::Ping => {
                let (key, bytes) = pong(store.naming());
                let _ = store.put(&key, bytes, &super::derived(), Condition::Always).await?;
            }
            Derived::Catalog => self.rebuild_catalog().await?,
            Derived::Tags(repository) => {
                let mut names = store.list(&keys::folder(repository, keys::MANIFESTS));
                let is_there = names.try_next().await?.is_some();
                drop(names);
                if is_there {
                    self.write_lists(&BTreeSet::from([repository.clone()])).await?;
                } else {
                    self.delete_lists(repository).await?;
                }
            }
            Derived::Referrers(repository, subject) => {
                self.change_referrers(repository, subject, Change::Rebuild, &Walked::default()).await?;
            }
            Derived::Hint(repository, blob) => self.put_hint(repository, blob, WORTH_A_HINT).await?,
        }
        Ok(())
    }

    /// Fetches what a finding misses, by its digest, and puts it in the place of what is there: verified first, then in one
    /// instant. No tag moves. Returns whether there was anything to do; a finding that isn't about content has nothing.
    ///
    /// # Errors
    ///
    /// [`RefetchError`]; what is there stays.
    pub async fn refetch(
        &self,
        finding: &Finding,
        from: &dyn RepositorySource,
        copier: &Copier,
    ) -> Result<bool, RefetchError> {
        let Some((repository, broken)) = finding.broken() else { return Ok(false) };
        // In a store with copies, damage is that of one name.
        let damaged = match finding {
            Finding::DamagedBlob { key, .. } | Finding::DamagedManifest { key, .. } => keys::named(key),
            _ => None,
        };
        let repository = match repository.cloned().or_else(|| Some(damaged.as_ref()?.0.clone())) {
            Some(repository) => repository,
            None => match self.any_that_names(&broken).await? {
                Some(repository) => repository,
                // Nobody misses it.
                None => return Ok(false),
            },
        };
        let sink = self.repository(&repository).await?;
        match broken {
            Broken::Manifest(digest) => {
                // A tag is a copy there, too.
                let tag: Option<Tag> = damaged.and_then(|(_, _, name)| name.parse().ok());
                copier.copy(from, &Reference::Digest(digest), &*sink, tag.as_slice()).await?;
            }
            Broken::Blob(digest) => {
                let expected = Descriptor { size: None, ..Descriptor::new("", digest, 0) };
                let bytes = from.blob(&expected, 0).await.map_err(|source| RefetchError::Source { digest, source })?;
                // Not claimed: a claim takes what is there for whole if it has the right size.
                sink.put_blob(&expected, bytes).await.map_err(|source| RefetchError::Put { digest, source })?;
            }
        }
        sink.finish().await?;
        Ok(true)
    }

    /// A repository that names damaged content, in a store with links.
    async fn any_that_names(&self, broken: &Broken) -> Result<Option<Repository>, TreeError> {
        let mut repositories = self.repositories();
        while let Some(repository) = repositories.try_next().await? {
            let name = match broken {
                Broken::Manifest(digest) => keys::manifest(&repository, &(*digest).into()),
                Broken::Blob(digest) => keys::blob(&repository, digest),
            };
            match self.0.store.target(&name).await {
                Err(StoreError::Escape { .. }) | Ok(None) => {}
                Ok(Some(_)) => return Ok(Some(repository)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

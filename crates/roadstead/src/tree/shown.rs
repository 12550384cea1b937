//! What a tree shows, file by file: for whoever has to write it elsewhere, or to enumerate what it can't look at.

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Pointer, Private, Tree, TreeError, keys};
use crate::oci::{Digest, Reference, Repository};
use crate::store::{Key, Listed, StoreError};

/// How many sizes are asked for at once.
const QUESTIONS_AT_ONCE: usize = 16;

/// What a file below `v2/` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// The answer to a ping.
    Ping,
    /// The list of repositories.
    Catalog,
    /// The list of a repository's tags.
    TagsList(Repository),
    /// A manifest, and what the name leads to.
    Manifest(Repository, Reference, Pointer),
    /// A blob.
    Blob(Repository, Digest),
    /// The list of what refers to a subject.
    Referrers(Repository, Digest),
}

impl Shown {
    /// Where it lies in the tree.
    #[must_use]
    pub fn key(&self, tree: &Tree) -> Key {
        match self {
            Self::Ping => keys::ping(tree.0.store.naming()),
            Self::Catalog => keys::catalog(),
            Self::TagsList(repository) => keys::tags_list(repository),
            Self::Manifest(repository, reference, _) => keys::manifest(repository, reference),
            Self::Blob(repository, digest) => keys::blob(repository, digest),
            Self::Referrers(repository, subject) => keys::referrers(repository, subject),
        }
    }
}

impl Tree {
    /// Everything that clients can ask for, with its size in bytes: the ping, the repositories one after the other (each its
    /// blobs, manifests, lists of referrers and list of tags), the catalogue. A name that leads to nothing is left out, and so
    /// is what comes or goes meanwhile. Holds no more than the folders on the way down have.
    pub fn shown(&self) -> BoxStream<'_, Result<(Shown, u64), TreeError>> {
        self.shown_without(&Private::default())
    }

    /// The same, but for private repositories. The catalogue's size is that of the whole one.
    pub fn shown_without(&self, private: &Private) -> BoxStream<'_, Result<(Shown, u64), TreeError>> {
        let private = private.clone();
        let public = self.repositories().try_filter(move |name| std::future::ready(!private.contains(name)));
        let repositories = public.map_ok(|name| self.shown_of(&name)).try_flatten();
        let all = stream::iter([Ok(Shown::Ping)]).chain(repositories).chain(stream::iter([Ok(Shown::Catalog)]));
        all.map_ok(|shown| self.measured(shown))
            .try_buffered(QUESTIONS_AT_ONCE)
            .try_filter_map(async |measured| Ok(measured))
            .boxed()
    }

    fn shown_of(&self, repository: &Repository) -> BoxStream<'_, Result<Shown, TreeError>> {
        let of = repository.clone();
        let manifests =
            self.names(repository).map_ok(move |(name, pointer)| Shown::Manifest(of.clone(), name, pointer));
        let tags = Ok(Shown::TagsList(repository.clone()));
        self.digests(repository, keys::BLOBS, Shown::Blob)
            .chain(manifests)
            .chain(self.digests(repository, keys::REFERRERS, Shown::Referrers))
            .chain(stream::iter([tags]))
            .boxed()
    }

    fn digests(
        &self,
        repository: &Repository,
        folder: &str,
        shown: fn(Repository, Digest) -> Shown,
    ) -> BoxStream<'_, Result<Shown, TreeError>> {
        let of = repository.clone();
        let named = move |listed| match listed {
            Listed::Object(key) => key.name().parse().ok().map(|digest| shown(of.clone(), digest)),
            Listed::Prefix(_) => None,
        };
        let listed = self.0.store.list(&keys::folder(repository, folder)).map_err(TreeError::from);
        listed.try_filter_map(move |listed| std::future::ready(Ok(named(listed)))).boxed()
    }

    async fn measured(&self, shown: Shown) -> Result<Option<(Shown, u64)>, TreeError> {
        let at = match &shown {
            Shown::Manifest(_, _, pointer) => pointer.at.clone(),
            other => other.key(self),
        };
        match self.0.store.head(&at).await {
            Ok(entry) => Ok(entry.map(|entry| (shown, entry.size))),
            // `verify` says what is wrong with it.
            Err(StoreError::Escape { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

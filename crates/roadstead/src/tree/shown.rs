//! What a tree shows, file by file: for whoever has to write it elsewhere, or to enumerate what it can't look at.

use std::str::FromStr;

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Pointer, Private, Tree, TreeError, keys, spread};
use crate::oci::{Digest, Reference, Repository};
use crate::store::{self, Key, StoreError};

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

/// Files of which isn't known yet whether they are there.
enum Listed {
    Manifests(Repository, Vec<Reference>),
    Blobs(Vec<Shown>),
    Lists(Vec<Shown>),
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
        let some = self.shown_as(private, |some| some);
        some.map_ok(|some| stream::iter(some.into_iter().map(Ok))).try_flatten().boxed()
    }

    /// What `make` makes of some of it at a time, in the same order, on all threads of the runtime.
    pub(crate) fn shown_as<T: Send + 'static>(
        &self,
        private: &Private,
        make: impl Fn(Vec<(Shown, u64)>) -> T + Clone + Send + Sync + 'static,
    ) -> BoxStream<'_, Result<T, TreeError>> {
        let one = |shown| stream::iter([Ok(Listed::Lists(vec![shown]))]);
        let repositories = self.public(private).map_ok(|name| self.listed(&name)).try_flatten();
        self.measured(one(Shown::Ping).chain(repositories).chain(one(Shown::Catalog)).boxed(), make)
    }

    /// The same of the manifests alone, which costs only as much as there are names of them.
    pub(crate) fn manifests_as<T: Send + 'static>(
        &self,
        private: &Private,
        make: impl Fn(Vec<(Shown, u64)>) -> T + Clone + Send + Sync + 'static,
    ) -> BoxStream<'_, Result<T, TreeError>> {
        self.measured(self.public(private).map_ok(|name| self.listed_manifests(&name)).try_flatten().boxed(), make)
    }

    fn public(&self, private: &Private) -> BoxStream<'_, Result<Repository, TreeError>> {
        let private = private.clone();
        self.repositories().try_filter(move |name| std::future::ready(!private.contains(name))).boxed()
    }

    /// Names of a repository, as many at a time as are looked at together.
    fn listed(&self, repository: &Repository) -> BoxStream<'_, Result<Listed, TreeError>> {
        let tags = Ok(Listed::Lists(vec![Shown::TagsList(repository.clone())]));
        let of = repository.clone();
        let blobs = self.names_in(repository, keys::BLOBS, move |digest| Shown::Blob(of.clone(), digest));
        let of = repository.clone();
        let referrers = self.names_in(repository, keys::REFERRERS, move |digest| Shown::Referrers(of.clone(), digest));
        blobs
            .map_ok(Listed::Blobs)
            .chain(self.listed_manifests(repository))
            .chain(referrers.map_ok(Listed::Lists))
            .chain(stream::iter([tags]))
            .boxed()
    }

    fn listed_manifests(&self, repository: &Repository) -> BoxStream<'_, Result<Listed, TreeError>> {
        let of = repository.clone();
        let names = self.names_in(repository, keys::MANIFESTS, |reference| reference);
        names.map_ok(move |names| Listed::Manifests(of.clone(), names)).boxed()
    }

    /// What the names in one of a repository's own folders are made to.
    fn names_in<'a, N: FromStr + Send + 'a, T: Send + 'a>(
        &'a self,
        repository: &Repository,
        folder: &str,
        make: impl Fn(N) -> T + Send + 'a,
    ) -> BoxStream<'a, Result<Vec<T>, TreeError>> {
        let named = move |listed| match listed {
            store::Listed::Object(key) => Ok(key.name().parse().ok().map(&make)),
            store::Listed::Prefix(_) => Ok(None),
        };
        let names = self.0.store.list(&keys::folder(repository, folder)).map_err(TreeError::from);
        let names = names.try_filter_map(move |listed| std::future::ready(named(listed)));
        names.try_chunks(spread::CHUNK).map_err(|error| error.1).boxed()
    }

    /// What is made of what is there of it.
    fn measured<'a, T: Send + 'static>(
        &'a self,
        listed: BoxStream<'a, Result<Listed, TreeError>>,
        make: impl Fn(Vec<(Shown, u64)>) -> T + Clone + Send + Sync + 'static,
    ) -> BoxStream<'a, Result<T, TreeError>> {
        self.spread_in_order(listed, move |listed| {
            let (tree, make) = (self.clone(), make.clone());
            async move { Ok(make(tree.measure(listed).await?)) }
        })
    }

    async fn measure(&self, listed: Listed) -> Result<Vec<(Shown, u64)>, TreeError> {
        let store = &self.0.store;
        let (shown, at): (Vec<Shown>, Vec<Key>) = match listed {
            Listed::Manifests(repository, names) => {
                let pointers = self.resolve_each(&repository, &names).await;
                let named = names.into_iter().zip(pointers).filter_map(|(name, pointer)| {
                    // It may have gone since it was listed.
                    pointer.transpose().map(|pointer| {
                        let pointer = pointer?;
                        let at = pointer.at.clone();
                        Ok((Shown::Manifest(repository.clone(), name, pointer), at))
                    })
                });
                named.collect::<Result<_, TreeError>>()?
            }
            Listed::Blobs(shown) => {
                let keys: Vec<Key> = shown.iter().map(|shown| shown.key(self)).collect();
                let targets = store.targets(&keys).await;
                let named = shown.into_iter().zip(keys).zip(targets).filter_map(|((shown, key), target)| {
                    sound(target).map(|target| Ok((shown, target?.unwrap_or(key))))
                });
                named.collect::<Result<_, TreeError>>()?
            }
            Listed::Lists(shown) => {
                let at = shown.iter().map(|shown| shown.key(self)).collect();
                (shown, at)
            }
        };
        let sizes = store.sizes(&at).await;
        let measured = shown.into_iter().zip(sizes).filter_map(|(shown, size)| match sound(size)? {
            Ok(size) => size.map(|size| Ok((shown, size))),
            Err(error) => Some(Err(error)),
        });
        measured.collect()
    }
}

/// What the store says; `None` of a name that leads astray: `verify` says what is wrong with it.
fn sound<T>(said: Result<T, StoreError>) -> Option<Result<T, TreeError>> {
    match said {
        Err(StoreError::Escape { .. }) => None,
        said => Some(said.map_err(TreeError::from)),
    }
}

//! What is in a tree, as its names say.

use std::collections::BTreeMap;

use futures::future;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::keys::Content;
use super::{Pointer, Tree, TreeError, keys, spread};
use crate::oci::{Digest, Reference, Repository, Tag};
use crate::store::{Key, Listed, Naming, StoreError};

/// What a walk over a tree comes upon.
pub(super) enum Found {
    /// A repository: a folder below which names lie, though perhaps none of a manifest.
    Repository {
        name: Repository,
        /// Whether it has the name of a manifest. If not, an interrupted copy or removal left the others.
        has_manifests: bool,
    },
    /// Something where a tree has nothing.
    Stray(Key),
}

/// How closely a walk looks.
#[derive(Clone, Copy)]
enum Look {
    /// At each name, for what doesn't belong where it lies.
    Close,
    /// Only for repositories.
    Quick,
}

/// What one of a repository's own folders holds.
#[derive(Default)]
struct Inside {
    has_names: bool,
    /// Whether it is a component of other repositories' names, too.
    passes_through: bool,
}

/// A folder that is yet to be looked into.
struct Unvisited {
    folder: Key,
    /// Whether what lies directly in it has been judged, since it is one of a repository's own folders.
    judged: bool,
}

impl Tree {
    /// The repositories, in no promised order: every folder whose `manifests` holds a name.
    ///
    /// Reads folders, not the catalogue, so that it finds what a lagging list doesn't show. Holds as many names as the
    /// folders on the way down have.
    pub fn repositories(&self) -> BoxStream<'_, Result<Repository, TreeError>> {
        let named = async |found| match found {
            Found::Repository { name, has_manifests: true } => Ok(Some(name)),
            _ => Ok(None),
        };
        self.look(Look::Quick).try_filter_map(named).boxed()
    }

    /// The repositories, also those of which only names of blobs or lists are left.
    pub(super) fn holders(&self) -> BoxStream<'_, Result<Repository, TreeError>> {
        let held = async |found| match found {
            Found::Repository { name, .. } => Ok(Some(name)),
            Found::Stray(_) => Ok(None),
        };
        self.look(Look::Quick).try_filter_map(held).boxed()
    }

    /// Everything below `v2/`, a repository at a time.
    pub(super) fn walk(&self) -> BoxStream<'_, Result<Found, TreeError>> {
        self.look(Look::Close)
    }

    fn look(&self, look: Look) -> BoxStream<'_, Result<Found, TreeError>> {
        let top = Unvisited { folder: keys::root(), judged: false };
        stream::try_unfold((vec![top], Vec::new()), move |(mut open, mut found)| async move {
            loop {
                if let Some(next) = found.pop() {
                    return Ok::<_, TreeError>(Some((next, (open, found))));
                }
                let Some(folder) = open.pop() else { return Ok(None) };
                self.visit(folder, look, &mut open, &mut found).await?;
            }
        })
        .boxed()
    }

    async fn visit(
        &self,
        Unvisited { folder, judged }: Unvisited,
        look: Look,
        open: &mut Vec<Unvisited>,
        found: &mut Vec<Found>,
    ) -> Result<(), TreeError> {
        let is_root = folder == keys::root();
        let repository: Option<Repository> = folder.as_str().strip_prefix("v2/").and_then(|name| name.parse().ok());
        let (mut has_manifests, mut has_names) = (false, false);
        let ping = keys::ping(self.0.store.naming());
        let mut own_folders = Vec::new();
        let mut below = self.0.store.list(&folder);
        while let Some(listed) = below.try_next().await? {
            let child = match listed {
                Listed::Object(key) => {
                    let known = judged || is_root && (key == ping || key == keys::catalog());
                    found.extend((!known).then_some(Found::Stray(key)));
                    continue;
                }
                Listed::Prefix(child) => child,
            };
            let own = [keys::MANIFESTS, keys::BLOBS, keys::TAGS, keys::REFERRERS].contains(&child.name());
            if !own || repository.is_none() {
                open.push(Unvisited { folder: child, judged: false });
                continue;
            }
            own_folders.push(child);
        }
        // A repository's own folder, a component of another's name, or both.
        let insides: Vec<Inside> = match look {
            // Each is read to its end, so they are at the same time.
            Look::Quick if self.0.store.naming() == Naming::Links => {
                future::try_join_all(own_folders.iter().map(|own| self.glance(own))).await?
            }
            Look::Quick | Look::Close => {
                let mut insides = Vec::new();
                for own in &own_folders {
                    insides.push(self.judge(own, found).await?);
                }
                insides
            }
        };
        for (own, inside) in own_folders.into_iter().zip(insides) {
            has_names |= inside.has_names;
            has_manifests |= inside.has_names && own.name() == keys::MANIFESTS;
            if inside.passes_through {
                open.push(Unvisited { folder: own, judged: true });
            }
        }
        if let Some(name) = repository.filter(|_| has_names) {
            found.push(Found::Repository { name, has_manifests });
        }
        Ok(())
    }

    /// What is in one of a repository's own folders, each name of it looked at.
    async fn judge(&self, folder: &Key, found: &mut Vec<Found>) -> Result<Inside, TreeError> {
        let mut inside = Inside::default();
        let mut names = self.0.store.list(folder);
        while let Some(listed) = names.try_next().await? {
            match listed {
                Listed::Prefix(_) => inside.passes_through = true,
                Listed::Object(name) if belongs(folder.name(), name.name()) => inside.has_names = true,
                Listed::Object(name) => found.push(Found::Stray(name)),
            }
        }
        Ok(inside)
    }

    /// The same, for a directory, which can be asked for its folders alone: the first name that belongs there is enough.
    async fn glance(&self, folder: &Key) -> Result<Inside, TreeError> {
        let mut inside = Inside::default();
        let mut names = self.0.store.list(folder);
        while !inside.has_names
            && let Some(listed) = names.try_next().await?
        {
            inside.has_names = matches!(listed, Listed::Object(name) if belongs(folder.name(), name.name()));
        }
        inside.passes_through = self.0.store.list_prefixes(folder).try_next().await?.is_some();
        Ok(inside)
    }

    /// The bytes that lie in `content/`, in a store with links, and what lies there else.
    pub(super) fn contents(&self) -> BoxStream<'_, Result<Key, TreeError>> {
        self.below(keys::contents())
    }

    /// All objects below a key, in no promised order.
    pub(super) fn below(&self, key: Key) -> BoxStream<'_, Result<Key, TreeError>> {
        let begin: (Vec<Key>, Option<BoxStream<'_, _>>) = (vec![key], None);
        stream::try_unfold(begin, move |(mut open, mut listing)| async move {
            loop {
                let Some(list) = &mut listing else {
                    let Some(folder) = open.pop() else { return Ok::<_, TreeError>(None) };
                    listing = Some(self.0.store.list(&folder));
                    continue;
                };
                match list.try_next().await? {
                    Some(Listed::Object(key)) => return Ok(Some((key, (open, listing)))),
                    Some(Listed::Prefix(folder)) => open.push(folder),
                    None => listing = None,
                }
            }
        })
        .boxed()
    }

    /// The tags of a repository, those of clients without a referrers API aside, and what each leads to: on all threads of
    /// the runtime.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    pub async fn tags(&self, repository: &Repository) -> Result<BTreeMap<Tag, Pointer>, TreeError> {
        let (tree, in_repository) = (self.clone(), repository.clone());
        let tags = self.read_tags(repository).await?.into_iter().map(Reference::Tag).collect();
        let resolved = self.spread_chunks(spread::chunks(tags), move |tags: Vec<Reference>| {
            let (tree, repository) = (tree.clone(), in_repository.clone());
            async move {
                let pointers = tree.resolve_each(&repository, &tags).await;
                // It may have gone since it was listed.
                let named = tags.into_iter().zip(pointers).filter_map(|(tag, pointer)| match tag {
                    Reference::Tag(tag) => pointer.transpose().map(|pointer| Ok((tag, pointer?))),
                    Reference::Digest(_) => None,
                });
                named.collect()
            }
        });
        Ok(resolved.await?.into_iter().collect())
    }

    /// The names of a repository's manifests, tags and digests alike, in no promised order, and what each leads to.
    pub fn names<'a>(&'a self, repository: &Repository) -> BoxStream<'a, Result<(Reference, Pointer), TreeError>> {
        let repository = repository.clone();
        self.0
            .store
            .list(&keys::folder(&repository, keys::MANIFESTS))
            .map_err(TreeError::from)
            .try_filter_map(move |listed| {
                let repository = repository.clone();
                async move {
                    let Listed::Object(key) = listed else { return Ok(None) };
                    let Ok(reference) = key.name().parse::<Reference>() else { return Ok(None) };
                    // It may have gone since it was listed.
                    let pointer = self.resolve(&repository, &reference).await?;
                    Ok(pointer.map(|pointer| (reference, pointer)))
                }
            })
            .boxed()
    }

    /// Takes out of `contents` what one of the repositories names.
    pub(super) async fn retain_unnamed(
        &self,
        mut repositories: BoxStream<'_, Result<Repository, TreeError>>,
        contents: &mut BTreeMap<Content, Key>,
    ) -> Result<(), TreeError> {
        debug_assert_eq!(self.0.store.naming(), Naming::Links, "copies are shared by nobody");
        while !contents.is_empty()
            && let Some(repository) = repositories.try_next().await?
        {
            let mut named = Vec::new();
            for content in contents.keys() {
                let name = match content {
                    Content::Manifest(_, digest) => keys::manifest(&repository, &Reference::Digest(*digest)),
                    Content::Blob(digest) => keys::blob(&repository, digest),
                };
                match self.0.store.target(&name).await {
                    Ok(None) => {}
                    // Whatever it leads to, a name is there: rather keep too much.
                    Ok(Some(_)) | Err(StoreError::Escape { .. }) => named.push(content.clone()),
                    Err(e) => return Err(e.into()),
                }
            }
            for content in named {
                contents.remove(&content);
            }
        }
        Ok(())
    }
}

/// Whether a name may lie in one of a repository's own folders.
fn belongs(folder: &str, name: &str) -> bool {
    match folder {
        keys::MANIFESTS => name.parse::<Reference>().is_ok(),
        keys::TAGS => name == "list",
        _ => name.parse::<Digest>().is_ok(),
    }
}

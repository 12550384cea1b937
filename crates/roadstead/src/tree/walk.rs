//! What is in a tree, as its names say.

use std::collections::BTreeMap;

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::keys::Content;
use super::{Pointer, Tree, TreeError, keys};
use crate::oci::{Reference, Repository};
use crate::store::{Key, Listed, Naming, StoreError};

impl Tree {
    /// The repositories, in no promised order: every folder whose `manifests` holds a name.
    ///
    /// Reads folders, not the catalogue, so that it finds what a lagging list doesn't show. Holds as many names as the
    /// folders on the way down have.
    pub fn repositories(&self) -> BoxStream<'_, Result<Repository, TreeError>> {
        stream::try_unfold(vec![keys::root()], move |mut open| async move {
            while let Some(folder) = open.pop() {
                if self.visit(&folder, &mut open).await? {
                    let name = folder.as_str().strip_prefix("v2/").unwrap_or_default();
                    if let Ok(repository) = name.parse() {
                        return Ok(Some((Some(repository), open)));
                    }
                }
            }
            Ok::<_, TreeError>(None)
        })
        .try_filter_map(async |found| Ok(found))
        .boxed()
    }

    /// Adds the folders below `folder` that repositories may be in, and says whether it is itself one.
    async fn visit(&self, folder: &Key, open: &mut Vec<Key>) -> Result<bool, TreeError> {
        let mut is_repository = false;
        let mut below = self.0.store.list(folder);
        while let Some(listed) = below.try_next().await? {
            let Listed::Prefix(child) = listed else { continue };
            match child.name() {
                keys::MANIFESTS => {
                    // A repository's own folder, a component of another's name, or both.
                    let mut names = self.0.store.list(&child);
                    let mut passes_through = false;
                    while let Some(name) = names.try_next().await? {
                        match name {
                            Listed::Object(_) => is_repository = true,
                            Listed::Prefix(_) => passes_through = true,
                        }
                    }
                    if passes_through {
                        open.push(child);
                    }
                }
                _ => open.push(child),
            }
        }
        Ok(is_repository)
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

    /// Takes out of `contents` what a repository other than this one names, in one walk over the tree.
    pub(super) async fn retain_unnamed_elsewhere(
        &self,
        repository: &Repository,
        contents: &mut BTreeMap<Content, Key>,
    ) -> Result<(), TreeError> {
        debug_assert_eq!(self.0.store.naming(), Naming::Links, "copies are shared by nobody");
        let mut others = self.repositories();
        while !contents.is_empty()
            && let Some(other) = others.try_next().await?
        {
            if other == *repository {
                continue;
            }
            let mut named = Vec::new();
            for content in contents.keys() {
                let name = match content {
                    Content::Manifest(_, digest) => keys::manifest(&other, &Reference::Digest(*digest)),
                    Content::Blob(digest) => keys::blob(&other, digest),
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

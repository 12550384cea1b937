//! A tree that the library writes, for what no registry takes.

use std::path::Path;
use std::sync::Arc;

use futures::TryStreamExt as _;
use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, Source as _};
use roadstead::oci::{Reference, Repository, Tag};
use roadstead::store::LocalStore;
use roadstead::testing::MemorySource;
use roadstead::tree::Tree;

/// Writes all that the source has, under the same names, with what refers to it.
pub(crate) fn write_tree(folder: &Path, source: &MemorySource) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tree = Tree::create(Arc::new(LocalStore::create(folder).unwrap())).await.unwrap();
        let copier = Copier::new(CopyOptions { referrers: true, ..CopyOptions::default() }, Arc::new(Silent));
        let repositories: Vec<Repository> = source.repositories().await.unwrap().try_collect().await.unwrap();
        for repository in repositories {
            let (from, to) = (source.repository(&repository), tree.repository(&repository).await.unwrap());
            let tags: Vec<Tag> = from.tags().try_collect().await.unwrap();
            for tag in tags {
                copier.copy(&*from, &Reference::Tag(tag.clone()), &*to, &[tag]).await.unwrap();
            }
            to.finish().await.unwrap();
        }
    });
}

//! Every sink keeps every promise.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use roadstead::oci::{Digest, Reference, Repository};
use roadstead::store::{LocalStore, MemoryStore, Naming, Store};
use roadstead::testing::contract::sink::{self, Reader, Subject};
use roadstead::testing::contract::store::bytes_of;
use roadstead::tree::Tree;

/// Reads through the tree.
struct TreeReader(Tree);

#[async_trait]
impl Reader for TreeReader {
    async fn manifest(&self, repository: &Repository, reference: &Reference) -> Option<Bytes> {
        self.0.find(repository, reference).await.expect("the tree can be read").map(|manifest| manifest.bytes().clone())
    }

    async fn blob(&self, repository: &Repository, digest: &Digest) -> Option<Bytes> {
        match self.0.blob(repository, digest, None).await.expect("the tree can be read") {
            Some(object) => Some(bytes_of(object).await),
            None => None,
        }
    }
}

/// Reads files, as a web server does that knows nothing of trees.
struct FileReader(PathBuf);

#[async_trait]
impl Reader for FileReader {
    async fn manifest(&self, repository: &Repository, reference: &Reference) -> Option<Bytes> {
        let path = self.0.join(format!("v2/{repository}/manifests/{reference}"));
        std::fs::read(path).ok().map(Bytes::from)
    }

    async fn blob(&self, repository: &Repository, digest: &Digest) -> Option<Bytes> {
        let path = self.0.join(format!("v2/{repository}/blobs/{digest}"));
        std::fs::read(path).ok().map(Bytes::from)
    }
}

async fn tree(store: Arc<dyn Store>) -> Tree {
    Tree::create(store).await.expect("the store can hold a tree")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tree_in_a_directory_read_as_files() {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree(Arc::new(LocalStore::create(folder.path()).unwrap())).await;
    let subject = Subject {
        implementation: "a tree in a directory".to_owned(),
        sink: Arc::new(tree),
        reader: Arc::new(FileReader(folder.path().to_owned())),
        limits: &[],
    };
    sink::run_all(&subject).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tree_in_memory() {
    for naming in [Naming::Links, Naming::Copies] {
        let tree = tree(Arc::new(MemoryStore::new(naming))).await;
        let subject = Subject {
            implementation: format!("a tree in memory with {naming:?}"),
            sink: Arc::new(tree.clone()),
            reader: Arc::new(TreeReader(tree)),
            limits: &[],
        };
        sink::run_all(&subject).await;
    }
}

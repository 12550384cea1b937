//! Every promise of stores and sinks, over real servers.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use roadstead::oci::{Algorithm, Digest, Reference, Repository};
use roadstead::store::{Aim, BucketStore, Headers, Key, Store, Upload};
use roadstead::testing::contract::sink::{self, Reader};
use roadstead::testing::contract::store::{self, Subject, bytes_of};
use roadstead::testing::noise;
use roadstead::tree::Tree;
use roadstead_parts::{BucketServer, Buckets, wait_until};

use crate::support::{keys, open, options};

/// Every file below a folder, and no folder: those are how a server keeps objects.
fn files_below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        // What a server is about to remove may go in between.
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => found.push(entry.path().display().to_string()),
            }
        }
    }
    found
}

async fn keeps_the_promises_of_a_store(server: BucketServer) {
    let buckets = server.start(&["store", "below"]);
    for (at, bucket) in [("s3://store", "store"), ("s3://below/a/prefix", "below")] {
        let store: Subject = Arc::new(open(at, options(&buckets.url())));
        store::run_all(&store, &|| files_below(&buckets.folder(bucket))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn versitygw_keeps_the_promises_of_a_store() {
    keeps_the_promises_of_a_store(BucketServer::Versitygw).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn minio_keeps_the_promises_of_a_store() {
    keeps_the_promises_of_a_store(BucketServer::Minio).await;
}

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

async fn keeps_the_promises_of_a_sink(server: BucketServer) {
    let buckets = server.start(&["sink"]);
    is_a_sink(&format!("{server:?}"), open("s3://sink/tree", options(&buckets.url()))).await;
}

/// Every promise of sinks, over a tree in a store.
pub(crate) async fn is_a_sink(server: &str, store: BucketStore) {
    let tree = Tree::create(Arc::new(store)).await.unwrap();
    let subject = sink::Subject {
        implementation: format!("a tree in a bucket of {server}"),
        sink: Arc::new(tree.clone()),
        reader: Arc::new(TreeReader(tree)),
        limits: &[],
    };
    sink::run_all(&subject).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn versitygw_keeps_the_promises_of_a_sink() {
    keeps_the_promises_of_a_sink(BucketServer::Versitygw).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn minio_keeps_the_promises_of_a_sink() {
    keeps_the_promises_of_a_sink(BucketServer::Minio).await;
}

async fn takes_large_objects(server: BucketServer) {
    let buckets = server.start(&["large"]);
    let store = open("s3://large", options(&buckets.url()));
    let before = files_below(&buckets.folder("large"));
    drop(large_objects(&format!("{server:?}"), &store).await);
    let called_off = wait_until(std::time::Duration::from_secs(60), || files_below(&buckets.folder("large")) == before);
    assert!(called_off, "{server:?}: {:?}", files_below(&buckets.folder("large")));
}

/// Uploads of several parts: aimed well, aimed badly, not aimed, and one that is not finished.
pub(crate) async fn large_objects(server: &str, store: &BucketStore) -> Box<dyn Upload> {
    let content = noise(9, 20 << 20);
    let key = |text: &str| text.parse::<Key>().unwrap();
    let digest = Algorithm::Sha256.digest(&content);
    let headers = Headers { digest: Some(digest), ..Headers::default() };
    let aim = || Aim { key: key("aimed"), headers: headers.clone(), size: Some(content.len() as u64) };
    let write = async |store: &BucketStore, aim: Option<Aim>| {
        let hasher = Algorithm::Sha256.hasher();
        let mut upload = match aim {
            Some(aim) => store.begin_upload_to(hasher, aim).await.unwrap(),
            None => store.begin_upload(hasher).await.unwrap(),
        };
        for piece in content.chunks(1_000_003) {
            upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        assert_eq!(upload.digest().await.unwrap(), (digest, content.len() as u64));
        upload
    };
    let upload = write(store, Some(aim())).await;
    assert!(store.head(&key("aimed")).await.unwrap().is_none(), "{server}: it shows before it is finished");
    upload.finish(&key("aimed"), &headers).await.unwrap();
    assert!(write(store, Some(aim())).await.finish(&key("elsewhere"), &headers).await.is_err(), "{server}");
    assert!(store.head(&key("elsewhere")).await.unwrap().is_none(), "{server}");
    write(store, None).await.finish(&key("not/aimed"), &headers).await.unwrap();
    for name in ["aimed", "not/aimed"] {
        let object = store.get(&key(name), None).await.unwrap().unwrap_or_else(|| panic!("{server}: {name} is gone"));
        assert_eq!(object.entry.headers, headers, "{server}: {name}");
        assert_eq!(bytes_of(object).await, content, "{server}: {name}");
        let part = store.get(&key(name), Some(9_000_000..9_000_010)).await.unwrap().unwrap();
        assert_eq!(bytes_of(part).await, content[9_000_000..9_000_010], "{server}: {name}");
    }
    assert!(!store.link(&key("aimed"), &key("not/aimed"), &headers).await.unwrap(), "{server}: the same digest");
    assert!(store.list(&key(".roadstead/uploads")).try_next().await.unwrap().is_none(), "{server}");

    for name in ["aimed", "not/aimed"] {
        assert!(store.delete(&key(name)).await.unwrap());
    }
    write(store, Some(aim())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn versitygw_takes_large_objects() {
    takes_large_objects(BucketServer::Versitygw).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn minio_takes_large_objects() {
    takes_large_objects(BucketServer::Minio).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn refusals_are_named_and_keep_secrets() {
    let buckets: Buckets = BucketServer::Versitygw.start(&["names"]);
    let key: Key = "some/key".parse().unwrap();
    let told = async |at: &str, secret: &str| {
        let keys = roadstead::store::bucket::Keys { secret: secret.into(), ..keys() };
        let store = open(
            at,
            roadstead::store::bucket::BucketOptions { credentials: Some(Arc::new(keys)), ..options(&buckets.url()) },
        );
        let error = store.get(&key, None).await.err().expect("it is refused");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        (error.to_string(), cause)
    };
    let (what, why) = told("s3://no-such-bucket", Buckets::SECRET).await;
    assert!(what.contains("s3://no-such-bucket/some/key") && why.contains("NoSuchBucket"), "{what}: {why}");
    let (what, why) = told("s3://names/p", "another-secret").await;
    assert!(what.contains("s3://names/p/some/key") && why.contains("SignatureDoesNotMatch"), "{what}: {why}");
    assert!(!format!("{what}{why}").contains("another-secret"), "{what}: {why}");
}

//! Whatever is killed, and whenever: a web server over the tree finds everything that a tag leads to.
//!
//! The store checks that after every single operation, and can be told to stop at any of them.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it, too")]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, Source as _};
use roadstead::oci::{Algorithm, Digest, Hasher, Manifest, Reference, Repository, Tag};
use roadstead::publish::{Plan, PlanOptions, TransferOptions};
use roadstead::store::{
    Behind, Condition, Entry, Headers, Key, LeftOvers, Listed, LocalStore, LockGuard, LockMode, MemoryStore, Naming,
    Object, Store, StoreError, Upload, Written,
};
use roadstead::testing::{Format, Image, ImageBuilder, IndexBuilder, MemorySource};
use roadstead::tree::{Finding, PruneOptions, Tree, VerifyOptions, Verifying};

/// Counts the operations that write, fails all from one of them on, and looks at the tree after each.
#[derive(Clone)]
struct Watched(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    done: AtomicUsize,
    stop_at: usize,
    broken: Mutex<Vec<String>>,
}

impl Watched {
    fn new(store: Arc<dyn Store>, stop_at: usize) -> Self {
        Self(Arc::new(Inner { store, done: AtomicUsize::new(0), stop_at, broken: Mutex::default() }))
    }

    fn begin(&self) -> Result<(), StoreError> {
        if self.0.done.fetch_add(1, Ordering::SeqCst) < self.0.stop_at {
            return Ok(());
        }
        let source = std::io::Error::from(std::io::ErrorKind::BrokenPipe).into();
        Err(StoreError::Io { operation: "surviving", what: "the kill".to_owned(), source })
    }

    async fn look(&self, operation: &str) {
        if let Err(problem) = crawl(&*self.0.store).await {
            self.0.broken.lock().unwrap().push(format!("after {operation}: {problem}"));
        }
    }
}

struct WatchedUpload {
    watched: Watched,
    upload: Box<dyn Upload>,
}

#[async_trait]
impl Upload for WatchedUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.watched.begin()?;
        self.upload.write(bytes).await
    }

    async fn digest(&mut self) -> Result<(Digest, u64), StoreError> {
        self.upload.digest().await
    }

    async fn finish(self: Box<Self>, key: &Key, headers: &Headers) -> Result<(), StoreError> {
        self.watched.begin()?;
        self.upload.finish(key, headers).await?;
        self.watched.look(&format!("finishing {key}")).await;
        Ok(())
    }
}

#[async_trait]
impl Store for Watched {
    fn describe(&self) -> String {
        self.0.store.describe()
    }

    fn naming(&self) -> Naming {
        self.0.store.naming()
    }

    async fn head(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.0.store.head(key).await
    }

    async fn target(&self, key: &Key) -> Result<Option<Key>, StoreError> {
        self.0.store.target(key).await
    }

    async fn modified(&self, key: &Key) -> Result<Option<SystemTime>, StoreError> {
        self.0.store.modified(key).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>, StoreError> {
        self.0.store.get(key, range).await
    }

    async fn put(&self, key: &Key, bytes: Bytes, headers: &Headers, when: Condition) -> Result<Written, StoreError> {
        self.begin()?;
        let written = self.0.store.put(key, bytes, headers, when).await?;
        self.look(&format!("putting {key}")).await;
        Ok(written)
    }

    async fn begin_upload(&self, hasher: Hasher) -> Result<Box<dyn Upload>, StoreError> {
        self.begin()?;
        Ok(Box::new(WatchedUpload { watched: self.clone(), upload: self.0.store.begin_upload(hasher).await? }))
    }

    async fn link(&self, key: &Key, target: &Key, headers: &Headers) -> Result<bool, StoreError> {
        self.begin()?;
        let changed = self.0.store.link(key, target, headers).await?;
        self.look(&format!("linking {key}")).await;
        Ok(changed)
    }

    async fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        self.begin()?;
        let deleted = self.0.store.delete(key).await?;
        self.look(&format!("deleting {key}")).await;
        Ok(deleted)
    }

    fn list(&self, prefix: &Key) -> BoxStream<'_, Result<Listed, StoreError>> {
        self.0.store.list(prefix)
    }

    async fn publish(&self) -> Result<(), StoreError> {
        self.begin()?;
        self.0.store.publish().await?;
        self.look("publishing").await;
        Ok(())
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.begin()?;
        self.0.store.sync().await?;
        self.look("a sync").await;
        Ok(())
    }

    fn fall_behind(&self) -> Result<Behind, StoreError> {
        self.begin()?;
        self.0.store.fall_behind()
    }

    async fn casualties(&self) -> Result<Option<u64>, StoreError> {
        self.0.store.casualties().await
    }

    async fn left_overs(&self, remove: bool) -> Result<LeftOvers, StoreError> {
        self.begin()?;
        let left = self.0.store.left_overs(remove).await?;
        self.look("removing left-overs").await;
        Ok(left)
    }

    async fn lock(&self, name: &str, mode: LockMode) -> Result<LockGuard, StoreError> {
        self.0.store.lock(name, mode).await
    }
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

async fn read(store: &dyn Store, key: &Key) -> Option<Bytes> {
    let object = store.get(key, None).await.unwrap()?;
    Some(object.body.into_bytes(1 << 24, key).await.unwrap())
}

/// Follows every tag as a client does who knows nothing but paths.
async fn crawl(store: &dyn Store) -> Result<(), String> {
    let mut folders = vec![key("v2")];
    while let Some(folder) = folders.pop() {
        let listed: Vec<Listed> = store.list(&folder).try_collect().await.map_err(|e| e.to_string())?;
        for entry in listed {
            match entry {
                Listed::Prefix(below) => folders.push(below),
                Listed::Object(name) if folder.name() == "manifests" && !name.name().contains(':') => {
                    let repository = folder.parent().unwrap();
                    let bytes = read(store, &name).await.ok_or_else(|| format!("{name} leads nowhere"))?;
                    whole(store, &repository, bytes, Algorithm::Sha256).await.map_err(|e| format!("{name}: {e}"))?;
                }
                Listed::Object(_) => {}
            }
        }
    }
    Ok(())
}

async fn whole(store: &dyn Store, repository: &Key, bytes: Bytes, algorithm: Algorithm) -> Result<(), String> {
    let mut next = vec![Manifest::parse(bytes, algorithm).map_err(|e| e.to_string())?];
    while let Some(manifest) = next.pop() {
        for blob in manifest.blobs().filter(|blob| !blob.is_nondistributable()) {
            let name = key(&format!("{repository}/blobs/{}", blob.digest));
            let bytes = read(store, &name).await.ok_or_else(|| format!("{name} is absent"))?;
            if blob.digest.algorithm().digest(&bytes) != blob.digest {
                return Err(format!("{name} has other bytes"));
            }
        }
        for child in manifest.children() {
            let name = key(&format!("{repository}/manifests/{}", child.digest));
            let Some(bytes) = read(store, &name).await else {
                let record = format!("{repository}/{}", manifest.digest()).replacen("v2", ".roadstead/left-out", 1);
                let record = read(store, &key(&record)).await.unwrap_or_default();
                if String::from_utf8_lossy(&record).contains(&child.digest.to_string()) {
                    continue;
                }
                return Err(format!("{name} is absent"));
            };
            next.push(Manifest::verify(bytes, child).map_err(|e| format!("{name}: {e}"))?);
        }
    }
    Ok(())
}

/// Verifies a tree, in which nothing may be damaged, lost or misled. Lists may lag.
async fn sound(store: &Arc<dyn Store>) -> Result<(), String> {
    let wrong: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = wrong.clone();
    let watch = Arc::new(move |event: Verifying<'_>| match event {
        Verifying::Found(finding) if finding.is_wrong() && !matches!(finding, Finding::Stale { .. }) => {
            heard.lock().unwrap().push(finding.to_string());
        }
        _ => {}
    });
    let tree = Tree::open(store.clone()).await.map_err(|e| e.to_string())?;
    tree.verify(&VerifyOptions { jobs: 2, only: Vec::new() }, watch).await.map_err(|e| e.to_string())?;
    let wrong = wrong.lock().unwrap();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn image(name: &str, platform: &str) -> Image {
    ImageBuilder::new().layer("shared").layer(format!("{name} for {platform}")).platform(platform).build()
}

fn index(name: &str) -> Image {
    let inner = IndexBuilder::new().image(image(name, "linux/arm64")).format(Format::Docker).build();
    IndexBuilder::new().attested_image(image(name, "linux/amd64")).image(inner).build()
}

fn signature(of: &Image) -> Image {
    let signature = ImageBuilder::new().artifact_type("application/vnd.example.signature");
    signature.subject(&of.descriptor()).blob("text/plain", "signed").build()
}

fn source() -> MemorySource {
    let source = MemorySource::new();
    for name in ["old", "new"] {
        source.add(&format!("app:{name}"), &index(name));
        source.add("app", &signature(&index(name)));
    }
    source
}

async fn copy(source: &MemorySource, tree: &Tree, name: &str) -> Result<(), String> {
    let repository: Repository = "app".parse().unwrap();
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    let sink = tree.repository(&repository).await.map_err(|e| e.to_string())?;
    let from = source.repository(&repository);
    let tag: Reference = name.parse::<Tag>().unwrap().into();
    // One tag for both images, so that it moves.
    let tags = ["1".parse().unwrap()];
    copier.copy(&*from, &tag, &*sink, &tags).await.map_err(|e| e.to_string())?;
    let signature: Reference = signature(&index(name)).digest().into();
    copier.copy(&*from, &signature, &*sink, &[]).await.map_err(|e| e.to_string())?;
    sink.finish().await.map_err(|e| e.to_string())
}

/// Does `work` on the tree that `prepare` made, killed at its first operation, its second, …, until it comes to its end;
/// after each kill does it again, undisturbed.
async fn killed_everywhere(
    make: &dyn Fn() -> (Arc<dyn Store>, Option<tempfile::TempDir>),
    prepared: &[&str],
    work: impl AsyncFn(&Tree) -> Result<(), String>,
) {
    for stop_at in 0.. {
        assert!(stop_at < 1000, "the work has no end");
        let (store, _dir) = make();
        let tree = Tree::create(store.clone()).await.unwrap();
        for name in prepared {
            copy(&source(), &tree, name).await.unwrap();
        }
        let watched = Watched::new(store.clone(), stop_at);
        let done = match Tree::open(Arc::new(watched.clone())).await {
            Ok(tree) => work(&tree).await,
            Err(e) => Err(e.to_string()),
        };
        let broken = watched.0.broken.lock().unwrap().clone();
        assert!(broken.is_empty(), "killed at {stop_at} in {}: {broken:#?}", store.describe());
        crawl(&*store).await.unwrap_or_else(|e| panic!("killed at {stop_at}: {e}"));
        let name = store.describe();
        sound(&store).await.unwrap_or_else(|e| panic!("killed at {stop_at} in {name}: {e}"));
        if done.is_ok() {
            return;
        }
        if let Err(e) = work(&Tree::open(store.clone()).await.unwrap()).await {
            // A removal that was killed behind its last name has nothing left to remove.
            assert!(e.contains("is not in the tree"), "after a kill at {stop_at}: {e}");
        }
        crawl(&*store).await.unwrap_or_else(|e| panic!("again after a kill at {stop_at}: {e}"));
        sound(&store).await.unwrap_or_else(|e| panic!("again after a kill at {stop_at} in {name}: {e}"));
    }
}

type Made = (Arc<dyn Store>, Option<tempfile::TempDir>);

fn stores() -> Vec<Box<dyn Fn() -> Made>> {
    vec![
        Box::new(|| (Arc::new(MemoryStore::new(Naming::Links)), None)),
        Box::new(|| (Arc::new(MemoryStore::new(Naming::Copies)), None)),
        Box::new(|| {
            let dir = tempfile::tempdir().unwrap();
            (Arc::new(LocalStore::create(dir.path()).unwrap().without_sync()), Some(dir))
        }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_killed_anywhere_leaves_every_tag_whole() {
    for make in stores() {
        killed_everywhere(&*make, &[], async |tree| copy(&source(), tree, "new").await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_leads_to_the_old_or_the_new_image() {
    for make in stores() {
        killed_everywhere(&*make, &["old"], async |tree| copy(&source(), tree, "new").await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_killed_anywhere_leaves_every_tag_whole() {
    for make in stores() {
        killed_everywhere(&*make, &["old", "new"], async |tree| {
            let removed = tree.remove(&"app".parse().unwrap(), Some(&"1".parse().unwrap())).await;
            removed.map(drop).map_err(|e| e.to_string())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_left_out_later_is_never_lost() {
    let child = index("new").children[0].digest().to_owned();
    for make in stores() {
        killed_everywhere(&*make, &["new"], async |tree| {
            let removed = tree.leave_out(&"app".parse().unwrap(), &child).await;
            removed.map(drop).map_err(|e| e.to_string())
        })
        .await;
    }
}

/// The first of the images is behind no tag any more; both are signed.
#[tokio::test(flavor = "multi_thread")]
async fn a_prune_killed_anywhere_leaves_every_tag_whole() {
    for (keep_last, stores) in [(None, stores()), (Some(0), stores().into_iter().take(1).collect())] {
        for make in stores {
            killed_everywhere(&*make, &["old", "new"], async |tree| {
                let options = PruneOptions {
                    untagged: true,
                    older_than: Duration::ZERO,
                    keep_last,
                    ..PruneOptions::new(SystemTime::now())
                };
                tree.prune(&options, &|_| {}).await.map(drop).map_err(|e| e.to_string())
            })
            .await;
        }
    }
}

/// Publishes into a tree; what is published then is not published again. The watched store tells no MD5s, as a bucket that is
/// encrypted with keys of its owner's, and the one behind it does.
async fn publish(from: &Tree, to: &Tree, delete: bool) -> Result<(), String> {
    let options = PlanOptions { delete, ..PlanOptions::default() };
    let how = TransferOptions { jobs: 2, bandwidth: None, clobber: true, events: Arc::new(Silent) };
    let plan = Plan::compare(from, Some(to), &options).await.map_err(|e| e.to_string())?;
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
    if let Some(error) = plan.carry_out(from, to, &how).await.first() {
        return Err(error.to_string());
    }
    let again = Plan::compare(from, Some(to), &options).await.map_err(|e| e.to_string())?;
    let left = again.steps();
    assert!(left.is_empty(), "there is more to do in {}: {left:#?}", to.store().describe());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_killed_anywhere_leaves_every_tag_whole() {
    for (naming, stores) in [(Naming::Links, stores()), (Naming::Copies, stores().into_iter().take(1).collect())] {
        let from = Tree::create(Arc::new(MemoryStore::new(naming))).await.unwrap();
        copy(&source(), &from, "new").await.unwrap();
        for make in stores {
            killed_everywhere(&*make, &[], async |to| publish(&from, to, false).await).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_deletes_and_is_killed_leaves_every_tag_whole() {
    let from = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
    copy(&source(), &from, "new").await.unwrap();
    for make in stores() {
        killed_everywhere(&*make, &["old"], async |to| publish(&from, to, true).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copying_again_asks_for_the_tag_and_changes_nothing() {
    for make in stores() {
        let (store, _dir) = make();
        let source = source();
        copy(&source, &Tree::create(store.clone()).await.unwrap(), "new").await.unwrap();
        let _ = source.take_calls();
        let watched = Watched::new(store, usize::MAX);
        copy(&source, &Tree::open(Arc::new(watched)).await.unwrap(), "new").await.unwrap();
        let calls = source.take_calls();
        assert_eq!((calls.resolves, calls.manifests.len(), calls.blobs.len()), (2, 0, 0), "one for each image");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_image_leaves_nothing_behind() {
    for make in stores() {
        let (store, _dir) = make();
        let tree = Tree::create(store.clone()).await.unwrap();
        copy(&source(), &tree, "new").await.unwrap();
        tree.remove(&"app".parse().unwrap(), Some(&"1".parse().unwrap())).await.unwrap();
        let mut left = BTreeSet::new();
        let mut folders = vec![key("v2"), key("content")];
        while let Some(folder) = folders.pop() {
            let mut listed = store.list(&folder);
            while let Some(entry) = listed.next().await {
                match entry.unwrap() {
                    Listed::Prefix(below) => folders.push(below),
                    Listed::Object(key) => {
                        left.insert(key.to_string());
                    }
                }
            }
        }
        // What answers `GET /v2/` where there are no folders has no name in their list.
        let expected: &[&str] = match store.naming() {
            Naming::Links => &["v2/_catalog", "v2/index.html"],
            Naming::Copies => &["v2/_catalog"],
        };
        assert!(left.iter().eq(expected), "{}: {left:?}", store.describe());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_that_name_the_same_children_on_every_level_are_read_once_each() {
    let mut level = vec![image("leaf", "linux/amd64"), image("leaf", "linux/arm64")];
    for depth in 0..7 {
        let up = |side: &str| {
            let index = level.iter().fold(IndexBuilder::new(), |index, below| index.image(below.clone()));
            index.annotation("side", &format!("{depth}{side}")).build()
        };
        level = (0..8).map(|side| up(&side.to_string())).collect();
    }
    let source = MemorySource::new();
    let top = level.iter().fold(IndexBuilder::new(), |index, below| index.image(below.clone())).build();
    source.add("app:1", &top);
    let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
    let sink = tree.repository(&"app".parse().unwrap()).await.unwrap();
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    let from = source.repository(&"app".parse().unwrap());
    copier.copy(&*from, &"1".parse().unwrap(), &*sink, &["1".parse().unwrap()]).await.unwrap();
    assert_eq!(source.take_calls().manifests.len(), top.children.len() + 1);
}

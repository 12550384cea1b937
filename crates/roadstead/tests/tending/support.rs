//! Trees in every kind of store.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::TryStreamExt as _;
use roadstead::image::{Copier, CopyOptions, Platforms, Silent, Sink as _, Source as _};
use roadstead::oci::{Digest, Reference, Repository};
use roadstead::store::{Condition, Headers, Key, Listed, LocalStore, MemoryStore, Naming, Store};
use roadstead::testing::{Image, ImageBuilder, IndexBuilder, MemorySource};
use roadstead::tree::{Finding, PruneOptions, Pruned, Pruning, Thinned, Tree, Verified, VerifyOptions, Verifying};

/// A tree, and where it lies.
pub(crate) struct Scene {
    pub(crate) tree: Tree,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) dir: Option<tempfile::TempDir>,
    pub(crate) source: MemorySource,
}

/// An empty tree in each kind of store.
pub(crate) async fn scenes() -> Vec<Scene> {
    let dir = tempfile::tempdir().unwrap();
    let local = LocalStore::create(dir.path()).unwrap().without_sync();
    let stores: [(Arc<dyn Store>, _); 3] = [
        (Arc::new(MemoryStore::new(Naming::Links)), None),
        (Arc::new(MemoryStore::new(Naming::Copies)), None),
        (Arc::new(local), Some(dir)),
    ];
    let mut scenes = Vec::new();
    for (store, dir) in stores {
        let tree = Tree::create(store.clone()).await.unwrap();
        scenes.push(Scene { tree, store, dir, source: MemorySource::new() });
    }
    scenes
}

impl Scene {
    pub(crate) fn name(&self) -> String {
        format!("{} ({:?})", self.store.describe(), self.store.naming())
    }

    pub(crate) fn links(&self) -> bool {
        self.store.naming() == Naming::Links
    }

    /// Adds an image as `app:1`, or as `app` by its digest alone.
    pub(crate) async fn add(&self, name: &str, image: &Image) {
        self.add_platforms(name, image, Platforms::All).await;
    }

    pub(crate) async fn add_platforms(&self, name: &str, image: &Image, platforms: Platforms) {
        self.source.add(name, image);
        let (repository, tag) = name.split_once(':').map_or((name, None), |(name, tag)| (name, Some(tag)));
        let repository = repo(repository);
        let copier = Copier::new(CopyOptions { platforms, ..CopyOptions::default() }, Arc::new(Silent));
        let sink = self.tree.repository(&repository).await.unwrap();
        let reference = tag.map_or(Reference::Digest(image.digest()), |tag| tag.parse().unwrap());
        let tags: Vec<_> = tag.iter().map(|tag| tag.parse().unwrap()).collect();
        copier.copy(&*self.source.repository(&repository), &reference, &*sink, &tags).await.unwrap();
        sink.finish().await.unwrap();
    }

    /// Where a blob's bytes lie.
    pub(crate) fn blob(&self, repository: &str, digest: &Digest) -> Key {
        if self.links() {
            key(&format!("content/blobs/{digest}"))
        } else {
            key(&format!("v2/{repository}/blobs/{digest}"))
        }
    }

    /// Where a manifest's bytes lie.
    pub(crate) fn manifest(&self, repository: &str, image: &Image) -> Key {
        if self.links() {
            key(&format!("content/manifests/{}/{}", image.manifest.media_type(), image.digest()))
        } else {
            key(&format!("v2/{repository}/manifests/{}", image.digest()))
        }
    }

    pub(crate) async fn read(&self, key: &Key) -> Option<Bytes> {
        let object = self.store.get(key, None).await.unwrap()?;
        Some(object.body.into_bytes(1 << 24, key).await.unwrap())
    }

    /// Puts other bytes under a key, with the headers that are there.
    pub(crate) async fn overwrite(&self, key: &Key, bytes: impl Into<Bytes>) {
        let headers = self.store.head(key).await.unwrap().map_or_else(Headers::default, |entry| entry.headers);
        let _ = self.store.put(key, bytes.into(), &headers, Condition::Always).await.unwrap();
    }

    /// Changes one byte.
    pub(crate) async fn damage(&self, key: &Key) {
        let mut bytes = self.read(key).await.unwrap().to_vec();
        bytes[0] ^= 1;
        self.overwrite(key, bytes).await;
    }

    pub(crate) async fn delete(&self, key: &str) {
        assert!(self.store.delete(&self::key(key)).await.unwrap(), "{key} was not there");
    }

    pub(crate) async fn verify(&self) -> (Verified, Vec<Finding>) {
        self.verify_only(&[]).await
    }

    pub(crate) async fn verify_only(&self, only: &[(&str, Option<&str>)]) -> (Verified, Vec<Finding>) {
        let findings: Arc<Mutex<Vec<Finding>>> = Arc::default();
        let heard = findings.clone();
        let only = only.iter().map(|(name, reference)| (repo(name), reference.map(|r| r.parse().unwrap()))).collect();
        let watch = Arc::new(move |event: Verifying<'_>| {
            if let Verifying::Found(finding) = event {
                heard.lock().unwrap().push(finding.clone());
            }
        });
        let verified = self.tree.verify(&VerifyOptions { jobs: 2, only }, watch).await.unwrap();
        let findings = findings.lock().unwrap().clone();
        (verified, findings)
    }

    /// Fails unless nothing at all is found.
    pub(crate) async fn is_sound(&self, when: &str) {
        let (_, findings) = self.verify().await;
        assert!(findings.is_empty(), "{}, {when}: {findings:#?}", self.name());
    }

    pub(crate) async fn prune(&self, change: impl Fn(&mut PruneOptions)) -> (Pruned, Vec<Thinned>) {
        let mut options = PruneOptions::new(SystemTime::now());
        change(&mut options);
        let thinned: Mutex<Vec<Thinned>> = Mutex::default();
        let heard = |event: Pruning<'_>| {
            if let Pruning::Thinned(one) = event {
                thinned.lock().unwrap().push(one.clone());
            }
        };
        let pruned = self.tree.prune(&options, &heard).await.unwrap();
        (pruned, thinned.into_inner().unwrap())
    }

    /// Every key of the tree but locks.
    pub(crate) async fn keys(&self) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        let mut folders = vec![key("v2"), key("content"), key(".roadstead/left-out"), key(".roadstead/holders")];
        while let Some(folder) = folders.pop() {
            let listed: Vec<Listed> = self.store.list(&folder).try_collect().await.unwrap();
            for entry in listed {
                match entry {
                    Listed::Prefix(below) => folders.push(below),
                    Listed::Object(key) => drop(keys.insert(key.to_string())),
                }
            }
        }
        keys
    }

    pub(crate) async fn tags(&self, repository: &str) -> Vec<String> {
        let names: Vec<_> = self.tree.names(&repo(repository)).try_collect().await.unwrap();
        let tags = names.into_iter().filter_map(|(reference, _)| match reference {
            Reference::Tag(tag) if !tag.is_referrers_fallback() => Some(tag.to_string()),
            _ => None,
        });
        tags.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

pub(crate) fn key(text: &str) -> Key {
    text.parse().unwrap()
}

pub(crate) fn repo(text: &str) -> Repository {
    text.parse().unwrap()
}

pub(crate) fn image(text: &str) -> Image {
    ImageBuilder::new().layer("shared").layer(text.to_owned()).build()
}

pub(crate) fn index(text: &str) -> Image {
    let image = |platform: &str| ImageBuilder::new().layer(format!("{text} {platform}")).platform(platform).build();
    IndexBuilder::new().image(image("linux/amd64")).image(image("linux/arm64")).build()
}

pub(crate) fn signature(of: &Image, text: &str) -> Image {
    let signature = ImageBuilder::new().artifact_type("application/vnd.example.signature");
    signature.subject(&of.descriptor()).blob("text/plain", text.to_owned()).build()
}

/// A moment when all that is written now is old.
pub(crate) fn later() -> SystemTime {
    SystemTime::now() + Duration::from_hours(1000)
}

//! What was left out of a tree, when the tree is a source: its record is carried on, and nothing takes it for lost.

use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;

use roadstead::image::{
    Copied, Copier, CopyError, CopyOptions, Platforms, RepositorySink, RepositorySource, Side, Silent, Sink as _,
    Source as _, SourceError,
};
use roadstead::medium::image_layout::{ImageLayout, ImageLayoutSink};
use roadstead::oci::{Descriptor, Digest, Reference, Repository, Tag};
use roadstead::store::{LocalStore, MemoryStore, Naming, Store as _};
use roadstead::testing::{Image, ImageBuilder, IndexBuilder, MemorySource};
use roadstead::tree::{Tree, TreeSource};

fn app() -> Repository {
    "app".parse().expect("a name")
}

fn image(platform: &str) -> Image {
    ImageBuilder::new().platform(platform).layer(platform.to_owned()).build()
}

async fn copy(from: &dyn RepositorySource, to: &dyn RepositorySink, platforms: &[&str]) -> Result<Copied, CopyError> {
    let wanted: Vec<_> = platforms.iter().map(|platform| platform.parse().expect("a platform")).collect();
    let platforms = if wanted.is_empty() { Platforms::All } else { Platforms::Keep(wanted) };
    let copier = Copier::new(CopyOptions { platforms, ..CopyOptions::default() }, Arc::new(Silent));
    let copied = copier.copy(from, &Tag::latest().into(), to, &[Tag::latest()]).await?;
    to.finish().await.expect("lists");
    Ok(copied)
}

/// A tree with `platforms` of an index, and that index with all of them.
async fn sparse(folder: &Path, platforms: &[&str]) -> (Tree, Image, MemorySource) {
    let inner = IndexBuilder::new().image(image("linux/s390x")).build();
    let index = IndexBuilder::new().image(image("linux/amd64")).image(image("linux/arm64")).image(inner).build();
    let original = MemorySource::new();
    original.add("app:latest", &index);
    let tree = Tree::create(Arc::new(LocalStore::create(folder).expect("a folder"))).await.expect("a tree");
    let sink = tree.repository(&app()).await.expect("a sink");
    copy(&*original.repository(&app()), &*sink, platforms).await.expect("a copy");
    (tree, index, original)
}

fn record(index: &Digest) -> String {
    format!(".roadstead/left-out/app/{index}")
}

/// What a tree in memory records of an index.
async fn recorded(store: &MemoryStore, index: &Digest) -> Option<Vec<String>> {
    let key = record(index).parse().expect("a key");
    let bytes = store
        .get(&key, None)
        .await
        .expect("memory can be read")?
        .body
        .into_bytes(1 << 20, &key)
        .await
        .expect("memory can be read");
    Some(serde_json::from_slice(&bytes).expect("a list"))
}

#[tokio::test]
async fn a_record_is_carried_on_and_completed() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, index, original) = sparse(folder.path(), &["linux/amd64", "linux/s390x"]).await;
    let from = TreeSource::new(tree).repository(&app());
    let arm = image("linux/arm64").digest();
    for naming in [Naming::Links, Naming::Copies] {
        let store = MemoryStore::new(naming);
        let other = Tree::create(Arc::new(store.clone())).await.unwrap();
        let sink = other.repository(&app()).await.unwrap();
        let copied = copy(&*from, &*sink, &[]).await.unwrap();
        assert_eq!(copied.descriptor.digest, index.digest());
        assert_eq!(recorded(&store, &index.digest()).await, Some(vec![arm.to_string()]), "{naming:?}");
        for child in index.manifest.children() {
            let held = other.resolve(&app(), &child.digest.into()).await.unwrap().is_some();
            assert_eq!(held, child.digest != arm, "{naming:?}: {}", child.digest);
        }

        // Fewer platforms of what is there leave out the others, too.
        let fewer = Tree::create(Arc::new(MemoryStore::new(naming))).await.unwrap();
        copy(&*from, &*fewer.repository(&app()).await.unwrap(), &["linux/s390x"]).await.unwrap();
        let left = TreeSource::new(fewer).repository(&app()).left_out(&index.digest()).await.unwrap();
        assert_eq!(left.len(), 2, "{left:?}");

        // What the destination gets from elsewhere stays, and nothing is left out any more.
        copy(&*original.repository(&app()), &*sink, &[]).await.unwrap();
        assert_eq!(recorded(&store, &index.digest()).await, None, "{naming:?}");
        copy(&*from, &*sink, &[]).await.unwrap();
        assert_eq!(recorded(&store, &index.digest()).await, None, "{naming:?}");
        assert!(other.resolve(&app(), &arm.into()).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn what_was_left_out_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, index, _) = sparse(folder.path(), &["linux/amd64"]).await;
    let from = TreeSource::new(tree).repository(&app());
    let arm = image("linux/arm64").manifest.descriptor();
    for result in [from.resolve(&Reference::Digest(arm.digest)).await.map(drop), from.manifest(&arm).await.map(drop)] {
        let Err(error @ SourceError::NotFound { .. }) = result else { panic!("{result:?}") };
        let reason = error.source().unwrap().to_string();
        assert!(reason.contains(&index.digest().to_string()) && reason.contains("left it out"), "{reason}");
    }
    let stranger = Descriptor::new("", roadstead::oci::Algorithm::Sha256.digest(b"stranger"), 1);
    let Err(error) = from.manifest(&stranger).await else { panic!("found") };
    assert!(error.source().is_none(), "{error:?}");

    let sink = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
    let sink = sink.repository(&app()).await.unwrap();
    let refused = copy(&*from, &*sink, &["linux/arm64"]).await.unwrap_err();
    assert!(refused.to_string().ends_with("has nothing for linux/arm64, only for linux/amd64"), "{refused}");
}

#[tokio::test]
async fn a_medium_without_records_takes_it_only_when_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, index, _) = sparse(&folder.path().join("tree"), &["linux/amd64"]).await;
    let from = TreeSource::new(tree).repository(&app());
    let layout = folder.path().join("layout");
    let sink = ImageLayoutSink::create(&layout).unwrap();
    let refused = copy(&*from, &*sink.image(None), &[]).await.unwrap_err();
    let CopyError::Sparse { index: named, absent: 2, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((*named, refused.side()), (index.digest(), Side::Request));

    drop(sink);
    let sink = ImageLayoutSink::create(&layout).unwrap();
    copy(&*from, &*sink.image(None), &["linux/amd64"]).await.unwrap();
    sink.close().await.unwrap();
    let images = roadstead::image::Collection::images(&ImageLayout::open(&layout).await.unwrap()).await.unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].descriptor.digest, index.digest());
}

#[tokio::test]
async fn what_is_lost_is_no_child_that_was_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, index, _) = sparse(folder.path(), &["linux/amd64"]).await;
    std::fs::remove_file(folder.path().join(record(&index.digest()))).unwrap();
    let other = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
    let sink = other.repository(&app()).await.unwrap();
    let from = TreeSource::new(tree).repository(&app());
    let refused = copy(&*from, &*sink, &[]).await.unwrap_err();
    let CopyError::Child { platform, source: SourceError::NotFound { source: None, .. }, .. } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(platform, "linux/arm64");

    std::fs::write(folder.path().join(record(&index.digest())), "[1, 2]").unwrap();
    let refused = copy(&*from, &*sink, &[]).await.unwrap_err();
    assert!(matches!(refused, CopyError::Source { source: SourceError::Failed { .. }, .. }), "{refused:?}");
    assert!(other.resolve(&app(), &Tag::latest().into()).await.unwrap().is_none());
}

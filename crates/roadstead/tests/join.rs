//! Images of several platforms under one name: what is copied, what names it, and what stays as it was when they don't fit.

use std::collections::BTreeMap;
use std::sync::Arc;

use roadstead::image::{Copier, CopyError, CopyOptions, JoinError, Joined, Silent, Sink as _, Source as _};
use roadstead::oci::{Digest, Manifest, Reference, Repository, Tag};
use roadstead::store::{MemoryStore, Naming};
use roadstead::testing::{Fault, Image, ImageBuilder, IndexBuilder, MemorySource};
use roadstead::tree::Tree;

fn image(platform: &str, layer: &'static str) -> Image {
    ImageBuilder::new().platform(platform).layer("base").layer(layer).build()
}

fn repository() -> Repository {
    "app".parse().unwrap()
}

/// Joins images of the repository `app`, by their tags, under `app:all` in the tree.
async fn join(source: &MemorySource, tree: &Tree, tags: &[&str], onto: Option<&str>) -> Result<Digest, CopyError> {
    let joined = |tag: &str| Joined {
        from: source.repository(&repository()),
        reference: Reference::Tag(tag.parse().unwrap()),
        platform: None,
    };
    let images: Vec<Joined> = tags.iter().map(|tag| joined(tag)).collect();
    let onto = onto.map(joined);
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    let sink = tree.repository(&repository()).await.unwrap();
    let all: Tag = "all".parse().unwrap();
    let copied = copier.join(&images, onto.as_ref(), &BTreeMap::new(), &*sink, &[all]).await?;
    sink.finish().await.unwrap();
    Ok(copied.descriptor.digest)
}

async fn found(tree: &Tree, reference: impl Into<Reference>) -> Option<Manifest> {
    tree.find(&repository(), &reference.into()).await.unwrap()
}

#[tokio::test]
async fn images_of_several_machines_have_one_name() {
    for naming in [Naming::Links, Naming::Copies] {
        let source = MemorySource::new();
        let (amd64, arm64) = (image("linux/amd64", "a"), image("linux/arm64", "b"));
        let attested = IndexBuilder::new().attested_image(arm64.clone()).build();
        source.add("app:amd64", &amd64);
        source.add("app:arm64", &attested);
        let tree = Tree::create(Arc::new(MemoryStore::new(naming))).await.unwrap();

        let digest = join(&source, &tree, &["amd64", "arm64"], None).await.unwrap();
        let all = Reference::Tag("all".parse().unwrap());
        let index = found(&tree, all).await.expect("the tag");
        assert_eq!(*index.digest(), digest);
        assert_eq!(index.manifests().len(), 3, "two images and an attestation");
        for child in index.children() {
            let child = found(&tree, child.digest).await.expect("every child is there");
            for blob in child.blobs() {
                assert!(tree.blob(&repository(), &blob.digest, None).await.unwrap().is_some(), "{naming:?}");
            }
        }
        assert!(found(&tree, attested.digest()).await.is_none(), "an index that nothing would name is not copied");
        assert_eq!(join(&source, &tree, &["amd64", "arm64"], None).await.unwrap(), digest, "again the same");
    }
}

#[tokio::test]
async fn an_image_is_appended() {
    let source = MemorySource::new();
    let (amd64, arm64) = (image("linux/amd64", "a"), image("linux/arm64", "b"));
    source.add("app:before", &IndexBuilder::new().image(amd64.clone()).image(image("linux/arm64", "old")).build());
    source.add("app:arm64", &arm64);
    let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
    let digest = join(&source, &tree, &["arm64"], Some("before")).await.unwrap();
    let index = found(&tree, digest).await.unwrap();
    let entries: Vec<Digest> = index.manifests().iter().map(|entry| entry.digest).collect();
    assert_eq!(entries, [amd64.digest(), arm64.digest()]);
}

#[tokio::test]
async fn what_does_not_fit_moves_no_tag() {
    let source = MemorySource::new();
    source.add("app:a", &image("linux/amd64", "a"));
    source.add("app:b", &image("linux/amd64", "b"));
    let chart = ImageBuilder::new().blob("application/x", "chart").artifact_type("application/x").build();
    source.add("app:chart", &chart);
    let broken = image("linux/s390x", "broken");
    source.add("app:broken", &broken);
    source.inject(broken.manifest.layers()[1].digest, Fault::WrongBytes);
    let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
    let before = join(&source, &tree, &["a"], None).await.unwrap();

    let refused = join(&source, &tree, &["a", "b"], None).await;
    assert!(matches!(refused, Err(CopyError::Join(JoinError::SamePlatform { .. }))), "{refused:?}");
    let refused = join(&source, &tree, &["a", "chart"], None).await;
    assert!(matches!(refused, Err(CopyError::Join(JoinError::NoPlatform(_)))), "{refused:?}");
    let refused = join(&source, &tree, &["a", "broken"], None).await;
    assert!(matches!(refused, Err(CopyError::Mismatch { .. })), "{refused:?}");
    let refused = join(&source, &tree, &["a", "absent"], None).await;
    assert!(matches!(refused, Err(CopyError::Source { .. })), "{refused:?}");
    let all = Reference::Tag("all".parse().unwrap());
    assert_eq!(*found(&tree, all).await.unwrap().digest(), before);
}

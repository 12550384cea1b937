//! Platforms that are asked for again: what the tree holds is not asked of the source.

use std::sync::Arc;

use roadstead::image::{Copier, CopyError, CopyOptions, Platforms, Silent, Sink as _, Source as _};
use roadstead::oci::{Reference, Tag};
use roadstead::store::{MemoryStore, Naming};
use roadstead::testing::{Calls, Fault, ImageBuilder, IndexBuilder, Layer, MemorySource};
use roadstead::tree::Tree;

async fn copy(source: &MemorySource, tree: &Tree, platform: &str) -> Result<Calls, CopyError> {
    let platforms = Platforms::Keep(vec![platform.parse().expect("a platform")]);
    let copier = Copier::new(CopyOptions { platforms, ..CopyOptions::default() }, Arc::new(Silent));
    let repository = "app".parse().expect("a name");
    let sink = tree.repository(&repository).await.expect("a sink");
    let latest = Reference::Tag(Tag::latest());
    let _ = source.take_calls();
    copier.copy(&*source.repository(&repository), &latest, &*sink, &[Tag::latest()]).await?;
    sink.finish().await.expect("lists");
    Ok(source.take_calls())
}

#[tokio::test]
async fn an_image_that_stands_alone_costs_one_question_again() {
    for naming in [Naming::Links, Naming::Copies] {
        let source = MemorySource::new();
        let layer = Layer::new().file("x", "x", 0o644);
        let image = ImageBuilder::new().layer(layer).platform("linux/arm64").build();
        source.add("app:latest", &image);
        let tree = Tree::create(Arc::new(MemoryStore::new(naming))).await.expect("a tree");

        let refused = copy(&source, &tree, "linux/amd64").await;
        assert!(matches!(refused, Err(CopyError::NoPlatform { .. })), "{refused:?}");

        let config = image.manifest.config().expect("a config").digest;
        source.inject(config, Fault::WrongBytes);
        let refused = copy(&source, &tree, "linux/arm64").await;
        assert!(matches!(refused, Err(CopyError::Mismatch { .. })), "{refused:?}");
        source.mend();

        copy(&source, &tree, "linux/arm64").await.expect("the image is for that platform");
        let again = copy(&source, &tree, "linux/arm64").await.expect("the image is there");
        assert_eq!((again.resolves, again.manifests.len(), again.blobs.len()), (1, 0, 0), "{naming:?}");
    }
}

#[tokio::test]
async fn an_entry_without_a_platform_is_for_that_of_its_config() {
    for naming in [Naming::Links, Naming::Copies] {
        let source = MemorySource::new();
        let [wanted, other] = ["linux/arm64", "linux/s390x"]
            .map(|platform| ImageBuilder::new().platform(platform).layer(platform).build());
        let index = IndexBuilder::new().image_of_any_platform(wanted.clone()).image_of_any_platform(other.clone());
        source.add("app:latest", &index.build());
        let tree = Tree::create(Arc::new(MemoryStore::new(naming))).await.expect("a tree");

        copy(&source, &tree, "linux/arm64").await.expect("one of them is for that platform");
        let repository = "app".parse().expect("a name");
        for (image, held) in [(&wanted, true), (&other, false)] {
            let found = tree.resolve(&repository, &image.digest().into()).await.expect("the tree can be read");
            assert_eq!(found.is_some(), held, "{naming:?}");
        }
        let refused = copy(&source, &tree, "windows/amd64").await;
        assert!(matches!(refused, Err(CopyError::NoPlatform { .. })), "{refused:?}");
    }
}

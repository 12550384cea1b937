//! Differences and sizes.

use roadstead::tree::{Difference, Side, TreeError};

use crate::support::{image, index, repo, scenes};

#[tokio::test(flavor = "multi_thread")]
async fn trees_differ_in_what_they_name() {
    let first = scenes().await;
    let second = scenes().await;
    // Trees of different kinds name the same, too.
    for (first, second) in first.iter().zip(second.iter().rev()) {
        for scene in [first, second] {
            scene.add("app:same", &image("same")).await;
        }
        first.add("app:moved", &image("a")).await;
        second.add("app:moved", &image("b")).await;
        first.add("gone:1", &image("same")).await;
        second.add("new/one", &image("untagged")).await;
        let mut differences = Vec::new();
        let different = |difference| {
            differences.push(difference);
            Ok::<_, TreeError>(())
        };
        first.tree.diff(&second.tree, different).await.unwrap();
        let expected = [
            Difference::Moved {
                repository: repo("app"),
                tag: "moved".parse().unwrap(),
                first: image("a").digest(),
                second: image("b").digest(),
            },
            Difference::Tag {
                only: Side::First,
                repository: repo("gone"),
                tag: "1".parse().unwrap(),
                digest: image("same").digest(),
            },
            Difference::Manifest {
                only: Side::Second,
                repository: repo("new/one"),
                digest: image("untagged").digest(),
            },
        ];
        assert_eq!(differences, expected, "{} and {}", first.name(), second.name());
        let mut count = 0;
        let counted = |_| {
            count += 1;
            Ok::<_, TreeError>(())
        };
        first.tree.diff(&first.tree, counted).await.unwrap();
        assert_eq!(count, 0, "{}", first.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shared_is_counted_once() {
    for scene in scenes().await {
        let (one, two) = (index("one"), image("two"));
        let size = |image: &roadstead::testing::Image| -> u64 {
            let manifests: usize = image.manifests().map(|manifest| manifest.bytes().len()).sum();
            let blobs: usize = image.blobs.values().map(bytes::Bytes::len).sum();
            (manifests + blobs) as u64
        };
        scene.add("a:1", &one).await;
        scene.add("b:1", &one).await;
        scene.add("b:2", &two).await;
        let usage = scene.tree.usage().await.unwrap();
        let of = |name: &str| usage.repositories.iter().find(|of| of.repository == repo(name)).unwrap();
        assert_eq!(usage.repositories[0].repository, repo("b"), "{}: the largest first", scene.name());
        assert_eq!((of("a").total, of("b").total), (size(&one), size(&one) + size(&two)), "{}", scene.name());
        if scene.links() {
            assert_eq!((of("a").own, of("a").shared), (0, size(&one)), "{}", scene.name());
            assert_eq!((of("b").own, of("b").shared), (size(&two), size(&one)), "{}", scene.name());
            assert_eq!((usage.total, usage.unnamed), (size(&one) + size(&two), 0), "{}", scene.name());
            scene.overwrite(&scene.blob("a", &roadstead::oci::Algorithm::Sha256.digest(b"nobody's")), "nobody's").await;
            let usage = scene.tree.usage().await.unwrap();
            assert_eq!(usage.unnamed, 8, "{}", scene.name());
        } else {
            assert_eq!((of("b").own, of("b").shared), (size(&one) + size(&two), 0), "{}", scene.name());
        }
    }
}

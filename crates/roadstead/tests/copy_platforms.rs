//! Platforms: which parts of an index come when some are asked for, what is recorded of the others, and that what the tree
//! holds is not asked of the source.

use std::collections::BTreeSet;
use std::sync::Arc;

use roadstead::image::{Copier, CopyError, CopyOptions, Platforms, Silent, Sink as _, Source as _};
use roadstead::oci::{Algorithm, Digest, Manifest, Reference, Tag};
use roadstead::store::{MemoryStore, Naming, Store as _};
use roadstead::testing::{Calls, Fault, Image, ImageBuilder, IndexBuilder, Layer, MemorySource};
use roadstead::tree::Tree;

/// Copies `app:latest` for some platforms, separated by commas; for all if there are none.
async fn copy(source: &MemorySource, tree: &Tree, platforms: &str) -> Result<Calls, CopyError> {
    let wanted = platforms.split(',').filter(|platform| !platform.is_empty());
    let wanted: Vec<_> = wanted.map(|platform| platform.parse().expect("a platform")).collect();
    let platforms = if wanted.is_empty() { Platforms::All } else { Platforms::Keep(wanted) };
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

fn image(platform: &str) -> Image {
    ImageBuilder::new().platform(platform).layer(platform.to_owned()).build()
}

/// What the record says that the tree lacks of an index on purpose.
async fn left_out(store: &MemoryStore, index: &Digest) -> BTreeSet<Digest> {
    let key = format!(".roadstead/left-out/app/{index}").parse().expect("a key");
    let Some(object) = store.get(&key, None).await.expect("memory can be read") else { return BTreeSet::new() };
    let bytes = object.body.into_bytes(1 << 20, &key).await.expect("memory can be read");
    let digests: Vec<String> = serde_json::from_slice(&bytes).expect("a list");
    digests.iter().map(|digest| digest.parse().expect("a digest")).collect()
}

#[tokio::test]
async fn what_comes_of_an_index_when_platforms_are_chosen() {
    const OTHERS: [&str; 7] = [
        "linux/386",
        "linux/arm/v6",
        "linux/arm/v7",
        "linux/arm/v8",
        "linux/arm64",
        "windows/amd64:10.0.17763.1",
        "windows/amd64:10.0.20348.1",
    ];
    let long = ImageBuilder::new().platform("linux/riscv64").layer("long").algorithm(Algorithm::Sha512).build();
    let inner = IndexBuilder::new().attested_image(image("linux/s390x")).image(image("linux/ppc64le")).build();
    let others = OTHERS.iter().fold(IndexBuilder::new(), |index, platform| index.image(image(platform)));
    let index = others.attested_image(image("linux/amd64")).image(long).image(inner.clone());
    let index = index.blob("text/plain", "belongs to the index itself").build();
    let source = MemorySource::new();
    source.add("app:latest", &index);

    // Each manifest by what it is: its platform, or an attestation's subject's.
    let label = |manifest: &Manifest| {
        let entries = || [&index, &inner].into_iter().flat_map(|index| index.manifest.manifests());
        let entry = entries().find(|entry| entry.digest == *manifest.digest()).expect("an entry of either");
        let subject = entry.attests().and_then(|subject| entries().find(|entry| entry.digest == subject));
        match (subject.unwrap_or(entry).platform.as_ref(), subject) {
            (Some(platform), None) => platform.to_string(),
            (Some(platform), Some(_)) => format!("attests {platform}"),
            (None, _) => "inner".to_owned(),
        }
    };

    for (wanted, expected) in [
        ("linux/amd64", "attests linux/amd64|linux/amd64"),
        ("linux/x86_64,linux/386", "attests linux/amd64|linux/386|linux/amd64"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v8", "linux/arm/v8"),
        ("linux/arm64/v8", "linux/arm64"),
        ("windows/amd64", "windows/amd64:10.0.17763.1|windows/amd64:10.0.20348.1"),
        ("windows/amd64:10.0.20348", "windows/amd64:10.0.20348.1"),
        ("linux/riscv64", "linux/riscv64"),
        ("linux/s390x", "attests linux/s390x|inner|linux/s390x"),
        ("linux/ppc64le,linux/arm/v7", "inner|linux/arm/v7|linux/ppc64le"),
    ] {
        let store = MemoryStore::new(Naming::Links);
        let tree = Tree::create(Arc::new(store.clone())).await.expect("a tree");
        copy(&source, &tree, wanted).await.unwrap_or_else(|error| panic!("{wanted}: {error}"));
        let repository = "app".parse().expect("a name");
        let (mut held, mut absent) = (BTreeSet::new(), BTreeSet::new());
        for child in &index.children {
            let found = tree.find(&repository, &Reference::Digest(*child.digest())).await.expect("memory can be read");
            if found.is_some() {
                held.insert(label(child))
            } else {
                absent.insert(*child.digest())
            };
        }
        assert_eq!(held.into_iter().collect::<Vec<_>>().join("|"), expected, "{wanted}");
        let pointer = tree.resolve(&repository, &Reference::Tag(Tag::latest())).await.expect("memory can be read");
        assert_eq!(pointer.expect("the tag is there").digest, index.digest(), "{wanted}: the index stays as it is");
        for index in [&index, &inner] {
            let visible = !absent.contains(&index.digest());
            let lacks = index.manifest.children().map(|child| child.digest).filter(|digest| absent.contains(digest));
            let lacks: BTreeSet<_> = lacks.filter(|_| visible).collect();
            assert_eq!(left_out(&store, &index.digest()).await, lacks, "{wanted}");
        }

        // A later copy of everything fetches the rest, and nothing is left out any more.
        let rest = copy(&source, &tree, "").await.expect("all of it");
        assert_eq!(rest.manifests.iter().copied().collect::<BTreeSet<_>>(), absent, "{wanted}");
        for index in [&index, &inner] {
            assert_eq!(left_out(&store, &index.digest()).await, BTreeSet::new(), "{wanted}");
        }
    }

    let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.expect("a tree");
    let error = copy(&source, &tree, "linux/loong64,windows/arm64").await.expect_err("there is no such part");
    let mut all = [&OTHERS[..], &["linux/amd64", "linux/riscv64", "linux/s390x", "linux/ppc64le"]].concat();
    all.sort_unstable();
    assert_eq!(
        error.to_string(),
        format!("memory/app:latest has nothing for linux/loong64, windows/arm64, only for {}", all.join(", "))
    );
    let found = tree.find(&"app".parse().expect("a name"), &Reference::Tag(Tag::latest())).await;
    assert!(found.expect("memory can be read").is_none(), "a tag for nothing");
}

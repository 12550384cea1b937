//! What refers to an image comes with it when it is asked for, and only what does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use roadstead::image::{
    Copied, Copier, CopyError, CopyOptions, Event, Events, MAX_DEPTH, NotAReferrer, Platforms, Side, Silent, Sink as _,
    Source as _,
};
use roadstead::oci::{Algorithm, Descriptor, Digest, Kind, Manifest, Reference, Repository, Tag};
use roadstead::store::{MemoryStore, Naming, Store as _};
use roadstead::testing::{Fault, Image, ImageBuilder, IndexBuilder, MemorySource};
use roadstead::tree::{Tree, TreeError, keys};

const NAMINGS: [Naming; 2] = [Naming::Links, Naming::Copies];

fn app() -> Repository {
    "app".parse().unwrap()
}

fn image(platform: &'static str) -> Image {
    ImageBuilder::new().platform(platform).layer(platform).build()
}

/// Something that refers to `subject`.
fn referrer(artifact_type: &str, subject: &Descriptor) -> Image {
    let artifact = ImageBuilder::new().artifact_type(artifact_type).blob("text/plain", artifact_type.to_owned());
    artifact.annotation("by", artifact_type).subject(subject).build()
}

/// A tag of cosign's.
fn cosign(subject: Digest, suffix: &str) -> String {
    format!("app:sha256-{}.{suffix}", subject.hex())
}

async fn tree(naming: Naming) -> (Tree, MemoryStore) {
    let store = MemoryStore::new(naming);
    (Tree::create(Arc::new(store.clone())).await.unwrap(), store)
}

/// Copies `app:latest`, with referrers.
async fn copy(source: &MemorySource, tree: &Tree) -> Result<Copied, CopyError> {
    copy_with(source, tree, Platforms::All, Arc::new(Silent)).await
}

async fn copy_with(
    source: &MemorySource,
    tree: &Tree,
    platforms: Platforms,
    events: Arc<dyn Events>,
) -> Result<Copied, CopyError> {
    let copier = Copier::new(CopyOptions { platforms, referrers: true, ..CopyOptions::default() }, events);
    let sink = tree.repository(&app()).await.unwrap();
    let latest = Reference::Tag(Tag::latest());
    let copied = copier.copy(&*source.repository(&app()), &latest, &*sink, &[Tag::latest()]).await;
    sink.finish().await.unwrap();
    copied
}

/// The list of what refers to `subject`, by the API's path; the fallback tag has to name the same bytes.
async fn listed(tree: &Tree, subject: Digest) -> Vec<Descriptor> {
    let fallback = Reference::Tag(Tag::referrers_fallback(&subject));
    let by_tag = tree.find(&app(), &fallback).await.unwrap().map(|index| index.bytes().clone());
    let Some(object) = tree.referrers(&app(), &subject).await.unwrap() else {
        assert_eq!(by_tag, None, "a fallback without a list");
        return Vec::new();
    };
    let bytes = object.body.into_bytes(4 << 20, &keys::referrers(&app(), &subject)).await.unwrap();
    assert_eq!(by_tag.as_ref(), Some(&bytes));
    let index = Manifest::parse(bytes, Algorithm::Sha256).unwrap();
    assert_eq!(index.kind(), Kind::Index);
    index.manifests().to_vec()
}

async fn types(tree: &Tree, subject: Digest) -> Vec<String> {
    let mut types: Vec<String> =
        listed(tree, subject).await.into_iter().filter_map(|listed| listed.artifact_type).collect();
    types.sort_unstable();
    types
}

async fn has(tree: &Tree, reference: impl Into<Reference>) -> bool {
    tree.resolve(&app(), &reference.into()).await.unwrap().is_some()
}

async fn tags(tree: &Tree) -> Vec<String> {
    let list = tree.tags_list(&app()).await.unwrap().unwrap();
    let bytes = list.body.into_bytes(1 << 20, &keys::tags_list(&app())).await.unwrap();
    let list: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&bytes).unwrap();
    serde_json::from_value(list["tags"].clone()).unwrap()
}

#[tokio::test]
async fn signatures_and_boms_of_every_part_and_of_each_other() {
    for naming in NAMINGS {
        let (amd64, arm64) = (image("linux/amd64"), image("linux/arm64"));
        let index = IndexBuilder::new().image(amd64.clone()).image(arm64.clone()).build();
        let signature = referrer("x/signature", &index.descriptor());
        let bom = referrer("x/bom", &arm64.descriptor());
        let signed_bom = referrer("x/signed-bom", &bom.descriptor());
        // An index may refer, too, and something may refer to a part of it.
        let part = ImageBuilder::new().layer("part").build();
        let about_part = referrer("x/about-part", &part.descriptor());
        let bundle =
            IndexBuilder::new().image(part.clone()).artifact_type("x/bundle").subject(&index.descriptor()).build();
        let old = ImageBuilder::new().blob("text/plain", "signed before there were referrers").build();
        let source = MemorySource::new();
        source.add("app:latest", &index);
        for referrer in [&signature, &bom, &signed_bom, &about_part, &bundle] {
            source.add("app", referrer);
        }
        source.add(&cosign(index.digest(), "sig"), &old);
        source.add(&cosign(amd64.digest(), "att"), &old);
        source.add(&cosign(signature.digest(), "sbom"), &old);
        source.add("app:other", &image("linux/s390x"));
        // What a source says of a referrer is not what the tree says.
        source.lie(index.digest(), &Descriptor { artifact_type: Some("x/lie".to_owned()), ..signature.descriptor() });

        let (tree, _) = tree(naming).await;
        assert!(copy(&source, &tree).await.unwrap().changed);
        assert_eq!(types(&tree, index.digest()).await, ["x/bundle", "x/signature"], "{naming:?}");
        assert_eq!(types(&tree, arm64.digest()).await, ["x/bom"]);
        assert_eq!(types(&tree, bom.digest()).await, ["x/signed-bom"]);
        assert_eq!(types(&tree, part.digest()).await, ["x/about-part"]);
        assert_eq!(types(&tree, amd64.digest()).await, [""; 0]);
        let signed = listed(&tree, arm64.digest()).await.remove(0);
        assert_eq!(signed.annotations, BTreeMap::from([("by".to_owned(), "x/bom".to_owned())]));
        assert_eq!(signed.size, bom.descriptor().size);
        let mut expected: Vec<String> =
            [cosign(index.digest(), "sig"), cosign(amd64.digest(), "att"), cosign(signature.digest(), "sbom")]
                .iter()
                .map(|name| name.strip_prefix("app:").unwrap().to_owned())
                .chain(["latest".to_owned()])
                .collect();
        expected.sort_unstable();
        assert_eq!(tags(&tree).await, expected);

        let _ = source.take_calls();
        assert!(!copy(&source, &tree).await.unwrap().changed);
        let calls = source.take_calls();
        assert_eq!((calls.manifests.len(), calls.blobs.len()), (0, 0), "all of it is there");
        // 2 + 1 of the image, 5 referrers, the part of one, and what cosign's tags name.
        assert_eq!((calls.referrers, calls.resolves), (10, 1 + 3 * 10));
    }
}

#[tokio::test]
async fn nothing_comes_unasked_nor_for_what_was_left_out() {
    let (amd64, arm64) = (image("linux/amd64"), image("linux/arm64"));
    let index = IndexBuilder::new().image(amd64.clone()).image(arm64.clone()).build();
    let source = MemorySource::new();
    source.add("app:latest", &index);
    let of_index = referrer("x/index", &index.descriptor());
    let of_amd64 = referrer("x/amd64", &amd64.descriptor());
    // A referrer's own platforms are not chosen among.
    let inner = image("linux/riscv64");
    let of_both = IndexBuilder::new().image(inner.clone()).artifact_type("x/tool").subject(&amd64.descriptor()).build();
    let of_arm64 = referrer("x/arm64", &arm64.descriptor());
    for referrer in [&of_index, &of_amd64, &of_arm64, &of_both] {
        source.add("app", referrer);
    }
    let (plain, _) = tree(Naming::Links).await;
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    let sink = plain.repository(&app()).await.unwrap();
    copier.copy(&*source.repository(&app()), &Tag::latest().into(), &*sink, &[]).await.unwrap();
    assert_eq!(source.take_calls().referrers, 0);
    assert!(!has(&plain, of_index.digest()).await);

    let wanted = || vec!["linux/amd64".parse().unwrap()];
    let (kept, _) = tree(Naming::Links).await;
    copy_with(&source, &kept, Platforms::Keep(wanted()), Arc::new(Silent)).await.unwrap();
    assert_eq!(types(&kept, index.digest()).await, ["x/index"]);
    assert_eq!(types(&kept, amd64.digest()).await, ["x/amd64", "x/tool"]);
    assert!(has(&kept, inner.digest()).await);
    assert!(!has(&kept, of_arm64.digest()).await);

    // What was signed is not what is there now.
    let (stripped, _) = tree(Naming::Links).await;
    copy_with(&source, &stripped, Platforms::Strip(wanted()), Arc::new(Silent)).await.unwrap();
    assert!(!has(&stripped, of_index.digest()).await);
    assert!(has(&stripped, of_amd64.digest()).await);
}

#[derive(Default)]
struct LeftOut(Mutex<Vec<(Digest, Digest, NotAReferrer)>>);

impl Events for LeftOut {
    fn event(&self, event: Event<'_>) {
        if let Event::ReferrerLeftOut { subject, referrer, reason, .. } = event {
            self.0.lock().unwrap().push((*subject, *referrer, reason));
        }
    }
}

#[tokio::test]
async fn lists_that_name_themselves_strangers_and_what_is_gone() {
    let subject = image("linux/amd64");
    let (true_one, gone) = (referrer("x/true", &subject.descriptor()), referrer("x/gone", &subject.descriptor()));
    let stranger = image("linux/s390x");
    let source = MemorySource::new();
    source.add("app:latest", &subject);
    for image in [&true_one, &gone, &stranger] {
        source.add("app", image);
    }
    source.inject(gone.digest(), Fault::Missing);
    for (about, listed) in [(&subject, &subject), (&subject, &stranger), (&true_one, &true_one), (&true_one, &subject)]
    {
        source.lie(about.digest(), &listed.descriptor());
    }
    let (tree, _) = tree(Naming::Links).await;
    let events = Arc::new(LeftOut::default());
    copy_with(&source, &tree, Platforms::All, events.clone()).await.unwrap();
    assert_eq!(types(&tree, subject.digest()).await, ["x/true"]);
    assert!(!has(&tree, stranger.digest()).await && !has(&tree, gone.digest()).await);
    assert!(has(&tree, Tag::latest()).await);
    let mut left_out = std::mem::take(&mut *events.0.lock().unwrap());
    left_out.sort_unstable_by_key(|(about, listed, _)| (*about, *listed));
    let mut expected = vec![
        (subject.digest(), subject.digest(), NotAReferrer::Stranger),
        (subject.digest(), stranger.digest(), NotAReferrer::Stranger),
        (subject.digest(), gone.digest(), NotAReferrer::Absent),
        (true_one.digest(), true_one.digest(), NotAReferrer::Stranger),
        (true_one.digest(), subject.digest(), NotAReferrer::Stranger),
    ];
    expected.sort_unstable_by_key(|(about, listed, _)| (*about, *listed));
    assert_eq!(left_out, expected);
}

#[tokio::test]
async fn what_a_tag_of_cosigns_names_may_be_the_image_itself() {
    let subject = image("linux/amd64");
    let source = MemorySource::new();
    source.add("app:latest", &subject);
    source.add(&cosign(subject.digest(), "sig"), &subject);
    let (tree, _) = tree(Naming::Links).await;
    copy(&source, &tree).await.unwrap();
    assert_eq!(tags(&tree).await.len(), 2);
}

#[tokio::test]
async fn a_failure_names_the_image_the_subject_and_the_referrer() {
    let subject = image("linux/amd64");
    for fault in [Fault::WrongBytes, Fault::Cut, Fault::Short, Fault::Long, Fault::NeverEnding] {
        for of_manifest in [true, false] {
            let signature = referrer("x/signature", &subject.descriptor());
            let source = MemorySource::new();
            source.add("app:latest", &subject);
            source.add("app", &signature);
            let faulty = if of_manifest { signature.digest() } else { signature.manifest.layers()[0].digest };
            source.inject(faulty, fault);
            let (tree, _) = tree(Naming::Links).await;
            let error = copy(&source, &tree).await.unwrap_err();
            assert_eq!(error.side(), Side::Source, "{error:?}");
            let text = error.to_string();
            for named in ["memory/app:latest", &subject.digest().to_string(), &signature.digest().to_string()] {
                assert!(text.contains(named), "{text}");
            }
            assert!(!has(&tree, Tag::latest()).await && !has(&tree, signature.digest()).await);
            source.mend();
            copy(&source, &tree).await.unwrap();
            assert_eq!(types(&tree, subject.digest()).await, ["x/signature"]);
        }
    }
}

#[tokio::test]
async fn referrers_without_end() {
    let subject = image("linux/amd64");
    let source = MemorySource::new();
    source.add("app:latest", &subject);
    let mut last = subject.clone();
    for depth in 1..=MAX_DEPTH {
        last = referrer(&format!("x/{depth}"), &last.descriptor());
        source.add("app", &last);
    }
    let (allowed, _) = tree(Naming::Links).await;
    copy(&source, &allowed).await.unwrap();
    source.add("app", &referrer("x/too-deep", &last.descriptor()));
    let error = copy(&source, &tree(Naming::Links).await.0).await.unwrap_err();
    assert!(matches!(error, CopyError::TooManyReferrers { .. }), "{error:?}");

    let source = MemorySource::new();
    source.add("app:latest", &subject);
    for number in 0..=roadstead::image::MAX_REFERRERS {
        let digest = Algorithm::Sha256.digest(number.to_string().as_bytes());
        source.lie(subject.digest(), &Descriptor::new("application/vnd.oci.image.manifest.v1+json", digest, 1));
    }
    let _ = source.take_calls();
    let error = copy(&source, &tree(Naming::Links).await.0).await.unwrap_err();
    assert!(matches!(error, CopyError::TooManyReferrers { .. }), "{error:?}");
    assert_eq!(source.take_calls().manifests, [subject.digest()]);
}

#[tokio::test]
async fn thousands_of_referrers_and_a_list_that_was_lost() {
    for naming in NAMINGS {
        let subject = image("linux/amd64");
        let source = MemorySource::new();
        source.add("app:latest", &subject);
        for number in 0..2_000 {
            source.add("app", &referrer(&format!("x/{number}"), &subject.descriptor()));
        }
        let (tree, store) = tree(naming).await;
        copy(&source, &tree).await.unwrap();
        assert_eq!(listed(&tree, subject.digest()).await.len(), 2_000);

        let list = keys::referrers(&app(), &subject.digest());
        let fallback = keys::referrers_fallback(&app(), &subject.digest());
        for lost in [&[&list][..], &[&fallback], &[&list, &fallback]] {
            for key in lost {
                assert!(store.delete(key).await.unwrap(), "{key}");
            }
            // Through a writer that knows of one alone.
            let one = referrer("x/one-more", &subject.descriptor());
            let sink = tree.repository(&app()).await.unwrap();
            sink.put_manifest(&one.manifest).await.unwrap();
            sink.finish().await.unwrap();
            assert_eq!(listed(&tree, subject.digest()).await.len(), 2_001, "{naming:?}, without {lost:?}");
        }
        store.delete(&list).await.unwrap();
        let last = referrer("x/7", &subject.descriptor()).digest();
        tree.remove(&app(), Some(&last.into())).await.unwrap();
        assert_eq!(listed(&tree, subject.digest()).await.len(), 2_000);
        tree.remove(&app(), Some(&Tag::latest().into())).await.unwrap();
        assert_eq!(listed(&tree, subject.digest()).await.len(), 0);
    }
}

#[tokio::test]
async fn more_than_a_list_holds() {
    let subject = image("linux/amd64");
    let (tree, _) = tree(Naming::Links).await;
    let sink = tree.repository(&app()).await.unwrap();
    let large = "x".repeat(3 << 20);
    let put = async |number: usize| {
        let one = ImageBuilder::new().artifact_type("x/x").annotation(&format!("{number}"), &large);
        sink.put_manifest(&one.subject(&subject.descriptor()).build().manifest).await.unwrap();
        sink.commit().await
    };
    put(1).await.unwrap();
    let error = put(2).await.unwrap_err();
    let tree_error = error.source.downcast_ref::<TreeError>();
    assert!(matches!(tree_error, Some(TreeError::TooManyReferrers { .. })), "{error:?}");
    assert_eq!(listed(&tree, subject.digest()).await.len(), 1, "what is there stays as it is");
}

//! Layers that are compressed on the way, and manifests that become another specification's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use roadstead::image::{
    Compress, Compression, Copied, Copier, CopyError, CopyOptions, ManifestFormat, Platforms, Side, Silent, Sink as _,
    Source as _,
};
use roadstead::oci::{Algorithm, Descriptor, Digest, Manifest, MediaType, Reference, Repository, Tag};
use roadstead::store::{MemoryStore, Naming};
use roadstead::testing::{Fault, Format, Image, ImageBuilder, IndexBuilder, Layer, MemorySource, noise};
use roadstead::tree::{Tree, keys};
use serde_json::{Value, json};

const GZIP: CopyOptions = options(Compress::All(Compression::GZIP), ManifestFormat::Keep);
const ZSTD: CopyOptions = options(Compress::All(Compression::ZSTD), ManifestFormat::Keep);
const OCI: CopyOptions = options(Compress::Never, ManifestFormat::Oci);
const V2S2: CopyOptions = options(Compress::Never, ManifestFormat::V2s2);

const fn options(compress: Compress, format: ManifestFormat) -> CopyOptions {
    CopyOptions { jobs: 4, platforms: Platforms::All, referrers: false, compress, format, bandwidth: None }
}

fn repository(name: &str) -> Repository {
    name.parse().unwrap()
}

async fn tree() -> Tree {
    Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap()
}

fn source_of(image: &Image) -> MemorySource {
    let source = MemorySource::new();
    source.add("app:latest", image);
    source
}

/// Copies `app:latest` into a repository of that name.
async fn copy_to(source: &MemorySource, tree: &Tree, to: &str, copier: &Copier) -> Result<Copied, CopyError> {
    let sink = tree.repository(&repository(to)).await.unwrap();
    let latest = Reference::Tag(Tag::latest());
    let copied = copier.copy(&*source.repository(&repository("app")), &latest, &*sink, &[Tag::latest()]).await;
    sink.finish().await.unwrap();
    copied
}

async fn copy(source: &MemorySource, tree: &Tree, options: &CopyOptions) -> Result<Copied, CopyError> {
    copy_to(source, tree, "app", &Copier::new(options.clone(), Arc::new(Silent))).await
}

/// What `app:latest` has become.
async fn converted(image: &Image, options: &CopyOptions) -> (Manifest, Tree) {
    let tree = tree().await;
    let copied = copy(&source_of(image), &tree, options).await.unwrap();
    assert_eq!(copied.resolved, image.descriptor());
    let manifest = found(&tree, Tag::latest()).await.unwrap();
    assert_eq!(copied.descriptor, manifest.descriptor());
    (manifest, tree)
}

/// Why a copy is refused; nothing of it may show.
async fn refusal(image: &Image, options: &CopyOptions) -> String {
    let tree = tree().await;
    let error = copy(&source_of(image), &tree, options).await.expect_err("it can't be converted");
    assert_eq!(error.side(), Side::Request);
    assert!(found(&tree, Tag::latest()).await.is_none());
    std::error::Error::source(&error).unwrap().to_string()
}

async fn found(tree: &Tree, reference: impl Into<Reference>) -> Option<Manifest> {
    tree.find(&repository("app"), &reference.into()).await.unwrap()
}

async fn blob(tree: &Tree, digest: &Digest) -> Option<Bytes> {
    let object = tree.blob(&repository("app"), digest, None).await.unwrap()?;
    Some(object.body.into_bytes(64 << 20, &keys::blob(&repository("app"), digest)).await.unwrap())
}

async fn config(tree: &Tree, manifest: &Manifest) -> Value {
    serde_json::from_slice(&blob(tree, &manifest.config().unwrap().digest).await.unwrap()).unwrap()
}

fn decompress(bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    match bytes {
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut whole).unwrap(),
        [0x28, 0xb5, ..] => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut whole).unwrap(),
        _ => bytes.to_vec().as_slice().read_to_end(&mut whole).unwrap(),
    };
    whole
}

/// Every layer is what the config promises, and is called what it is.
async fn expect_layers(tree: &Tree, manifest: &Manifest, types: &[&str]) {
    let config = config(tree, manifest).await;
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    assert_eq!(manifest.layers().iter().map(|layer| &*layer.media_type).collect::<Vec<_>>(), types);
    for (layer, diff_id) in manifest.layers().iter().zip(diff_ids) {
        let bytes = blob(tree, &layer.digest).await.unwrap();
        assert_eq!(layer.size, Some(bytes.len() as u64));
        assert_eq!(Algorithm::Sha256.digest(&decompress(&bytes)).to_string(), diff_id.as_str().unwrap());
    }
}

fn plain(format: Format) -> ImageBuilder {
    let large = Layer::new().file("large", [noise(1, 3 << 20), vec![b'x'; 2 << 20].into()].concat(), 0o644);
    ImageBuilder::new().format(format).uncompressed().layer(large).layer("small")
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_compressed_and_named_by_what_they_became() {
    const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    for (format, options, media_type, layers) in [
        (Format::Oci, GZIP, MediaType::OCI_MANIFEST, format!("{OCI_LAYER}+gzip")),
        (Format::OciWithoutMediaType, GZIP, MediaType::OCI_MANIFEST, format!("{OCI_LAYER}+gzip")),
        (Format::Oci, ZSTD, MediaType::OCI_MANIFEST, format!("{OCI_LAYER}+zstd")),
        (Format::Docker, GZIP, MediaType::DOCKER_MANIFEST, format!("{DOCKER_LAYER}.gzip")),
        // Docker's has no name for it.
        (Format::Docker, ZSTD, MediaType::OCI_MANIFEST, format!("{OCI_LAYER}+zstd")),
        (
            Format::Docker,
            CopyOptions { format: ManifestFormat::Oci, ..GZIP },
            MediaType::OCI_MANIFEST,
            format!("{OCI_LAYER}+gzip"),
        ),
    ] {
        for algorithm in Algorithm::ALL {
            let image = plain(format).algorithm(algorithm).annotation("kept", "as it is").build();
            let (manifest, tree) = converted(&image, &options).await;
            assert_eq!(*manifest.media_type(), media_type);
            assert_eq!(manifest.digest().algorithm(), algorithm);
            assert_eq!(manifest.annotations()["kept"], "as it is");
            assert_eq!(manifest.config().unwrap().digest, image.manifest.config().unwrap().digest);
            expect_layers(&tree, &manifest, &[&*layers, &*layers]).await;
            for layer in image.manifest.layers() {
                assert_eq!(blob(&tree, &layer.digest).await, None, "what was compressed is there uncompressed");
            }
        }
    }
}

#[tokio::test]
async fn what_is_compressed_or_no_image_stays_byte_for_byte() {
    let foreign = |media_type: &str| Descriptor::new(media_type, Algorithm::Sha256.digest(b"elsewhere"), 9);
    let images = [
        ImageBuilder::new().layer("gzip").build(),
        ImageBuilder::new().zstd().layer("zstd").build(),
        ImageBuilder::new().format(Format::Docker).layer("gzip").build(),
        ImageBuilder::new().artifact_type("x/y").blob("application/vnd.oci.image.layer.v1.tar", "an archive").build(),
        ImageBuilder::new().absent_layer(foreign("application/vnd.oci.image.layer.nondistributable.v1.tar")).build(),
        ImageBuilder::new().format(Format::Schema1Signed).layer("old").build(),
    ];
    for image in images {
        for options in [GZIP, ZSTD] {
            assert_eq!(converted(&image, &options).await.0.bytes(), image.manifest.bytes());
        }
    }
    let image = plain(Format::Oci).build();
    let made = CopyOptions { compress: Compress::Made(Compression::GZIP), ..CopyOptions::default() };
    assert_eq!(converted(&image, &made).await.0.digest(), &image.digest(), "its manifest is the source's own");
}

#[tokio::test]
async fn layers_of_both_kinds_in_one_image() {
    use roadstead::testing::Compression as Built;
    let image = plain(Format::Oci).layer(Layer::from("zstd").compression(Built::Zstd)).build();
    let (manifest, tree) = converted(&image, &GZIP).await;
    let [gzip, zstd] = ["gzip", "zstd"].map(|method| format!("application/vnd.oci.image.layer.v1.tar+{method}"));
    expect_layers(&tree, &manifest, &[&*gzip, &*gzip, &*zstd]).await;
    assert_eq!(manifest.layers()[2], image.manifest.layers()[2]);
}

#[tokio::test]
async fn other_bytes_than_promised_show_nowhere() {
    let image = plain(Format::Oci).build();
    for layer in image.manifest.layers() {
        for fault in Fault::ALL {
            let (source, tree) = (source_of(&image), tree().await);
            source.inject(layer.digest, fault);
            let error = copy(&source, &tree, &GZIP).await.expect_err("the bytes are wrong");
            let is_mismatch = matches!(error, CopyError::Mismatch { .. });
            assert_eq!(is_mismatch, !matches!(fault, Fault::Cut | Fault::Missing), "{fault:?}: {error:?}");
            assert_eq!(error.side(), Side::Source);
            assert!(found(&tree, Tag::latest()).await.is_none(), "{fault:?}");
            source.mend();
            copy(&source, &tree, &GZIP).await.unwrap();
            let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
            expect_layers(&tree, &found(&tree, Tag::latest()).await.unwrap(), &[gzip, gzip]).await;
        }
    }
}

/// An image with another config.
fn with_config(image: &Image, config: &Value) -> Image {
    let bytes = Bytes::from(config.to_string());
    let digest = Algorithm::Sha256.digest(&bytes);
    let mut manifest: Value = serde_json::from_slice(image.manifest.bytes()).unwrap();
    manifest["config"]["digest"] = json!(digest);
    manifest["config"]["size"] = json!(bytes.len());
    let mut image = image.clone();
    image.manifest = Manifest::parse(manifest.to_string().into(), Algorithm::Sha256).unwrap();
    image.blobs.insert(digest, bytes);
    image
}

#[tokio::test]
async fn a_config_that_promises_other_layers_is_refused() {
    let image = plain(Format::Oci).build();
    let long = plain(Format::Oci).algorithm(Algorithm::Sha512).build();
    let ids: Vec<Digest> =
        image.manifest.layers().iter().map(|layer| Algorithm::Sha256.digest(&image.blobs[&layer.digest])).collect();
    let other = Algorithm::Sha256.digest(b"other");
    for (image, config, problem) in [
        (&image, json!({ "rootfs": { "diff_ids": [ids[0]] } }), "has 1 diff IDs, and the manifest 2 layers"),
        (&image, json!({ "rootfs": { "diff_ids": [ids[0], other] } }), "its diff ID is sha256:"),
        (&image, json!({ "rootfs": { "diff_ids": [ids[1], ids[0]] } }), "its diff ID is sha256:"),
        (&image, json!({}), "doesn't say what its layers are made of"),
        // Two algorithms can't be compared without a look at the bytes.
        (&long, json!({ "rootfs": { "diff_ids": [ids[0], other] } }), "has other bytes than its digest says"),
    ] {
        let error = copy(&source_of(&with_config(image, &config)), &tree().await, &GZIP).await;
        let error = error.expect_err("the config lies").to_string();
        assert!(error.contains(problem), "{config}: {error}");
    }
}

#[tokio::test]
async fn a_layer_of_several_images_is_compressed_once() {
    let (first, second) = (plain(Format::Oci).label("n", "1").build(), plain(Format::Docker).label("n", "2").build());
    let source = MemorySource::new();
    let tree = tree().await;
    let copier = Copier::new(GZIP, Arc::new(Silent));
    for (name, image) in [("one", &first), ("two", &second)] {
        source.add("app:latest", image);
        copy_to(&source, &tree, name, &copier).await.unwrap();
    }
    let layers: Vec<Digest> = first.manifest.layers().iter().map(|layer| layer.digest).collect();
    let read = source.take_calls().blobs.into_iter().filter(|(digest, _)| layers.contains(digest)).count();
    assert_eq!(read, 2, "each of two layers once");
    let names = ["one", "two"].map(repository);
    let mut named = Vec::new();
    for name in names {
        let manifest = tree.find(&name, &Reference::Tag(Tag::latest())).await.unwrap().unwrap();
        named.push(manifest.layers().iter().map(|layer| layer.digest).collect::<Vec<_>>());
    }
    assert_eq!(named[0], named[1]);
}

#[tokio::test]
async fn the_same_again_reads_no_layer() {
    let one = plain(Format::Oci).build();
    let many =
        IndexBuilder::new().attested_image(one.clone()).image(plain(Format::Oci).platform("linux/arm64").build());
    for image in [one, many.build()] {
        let (source, tree) = (source_of(&image), tree().await);
        let first = copy(&source, &tree, &GZIP).await.unwrap();
        let _ = source.take_calls();
        let again = copy(&source, &tree, &GZIP).await.unwrap();
        assert_eq!((again.descriptor, again.changed), (first.descriptor, false));
        assert_eq!(source.take_calls().blobs, [], "what the tree has was read again");
        // Another format was asked for.
        copy(&source, &tree, &ZSTD).await.unwrap();
        assert!(!source.take_calls().blobs.is_empty());
    }
}

#[tokio::test]
async fn there_and_back_again() {
    let foreign = |format: &str| {
        Descriptor::new(
            &format!("application/vnd.oci.image.layer.nondistributable.v1.tar{format}"),
            Algorithm::Sha256.digest(format.as_bytes()),
            9,
        )
    };
    let base = || ImageBuilder::new().layer("gzip").absent_layer(foreign("")).absent_layer(foreign("+gzip"));
    let one = base().uncompressed().layer("plain").build();
    let index = IndexBuilder::new().image(one.clone()).image(base().platform("windows/amd64:10.0.1").build()).build();
    for (image, docker) in [(one, MediaType::DOCKER_MANIFEST), (index, MediaType::DOCKER_LIST)] {
        let (there, tree) = converted(&image, &V2S2).await;
        assert_eq!(*there.media_type(), docker);
        assert!(!String::from_utf8_lossy(there.bytes()).contains("oci"));
        let mut children = Vec::new();
        for child in there.children() {
            let child = found(&tree, child.digest).await.unwrap();
            assert_eq!(*child.media_type(), MediaType::DOCKER_MANIFEST);
            assert!(!String::from_utf8_lossy(child.bytes()).contains("oci"));
            children.push(child);
        }
        let docker = Image { manifest: there, children, ..image.clone() };
        assert_eq!(converted(&docker, &V2S2).await.0.bytes(), docker.manifest.bytes(), "it is Docker's already");
        assert_eq!(converted(&docker, &OCI).await.0.bytes(), image.manifest.bytes());
        assert_eq!(converted(&image, &OCI).await.0.bytes(), image.manifest.bytes(), "it is OCI's already");
    }
}

#[tokio::test]
async fn a_media_type_that_was_not_said_is_said() {
    let image = ImageBuilder::new().format(Format::OciWithoutMediaType).layer("x").build();
    assert_eq!(converted(&image, &OCI).await.0.bytes(), image.manifest.bytes());
    let (docker, _) = converted(&image, &V2S2).await;
    let start = r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":"#;
    assert!(docker.bytes().starts_with(start.as_bytes()), "{:?}", docker.bytes());
}

#[tokio::test]
async fn what_can_not_be_converted_is_refused_with_the_reason() {
    let image = || ImageBuilder::new().layer("x");
    let subject = image().build().descriptor();
    let docker_only = image().format(Format::Docker).blob("application/vnd.docker.plugin.v1+json", "{}");
    for (image, options, reason) in [
        (image().format(Format::Schema1Signed), OCI, "schema 1"),
        (image().format(Format::Schema1Unsigned), V2S2, "schema 1"),
        (docker_only, OCI, r#""application/vnd.docker.plugin.v1+json", which OCI has no name for"#),
        (
            image().zstd(),
            V2S2,
            r#""application/vnd.oci.image.layer.v1.tar+zstd", which Docker's schema 2 has no name for"#,
        ),
        (image().artifact_type("x/y"), V2S2, r#""application/vnd.oci.empty.v1+json""#),
        (image().format(Format::OciArtifact), V2S2, r#""application/vnd.oci.artifact.manifest.v1+json""#),
        (image().blob("text/plain", "x"), V2S2, r#""text/plain""#),
        (image().subject(&subject), V2S2, "a subject"),
        (image().annotation("b", "2").annotation("a", "1"), V2S2, "annotations of its own: a, b"),
        (plain(Format::Oci), CopyOptions { format: ManifestFormat::V2s2, ..ZSTD }, "diff.tar.zstd"),
        (plain(Format::Docker), CopyOptions { format: ManifestFormat::V2s2, ..ZSTD }, "diff.tar.zstd"),
    ] {
        let image = image.build();
        let said = refusal(&image, &options).await;
        assert!(said.contains(reason) && said.contains(&image.digest().to_string()), "{reason}: {said}");
    }
    let index = || IndexBuilder::new().image(image().build());
    for (index, reason) in [
        (index().blob("text/plain", "x"), r#""text/plain""#),
        (index().annotation("a", "1"), "annotations of its own: a"),
        (index().artifact_type("x/y"), r#"the artifact type "x/y""#),
        (index().subject(&subject), "a subject"),
        (IndexBuilder::new().attested_image(image().build()), "annotations of sha256:"),
    ] {
        let said = refusal(&index.build(), &V2S2).await;
        assert!(said.contains(reason), "{reason}: {said}");
    }
}

#[tokio::test]
async fn annotations_of_a_layer_are_not_lost() {
    let image = ImageBuilder::new().layer("x").build();
    let mut manifest: Value = serde_json::from_slice(image.manifest.bytes()).unwrap();
    manifest["layers"][0]["annotations"] = json!({ "title": "x" });
    let manifest = Manifest::parse(manifest.to_string().into(), Algorithm::Sha256).unwrap();
    let said = refusal(&Image { manifest, ..image }, &V2S2).await;
    assert!(said.contains("annotations of sha256:") && said.contains(": title"), "{said}");
}

#[tokio::test]
async fn an_index_names_what_its_images_have_become() {
    let [amd64, arm64] = ["linux/amd64", "linux/arm64"].map(|platform| plain(Format::Oci).platform(platform).build());
    let ready = ImageBuilder::new().platform("linux/s390x").layer("ready").build();
    let inner = IndexBuilder::new().image(arm64).build();
    let index = IndexBuilder::new().attested_image(amd64).image(ready.clone()).image(inner);
    let index = index.annotation("kept", "as it is").build();
    let (manifest, tree) = converted(&index, &GZIP).await;
    let entries = manifest.manifests();
    assert_eq!(manifest.annotations(), index.manifest.annotations());
    assert_eq!(entries.len(), index.manifest.manifests().len());
    for (entry, before) in entries.iter().zip(index.manifest.manifests()) {
        assert_eq!((&entry.platform, &entry.media_type), (&before.platform, &before.media_type));
        let child = found(&tree, entry.digest).await.unwrap();
        assert_eq!(entry.size, Some(child.bytes().len() as u64));
    }
    assert_eq!(entries[1].attests(), Some(entries[0].digest), "what BuildKit attests has another digest now");
    assert_eq!(entries[2].digest, ready.digest());
    let [first, second, third] = [0, 1, 3].map(|at| entries[at].digest == index.manifest.manifests()[at].digest);
    assert_eq!([first, second, third], [false, true, false], "what had to change has changed, and nothing else");
}

#[tokio::test]
async fn a_list_of_dockers_with_zstd_becomes_an_index() {
    let image = |platform| plain(Format::Docker).platform(platform).build();
    let list = IndexBuilder::new().format(Format::Docker).image(image("linux/amd64")).image(image("linux/arm64"));
    let (manifest, _) = converted(&list.build(), &ZSTD).await;
    assert_eq!(*manifest.media_type(), MediaType::OCI_INDEX);
    assert!(manifest.manifests().iter().all(|entry| entry.media_type == MediaType::OCI_MANIFEST.as_str()));
}

#[tokio::test]
async fn an_index_that_changes_names_only_the_platforms_that_came() {
    let image = |platform| plain(Format::Oci).platform(platform).build();
    let index = IndexBuilder::new().image(image("linux/amd64")).image(image("linux/arm64")).build();
    let platforms = Platforms::Keep(vec!["linux/arm64".parse().unwrap()]);
    let (manifest, tree) = converted(&index, &CopyOptions { platforms, ..GZIP }).await;
    let [only] = manifest.manifests() else { panic!("{:?}", manifest.manifests()) };
    assert_eq!(only.platform.as_ref().unwrap().to_string(), "linux/arm64");
    assert!(found(&tree, only.digest).await.is_some());
}

#[tokio::test]
async fn referrers_are_never_converted_and_stay_behind_if_their_subject_is() {
    let (changes, stays) = (plain(Format::Oci).build(), ImageBuilder::new().platform("linux/arm64").layer("x").build());
    let index = IndexBuilder::new().image(changes.clone()).image(stays.clone()).build();
    let source = source_of(&index);
    let refer = |subject: &Image| {
        ImageBuilder::new()
            .uncompressed()
            .artifact_type("x/y")
            .layer("signature")
            .subject(&subject.descriptor())
            .build()
    };
    let [of_index, of_changed, of_stays] = [&index, &changes, &stays].map(refer);
    for referrer in [&of_index, &of_changed, &of_stays] {
        source.add("app", referrer);
    }
    let tree = tree().await;
    copy(&source, &tree, &CopyOptions { referrers: true, ..GZIP }).await.unwrap();
    assert!(found(&tree, of_index.digest()).await.is_none());
    assert!(found(&tree, of_changed.digest()).await.is_none());
    assert_eq!(found(&tree, of_stays.digest()).await.unwrap().bytes(), of_stays.manifest.bytes());
}

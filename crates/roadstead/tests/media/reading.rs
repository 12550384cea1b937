//! Media that are built here keep the promises of a source, and mean what their writers meant.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use roadstead::image::{Collection, Held, SourceError};
use roadstead::medium::dir::Dir;
use roadstead::medium::docker_archive::DockerArchive;
use roadstead::medium::image_layout::ImageLayout;
use roadstead::oci::{Algorithm, Digest, MediaType, Reference};
use roadstead::testing::contract::source::{self, Subject};
use roadstead::testing::{Fault, Format, Image, ImageBuilder, IndexBuilder, Layer, noise};
use serde_json::{Value, json};

use crate::support::{
    Files, Whole, archive, blob_path, dir, entry, expect_whole, header, layout, names, saved, write_folder,
};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

fn index() -> Image {
    let of = |platform| {
        let large = Layer::new().file("large", noise(1, 300_000), 0o644);
        ImageBuilder::new().layer(large).platform(platform).build()
    };
    IndexBuilder::new().attested_image(of("linux/amd64")).image(of("linux/arm64")).build()
}

fn referrer(image: &Image) -> Image {
    let builder = ImageBuilder::new().artifact_type("application/x.y").subject(&image.descriptor());
    builder.blob("text/plain", "x").build()
}

async fn keeps_the_promises(implementation: &str, collection: impl Collection, image: &Image, referrers: Vec<Digest>) {
    let source = Whole(collection);
    let subject = Subject {
        implementation,
        source: &source,
        repository: "org/app".parse().unwrap(),
        tag: "1".parse().unwrap(),
        image,
        referrers: Some(referrers),
    };
    source::run_all(&subject).await;
}

/// Lets the file of a digest go wrong, or right again.
fn damage(path: &Path, good: &Bytes, fault: Option<Fault>) {
    fs::write(path, good).unwrap();
    let file = OpenOptions::new().append(true).open(path).unwrap();
    match fault {
        None => {}
        Some(Fault::WrongBytes) => {
            fs::write(path, [&good[..good.len() - 1], &[good[good.len() - 1] ^ 1]].concat()).unwrap();
        }
        Some(Fault::Short) => file.set_len(good.len() as u64 - 1).unwrap(),
        Some(Fault::Long) => { &file }.write_all(b" ").unwrap(),
        Some(Fault::Cut) => file.set_len(good.len() as u64 / 2).unwrap(),
        Some(Fault::Missing) => fs::remove_file(path).unwrap(),
        Some(Fault::NeverEnding) => file.set_len(1 << 40).unwrap(),
    }
}

#[tokio::test]
async fn a_layout_in_a_folder_and_in_an_archive() {
    let (image, folder) = (index(), tempfile::tempdir().unwrap());
    let referrer = referrer(&image);
    let entries = [entry(&image, &json!({ REF_NAME: "1" })), entry(&referrer, &Value::Null)];
    let files = layout(&[&image, &referrer], &entries);
    let root = folder.path().join("layout");
    write_folder(&root, &files);
    keeps_the_promises("oci", ImageLayout::open(&root).await.unwrap(), &image, vec![referrer.digest()]).await;

    let source = Whole(ImageLayout::open(&root).await.unwrap());
    let (repository, tag) = ("org/app".parse().unwrap(), "1".parse().unwrap());
    let subject = Subject { implementation: "oci", source: &source, repository, tag, image: &image, referrers: None };
    source::faults_show(&subject, &|digest, fault| {
        let good = &files.iter().find(|(name, _)| *name == blob_path(&digest)).unwrap().1;
        damage(&root.join(blob_path(&digest)), good, fault);
    })
    .await;

    let plain = archive(&files);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(&plain[..], 3).unwrap();
    for (kind, bytes) in [("plain", &plain), ("gzip", &gzip.finish().unwrap()), ("zstd", &zstd)] {
        let path = folder.path().join(kind);
        fs::write(&path, bytes).unwrap();
        let layout = ImageLayout::open_archive(&path, folder.path()).await.unwrap();
        keeps_the_promises(&format!("oci-archive, {kind}"), layout, &image, vec![referrer.digest()]).await;
    }
}

#[tokio::test]
async fn skopeos_folder() {
    let (image, folder) = (index(), tempfile::tempdir().unwrap());
    write_folder(folder.path(), &dir(&image));
    let source = Whole(Dir::open(folder.path()).await.unwrap());
    let held = source.0.images().await.unwrap();
    assert_eq!(held, [Held { name: None, descriptor: image.descriptor() }]);
    expect_whole("dir", &source.0, &held[0]).await;
    let (repository, tag) = ("org/app".parse().unwrap(), "1".parse().unwrap());
    let subject = Subject { implementation: "dir", source: &source, repository, tag, image: &image, referrers: None };
    // It has no tags, so some promises have nothing to keep.
    source::a_digest_resolves_to_itself(&subject).await;
    source::what_is_not_there_is_not_found(&subject).await;
    source::manifests_come_exactly(&subject).await;
    source::a_manifest_of_another_size_is_refused(&subject).await;
    source::blobs_come_whole(&subject).await;
    source::blobs_come_from_any_offset(&subject).await;
    source::faults_show(&subject, &|digest, fault| {
        let (name, good): (PathBuf, _) = match image.blobs.get(&digest) {
            Some(blob) => (digest.hex().into(), blob),
            None => ("manifest.json".into(), image.manifest.bytes()),
        };
        damage(&folder.path().join(name), good, fault);
    })
    .await;
}

#[tokio::test]
async fn a_schema_1_image_in_skopeos_folder() {
    let (image, folder) =
        (ImageBuilder::new().layer("old").format(Format::Schema1Signed).build(), tempfile::tempdir().unwrap());
    write_folder(folder.path(), &dir(&image));
    let dir = Dir::open(folder.path()).await.unwrap();
    let held = dir.images().await.unwrap();
    assert_eq!(held[0].descriptor.digest, image.digest());
    expect_whole("dir", &dir, &held[0]).await;
}

/// Writes an archive and opens it.
async fn opened(files: &Files) -> Result<DockerArchive, SourceError> {
    let folder = tempfile::tempdir().unwrap();
    DockerArchive::read(std::io::Cursor::new(archive(files)), "the archive", folder.path()).await
}

#[tokio::test]
async fn what_docker_saves_gets_a_manifest() {
    let image = ImageBuilder::new().layer("a").layer("b").layer("a").uncompressed().format(Format::Docker).build();
    let archive = opened(&saved(&image, &["app:1", "example.com/app:2"])).await.unwrap();
    assert_eq!(names(&archive).await, ["app:1", "example.com/app:2"]);
    let held = archive.images().await.unwrap();
    let manifest = archive.content().manifest(&held[0].descriptor).await.unwrap();
    assert_eq!(manifest.media_type(), &MediaType::DOCKER_MANIFEST);
    // The builder calls everything as Docker does, so nothing but the order of the fields may differ.
    assert_eq!(manifest.config(), image.manifest.config());
    assert_eq!(manifest.layers(), image.manifest.layers());
    for held in &held {
        expect_whole("docker-archive", &archive, held).await;
    }
    for tag in ["1", "2"] {
        let tag: Reference = tag.parse().unwrap();
        assert_eq!(archive.content().resolve(&tag).await.unwrap().digest, held[0].descriptor.digest);
    }
    let written = Image { manifest, ..image.clone() };
    keeps_the_promises("docker-archive", archive, &written, Vec::new()).await;
    // The same archive gives the same manifest.
    let again = opened(&saved(&image, &[])).await.unwrap();
    assert_eq!(again.images().await.unwrap()[0].descriptor, held[0].descriptor);
}

#[tokio::test]
async fn compressed_layers_keep_their_bytes() {
    for (compression, image) in [
        ("gzip", ImageBuilder::new().layer("a").layer("b").gzip().format(Format::Docker).build()),
        ("zstd", ImageBuilder::new().layer("a").layer("b").zstd().format(Format::Docker).build()),
    ] {
        let archive = opened(&saved(&image, &["app:1"])).await.unwrap();
        let held = archive.images().await.unwrap();
        let manifest = archive.content().manifest(&held[0].descriptor).await.unwrap();
        assert_eq!(manifest.layers(), image.manifest.layers(), "{compression}");
        expect_whole(compression, &archive, &held[0]).await;
    }
}

/// Docker wrote a layer that several images have once, and links to it.
#[tokio::test]
async fn layers_that_are_links_within_the_archive() {
    let image = ImageBuilder::new().layer("a").layer("b").uncompressed().format(Format::Docker).build();
    let mut files = saved(&image, &["app:1"]);
    let (name, bytes) = files.remove(0);
    let folder = tempfile::tempdir().unwrap();
    for (kind, link, target) in [
        (tar::EntryType::Symlink, &*name, "../real/layer.tar"),
        (tar::EntryType::Link, &*name, "real/layer.tar"),
        (tar::EntryType::Symlink, &*name, "./../real/./layer.tar"),
    ] {
        let mut builder = tar::Builder::new(Vec::new());
        let mut linking = header(link, kind, 0);
        linking.set_link_name(target).unwrap();
        linking.set_cksum();
        builder.append(&linking, &[][..]).unwrap();
        builder.append(&header("real/layer.tar", tar::EntryType::Regular, bytes.len() as u64), &bytes[..]).unwrap();
        for (name, bytes) in &files {
            builder.append(&header(name, tar::EntryType::Regular, bytes.len() as u64), &bytes[..]).unwrap();
        }
        let path = folder.path().join("x.tar");
        fs::write(&path, builder.into_inner().unwrap()).unwrap();
        let archive = DockerArchive::open(&path, folder.path()).await.unwrap();
        let held = archive.images().await.unwrap();
        expect_whole("links", &archive, &held[0]).await;
    }
}

fn gnu_header(size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header
}

/// Names that don't fit a header, in the ways of GNU and of POSIX.
#[tokio::test]
async fn long_names() {
    let image = ImageBuilder::new().layer("a").uncompressed().format(Format::Docker).build();
    let mut files = saved(&image, &["app:1"]);
    let long = format!("{}/layer.tar", "long/".repeat(50));
    let short = files[0].0.clone();
    files[0].0.clone_from(&long);
    let table = files.iter_mut().find(|(name, _)| name == "manifest.json").unwrap();
    table.1 = String::from_utf8_lossy(&table.1).replace(&short, &long).into();

    let mut gnu = tar::Builder::new(Vec::new());
    let mut pax = tar::Builder::new(Vec::new());
    for (name, bytes) in &files {
        let mut entry = header("", tar::EntryType::Regular, bytes.len() as u64);
        gnu.append_data(&mut gnu_header(bytes.len()), name, &bytes[..]).unwrap();
        pax.append_pax_extensions([("path", name.as_bytes()), ("size", bytes.len().to_string().as_bytes())]).unwrap();
        // Both say the size; where it doesn't fit a header, only the extension does.
        entry.set_path("cut-off").unwrap();
        entry.set_cksum();
        pax.append(&entry, &bytes[..]).unwrap();
    }
    for (kind, bytes) in [("GNU", gnu.into_inner().unwrap()), ("POSIX", pax.into_inner().unwrap())] {
        let folder = tempfile::tempdir().unwrap();
        let archive = DockerArchive::read(std::io::Cursor::new(bytes), kind, folder.path()).await.unwrap();
        expect_whole(kind, &archive, &archive.images().await.unwrap()[0]).await;
    }
}

/// Docker since 25: both forms in one file. The layout counts, since it has the manifest that was pulled.
#[tokio::test]
async fn an_archive_of_both_forms_keeps_its_digests() {
    let image = ImageBuilder::new().layer("a").gzip().build();
    let name = json!({ FULL_NAME: "docker.io/library/app:1", REF_NAME: "1" });
    let mut files = layout(&[&image], &[entry(&image, &name)]);
    let table = |image: &Image| {
        let layers: Vec<_> = image.manifest.layers().iter().map(|layer| blob_path(&layer.digest)).collect();
        let config = blob_path(&image.manifest.config().unwrap().digest);
        json!([{ "Config": config, "RepoTags": ["app:1"], "Layers": layers }]).to_string()
    };
    files.push(("manifest.json".to_owned(), table(&image).into()));
    let archive = opened(&files).await.unwrap();
    let held = archive.images().await.unwrap();
    assert_eq!(held[0].name.as_deref(), Some("docker.io/library/app:1"));
    assert_eq!(held[0].descriptor.digest, image.digest());

    // A layout that isn't whole doesn't count.
    let other = ImageBuilder::new().layer("never pulled").build();
    files[1].1 = layout(&[], &[entry(&other, &Value::Null)])[1].1.clone();
    let archive = opened(&files).await.unwrap();
    assert_eq!(names(&archive).await, ["app:1"]);
}

/// With containerd's store Docker saves the index, and only what it has below it.
#[tokio::test]
async fn of_an_index_with_one_image_that_is_there_this_image_is_held() {
    let of = |platform| ImageBuilder::new().layer(platform).platform(platform).build();
    let here = of("linux/amd64");
    let index = IndexBuilder::new().image(here.clone()).absent(&of("linux/arm64")).build();
    let archive = opened(&layout(&[&index], &[entry(&index, &json!({ REF_NAME: "1" }))])).await.unwrap();
    let held = archive.images().await.unwrap();
    assert_eq!((held.len(), held[0].descriptor.digest), (1, here.digest()));

    let whole = IndexBuilder::new().image(here).image(of("linux/arm64")).build();
    let archive = opened(&layout(&[&whole], &[entry(&whole, &json!({ REF_NAME: "1" }))])).await.unwrap();
    assert_eq!(archive.images().await.unwrap()[0].descriptor.digest, whole.digest());
}

#[tokio::test]
async fn which_entries_of_a_layout_are_images() {
    let image = index();
    let other = ImageBuilder::new().layer("other").build();
    let (referrer, listed) = (referrer(&image), referrer(&other));
    let fallback = IndexBuilder::new().image(listed.clone()).build();
    let child =
        Image { manifest: image.children[0].clone(), children: vec![], blobs: image.blobs.clone(), platform: None };
    let folder = tempfile::tempdir().unwrap();
    let tag = format!("sha256-{}", other.digest().hex());
    let entries = [
        entry(&child, &Value::Null),
        entry(&image, &json!({ FULL_NAME: "example.com/app:1", REF_NAME: "1" })),
        entry(&referrer, &json!({})),
        entry(&image, &json!({ REF_NAME: "2" })),
        entry(&other, &Value::Null),
        entry(&fallback, &json!({ REF_NAME: tag })),
    ];
    write_folder(folder.path(), &layout(&[&image, &other, &referrer, &fallback], &entries));
    let layout = ImageLayout::open(folder.path()).await.unwrap();
    assert_eq!(names(&layout).await, ["example.com/app:1", "2", ""]);
    let refer_to = async |image: &Image| {
        let found = layout.content().referrers(&image.digest()).await.unwrap();
        found.into_iter().map(|referrer| referrer.digest).collect::<Vec<_>>()
    };
    assert_eq!(refer_to(&image).await, [referrer.digest()]);
    assert_eq!(refer_to(&other).await, [listed.digest()]);
}

/// Two repositories have a tag of that name: then it names nothing.
#[tokio::test]
async fn ambiguous_tags_name_nothing() {
    let (one, two) = (ImageBuilder::new().layer("1").build(), ImageBuilder::new().layer("2").build());
    let entries = [
        entry(&one, &json!({ FULL_NAME: "docker.io/library/one:latest" })),
        entry(&two, &json!({ FULL_NAME: "docker.io/library/two:latest" })),
        entry(&two, &json!({ FULL_NAME: "docker.io/library/two:1" })),
    ];
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &layout(&[&one, &two], &entries));
    let content = ImageLayout::open(folder.path()).await.unwrap().content();
    let latest = content.resolve(&"latest".parse().unwrap()).await;
    assert!(matches!(latest, Err(SourceError::NotFound { .. })), "{latest:?}");
    assert_eq!(content.resolve(&"1".parse().unwrap()).await.unwrap().digest, two.digest());
    assert_eq!(content.resolve(&Reference::Digest(one.digest())).await.unwrap(), one.descriptor());
    let absent = Algorithm::Sha256.digest(b"absent");
    assert!(matches!(content.resolve(&Reference::Digest(absent)).await, Err(SourceError::NotFound { .. })));
}

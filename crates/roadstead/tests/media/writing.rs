//! What is written here keeps the promises of a sink, and is read again as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use roadstead::image::{
    Collection, Copier, CopyOptions, Platforms, RepositorySink, RepositorySource, Silent, Sink, SinkError, Source as _,
};
use roadstead::medium::Output;
use roadstead::medium::dir::{Dir, DirSink};
use roadstead::medium::docker_archive::{DockerArchive, DockerArchiveSink};
use roadstead::medium::image_layout::{ImageLayout, ImageLayoutSink};
use roadstead::oci::{Descriptor, Digest, ImageReference, Reference, Repository};
use roadstead::testing::contract::sink::{self, Reader, Subject};
use roadstead::testing::{Format, Image, ImageBuilder, IndexBuilder, MemorySource};
use serde_json::{Value, json};

use crate::support::{expect_whole, names};

/// A layout whose repositories are all of one registry.
struct OfRegistry(ImageLayoutSink);

fn full(repository: &Repository, rest: &str) -> String {
    format!("example.com/{repository}{rest}")
}

#[async_trait]
impl Sink for OfRegistry {
    async fn repository(&self, name: &Repository) -> Result<Box<dyn RepositorySink>, SinkError> {
        Ok(self.0.image(Some(&full(name, "").parse().unwrap())))
    }
}

struct LayoutReader(PathBuf);

#[async_trait]
impl Reader for LayoutReader {
    async fn manifest(&self, repository: &Repository, reference: &Reference) -> Option<Bytes> {
        // Until something is named, there is no table of contents.
        let layout = ImageLayout::open(&self.0).await.ok();
        let descriptor = match reference {
            Reference::Digest(digest) => {
                let bytes = self.blob(repository, digest).await;
                let schema1 = layout?.content().resolve(reference).await.ok();
                return bytes.filter(|_| schema1.is_some());
            }
            Reference::Tag(tag) => {
                let name = full(repository, &format!(":{tag}"));
                let images = layout.as_ref()?.images().await.unwrap();
                images.into_iter().find(|held| held.name.as_ref() == Some(&name))?.descriptor
            }
        };
        Some(layout?.content().manifest(&descriptor).await.unwrap().bytes().clone())
    }

    async fn blob(&self, _: &Repository, digest: &Digest) -> Option<Bytes> {
        fs::read(self.0.join(format!("blobs/{}/{}", digest.algorithm(), digest.hex()))).ok().map(Bytes::from)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_layout_in_a_folder_keeps_the_promises_of_a_sink() {
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject {
        implementation: "a layout in a folder".to_owned(),
        sink: Arc::new(OfRegistry(ImageLayoutSink::create(folder.path()).unwrap())),
        reader: Arc::new(LayoutReader(folder.path().to_owned())),
        limits: &[],
    };
    sink::run_all(&subject).await;
}

fn image(text: &'static str) -> Image {
    ImageBuilder::new().layer("base").layer(text).label("for", text).build()
}

fn index() -> Image {
    let of = |platform| ImageBuilder::new().layer(platform).platform(platform).build();
    IndexBuilder::new().attested_image(of("linux/amd64")).image(of("linux/arm64")).build()
}

async fn copy(image: &Image, name: &str, to: &dyn RepositorySink, platforms: Platforms) {
    let source = MemorySource::new();
    source.add("x", image);
    let from = source.repository(&"x".parse().unwrap());
    let name: Option<ImageReference> = (!name.is_empty()).then(|| name.parse().unwrap());
    let tags: Vec<_> = name.and_then(|name| name.tag).into_iter().collect();
    let copier = Copier::new(CopyOptions { platforms, ..CopyOptions::default() }, Arc::new(Silent));
    copier.copy(&*from, &Reference::Digest(image.digest()), to, &tags).await.unwrap();
    to.finish().await.unwrap();
}

/// Puts images into a sink by its `image` and closes it.
macro_rules! fill {
    ($sink:expr, $images:expr) => {{
        let sink = $sink;
        for (image, name) in $images {
            let reference: Option<ImageReference> = (!name.is_empty()).then(|| name.parse().unwrap());
            copy(image, name, &*sink.image(reference.as_ref()), Platforms::All).await;
        }
        sink.close().await
    }};
}

/// What a collection holds: names and digests.
async fn held(collection: &dyn Collection) -> Vec<(String, Digest)> {
    let images = collection.images().await.unwrap();
    for image in &images {
        expect_whole("what was written", collection, image).await;
    }
    let mut held: Vec<_> =
        images.into_iter().map(|held| (held.name.unwrap_or_default(), held.descriptor.digest)).collect();
    held.sort_unstable();
    held
}

#[tokio::test]
async fn archives_hold_what_was_put_and_are_the_same_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (image("first"), image("second"));
    let images = [
        (&first, "docker.io/library/first:1"),
        (&first, "example.com/org/first:2"),
        (&second, "docker.io/library/second:1"),
        (&image("none"), ""),
    ];
    let mut expected: Vec<_> = images.iter().map(|(image, name)| ((*name).to_owned(), image.digest())).collect();
    expected.sort_unstable();

    let mut written: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for backwards in [false, true] {
        let mut images = images;
        if backwards {
            images.reverse();
        }
        let (docker, oci) = (folder.path().join("docker.tar"), folder.path().join("oci.tar"));
        fill!(DockerArchiveSink::create(&*docker, folder.path()).unwrap(), images).unwrap();
        fill!(ImageLayoutSink::create_archive(&*oci, folder.path()).unwrap(), images).unwrap();
        assert_eq!(held(&DockerArchive::open(&docker, folder.path()).await.unwrap()).await, expected);
        assert_eq!(held(&ImageLayout::open_archive(&oci, folder.path()).await.unwrap()).await, expected);
        written.push((fs::read(docker).unwrap(), fs::read(oci).unwrap()));
    }
    assert!(written[0] == written[1], "the order in which images come shows in the archive");
    // Nothing is left of what they were made of.
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["docker.tar", "oci.tar"]);
}

#[tokio::test]
async fn an_index_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let index = index();
    let name = "example.com/app:1";
    let (layout, archive, dir) =
        (folder.path().join("layout"), folder.path().join("oci.tar"), folder.path().join("a/dir"));
    fill!(ImageLayoutSink::create(&layout).unwrap(), [(&index, name)]).unwrap();
    fill!(ImageLayoutSink::create_archive(&*archive, folder.path()).unwrap(), [(&index, name)]).unwrap();
    fill!(DirSink::create(&dir).unwrap(), [(&index, name)]).unwrap();
    let named = [(name.to_owned(), index.digest())];
    assert_eq!(held(&ImageLayout::open(&layout).await.unwrap()).await, named);
    assert_eq!(held(&ImageLayout::open_archive(&archive, folder.path()).await.unwrap()).await, named);
    assert_eq!(held(&Dir::open(&dir).await.unwrap()).await, [(String::new(), index.digest())]);

    let docker = folder.path().join("docker.tar");
    let refused = fill!(DockerArchiveSink::create(&*docker, folder.path()).unwrap(), [(&index, name)]);
    let source = refused.unwrap_err().source.to_string();
    assert!(source.contains("several platforms"), "{source}");
    assert!(!docker.exists());
    // One of them is fine.
    let sink = DockerArchiveSink::create(&*docker, folder.path()).unwrap();
    let amd64 = Platforms::Keep(vec!["linux/amd64".parse().unwrap()]);
    copy(&index, name, &*sink.image(Some(&name.parse().unwrap())), amd64).await;
    sink.close().await.unwrap();
    let opened = DockerArchive::open(&docker, folder.path()).await.unwrap();
    assert_eq!(held(&opened).await, [(name.to_owned(), index.manifest.manifests()[0].digest)]);
}

#[tokio::test]
async fn an_existing_layout_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.json");
    let read = || serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap();
    let (first, second) = (image("first"), image("second"));
    fill!(ImageLayoutSink::create(folder.path()).unwrap(), [(&first, "example.com/a:1"), (&first, "example.com/a:2")])
        .unwrap();
    let mut index = read();
    index["annotations"] = json!({ "kept": "yes" });
    index["manifests"][0]["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    fs::write(&path, index.to_string()).unwrap();

    fill!(ImageLayoutSink::create(folder.path()).unwrap(), [(&second, "example.com/a:2"), (&first, "example.com/a:1")])
        .unwrap();
    let after = read();
    assert_eq!(after["annotations"], json!({ "kept": "yes" }));
    assert_eq!(after["manifests"][0], index["manifests"][0]);
    let expected = [("example.com/a:1".to_owned(), first.digest()), ("example.com/a:2".to_owned(), second.digest())];
    assert_eq!(held(&ImageLayout::open(folder.path()).await.unwrap()).await, expected);

    // What stands there without a name gets one, and nothing else is doubled.
    let third = image("third");
    fill!(ImageLayoutSink::create(folder.path()).unwrap(), [(&third, ""), (&third, "")]).unwrap();
    assert_eq!(read()["manifests"].as_array().unwrap().len(), 3);
    fill!(ImageLayoutSink::create(folder.path()).unwrap(), [(&third, "example.com/a:3")]).unwrap();
    assert_eq!(read()["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(names(&ImageLayout::open(folder.path()).await.unwrap()).await.last().unwrap(), "example.com/a:3");
}

#[tokio::test]
async fn whoever_gives_up_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("docker.tar"), "as it was").unwrap();
    let image = image("given up");
    let docker = DockerArchiveSink::create(&*path("docker.tar"), folder.path()).unwrap();
    let oci = ImageLayoutSink::create_archive(&*path("oci.tar"), folder.path()).unwrap();
    let dir = DirSink::create(&path("dir")).unwrap();
    for sink in [docker.image(None), oci.image(None), dir.image(None)] {
        copy(&image, "", &*sink, Platforms::All).await;
    }
    drop((docker, oci, dir));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["docker.tar"]);
    assert_eq!(fs::read(path("docker.tar")).unwrap(), b"as it was");
}

/// An image that failed in the middle is in no table of contents, what came of it in no archive.
#[tokio::test]
async fn what_was_not_committed_is_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, half) = (image("whole"), image("half"));
    let path = folder.path().join("oci.tar");
    let archive = ImageLayoutSink::create_archive(&*path, folder.path()).unwrap();
    let sink = archive.image(None);
    for (digest, bytes) in &half.blobs {
        let blob = Descriptor::new("", *digest, bytes.len() as u64);
        sink.put_blob(&blob, sink::stream_of(bytes)).await.unwrap();
    }
    sink.put_manifest(&half.manifest).await.unwrap();
    drop(sink);
    copy(&whole, "example.com/a:1", &*archive.image(Some(&"example.com/a:1".parse().unwrap())), Platforms::All).await;
    archive.close().await.unwrap();
    let layout = ImageLayout::open_archive(&path, folder.path()).await.unwrap();
    assert_eq!(held(&layout).await, [("example.com/a:1".to_owned(), whole.digest())]);
    let absent = layout.content().resolve(&Reference::Digest(half.digest())).await;
    assert!(absent.is_err());
}

#[tokio::test]
async fn folders_that_hold_something_else_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "x").unwrap();
    assert!(ImageLayoutSink::create(folder.path()).is_err());
    assert!(DirSink::create(folder.path()).is_err());
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fill!(DirSink::create(&empty).unwrap(), [(&image("dir"), "")]).unwrap();
    let none: [(&Image, &str); 0] = [];
    let refused = fill!(DirSink::create(&folder.path().join("none")).unwrap(), none);
    assert!(refused.is_err());
    let (one, two) = (image("one"), image("two"));
    let refused = fill!(DirSink::create(&folder.path().join("two")).unwrap(), [(&one, ""), (&two, "")]);
    assert!(refused.is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn what_docker_could_not_load_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = ImageBuilder::new().artifact_type("application/x.y").blob("text/plain", "x").build();
    let old = ImageBuilder::new().layer("old").format(Format::Schema1Signed).build();
    for image in [&artifact, &old, &IndexBuilder::new().build()] {
        let sink = DockerArchiveSink::create(Output::Stream(Box::new(std::io::sink())), folder.path()).unwrap();
        assert!(fill!(sink, [(image, "")]).is_err());
    }
}

/// A pipe is written to, not replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_through_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let image = image("piped");
    let reading = {
        let (pipe, spool) = (pipe.clone(), folder.path().to_owned());
        tokio::spawn(async move { DockerArchive::open(&pipe, &spool).await })
    };
    fill!(DockerArchiveSink::create(&*pipe, folder.path()).unwrap(), [(&image, "example.com/a:1")]).unwrap();
    let archive = reading.await.unwrap().unwrap();
    assert_eq!(held(&archive).await, [("example.com/a:1".to_owned(), image.digest())]);
}

/// Whatever reads in it, and a reference to it, is fine in a layout.
#[tokio::test]
async fn what_refers_to_an_image_is_listed_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let image = image("subject");
    let builder = ImageBuilder::new().artifact_type("application/x.y").subject(&image.descriptor());
    let referrer = builder.blob("text/plain", "x").build();
    let path: &Path = &folder.path().join("x.tar");
    fill!(DockerArchiveSink::create(path, folder.path()).unwrap(), [(&image, "example.com/a:1"), (&referrer, "")])
        .unwrap();
    let archive = DockerArchive::open(path, folder.path()).await.unwrap();
    assert_eq!(names(&archive).await, ["example.com/a:1"]);
    let content: Box<dyn RepositorySource> = archive.content();
    assert_eq!(content.referrers(&image.digest()).await.unwrap()[0].digest, referrer.digest());
    assert_eq!(content.tags().try_collect::<Vec<_>>().await.unwrap(), ["1".parse().unwrap()]);
}

//! Images without a manifest have no digest to keep: their layers may be compressed on the way without being asked for.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use roadstead::image::{
    BlobOutcome, Collection as _, Compress, Compression, Copied, Copier, CopyOptions, Event, Events, RepositorySink,
    Sink as _,
};
use roadstead::medium::docker_archive::DockerArchive;
use roadstead::oci::{Descriptor, Digest, Reference, Tag};
use roadstead::store::{MemoryStore, Naming};
use roadstead::testing::{Format, Image, ImageBuilder};
use roadstead::tree::Tree;
use serde_json::json;

use crate::support::{archive, blob_path, entry, layout, saved};

/// The blobs that were compressed.
#[derive(Default)]
struct Heard(Mutex<Vec<Digest>>);

impl Events for Heard {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::BlobDone { blob, outcome: BlobOutcome::Compressed } => self.0.lock().unwrap().push(blob.digest),
            Event::Resolved { descriptor, .. } => {
                assert_ne!(
                    descriptor.media_type, "application/vnd.docker.distribution.manifest.v2+json",
                    "nobody asked"
                );
            }
            _ => {}
        }
    }
}

async fn add(files: &crate::support::Files, folder: &Path, sink: &dyn RepositorySink) -> (Copied, Vec<Digest>) {
    let path = folder.join("archive.tar");
    fs::write(&path, archive(files)).unwrap();
    let archive = DockerArchive::open(&path, folder).await.unwrap();
    let image = archive.images().await.unwrap().remove(0).descriptor;
    let heard = Arc::new(Heard::default());
    let options = CopyOptions { compress: Compress::Made(Compression::GZIP), ..CopyOptions::default() };
    let copier = Copier::new(options, heard.clone());
    let from = archive.content();
    let copied = copier.copy(&*from, &Reference::Digest(image.digest), sink, &[Tag::latest()]).await.unwrap();
    sink.finish().await.unwrap();
    let compressed = std::mem::take(&mut *heard.0.lock().unwrap());
    (copied, compressed)
}

fn plain(format: Format) -> Image {
    ImageBuilder::new().format(format).uncompressed().layer(vec![b'a'; 3 << 20]).layer("b").build()
}

#[tokio::test]
async fn layers_of_an_archive_without_manifests() {
    let folder = tempfile::tempdir().unwrap();
    let image = plain(Format::Docker);
    let files = saved(&image, &["app:1"]);
    let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
    let name = "app".parse().unwrap();
    let sink = tree.repository(&name).await.unwrap();

    let (first, compressed) = add(&files, folder.path(), &*sink).await;
    assert_eq!(compressed.len(), 2);
    assert_eq!(first.resolved, first.descriptor, "nobody knows the digest that it would have had");
    let manifest = tree.find(&name, &Reference::Digest(first.descriptor.digest)).await.unwrap().unwrap();
    let gzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    assert!(manifest.layers().iter().all(|layer| layer.media_type == gzip));
    assert_eq!(manifest.config().unwrap().digest, image.manifest.config().unwrap().digest);

    // The same archive again is opened and read, but nothing is compressed.
    let (again, compressed) = add(&files, folder.path(), &*sink).await;
    assert_eq!((again.descriptor, again.changed, compressed), (first.descriptor, false, vec![]));

    // Another image of the same name is another one.
    let other = ImageBuilder::new().format(Format::Docker).uncompressed().layer("c").build();
    let (other, compressed) = add(&saved(&other, &["app:1"]), folder.path(), &*sink).await;
    assert_eq!((other.changed, compressed.len()), (true, 1));
}

/// Docker since 25 with the graph store: it makes a manifest up for the archive.
#[tokio::test]
async fn a_manifest_that_an_engine_made_up_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let image = plain(Format::Oci);
    let plain_layers = image.manifest.layers();
    let source = |layer: &Descriptor, media_type: &str| {
        let digest = layer.digest.to_string();
        (digest.clone(), json!({ "mediaType": media_type, "size": layer.size, "digest": digest }))
    };
    const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
    const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    for (told, media_type, is_made_up) in [(2, TAR, true), (1, TAR, false), (0, TAR, false), (2, FOREIGN, false)] {
        let sources: serde_json::Map<_, _> =
            plain_layers.iter().take(told).map(|layer| source(layer, media_type)).collect();
        let table = json!([{
            "Config": blob_path(&image.manifest.config().unwrap().digest),
            "RepoTags": ["app:1"],
            "Layers": plain_layers.iter().map(|layer| blob_path(&layer.digest)).collect::<Vec<_>>(),
            "LayerSources": sources,
        }]);
        let mut files = layout(&[&image], &[entry(&image, &json!({}))]);
        files.push(("manifest.json".to_owned(), table.to_string().into()));
        let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
        let sink = tree.repository(&"app".parse().unwrap()).await.unwrap();
        let (copied, compressed) = add(&files, folder.path(), &*sink).await;
        let expected = (!is_made_up, if is_made_up { 2 } else { 0 });
        assert_eq!((copied.resolved.digest == image.digest(), compressed.len()), expected, "{table}");
    }
}

#[tokio::test]
async fn a_manifest_in_the_archive_keeps_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let image = plain(Format::Oci);
    let mut files = layout(&[&image], &[entry(&image, &json!({}))]);
    files.extend(saved(&image, &["app:1"]));
    let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
    let sink = tree.repository(&"app".parse().unwrap()).await.unwrap();
    let (copied, compressed) = add(&files, folder.path(), &*sink).await;
    assert_eq!((copied.descriptor.digest, compressed), (image.digest(), vec![]));
}

//! Images as the files of a medium, and media as the source that the contract wants.

use std::fs;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use roadstead::image::{Collection, Held, RepositorySource, Source, SourceError};
use roadstead::oci::{Digest, Repository};
use roadstead::testing::Image;
use serde_json::{Value, json};

/// Names and contents, in the order in which an archive has them.
pub(crate) type Files = Vec<(String, Bytes)>;

/// A collection seen as a source: all its repositories are the same one.
pub(crate) struct Whole<C>(pub(crate) C);

#[async_trait]
impl<C: Collection> Source for Whole<C> {
    async fn repositories(&self) -> Result<BoxStream<'_, Result<Repository, SourceError>>, SourceError> {
        Err(SourceError::Unsupported("a collection has no repositories".to_owned()))
    }

    fn repository(&self, _: &Repository) -> Box<dyn RepositorySource> {
        self.0.content()
    }
}

/// The digest of an image's config or layer as a file name.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

pub(crate) fn entry(image: &Image, annotations: &Value) -> Value {
    let descriptor = image.descriptor();
    json!({
        "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size,
        "annotations": annotations,
    })
}

/// An OCI layout of these images, with entries for `index.json`.
pub(crate) fn layout(images: &[&Image], entries: &[Value]) -> Files {
    let mut files = vec![
        ("oci-layout".to_owned(), Bytes::from_static(br#"{"imageLayoutVersion":"1.0.0"}"#)),
        ("index.json".to_owned(), json!({ "schemaVersion": 2, "manifests": entries }).to_string().into()),
    ];
    for image in images {
        let manifests = image.manifests().map(|manifest| (manifest.digest(), manifest.bytes()));
        for (digest, bytes) in manifests.chain(&image.blobs) {
            let path = blob_path(digest);
            if files.iter().all(|(name, _)| *name != path) {
                files.push((path, bytes.clone()));
            }
        }
    }
    files
}

/// skopeo's `dir:` of an image.
pub(crate) fn dir(image: &Image) -> Files {
    let mut files = vec![
        ("version".to_owned(), Bytes::from_static(b"Directory Transport Version: 1.1\n")),
        ("manifest.json".to_owned(), image.manifest.bytes().clone()),
    ];
    files.extend(
        image.children.iter().map(|child| (format!("{}.manifest.json", child.digest().hex()), child.bytes().clone())),
    );
    files.extend(image.blobs.iter().map(|(digest, bytes)| (digest.hex(), bytes.clone())));
    files
}

/// What Docker before 25 writes for an image whose layers are not compressed.
pub(crate) fn saved(image: &Image, tags: &[&str]) -> Files {
    let config = image.manifest.config().unwrap().digest;
    let mut files: Files = Vec::new();
    let mut layers = Vec::new();
    for layer in image.manifest.layers() {
        let name = format!("{}/layer.tar", layer.digest.hex());
        if !layers.contains(&name) {
            files.push((name.clone(), image.blobs[&layer.digest].clone()));
        }
        layers.push(name);
    }
    files.push((format!("{}.json", config.hex()), image.blobs[&config].clone()));
    let table = json!([{ "Config": format!("{}.json", config.hex()), "RepoTags": tags, "Layers": layers }]);
    files.push(("manifest.json".to_owned(), table.to_string().into()));
    files
}

pub(crate) fn header(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

/// An archive of these files.
pub(crate) fn archive(files: &Files) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        archive.append(&header(name, tar::EntryType::Regular, bytes.len() as u64), &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

pub(crate) fn write_folder(folder: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// The names of the images, empty where there is none.
pub(crate) async fn names(collection: &dyn Collection) -> Vec<String> {
    let images = collection.images().await.unwrap();
    images.into_iter().map(|held| held.name.unwrap_or_default()).collect()
}

/// Reads everything that an image needs, and checks it.
pub(crate) async fn expect_whole(what: &str, collection: &dyn Collection, held: &Held) {
    let content = collection.content();
    let mut manifests = vec![held.descriptor.clone()];
    while let Some(descriptor) = manifests.pop() {
        let manifest = content.manifest(&descriptor).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        manifests.extend(manifest.children().cloned());
        for blob in manifest.blobs() {
            let stream = content.blob(blob, 0).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            let bytes: Vec<Bytes> = stream.try_collect().await.unwrap();
            assert_eq!(blob.digest.algorithm().digest(&bytes.concat()), blob.digest, "{what}: a blob");
        }
    }
}

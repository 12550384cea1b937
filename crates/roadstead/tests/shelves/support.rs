//! The files of foreign registries, made by code.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use roadstead::image::{Copied, Copier, CopyError, CopyOptions, Silent, Sink as _, Source};
use roadstead::oci::{Digest, Reference, Repository, Tag};
use roadstead::store::{Condition, Headers, MemoryStore, Naming, Store as _};
use roadstead::testing::{Image, ImageBuilder, IndexBuilder, Layer, noise};
use roadstead::tree::Tree;

/// Contents by path.
pub(crate) type Files = BTreeMap<String, Bytes>;

/// An image of two platforms, what refers to it, and the list of that, as clients keep it under a tag.
pub(crate) struct Fixture {
    pub(crate) image: Image,
    pub(crate) referrer: Image,
    pub(crate) list: Image,
}

pub(crate) fn fixture() -> Fixture {
    let of = |platform| {
        let large = Layer::new().file("large", noise(1, 300_000), 0o644);
        ImageBuilder::new().layer(large).platform(platform).build()
    };
    let image = IndexBuilder::new().attested_image(of("linux/amd64")).image(of("linux/arm64")).build();
    let artifact = ImageBuilder::new().artifact_type("application/x.y").subject(&image.descriptor());
    let referrer = artifact.blob("text/plain", "x").build();
    let list = IndexBuilder::new().image(referrer.clone()).build();
    Fixture { image, referrer, list }
}

impl Fixture {
    /// Every image by its tag.
    pub(crate) fn tagged(&self) -> [(String, &Image); 2] {
        [("1".to_owned(), &self.image), (Tag::referrers_fallback(&self.image.digest()).to_string(), &self.list)]
    }
}

/// Where distribution keeps the bytes of a digest.
pub(crate) fn data(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("docker/registry/v2/blobs/{}/{}/{hex}/data", digest.algorithm(), &hex[..2])
}

/// The folder of a repository in distribution's storage.
pub(crate) fn home(repository: &str) -> String {
    format!("docker/registry/v2/repositories/{repository}")
}

/// Distribution's storage.
pub(crate) fn distribution(repository: &str, images: &[(String, &Image)]) -> Files {
    let mut files = Files::new();
    let home = home(repository);
    let link = |digest: &Digest| Bytes::from(digest.to_string());
    for (tag, image) in images {
        for manifest in image.manifests() {
            let digest = manifest.digest();
            files.insert(data(digest), manifest.bytes().clone());
            let revision = format!("{home}/_manifests/revisions/{}/{}/link", digest.algorithm(), digest.hex());
            files.insert(revision, link(digest));
        }
        for (digest, bytes) in &image.blobs {
            files.insert(data(digest), bytes.clone());
            files.insert(format!("{home}/_layers/{}/{}/link", digest.algorithm(), digest.hex()), link(digest));
        }
        files.insert(format!("{home}/_manifests/tags/{tag}/current/link"), link(&image.digest()));
    }
    files
}

/// registrish's folder.
pub(crate) fn registrish(repository: &str, images: &[(String, &Image)]) -> Files {
    let mut files = Files::from([
        ("v2/.htaccess".to_owned(), Bytes::from_static(b"ErrorDocument 404 /v2/error.json\n")),
        ("v2/error.json".to_owned(), Bytes::from_static(b"{}\n")),
        (format!("v2/{repository}/manifests/.htaccess"), Bytes::new()),
    ]);
    for (tag, image) in images {
        for manifest in image.manifests() {
            files.insert(format!("v2/{repository}/manifests/{}", manifest.digest()), manifest.bytes().clone());
        }
        for (digest, bytes) in &image.blobs {
            files.insert(format!("v2/{repository}/blobs/{digest}"), bytes.clone());
        }
        files.insert(format!("v2/{repository}/manifests/{tag}"), image.manifest.bytes().clone());
    }
    files
}

/// static-container-registry's folder.
pub(crate) fn folders(repository: &str, images: &[(String, &Image)]) -> Files {
    let mut files = Files::new();
    for (tag, image) in images {
        let home = format!("images/{repository}/{tag}");
        files.insert(format!("{home}/version"), Bytes::from_static(b"Directory Transport Version: 1.1\n"));
        files.insert(format!("{home}/manifest.json"), image.manifest.bytes().clone());
        for child in &image.children {
            files.insert(format!("{home}/{}.manifest.json", child.digest().hex()), child.bytes().clone());
        }
        for (digest, bytes) in &image.blobs {
            files.insert(format!("{home}/{}", digest.hex()), bytes.clone());
        }
    }
    files
}

pub(crate) fn write(folder: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("it is below the folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
}

/// The same files as the objects of a bucket.
pub(crate) async fn stored(files: &Files) -> MemoryStore {
    let store = MemoryStore::new(Naming::Copies);
    for (name, bytes) in files {
        let key = name.parse().expect("a key");
        let written = store.put(&key, bytes.clone(), &Headers::default(), Condition::Always).await;
        let _ = written.expect("memory can be written");
    }
    store
}

/// What a folder holds: each path with its kind, size and the times at which it was changed.
pub(crate) fn state(folder: &Path) -> BTreeMap<String, (u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).expect("it is there");
        if metadata.is_dir() {
            open.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        }
        let times = (metadata.size(), metadata.ctime(), metadata.ctime_nsec());
        found.insert(path.display().to_string(), times);
    }
    found
}

/// An empty tree.
pub(crate) async fn tree() -> Tree {
    Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.expect("a tree")
}

/// Copies one tag into a tree, under the same names.
pub(crate) async fn copy(source: &dyn Source, name: &str, tree: &Tree) -> Result<Copied, CopyError> {
    let (repository, tag) = name.split_once(':').expect("a repository and a tag");
    let (repository, tag): (Repository, Tag) = (repository.parse().expect("a repository"), tag.parse().expect("a tag"));
    let sink = tree.repository(&repository).await.expect("a sink");
    let copier = Copier::new(CopyOptions { referrers: true, ..CopyOptions::default() }, Arc::new(Silent));
    let from = source.repository(&repository);
    let copied = copier.copy(&*from, &Reference::Tag(tag.clone()), &*sink, &[tag]).await?;
    sink.finish().await.expect("lists");
    Ok(copied)
}

/// The repositories and their tags, sorted: `app:1`.
pub(crate) async fn names(source: &dyn Source) -> Vec<String> {
    let repositories: Vec<Repository> =
        source.repositories().await.expect("a list").try_collect().await.expect("repositories");
    let mut names = Vec::new();
    for repository in repositories {
        let tags: Vec<Tag> = source.repository(&repository).tags().try_collect().await.expect("tags");
        names.extend(tags.iter().map(|tag| format!("{repository}:{tag}")));
    }
    names.sort_unstable();
    names
}

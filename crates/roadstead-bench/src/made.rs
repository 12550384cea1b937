//! Trees that are there at once.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::corpus::digest;

/// On how many bases the images stand.
const BASES: usize = 10;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A tree written file by file, as its format says, since ten thousand additions would take longer than all that is measured.
pub(crate) struct MadeTree {
    root: PathBuf,
    images: usize,
}

/// What a descriptor says of it.
#[derive(Clone)]
pub(crate) struct Content {
    digest: String,
    size: usize,
}

impl MadeTree {
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root.join("v2"))?;
        fs::create_dir_all(root.join("content/blobs"))?;
        fs::create_dir_all(root.join(".roadstead"))?;
        fs::write(root.join(".roadstead/format"), r#"{"format":1}"#)?;
        Ok(Self { root: root.to_owned(), images: 0 })
    }

    /// A small image on one of a few bases.
    pub(crate) fn image(&mut self, repository: &str, tag: &str) -> io::Result<()> {
        let mut layers = self.next_base(repository)?;
        layers.push(self.blob(repository, format!("layer of {repository}:{tag}").as_bytes())?);
        self.manifest(repository, tag, &layers)
    }

    /// Another tag for an image that has one.
    pub(crate) fn again(&self, repository: &str, tag: &str, new: &str) -> io::Result<()> {
        let folder = self.root.join(format!("v2/{repository}/manifests"));
        symlink(fs::read_link(folder.join(tag))?, folder.join(new))
    }

    /// The manifests of a repository in another one as deep, with its list of tags; without their blobs.
    pub(crate) fn copy(&self, repository: &str, tag: &str, other: &str) -> io::Result<()> {
        let into = self.root.join(format!("v2/{other}/manifests"));
        fs::create_dir_all(&into)?;
        for entry in fs::read_dir(self.root.join(format!("v2/{repository}/manifests")))? {
            let entry = entry?;
            symlink(fs::read_link(entry.path())?, into.join(entry.file_name()))?;
        }
        let tags = self.root.join(format!("v2/{other}/tags"));
        fs::create_dir_all(&tags)?;
        fs::write(tags.join("list"), json!({"name": other, "tags": [tag]}).to_string())
    }

    /// The catalogue of so many repositories.
    pub(crate) fn catalog(&self, count: usize, name: impl Fn(usize) -> String) -> io::Result<()> {
        let names: Vec<String> = (0..count).map(name).collect();
        fs::write(self.root.join("v2/_catalog"), json!({"repositories": names}).to_string())
    }

    pub(crate) fn blob(&self, repository: &str, bytes: &[u8]) -> io::Result<Content> {
        let digest = digest(bytes);
        self.keep(repository, "blobs", &format!("content/blobs/{digest}"), &digest, bytes)?;
        Ok(Content { digest, size: bytes.len() })
    }

    /// An image of these layers under a tag.
    pub(crate) fn manifest(&self, repository: &str, tag: &str, layers: &[Content]) -> io::Result<()> {
        let manifest = self.untagged(repository, tag, layers)?;
        self.link(repository, "manifests", tag, &content_of(MANIFEST, &manifest.digest))
    }

    /// An index of small images on one base, one for each platform.
    pub(crate) fn index(&mut self, repository: &str, tag: &str, architectures: &[&str]) -> io::Result<()> {
        let layers = self.next_base(repository)?;
        let mut children = Vec::new();
        for architecture in architectures {
            let child = self.untagged(repository, &format!("{tag} for {architecture}"), &layers)?;
            let mut entry = entry(MANIFEST, &child);
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            children.push(entry);
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).to_string();
        let digest = digest(index.as_bytes());
        let content = content_of(INDEX, &digest);
        self.keep(repository, "manifests", &content, &digest, index.as_bytes())?;
        self.link(repository, "manifests", tag, &content)
    }

    fn next_base(&mut self, repository: &str) -> io::Result<Vec<Content>> {
        self.images += 1;
        let base = self.images % BASES;
        (0..4).map(|layer| self.blob(repository, format!("layer {layer} of base {base}").as_bytes())).collect()
    }

    /// An image by digest alone, whose config nothing else has.
    fn untagged(&self, repository: &str, name: &str, layers: &[Content]) -> io::Result<Content> {
        let config = json!({
            "os": "linux", "architecture": "amd64", "config": {"Labels": {"name": name, "of": repository}},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| &layer.digest).collect::<Vec<_>>()},
        });
        let config = self.blob(repository, config.to_string().as_bytes())?;
        let layers: Vec<_> = layers.iter().map(|blob| entry("application/vnd.oci.image.layer.v1.tar", blob)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": entry("application/vnd.oci.image.config.v1+json", &config), "layers": layers,
        });
        let bytes = manifest.to_string();
        let digest = digest(bytes.as_bytes());
        self.keep(repository, "manifests", &content_of(MANIFEST, &digest), &digest, bytes.as_bytes())?;
        Ok(Content { digest, size: bytes.len() })
    }

    /// Writes content unless it is there, and names it.
    fn keep(&self, repository: &str, folder: &str, content: &str, digest: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.root.join(content);
        if !path.exists() {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&path, bytes)?;
        }
        self.link(repository, folder, digest, content)
    }

    fn link(&self, repository: &str, folder: &str, name: &str, content: &str) -> io::Result<()> {
        let key = format!("v2/{repository}/{folder}/{name}");
        let path = self.root.join(&key);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let target = "../".repeat(key.matches('/').count()) + content;
        match symlink(target, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }
}

fn entry(media_type: &str, content: &Content) -> Value {
    json!({"mediaType": media_type, "digest": content.digest, "size": content.size})
}

fn content_of(media_type: &str, digest: &str) -> String {
    format!("content/manifests/{media_type}/{digest}")
}

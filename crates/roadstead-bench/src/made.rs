//! Trees that are there at once.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::corpus::digest;

/// On how many bases the images stand.
const BASES: usize = 10;

/// A tree written file by file, as its format says, since ten thousand additions would take longer than all that is measured.
pub(crate) struct MadeTree {
    root: PathBuf,
    images: usize,
}

#[derive(Clone)]
pub(crate) struct Blob {
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
        self.images += 1;
        let base = self.images % BASES;
        let mut layers = Vec::new();
        for layer in 0..4 {
            layers.push(self.blob(repository, format!("layer {layer} of base {base}").as_bytes())?);
        }
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

    pub(crate) fn blob(&self, repository: &str, bytes: &[u8]) -> io::Result<Blob> {
        let digest = digest(bytes);
        self.keep(repository, "blobs", &format!("content/blobs/{digest}"), &digest, bytes)?;
        Ok(Blob { digest, size: bytes.len() })
    }

    pub(crate) fn manifest(&self, repository: &str, tag: &str, layers: &[Blob]) -> io::Result<()> {
        const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
        let config = json!({
            "os": "linux", "architecture": "amd64", "config": {"Labels": {"name": tag, "of": repository}},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| &layer.digest).collect::<Vec<_>>()},
        });
        let config = self.blob(repository, config.to_string().as_bytes())?;
        let entry =
            |media_type: &str, blob: &Blob| json!({"mediaType": media_type, "digest": blob.digest, "size": blob.size});
        let layers: Vec<_> = layers.iter().map(|blob| entry("application/vnd.oci.image.layer.v1.tar", blob)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": TYPE,
            "config": entry("application/vnd.oci.image.config.v1+json", &config), "layers": layers,
        });
        let bytes = manifest.to_string();
        let digest = digest(bytes.as_bytes());
        let content = format!("content/manifests/{TYPE}/{digest}");
        self.keep(repository, "manifests", &content, &digest, bytes.as_bytes())?;
        self.link(repository, "manifests", tag, &content)
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

//! Writing what `docker load` reads.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::TABLE;
use crate::image::{RepositorySink, SinkError};
use crate::medium::depot::Depot;
use crate::medium::image_layout::{Spooled, closing, write_archive};
use crate::medium::output::Output;
use crate::oci::{Digest, ImageReference, Kind, Manifest};

/// Writes images as an archive for `docker load`.
///
/// It is an OCI layout with a `manifest.json`, as Docker itself has written since 25: every engine since 1.10 loads it, and
/// whoever reads layouts finds the manifests with their digests. Layers stay compressed, since all engines take gzip. An
/// image is for one platform: the engines without containerd's store know nothing else.
///
/// Everything is gathered in a new folder first, and written when the archive is closed. The same images make the same bytes,
/// whatever the order in which they came.
pub struct DockerArchiveSink {
    depot: Arc<Depot>,
    /// Never locked: a stream need not be shared between threads for the sink to be.
    output: Mutex<Output>,
}

impl DockerArchiveSink {
    /// An archive that goes to `output`. What it is made of lies in a new folder below `spool` until it is closed.
    ///
    /// # Errors
    ///
    /// If `spool` can't be written.
    pub fn create(output: impl Into<Output>, spool: &Path) -> Result<Self, SinkError> {
        Ok(Self { depot: Arc::new(Depot::temporary(spool, 0o700, Spooled)?), output: Mutex::new(output.into()) })
    }

    /// Where images go that `name` says registry and repository of: each tag makes a full name of the three. Without `name`
    /// an image has no name that engines would take.
    #[must_use]
    pub fn image(&self, name: Option<&ImageReference>) -> Box<dyn RepositorySink> {
        self.depot.image(name)
    }

    /// Writes the archive.
    ///
    /// # Errors
    ///
    /// If it can't be written, or holds what Docker can't load: an image for several platforms, or none. A file is then as it
    /// was, or not there.
    pub async fn close(self) -> Result<(), SinkError> {
        closing(move || {
            let table = table(&self.depot)?.to_string();
            let output = self.output.into_inner().unwrap_or_else(PoisonError::into_inner);
            output.write(|output| write_archive(&self.depot, &[(TABLE, table)], output))
        })
        .await
    }
}

/// The table of contents: each image once, with all its names.
fn table(depot: &Depot) -> Result<Value, SinkError> {
    let mut images: Vec<(Manifest, Vec<String>)> = Vec::new();
    for root in depot.roots() {
        let Some(image) = image(depot, &root.digest)? else { continue };
        match images.iter_mut().find(|(other, _)| other.digest() == image.digest()) {
            Some((_, names)) => names.extend(root.full),
            None => images.push((image, root.full.into_iter().collect())),
        }
    }
    let path = |digest: &Digest| super::image_layout::blob_path(digest);
    let entries = images.iter().map(|(image, names)| {
        let layers: Vec<String> = image.layers().iter().map(|layer| path(&layer.digest)).collect();
        json!({ "Config": image.config().map(|config| path(&config.digest)), "RepoTags": names, "Layers": layers })
    });
    Ok(entries.collect())
}

/// The image that an engine would run; `None` for what only refers to another manifest.
fn image(depot: &Depot, digest: &Digest) -> Result<Option<Manifest>, SinkError> {
    let failed = |problem: &str| SinkError::new(&format!("image {digest}"), problem);
    let read = |digest: &Digest| depot.manifest(digest).map_err(|e| SinkError::new(&format!("manifest {digest}"), e));
    let Some(manifest) = read(digest)? else { return Err(failed("it was never put")) };
    if manifest.kind() == Kind::Index {
        let mut images = Vec::new();
        for child in manifest.children().filter(|child| child.attests().is_none()) {
            images.extend(read(&child.digest)?.filter(is_runnable));
        }
        return match images.len() {
            1 => Ok(images.pop()),
            0 => Err(failed("no part of it is an image that Docker can load")),
            _ => Err(failed("it is for several platforms, and an archive for Docker holds one: choose it")),
        };
    }
    if is_runnable(&manifest) {
        return Ok(Some(manifest));
    }
    if manifest.subject().is_some() { Ok(None) } else { Err(failed("it is no image that Docker can load")) }
}

fn is_runnable(manifest: &Manifest) -> bool {
    const CONFIGS: [&str; 2] =
        ["application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json"];
    manifest.config().is_some_and(|config| CONFIGS.contains(&&*config.media_type))
}

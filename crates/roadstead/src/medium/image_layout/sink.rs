//! Writing a layout, into a folder or an archive.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::{FULL_NAME, INDEX, MARKER, MAX_INDEX, REF_NAME, blob_path};
use crate::image::{RepositorySink, SinkError};
use crate::medium::depot::{Depot, Form, Root};
use crate::medium::output::Output;
use crate::medium::section::read_range;
use crate::oci::{Digest, ImageReference, MediaType};
use crate::store::open_regular;

const MARKER_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes images as a layout.
///
/// In a folder, blobs and manifests are there as soon as they are whole, an image when it is tagged, one without a tag when
/// it is finished. An archive is written when it is closed, and has the same bytes for the same images whatever the order in
/// which they came.
pub struct ImageLayoutSink {
    depot: Arc<Depot>,
    /// Never locked: a stream need not be shared between threads for the sink to be.
    output: Option<Mutex<Output>>,
}

impl ImageLayoutSink {
    /// A layout in a folder, which is made if it isn't there. If it is a layout already, what it holds stays, and a name that
    /// it has gets another meaning.
    ///
    /// # Errors
    ///
    /// If the folder can't be written, or holds something else.
    pub fn create(folder: &Path) -> Result<Self, SinkError> {
        let failed = |e: io::Error| SinkError::new(&folder.display(), e);
        fs::create_dir_all(folder).map_err(failed)?;
        let root = fs::canonicalize(folder).map_err(failed)?;
        if !root.join(MARKER).is_file() {
            if fs::read_dir(&root).map_err(failed)?.next().is_some() {
                return Err(SinkError::new(&folder.display(), "the folder holds other things than an image layout"));
            }
            fs::write(root.join(MARKER), MARKER_TEXT).map_err(failed)?;
        }
        Ok(Self { depot: Arc::new(Depot::lasting(&root, Lasting)), output: None })
    }

    /// A layout in a tar archive. What it is made of lies in a new folder below `spool` until it is closed.
    ///
    /// # Errors
    ///
    /// If `spool` can't be written.
    pub fn create_archive(output: impl Into<Output>, spool: &Path) -> Result<Self, SinkError> {
        Ok(Self { depot: Arc::new(Depot::temporary(spool, 0o700, Spooled)?), output: Some(Mutex::new(output.into())) })
    }

    /// Where images go that `name` says registry and repository of: each tag makes a full name of the three. Without `name`
    /// an image has only the tag, or nothing, for its name.
    #[must_use]
    pub fn image(&self, name: Option<&ImageReference>) -> Box<dyn RepositorySink> {
        self.depot.image(name)
    }

    /// Writes what is still to be written: the archive, or the entries of images without a name.
    ///
    /// # Errors
    ///
    /// If it can't be written. An archive in a file is then as it was, or not there.
    pub async fn close(self) -> Result<(), SinkError> {
        closing(move || match self.output {
            None => self.depot.show().map_err(|e| SinkError::new(&self.depot.root().display(), e)),
            Some(output) => output
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner)
                .write(|output| write_archive(&self.depot, &[], output)),
        })
        .await
    }
}

/// Runs the end of a sink on a thread that may block.
pub(in crate::medium) async fn closing(
    work: impl FnOnce() -> Result<(), SinkError> + Send + 'static,
) -> Result<(), SinkError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(SinkError::new("the end", e)))
}

/// A layout that others may look at.
struct Lasting;

impl Form for Lasting {
    fn blob(&self, digest: &Digest) -> String {
        blob_path(digest)
    }

    fn manifest(&self, digest: &Digest) -> String {
        blob_path(digest)
    }

    fn show(&self, root: &Path, images: &[Root]) -> io::Result<bool> {
        let path = root.join(INDEX);
        // Against others of our kind; other programs know no lock.
        let folder = File::open(root)?;
        folder.lock()?;
        // Read anew each time: other programs write to layouts, too.
        let mut index = match open_regular(&path)? {
            Some((file, metadata)) if metadata.len() <= MAX_INDEX => {
                serde_json::from_slice(&read_range(&file, 0..metadata.len())?)?
            }
            Some(_) => return Err(io::Error::other(format!("{INDEX} is larger than {MAX_INDEX} bytes"))),
            None => empty(),
        };
        if !merge(&mut index, images)? && path.is_file() {
            return Ok(false);
        }
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .tempfile_in(root)?;
        file.write_all(index.to_string().as_bytes())?;
        file.as_file().sync_data()?;
        file.persist(&path)?;
        Ok(true)
    }
}

/// A layout in the making, which nobody looks at.
pub(in crate::medium) struct Spooled;

impl Form for Spooled {
    fn blob(&self, digest: &Digest) -> String {
        blob_path(digest)
    }

    fn manifest(&self, digest: &Digest) -> String {
        blob_path(digest)
    }

    fn show(&self, _: &Path, _: &[Root]) -> io::Result<bool> {
        Ok(true)
    }
}

fn empty() -> Value {
    json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [] })
}

/// Adds images to a table of contents. What else is in it stays as it is. Returns whether anything changed.
fn merge(index: &mut Value, images: &[Root]) -> io::Result<bool> {
    let list = index.as_object_mut().map(|index| index.entry("manifests").or_insert_with(|| json!([])));
    let list = list.and_then(|list| {
        // Some writers put `null` where there are none.
        list.is_null().then(|| *list = json!([]));
        list.as_array_mut()
    });
    let list = list.ok_or_else(|| io::Error::other(format!("{INDEX} is no image index")))?;
    let mut changed = false;
    for image in images {
        let annotation = |entry: &Value, key: &str| entry["annotations"][key].as_str().map(str::to_owned);
        let is_named = |entry: &Value| annotation(entry, FULL_NAME).is_some() || annotation(entry, REF_NAME).is_some();
        let digest = image.digest.to_string();
        let has_digest = |entry: &Value| entry["digest"].as_str() == Some(&digest);
        let Some(tag) = &image.tag else {
            if !list.iter().any(has_digest) {
                list.push(entry(image));
                changed = true;
            }
            continue;
        };
        let is_same = |entry: &Value| match (annotation(entry, FULL_NAME), annotation(entry, REF_NAME)) {
            (Some(full), _) => Some(full) == image.full,
            // skopeo and others find an image by this alone: an older one of that name would be found in its place.
            (None, Some(name)) => name == tag.as_str() || Some(name) == image.full,
            (None, None) => false,
        };
        if list.iter().any(|entry| is_same(entry) && has_digest(entry)) {
            continue;
        }
        // Its entry without a name is its own, too.
        list.retain(|entry| !is_same(entry) && (is_named(entry) || !has_digest(entry)));
        list.push(entry(image));
        changed = true;
    }
    Ok(changed)
}

fn entry(image: &Root) -> Value {
    let mut entry = json!({ "mediaType": image.media_type, "digest": image.digest, "size": image.size });
    if let Some(full) = &image.full {
        entry["annotations"][FULL_NAME] = json!(full);
    }
    if let Some(tag) = &image.tag {
        entry["annotations"][REF_NAME] = json!(tag);
    }
    entry
}

/// Writes a depot's layout as a tar archive, with `more` files beside its own. The same content gives the same bytes: names
/// are sorted, everything belongs to root and is from 1970.
pub(in crate::medium) fn write_archive(
    depot: &Depot,
    more: &[(&str, String)],
    output: &mut dyn Write,
) -> Result<(), SinkError> {
    let failed = |e: io::Error| SinkError::new("the archive", e);
    let roots = depot.roots();
    let content = depot.reachable(&roots)?;
    let mut index = empty();
    index["manifests"] = roots.iter().map(entry).collect();
    // What says what the archive is comes first: who reads it through a pipe need not read all to know.
    let mut files = vec![(MARKER, MARKER_TEXT.to_owned()), (INDEX, index.to_string())];
    files.extend_from_slice(more);
    let mut archive = tar::Builder::new(output);
    for (name, text) in files {
        archive.append_data(&mut header(text.len() as u64), name, text.as_bytes()).map_err(failed)?;
    }
    let mut folder = String::new();
    for digest in content {
        let name = blob_path(&digest);
        let own = format!("blobs/{}/", digest.algorithm());
        if own != folder {
            for folder in if folder.is_empty() { vec!["blobs/", &own] } else { vec![&*own] } {
                let mut header = header(0);
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                archive.append_data(&mut header, folder, io::empty()).map_err(failed)?;
            }
            folder = own;
        }
        let file = File::open(depot.blob_path(&digest)).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        archive.append_data(&mut header(size), name, file).map_err(failed)?;
    }
    archive.finish().map_err(failed)
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

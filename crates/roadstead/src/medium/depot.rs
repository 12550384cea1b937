//! Where archives, layouts and folders gather what is written to them: files by digest, and what they are to be called.
//!
//! Blobs come in any order and several at once, while an archive is one sequence whose order shall not depend on chance. So
//! everything is a file first, verified before it has its name, and the table of contents comes last.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use tempfile::{NamedTempFile, TempDir};
use tokio::sync::mpsc;

use crate::image::{ByteStream, Claim, PutError, RepositorySink, SinkError};
use crate::oci::{
    Algorithm, Descriptor, Digest, ImageReference, MAX_BLOB_SIZE, MAX_MANIFEST_SIZE, Manifest, Registry, Repository,
    Tag,
};
use crate::store::open_regular;

/// The largest blob that is handed out as a small one.
const MAX_SMALL: u64 = 4 << 20;

/// How many pieces of a blob may wait for the disk.
const QUEUED: usize = 4;

/// What a kind of medium does in its own way.
pub(super) trait Form: Send + Sync {
    /// The name of a blob's file.
    fn blob(&self, digest: &Digest) -> String;
    /// The name of a manifest's file.
    fn manifest(&self, digest: &Digest) -> String;
    /// Called when images have been named or finished: shows them, if the medium shows anything before its end. Returns
    /// whether a name means something else than before.
    fn show(&self, root: &Path, images: &[Root]) -> io::Result<bool>;
}

/// A manifest that no other one here contains, under one of its names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Root {
    /// `registry/repository:tag`, if the image has such a name.
    pub(super) full: Option<String>,
    pub(super) tag: Option<Tag>,
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) size: u64,
}

/// The folder, and what was put into it.
pub(super) struct Depot {
    root: PathBuf,
    form: Box<dyn Form>,
    /// Whether bytes are on the disk before they have a name.
    durable: bool,
    state: Mutex<State>,
    /// The folder itself, if it goes with this. One that was given another name stays under that.
    _temporary: Option<TempDir>,
}

#[derive(Default)]
struct State {
    /// What was committed, with what each contains.
    manifests: BTreeMap<Digest, (Descriptor, Vec<Digest>)>,
    names: BTreeSet<Root>,
}

impl State {
    fn unnamed(&self) -> Vec<Root> {
        let below: HashSet<&Digest> = self.manifests.values().flat_map(|(_, below)| below).collect();
        let named: HashSet<&Digest> = self.names.iter().map(|root| &root.digest).collect();
        let manifests = self.manifests.values().map(|(descriptor, _)| descriptor);
        let unnamed =
            manifests.filter(|manifest| !below.contains(&manifest.digest) && !named.contains(&manifest.digest));
        unnamed.map(|descriptor| root_of(descriptor, None, None)).collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Depot {
    /// In a folder that stays, and exists.
    pub(super) fn lasting(root: &Path, form: impl Form + 'static) -> Self {
        let (root, form) = (root.to_owned(), Box::new(form));
        Self { root, form, durable: true, state: Mutex::default(), _temporary: None }
    }

    /// In a new folder of this mode, less the umask, below `parent`, which goes with this.
    pub(super) fn temporary(parent: &Path, mode: u32, form: impl Form + 'static) -> Result<Self, SinkError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".roadstead-").permissions(Permissions::from_mode(mode));
        let temporary = builder.tempdir_in(parent).map_err(|e| SinkError::new(&parent.display(), e))?;
        let (root, form) = (temporary.path().to_owned(), Box::new(form));
        Ok(Self { root, form, durable: false, state: Mutex::default(), _temporary: Some(temporary) })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A sink for images that `name` says registry and repository of; each tag makes a name of the three. Without `name` an
    /// image is called by its tag alone.
    pub(super) fn image(self: &Arc<Self>, name: Option<&ImageReference>) -> Box<dyn RepositorySink> {
        Box::new(DepotSink {
            depot: self.clone(),
            name: name.map(|name| (name.registry.clone(), name.repository.clone())),
            own: Mutex::default(),
            pending: Mutex::default(),
        })
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(self.form.blob(digest))
    }

    /// Everything that has a name, then what has none and lies below nothing, each in an order of its own.
    pub(super) fn roots(&self) -> Vec<Root> {
        let state = locked(&self.state);
        state.names.iter().cloned().chain(state.unnamed()).collect()
    }

    /// The manifest with that digest, if it is there and whole. Blocks.
    pub(super) fn manifest(&self, digest: &Digest) -> io::Result<Option<Manifest>> {
        let path = self.root.join(self.form.manifest(digest));
        let Some(bytes) = read(&path, MAX_MANIFEST_SIZE)? else { return Ok(None) };
        let expected = Descriptor { size: None, ..Descriptor::new("", *digest, 0) };
        Ok(Manifest::verify(bytes, &expected).ok())
    }

    /// Everything that `roots` need and that is there, sorted. Blocks.
    pub(super) fn reachable(&self, roots: &[Root]) -> Result<BTreeSet<Digest>, SinkError> {
        let mut found = BTreeSet::new();
        let mut next: Vec<Digest> = roots.iter().map(|root| root.digest).collect();
        while let Some(digest) = next.pop() {
            let failed = |e| SinkError::new(&format!("manifest {digest}"), e);
            let Some(manifest) = self.manifest(&digest).map_err(failed)? else { continue };
            if !found.insert(digest) {
                continue;
            }
            next.extend(manifest.children().map(|child| child.digest));
            for blob in manifest.blobs() {
                if self.blob_path(&blob.digest).is_file() {
                    found.insert(blob.digest);
                } else if !blob.is_nondistributable() {
                    return Err(SinkError::new(&format!("blob {}", blob.digest), "it was never put"));
                }
            }
        }
        Ok(found)
    }

    /// Shows what has no name, too. Blocks.
    pub(super) fn show(&self) -> io::Result<()> {
        // Under the lock: of two that show at once, the later one has seen what the earlier one shows. What has a name was
        // shown when it got it.
        let state = locked(&self.state);
        self.form.show(&self.root, &state.unnamed()).map(drop)
    }

    fn begin(&self) -> io::Result<NamedTempFile> {
        // Readable by others, less the umask, as what other programs write there is.
        tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(&self.root)
    }

    /// Gives a file its name.
    fn name(&self, file: NamedTempFile, name: &str) -> io::Result<()> {
        let path = self.root.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        if self.durable {
            file.as_file().sync_data()?;
        }
        file.persist(&path)?;
        Ok(())
    }
}

fn root_of(descriptor: &Descriptor, full: Option<String>, tag: Option<Tag>) -> Root {
    let (media_type, size) = (descriptor.media_type.clone(), descriptor.size.unwrap_or_default());
    Root { full, tag, digest: descriptor.digest, media_type, size }
}

/// The bytes of a regular file of at most `limit` bytes, if there is one.
fn read(path: &Path, limit: u64) -> io::Result<Option<Bytes>> {
    match open_regular(path)? {
        Some((file, metadata)) if metadata.len() <= limit => {
            super::section::read_range(&file, 0..metadata.len()).map(Some)
        }
        _ => Ok(None),
    }
}

/// Images on their way into a depot.
struct DepotSink {
    depot: Arc<Depot>,
    name: Option<(Registry, Repository)>,
    /// What came through this sink: another one's content is linked, not present.
    own: Mutex<HashSet<Digest>>,
    /// Manifests that are not committed: of an image that fails halfway nothing is to be listed.
    pending: Mutex<Vec<(Descriptor, Vec<Digest>)>>,
}

impl DepotSink {
    fn failed(&self, e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SinkError {
        SinkError::new(&self.depot.root.display(), e)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Depot) -> io::Result<T> + Send + 'static,
    ) -> Result<T, SinkError> {
        let depot = self.depot.clone();
        let done = tokio::task::spawn_blocking(move || work(&depot)).await;
        done.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(|e| self.failed(e))
    }

    /// Writes `bytes` to a file without its name yet, while they come. There may be `limit` of them.
    async fn receive(
        &self,
        algorithm: Algorithm,
        limit: u64,
        too_long: impl Fn() -> PutError,
        mut bytes: ByteStream,
    ) -> Result<(NamedTempFile, Digest, u64), PutError> {
        let mut file = self.depot.begin().map_err(|e| self.failed(e))?;
        let (sender, mut pieces) = mpsc::channel::<Bytes>(QUEUED);
        let writer = tokio::task::spawn_blocking(move || {
            let mut hasher = algorithm.hasher();
            while let Some(piece) = pieces.blocking_recv() {
                hasher.update(&piece);
                file.write_all(&piece)?;
            }
            Ok((file, hasher.finish()))
        });
        let mut size = 0;
        while let Some(piece) = bytes.next().await {
            let piece = piece?;
            size += piece.len() as u64;
            // An endless stream is cut as soon as it is longer than it may be.
            if size > limit {
                return Err(too_long());
            }
            if sender.send(piece).await.is_err() {
                // The writer has failed, and says below why.
                break;
            }
        }
        drop(sender);
        let written = writer.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        let (file, digest) = written.map_err(|e| self.failed(e))?;
        Ok((file, digest, size))
    }

    async fn keep(&self, file: NamedTempFile, digest: Digest) -> Result<(), SinkError> {
        self.blocking(move |depot| depot.name(file, &depot.form.blob(&digest))).await?;
        locked(&self.own).insert(digest);
        Ok(())
    }
}

#[async_trait]
impl RepositorySink for DepotSink {
    async fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, SinkError> {
        let digest = *digest;
        self.blocking(move |depot| depot.manifest(&digest)).await
    }

    async fn small_blob(&self, blob: &Descriptor) -> Result<Option<Bytes>, SinkError> {
        let digest = blob.digest;
        let bytes = self.blocking(move |depot| read(&depot.blob_path(&digest), MAX_SMALL)).await?;
        Ok(bytes.filter(|bytes| digest.algorithm().digest(bytes) == digest))
    }

    async fn claim(&self, blob: &Descriptor) -> Result<Claim, SinkError> {
        let there = match open_regular(&self.depot.blob_path(&blob.digest)) {
            Ok(there) => there,
            Err(e) => return Err(self.failed(e)),
        };
        if there.is_none_or(|(_, metadata)| blob.size.is_some_and(|size| size != metadata.len())) {
            return Ok(Claim::Missing);
        }
        Ok(if locked(&self.own).insert(blob.digest) { Claim::Linked } else { Claim::Present })
    }

    async fn put_blob(&self, expected: &Descriptor, bytes: ByteStream) -> Result<(), PutError> {
        let limit = expected.size.unwrap_or(MAX_BLOB_SIZE);
        let too_long = || PutError::too_long(&expected.digest, limit);
        let (file, digest, size) = self.receive(expected.digest.algorithm(), limit, too_long, bytes).await?;
        PutError::check(expected, &digest, size)?;
        Ok(self.keep(file, digest).await?)
    }

    async fn add_blob(&self, algorithm: Algorithm, bytes: ByteStream) -> Result<(Digest, u64), PutError> {
        let too_long = || PutError::Mismatch { problem: format!("a blob is longer than {MAX_BLOB_SIZE} bytes") };
        let (file, digest, size) = self.receive(algorithm, MAX_BLOB_SIZE, too_long, bytes).await?;
        self.keep(file, digest).await?;
        Ok((digest, size))
    }

    async fn put_manifest(&self, manifest: &Manifest) -> Result<(), SinkError> {
        let (digest, bytes) = (*manifest.digest(), manifest.bytes().clone());
        self.blocking(move |depot| {
            let mut file = depot.begin()?;
            file.write_all(&bytes)?;
            depot.name(file, &depot.form.manifest(&digest))
        })
        .await?;
        let below = manifest.children().map(|child| child.digest).collect();
        locked(&self.pending).push((manifest.descriptor(), below));
        Ok(())
    }

    async fn leave_out(&self, _: &Digest, _: &[Digest]) -> Result<(), SinkError> {
        Ok(())
    }

    async fn commit(&self) -> Result<(), SinkError> {
        let committed = locked(&self.pending).drain(..).map(|put| (put.0.digest, put)).collect::<Vec<_>>();
        locked(&self.depot.state).manifests.extend(committed);
        Ok(())
    }

    async fn tag(&self, tag: &Tag, manifest: &Descriptor) -> Result<bool, SinkError> {
        self.commit().await?;
        let full = self.name.as_ref().map(|(registry, repository)| format!("{registry}/{repository}:{tag}"));
        let root = root_of(manifest, full, Some(tag.clone()));
        self.blocking(move |depot| {
            if depot.manifest(&root.digest)?.is_none() {
                return Err(io::Error::other(format!("manifest {} was never put", root.digest)));
            }
            let mut state = locked(&depot.state);
            let same = |other: &Root| (&other.full, &other.tag) == (&root.full, &root.tag);
            let before = state.names.iter().find(|other| same(other)).cloned();
            if let Some(before) = &before {
                state.names.remove(before);
            }
            let changed = before.is_none_or(|before| before.digest != root.digest);
            state.names.insert(root.clone());
            Ok(depot.form.show(&depot.root, &[root])? && changed)
        })
        .await
    }

    async fn finish(&self) -> Result<(), SinkError> {
        self.commit().await?;
        self.blocking(Depot::show).await
    }
}

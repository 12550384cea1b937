//! Makes what was written durable, in batches.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::upload::Temporary;
use super::{LocalStore, StoreError, blocking, failed};

/// A batch that grows beyond this is flushed while more is being written.
const EARLY_BYTES: u64 = 64 << 20;
/// And one of more files than this, so that a batch never holds more descriptors.
const EARLY_FILES: usize = 256;
/// From this many files or folders on, one sync of the whole file system is cheaper than one of each.
const SYNC_EACH: usize = 6;

/// An upload that is written and waits for its name.
pub(super) struct Pending {
    pub(super) file: File,
    pub(super) temporary: Temporary,
    pub(super) path: PathBuf,
}

#[derive(Default)]
struct Batch {
    uploads: Vec<Pending>,
    bytes: u64,
    folders: BTreeSet<PathBuf>,
}

#[derive(Default)]
struct State {
    batch: Batch,
    /// Counts writes; what a flush covers is everything up to the number at which it took the batch.
    written: u64,
    flushed: u64,
    broken: Option<String>,
}

#[derive(Default)]
pub(super) struct Flusher {
    state: Mutex<State>,
    /// Held by whoever flushes; the others wait here, and mostly find their work done.
    flushing: tokio::sync::Mutex<()>,
    skip_syncs: AtomicBool,
}

impl Flusher {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn skip_syncs(&self) {
        self.skip_syncs.store(true, Ordering::Relaxed);
    }

    pub(super) fn sync_file(&self, file: &File) -> io::Result<()> {
        if self.skip_syncs.load(Ordering::Relaxed) { Ok(()) } else { file.sync_data() }
    }

    /// Notes that entries of a folder changed.
    pub(super) fn touched(&self, folder: &Path) {
        let mut state = self.state();
        state.written += 1;
        if !state.batch.folders.contains(folder) {
            state.batch.folders.insert(folder.to_owned());
        }
    }

    /// Lets an upload wait for the next flush. Returns whether that should begin now.
    pub(super) fn push(&self, pending: Pending, bytes: u64) -> bool {
        let mut state = self.state();
        state.written += 1;
        state.batch.bytes += bytes;
        state.batch.uploads.push(pending);
        state.batch.bytes >= EARLY_BYTES || state.batch.uploads.len() >= EARLY_FILES
    }
}

/// Makes everything durable that was written before.
pub(super) async fn sync(store: &LocalStore) -> Result<(), StoreError> {
    let flusher = &store.0.flusher;
    let mine = flusher.state().written;
    let _flushing = flusher.flushing.lock().await;
    let (batch, covered) = {
        let mut state = flusher.state();
        if let Some(broken) = &state.broken {
            return Err(StoreError::Io {
                operation: "syncing",
                what: store.0.root.display().to_string(),
                source: format!("an earlier sync failed: {broken}").into(),
            });
        }
        if state.flushed >= mine {
            return Ok(());
        }
        (std::mem::take(&mut state.batch), state.written)
    };
    let flushed = {
        let store = store.clone();
        blocking(move || flush(&store, batch)).await
    };
    let mut state = flusher.state();
    match &flushed {
        Ok(()) => state.flushed = covered,
        Err(e) => {
            let cause = std::error::Error::source(e).map_or_else(String::new, |cause| format!(": {cause}"));
            state.broken = Some(format!("{e}{cause}"));
        }
    }
    flushed
}

fn flush(store: &LocalStore, batch: Batch) -> Result<(), StoreError> {
    let durable = !store.0.flusher.skip_syncs.load(Ordering::Relaxed);
    let root = &store.0.root;
    let whole = || -> Result<(), StoreError> {
        let folder = File::open(root).map_err(|e| failed("syncing", root, e))?;
        rustix::fs::syncfs(&folder).map_err(|e| failed("syncing", root, e.into()))
    };
    if durable && batch.uploads.len() > SYNC_EACH {
        whole()?;
    } else if durable {
        for pending in &batch.uploads {
            pending.file.sync_data().map_err(|e| failed("syncing", &pending.path, e))?;
        }
    }
    for Pending { temporary, path, .. } in batch.uploads {
        store.in_folder(&path, || fs::rename(&temporary.0, &path))?;
        store.0.flusher.touched(path.parent().unwrap_or(root));
    }
    // Naming the uploads may have made folders, which this flush covers as well.
    let mut folders = batch.folders;
    folders.append(&mut store.0.flusher.state().batch.folders);
    if durable && folders.len() > SYNC_EACH {
        whole()?;
    } else if durable {
        for folder in folders {
            match File::open(&folder).and_then(|folder| folder.sync_all()) {
                // Somebody removed it, and its parent is in the batch of whoever did.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(|e| failed("syncing", &folder, e))?,
            }
        }
    }
    Ok(())
}

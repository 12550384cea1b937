//! Makes what was written durable, in batches.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::upload::Temporary;
use super::{Inner, LocalStore, StoreError, blocking, failed};

/// A batch that grows beyond this is flushed while more is being written.
const EARLY_BYTES: u64 = 64 << 20;
/// And one of more files than this, so that a batch never holds more descriptors.
const EARLY_FILES: usize = 256;
/// No upload waits longer than this, so that of what a killed process had finished little is fetched again.
const LATEST: Duration = Duration::from_secs(1);
/// For more files than this, one sync of the whole file system is cheaper than one of each.
const SYNC_EACH: usize = 6;
/// And for more folders. Fewer than of files: nothing but a journal is written for a folder, and the first sync of one writes
/// what all of them need.
const SYNC_EACH_FOLDER: usize = 2;

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
    /// Up to which number uploads have their names, and up to which everything is durable.
    named: u64,
    flushed: u64,
    /// Whether somebody will flush after [`LATEST`].
    scheduled: bool,
    broken: Option<String>,
}

#[derive(Default)]
pub(super) struct Flusher {
    state: Mutex<State>,
    /// Held by whoever flushes; the others wait here, and mostly find their work done.
    flushing: Arc<tokio::sync::Mutex<()>>,
    skip_syncs: AtomicBool,
}

impl Flusher {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn skip_syncs(&self) {
        self.skip_syncs.store(true, Ordering::Relaxed);
    }

    pub(super) fn skips(&self) -> bool {
        self.skip_syncs.load(Ordering::Relaxed)
    }

    pub(super) fn sync_file(&self, file: &File) -> io::Result<()> {
        if self.skips() { Ok(()) } else { file.sync_data() }
    }

    /// Notes that entries of a folder changed.
    pub(super) fn touched(&self, folder: &Path) {
        let mut state = self.state();
        state.written += 1;
        if !state.batch.folders.contains(folder) {
            state.batch.folders.insert(folder.to_owned());
        }
    }

    /// Lets an upload wait for the next flush. Returns after how long that should begin, if nobody will see to it yet.
    fn push(&self, pending: Pending, bytes: u64) -> Option<Duration> {
        let mut state = self.state();
        state.written += 1;
        state.batch.bytes += bytes;
        state.batch.uploads.push(pending);
        if state.batch.bytes >= EARLY_BYTES || state.batch.uploads.len() >= EARLY_FILES {
            return Some(Duration::ZERO);
        }
        (!std::mem::replace(&mut state.scheduled, true)).then_some(LATEST)
    }

    /// The state, unless a sync failed: nobody knows then what is on the disk.
    fn whole(&self, root: &Path) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state();
        match &state.broken {
            Some(broken) => Err(StoreError::Io {
                operation: "syncing",
                what: root.display().to_string(),
                source: format!("an earlier sync failed: {broken}").into(),
            }),
            None => Ok(state),
        }
    }
}

/// Lets an upload wait for the next flush, and sees to it that there is one.
pub(super) fn push(store: &LocalStore, pending: Pending, bytes: u64) {
    let Some(after) = store.0.flusher.push(pending, bytes) else { return };
    let store = Arc::downgrade(&store.0);
    tokio::spawn(async move {
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
        // An error is kept, and reported to whoever relies on what could not be written.
        if let Some(inner) = store.upgrade()
            && !inner.flusher.state().batch.uploads.is_empty()
        {
            let _ = publish(&LocalStore(inner)).await;
        }
    });
}

/// Gives the uploads that were finished before their names.
pub(super) async fn publish(store: &LocalStore) -> Result<(), StoreError> {
    share(store, |state| state.named, |store| name_uploads(store)?.1.map_or(Ok(()), Err)).await
}

/// Makes everything durable that was written before.
pub(super) async fn sync(store: &LocalStore) -> Result<(), StoreError> {
    share(store, |state| state.flushed, flush).await
}

/// Does `work`, unless somebody did it meanwhile for everything that was written before the call, as `done` says.
async fn share(
    store: &LocalStore,
    done: fn(&State) -> u64,
    work: fn(&Inner) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let flusher = &store.0.flusher;
    let mine = flusher.state().written;
    let turn = flusher.flushing.clone().lock_owned().await;
    if done(&*flusher.whole(&store.0.root)?) >= mine {
        return Ok(());
    }
    let store = store.clone();
    // The turn goes with the work and not with whoever waits for it: who stops waiting doesn't stop the work, and the next
    // must not take a batch for done that is still on its way.
    blocking(move || {
        let _turn = turn;
        work(&store.0)
    })
    .await
}

/// Makes durable everything that has a name, and what was written to files that wait for theirs: one, or many that are
/// closed.
pub(super) async fn sync_with(store: &LocalStore, one: Option<File>) -> Result<(), StoreError> {
    let turn = store.0.flusher.flushing.clone().lock_owned().await;
    drop(store.0.flusher.whole(&store.0.root)?);
    let store = store.clone();
    blocking(move || {
        let (_turn, store) = (turn, &store.0);
        let folders = std::mem::take(&mut store.flusher.state().batch.folders);
        let synced = match one {
            Some(file) if folders.len() < SYNC_EACH_FOLDER => {
                let synced = store.flusher.sync_file(&file).map_err(|e| failed("syncing", &store.root, e));
                synced.and_then(|()| sync_folders(store, folders))
            }
            _ => sync_whole(store),
        };
        synced.map_err(|e| broken(store, e))
    })
    .await
}

/// Gives what still waits its name when the store is closed. Nothing refers to it yet, but the next attempt finds it.
pub(super) fn close(store: &Inner) {
    if !store.flusher.state().batch.uploads.is_empty() && store.flusher.state().broken.is_none() {
        // Whoever relied on it would have synced.
        let _ = flush(store);
    }
}

/// Makes the uploads that wait durable and names them. Returns what that covers, and what could not be named for good.
fn name_uploads(store: &Inner) -> Result<(u64, Option<StoreError>), StoreError> {
    let (mut uploads, covered) = {
        let mut state = store.flusher.state();
        state.scheduled = false;
        state.batch.bytes = 0;
        (std::mem::take(&mut state.batch.uploads), state.written)
    };
    if let Err(e) = sync_files(store, &uploads) {
        return Err(broken(store, e));
    }
    // Reversed, so that the last one is the next one.
    uploads.reverse();
    let mut collided = None;
    while let Some(pending) = uploads.last() {
        match store.in_folder(&pending.path, || fs::rename(&pending.temporary.0, &pending.path)) {
            Ok(()) => store.flusher.touched(pending.path.parent().unwrap_or(&store.root)),
            // No later attempt would end otherwise, and the others have nothing to do with it.
            Err(e @ StoreError::Collision { .. }) => collided = Some(e),
            Err(e) => {
                // The bytes are safe, only their name could not be made (a full disk): the next sync tries again.
                store.flusher.state().batch.uploads.append(&mut uploads);
                return Err(e);
            }
        }
        uploads.pop();
    }
    store.flusher.state().named = covered;
    Ok((covered, collided))
}

fn flush(store: &Inner) -> Result<(), StoreError> {
    let (covered, collided) = name_uploads(store)?;
    // Naming the uploads may have made folders, which this flush covers as well.
    let folders = std::mem::take(&mut store.flusher.state().batch.folders);
    if let Err(e) = sync_folders(store, folders) {
        return Err(broken(store, e));
    }
    store.flusher.state().flushed = covered;
    collided.map_or(Ok(()), Err)
}

fn broken(store: &Inner, e: StoreError) -> StoreError {
    let cause = std::error::Error::source(&e).map_or_else(String::new, |cause| format!(": {cause}"));
    store.flusher.state().broken = Some(format!("{e}{cause}"));
    e
}

/// One sync of the whole file system.
fn sync_whole(store: &Inner) -> Result<(), StoreError> {
    if store.flusher.skips() {
        return Ok(());
    }
    // The folder was opened before the first byte was written, so that no failure since then goes unreported.
    rustix::fs::syncfs(&store.folder).map_err(|e| failed("syncing", &store.root, e.into()))
}

fn sync_files(store: &Inner, uploads: &[Pending]) -> Result<(), StoreError> {
    if store.flusher.skips() {
        return Ok(());
    }
    if uploads.len() > SYNC_EACH {
        return sync_whole(store);
    }
    for pending in uploads {
        pending.file.sync_data().map_err(|e| failed("syncing", &pending.path, e))?;
    }
    Ok(())
}

fn sync_folders(store: &Inner, folders: BTreeSet<PathBuf>) -> Result<(), StoreError> {
    if store.flusher.skips() {
        return Ok(());
    }
    if folders.len() > SYNC_EACH_FOLDER {
        return sync_whole(store);
    }
    for folder in folders {
        match File::open(&folder).and_then(|folder| folder.sync_all()) {
            // Somebody removed it, and its parent is in the batch of whoever did.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|e| failed("syncing", &folder, e))?,
        }
    }
    Ok(())
}

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
    /// Counts what is written: uploads that are finished, and names.
    written: u64,
    /// Up to which number uploads have their names, and up to which names are durable.
    named: u64,
    durable: u64,
    /// How many wait for names to be durable.
    awaited: usize,
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
    share(store, |state| state.named, false).await
}

/// Makes everything durable that was written before.
pub(super) async fn sync(store: &LocalStore) -> Result<(), StoreError> {
    if !store.0.flusher.state().batch.uploads.is_empty() {
        publish(store).await?;
    }
    sync_names(store).await
}

/// Makes the names durable that were given before.
pub(super) async fn sync_names(store: &LocalStore) -> Result<(), StoreError> {
    let _awaiting = Awaiting::new(store);
    share(store, |state| state.durable, true).await
}

/// Says as long as it lives that somebody waits for names to be durable.
struct Awaiting<'a>(&'a LocalStore);

impl<'a> Awaiting<'a> {
    fn new(store: &'a LocalStore) -> Self {
        store.0.flusher.state().awaited += 1;
        Self(store)
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.0.flusher.state().awaited -= 1;
    }
}

/// Makes a [`round`], unless somebody did meanwhile for everything that was written before the call, as `done` says.
async fn share(store: &LocalStore, done: fn(&State) -> u64, names: bool) -> Result<(), StoreError> {
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
        round(&store.0, names, Written::Nothing)?.map_or(Ok(()), Err)
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
        let _turn = turn;
        // What can't be named was somebody else's.
        round(&store.0, true, one.map_or(Written::Many, Written::One)).map(drop)
    })
    .await
}

/// Gives what still waits its name when the store is closed. Nothing refers to it yet, but the next attempt finds it.
pub(super) fn close(store: &Inner) {
    if !store.flusher.state().batch.uploads.is_empty() && store.flusher.state().broken.is_none() {
        // Whoever relied on it would have synced.
        let _ = round(store, false, Written::Nothing).and_then(|_| round(store, true, Written::Nothing));
    }
}

/// What was written beside uploads, and gets its name when it is durable.
enum Written {
    Nothing,
    One(File),
    /// Files that are closed.
    Many,
}

/// Makes the bytes durable of the uploads that wait, and gives them their names, which the next round makes durable; with `names`,
/// or where somebody waits for that, all names that were given before as well. So whoever waits for the one and whoever waits for
/// the other are served together. Returns what could not be named for good.
fn round(store: &Inner, names: bool, written: Written) -> Result<Option<StoreError>, StoreError> {
    let (mut uploads, folders, covered) = {
        let mut state = store.flusher.state();
        state.scheduled = false;
        state.batch.bytes = 0;
        // One sync of everything covers the names, whether or not somebody asked for them.
        let names = names || state.awaited > 0 || state.batch.uploads.len() > SYNC_EACH;
        let folders = if names { Some(std::mem::take(&mut state.batch.folders)) } else { None };
        (std::mem::take(&mut state.batch.uploads), folders, state.written)
    };
    if let Err(e) = sync_batch(store, &uploads, folders.as_ref(), written) {
        return Err(broken(store, e));
    }
    if folders.is_some() {
        store.flusher.state().durable = covered;
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
    Ok(collided)
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

/// Syncs files and folders, each by itself and all at once, or, if there are many, the whole file system.
fn sync_batch(
    store: &Inner,
    uploads: &[Pending],
    folders: Option<&BTreeSet<PathBuf>>,
    written: Written,
) -> Result<(), StoreError> {
    if store.flusher.skips() {
        return Ok(());
    }
    let one = match written {
        Written::Many => return sync_whole(store),
        Written::One(file) => Some(file),
        Written::Nothing => None,
    };
    if uploads.len() > SYNC_EACH || folders.is_some_and(|folders| folders.len() > SYNC_EACH_FOLDER) {
        return sync_whole(store);
    }
    let uploads = uploads.iter().map(|pending| Sync::File(&pending.file, &pending.path));
    let one = one.iter().map(|file| Sync::File(file, &store.root));
    let folders = folders.into_iter().flatten().map(|folder| Sync::Folder(folder));
    let all: Vec<Sync<'_>> = uploads.chain(one).chain(folders).collect();
    let Some((last, others)) = all.split_last() else { return Ok(()) };
    // One after the other, each would wait for a commit of the journal; together they share one or two.
    std::thread::scope(|scope| {
        let others: Vec<_> = others.iter().map(|sync| scope.spawn(|| sync.run())).collect();
        let last = last.run();
        others
            .into_iter()
            .try_for_each(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))?;
        last
    })
}

/// Something to be synced by itself.
enum Sync<'a> {
    File(&'a File, &'a Path),
    Folder(&'a Path),
}

impl Sync<'_> {
    fn run(&self) -> Result<(), StoreError> {
        match self {
            Self::File(file, path) => file.sync_data().map_err(|e| failed("syncing", path, e)),
            Self::Folder(folder) => match File::open(folder).and_then(|folder| folder.sync_all()) {
                // Somebody removed it, and its parent is in the batch of whoever did.
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other.map_err(|e| failed("syncing", folder, e)),
            },
        }
    }
}

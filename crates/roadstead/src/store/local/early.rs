//! Writing to the disk what an upload has brought so far, while more of it comes.
//!
//! Left to the kernel, the bytes of a layer would wait in memory until it is synced, and the disk would have nothing to do as
//! long as the network has, and the other way round. What is done here promises nothing: the sync before an upload gets its
//! name does, and finds little left to do.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{LocalStore, open_no_links};
use rustix::fs::OFlags;

/// After so many bytes it is worth a thread's time: each time costs a commit of the journal.
const STEP: u64 = 8 << 20;

/// How many uploads do so at a time. It waits for a disk in each, and one that is slow must not take all threads.
const AT_ONCE: usize = 2;

/// How many uploads of a store do so just now.
#[derive(Default)]
pub(super) struct Early(AtomicUsize);

/// A file that grows, and what of it went to the disk.
#[derive(Default)]
pub(super) struct WriteBack {
    /// A description of its own: the failure of a sync is told once to each, and has to be told to the one that counts.
    file: Option<File>,
    /// How many bytes there were when that began last.
    begun: u64,
}

impl WriteBack {
    /// Begins it in another thread, if enough has come since the last time.
    pub(super) fn go_on(&mut self, store: &LocalStore, path: &Path, written: u64) {
        if written - self.begun < STEP || store.0.flusher.skips() {
            return;
        }
        let Some(turn) = Turn::take(store) else { return };
        // Nothing depends on it: an upload that was given up has no path any more, and there may be no descriptor to be had.
        let opened = self.file.take().or_else(|| open_no_links(path, OFlags::RDONLY).ok());
        let Some(file) = opened.as_ref().and_then(|file| file.try_clone().ok()) else { return };
        self.file = opened;
        self.begun = written;
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            // Whoever relies on the bytes syncs them, and is told.
            let _ = file.sync_data();
        });
    }
}

/// The right to do so.
struct Turn(LocalStore);

impl Turn {
    fn take(store: &LocalStore) -> Option<Self> {
        let one_more = |taken| (taken < AT_ONCE).then_some(taken + 1);
        let taken = store.0.early.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| Self(store.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.early.0.fetch_sub(1, Ordering::Relaxed);
    }
}

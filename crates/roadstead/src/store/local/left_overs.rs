//! What killed processes left: temporary files, uploads that nobody went on with, and folders that became empty or never had anything in them.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::{Inner, LeftOvers, PRIVATE, StoreError, failed, leads_through_link, scratch, session};

/// Where folders come and go with keys.
const FOLDERS: [&str; 4] = ["v2", "content", ".roadstead/left-out", ".roadstead/holders"];

/// Counts them, and removes them if asked to.
pub(super) fn find(store: &Inner, remove: bool) -> Result<LeftOvers, StoreError> {
    let tmp = store.root.join(PRIVATE).join("tmp");
    let (files, bytes) = scratch::count_left_overs(&tmp).map_err(|e| failed("listing", &tmp, e))?;
    if remove && files > 0 {
        scratch::clear_left_overs(&tmp).map_err(|e| failed("deleting", &tmp, e))?;
    }
    let abandoned = session::abandoned(store, SystemTime::now(), remove)?;
    let (files, bytes) = (files + abandoned.files, bytes + abandoned.bytes);
    let mut folders = 0;
    for top in FOLDERS {
        let top = store.root.join(top);
        if !leads_through_link(&top) {
            is_empty(store, &top, remove, &mut folders);
        }
    }
    Ok(LeftOvers { files, bytes, folders })
}

/// Whether there is nothing in a folder but such folders; counts those, and removes them if asked to. One that can't be read
/// is not empty. A writer that is about to put something into one makes it again.
fn is_empty(store: &Inner, folder: &Path, remove: bool, count: &mut u64) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let mut below = Vec::new();
    let mut empty = true;
    for entry in entries {
        match entry.and_then(|entry| Ok((entry.file_type()?, entry.path()))) {
            Ok((kind, path)) if kind.is_dir() => below.push(path),
            _ => empty = false,
        }
    }
    for path in below {
        if !is_empty(store, &path, remove, count) || remove && fs::remove_dir(&path).is_err() {
            empty = false;
            continue;
        }
        *count += 1;
        if remove {
            store.flusher.touched(folder);
        }
    }
    empty
}

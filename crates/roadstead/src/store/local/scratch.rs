//! Temporary files and locks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use super::{StoreError, failed, leads_through_link, open_no_links};

/// The private folder of a store, and this process's own part of it.
pub(super) struct Scratch {
    private: PathBuf,
    own: Mutex<Option<Own>>,
    count: AtomicU64,
}

/// A folder for temporary files, and the lock that says that its process lives.
struct Own {
    folder: PathBuf,
    lock: PathBuf,
    _held: File,
}

impl Drop for Own {
    fn drop(&mut self) {
        // What stays behind is removed by the next process that writes.
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_file(&self.lock);
    }
}

impl Scratch {
    pub(super) fn new(private: PathBuf) -> Self {
        Self { private, own: Mutex::new(None), count: AtomicU64::new(0) }
    }

    /// A path that no one else uses, in the same file system as everything else.
    pub(super) fn path(&self) -> Result<PathBuf, StoreError> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let own = match &mut *own {
            Some(own) => own,
            empty => empty.insert(self.begin()?),
        };
        Ok(own.folder.join(self.count.fetch_add(1, Ordering::Relaxed).to_string()))
    }

    /// Opens a file to lock, not yet locked.
    pub(super) fn lock_file(&self, name: &str) -> Result<File, StoreError> {
        let folder = self.private.join("locks");
        let path = folder.join(name);
        let open = || open_no_links(&path, OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK);
        let opened = match open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => make_private(&folder).and_then(|()| open()),
            other => other,
        };
        opened.map_err(|e| failed("locking", &path, e))
    }

    fn begin(&self) -> Result<Own, StoreError> {
        let tmp = self.private.join("tmp");
        Own::begin(&tmp).map_err(|e| failed("writing", &tmp, e))
    }
}

impl Own {
    fn begin(tmp: &Path) -> io::Result<Self> {
        make_private(tmp)?;
        remove_left_overs(tmp)?;
        loop {
            let name = tempfile::Builder::new().prefix("").make_in(tmp, |path| {
                let lock = path.with_extension("lock");
                let held = OpenOptions::new().write(true).create_new(true).open(&lock)?;
                Ok((held, lock))
            })?;
            let folder = name.path().to_owned();
            let ((held, lock), _) = name.into_parts();
            // Between the two lines somebody may have taken the new file for a left-over, and removed it.
            if held.try_lock().is_err() || !is_at(&held, &lock) {
                continue;
            }
            fs::create_dir(&folder)?;
            return Ok(Self { folder, lock, _held: held });
        }
    }
}

pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    if leads_through_link(folder) {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Whether `file` is still what `path` names.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(named)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    (held.dev(), held.ino()) == (named.dev(), named.ino())
}

/// Removes what killed processes left.
fn remove_left_overs(tmp: &Path) -> io::Result<()> {
    for entry in fs::read_dir(tmp)? {
        let lock = entry?.path();
        if let Some(_dead) = dead(&lock) {
            match fs::remove_dir_all(lock.with_extension("")) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => fs::remove_file(&lock)?,
            }
        }
    }
    Ok(())
}

/// The temporary files that killed processes left: how many, and their bytes.
pub(super) fn count_left_overs(tmp: &Path) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    if leads_through_link(tmp) {
        return Ok((0, 0));
    }
    let entries = match fs::read_dir(tmp) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
        other => other?,
    };
    for entry in entries {
        let lock = entry?.path();
        let folder = lock.with_extension("");
        if let Some(_dead) = dead(&lock)
            && !leads_through_link(&folder)
            && let Ok(entries) = fs::read_dir(&folder)
        {
            for metadata in entries.filter_map(|entry| entry.ok()?.metadata().ok()) {
                files += 1;
                bytes += metadata.len();
            }
        }
    }
    Ok((files, bytes))
}

/// Removes what killed processes left, if there is a folder for it.
pub(super) fn clear_left_overs(tmp: &Path) -> io::Result<()> {
    if leads_through_link(tmp) {
        return Ok(());
    }
    match remove_left_overs(tmp) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The lock of a process that is dead, held as long as the value.
fn dead(lock: &Path) -> Option<File> {
    if lock.extension().is_none_or(|extension| extension != "lock") {
        return None;
    }
    // Open for writing, since network file systems lock nothing else exclusively; and without waiting for the other end
    // of a pipe.
    let file = open_no_links(lock, OFlags::WRONLY | OFlags::NONBLOCK).ok()?;
    (file.try_lock().is_ok() && is_at(&file, lock)).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_overs_of_the_dead_go_and_those_of_the_living_stay() {
        let dir = tempfile::tempdir().unwrap();
        let living = Scratch::new(dir.path().to_owned());
        let kept = living.path().unwrap();
        fs::write(&kept, "x").unwrap();
        let dead = dir.path().join("tmp/dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("0"), "x").unwrap();
        fs::write(dead.with_extension("lock"), "").unwrap();

        let other = Scratch::new(dir.path().to_owned());
        other.path().unwrap();
        assert!(kept.exists());
        assert!(!dead.exists() && !dead.with_extension("lock").exists());

        drop(living);
        assert!(!kept.exists());
    }
}

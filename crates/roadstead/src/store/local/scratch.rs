//! Temporary files and locks.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;

use super::{StoreError, failed, leads_through_link, open_no_links};

/// The private folder of a store, and this process's own part of it.
pub(super) struct Scratch {
    private: PathBuf,
    own: Mutex<Option<Own>>,
    count: AtomicU64,
    fallen: Mutex<Fallen>,
}

/// What becomes the length of a lock once it is held; it grows by one for what is owed and will not be paid. Nothing is written for
/// that, not even to a disk that is full.
const BORN: u64 = 1;

/// Who ended without a word, or owes something for good.
#[derive(Default)]
struct Fallen {
    count: u64,
    /// How long the locks of other processes were, and whether these were dead.
    known: HashMap<OsString, (u64, bool)>,
}

/// A folder for temporary files, and the lock that says that its process lives.
struct Own {
    folder: PathBuf,
    lock: PathBuf,
    _held: File,
    /// For how much of what is derived this process has to answer, and how much of that it can't.
    owed: u64,
    unpaid: u64,
}

impl Drop for Own {
    fn drop(&mut self) {
        // What stays behind is removed by the next process that writes.
        let _ = fs::remove_dir_all(&self.folder);
        // Without this others take it for one that was killed.
        if self.owed == 0 {
            let _ = fs::remove_file(&self.lock);
        }
    }
}

impl Scratch {
    pub(super) fn new(private: PathBuf) -> Self {
        Self { private, own: Mutex::new(None), count: AtomicU64::new(0), fallen: Mutex::default() }
    }

    fn own(&self) -> MutexGuard<'_, Option<Own>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fallen(&self) -> MutexGuard<'_, Fallen> {
        self.fallen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with this process's own part, which is made if need be.
    fn with_own<T>(&self, with: impl FnOnce(&mut Own) -> T) -> Result<T, StoreError> {
        let mut own = self.own();
        let own = match &mut *own {
            Some(own) => own,
            empty => empty.insert(self.begin()?),
        };
        Ok(with(own))
    }

    /// Lets others know by this process's lock, until [`settle`](Self::settle), that it owes something.
    pub(super) fn owe(&self) -> Result<(), StoreError> {
        self.with_own(|own| own.owed += 1)
    }

    /// Ends what [`owe`](Self::owe) began. What isn't paid is owed for ever.
    pub(super) fn settle(&self, paid: bool) {
        let Some(own) = &mut *self.own() else { return };
        if paid {
            own.owed -= 1;
        } else {
            own.unpaid += 1;
            self.fallen().count += 1;
            let lock = OpenOptions::new().write(true).open(&own.lock);
            if let Err(error) = lock.and_then(|lock| lock.set_len(BORN + own.unpaid)) {
                // They learn of it when this process ends.
                tracing::warn!(%error, lock = %own.lock.display(), "can't tell others that a list lags");
            }
        }
    }

    /// How often somebody was found to have ended without a word, or to owe something for good.
    ///
    /// The locks of the dead stay as long as anybody else lives, so that they are seen by all who live; `None` as long as this
    /// process has nothing that says it does.
    pub(super) fn casualties(&self) -> Result<Option<u64>, StoreError> {
        let tmp = self.private.join("tmp");
        let Some(own) = self.own().as_ref().map(|own| own.lock.clone()) else { return Ok(None) };
        let mut fallen = self.fallen();
        let others = others(&tmp, Some(&own)).map_err(|e| failed("listing", &tmp, e))?;
        let mut known = HashMap::new();
        for other in others.iter().filter(|other| other.length >= BORN) {
            let (name, now) = (other.lock.file_name().unwrap_or_default(), (other.length, other.dead.is_some()));
            let before = fallen.known.get(name).copied().unwrap_or((BORN, false));
            fallen.count += u64::from(now != before);
            known.insert(name.to_owned(), now);
        }
        fallen.known = known;
        if others.iter().all(|other| other.dead.is_some()) {
            // Nobody else has to see them.
            others.iter().for_each(|dead| drop(dead.remove()));
        }
        Ok(Some(fallen.count))
    }

    /// A path that no one else uses, in the same file system as everything else.
    pub(super) fn path(&self) -> Result<PathBuf, StoreError> {
        self.with_own(|own| own.folder.join(self.count.fetch_add(1, Ordering::Relaxed).to_string()))
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
                let made = OpenOptions::new().write(true).create_new(true).open(&lock)?;
                Ok((made, lock))
            })?;
            let folder = name.path().to_owned();
            let ((made, lock), _) = name.into_parts();
            // Held without the right to write, so that a disk can be made read-only while nobody writes to it.
            let held = match open_no_links(&lock, OFlags::RDONLY | OFlags::NONBLOCK) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let (held, locked) = match held.try_lock() {
                // NFS locks alone what may be written.
                Err(TryLockError::Error(_)) => (made.try_clone()?, made.try_lock()),
                locked => (held, locked),
            };
            match locked {
                Ok(()) if is_at(&held, &lock) => made.set_len(BORN)?,
                Err(TryLockError::Error(error)) => return Err(error),
                // Before it was locked somebody may have taken the new file for a left-over.
                _ => {
                    let _ = fs::remove_file(&lock);
                    continue;
                }
            }
            fs::create_dir(&folder)?;
            return Ok(Self { folder, lock, _held: held, owed: 0, unpaid: 0 });
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

/// Another process, as its lock tells of it.
struct Other {
    lock: PathBuf,
    /// Less than [`BORN`] if it never held its lock, and has done nothing.
    length: u64,
    /// Its lock, if it is dead. Shared: nobody who looks at the same time takes it for one that lives.
    dead: Option<File>,
}

/// All processes but the one who holds `own`.
fn others(tmp: &Path, own: Option<&Path>) -> io::Result<Vec<Other>> {
    let mut others = Vec::new();
    let entries = match fs::read_dir(tmp) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(others),
        other => other?,
    };
    for entry in entries {
        let lock = entry?.path();
        if lock.extension().is_none_or(|extension| extension != "lock") || Some(&*lock) == own {
            continue;
        }
        // Without waiting for the other end of a pipe.
        match open_no_links(&lock, OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // Another user's, of whom nothing is known.
            Err(_) => others.push(Other { lock, length: BORN, dead: None }),
            Ok(file) => {
                if !file.metadata()?.is_file() {
                    // Whatever was planted there is no process's.
                    continue;
                }
                let is_dead = file.try_lock_shared().is_ok();
                // Whoever died may have written until then.
                let length = file.metadata()?.len();
                if !is_dead || is_at(&file, &lock) {
                    others.push(Other { lock, length, dead: is_dead.then_some(file) });
                }
            }
        }
    }
    Ok(others)
}

impl Other {
    fn folder(&self) -> PathBuf {
        self.lock.with_extension("")
    }

    fn remove_folder(&self) -> io::Result<()> {
        absent_is_fine(fs::remove_dir_all(self.folder()))
    }

    fn remove(&self) -> io::Result<()> {
        self.remove_folder()?;
        absent_is_fine(fs::remove_file(&self.lock))
    }
}

/// Removes what killed processes left: their folders, and, if nobody lives whom they would tell that it was killed, the locks.
fn remove_left_overs(tmp: &Path) -> io::Result<()> {
    let others = others(tmp, None)?;
    let some_live = others.iter().any(|other| other.dead.is_none());
    for dead in others.iter().filter(|other| other.dead.is_some()) {
        let removed = if some_live && dead.length >= BORN { dead.remove_folder() } else { dead.remove() };
        match removed {
            // Another user's, who sees to them.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    Ok(())
}

/// Others may remove the same at the same time.
fn absent_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The temporary files that killed processes left: how many, and their bytes.
pub(super) fn count_left_overs(tmp: &Path) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    if leads_through_link(tmp) {
        return Ok((0, 0));
    }
    for dead in others(tmp, None)?.iter().filter(|other| other.dead.is_some()) {
        let folder = dead.folder();
        if !leads_through_link(&folder)
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
    if leads_through_link(tmp) { Ok(()) } else { remove_left_overs(tmp) }
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

    #[test]
    fn the_dead_are_seen_by_all_who_live() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = || {
            let scratch = Scratch::new(dir.path().to_owned());
            scratch.path().unwrap();
            scratch
        };
        assert_eq!(Scratch::new(dir.path().to_owned()).casualties().unwrap(), None, "nobody would know of it");
        let (first, second) = (scratch(), scratch());
        let casualties = |scratch: &Scratch| scratch.casualties().unwrap().unwrap();
        let seen = || (casualties(&first), casualties(&second));
        assert_eq!(seen(), (0, 0));
        drop(scratch());
        assert_eq!(seen(), (0, 0), "whoever owes nothing is no casualty");

        let owing = scratch();
        owing.owe().unwrap();
        assert_eq!(seen(), (0, 0), "it lives");
        drop(owing);
        assert_eq!(casualties(&first), 1);
        let cleaning = scratch();
        assert_eq!(casualties(&first), 1, "nobody is seen twice");
        assert_eq!(casualties(&second), 1);
        drop(cleaning);

        let paying = scratch();
        paying.owe().unwrap();
        paying.settle(true);
        drop(paying);
        assert_eq!(seen(), (1, 1));

        second.owe().unwrap();
        second.settle(false);
        assert_eq!(seen(), (2, 2), "it lives, and will not pay");
        assert_eq!(seen(), (2, 2));

        // It may be killed before it holds its lock, and has done nothing then.
        fs::write(dir.path().join("tmp/unborn.lock"), "").unwrap();
        assert_eq!(seen(), (2, 2));

        drop(second);
        assert_eq!(casualties(&first), 3);
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 2, "its own folder and lock");
    }
}

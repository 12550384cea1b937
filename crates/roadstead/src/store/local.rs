//! A store in a directory: keys are paths, names are symbolic links, and one rename makes or moves each.
//!
//! # Durability
//!
//! Syncing every file by itself costs a journal commit each; an index of sixteen platforms has a hundred files. So a
//! finished upload waits, written but without its name, for the next [`publish`](Store::publish), which makes the data of
//! all that wait durable, then gives them their names; the next [`sync`](Store::sync) makes those and all other names
//! durable. Concurrent calls share that work, whichever they wait for, and what is synced by itself is synced at the same time.
//! Large uploads start it early, finished or not, so that the disk is busy while the network is. Small objects
//! ([`Store::put_all`]) wait for one sync together, which is that of everything before them as well; one alone
//! ([`Store::put`]) is synced by itself. Both before they get their names, since their promise is to be visible at once.
//!
//! After a failed sync nobody knows what is on the disk, so the store refuses every further one until it is opened anew.
//!
//! # Private files
//!
//! `.roadstead/` has mode 0700, or 0711 once something in it was revealed. Each process that writes keeps its temporary files
//! in a folder of its own under `.roadstead/tmp/` and holds a lock beside it; a folder whose lock can be taken belonged to a
//! process that is dead, and is removed by the next one that writes. Sessions lie in `.roadstead/uploads/` and outlive their
//! process. Everything else has the mode that the umask gives.
//!
//! # Links
//!
//! A link is made and read where a name is expected, one step and inside the store. A folder that is a link is no folder of
//! this store, whatever is behind it: trees come from elsewhere, too.
//!
//! # Blocking
//!
//! Questions that touch only names (a link, a size, an open) run where they are asked: with warm directory entries
//! they take a microsecond, and handing each to another thread would cost ten. Everything that moves or syncs data runs
//! on the runtime's threads for blocking work.

mod early;
mod flush;
mod left_overs;
mod list;
mod locks;
mod open;
mod probe;
mod read;
mod scratch;
mod session;
mod together;
mod upload;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use super::{
    Behind, Body, Condition, Entry, Headers, Key, LeftOvers, Listed, LockGuard, LockMode, Naming, Object, Resumed,
    Session, SessionId, Small, Store, StoreError, Upload, Version, Written,
};

use crate::oci::Hasher;
use flush::Flusher;
use locks::Locks;
pub(crate) use open::open_regular;
use open::{is_absent, leads_through_link, open_no_links};
pub(super) use read::{blocking, digest_range, read_range};
use scratch::Scratch;
use upload::Temporary;

/// The folder for what no web server may hand out.
pub(crate) const PRIVATE: &str = ".roadstead";

/// A store in a directory. Clones share it.
#[derive(Clone)]
pub struct LocalStore(Arc<Inner>);

struct Inner {
    root: PathBuf,
    /// The root, open.
    folder: File,
    scratch: Scratch,
    flusher: Flusher,
    locks: Locks,
    early: early::Early,
}

impl Drop for Inner {
    fn drop(&mut self) {
        flush::close(self);
    }
}

impl Inner {
    /// Runs `make` and, as long as the folder isn't there, makes the folder: another process may remove it in between.
    fn in_folder<T>(&self, path: &Path, mut make: impl FnMut() -> io::Result<T>) -> Result<T, StoreError> {
        const TRIES: usize = 100;
        let folder = path.parent().unwrap_or(&self.root);
        for _ in 0..TRIES {
            if leads_through_link(folder) {
                return Err(StoreError::Collision { what: path.display().to_string() });
            }
            match make() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => self.make_folder(folder, path)?,
                Err(e) if matches!(e.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory) => {
                    return Err(StoreError::Collision { what: path.display().to_string() });
                }
                Err(e) => return Err(failed("writing", path, e)),
                Ok(made) => return Ok(made),
            }
        }
        let e = io::Error::new(io::ErrorKind::NotFound, "its folder is removed again and again");
        Err(failed("writing", path, e))
    }

    fn make_folder(&self, folder: &Path, path: &Path) -> Result<(), StoreError> {
        match fs::create_dir(folder) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let above = folder.parent().unwrap_or(&self.root);
                self.make_folder(above, path)?;
                return match fs::create_dir(folder) {
                    Err(e) if !matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                        Err(failed("creating", folder, e))
                    }
                    _ => {
                        self.flusher.touched(above);
                        Ok(())
                    }
                };
            }
            // A file in the folder's place makes the next attempt fail with a collision.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                return Err(StoreError::Collision { what: path.display().to_string() });
            }
            Err(e) => return Err(failed("creating", folder, e)),
        }
        self.flusher.touched(folder.parent().unwrap_or(&self.root));
        Ok(())
    }
}

impl LocalStore {
    /// The store in an existing directory.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if there is no such directory.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let failed = |e| failed("opening", root, e);
        let root = fs::canonicalize(root).map_err(failed)?;
        fs::read_dir(&root).map_err(failed)?;
        Self::at(root)
    }

    /// The store in a directory, which is made if it isn't there, and tried if nothing was ever written to it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsuitable`] if the file system has no symbolic links, no `:` in names, or takes `a` and `A` for one
    /// name; [`StoreError::Io`] if the directory can't be made or written.
    pub fn create(root: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(root).map_err(|e| failed("creating", root, e))?;
        let root = fs::canonicalize(root).map_err(|e| failed("opening", root, e))?;
        let private = root.join(PRIVATE);
        match fs::DirBuilder::new().mode(0o700).create(&private) {
            Ok(()) => {
                let probed = probe::file_system(&root, &private);
                if probed.is_err() {
                    // A folder that can't hold a tree is left as it was found.
                    let _ = fs::remove_dir_all(&private);
                }
                probed?;
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed("creating", &private, e)),
        }
        Self::at(root)
    }

    fn at(root: PathBuf) -> Result<Self, StoreError> {
        let folder = File::open(&root).map_err(|e| failed("opening", &root, e))?;
        let scratch = Scratch::new(root.join(PRIVATE));
        let (flusher, locks, early) = (Flusher::default(), Locks::default(), early::Early::default());
        Ok(Self(Arc::new(Inner { root, folder, scratch, flusher, locks, early })))
    }

    /// This store without durability: for trees that can be made again, such as those of tests. A power cut may leave names
    /// without bytes; a killed process still can't.
    #[must_use]
    pub fn without_sync(self) -> Self {
        self.0.flusher.skip_syncs();
        self
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.0.root.join(key.as_str())
    }

    /// Where a link leads, if `path` is one.
    fn read_link(&self, key: &Key, path: &Path) -> Result<Option<Key>, StoreError> {
        match fs::read_link(path) {
            Ok(target) => match link_target(key, &target) {
                Some(target) => Ok(Some(target)),
                None => Err(StoreError::Escape {
                    what: path.display().to_string(),
                    target: target.display().to_string(),
                    store: self.describe(),
                }),
            },
            // It is there but no link, or it isn't there, or a part of its path is a file.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput || is_absent(&e) => Ok(None),
            Err(e) => Err(failed("reading", path, e)),
        }
    }

    fn head_now(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let path = self.path(key);
        let target = self.read_link(key, &path)?;
        let end = target.as_ref().map_or(path, |target| self.path(target));
        match fs::symlink_metadata(&end) {
            Ok(metadata) if metadata.is_file() => Ok(Some(entry(&metadata, target))),
            Ok(_) => Ok(None),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(failed("reading", &end, e)),
        }
    }

    fn link_now(&self, key: &Key, target: &Key) -> Result<bool, StoreError> {
        let path = self.path(key);
        let text = relative(key, target);
        // Nearly every link is new or already right; only a tag that moves has to be replaced.
        let made = self.0.in_folder(&path, || match std::os::unix::fs::symlink(&text, &path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|()| true),
        })?;
        if !made {
            if fs::read_link(&path).is_ok_and(|old| old == Path::new(&text)) {
                return Ok(false);
            }
            let temporary = self.0.scratch.path()?;
            std::os::unix::fs::symlink(&text, &temporary).map_err(|e| failed("writing", &temporary, e))?;
            let moved = self.0.in_folder(&path, || fs::rename(&temporary, &path));
            if moved.is_err() {
                let _ = fs::remove_file(&temporary);
            }
            moved?;
        }
        self.0.flusher.touched(path.parent().unwrap_or(&self.0.root));
        // Another process may have put the target there a moment ago, and not have synced its folder yet.
        self.0.flusher.touched(self.path(target).parent().unwrap_or(&self.0.root));
        Ok(true)
    }

    /// Writes the bytes of small objects, which have no name yet. Only the last file is still open: there may be many.
    fn write_now(&self, objects: &[Small]) -> Result<(Vec<Temporary>, Option<File>), StoreError> {
        let mut temporaries = Vec::with_capacity(objects.len());
        let mut last = None;
        for Small { key, bytes, .. } in objects {
            let temporary = Temporary(self.0.scratch.path()?);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(&temporary.0);
            let written = file.and_then(|mut file| io::Write::write_all(&mut file, bytes).map(|()| file));
            last = Some(written.map_err(|e| failed("writing", &self.path(key), e))?);
            temporaries.push(temporary);
        }
        Ok((temporaries, last))
    }

    /// Names what [`write_now`](Self::write_now) wrote.
    fn put_now(&self, objects: &[Small], temporaries: &[Temporary]) -> Result<Vec<Written>, StoreError> {
        // Held by every writer, so that nothing can come between a look and the rename; and so needs no hard links, which
        // some file systems don't have.
        let lock = self.0.scratch.lock_file("put")?;
        lock.lock().map_err(|e| failed("locking", &self.0.root, e))?;
        let mut written = Vec::with_capacity(objects.len());
        for (Small { key, condition, .. }, temporary) in objects.iter().zip(temporaries) {
            let path = self.path(key);
            // As readers see it: were a pipe or a link to nothing absent to them and in the way here, whoever reads, changes
            // and writes again would do so without end.
            let allowed = match condition {
                Condition::Always => true,
                Condition::Absent => self.head_now(key)?.is_none(),
                Condition::Unchanged(version) => self.head_now(key)?.is_some_and(|entry| entry.version == *version),
            };
            if !allowed {
                written.push(Written::Refused);
                continue;
            }
            self.0.in_folder(&path, || fs::rename(&temporary.0, &path))?;
            self.0.flusher.touched(path.parent().unwrap_or(&self.0.root));
            written.push(Written::Done);
        }
        Ok(written)
    }

    fn delete_now(&self, key: &Key) -> Result<bool, StoreError> {
        let path = self.path(key);
        if leads_through_link(path.parent().unwrap_or(&self.0.root)) {
            return Ok(false);
        }
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if is_absent(&e) || e.kind() == io::ErrorKind::IsADirectory => return Ok(false),
            Err(e) => return Err(failed("deleting", &path, e)),
        }
        // Folders that became empty go with their last key; the top-level ones stay.
        let mut folder = path.parent().unwrap_or(&self.0.root);
        while folder.parent().is_some_and(|above| above != self.0.root && folder != self.0.root)
            && fs::remove_dir(folder).is_ok()
        {
            folder = folder.parent().unwrap_or(&self.0.root);
        }
        self.0.flusher.touched(folder);
        Ok(true)
    }
}

#[async_trait]
impl Store for LocalStore {
    fn describe(&self) -> String {
        self.0.root.display().to_string()
    }

    fn naming(&self) -> Naming {
        Naming::Links
    }

    async fn head(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.head_now(key)
    }

    async fn target(&self, key: &Key) -> Result<Option<Key>, StoreError> {
        self.read_link(key, &self.path(key))
    }

    async fn targets(&self, keys: &[Key]) -> Vec<Result<Option<Key>, StoreError>> {
        together::targets(self, keys)
    }

    async fn sizes(&self, keys: &[Key]) -> Vec<Result<Option<u64>, StoreError>> {
        together::sizes(self, keys)
    }

    async fn modified(&self, key: &Key) -> Result<Option<SystemTime>, StoreError> {
        let path = self.path(key);
        match fs::symlink_metadata(&path).and_then(|metadata| metadata.modified()) {
            Ok(modified) => Ok(Some(modified)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(failed("reading", &path, e)),
        }
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>, StoreError> {
        let path = self.path(key);
        let open = |path: &Path| open_regular(path).map_err(|e| failed("reading", path, e));
        // Most of what is read is content, which is no link; of a link opening says so.
        let (found, target) = match open(&path)? {
            Some(found) => (Some(found), None),
            None => match self.read_link(key, &path)? {
                Some(target) => (open(&self.path(&target))?, Some(target)),
                None => (None, None),
            },
        };
        Ok(found.map(|(file, metadata)| {
            let entry = entry(&metadata, target);
            let range = super::clamp(range, entry.size);
            Object { entry, body: Body::File { file, range } }
        }))
    }

    async fn beginnings(&self, keys: &[Key], limit: u64) -> Result<Vec<Option<Bytes>>, StoreError> {
        together::beginnings(self, keys, limit).await
    }

    async fn put(
        &self,
        key: &Key,
        bytes: Bytes,
        headers: &Headers,
        condition: Condition,
    ) -> Result<Written, StoreError> {
        let store = self.clone();
        let object = [Small { key: key.clone(), bytes, headers: headers.clone(), condition }];
        blocking(move || {
            let (temporary, file) = store.write_now(&object)?;
            if let Some(file) = file {
                store.0.flusher.sync_file(&file).map_err(|e| failed("syncing", &store.path(&object[0].key), e))?;
            }
            let written = store.put_now(&object, &temporary)?;
            Ok(written.into_iter().next().unwrap_or(Written::Refused))
        })
        .await
    }

    async fn put_all(&self, objects: Vec<Small>) -> Result<Vec<Written>, StoreError> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let store = self.clone();
        let (objects, temporaries, last) = blocking(move || {
            let (temporaries, last) = store.write_now(&objects)?;
            Ok((objects, temporaries, last))
        })
        .await?;
        flush::sync_with(self, last.filter(|_| objects.len() == 1)).await?;
        let store = self.clone();
        blocking(move || store.put_now(&objects, &temporaries)).await
    }

    async fn begin_upload(&self, hasher: Hasher) -> Result<Box<dyn Upload>, StoreError> {
        let store = self.clone();
        blocking(move || upload::begin(store, hasher)).await
    }

    async fn begin_session(
        &self,
        id: &SessionId,
        session: Session,
        hasher: Hasher,
    ) -> Result<Box<dyn Upload>, StoreError> {
        let (store, id) = (self.clone(), id.clone());
        blocking(move || session::begin(store, &id, session, hasher)).await
    }

    async fn resume_session(&self, id: &SessionId, now: SystemTime) -> Result<Option<Resumed>, StoreError> {
        let (store, id) = (self.clone(), id.clone());
        blocking(move || session::resume(store, &id, now)).await
    }

    async fn forget_session(&self, id: &SessionId) -> Result<(), StoreError> {
        session::forget(&self.0, id)
    }

    async fn expire_sessions(&self, now: SystemTime) -> Result<LeftOvers, StoreError> {
        let store = self.clone();
        blocking(move || session::abandoned(&store.0, now, true)).await
    }

    async fn link(&self, key: &Key, target: &Key, _: &Headers) -> Result<bool, StoreError> {
        self.link_now(key, target)
    }

    async fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        self.delete_now(key)
    }

    async fn renew(&self, key: &Key) -> Result<(), StoreError> {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
        let path = self.path(key);
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        match utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(()),
            other => other.map_err(|e| failed("writing", &path, e.into())),
        }
    }

    fn list(&self, prefix: &Key) -> BoxStream<'_, Result<Listed, StoreError>> {
        let (folder, prefix) = (self.path(prefix), prefix.clone());
        list::entries(folder, move |name, is_folder| {
            // Names that can't be keys were not put here by a store.
            let key = prefix.child(name).ok()?;
            Some(if is_folder { Listed::Prefix(key) } else { Listed::Object(key) })
        })
    }

    fn list_prefixes(&self, prefix: &Key) -> BoxStream<'_, Result<Key, StoreError>> {
        let (folder, prefix) = (self.path(prefix), prefix.clone());
        list::entries(folder, move |name, is_folder| if is_folder { prefix.child(name).ok() } else { None })
    }

    async fn publish(&self) -> Result<(), StoreError> {
        flush::publish(self).await
    }

    async fn sync(&self) -> Result<(), StoreError> {
        flush::sync(self).await
    }

    async fn sync_names(&self) -> Result<(), StoreError> {
        flush::sync_names(self).await
    }

    async fn reveal(&self, key: &Key) -> Result<(), StoreError> {
        let Some(folder) =
            self.path(key).parent().filter(|folder| *folder == self.0.root.join(PRIVATE)).map(Path::to_owned)
        else {
            // No other folder is closed.
            return Ok(());
        };
        let open = || {
            let mode = fs::metadata(&folder)?.permissions().mode();
            // May be passed through, and still not be read.
            let passed = mode | 0o011;
            if mode == passed { Ok(()) } else { fs::set_permissions(&folder, fs::Permissions::from_mode(passed)) }
        };
        open().map_err(|e| failed("opening to others", &folder, e))
    }

    fn fall_behind(&self) -> Result<Behind, StoreError> {
        self.0.scratch.owe()?;
        let store = self.0.clone();
        Ok(Behind::new(move |paid| store.scratch.settle(paid)))
    }

    async fn casualties(&self) -> Result<Option<u64>, StoreError> {
        self.0.scratch.casualties()
    }

    async fn left_overs(&self, remove: bool) -> Result<LeftOvers, StoreError> {
        let store = self.clone();
        blocking(move || left_overs::find(&store.0, remove)).await
    }

    async fn lock(&self, name: &str, mode: LockMode) -> Result<LockGuard, StoreError> {
        self.lock_now(name, mode).await
    }
}

fn failed(operation: &'static str, path: &Path, e: io::Error) -> StoreError {
    StoreError::Io { operation, what: path.display().to_string(), source: e.into() }
}

fn entry(metadata: &fs::Metadata, target: Option<Key>) -> Entry {
    Entry { size: metadata.len(), version: version_of(metadata), headers: Headers::default(), target }
}

/// A file that is replaced gets another inode; one that is overwritten in place another change time.
fn version_of(metadata: &fs::Metadata) -> Version {
    let (inode, seconds, nanos) = (metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
    Version(format!("{inode}-{seconds}.{nanos}-{}", metadata.len()).into())
}

/// The text of the link under `key` that leads to `target`: relative, so that the tree can be moved.
fn relative(key: &Key, target: &Key) -> String {
    let mut text = "../".repeat(key.components().count() - 1);
    text.push_str(target.as_str());
    text
}

/// The key that a link under `key` leads to, if its text is exactly what [`relative`] writes.
fn link_target(key: &Key, text: &Path) -> Option<Key> {
    let up = (1..key.components().count()).try_fold(text.to_str()?, |text, _| text.strip_prefix("../"));
    up?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        text.parse().unwrap()
    }

    #[test]
    fn links_are_relative_and_read_back() {
        for (from, to, text) in
            [("v2/app/manifests/1", "content/blobs/x", "../../../content/blobs/x"), ("a", "content/x", "content/x")]
        {
            assert_eq!(relative(&key(from), &key(to)), text);
            assert_eq!(link_target(&key(from), Path::new(text)), Some(key(to)));
        }
    }

    #[test]
    fn links_that_lead_elsewhere_are_refused() {
        for text in [
            "/etc/passwd",
            "../../etc/passwd",
            "../../../../etc/passwd",
            "../../../content/../../x",
            "x",
            "../../..",
            "",
        ] {
            assert_eq!(link_target(&key("v2/app/manifests/1"), Path::new(text)), None, "{text:?}");
        }
    }
}

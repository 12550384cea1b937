//! Uploads that go on after the process that began them.
//!
//! A session is a file in `.roadstead/uploads/`, `<id>`, on which whoever works with it holds a lock, and beside it a
//! [`Record`], `<id>.session`. They lie there and not in a folder for a server's own state, since the bytes become content by a
//! rename, which needs the same file system, and since a record without its bytes says nothing.
//!
//! A record is the text of a link that leads nowhere: made and replaced in one step, and most often a part of its inode, so that
//! it costs the next sync no block, as a file would with every upload.
//!
//! What a record says of the hash was true of bytes that were synced before; what came later is read again, so that neither a
//! kill nor a power cut can let a digest be right whose bytes aren't.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;

use super::open::is_absent;
use super::scratch::{is_at, make_private};
use super::upload::{Place, Temporary, Writer, go_on};
use super::{
    Inner, LeftOvers, LocalStore, PRIVATE, Resumed, Session, SessionId, StoreError, Upload, failed, leads_through_link,
    open_no_links, open_regular, read,
};
use crate::oci::{Algorithm, Hasher, Repository};

/// After so many bytes they are synced and the hash of them is recorded: what a kill makes us read again takes a fraction of
/// a second, and few uploads are that large.
const EVERY: u64 = 256 << 20;

const ENDING: &str = ".session";

/// What is known of a session beside its bytes.
struct Record {
    session: Session,
    /// How many bytes the hash went over.
    offset: u64,
    hasher: Hasher,
}

impl Record {
    /// What spells it: the repository, seconds, bytes, and the state of the hash, of a fresh one its name alone.
    fn text(session: &Session, offset: u64, hasher: &Hasher) -> String {
        let hash = if offset == 0 { hasher.algorithm().to_string() } else { hasher.state() };
        format!("{} {} {offset} {hash}", session.repository, session.ttl.as_secs())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(' ');
        let mut next = || fields.next();
        let (repository, ttl, offset, hash) = (next()?, next()?, next()?, next()?);
        let fresh = Algorithm::ALL.into_iter().find(|known| known.as_str() == hash).map(Algorithm::hasher);
        let session =
            Session { repository: repository.parse::<Repository>().ok()?, ttl: Duration::from_secs(ttl.parse().ok()?) };
        Some(Self { session, offset: offset.parse().ok()?, hasher: fresh.or_else(|| Hasher::from_state(hash))? })
    }

    /// `None` if there is none, or nothing that we would have written.
    fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        match fs::read_link(path) {
            Ok(text) => Ok(text.to_str().and_then(Self::parse)),
            Err(e) if is_absent(&e) || e.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(e) => Err(failed("reading", path.parent().unwrap_or(path), e)),
        }
    }
}

/// A session that this process works with.
pub(super) struct Kept {
    path: PathBuf,
    session: Session,
    /// How many bytes the record tells of.
    recorded: u64,
}

impl Kept {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Records how far it is, if it grew much since that was done last.
    pub(super) fn grown(&mut self, store: &LocalStore, file: &File, written: u64, hasher: &Hasher) -> io::Result<()> {
        // What isn't synced is read again.
        if written - self.recorded < EVERY || store.0.flusher.skips() {
            return Ok(());
        }
        store.0.flusher.sync_file(file)?;
        let temporary = Temporary(store.0.scratch.path().map_err(io::Error::other)?);
        symlink(Record::text(&self.session, written, hasher), &temporary.0)?;
        fs::rename(&temporary.0, with_record(&self.path))?;
        self.recorded = written;
        Ok(())
    }

    /// Makes it an upload like any other, which only this process can finish, and which nobody forgets.
    pub(super) fn end(self, store: &Inner) -> Result<Temporary, StoreError> {
        let temporary = Temporary(store.scratch.path()?);
        fs::rename(&self.path, &temporary.0).map_err(|e| failed("writing", &temporary.0, e))?;
        let _ = fs::remove_file(with_record(&self.path));
        Ok(temporary)
    }
}

fn folder(store: &Inner) -> PathBuf {
    store.root.join(PRIVATE).join("uploads")
}

fn with_record(path: &Path) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(ENDING);
    path.into()
}

pub(super) fn begin(
    store: LocalStore,
    id: &SessionId,
    session: Session,
    hasher: Hasher,
) -> Result<Box<dyn Upload>, StoreError> {
    let folder = folder(&store.0);
    make_private(&folder).map_err(|e| failed("writing", &folder, e))?;
    let path = folder.join(id.as_str());
    // Without its name, which is for whoever goes on with it.
    let failed = |e| failed("writing", &folder, e);
    let file = loop {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path).map_err(failed)?;
        // Between the two lines somebody may have taken the new file for a dead one's. They hold it for a moment, and have
        // removed it then, or only counted it.
        file.lock().map_err(failed)?;
        if is_at(&file, &path) {
            break file;
        }
    };
    if let Err(error) = symlink(Record::text(&session, 0, &hasher), with_record(&path)) {
        let _ = fs::remove_file(&path);
        return Err(failed(error));
    }
    let place = Place::Session(Kept { path, session, recorded: 0 });
    Ok(go_on(store, Writer::new(file, hasher, place)))
}

pub(super) fn resume(store: LocalStore, id: &SessionId, now: SystemTime) -> Result<Option<Resumed>, StoreError> {
    let folder = folder(&store.0);
    if leads_through_link(&folder) {
        return Ok(None);
    }
    let path = folder.join(id.as_str());
    let failed = |e| failed("reading", &folder, e);
    let Some(record) = Record::read(&with_record(&path))? else { return Ok(None) };
    let Some((reading, metadata)) = open_regular(&path).map_err(failed)? else { return Ok(None) };
    if lies_still(&metadata, now) > record.session.ttl {
        return Ok(None);
    }
    let Some(file) = open_for_writing(&path, &reading).map_err(failed)? else { return Ok(None) };
    // Its length is asked for once nobody else can write to it.
    let written = file.metadata().map_err(failed)?.len();
    let Record { session, offset, hasher } = record;
    let (recorded, mut hasher) = if offset <= written { (offset, hasher) } else { (0, hasher.algorithm().hasher()) };
    read::hash_range(&reading, recorded..written, &mut hasher, |_| {}).map_err(failed)?;
    let place = Place::Session(Kept { path, session: session.clone(), recorded });
    let upload = go_on(store, Writer { written, ..Writer::new(file, hasher, place) });
    Ok(Some(Resumed { session, upload, offset: written }))
}

/// Opens what nobody may write to any more for one who goes on writing at its end; `None` if somebody else does.
fn open_for_writing(path: &Path, reading: &File) -> io::Result<Option<File>> {
    let mode = reading.metadata()?.permissions().mode();
    reading.set_permissions(fs::Permissions::from_mode(mode | 0o200))?;
    let opened = open_no_links(path, OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK);
    reading.set_permissions(fs::Permissions::from_mode(mode & !0o222))?;
    match opened {
        Ok(file) => Ok((file.try_lock().is_ok() && is_at(&file, path)).then_some(file)),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

pub(super) fn forget(store: &Inner, id: &SessionId) -> Result<(), StoreError> {
    let folder = folder(store);
    if leads_through_link(&folder) {
        return Ok(());
    }
    let path = folder.join(id.as_str());
    remove(&path).map_err(|e| failed("deleting", &folder, e))
}

/// The bytes first: a record alone is nobody's.
fn remove(path: &Path) -> io::Result<()> {
    for path in [path, &with_record(path)] {
        match fs::remove_file(path) {
            Err(e) if !is_absent(&e) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// For how long nothing was written to a file. One from the future was written a moment ago.
fn lies_still(metadata: &fs::Metadata, now: SystemTime) -> Duration {
    let modified = metadata.modified().unwrap_or(now);
    now.duration_since(modified).unwrap_or_default()
}

/// The sessions of dead processes that nobody went on with for as long as they wait, and what is no session; removes them if
/// asked to.
pub(super) fn abandoned(store: &Inner, now: SystemTime, remove_them: bool) -> Result<LeftOvers, StoreError> {
    let folder = folder(store);
    let mut found = LeftOvers::default();
    if leads_through_link(&folder) {
        return Ok(found);
    }
    let failed = |e| failed("listing", &folder, e);
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
        other => other.map_err(failed)?,
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if let Some(path) = path.to_str().and_then(|path| path.strip_suffix(ENDING)) {
            // What it belonged to is content by now, or gone.
            let path = Path::new(path);
            if remove_them && fs::symlink_metadata(path).is_err_and(|e| is_absent(&e)) {
                remove(path).map_err(failed)?;
            }
            continue;
        }
        let Some((reading, metadata)) = open_regular(&path).map_err(failed)? else { continue };
        let ttl = Record::read(&with_record(&path))?.map_or(Duration::ZERO, |record| record.session.ttl);
        if lies_still(&metadata, now) < ttl {
            continue;
        }
        // Nor those of another user, whose own server sees to them.
        let Ok(Some(_dead)) = open_for_writing(&path, &reading) else { continue };
        found.files += 1;
        found.bytes += metadata.len();
        if remove_them {
            remove(&path).map_err(failed)?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Whoever looks for what the dead left sees a new session at every moment, also before it is anybody's.
    #[test]
    fn sessions_begin_beside_those_who_look_for_abandoned_ones() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::create(folder.path()).unwrap();
        let done = AtomicBool::new(false);
        let begin_one = |number: u128| {
            let id = SessionId::from_random(number.to_be_bytes());
            let session = Session { repository: "app".parse().unwrap(), ttl: Duration::from_secs(60) };
            let _upload = begin(store.clone(), &id, session, Algorithm::Sha256.hasher())?;
            let path = super::folder(&store.0).join(id.as_str());
            let is_whole = path.exists() && fs::read_link(with_record(&path)).is_ok();
            forget(&store.0, &id).map(|()| is_whole)
        };
        let begun = std::thread::scope(|scope| {
            for remove in [true, false] {
                let (store, done) = (&store, &done);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        abandoned(&store.0, SystemTime::now(), remove).unwrap();
                    }
                });
            }
            let begun: Result<Vec<bool>, StoreError> = (0..2000).map(begin_one).collect();
            done.store(true, Ordering::Relaxed);
            begun
        });
        assert!(begun.unwrap().into_iter().all(|is_whole| is_whole));
    }
}

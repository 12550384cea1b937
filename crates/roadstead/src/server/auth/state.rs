//! The folder beside a tree where a server keeps what nobody else may read: users, grants, and the key that signs tokens.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::AccessError;

/// The most bytes of a file in here: some ten thousand users.
const MAX_SIZE: u64 = 4 << 20;

/// A server's own folder. It must not lie in a tree, where a web server could hand it out.
///
/// ```text
/// DIR/            0700
/// ├── users       htpasswd: NAME:HASH, one a line
/// ├── grants.toml who may do what, and who else may say who somebody is
/// ├── key         signs tokens; 0600
/// └── lock        held by whoever changes users
/// ```
#[derive(Debug, Clone)]
pub struct State {
    folder: PathBuf,
}

impl State {
    /// The folder at a place, whether or not there is one yet.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of users.
    #[must_use]
    pub fn users(&self) -> PathBuf {
        self.folder.join("users")
    }

    /// The file of grants.
    #[must_use]
    pub fn grants(&self) -> PathBuf {
        self.folder.join("grants.toml")
    }

    /// Makes the folder, closed to others, if it isn't there.
    pub(super) fn create(&self) -> Result<(), AccessError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(|e| failed(&self.folder, e))
    }

    /// The key that signs tokens. It is made at first, from random bytes, and then stays.
    pub(super) fn key(&self) -> Result<[u8; 32], AccessError> {
        let path = self.folder.join("key");
        self.create()?;
        if let Some(bytes) = read(&path)? {
            let key = <[u8; 32]>::try_from(bytes);
            return key.map_err(|_| AccessError::File {
                path,
                problem: "is no key: remove it, and everybody who is logged in has to do it again".to_owned(),
            });
        }
        let mut key = [0; 32];
        random(&mut key)?;
        // By a link, so that of two servers that start at the same time one makes the key and both use it.
        let fresh = self.folder.join(format!("key.{}", std::process::id()));
        write(&fresh, &key, None)?;
        let linked = fs::hard_link(&fresh, &path);
        let _ = fs::remove_file(&fresh);
        match linked {
            Ok(()) => Ok(key),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.key(),
            Err(e) => Err(failed(&path, e)),
        }
    }

    /// Keeps others from changing the users until it is dropped.
    pub(super) fn lock(&self) -> Result<File, AccessError> {
        self.create()?;
        let path = self.folder.join("lock");
        let open = || {
            let no_link = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
            let mut options = OpenOptions::new();
            let file =
                options.create(true).truncate(false).write(true).mode(0o600).custom_flags(no_link).open(&path)?;
            file.lock()?;
            io::Result::Ok(file)
        };
        open().map_err(|e| failed(&path, e))
    }

    /// Puts a file in place of another in one instant, durably. It is then whose the other was, or the folder is: the server may
    /// run as somebody else than who changes its files.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), AccessError> {
        let fresh = path.with_extension("new");
        let before = fs::metadata(path).or_else(|_| fs::metadata(&self.folder)).ok();
        write(&fresh, bytes, before.map(|before| (before.uid(), before.gid())))?;
        let renamed = fs::rename(&fresh, path).and_then(|()| File::open(&self.folder)?.sync_all());
        renamed.map_err(|e| failed(path, e))
    }
}

fn failed(path: &Path, source: io::Error) -> AccessError {
    AccessError::Unusable { path: path.to_owned(), source }
}

/// Writes a file that is new, whatever lay in its place: root may do this in a folder that is somebody else's.
fn write(path: &Path, bytes: &[u8], owner: Option<(u32, u32)>) -> Result<(), AccessError> {
    let write = || {
        let _ = fs::remove_file(path);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        if let Some((user, group)) = owner {
            // Only root can give a file away; anybody else has made one of their own.
            let _ = std::os::unix::fs::fchown(&file, Some(user), Some(group));
        }
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| failed(path, e))
}

/// What a file holds; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, AccessError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(path, e)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(|e| failed(path, e))?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(AccessError::File { path: path.to_owned(), problem: format!("has more than {MAX_SIZE} bytes") });
    }
    Ok(Some(bytes))
}

/// Bytes that nobody guesses.
pub(super) fn random(bytes: &mut [u8]) -> Result<(), AccessError> {
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(bytes).map_err(|_| AccessError::NoRandom)
}

/// What tells one version of a file from the next; `None` if there is none.
pub(in super::super) type Stamp = Option<(u64, u64, i64, i64, i64)>;

pub(in super::super) fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    // The time of the last change of status moves also when somebody sets that of the content back.
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec(), found.ctime_nsec() ^ found.ctime()))
}

/// A file that is read again when it has changed.
pub(super) struct Watched<T> {
    path: PathBuf,
    parse: Parse<T>,
    /// What counts while the file can't be read, or is gone after it was there: what lets nobody in.
    closed: fn() -> T,
    known: Mutex<Known<T>>,
}

type Parse<T> = Box<dyn Fn(&[u8]) -> Result<T, String> + Send + Sync>;

struct Known<T> {
    stamp: Stamp,
    /// Whether there ever was a file.
    seen: bool,
    value: Arc<T>,
}

impl<T> Watched<T> {
    /// Reads the file. Without one, and as long as there was none, `absent` counts.
    pub(super) fn new(
        path: PathBuf,
        absent: fn() -> T,
        closed: fn() -> T,
        parse: impl Fn(&[u8]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, AccessError> {
        let stamp = stamp(&path);
        let parse: Parse<T> = Box::new(parse);
        let value = match read(&path)? {
            None => absent(),
            Some(bytes) => parse(&bytes).map_err(|problem| AccessError::File { path: path.clone(), problem })?,
        };
        let known = Mutex::new(Known { seen: stamp.is_some(), stamp, value: Arc::new(value) });
        Ok(Self { path, parse, closed, known })
    }

    /// What the file says now.
    pub(super) fn get(&self) -> Arc<T> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the content, so that what changes in between shows at the next look.
        let now = stamp(&self.path);
        if known.stamp != now {
            let value = match read(&self.path) {
                Ok(Some(bytes)) => (self.parse)(&bytes),
                Ok(None) if !known.seen => return Arc::clone(&known.value),
                Ok(None) => Err("is gone".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            let value = value.unwrap_or_else(|problem| {
                tracing::error!(path = ?self.path, "nobody gets in by this file until it can be read: {problem}");
                (self.closed)()
            });
            *known = Known { stamp: now, seen: true, value: Arc::new(value) };
        }
        Arc::clone(&known.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let parse = |bytes: &[u8]| if bytes == b"bad" { Err("is bad".to_owned()) } else { Ok(bytes.len()) };
        let watched = Watched::new(path.clone(), || 100, || 0, parse).unwrap();
        assert_eq!(*watched.get(), 100, "there is none");
        fs::write(&path, "1234").unwrap();
        assert_eq!(*watched.get(), 4);
        fs::write(&path, "bad").unwrap();
        assert_eq!(*watched.get(), 0, "what can't be read lets nobody in");
        fs::write(&path, "12").unwrap();
        assert_eq!(*watched.get(), 2);
        fs::remove_file(&path).unwrap();
        assert_eq!(*watched.get(), 0, "what was there and is gone lets nobody in, either");
        fs::write(&path, "bad").unwrap();
        assert!(Watched::new(path, || 100, || 0, parse).is_err(), "at the start it is told");
    }

    #[test]
    fn no_link_leads_a_writer_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path().join("state"));
        state.create().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, "untouched").unwrap();
        for name in ["users.new", "lock"] {
            std::os::unix::fs::symlink(&elsewhere, state.folder.join(name)).unwrap();
        }
        state.replace(&state.users(), b"ann:x").unwrap();
        assert_eq!(fs::read(state.users()).unwrap(), b"ann:x");
        assert!(state.lock().is_err());
        assert_eq!(fs::read(&elsewhere).unwrap(), b"untouched");
    }

    #[test]
    fn a_key_stays_and_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path().join("a/b"));
        let key = state.key().unwrap();
        assert_eq!(state.key().unwrap(), key);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state.folder), mode(&state.folder.join("key"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&state.folder).unwrap().count(), 1);
        fs::write(state.folder.join("key"), "short").unwrap();
        assert!(state.key().unwrap_err().to_string().contains("is no key"));
    }
}

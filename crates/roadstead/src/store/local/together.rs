//! Questions about several names that lie together: the way to their folder is gone once.
//!
//! Most of what a name costs the kernel is its path, from the root of the file system down. The folder is open only while
//! one call asks, so that it can't be another one by then.

use std::fs::File;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::open::open_no_links;
use super::{Key, LocalStore, Store as _, StoreError};

/// How many folders are open in one call.
const FOLDERS: usize = 8;

/// The longest text of a link that is read here.
const LINK: usize = 1024;

/// How long next to all objects are at most of which the beginning is asked for, in bytes: manifests.
const MOST: usize = 16 * 1024;

/// The folders of the names that were asked about last.
struct Folders<'a> {
    store: &'a LocalStore,
    open: Vec<(String, Option<OwnedFd>)>,
}

impl<'a> Folders<'a> {
    const fn new(store: &'a LocalStore) -> Self {
        Self { store, open: Vec::new() }
    }

    /// The folder in which a key lies; `None` if that has to be asked of the whole path.
    fn of(&mut self, key: &Key) -> Option<&OwnedFd> {
        let folder = key.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
        let at = match self.open.iter().position(|(open, _)| open == folder) {
            Some(at) => at,
            None => {
                if self.open.len() == FOLDERS {
                    self.open.remove(0);
                }
                let path = self.store.0.root.join(folder);
                let opened = open_no_links(&path, OFlags::PATH | OFlags::DIRECTORY).ok().map(OwnedFd::from);
                self.open.push((folder.to_owned(), opened));
                self.open.len() - 1
            }
        };
        self.open[at].1.as_ref()
    }
}

/// Where each of several links leads, as [`read_link`](LocalStore::read_link) says.
pub(super) fn targets(store: &LocalStore, keys: &[Key]) -> Vec<Result<Option<Key>, StoreError>> {
    let mut folders = Folders::new(store);
    let mut buffer = [MaybeUninit::uninit(); LINK];
    keys.iter()
        .map(|key| {
            let read = folders.of(key).map(|folder| rustix::fs::readlinkat_raw(folder, key.name(), &mut buffer));
            match read {
                Some(Ok((text, rest))) if !rest.is_empty() => {
                    if let Some(target) =
                        std::str::from_utf8(text).ok().and_then(|text| super::link_target(key, Path::new(text)))
                    {
                        return Ok(Some(target));
                    }
                }
                Some(Err(rustix::io::Errno::NOENT)) => return Ok(None),
                _ => {}
            }
            // Whatever is unusual is said by who asks for one.
            store.read_link(key, &store.path(key))
        })
        .collect()
}

/// The size of each of several objects, as [`head_now`](LocalStore::head_now) says.
pub(super) fn sizes(store: &LocalStore, keys: &[Key]) -> Vec<Result<Option<u64>, StoreError>> {
    let mut folders = Folders::new(store);
    keys.iter()
        .map(|key| {
            let found = folders.of(key).map(|folder| rustix::fs::statat(folder, key.name(), AtFlags::SYMLINK_NOFOLLOW));
            match found {
                Some(Ok(stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                    Ok(u64::try_from(stat.st_size).ok())
                }
                Some(Err(rustix::io::Errno::NOENT)) => Ok(None),
                // A link, or whatever is unusual.
                _ => Ok(store.head_now(key)?.map(|entry| entry.size)),
            }
        })
        .collect()
}

/// The beginning of each of several objects.
pub(super) async fn beginnings(store: &LocalStore, keys: &[Key], limit: u64) -> Result<Vec<Option<Bytes>>, StoreError> {
    let mut folders = Folders::new(store);
    // Nearly everything fits, so that it is read in one piece.
    let mut buffer = Vec::with_capacity(MOST);
    let mut read = Vec::with_capacity(keys.len());
    for key in keys {
        buffer.clear();
        let file = folders.of(key).and_then(|folder| open_in(folder, key.name()).ok());
        read.push(match file.map(|file| file.take(limit).read_to_end(&mut buffer)) {
            Some(Ok(_)) => Some(Bytes::copy_from_slice(&buffer)),
            _ => match store.get(key, Some(0..limit)).await? {
                Some(object) => Some(object.body.into_bytes(limit, key).await?),
                None => None,
            },
        });
    }
    Ok(read)
}

/// Opens a file of a folder, and nothing that a name may be instead of one.
fn open_in(folder: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?.into())
}

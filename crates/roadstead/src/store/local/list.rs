//! What lies in a folder.

use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, os::fd::OwnedFd};

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use rustix::fs::{FileType, OFlags, RawDir};

use super::open::{is_absent, open_no_links};
use super::{StoreError, blocking, failed};

/// How many bytes of entries are read at first, some dozens: many only ask whether there is anything.
const FIRST: usize = 4 << 10;
/// And how many then.
const THEN: usize = 64 << 10;

/// A folder being listed.
enum Folder {
    Unopened(PathBuf),
    Open(PathBuf, OwnedFd),
}

impl Folder {
    /// The folder, and how many bytes of entries to read; `None` if it isn't there, or is reached through a link.
    fn open(self) -> Result<Option<(PathBuf, OwnedFd, usize)>, StoreError> {
        match self {
            Self::Open(path, folder) => Ok(Some((path, folder, THEN))),
            Self::Unopened(path) => match open_no_links(&path, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(folder) => Ok(Some((path, folder.into(), FIRST))),
                Err(e) if is_absent(&e) || super::open::is_link(&e) => Ok(None),
                Err(e) => Err(failed("listing", &path, e)),
            },
        }
    }
}

/// What `make` makes of the entries of a folder, given the name of each and whether it is a folder. They are read as they are
/// asked for.
pub(super) fn entries<T: Send + 'static>(
    folder: PathBuf,
    make: impl Fn(&str, bool) -> Option<T> + Send + Sync + 'static,
) -> BoxStream<'static, Result<T, StoreError>> {
    let make = Arc::new(make);
    stream::try_unfold(Folder::Unopened(folder), move |folder| {
        let make = make.clone();
        blocking(move || {
            let Some((path, folder, size)) = folder.open()? else { return Ok(None) };
            let read = some(&folder, &path, size, &*make).map_err(|e| failed("listing", &path, e))?;
            Ok(read.map(|read| (stream::iter(read.into_iter().map(Ok)), Folder::Open(path, folder))))
        })
    })
    .try_flatten()
    .boxed()
}

/// The next entries, as many as the kernel gives at once; `None` at the end.
fn some<T>(
    folder: &OwnedFd,
    path: &Path,
    size: usize,
    make: &impl Fn(&str, bool) -> Option<T>,
) -> io::Result<Option<Vec<T>>> {
    let mut buffer = vec![MaybeUninit::uninit(); size];
    let mut entries = RawDir::new(folder, &mut buffer);
    let mut made = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            // Somebody removed the folder, which was empty then.
            Err(rustix::io::Errno::NOENT) => break,
            entry => entry?,
        };
        if let Ok(name) = entry.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            let kind = match entry.file_type() {
                // Some file systems don't tell the kind with the name, and it may have gone meanwhile.
                FileType::Unknown => match fs::symlink_metadata(path.join(name)) {
                    Ok(metadata) => Some(metadata.is_dir()),
                    Err(e) if is_absent(&e) => None,
                    Err(e) => return Err(e),
                },
                kind => Some(kind == FileType::Directory),
            };
            made.extend(kind.and_then(|is_folder| make(name, is_folder)));
        }
        if entries.is_buffer_empty() {
            return Ok(Some(made));
        }
    }
    Ok((!made.is_empty()).then_some(made))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_is_removed_meanwhile_ends() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("folder");
        fs::create_dir(&folder).unwrap();
        // More than are read at once.
        for n in 0..1000 {
            fs::write(folder.join(format!("{n:0>100}")), "").unwrap();
        }
        let mut listed = entries(folder.clone(), |name, _| Some(name.to_owned()));
        listed.try_next().await.unwrap().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let rest: Vec<String> = listed.try_collect().await.unwrap();
        assert!(rest.len() < 999, "all were read at once: {}", rest.len());
    }
}

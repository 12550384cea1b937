//! Opening what lies under a path, and nothing that a path may lead to instead.

use std::fs::{self, File};
use std::io;
use std::path::Path;

#[cfg(target_os = "linux")]
use rustix::fs::ResolveFlags;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// Whether the error says that there is nothing under a path.
pub(super) fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Opens a regular file, and nothing that a path may be instead of one.
pub(crate) fn open_regular(path: &Path) -> io::Result<Option<(File, fs::Metadata)>> {
    match open_no_links(path, OFlags::RDONLY | OFlags::NONBLOCK) {
        Ok(file) => {
            let metadata = file.metadata()?;
            Ok(metadata.is_file().then_some((file, metadata)))
        }
        // A link or a socket where content should be is as good as nothing.
        Err(e) if is_absent(&e) || is_link(&e) || errno(&e) == Some(Errno::NXIO) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens a path that has no links in it: a tree from elsewhere may lead out by a folder that is one.
pub(super) fn open_no_links(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() };
    #[cfg(target_os = "linux")]
    match rustix::fs::openat2(CWD, path, flags, mode, ResolveFlags::NO_SYMLINKS) {
        // Kernels before 5.6, and containers whose filter is as old.
        Err(Errno::NOSYS | Errno::PERM) => {}
        other => return Ok(other?.into()),
    }
    // One look at each folder: slower, and blind to one that is swapped meanwhile, but good against a tree as it came.
    for above in path.ancestors().skip(1) {
        if fs::symlink_metadata(above).is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(Errno::LOOP.into());
        }
    }
    Ok(rustix::fs::openat(CWD, path, flags, mode)?.into())
}

/// Whether a folder is a link or a file, or below one: a name that others' keys can't begin with.
pub(super) fn leads_through_link(folder: &Path) -> bool {
    // A link at the very end is opened as itself, and then found to be no folder.
    open_no_links(folder, OFlags::PATH | OFlags::DIRECTORY)
        .is_err_and(|e| is_link(&e) || e.kind() == io::ErrorKind::NotADirectory)
}

fn errno(e: &io::Error) -> Option<Errno> {
    Errno::from_io_error(e)
}

/// Whether the error says that a path is a link, or leads through one.
pub(super) fn is_link(e: &io::Error) -> bool {
    errno(e) == Some(Errno::LOOP)
}

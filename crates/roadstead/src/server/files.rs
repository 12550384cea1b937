//! Reading files without stalling others.
//!
//! Everything that a warm page cache answers is done in place: handing it to another thread would take longer than the
//! work. What may wait for a disk runs where waiting is allowed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use tokio::runtime::{Handle, RuntimeFlavor};

/// How many bytes are moved at a time: large enough that system calls don't count, small enough that one fast client
/// does not keep others waiting for long.
pub(super) const CHUNK: u64 = 512 << 10;

/// Runs what may wait for a disk. On a runtime of several threads its other tasks move to another thread meanwhile.
pub(super) fn waiting<T>(work: impl FnOnce() -> T) -> T {
    let several = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if several { tokio::task::block_in_place(work) } else { work() }
}

/// Whether the bytes at `start` and before `end` are in memory. What lies between was most likely read with them.
#[cfg(target_os = "linux")]
pub(super) fn is_warm(file: &File, start: u64, end: u64) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let probe = |offset| {
        let mut byte = [0];
        // File systems that can't tell count as cold: that is slower, never wrong.
        preadv2(file, &mut [io::IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT).is_ok_and(|n| n == 1)
    };
    probe(start) && probe(end.saturating_sub(1))
}

/// Whether the bytes are in memory: unknown here.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_warm(_: &File, _: u64, _: u64) -> bool {
    false
}

/// Reads up to [`CHUNK`] bytes of a file, from `start` and before `end`.
///
/// # Errors
///
/// If the file can't be read or has fewer bytes: its length was promised.
pub(super) fn read(file: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from((end - start).min(CHUNK / 2)).unwrap_or(usize::MAX);
    let fill = || {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, start).map(|()| bytes)
    };
    if is_warm(file, start, start + length as u64) { fill() } else { waiting(fill) }
}

//! Reading files without stalling others.
//!
//! Everything that a warm page cache answers is done in place: handing it to another thread would take longer than the
//! work. What may wait for a disk runs where waiting is allowed.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use tokio::runtime::{Handle, RuntimeFlavor};

/// How many bytes are moved at a time: large enough that system calls don't count, small enough that one fast client
/// does not keep others waiting for long.
pub(super) const CHUNK: u64 = 512 << 10;

/// How many bytes are lent at a time: few enough to be still in the processor's cache when they are taken.
const PIECE: usize = 256 << 10;

/// Runs what may wait for a disk. On a runtime of several threads its other tasks move to another thread meanwhile.
pub(super) fn waiting<T>(work: impl FnOnce() -> T) -> T {
    let several = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if several { tokio::task::block_in_place(work) } else { work() }
}

/// Whether the bytes at `start` and before `end` are in memory. What lies between was most likely read with them.
#[cfg(target_os = "linux")]
pub(super) fn is_warm(file: &File, start: u64, end: u64) -> bool {
    let probe = |offset| read_warm(file, offset, &mut [0]).is_some();
    probe(start) && probe(end.saturating_sub(1))
}

/// Reads bytes that are in memory. File systems that can't tell count as cold: that is slower, never wrong.
#[cfg(target_os = "linux")]
fn read_warm(file: &File, start: u64, bytes: &mut [u8]) -> Option<usize> {
    use rustix::io::{ReadWriteFlags, preadv2};
    let read = preadv2(file, &mut [io::IoSliceMut::new(bytes)], start, ReadWriteFlags::NOWAIT);
    read.ok().filter(|count| *count > 0)
}

/// Reads bytes that are in memory: which are, is unknown here.
#[cfg(not(target_os = "linux"))]
fn read_warm(_: &File, _: u64, _: &mut [u8]) -> Option<usize> {
    None
}

/// Hands the next bytes of a file to `take`: from `start` and before `end`, at most [`PIECE`]. They lie in a buffer
/// of the thread, so that memory doesn't grow with the number of clients.
///
/// # Errors
///
/// If the file can't be read or ends at `start`: its length was promised.
pub(super) fn lend<T>(file: &File, start: u64, end: u64, take: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(PIECE, 0);
        let length = usize::try_from(end - start).map_or(PIECE, |left| left.min(PIECE));
        let piece = &mut buffer[..length];
        let count = match read_warm(file, start, piece) {
            Some(count) => count,
            None => waiting(|| file.read_at(piece, start))?,
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(take(&piece[..count]))
    })
}

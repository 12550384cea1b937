//! Reading files whole or in part, away from the threads that must not wait.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;

use super::StoreError;
use crate::oci::{Digest, Hasher};

/// Runs work that may block on a thread for that.
pub(in crate::store) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(e) => Err(StoreError::Io { operation: "running", what: "a task".to_owned(), source: e.into() }),
        },
    }
}

/// The bytes in `range` of a file.
pub(in crate::store) fn read_range(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

/// The digest of the bytes in `range` of a file, read on a thread for blocking work. A file that is shorter than it was said
/// to be has the digest of what there is.
pub(in crate::store) async fn digest_range(
    file: File,
    range: Range<u64>,
    mut hasher: Hasher,
    what: String,
    seen: impl Fn(u64) + Send + 'static,
) -> Result<Digest, StoreError> {
    blocking(move || {
        let hashed = hash_range(&file, range, &mut hasher, seen);
        hashed.map_err(|e| StoreError::Io { operation: "reading", what, source: e.into() })?;
        Ok(hasher.finish())
    })
    .await
}

/// Takes the bytes in `range` of a file, as far as there are any, into a hash.
pub(super) fn hash_range(file: &File, range: Range<u64>, hasher: &mut Hasher, seen: impl Fn(u64)) -> io::Result<()> {
    /// Half of what a processor's second cache holds: what is read is hashed from there.
    const PIECE: usize = 512 << 10;
    let mut buffer = vec![0; PIECE.min(usize::try_from(range.end - range.start).unwrap_or(PIECE)).max(1)];
    let mut at = range.start;
    while at < range.end {
        let most = buffer.len().min(usize::try_from(range.end - at).unwrap_or(usize::MAX));
        match file.read_at(&mut buffer[..most], at) {
            Ok(0) => break,
            Ok(read) => {
                hasher.update(&buffer[..read]);
                seen(read as u64);
                at += read as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

//! Pieces of files, in memory that is used again: new memory for each would take the kernel as long as to fill it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};

use crate::store::{Key, StoreError};

/// How many bytes are read at once. What is read is hashed from a processor's second cache.
const PIECE: usize = 256 << 10;

/// Memory that nobody uses now.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// Memory that comes back when the last piece of it is gone.
struct Lent {
    buffer: Vec<u8>,
    length: usize,
    to: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.to.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

impl Buffers {
    /// The bytes of a file in order. One that has become shorter ends them with an error that names `what`.
    pub(super) fn read(
        &self,
        file: File,
        range: Range<u64>,
        what: &Key,
    ) -> impl Stream<Item = Result<Bytes, StoreError>> + use<> {
        let (file, buffers, what) = (Arc::new(file), self.clone(), what.clone());
        let pieces = range.clone().step_by(PIECE).map(move |start| {
            let (file, buffers, what) = (file.clone(), buffers.clone(), what.clone());
            let length = (range.end - start).min(PIECE as u64) as usize;
            async move {
                let read = tokio::task::spawn_blocking(move || buffers.fill(&file, start, length)).await;
                read.map_err(io::Error::other).flatten().map_err(|error| StoreError::Io {
                    operation: "reading",
                    what: what.to_string(),
                    source: error.into(),
                })
            }
        });
        // One piece is read while the one before it is handed on.
        stream::iter(pieces).buffered(2)
    }

    fn fill(&self, file: &File, start: u64, length: usize) -> io::Result<Bytes> {
        let buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_else(|| vec![0; PIECE]);
        let mut lent = Lent { buffer, length, to: self.clone() };
        file.read_exact_at(&mut lent.buffer[..length], start)?;
        Ok(Bytes::from_owner(lent))
    }
}

//! A part of a file, read where it lies.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};

use crate::image::{ByteStream, SourceError};
use crate::oci::{Algorithm, Digest};

/// How many bytes are read at once. Two such pieces are in memory for each stream.
const PIECE: u64 = 256 << 10;

/// Bytes at rest.
#[derive(Debug, Clone)]
pub(super) enum Section {
    /// Those in a range of a file.
    File { file: Arc<File>, range: Range<u64> },
    /// Those that were made here.
    Memory(Bytes),
}

impl Section {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::File { range, .. } => range.end - range.start,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// The bytes from `from` on. A file that has become shorter meanwhile ends the stream with an error that names `what`.
    pub(super) fn stream(self, from: u64, what: String) -> ByteStream {
        let (file, range) = match self {
            Self::Memory(bytes) => {
                let from = usize::try_from(from).map_or(bytes.len(), |from| from.min(bytes.len()));
                return stream::iter([Ok(bytes.slice(from..))]).boxed();
            }
            Self::File { file, range } => (file, range),
        };
        let starts = (range.start.saturating_add(from)..range.end).step_by(PIECE as usize);
        let pieces = starts.map(move |start| {
            let (file, what) = (file.clone(), what.clone());
            let piece = start..range.end.min(start + PIECE);
            blocking(move || read_range(&file, piece).map_err(|e| failed(what, e)))
        });
        // One piece is read while the one before it is hashed and written.
        stream::iter(pieces).buffered(2).boxed()
    }

    /// All bytes, if there are at most `limit`. Blocks.
    pub(super) fn read(&self, limit: u64, what: &str) -> Result<Bytes, SourceError> {
        if self.size() > limit {
            let problem = format!("it has {} bytes, and at most {limit} are accepted", self.size());
            return Err(SourceError::Invalid { what: what.to_owned(), problem });
        }
        self.read_part(0..self.size(), what)
    }

    /// The digest of all bytes. Blocks.
    pub(super) fn digest(&self, algorithm: Algorithm, what: &str) -> Result<Digest, SourceError> {
        let mut hasher = algorithm.hasher();
        for start in (0..self.size()).step_by(PIECE as usize) {
            hasher.update(&self.read_part(start..self.size().min(start + PIECE), what)?);
        }
        Ok(hasher.finish())
    }

    /// The first `length` bytes, or all if there are fewer. Blocks.
    pub(super) fn head(&self, length: u64, what: &str) -> Result<Bytes, SourceError> {
        self.read_part(0..self.size().min(length), what)
    }

    fn read_part(&self, part: Range<u64>, what: &str) -> Result<Bytes, SourceError> {
        match self {
            Self::File { file, range } => {
                let part = range.start + part.start..range.start + part.end;
                read_range(file, part).map_err(|e| failed(what.to_owned(), e))
            }
            Self::Memory(bytes) => Ok(bytes.slice(part.start as usize..part.end as usize)),
        }
    }
}

pub(super) fn failed(what: impl Into<String>, e: io::Error) -> SourceError {
    SourceError::Failed { what: what.into(), source: e.into() }
}

pub(super) fn read_range(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

/// Runs work that may block on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(e) => Err(SourceError::Failed { what: "reading".to_owned(), source: e.into() }),
        },
    }
}

//! What a store hands out under a key.

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Entry, Key, StoreError, local};
use crate::oci::{Digest, Hasher};

/// An object's bytes, in the form that the store has them in.
pub enum Body {
    /// All of them.
    Bytes(Bytes),
    /// A range of an open regular file, so that a server can hand it to the kernel.
    File {
        /// The file. Its offset is undefined.
        file: std::fs::File,
        /// The bytes meant.
        range: Range<u64>,
    },
    /// As they come.
    Stream(BoxStream<'static, Result<Bytes, StoreError>>),
}

/// How many bytes of a file are read at once. Two such pieces are in memory for each stream.
const PIECE: u64 = 256 << 10;

/// `range`, or everything, cut to an object of `size` bytes.
pub(super) fn clamp(range: Option<Range<u64>>, size: u64) -> Range<u64> {
    let Range { start, end } = range.unwrap_or(0..size);
    let start = start.min(size);
    start..end.clamp(start, size)
}

impl Body {
    /// All the bytes, in memory: only for objects that are known to be small.
    ///
    /// # Errors
    ///
    /// If they can't be read, or are more than `limit`.
    pub async fn into_bytes(self, limit: u64, what: &Key) -> Result<Bytes, StoreError> {
        let failed = |source: Box<dyn Error + Send + Sync>| StoreError::Io {
            operation: "reading",
            what: what.to_string(),
            source,
        };
        let too_large = || failed(format!("more than {limit} bytes").into());
        match self {
            Self::Bytes(bytes) if bytes.len() as u64 <= limit => Ok(bytes),
            Self::File { file, range } if range.end - range.start <= limit => {
                local::read_range(&file, range).map_err(|e| failed(e.into()))
            }
            Self::Bytes(_) | Self::File { .. } => Err(too_large()),
            Self::Stream(mut stream) => {
                let mut whole = bytes::BytesMut::new();
                while let Some(bytes) = stream.try_next().await? {
                    if (whole.len() + bytes.len()) as u64 > limit {
                        return Err(too_large());
                    }
                    whole.extend_from_slice(&bytes);
                }
                Ok(whole.freeze())
            }
        }
    }

    /// The bytes in order, as they are read. A file that has become shorter meanwhile ends them with an error that names `what`.
    #[must_use]
    pub fn into_stream(self, what: &Key) -> BoxStream<'static, Result<Bytes, StoreError>> {
        let (file, range) = match self {
            Self::Bytes(bytes) => return stream::iter([Ok(bytes)]).boxed(),
            Self::Stream(stream) => return stream,
            Self::File { file, range } => (Arc::new(file), range),
        };
        let what = what.clone();
        let pieces = range.clone().step_by(PIECE as usize).map(move |start| {
            let (file, what, piece) = (file.clone(), what.to_string(), start..range.end.min(start + PIECE));
            local::blocking(move || {
                let failed = |e: std::io::Error| StoreError::Io { operation: "reading", what, source: e.into() };
                local::read_range(&file, piece).map_err(failed)
            })
        });
        // One piece is read while the one before it is hashed and written.
        stream::iter(pieces).buffered(2).boxed()
    }
}

impl Body {
    /// The digest of all the bytes, in memory that doesn't grow with them; tells `seen` of every piece. Files are read and
    /// hashed on a thread for that.
    ///
    /// # Errors
    ///
    /// If the bytes can't be read to their end.
    pub async fn digest(
        self,
        mut hasher: Hasher,
        what: &Key,
        seen: impl Fn(u64) + Send + 'static,
    ) -> Result<Digest, StoreError> {
        match self {
            Self::Bytes(bytes) => {
                hasher.update(&bytes);
                seen(bytes.len() as u64);
            }
            Self::File { file, range } => {
                let what = what.to_string();
                return local::digest_range(file, range, hasher, what, seen).await;
            }
            Self::Stream(mut stream) => {
                while let Some(bytes) = stream.try_next().await? {
                    hasher.update(&bytes);
                    seen(bytes.len() as u64);
                }
            }
        }
        Ok(hasher.finish())
    }
}

/// An object: what is known of it, and its bytes or the range that was asked for.
pub struct Object {
    /// What is known of it.
    pub entry: Entry,
    /// The bytes.
    pub body: Body,
}

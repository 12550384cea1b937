//! Blobs, judged while they pass.

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;

use super::sink::PutError;
use super::source::ByteStream;
use crate::oci::{Algorithm, Descriptor, Digest, Hasher, MAX_BLOB_SIZE};

/// The bytes of a blob on the way to a medium that can't judge them itself. Its end comes only if they are what was expected,
/// so whoever holds the last piece back until then hands out nothing whole that is wrong.
pub(crate) struct Checked {
    bytes: ByteStream,
    expected: Option<Descriptor>,
    hasher: Option<Hasher>,
    size: u64,
    actual: Option<Digest>,
}

impl Checked {
    /// Bytes that should be those of a blob.
    pub(crate) fn expecting(expected: &Descriptor, bytes: ByteStream) -> Self {
        let hasher = Some(expected.digest.algorithm().hasher());
        Self { bytes, expected: Some(expected.clone()), hasher, size: 0, actual: None }
    }

    /// Bytes that will get a digest when they end.
    pub(crate) fn naming(algorithm: Algorithm, bytes: ByteStream) -> Self {
        Self { bytes, expected: None, hasher: Some(algorithm.hasher()), size: 0, actual: None }
    }

    /// The next piece, never empty; `None` after the last, and if all were right.
    ///
    /// # Errors
    ///
    /// [`PutError::Source`] if they break off, [`PutError::Mismatch`] if they are others than were expected.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, PutError> {
        while let Some(hasher) = &mut self.hasher {
            match self.bytes.try_next().await? {
                Some(piece) if piece.is_empty() => {}
                Some(piece) => {
                    hasher.update(&piece);
                    self.size += piece.len() as u64;
                    self.judge_length()?;
                    return Ok(Some(piece));
                }
                None => self.judge()?,
            }
        }
        Ok(None)
    }

    /// `begun` and what follows, up to `limit` bytes and the rest of the last piece; whether that was the end.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub(crate) async fn fill(&mut self, begun: Bytes, limit: usize) -> Result<(Bytes, bool), PutError> {
        let mut filled = BytesMut::from(begun);
        while filled.len() < limit {
            match self.next().await? {
                Some(piece) => filled.extend_from_slice(&piece),
                None => return Ok((filled.freeze(), true)),
            }
        }
        Ok((filled.freeze(), false))
    }

    /// The digest that the bytes should have, if they should have one.
    pub(crate) fn expected(&self) -> Option<Digest> {
        self.expected.as_ref().map(|expected| expected.digest)
    }

    /// What came, once the end has come.
    pub(crate) fn named(&self) -> Option<(Digest, u64)> {
        self.actual.map(|digest| (digest, self.size))
    }

    /// An endless stream is cut as soon as it is longer than it may be.
    fn judge_length(&self) -> Result<(), PutError> {
        let size = self.expected.as_ref().and_then(|expected| expected.size);
        match (&self.expected, size.unwrap_or(MAX_BLOB_SIZE)) {
            (_, limit) if self.size <= limit => Ok(()),
            (Some(expected), limit) => Err(PutError::too_long(&expected.digest, limit)),
            (None, limit) => Err(PutError::Mismatch { problem: format!("a blob is longer than {limit} bytes") }),
        }
    }

    fn judge(&mut self) -> Result<(), PutError> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let actual = hasher.finish();
        if let Some(expected) = &self.expected {
            PutError::check(expected, &actual, self.size)?;
        }
        self.actual = Some(actual);
        Ok(())
    }
}

//! Uploads, and what is known of those that outlive their process.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Body, Headers, Key, StoreError};
use crate::oci::{Algorithm, Digest, Repository};

/// An object in the making. Dropping it leaves nothing behind, unless it is a [session](super::Store::begin_session)'s.
#[async_trait]
pub trait Upload: Send {
    /// Adds bytes. May return before they are written; a later call reports what went wrong.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Waits until what was written would outlive this process, if it is a [session](super::Store::begin_session)'s and the store keeps
    /// those. That is no promise for a power cut.
    ///
    /// # Errors
    ///
    /// If bytes can't be written.
    async fn settle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// The digest of everything that the hasher went over, and the number of bytes written to this upload so far.
    ///
    /// # Errors
    ///
    /// If bytes can't be written.
    async fn digest(&mut self) -> Result<(Digest, u64), StoreError>;

    /// The digest of all bytes written to this upload, by another algorithm than its hasher's; `None` if the store can't read
    /// them again.
    ///
    /// # Errors
    ///
    /// If bytes can't be written or read.
    async fn digest_by(&mut self, _algorithm: Algorithm) -> Result<Option<Digest>, StoreError> {
        Ok(None)
    }

    /// All bytes that were written to this upload, for whoever sends them elsewhere; `None` if the store can't read
    /// them again. What is there stays there: the upload goes on.
    ///
    /// # Errors
    ///
    /// If bytes can't be written or read.
    async fn content(&mut self) -> Result<Option<Body>, StoreError> {
        Ok(None)
    }

    /// Makes it the object under `key`, replacing what was there. It may stay invisible until the next [`Store::publish`](super::Store::publish), so
    /// that no power cut can leave a name without its bytes.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    async fn finish(self: Box<Self>, key: &Key, headers: &Headers) -> Result<(), StoreError>;
}

/// What an upload is found by: a UUID, which nobody guesses who wasn't told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionId(Box<str>);

impl SessionId {
    /// The UUID, of version 4, of bytes that are random.
    #[must_use]
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-").into())
    }

    /// The text: 32 lower-case hexadecimal digits, with dashes between groups of 8, 4, 4, 4 and 12.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is no UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID in lower case")]
pub struct NoUuid;

impl FromStr for SessionId {
    type Err = NoUuid;

    fn from_str(text: &str) -> Result<Self, NoUuid> {
        let fits = |(at, byte): (usize, u8)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        };
        if text.len() == 36 && text.bytes().enumerate().all(fits) { Ok(Self(text.into())) } else { Err(NoUuid) }
    }
}

/// What a store keeps of an upload for those who go on with it, beside its bytes and the state of its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The repository that it is for.
    pub repository: Repository,
    /// For how long nothing may be written to it before it is given up, in whole seconds.
    pub ttl: Duration,
}

/// An upload that goes on.
pub struct Resumed {
    /// What was kept of it.
    pub session: Session,
    /// The rest of it.
    pub upload: Box<dyn Upload>,
    /// How many bytes it has.
    pub offset: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uuid_is_an_id() {
        let id = SessionId::from_random([0xff; 16]);
        assert_eq!(id.as_str(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(id.as_str().parse(), Ok(id));
        for bad in [
            "",
            "..",
            "FFFFFFFF-ffff-4fff-bfff-ffffffffffff",
            "ffffffff-ffff-4fff-bfff-fffffffffff/",
            "ffffffff-ffff-4fff-bfff-ffffffffffff.json",
            "ffffffffffff-4fff-bfff-ffffffffffff-",
        ] {
            assert_eq!(bad.parse::<SessionId>(), Err(NoUuid), "{bad:?}");
        }
    }
}

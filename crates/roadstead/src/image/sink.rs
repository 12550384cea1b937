//! Where images go.

use std::error::Error;

use async_trait::async_trait;
use bytes::Bytes;

use super::source::{ByteStream, SourceError};
use crate::oci::{Algorithm, Descriptor, Digest, Manifest, Repository, Tag};

/// A medium that images are written to.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Opens one repository for writing, and protects what is claimed and put through it until it is dropped.
    ///
    /// # Errors
    ///
    /// If the repository can't exist there.
    async fn repository(&self, name: &Repository) -> Result<Box<dyn RepositorySink>, SinkError>;
}

/// Whether a blob is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claim {
    /// The repository has it.
    Present,
    /// Another repository had it, and now this one has it too, without a byte moved.
    Linked,
    /// It must be put.
    Missing,
}

/// One repository of a [`Sink`].
///
/// Content becomes visible only whole and verified, and never before what it names: a sink may hold everything back until
/// [`tag`](Self::tag), [`commit`](Self::commit) or [`finish`](Self::finish). Every method may be called again with the
/// same arguments, to no effect. Methods may run concurrently; `tag` covers what was put before it was called.
#[async_trait]
pub trait RepositorySink: Send + Sync {
    /// The manifest with that digest if the sink has it already, so that a source need not be asked. Its presence
    /// says nothing about its children and blobs.
    ///
    /// # Errors
    ///
    /// If the sink can't be read.
    async fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, SinkError>;

    /// The bytes of a small blob, a config, if the sink can hand them out: whole and verified. `None` if it can't, or hasn't it.
    ///
    /// # Errors
    ///
    /// If the sink can't be read.
    async fn small_blob(&self, blob: &Descriptor) -> Result<Option<Bytes>, SinkError>;

    /// Takes a blob that is already there, from this repository or from another one, and keeps it from being swept.
    ///
    /// # Errors
    ///
    /// If the sink can't be read or written.
    async fn claim(&self, blob: &Descriptor) -> Result<Claim, SinkError>;

    /// Takes a blob from [where it lies](super::RepositorySource::location), if the medium can do so without its bytes moving
    /// through this process, and without anybody seeing it before its digest and its size are known to be right. `false` if it
    /// can't, or what is there isn't right; nothing of it stays then, and it must be put.
    ///
    /// # Errors
    ///
    /// If the sink can't be read or written.
    async fn adopt(&self, _expected: &Descriptor, _location: &str) -> Result<bool, SinkError> {
        Ok(false)
    }

    /// Writes a blob. Its digest, and its size if `expected` says one, are checked before it becomes visible; on any
    /// error nothing of it stays.
    ///
    /// # Errors
    ///
    /// [`PutError::Source`] if `bytes` ends with an error, [`PutError::Mismatch`] if they are not what was
    /// expected, [`PutError::Sink`] if they can't be kept, [`PutError::Interrupted`] if they should come again.
    async fn put_blob(&self, expected: &Descriptor, bytes: ByteStream) -> Result<(), PutError>;

    /// Writes a blob whose digest nobody knows before its last byte, such as one that is being compressed. Returns its digest
    /// and its size. On any error nothing of it stays.
    ///
    /// # Errors
    ///
    /// [`PutError::Source`] if `bytes` ends with an error, [`PutError::Mismatch`] if there is no end of them,
    /// [`PutError::Sink`] if they can't be kept.
    async fn add_blob(&self, algorithm: Algorithm, bytes: ByteStream) -> Result<(Digest, u64), PutError>;

    /// Writes a manifest, exactly. Its blobs and children come first, unless they are left out on purpose.
    ///
    /// # Errors
    ///
    /// If it can't be kept.
    async fn put_manifest(&self, manifest: &Manifest) -> Result<(), SinkError>;

    /// Whether [`leave_out`](Self::leave_out) keeps anything. A copy to a medium that keeps nothing leaves out what it was asked
    /// to leave out, and nothing else.
    fn records_left_out(&self) -> bool {
        false
    }

    /// Records that these children of `index` are absent on purpose, so that nobody takes them for lost. An empty
    /// list takes an earlier record back. Media that have no place for such a note keep none.
    ///
    /// # Errors
    ///
    /// If the note can't be kept.
    async fn leave_out(&self, index: &Digest, children: &[Digest]) -> Result<(), SinkError>;

    /// Makes everything put so far visible and durable, in order.
    ///
    /// # Errors
    ///
    /// If the sink can't be written.
    async fn commit(&self) -> Result<(), SinkError>;

    /// Refuses tags that can't exist in the repository, before anything is copied for them.
    ///
    /// # Errors
    ///
    /// If one can't.
    async fn admit(&self, _tags: &[Tag]) -> Result<(), SinkError> {
        Ok(())
    }

    /// What a tag names now; `None` if there is no such tag, or if the sink can't say.
    ///
    /// # Errors
    ///
    /// If the sink can't be read.
    async fn look_up(&self, _tag: &Tag) -> Result<Option<Descriptor>, SinkError> {
        Ok(None)
    }

    /// Commits, then names `manifest` by `tag`. Returns whether the tag named something else before, or nothing.
    ///
    /// # Errors
    ///
    /// If the sink can't be written.
    async fn tag(&self, tag: &Tag, manifest: &Descriptor) -> Result<bool, SinkError>;

    /// Commits and brings everything that is derived up to date: lists in a tree, the table of contents of an archive.
    ///
    /// # Errors
    ///
    /// If the sink can't be written.
    async fn finish(&self) -> Result<(), SinkError>;
}

/// Why a sink couldn't keep what it was given.
#[derive(Debug, thiserror::Error)]
#[error("{what} can't be written")]
pub struct SinkError {
    /// The key, file or URL.
    pub what: String,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

impl SinkError {
    /// A failure to write `what`.
    pub fn new(what: &(impl ToString + ?Sized), source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what: what.to_string(), source: source.into() }
    }
}

/// Why a blob wasn't written.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The bytes stopped coming.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Other bytes came than were expected.
    #[error("{problem}")]
    Mismatch {
        /// Digest or size, expected and actual.
        problem: String,
    },
    /// The sink can't keep them.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The way to the sink broke, or takes less at once. The same blob, put again from its first byte, goes on where this
    /// stopped; that it breaks then is a [`Sink`](Self::Sink) error.
    #[error(transparent)]
    Interrupted(SinkError),
}

impl PutError {
    /// More than `limit` bytes came under that digest.
    pub(crate) fn too_long(digest: &Digest, limit: u64) -> Self {
        Self::Mismatch { problem: format!("blob {digest} is longer than the {limit} bytes expected") }
    }

    /// Judges `size` bytes of that digest.
    pub(crate) fn check(expected: &Descriptor, actual: &Digest, size: u64) -> Result<(), Self> {
        let problem = match expected.size {
            Some(wanted) if wanted != size => {
                format!("blob {} ended after {size} bytes, expected {wanted}", expected.digest)
            }
            _ if *actual != expected.digest => {
                format!("blob {} has other bytes than its digest says: they are {actual}", expected.digest)
            }
            _ => return Ok(()),
        };
        Err(Self::Mismatch { problem })
    }
}

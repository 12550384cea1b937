//! Where images come from.

use std::error::Error;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::oci::{Descriptor, Digest, Manifest, ManifestError, Reference, Repository, Tag};

/// Bytes of a blob in order, as they arrive. Not verified: whoever makes them visible does that.
pub type ByteStream = BoxStream<'static, Result<Bytes, SourceError>>;

/// A medium that images are read from: a registry, an archive, a folder, a tree. Its bytes are untrusted.
#[async_trait]
pub trait Source: Send + Sync {
    /// The repositories, where the medium knows them.
    ///
    /// # Errors
    ///
    /// [`SourceError::Unsupported`] where it doesn't; others as the medium fails.
    async fn repositories(&self) -> Result<BoxStream<'_, Result<Repository, SourceError>>, SourceError>;

    /// One repository. Asks the medium nothing, so it succeeds for one that doesn't exist.
    fn repository(&self, name: &Repository) -> Box<dyn RepositorySource>;
}

/// One repository of a [`Source`].
#[async_trait]
pub trait RepositorySource: Send + Sync {
    /// How people write `reference` in this place, such as `ghcr.io/org/app:1`. For messages.
    fn describe(&self, reference: &Reference) -> String;

    /// What `reference` names now. Costs one request where the medium can tell without handing the manifest over.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotFound`] if there is no such tag or manifest.
    async fn resolve(&self, reference: &Reference) -> Result<Descriptor, SourceError>;

    /// What a tag names now, `None` if there is no such tag: [`resolve`](Self::resolve) for a tag that may well be absent.
    ///
    /// # Errors
    ///
    /// As the medium fails.
    async fn look_up(&self, tag: &Tag) -> Result<Option<Descriptor>, SourceError> {
        match self.resolve(&Reference::Tag(tag.clone())).await {
            Err(SourceError::NotFound { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// The manifest that `expected` names, whole, bounded by [`crate::oci::MAX_MANIFEST_SIZE`] and verified.
    ///
    /// # Errors
    ///
    /// [`SourceError::Manifest`] if other bytes come.
    async fn manifest(&self, expected: &Descriptor) -> Result<Manifest, SourceError>;

    /// Whether this manifest was made while the medium was read, since that holds none for the image. Nobody knows its digest
    /// by another way, so whoever copies the image may give it another one.
    fn is_made_here(&self, _manifest: &Digest) -> bool {
        false
    }

    /// The bytes of a blob from offset `from` on. Ends after the last byte, or with the error that cut it; a transient
    /// failure in the middle is mended by the medium itself where it can go on at the byte where it stopped.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotFound`] if there is no such blob.
    async fn blob(&self, expected: &Descriptor, from: u64) -> Result<ByteStream, SourceError>;

    /// Where the bytes of a blob lie, for a sink that may [have them copied](super::RepositorySink::adopt) from there without
    /// their moving through this process. A hint: the blob may be absent or wrong there; `None` where nobody could use it.
    ///
    /// # Errors
    ///
    /// As the medium fails.
    async fn location(&self, _expected: &Descriptor) -> Result<Option<String>, SourceError> {
        Ok(None)
    }

    /// The tags, in no promised order, read page by page.
    fn tags(&self) -> BoxStream<'_, Result<Tag, SourceError>>;

    /// What refers to `subject`, empty if nothing does.
    ///
    /// # Errors
    ///
    /// As the medium fails.
    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, SourceError>;

    /// The children of `index` that are absent here on purpose, so that a copy doesn't take them for lost. Most media have no
    /// place for such a note: there whatever is absent is lost.
    ///
    /// # Errors
    ///
    /// As the medium fails.
    async fn left_out(&self, _index: &Digest) -> Result<Vec<Digest>, SourceError> {
        Ok(Vec::new())
    }
}

/// A medium that holds a few images in one place: an archive, a layout, a folder, a daemon.
#[async_trait]
pub trait Collection: Send + Sync {
    /// The images, in the order in which the medium names them. One that has two names is there twice.
    ///
    /// # Errors
    ///
    /// If the medium can't be read.
    async fn images(&self) -> Result<Vec<Held>, SourceError>;

    /// Everything in it, by digest. Tags are those of [`Held::name`], as far as they are unambiguous.
    fn content(&self) -> Box<dyn RepositorySource>;
}

/// An image of a [`Collection`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name as the medium has it: `alpine:3.20`, `docker.io/library/alpine:3.20`, only a tag, or none.
    pub name: Option<String>,
    /// Its manifest.
    pub descriptor: Descriptor,
}

/// Why a source didn't give what it was asked for. The variants are what a caller treats differently.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no such thing: an image, a manifest, a blob, a file.
    #[error("{what} was not found")]
    NotFound {
        /// What was asked for, as people write it.
        what: String,
        /// What the medium said about it, if anything.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The source wants to know who asks, or doesn't accept the credentials: status 401 or its like.
    #[error("{place} wants a login for {what}")]
    Unauthorized {
        /// The registry.
        place: String,
        /// What was asked for.
        what: String,
        /// What the medium said about it, if anything.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// Whoever asks may not have it: status 403 or its like.
    #[error("{place} denies access to {what}")]
    Denied {
        /// The registry.
        place: String,
        /// What was asked for.
        what: String,
        /// What the medium said about it, if anything.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The place can't be reached: no such host, no connection, a time limit, a broken TLS handshake.
    #[error("{place} can't be reached")]
    Unreachable {
        /// The URL or path.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The bytes of a manifest are not what was asked for, or no manifest.
    #[error("{what} is not usable")]
    Manifest {
        /// The manifest, as people write it.
        what: String,
        /// What is wrong with it.
        #[source]
        source: Box<ManifestError>,
    },
    /// The source breaks its own protocol or format.
    #[error("{what}: {problem}")]
    Invalid {
        /// The URL, file or digest.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// This kind of source can't do that.
    #[error("{0}")]
    Unsupported(String),
    /// Any other failure of the medium.
    #[error("{what} failed")]
    Failed {
        /// The URL, file or digest.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl SourceError {
    /// Whether there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

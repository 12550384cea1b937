//! What may be wrong with a tree.

use std::fmt;

use crate::oci::{Digest, Reference, Repository};
use crate::store::Key;

/// Something that is not as a tree has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Finding {
    /// A blob has other bytes than its digest says, or they can't be read.
    DamagedBlob {
        /// Where they lie.
        key: Key,
        /// The digest that they should have.
        digest: Digest,
        /// What is wrong.
        problem: String,
    },
    /// A manifest has other bytes than its digest says, can't be read, or lies under a media type that it doesn't have.
    DamagedManifest {
        /// Where it lies.
        key: Key,
        /// The digest that it should have.
        digest: Digest,
        /// What is wrong.
        problem: String,
    },
    /// A manifest needs a blob that its repository doesn't have.
    LostBlob {
        /// The repository.
        repository: Repository,
        /// The manifest.
        manifest: Digest,
        /// The blob.
        digest: Digest,
    },
    /// An index names a manifest that its repository doesn't have, and has no record of leaving it out.
    LostChild {
        /// The repository.
        repository: Repository,
        /// The index.
        index: Digest,
        /// The manifest.
        digest: Digest,
    },
    /// A name leads to a manifest that isn't there, or that has no name by its digest.
    LostManifest {
        /// The repository.
        repository: Repository,
        /// The name.
        reference: Reference,
        /// What it leads to.
        digest: Digest,
        /// Where the bytes should lie.
        at: Key,
    },
    /// A link leads where none of a tree leads.
    Misled {
        /// The link.
        key: Key,
        /// Where it leads, if that is a place in the tree.
        target: Option<Key>,
    },
    /// Something derived is missing or doesn't say what the names and bytes say: a list, a fallback tag, a hint.
    Stale {
        /// Where it lies.
        key: Key,
        /// What to make again.
        #[serde(skip)]
        derived: Derived,
    },
    /// A record of what an index lacks on purpose can't be read, or the list of what is private.
    DamagedRecord {
        /// Where it lies.
        key: Key,
        /// What is wrong.
        problem: String,
    },
    /// Something lies where a tree has nothing, or is no file where a tree has one: a pipe, a socket, a folder that is a link.
    Stray {
        /// Where it lies.
        key: Key,
    },
    /// Something that is whole and that nothing needs: an interrupted writer left it, or one is about to use it.
    LeftOver {
        /// Where it lies.
        key: Key,
        /// Its bytes.
        bytes: u64,
    },
}

/// What can be made again from names and bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Derived {
    /// What answers `GET /v2/`.
    Ping,
    /// The list of repositories.
    Catalog,
    /// The list of a repository's tags.
    Tags(Repository),
    /// The list of what refers to a subject, and its fallback tag.
    Referrers(Repository, Digest),
    /// The hint that a repository has a blob.
    Hint(Repository, Digest),
}

/// Content that has to be fetched again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::tree) enum Broken {
    Manifest(Digest),
    Blob(Digest),
}

impl Finding {
    /// Whether something is wrong. What is left over harms nobody, and `prune` removes it.
    #[must_use]
    pub const fn is_wrong(&self) -> bool {
        !matches!(self, Self::LeftOver { .. })
    }

    /// What mends it by making it again, if that can be.
    #[must_use]
    pub const fn derived(&self) -> Option<&Derived> {
        match self {
            Self::Stale { derived, .. } => Some(derived),
            _ => None,
        }
    }

    /// What mends it by fetching that again, if that can be, and the repository that lacks it, where only one does.
    pub(in crate::tree) const fn broken(&self) -> Option<(Option<&Repository>, Broken)> {
        match self {
            Self::DamagedBlob { digest, .. } => Some((None, Broken::Blob(*digest))),
            Self::DamagedManifest { digest, .. } => Some((None, Broken::Manifest(*digest))),
            Self::LostBlob { repository, digest, .. } => Some((Some(repository), Broken::Blob(*digest))),
            Self::LostChild { repository, digest, .. } | Self::LostManifest { repository, digest, .. } => {
                Some((Some(repository), Broken::Manifest(*digest)))
            }
            _ => None,
        }
    }

    /// Whether it can be mended by fetching something again.
    #[must_use]
    pub const fn can_be_fetched(&self) -> bool {
        self.broken().is_some()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DamagedBlob { key, problem, .. } => write!(f, "damaged blob: {key}: {problem}"),
            Self::DamagedManifest { key, problem, .. } => write!(f, "damaged manifest: {key}: {problem}"),
            Self::LostBlob { repository, manifest, digest } => {
                write!(f, "lost blob: {repository} lacks {digest}, which manifest {manifest} needs")
            }
            Self::LostChild { repository, index, digest } => {
                write!(f, "lost manifest: {repository} lacks {digest}, which index {index} needs")
            }
            Self::LostManifest { repository, reference: Reference::Tag(tag), digest, .. } => {
                write!(f, "lost manifest: {repository} lacks {digest}, which tag {tag} names")
            }
            Self::LostManifest { repository, digest, at, .. } => {
                write!(f, "lost manifest: {repository} names {digest}, and nothing is at {at}")
            }
            Self::Misled { key, target: Some(target) } => write!(f, "misled link: {key} leads to {target}"),
            Self::Misled { key, target: None } => write!(f, "misled link: {key} leads out of the tree"),
            Self::Stale { key, .. } => write!(f, "stale: {key}"),
            Self::DamagedRecord { key, problem } => write!(f, "damaged record: {key}: {problem}"),
            Self::Stray { key } => write!(f, "stray: {key}"),
            Self::LeftOver { key, bytes } => write!(f, "left over: {key}: {bytes} bytes"),
        }
    }
}

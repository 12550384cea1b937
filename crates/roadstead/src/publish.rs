//! Publishing: another place is made to hold what a tree holds, in the form that serves from there.
//!
//! That is another tree, in a directory or a bucket ([`Plan`]); or a folder of plain files: for hosts that take one and know no
//! links, or one of signed manifests for hosts that send no headers. What is deployed from a folder is the host's business; this
//! module never talks to one.
//!
//! # Order
//!
//! Blobs and manifests are written before the tags that need them, lists after these, and what the tree no longer has goes
//! last: whoever deploys the folder at a bad moment gets no tag without its image.

mod folder;
pub mod ipfs;
pub mod plan;
mod schema1;
mod site_folder;
mod transfer;

pub use folder::{FolderOptions, PlainFolder, Published};
pub use schema1::{LeftOut, Schema1Published, Schema1Site};
pub use transfer::{Plan, PlanOptions, Requests, Totals, TransferOptions};

use std::path::PathBuf;

use crate::image::{SinkError, SourceError};
use crate::oci::{Digest, Repository};
use crate::tree::TreeError;

/// Why something wasn't published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The tree can't be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The tree can't be read, or an image in it can't be shown in another form.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The folder has other things in it.
    #[error("{} is not empty, and was not made by roadstead: name another folder", .0.display())]
    Foreign(PathBuf),
    /// A file of a host's configuration isn't what was written.
    #[error(
        "{} {}, and it would have to say something else now: --force replaces it, or put your changes elsewhere", path.display(),
        if *ours { "was changed since roadstead wrote it" } else { "was not written by roadstead" }
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Whether there was one that was written here.
        ours: bool,
    },
    /// A file can't be written.
    #[error("{} can't be written", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The destination can't be written.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Something of a repository is lost, so that it would not be whole at the destination either.
    #[error("{repository} is not published")]
    Incomplete {
        /// The repository.
        repository: Repository,
        /// What it lacks.
        #[source]
        lack: Box<plan::Lack>,
    },
    /// Tags name something else at the destination, and may not move.
    #[error("tags name something else there, and may not move: {}", .0.join(", "))]
    Clobber(Vec<String>),
    /// Something was removed from the destination after it was compared.
    #[error("something was removed from {place} after it had been compared")]
    Overtaken {
        /// The destination.
        place: String,
    },
    /// Bytes in the tree are not what their name says.
    #[error("the blob {digest} is damaged: its bytes have another digest; `roadstead verify` says what else is")]
    Damaged {
        /// The name.
        digest: Digest,
    },
}

//! Publishing: another place is made to hold what a tree holds, in the form that serves from there.

mod schema1;

pub use schema1::{LeftOut, Schema1Published, Schema1Site};

use std::path::PathBuf;

use crate::image::SourceError;
use crate::oci::Digest;

/// Why something wasn't published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The tree can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The folder has other things in it.
    #[error("{} is not empty, and was not made by roadstead: name another folder", .0.display())]
    Foreign(PathBuf),
    /// A file can't be written.
    #[error("{} can't be written", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Bytes in the tree are not what their name says.
    #[error("the blob {digest} is damaged: its bytes have another digest; `roadstead verify` says what else is")]
    Damaged {
        /// The name.
        digest: Digest,
    },
}

//! IPFS: a tree as a directory of plain files whose name is made of what it holds.
//!
//! The files are those of a folder for a host of plain files ([`PlainFolder`](super::PlainFolder)), so that any gateway hands
//! them out. The blocks and their CIDs are made here, as Kubo makes them for the same [`Profile`]; no node is needed for that.
//! They go into an archive ([`IpfsSite::write_car`]), or to a node ([`Kubo`]), which is sent only what it lacks.
//!
//! # Order and memory
//!
//! The bytes of a blob are read once, and hashed twice at the same time: for the digest that names them and for their blocks. A
//! blob with other bytes than its digest says ends everything. Blocks come before those that link to them. In memory are the
//! names of one repository, some 200 bytes for each content, 33 for each block, and a few chunks.

mod block;
mod buffers;
mod car;
mod kubo;
mod names;
mod pipeline;
mod unixfs;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ::cid::Cid;
use tokio::sync::mpsc;

use self::block::{Link, Version};
use self::car::{Sink, Unfinished};
pub use self::kubo::{ApiAddress, ApiAddressError, Kubo, KuboError, Pin, RemotePin, Sent};
use self::pipeline::WAITING;
use crate::oci::{Digest, Repository};
use crate::store::StoreError;
use crate::tree::{Private, Tree, TreeError};

/// What settles the CID of a directory, beside what is in it. The names are those of IPIP-499, which Kubo knows as profiles of
/// its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Profile {
    /// `unixfs-v1-2025`: CIDs of version 1, chunks of 1 MiB in raw blocks, 1024 links in a node.
    #[default]
    V1,
    /// `unixfs-v0-2015`: CIDs of version 0, as `ipfs add` makes them unless told otherwise; chunks of 256 KiB, each in a message,
    /// and 174 links in a node.
    V0,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 2] = [Self::V1, Self::V0];

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "unixfs-v1-2025",
            Self::V0 => "unixfs-v0-2015",
        }
    }

    const fn version(self) -> Version {
        match self {
            Self::V1 => Version::V1,
            Self::V0 => Version::V0,
        }
    }

    /// How many bytes of a file are in one block.
    const fn chunk(self) -> usize {
        match self {
            Self::V1 => 1 << 20,
            Self::V0 => 256 << 10,
        }
    }

    /// How many links a node of a file has.
    const fn links(self) -> usize {
        match self {
            Self::V1 => 1024,
            Self::V0 => 174,
        }
    }

    /// Whether a chunk is a block as it is.
    const fn raw_leaves(self) -> bool {
        matches!(self, Self::V1)
    }

    /// A CID that is as long as every root is.
    fn any_root(self) -> Cid {
        block::directory(self.version(), std::iter::empty()).cid
    }
}

/// Why something wasn't published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IpfsError {
    /// The tree can't be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Bytes in the tree are not what their name says.
    #[error("the blob {digest} is damaged: its bytes have another digest; `roadstead verify` says what else is")]
    Damaged {
        /// The name.
        digest: Digest,
    },
    /// The tree isn't now what it was when this began.
    #[error("the tree changes while it is read")]
    Changing,
    /// Two names that no directory can hold, since both have the same Murmur3 hash: nobody meets with that by chance.
    #[error("{one} and {other} can't lie in one directory of IPFS: their hashes are the same")]
    SameHash {
        /// One.
        one: String,
        /// The other.
        other: String,
    },
    /// The archive can't be written.
    #[error("{} can't be written", path.display())]
    Unwritable {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The node doesn't do what it was asked for.
    #[error(transparent)]
    Kubo(#[from] KuboError),
    /// Nobody takes what is made any more. What became of the receiver says more.
    #[error("sending was broken off")]
    BrokenOff,
}

impl From<StoreError> for IpfsError {
    fn from(error: StoreError) -> Self {
        Self::Tree(error.into())
    }
}

/// A tree, as it is to lie in IPFS.
#[derive(Clone)]
pub struct IpfsSite {
    /// The tree.
    pub tree: Tree,
    /// What settles the CIDs.
    pub profile: Profile,
    /// Put in front of every repository's name.
    pub name_prefix: Option<Repository>,
    /// Repositories that are left out.
    pub without: Private,
}

/// What a site came to.
#[derive(Debug, Clone)]
pub struct Gathered {
    root: Link,
    contents: HashMap<Digest, Link>,
    files: u64,
    blocks: u64,
    bytes: u64,
}

impl Gathered {
    /// The CID of the directory in which `v2/` lies.
    #[must_use]
    pub fn root(&self) -> String {
        self.root.cid.to_string()
    }

    /// How many files there are, the same content under two names counted twice.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.files
    }

    /// How many blocks were made, each counted once.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// How many bytes an archive of these blocks has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Hears how many bytes of content have been read.
pub type Seen<'a> = &'a (dyn Fn(u64) + Sync);

impl IpfsSite {
    /// Makes all blocks and keeps none: what the CID is, and what there would be to send. A tree that is written to meanwhile may
    /// come out as it never was: look whether it is still the same, and do it again.
    ///
    /// # Errors
    ///
    /// If the tree can't be read, or a blob in it is damaged.
    pub async fn gather(&self, seen: Seen<'_>) -> Result<Gathered, IpfsError> {
        pipeline::run(self, Sink::nowhere(self.profile), HashMap::new(), seen).await
    }

    /// Writes an archive of all blocks, which appears whole or not at all, and is durable then. `settled` is asked after all has
    /// been read whether it was one state of the tree; if not, it is done again.
    ///
    /// # Errors
    ///
    /// As [`gather`](Self::gather), and if the archive can't be written.
    pub async fn write_car<E: From<IpfsError>>(
        &self,
        path: &Path,
        seen: Seen<'_>,
        mut settled: impl AsyncFnMut() -> Result<bool, E>,
    ) -> Result<Gathered, E> {
        let unfinished = Unfinished::beside(path)?;
        loop {
            let (to_file, pieces) = mpsc::channel(WAITING);
            let writing = unfinished.write(pieces)?;
            let sink = Sink::archive(to_file, &self.profile.any_root());
            let gathered = pipeline::run(self, sink, HashMap::new(), seen).await;
            // If the file couldn't be written, all that the others know is that nobody takes what they make.
            unfinished.written(writing).await?;
            let gathered = gathered?;
            if settled().await? {
                unfinished.finish(&gathered.root.cid).await?;
                return Ok(gathered);
            }
        }
    }
}

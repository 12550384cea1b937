//! Where blocks go: nowhere, into a file, or to a node; in the last two as a content-addressable archive, version 1.
//!
//! Source: CARv1 specification.

use std::collections::HashSet;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ::cid::Cid;
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::sync::mpsc;

use super::block::Block;
use super::{IpfsError, Profile};

/// How much is gathered before it is sent on.
const PIECE: usize = 64 << 10;

/// Takes every block once, children before parents.
pub(super) struct Sink {
    out: Out,
    /// Whether they are raw, and their digests: 33 bytes for each block.
    seen: HashSet<(bool, [u8; 32])>,
    pub(super) blocks: u64,
    pub(super) bytes: u64,
}

enum Out {
    Nowhere,
    File(BufWriter<File>, PathBuf),
    Node(mpsc::Sender<Bytes>, BytesMut),
}

impl Sink {
    fn new(out: Out, header: usize) -> Self {
        Self { out, seen: HashSet::new(), blocks: 0, bytes: header as u64 }
    }

    /// Counts what an archive would have.
    pub(super) fn nowhere(profile: Profile) -> Self {
        Self::new(Out::Nowhere, header(&profile.any_root()).len())
    }

    /// Writes an archive. Its header comes last.
    pub(super) fn file(file: File, path: &Path, profile: Profile) -> Result<Self, IpfsError> {
        let room = header(&profile.any_root()).len();
        let mut file = BufWriter::with_capacity(PIECE, file);
        file.write_all(&vec![0; room]).map_err(unwritable(path))?;
        Ok(Self::new(Out::File(file, path.to_owned()), room))
    }

    /// Sends an archive. The root in its header is what is expected.
    pub(super) fn node(to: mpsc::Sender<Bytes>, root: &Cid) -> Self {
        let header = header(root);
        let length = header.len();
        Self::new(Out::Node(to, BytesMut::from(&header[..])), length)
    }

    /// Takes a block, unless it has come before. Blocks the thread while the receiver is busy.
    pub(super) fn put(&mut self, block: &Block) -> Result<(), IpfsError> {
        let digest = block.cid.hash().digest().try_into().expect("SHA-256 has 32 bytes");
        if !self.seen.insert((block.is_raw(), digest)) {
            return Ok(());
        }
        let mut head = BytesMut::with_capacity(48);
        let mut length = unsigned_varint::encode::u64_buffer();
        head.put_slice(unsigned_varint::encode::u64(block.cid.encoded_len() as u64 + block.len(), &mut length));
        block.cid.write_bytes((&mut head).writer()).expect("memory takes all bytes");
        self.blocks += 1;
        self.bytes += head.len() as u64 + block.len();
        let head = head.freeze();
        for piece in [&head].into_iter().chain(&block.pieces) {
            self.out.write(piece)?;
        }
        Ok(())
    }

    /// Ends the archive, whose root is known now. Of a file the bytes are durable then.
    pub(super) fn finish(&mut self, root: &Cid) -> Result<(), IpfsError> {
        match &mut self.out {
            Out::Nowhere => Ok(()),
            Out::File(file, path) => {
                let header = header(root);
                let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&header));
                written.and_then(|()| file.flush()).and_then(|()| file.get_ref().sync_all()).map_err(unwritable(path))
            }
            Out::Node(to, pending) => send(to, pending.split().freeze()),
        }
    }
}

impl Out {
    fn write(&mut self, piece: &Bytes) -> Result<(), IpfsError> {
        match self {
            Self::Nowhere => Ok(()),
            Self::File(file, path) => file.write_all(piece).map_err(unwritable(path)),
            Self::Node(to, pending) => {
                if pending.len() + piece.len() > PIECE && !pending.is_empty() {
                    send(to, pending.split().freeze())?;
                }
                if piece.len() > PIECE {
                    return send(to, piece.clone());
                }
                pending.put_slice(piece);
                Ok(())
            }
        }
    }
}

fn send(to: &mpsc::Sender<Bytes>, piece: Bytes) -> Result<(), IpfsError> {
    // Whoever receives says why it doesn't any more.
    to.blocking_send(piece).map_err(|_| IpfsError::BrokenOff)
}

/// The header: its length, then a map of the list of roots and the version, in DAG-CBOR.
fn header(root: &Cid) -> Vec<u8> {
    let cid = root.to_bytes();
    // Bytes behind a tag that says that they are a CID, the first of them for the encoding in text: none.
    let mut map = b"\xa2\x65roots\x81\xd8\x2a\x58".to_vec();
    map.extend([u8::try_from(cid.len() + 1).expect("a CID of SHA-256 is short"), 0]);
    map.extend(cid);
    map.extend(b"\x67version\x01");
    let mut length = unsigned_varint::encode::usize_buffer();
    let mut header = unsigned_varint::encode::usize(map.len(), &mut length).to_vec();
    header.extend(map);
    header
}

/// A file beside a path, that gets its name once it is whole.
pub(super) struct Unfinished(tempfile::NamedTempFile, PathBuf);

impl Unfinished {
    pub(super) fn beside(path: &Path) -> Result<Self, IpfsError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".roadstead-car").permissions(Permissions::from_mode(0o666));
        builder.tempfile_in(folder).map(|file| Self(file, path.to_owned())).map_err(unwritable(path))
    }

    /// The file, emptied, for another attempt.
    pub(super) fn begin(&self) -> Result<File, IpfsError> {
        let file = self.0.as_file();
        let emptied = file.set_len(0).and_then(|()| file.try_clone());
        let rewound = emptied.and_then(|mut file| file.seek(SeekFrom::Start(0)).map(|_| file));
        rewound.map_err(unwritable(&self.1))
    }

    pub(super) fn finish(self) -> Result<(), IpfsError> {
        let path = self.1;
        self.0.persist(&path).map(drop).map_err(|error| unwritable(&path)(error.error))
    }
}

fn unwritable(path: &Path) -> impl Fn(io::Error) -> IpfsError {
    let path = path.to_owned();
    move |source| IpfsError::Unwritable { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_as_the_specification_shows_it() {
        let root = "bafyreihyrpefhacm6kkp4ql6j6udakdit7g3dmkzfriqfykhjw6cad5lrm".parse().unwrap();
        let text: String = header(&root).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            text,
            "3aa265726f6f747381d82a58250001711220f88bc853804cf294fe417e4fa83028689fcdb1b1592c5102e1474dbc200fab8b6776657273696f6e01"
        );
    }
}

//! Where blocks go: nowhere, into a file, or to a node; in the last two as a content-addressable archive, version 1.
//!
//! Source: CARv1 specification.

use std::collections::HashSet;
use std::fs::Permissions;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ::cid::Cid;
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

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
    /// To whoever writes or sends it, in pieces that are gathered first if they are small.
    Archive(mpsc::Sender<Bytes>, BytesMut),
}

impl Sink {
    /// Counts what an archive would have.
    pub(super) fn nowhere(profile: Profile) -> Self {
        let room = header(&profile.any_root()).len();
        Self { out: Out::Nowhere, seen: HashSet::new(), blocks: 0, bytes: room as u64 }
    }

    /// Makes an archive. The root in its header is what is expected.
    pub(super) fn archive(to: mpsc::Sender<Bytes>, root: &Cid) -> Self {
        let header = header(root);
        let bytes = header.len() as u64;
        Self { out: Out::Archive(to, BytesMut::from(&header[..])), seen: HashSet::new(), blocks: 0, bytes }
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

    /// Ends the archive.
    pub(super) fn finish(&mut self) -> Result<(), IpfsError> {
        match &mut self.out {
            Out::Nowhere => Ok(()),
            Out::Archive(to, pending) => send(to, pending.split().freeze()),
        }
    }
}

impl Out {
    fn write(&mut self, piece: &Bytes) -> Result<(), IpfsError> {
        let Self::Archive(to, pending) = self else { return Ok(()) };
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

    /// Writes what comes, from the beginning, on a thread for that.
    pub(super) fn write(&self, mut pieces: mpsc::Receiver<Bytes>) -> Result<JoinHandle<io::Result<()>>, IpfsError> {
        let mut file = self.0.as_file().try_clone().map_err(unwritable(&self.1))?;
        Ok(tokio::task::spawn_blocking(move || {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            while let Some(piece) = pieces.blocking_recv() {
                file.write_all(&piece)?;
            }
            Ok(())
        }))
    }

    /// What became of the writing.
    pub(super) async fn written(&self, writing: JoinHandle<io::Result<()>>) -> Result<(), IpfsError> {
        writing.await.map_err(io::Error::other).flatten().map_err(unwritable(&self.1))
    }

    /// Puts the root into the header, where another of its length is; the archive is durable, and has its name then.
    pub(super) async fn finish(self, root: &Cid) -> Result<(), IpfsError> {
        let (Self(temporary, path), header) = (self, header(root));
        let failed = unwritable(&path);
        let named = tokio::task::spawn_blocking(move || {
            temporary.as_file().write_all_at(&header, 0)?;
            temporary.as_file().sync_all()?;
            temporary.persist(&path).map(drop).map_err(|error| error.error)
        });
        named.await.map_err(io::Error::other).flatten().map_err(failed)
    }
}

fn unwritable(path: &Path) -> impl Fn(io::Error) -> IpfsError + use<> {
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

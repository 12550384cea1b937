//! Blocks: bytes under a CID, and the two messages that a block which isn't raw bytes is made of.
//!
//! Source: DAG-PB specification, "Serial Format"; UnixFS specification, "Data format".

use ::cid::Cid;
use ::cid::multihash::Multihash;
use bytes::{BufMut as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

/// The codec of a node with links.
const DAG_PB: u64 = 0x70;
/// The codec of bytes as they are.
const RAW: u64 = 0x55;
/// SHA-256 among the multihashes.
const SHA2_256: u64 = 0x12;

/// Which version of CIDs there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V0,
    V1,
}

/// A block. Its bytes may come in pieces, so that those of a file are never copied.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) cid: Cid,
    pub(super) pieces: Vec<Bytes>,
}

impl Block {
    /// Bytes as they are, whose digest is known by now.
    pub(super) fn raw(digest: Sha256, pieces: Vec<Bytes>) -> Self {
        Self { cid: Cid::new_v1(RAW, multihash(digest)), pieces }
    }

    /// An encoded node.
    pub(super) fn node(version: Version, pieces: Vec<Bytes>) -> Self {
        let mut digest = Sha256::new();
        pieces.iter().for_each(|piece| digest.update(piece));
        let hash = multihash(digest);
        let cid = match version {
            Version::V0 => Cid::new_v0(hash).expect("SHA-256 is what version 0 takes"),
            Version::V1 => Cid::new_v1(DAG_PB, hash),
        };
        Self { cid, pieces }
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Whether it is bytes as they are.
    pub(super) fn is_raw(&self) -> bool {
        self.cid.codec() == RAW
    }
}

fn multihash(digest: Sha256) -> Multihash<64> {
    Multihash::wrap(SHA2_256, &digest.finalize()).expect("32 bytes fit")
}

/// What a link leads to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) cid: Cid,
    /// The bytes of the file, or of the part of it.
    pub(super) content: u64,
    /// The bytes of all blocks below, as often as they are linked to.
    pub(super) total: u64,
}

/// A varint after a tag.
fn number(to: &mut BytesMut, field: u8, value: u64) {
    to.put_u8(field << 3);
    varint(to, value);
}

fn varint(to: &mut BytesMut, value: u64) {
    let mut buffer = unsigned_varint::encode::u64_buffer();
    to.put_slice(unsigned_varint::encode::u64(value, &mut buffer));
}

/// The tag and the length before bytes.
fn before_bytes(to: &mut BytesMut, field: u8, length: usize) {
    to.put_u8(field << 3 | 2);
    varint(to, length as u64);
}

/// What `Data` of UnixFS says a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory = 1,
    File = 2,
    Shard = 5,
}

/// A part of a file that has no links: its bytes, in a message.
pub(super) fn leaf(version: Version, content: Vec<Bytes>) -> Block {
    let size = content.iter().map(Bytes::len).sum::<usize>();
    let (mut head, mut tail) = (BytesMut::new(), BytesMut::new());
    number(&mut head, 1, Kind::File as u64);
    if size > 0 {
        before_bytes(&mut head, 2, size);
    }
    number(&mut tail, 3, size as u64);
    let mut outer = BytesMut::new();
    before_bytes(&mut outer, 1, head.len() + size + tail.len());
    outer.put_slice(&head);
    let pieces = [outer.freeze()].into_iter().chain(content).chain([tail.freeze()]).collect();
    Block::node(version, pieces)
}

/// A part of a file that is others, one after the other.
pub(super) fn inner(version: Version, parts: &[Link]) -> Block {
    let mut data = BytesMut::new();
    number(&mut data, 1, Kind::File as u64);
    number(&mut data, 3, parts.iter().map(|part| part.content).sum());
    for part in parts {
        number(&mut data, 4, part.content);
    }
    node(version, parts.iter().map(|part| ("", part)), &data)
}

/// A directory of these names, which are sorted.
pub(super) fn directory<'a>(version: Version, entries: impl Iterator<Item = (&'a str, &'a Link)>) -> Block {
    let mut data = BytesMut::new();
    number(&mut data, 1, Kind::Directory as u64);
    node(version, entries, &data)
}

/// One node of a directory that is spread over many, with a bit for each of its 256 places that is taken.
pub(super) fn shard<'a>(
    version: Version,
    taken: &[bool; 256],
    entries: impl Iterator<Item = (&'a str, &'a Link)>,
) -> Block {
    /// Murmur3, the first half of its 128 bits.
    const MURMUR3: u64 = 0x22;
    let mut bits = [0_u8; 32];
    for (place, _) in taken.iter().enumerate().filter(|(_, taken)| **taken) {
        // The first place is the lowest bit of the last byte.
        bits[31 - place / 8] |= 1 << (place % 8);
    }
    let bits = &bits[bits.iter().position(|byte| *byte != 0).unwrap_or(bits.len())..];
    let mut data = BytesMut::new();
    number(&mut data, 1, Kind::Shard as u64);
    before_bytes(&mut data, 2, bits.len());
    data.put_slice(bits);
    number(&mut data, 5, MURMUR3);
    number(&mut data, 6, 256);
    node(version, entries, &data)
}

/// Links come before the data, though their field has the higher number: everybody has done so since the first encoder did.
fn node<'a>(version: Version, links: impl Iterator<Item = (&'a str, &'a Link)>, data: &[u8]) -> Block {
    let (mut encoded, mut link) = (BytesMut::new(), BytesMut::new());
    for (name, to) in links {
        link.clear();
        before_bytes(&mut link, 1, to.cid.encoded_len());
        to.cid.write_bytes((&mut link).writer()).expect("memory takes all bytes");
        before_bytes(&mut link, 2, name.len());
        link.put_slice(name.as_bytes());
        number(&mut link, 3, to.total);
        before_bytes(&mut encoded, 2, link.len());
        encoded.put_slice(&link);
    }
    before_bytes(&mut encoded, 1, data.len());
    encoded.put_slice(data);
    Block::node(version, vec![encoded.freeze()])
}

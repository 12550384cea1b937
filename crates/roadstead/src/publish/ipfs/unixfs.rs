//! Files and directories as graphs of blocks, made while their bytes go by.
//!
//! Source: UnixFS specification; IPIP-499 for what a profile settles.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::block::{self, Block, Link, Version};
use super::car::Sink;
use super::{IpfsError, Profile};

/// A directory whose one block would be larger than this is spread over several.
const MAX_DIRECTORY: u64 = 256 << 10;

/// How many places a node of a directory has that is spread: each byte of a name's hash says one.
const PLACES: usize = 256;

/// A file that comes piece by piece. Holds one chunk of it, and for each level of the graph the links of one node.
pub(super) struct FileBuilder {
    profile: Profile,
    chunk: Vec<Bytes>,
    length: usize,
    /// Of the chunk, if its block will be nothing but it.
    digest: Sha256,
    levels: Vec<Vec<Link>>,
}

impl FileBuilder {
    pub(super) fn new(profile: Profile) -> Self {
        Self { profile, chunk: Vec::new(), length: 0, digest: Sha256::new(), levels: vec![Vec::new()] }
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, mut piece: Bytes, sink: &mut Sink) -> Result<(), IpfsError> {
        while !piece.is_empty() {
            // A chunk is closed by what comes after it, so that the last one is never empty.
            if self.length == self.profile.chunk() {
                self.close_chunk(sink)?;
            }
            let part = piece.split_to(piece.len().min(self.profile.chunk() - self.length));
            if self.profile.raw_leaves() {
                self.digest.update(&part);
            }
            self.length += part.len();
            self.chunk.push(part);
        }
        Ok(())
    }

    fn close_chunk(&mut self, sink: &mut Sink) -> Result<(), IpfsError> {
        let content = std::mem::take(&mut self.length) as u64;
        let (chunk, digest) = (std::mem::take(&mut self.chunk), std::mem::take(&mut self.digest));
        let block = if self.profile.raw_leaves() {
            Block::raw(digest, chunk)
        } else {
            block::leaf(self.profile.version(), chunk)
        };
        let link = Link { cid: block.cid, content, total: block.len() };
        sink.put(&block)?;
        self.link(0, link, sink)
    }

    /// Adds a link to a level. A node is closed by the link that has no more room in it.
    fn link(&mut self, level: usize, link: Link, sink: &mut Sink) -> Result<(), IpfsError> {
        if level == self.levels.len() {
            self.levels.push(Vec::new());
        }
        if self.levels[level].len() == self.profile.links() {
            self.close_node(level, sink)?;
        }
        self.levels[level].push(link);
        Ok(())
    }

    fn close_node(&mut self, level: usize, sink: &mut Sink) -> Result<(), IpfsError> {
        let parts = std::mem::take(&mut self.levels[level]);
        let block = block::inner(self.profile.version(), &parts);
        let content = parts.iter().map(|part| part.content).sum();
        let total = block.len() + parts.iter().map(|part| part.total).sum::<u64>();
        sink.put(&block)?;
        self.link(level + 1, Link { cid: block.cid, content, total }, sink)
    }

    /// The whole file, once all its bytes have come.
    pub(super) fn finish(mut self, sink: &mut Sink) -> Result<Link, IpfsError> {
        self.close_chunk(sink)?;
        let mut level = 0;
        loop {
            if let ([root], true) = (&self.levels[level][..], level + 1 == self.levels.len()) {
                return Ok(*root);
            }
            self.close_node(level, sink)?;
            level += 1;
        }
    }
}

/// A directory of these names.
pub(super) fn directory(
    profile: Profile,
    entries: &BTreeMap<String, Link>,
    sink: &mut Sink,
) -> Result<Link, IpfsError> {
    let links = || entries.iter().map(|(name, link)| (name.as_str(), link));
    let version = profile.version();
    let block = block::directory(version, links());
    let measured = match version {
        // What the first implementation took for the size: names and CIDs.
        Version::V0 => links().map(|(name, link)| (name.len() + link.cid.encoded_len()) as u64).sum(),
        Version::V1 => block.len(),
    };
    if measured > MAX_DIRECTORY {
        let hashed =
            |(name, link): (_, &Link)| (mur3::murmurhash3_x64_128(str::as_bytes(name), 0).0.to_be_bytes(), name, *link);
        let mut entries: Vec<_> = links().map(hashed).collect();
        entries.sort_unstable_by_key(|(hash, name, _)| (*hash, *name));
        return shard(version, &entries, 0, sink);
    }
    let total = block.len() + links().map(|(_, link)| link.total).sum::<u64>();
    sink.put(&block)?;
    Ok(Link { cid: block.cid, content: 0, total })
}

/// A node of a directory that is spread: below each place a name, or a node if there are several. The names are sorted by their
/// hashes, which are the same up to `depth`.
fn shard(
    version: Version,
    entries: &[([u8; 8], &str, Link)],
    depth: usize,
    sink: &mut Sink,
) -> Result<Link, IpfsError> {
    let (mut taken, mut children) = ([false; PLACES], Vec::new());
    if let (true, [(_, one, _), (_, other, _), ..]) = (depth == 8, entries) {
        return Err(IpfsError::SameHash { one: (*one).to_owned(), other: (*other).to_owned() });
    }
    for same in entries.chunk_by(|(one, ..), (other, ..)| one[depth] == other[depth]) {
        let place = same[0].0[depth];
        taken[usize::from(place)] = true;
        children.push(match same {
            [(_, name, link)] => (format!("{place:02X}{name}"), *link),
            several => (format!("{place:02X}"), shard(version, several, depth + 1, sink)?),
        });
    }
    let block = block::shard(version, &taken, children.iter().map(|(name, link)| (name.as_str(), link)));
    let total = block.len() + children.iter().map(|(_, link)| link.total).sum::<u64>();
    sink.put(&block)?;
    Ok(Link { cid: block.cid, content: 0, total })
}

#[cfg(test)]
mod tests;

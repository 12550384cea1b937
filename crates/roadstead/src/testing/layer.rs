//! Layers: deterministic tar archives, compressed or not.

use std::io::Write as _;

use bytes::Bytes;

use crate::oci::{Algorithm, Digest};

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, what nearly all layers are.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// A layer in the making: entries of a tar archive in the order in which they are added, owned by root, without times.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    entries: Vec<(tar::Header, String, Entry)>,
    compression: Option<Compression>,
}

#[derive(Debug, Clone)]
enum Entry {
    Bytes(Bytes),
    Link(String),
}

impl Layer {
    /// An empty archive.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a regular file.
    #[must_use]
    pub fn file(self, path: &str, content: impl Into<Bytes>, mode: u32) -> Self {
        let content = content.into();
        self.entry(tar::EntryType::Regular, path, mode, Entry::Bytes(content))
    }

    /// Adds a folder.
    #[must_use]
    pub fn folder(self, path: &str, mode: u32) -> Self {
        self.entry(tar::EntryType::Directory, &format!("{path}/"), mode, Entry::Bytes(Bytes::new()))
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Symlink, path, 0o777, Entry::Link(target.to_owned()))
    }

    /// Compresses this layer so, whatever the image's other layers are.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    fn entry(mut self, kind: tar::EntryType, path: &str, mode: u32, entry: Entry) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(match &entry {
            Entry::Bytes(bytes) => bytes.len() as u64,
            Entry::Link(_) => 0,
        });
        self.entries.push((header, path.to_owned(), entry));
        self
    }

    /// The archive, uncompressed.
    #[must_use]
    pub fn archive(&self) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (header, path, entry) in &self.entries {
            let mut header = header.clone();
            match entry {
                Entry::Bytes(bytes) => archive.append_data(&mut header, path, &bytes[..]),
                Entry::Link(target) => archive.append_link(&mut header, path, target),
            }
            .unwrap_or_else(|error| panic!("{path:?} can't be an entry of an archive: {error}"));
        }
        archive.into_inner().expect("a vector takes every write")
    }

    /// The layer as it is stored: its bytes, how they are compressed, and the digest of the archive.
    pub(super) fn build(&self, default: Compression) -> (Bytes, Compression, Digest) {
        let archive = self.archive();
        let diff_id = Algorithm::Sha256.digest(&archive);
        let compression = self.compression.unwrap_or(default);
        (compress(archive, compression), compression, diff_id)
    }
}

/// A layer of one file, `content`, with these bytes.
impl<T: Into<Bytes>> From<T> for Layer {
    fn from(content: T) -> Self {
        Self::new().file("content", content, 0o644)
    }
}

fn compress(content: Vec<u8>, compression: Compression) -> Bytes {
    match compression {
        Compression::None => content.into(),
        Compression::Gzip => {
            let mut encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&content).expect("a vector takes every write");
            encoder.finish().expect("a vector takes every write").into()
        }
        Compression::Zstd => {
            zstd::encode_all(&content[..], 3).expect("a slice can be read and a vector takes every write").into()
        }
    }
}

/// Bytes that no compressor makes smaller, the same for the same `seed`.
#[must_use]
pub fn noise(seed: u64, len: usize) -> Bytes {
    // xorshift64*, whose state must not be zero.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

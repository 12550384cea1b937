//! Layers compressed on the way.
//!
//! Bytes are cut into blocks of a fixed size, whatever the pieces that they come in, and each block becomes a gzip member or a
//! Zstandard frame of its own. Both formats say that what stands one behind the other is read as one. So all processors
//! compress at once, and what comes out depends on the bytes and the level alone: not on the number of threads, nor on chance.
//! How many blocks are in memory is bounded for all layers together.
//!
//! Source: RFC 1952, section 2.2; RFC 8878, section 3.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::source::{ByteStream, SourceError};
use crate::oci::excerpt;

/// The most threads that compress at once: each has a block in memory, and another that waits.
const MAX_THREADS: usize = 16;

/// A format that layers are compressed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// gzip, which every client reads.
    Gzip,
    /// Zstandard, smaller and several times as fast. Docker's manifests have no name for it.
    Zstd,
}

impl Method {
    /// How much is compressed by itself. A block knows nothing of the one before it: with gzip, whose window is 32 KiB, that
    /// costs nothing at this size; with Zstandard, whose window is 2 MiB by default, a hundredth.
    const fn block(self) -> usize {
        match self {
            Self::Gzip => 1 << 20,
            Self::Zstd => 2 << 20,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    const fn max_level(self) -> u8 {
        match self {
            Self::Gzip => 9,
            Self::Zstd => 19,
        }
    }

    const fn default_level(self) -> u8 {
        match self {
            Self::Gzip => 6,
            Self::Zstd => 3,
        }
    }
}

/// How layers are compressed: `gzip`, `gzip:9`, `zstd:3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Compression {
    method: Method,
    level: u8,
}

impl Compression {
    /// gzip at its usual level, 6.
    pub const GZIP: Self = Self { method: Method::Gzip, level: Method::Gzip.default_level() };
    /// Zstandard at its usual level, 3.
    pub const ZSTD: Self = Self { method: Method::Zstd, level: Method::Zstd.default_level() };

    /// The format.
    #[must_use]
    pub const fn method(self) -> Method {
        self.method
    }

    /// One block, as a member or frame of its own. Takes a thread for a while.
    fn block(self, bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        match self.method {
            Method::Gzip => {
                let level = libdeflater::CompressionLvl::new(self.level.into());
                let level = level.map_err(|_| "a level that gzip doesn't have")?;
                let mut compressor = libdeflater::Compressor::new(level);
                let mut compressed = vec![0; compressor.gzip_compress_bound(bytes.len())];
                let length = compressor.gzip_compress(bytes, &mut compressed)?;
                compressed.truncate(length);
                // The room was for bytes that can't be compressed; what waits for its turn shall not keep it.
                compressed.shrink_to_fit();
                Ok(compressed)
            }
            Method::Zstd => Ok(zstd::bulk::compress(bytes, self.level.into())?),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.method.as_str(), self.level)
    }
}

/// A text names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no compression: expected gzip or zstd, and perhaps a level, such as gzip:9 (1 to 9) or zstd:10 (1 to 19)"
)]
pub struct CompressionError(String);

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, CompressionError> {
        let refused = || CompressionError(excerpt(text));
        let (name, level) = match text.split_once(':') {
            None => (text, None),
            Some((name, level)) => (name, Some(level)),
        };
        let method = [Method::Gzip, Method::Zstd].into_iter().find(|method| method.as_str() == name);
        let method = method.ok_or_else(refused)?;
        let level = level.map_or(Ok(method.default_level()), |level| level.parse().map_err(|_| refused()))?;
        if !(1..=method.max_level()).contains(&level) {
            return Err(refused());
        }
        Ok(Self { method, level })
    }
}

/// Compresses blobs, with the same few threads for all of them.
pub(super) struct Compressor {
    compression: Compression,
    /// One for each block that is compressed.
    threads: Arc<Semaphore>,
    /// One for each block that is gathered, compressed, or waits for those before it to be taken.
    blocks: Arc<Semaphore>,
    at_once: usize,
}

impl Compressor {
    /// For `blobs` at once.
    pub(super) fn new(compression: Compression, threads: usize, blobs: usize) -> Self {
        let threads = threads.clamp(1, MAX_THREADS);
        let at_once = threads + threads.div_ceil(2);
        Self {
            compression,
            threads: Arc::new(Semaphore::new(threads)),
            // Each blob gathers one block while others are worked on.
            blocks: Arc::new(Semaphore::new(at_once + blobs)),
            at_once,
        }
    }

    pub(super) const fn compression(&self) -> Compression {
        self.compression
    }

    /// `bytes`, compressed. An error of theirs ends what comes out, never to be taken for their end.
    pub(super) fn compress(&self, bytes: ByteStream) -> ByteStream {
        let (compression, threads) = (self.compression, self.threads.clone());
        cut(bytes, compression.method.block(), self.blocks.clone())
            .map_ok(move |(block, held)| {
                let threads = threads.clone();
                async move {
                    let _thread = threads.acquire_owned().await;
                    let compressed = tokio::task::spawn_blocking(move || compression.block(&block)).await;
                    let failed = |source| SourceError::Failed { what: format!("compressing by {compression}"), source };
                    match compressed {
                        Ok(compressed) => compressed.map(|bytes| (Bytes::from(bytes), held)).map_err(failed),
                        Err(e) => match e.try_into_panic() {
                            Ok(panic) => std::panic::resume_unwind(panic),
                            Err(e) => Err(failed(e.into())),
                        },
                    }
                }
            })
            .try_buffered(self.at_once)
            // Whoever takes a block makes room for another.
            .map_ok(|(bytes, _held)| bytes)
            .boxed()
    }
}

/// A block, and the right to have it in memory.
type Block = (Vec<u8>, Option<OwnedSemaphorePermit>);

/// Cuts `bytes` into blocks of `size`; the last may be shorter, and is empty only if there are no others.
fn cut(
    bytes: ByteStream,
    size: usize,
    blocks: Arc<Semaphore>,
) -> impl stream::Stream<Item = Result<Block, SourceError>> + Send {
    let begin = Some((bytes, Bytes::new(), true));
    stream::try_unfold(begin, move |state| {
        let blocks = blocks.clone();
        async move {
            let Some((mut bytes, mut rest, first)) = state else { return Ok(None) };
            let held = blocks.acquire_owned().await.ok();
            let mut block = Vec::with_capacity(size);
            loop {
                let taken = rest.split_to(rest.len().min(size - block.len()));
                block.extend_from_slice(&taken);
                if block.len() == size {
                    return Ok(Some(((block, held), Some((bytes, rest, false)))));
                }
                match bytes.try_next().await? {
                    Some(piece) => rest = piece,
                    None if block.is_empty() && !first => return Ok(None),
                    None => return Ok(Some(((block, held), None))),
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Compresses pieces of these lengths, over and over until the bytes are gone.
    fn compress(bytes: &[u8], lengths: &[usize], compression: Compression, threads: usize) -> Vec<u8> {
        let mut rest = bytes;
        let mut pieces = Vec::new();
        for length in lengths.iter().cycle() {
            let (piece, others) = rest.split_at(rest.len().min(*length));
            pieces.push(Ok(Bytes::copy_from_slice(piece)));
            rest = others;
            if rest.is_empty() {
                break;
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
        runtime.block_on(async {
            let stream = Compressor::new(compression, threads, 1).compress(stream::iter(pieces).boxed());
            stream.map_ok(|bytes| bytes.to_vec()).try_concat().await.expect("nothing fails")
        })
    }

    fn decompress(bytes: &[u8], method: Method) -> Vec<u8> {
        let mut whole = Vec::new();
        let read = match method {
            Method::Gzip => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut whole),
            Method::Zstd => zstd::Decoder::new(bytes).and_then(|mut decoder| decoder.read_to_end(&mut whole)),
        };
        read.expect("what was compressed can be decompressed");
        whole
    }

    /// Text that repeats itself, and noise.
    fn sample(length: usize) -> Vec<u8> {
        let noise = crate::testing::noise(7, length);
        noise
            .iter()
            .enumerate()
            .map(|(at, byte)| if at % 4096 < 2048 { b'a' + (at % 7) as u8 } else { *byte })
            .collect()
    }

    #[test]
    fn output_depends_on_bytes_and_level_alone() {
        for compression in ["gzip:1", "gzip", "gzip:9", "zstd", "zstd:7"] {
            let compression: Compression = compression.parse().expect("a compression");
            let block = compression.method.block();
            for length in [0, 1, block - 1, block, block + 1, 3 * block + 12_345] {
                let bytes = sample(length);
                let one = compress(&bytes, &[block / 3], compression, 1);
                assert_eq!(decompress(&one, compression.method), bytes, "{compression}, {length} bytes");
                for (threads, pieces) in [(1, vec![usize::MAX]), (2, vec![block]), (7, vec![70_001, 0, 4096, 333_333])]
                {
                    let other = compress(&bytes, &pieces, compression, threads);
                    assert!(other == one, "{compression}, {length} bytes, {threads} threads, pieces of {pieces:?}");
                }
            }
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

        #[test]
        fn what_goes_in_comes_out(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20_000),
            times in 0..200_usize,
            lengths in proptest::collection::vec(1..300_000_usize, 1..4),
            threads in 1..5_usize,
        ) {
            let bytes = bytes.repeat(times);
            for compression in [Compression::GZIP, Compression::ZSTD] {
                let compressed = compress(&bytes, &lengths, compression, threads);
                proptest::prop_assert!(decompress(&compressed, compression.method) == bytes);
                proptest::prop_assert!(compressed == compress(&bytes, &[usize::MAX], compression, 1));
            }
        }
    }

    #[test]
    fn a_cut_is_no_end() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
        let cut = [Ok(Bytes::from(sample(3 << 20))), Err(SourceError::Unsupported("cut".to_owned()))];
        let result: Result<Vec<Bytes>, _> = runtime.block_on(async {
            Compressor::new(Compression::GZIP, 2, 1).compress(stream::iter(cut).boxed()).try_collect().await
        });
        assert!(matches!(result, Err(SourceError::Unsupported(_))), "{result:?}");
    }

    #[test]
    fn what_names_a_compression() {
        for (text, shown) in [("gzip", "gzip:6"), ("gzip:1", "gzip:1"), ("zstd", "zstd:3"), ("zstd:19", "zstd:19")] {
            assert_eq!(text.parse::<Compression>().expect(text).to_string(), shown);
        }
        for bad in ["", "gzip:", "gzip:0", "gzip:10", "gzip:-1", "zstd:20", "zstd:3:3", "GZIP", "bzip2", "none"] {
            assert!(bad.parse::<Compression>().is_err(), "{bad:?} was accepted");
        }
    }
}

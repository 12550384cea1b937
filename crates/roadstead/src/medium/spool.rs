//! Archives that can't be read at any offset, since they are compressed or come through a pipe, are written to a file once.
//!
//! The file has no name, so it is gone when nobody has it open, whatever happens to the process.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::section::failed;
use crate::image::SourceError;

/// What any archive may unpack to, however small it is.
const FREE: u64 = 256 << 20;

/// How many times its own size an archive may unpack to beyond that. Files full of zeros are a thousand times smaller in
/// gzip, but an image is not made of them alone: real ones stay below twenty.
const MAX_RATIO: u64 = 200;

/// The most bytes that are spooled at all: 1 TiB.
const MAX_SIZE: u64 = 1 << 40;

const BUFFER: usize = 256 << 10;

/// How the bytes of a file are compressed, as they themselves say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
    /// By a program of this name, which is not spoken here.
    Other(&'static str),
}

impl Compression {
    /// How many bytes tell.
    pub(super) const HEAD: u64 = 6;

    pub(super) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or one to be skipped before the first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Self::Other("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Other("bzip2"),
            _ => Self::None,
        }
    }
}

/// Writes `input` to a file without a name in `folder`, decompressed. Blocks.
pub(super) fn spool(mut input: impl Read, place: &str, folder: &Path) -> Result<File, SourceError> {
    let mut head = Vec::new();
    input.by_ref().take(Compression::HEAD).read_to_end(&mut head).map_err(|e| failed(place, e))?;
    let compression = Compression::of(&head);
    let taken = Cell::new(0);
    let whole = BufReader::with_capacity(BUFFER, Counted { inner: io::Cursor::new(head).chain(input), taken: &taken });
    let mut decoded: Box<dyn Read + '_> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(whole).map_err(|e| failed(place, e))?),
        Compression::Other(program) => {
            return Err(SourceError::Unsupported(format!("{place} is compressed by {program}: decompress it first")));
        }
    };
    let unwritable = |e| failed(format!("writing to {}", folder.display()), e);
    let mut file = tempfile::tempfile_in(folder).map_err(unwritable)?;
    let mut buffer = vec![0; BUFFER];
    let mut written: u64 = 0;
    loop {
        let read = match decoded.read(&mut buffer) {
            Ok(0) => return Ok(file),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(failed(format!("reading {place}"), e)),
        };
        written += read as u64;
        let allowed = if compression == Compression::None { MAX_SIZE } else { FREE + MAX_RATIO * taken.get() };
        if written > allowed.min(MAX_SIZE) {
            let problem = format!(
                "it unpacks to more than {MAX_RATIO} times its size, or {MAX_SIZE} bytes; if you trust it, decompress it first"
            );
            return Err(SourceError::Invalid { what: place.to_owned(), problem });
        }
        file.write_all(&buffer[..read]).map_err(unwritable)?;
    }
}

struct Counted<'a, R> {
    inner: R,
    taken: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.taken.set(self.taken.get() + read as u64);
        Ok(read)
    }
}

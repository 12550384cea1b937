//! A tar archive that is never unpacked: one pass over its headers says where the bytes of each file lie.
//!
//! Every name stays a name within the archive; nothing of it becomes a path on this machine. The `tar` crate knows the fields
//! of a header. The walk is our own, since the crate's takes a long name or a record of extensions into memory whatever its
//! size.
//!
//! Source: POSIX.1-2017, *pax*, "ustar Interchange Format" and "pax Interchange Format"; GNU tar's long names.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use tar::{EntryType, Header, PaxExtensions};
use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;

use super::content::Files;
use super::section::{Section, blocking, failed, read_range};
use super::spool::{Compression, spool};
use crate::image::SourceError;
use crate::oci::excerpt;

const BLOCK: u64 = 512;

/// The most entries: a layout of ten thousand images has fewer.
const MAX_ENTRIES: usize = 200_000;

/// The longest name of an entry, and of the target of a link.
const MAX_NAME: usize = 1024;

/// The most bytes of all names together.
const MAX_NAMES: usize = 32 << 20;

/// The most bytes of extensions of one entry.
const MAX_EXTENSIONS: u64 = 64 << 10;

/// How many links may lead from one to the next.
const MAX_LINKS: usize = 8;

/// The index of an archive.
#[derive(Debug)]
pub(super) struct Tar {
    place: String,
    file: Arc<File>,
    entries: HashMap<Box<str>, Entry>,
}

#[derive(Debug)]
enum Entry {
    File(Range<u64>),
    /// Leads to another entry.
    Link(Box<str>),
}

impl Tar {
    /// The archive in a file. If that can't be read at any offset, being compressed or a pipe, it is first written to a file
    /// without a name in the folder `spooled`.
    pub(super) async fn open(path: &Path, place: String, spooled: &Path) -> Result<Self, SourceError> {
        let (path, folder) = (path.to_owned(), spooled.to_owned());
        blocking(move || {
            let mut file = File::open(&path).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => SourceError::NotFound { what: place.clone(), source: None },
                _ => failed(place.as_str(), e),
            })?;
            let metadata = file.metadata().map_err(|e| failed(place.as_str(), e))?;
            if metadata.is_dir() {
                return Err(SourceError::Invalid { what: place, problem: "it is a folder, not an archive".to_owned() });
            }
            let start = 0..metadata.len().min(Compression::HEAD);
            let head = read_range(&file, start).map_err(|e| failed(place.as_str(), e))?;
            if !metadata.is_file() || Compression::of(&head) != Compression::None {
                file = spool(file, &place, &folder)?;
            }
            Self::index(place, file)
        })
        .await
    }

    /// The archive that comes through `input`.
    pub(super) async fn read(
        input: impl AsyncRead + Send + Unpin + 'static,
        place: String,
        spooled: &Path,
    ) -> Result<Self, SourceError> {
        let (input, folder) = (SyncIoBridge::new(input), spooled.to_owned());
        blocking(move || {
            let file = spool(input, &place, &folder)?;
            Self::index(place, file)
        })
        .await
    }

    fn index(place: String, file: File) -> Result<Self, SourceError> {
        let end = file.metadata().map_err(|e| failed(place.as_str(), e))?.len();
        let mut walk = Walk { place: &place, file: &file, end, at: 0, names: 0, entries: HashMap::new() };
        while walk.entry()? {}
        let entries = walk.entries;
        Ok(Self { place, file: Arc::new(file), entries })
    }
}

impl Files for Tar {
    fn place(&self) -> &str {
        &self.place
    }

    fn section(&self, name: &str) -> Result<Option<Section>, SourceError> {
        let Ok(mut target) = clean(name.as_bytes()) else { return Ok(None) };
        for _ in 0..=MAX_LINKS {
            match self.entries.get(&*target) {
                None => return Ok(None),
                Some(Entry::File(range)) => {
                    return Ok(Some(Section::File { file: self.file.clone(), range: range.clone() }));
                }
                Some(Entry::Link(next)) => target = next.to_string(),
            }
        }
        let what = format!("{}: entry {}", self.place, excerpt(name));
        Err(SourceError::Invalid { what, problem: "its links lead in a circle".to_owned() })
    }
}

/// A pass over the headers.
struct Walk<'a> {
    place: &'a str,
    file: &'a File,
    end: u64,
    at: u64,
    names: usize,
    entries: HashMap<Box<str>, Entry>,
}

/// What the entries before a header say about it.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Walk<'_> {
    fn invalid(&self, problem: impl Into<String>) -> SourceError {
        SourceError::Invalid { what: self.place.to_owned(), problem: problem.into() }
    }

    /// The archive is at fault where it names an entry.
    fn bad(&self, name: &[u8], problem: impl Into<String>) -> SourceError {
        let what = format!("{}: entry {:?}", self.place, excerpt(&String::from_utf8_lossy(name)));
        SourceError::Invalid { what, problem: problem.into() }
    }

    /// The next header, unless the archive ends here: by a block of zeros, or, as some write it, by nothing.
    fn header(&mut self) -> Result<Option<Header>, SourceError> {
        if self.at == self.end && self.at > 0 {
            return Ok(None);
        }
        if self.end - self.at < BLOCK {
            let problem = if self.at == 0 { "it is no tar archive" } else { "it is cut off in the middle of a header" };
            return Err(self.invalid(problem));
        }
        let block = read_range(self.file, self.at..self.at + BLOCK).map_err(|e| failed(self.place, e))?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        // Source: POSIX.1-2017, *pax*, "ustar Interchange Format", field `chksum`: it counts as eight spaces itself.
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        let own: u32 = block[148..156].iter().map(|byte| u32::from(*byte)).sum();
        if header.cksum().ok() != Some(sum - own + 8 * 32) {
            let problem = match self.at {
                0 => "it is no tar archive".to_owned(),
                at => format!("the header at byte {at} is broken"),
            };
            return Err(self.invalid(problem));
        }
        self.at += BLOCK;
        Ok(Some(header))
    }

    /// Where `size` bytes lie from here on; goes on behind them.
    fn content(&mut self, name: &[u8], size: u64) -> Result<Range<u64>, SourceError> {
        let start = self.at;
        match start.checked_add(size).filter(|end| *end <= self.end) {
            Some(end) => {
                // What fills the last block may be missing from the last entry.
                self.at = end.next_multiple_of(BLOCK).min(self.end);
                Ok(start..end)
            }
            None => Err(self.bad(
                name,
                format!("it has {size} bytes, but the archive ends {} bytes after its header", self.end - start),
            )),
        }
    }

    fn extension(&mut self, header: &Header, name: &[u8]) -> Result<Vec<u8>, SourceError> {
        let size = header.entry_size().map_err(|_| self.bad(name, "its size is no number"))?;
        if size > MAX_EXTENSIONS {
            return Err(self.bad(name, format!("it has {size} bytes, and at most {MAX_EXTENSIONS} are accepted here")));
        }
        let range = self.content(name, size)?;
        Ok(read_range(self.file, range).map_err(|e| failed(self.place, e))?.to_vec())
    }

    /// Takes the next entry in. Returns whether there was one.
    fn entry(&mut self) -> Result<bool, SourceError> {
        let mut extensions = Extensions::default();
        // Long name, long link and one or two records of extensions may stand before a header.
        for _ in 0..8 {
            let Some(header) = self.header()? else {
                return Ok(false);
            };
            let own = header.path_bytes().into_owned();
            match header.entry_type() {
                EntryType::GNULongName => extensions.name = Some(text(self.extension(&header, &own)?)),
                EntryType::GNULongLink => extensions.link = Some(text(self.extension(&header, &own)?)),
                EntryType::XGlobalHeader => drop(self.extension(&header, &own)?),
                EntryType::XHeader => {
                    let records = self.extension(&header, &own)?;
                    self.records(&records, &own, &mut extensions)?;
                }
                kind => {
                    self.plain(kind, &header, own, extensions)?;
                    return Ok(true);
                }
            }
        }
        Err(self.invalid(format!("too many extensions before byte {}", self.at)))
    }

    fn records(&self, records: &[u8], name: &[u8], extensions: &mut Extensions) -> Result<(), SourceError> {
        for record in PaxExtensions::new(records) {
            let record = record.map_err(|_| self.bad(name, "its extensions are broken"))?;
            match record.key_bytes() {
                b"path" => extensions.name = Some(record.value_bytes().to_vec()),
                b"linkpath" => extensions.link = Some(record.value_bytes().to_vec()),
                b"size" => {
                    let size = record.value().ok().and_then(|size| size.parse().ok());
                    extensions.size = Some(size.ok_or_else(|| self.bad(name, "its size is no number"))?);
                }
                key if key.starts_with(b"GNU.sparse.") => return Err(self.bad(name, SPARSE)),
                _ => {}
            }
        }
        Ok(())
    }

    fn plain(
        &mut self,
        kind: EntryType,
        header: &Header,
        own: Vec<u8>,
        extensions: Extensions,
    ) -> Result<(), SourceError> {
        let raw = extensions.name.unwrap_or(own);
        let name = clean(&raw).map_err(|problem| self.bad(&raw, problem))?;
        let size = match extensions.size {
            Some(size) => size,
            None => header.entry_size().map_err(|_| self.bad(&raw, "its size is no number"))?,
        };
        let entry = match kind {
            EntryType::Directory => {
                self.content(&raw, size)?;
                return Ok(());
            }
            // Old archives mark a folder by the end of its name alone.
            EntryType::Regular | EntryType::Continuous if raw.ends_with(b"/") => {
                self.content(&raw, size)?;
                return Ok(());
            }
            EntryType::Regular | EntryType::Continuous => Entry::File(self.content(&raw, size)?),
            EntryType::Symlink | EntryType::Link => {
                let link = extensions.link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
                let link = link.ok_or_else(|| self.bad(&raw, "it is a link to nothing"))?;
                // A symbolic link starts from its own folder, a hard link names an entry.
                let folder = if kind == EntryType::Symlink { parent(&name) } else { "" };
                let (target, _) = lead(folder, &link).map_err(|_| self.bad(&raw, "it is a link out of the archive"))?;
                if kind == EntryType::Link {
                    self.content(&raw, 0)?;
                }
                Entry::Link(target.into())
            }
            EntryType::GNUSparse => return Err(self.bad(&raw, SPARSE)),
            _ => return Err(self.bad(&raw, "it is neither a file, a folder nor a link")),
        };
        if name.is_empty() {
            return Err(self.bad(&raw, "it has no name"));
        }
        self.names += name.len();
        if self.entries.len() == MAX_ENTRIES || self.names > MAX_NAMES {
            return Err(self.invalid(format!("it has more than {MAX_ENTRIES} entries, or {MAX_NAMES} bytes of names")));
        }
        match self.entries.insert(name.into(), entry) {
            None => Ok(()),
            Some(_) => Err(self.bad(&raw, "the archive has it twice, so what it is depends on who reads it")),
        }
    }
}

const SPARSE: &str = "it is a sparse file, whose bytes are not in the archive as they are";

/// The text of a long name: up to its NUL.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    bytes
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A name within the archive, as it is looked up: without `.` and doubled slashes, empty for the root.
fn clean(name: &[u8]) -> Result<String, &'static str> {
    match lead("", name)? {
        (_, true) => Err("its name has .. in it"),
        (clean, false) => Ok(clean),
    }
}

/// Where `path` leads from `folder`, and whether it climbs on its way.
fn lead(folder: &str, path: &[u8]) -> Result<(String, bool), &'static str> {
    let path = str::from_utf8(path).map_err(|_| "its name is not UTF-8")?;
    if path.len() > MAX_NAME {
        return Err("its name is too long");
    }
    if path.starts_with('/') {
        return Err("its name is an absolute path");
    }
    if path.contains(char::is_control) {
        return Err("its name has control characters");
    }
    let mut climbs = false;
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                climbs = true;
                parts.pop().ok_or("its name leads out of the archive")?;
            }
            part => parts.push(part),
        }
    }
    Ok((parts.join("/"), climbs))
}

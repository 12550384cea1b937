//! Uploads: hashed and written on one thread while the network fills the next buffer on another.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::early::WriteBack;
use super::flush::Pending;
use super::session::Kept;
use super::{Body, Headers, Key, LocalStore, StoreError, Upload, failed};
use crate::oci::{Algorithm, Digest, Hasher};

/// How many bytes go to the writing thread at once. Two such buffers are alive for each
/// upload. Four times as much was a fifth slower on two processors, since what was received had left their caches before it was
/// hashed; a queue of buffers was slower for the same reason, and hashing where the bytes come in kept the network waiting.
const BUFFER: usize = 128 << 10;

/// And how many pieces: a peer that sends byte by byte must not make the list of them longer than the bytes.
const PIECES: usize = 4096;

/// A temporary file that is removed unless it is given a name.
pub(super) struct Temporary(pub(super) PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What an upload is as long as it has no name.
pub(super) enum Place {
    /// A file that goes with the upload.
    Temporary(Temporary),
    /// One that stays for whoever goes on.
    Session(Kept),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(temporary) => &temporary.0,
            Self::Session(kept) => kept.path(),
        }
    }
}

/// What the writing thread works on.
pub(super) struct Writer {
    pub(super) file: File,
    /// Has gone over all that was written.
    pub(super) hasher: Hasher,
    /// How many bytes the file has.
    pub(super) written: u64,
    pub(super) place: Place,
    pub(super) early: WriteBack,
}

impl Writer {
    pub(super) fn new(file: File, hasher: Hasher, place: Place) -> Self {
        Self { file, hasher, written: 0, place, early: WriteBack::default() }
    }

    fn write(&mut self, buffers: &[Bytes], store: &LocalStore) -> io::Result<()> {
        for bytes in buffers {
            self.hasher.update(bytes);
        }
        self.written += write_together(&mut self.file, buffers)?;
        self.early.go_on(store, self.place.path(), self.written);
        match &mut self.place {
            Place::Temporary(_) => Ok(()),
            Place::Session(kept) => kept.grown(store, &self.file, self.written, &self.hasher),
        }
    }
}

/// Writes all of several buffers, with as few calls as possible: what is written by one lies in memory in larger pieces, which
/// cost less in all that is done with them later. Returns how many bytes these were.
fn write_together(file: &mut File, buffers: &[Bytes]) -> io::Result<u64> {
    let mut total = 0;
    // The most that one call takes.
    for buffers in buffers.chunks(1024) {
        let mut slices: Vec<IoSlice<'_>> = buffers.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut rest = &mut slices[..];
        // Empty ones at the beginning are no reason to write nothing.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match file.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    total += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(total)
}

enum State {
    Idle(Box<Writer>),
    Writing(JoinHandle<Result<Box<Writer>, StoreError>>),
    Failed,
}

struct LocalUpload {
    store: LocalStore,
    state: State,
    buffers: Vec<Bytes>,
    /// How many bytes there are to the next place in the file where a buffer ends.
    room: usize,
}

pub(super) fn begin(store: LocalStore, hasher: Hasher) -> Result<Box<dyn Upload>, StoreError> {
    let temporary = Temporary(store.0.scratch.path()?);
    // Content is never written again, so nobody gets the right to.
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(&temporary.0)
        .map_err(|e| failed("writing", &temporary.0, e))?;
    Ok(go_on(store, Writer::new(file, hasher, Place::Temporary(temporary))))
}

/// An upload of which some may be written already.
pub(super) fn go_on(store: LocalStore, writer: Writer) -> Box<dyn Upload> {
    let room = BUFFER - usize::try_from(writer.written % BUFFER as u64).unwrap_or_default();
    Box::new(LocalUpload { store, state: State::Idle(Box::new(writer)), buffers: Vec::new(), room })
}

impl LocalUpload {
    /// Waits for the writing thread.
    async fn writer(&mut self) -> Result<Box<Writer>, StoreError> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Idle(writer) => Ok(writer),
            State::Writing(task) => match task.await {
                Ok(written) => written,
                Err(e) => match e.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(e) => Err(self.failed(e.into())),
                },
            },
            State::Failed => Err(self.failed("an earlier write failed".into())),
        }
    }

    /// The file, open to be read, and how many bytes it has now.
    async fn reading(&mut self) -> Result<(File, u64), StoreError> {
        self.digest().await?;
        let writer = self.writer().await?;
        let (path, end) = (writer.place.path().to_owned(), writer.written);
        self.state = State::Idle(writer);
        let file = File::open(&path).map_err(|e| failed("reading", &self.store.0.root, e))?;
        Ok((file, end))
    }

    fn failed(&self, source: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
        StoreError::Io { operation: "writing to", what: self.store.0.root.display().to_string(), source }
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let buffers = std::mem::take(&mut self.buffers);
        if self.room == 0 {
            self.room = BUFFER;
        }
        let store = self.store.clone();
        self.state = State::Writing(tokio::task::spawn_blocking(move || {
            writer.write(&buffers, &store).map_err(|e| failed("writing to", &store.0.root, e))?;
            Ok(writer)
        }));
        Ok(())
    }
}

#[async_trait]
impl Upload for LocalUpload {
    async fn write(&mut self, mut bytes: Bytes) -> Result<(), StoreError> {
        loop {
            // Cut where a buffer ends, so that writes begin at whole pages.
            let piece = bytes.split_to(bytes.len().min(self.room));
            self.room -= piece.len();
            self.buffers.push(piece);
            if self.room == 0 || self.buffers.len() >= PIECES {
                self.flush().await?;
            }
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    async fn settle(&mut self) -> Result<(), StoreError> {
        self.digest().await.map(|_| ())
    }

    async fn digest(&mut self) -> Result<(Digest, u64), StoreError> {
        if !self.buffers.is_empty() {
            self.flush().await?;
        }
        let writer = self.writer().await?;
        let (digest, written) = (writer.hasher.clone().finish(), writer.written);
        self.state = State::Idle(writer);
        Ok((digest, written))
    }

    async fn digest_by(&mut self, algorithm: Algorithm) -> Result<Option<Digest>, StoreError> {
        let (file, end) = self.reading().await?;
        let what = self.store.0.root.display().to_string();
        super::digest_range(file, 0..end, algorithm.hasher(), what, |_| {}).await.map(Some)
    }

    async fn content(&mut self) -> Result<Option<Body>, StoreError> {
        let (file, end) = self.reading().await?;
        Ok(Some(Body::File { file, range: 0..end }))
    }

    async fn finish(mut self: Box<Self>, key: &Key, _: &Headers) -> Result<(), StoreError> {
        if !self.buffers.is_empty() {
            self.flush().await?;
        }
        let Writer { file, place, written, .. } = *self.writer().await?;
        let temporary = match place {
            Place::Temporary(temporary) => temporary,
            Place::Session(kept) => kept.end(&self.store.0)?,
        };
        let path = self.store.path(key);
        // Said to whoever uploads, rather than to whoever syncs next.
        match std::fs::symlink_metadata(&path) {
            Ok(there) if there.is_dir() => return Err(StoreError::Collision { what: path.display().to_string() }),
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                return Err(StoreError::Collision { what: path.display().to_string() });
            }
            _ => {}
        }
        let pending = Pending { file, temporary, path };
        super::flush::push(&self.store, pending, written);
        Ok(())
    }
}

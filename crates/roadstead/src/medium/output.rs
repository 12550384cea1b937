//! Where an archive goes: a file, or a stream.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::image::SinkError;

/// Where an archive is written.
pub enum Output {
    /// A file, which gets its name when it is whole, in the place of one that is there. What is no regular file, such as a
    /// pipe, is written to as it is.
    File(PathBuf),
    /// Anything else: standard output, a connection.
    Stream(Box<dyn Write + Send>),
}

impl From<&Path> for Output {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<Box<dyn Write + Send>> for Output {
    fn from(stream: Box<dyn Write + Send>) -> Self {
        Self::Stream(stream)
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

impl Output {
    fn describe(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stream(_) => "the archive".to_owned(),
        }
    }

    /// Writes what `content` writes. Blocks.
    pub(super) fn write(self, content: impl FnOnce(&mut dyn Write) -> Result<(), SinkError>) -> Result<(), SinkError> {
        const BUFFER: usize = 256 << 10;
        let what = self.describe();
        let failed = |e: io::Error| SinkError::new(&what, e);
        let mut stream = match self {
            Self::File(path) if path.metadata().is_ok_and(|metadata| !metadata.is_file()) => {
                Box::new(std::fs::OpenOptions::new().write(true).open(&path).map_err(failed)?)
            }
            Self::File(path) => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let mut builder = tempfile::Builder::new();
                builder.prefix(".roadstead-").permissions(Permissions::from_mode(0o666));
                let mut file = builder.tempfile_in(folder).map_err(failed)?;
                let mut buffered = BufWriter::with_capacity(BUFFER, file.as_file_mut());
                content(&mut buffered)?;
                buffered.flush().map_err(failed)?;
                drop(buffered);
                file.as_file().sync_all().map_err(failed)?;
                file.persist(&path).map_err(|e| failed(e.error))?;
                return Ok(());
            }
            Self::Stream(stream) => stream,
        };
        let mut buffered = BufWriter::with_capacity(BUFFER, &mut stream);
        content(&mut buffered)?;
        buffered.flush().map_err(failed)
    }
}

//! A server that takes every push and keeps nothing, or the bytes alone: what a push costs its client, and what no server
//! can leave out that knows the digests of what it has on the disk.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

/// It ends with the process; nobody asks it after its measurement.
pub(super) struct Discard {
    address: SocketAddr,
}

impl Discard {
    /// With a folder it writes there what it receives, hashes it and syncs it before it answers.
    pub(super) fn start(folder: Option<&Path>) -> io::Result<Self> {
        let folder = folder.map(|folder| Arc::new(Folder { path: folder.to_owned(), files: AtomicU64::new(0) }));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let folder = folder.clone();
                // A client that goes away is no concern of anybody's.
                std::thread::spawn(move || drop(answer(stream, folder.as_deref())));
            }
        });
        Ok(Self { address })
    }

    pub(super) fn authority(&self) -> String {
        self.address.to_string()
    }
}

/// Where bodies are kept.
struct Folder {
    path: PathBuf,
    files: AtomicU64,
}

/// What becomes of a body.
enum Body {
    Discarded,
    Kept { file: File, hasher: Sha256 },
}

impl Body {
    fn begin(folder: Option<&Folder>) -> io::Result<Self> {
        let Some(folder) = folder else { return Ok(Self::Discarded) };
        let name = folder.files.fetch_add(1, Ordering::Relaxed).to_string();
        Ok(Self::Kept { file: File::create_new(folder.path.join(name))?, hasher: Sha256::new() })
    }

    fn end(self) -> io::Result<()> {
        if let Self::Kept { file, hasher } = self {
            file.sync_data()?;
            std::hint::black_box(hasher.finalize());
        }
        Ok(())
    }
}

impl Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Discarded => Ok(bytes.len()),
            Self::Kept { file, hasher } => {
                let written = file.write(bytes)?;
                hasher.update(&bytes[..written]);
                Ok(written)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn answer(stream: TcpStream, folder: Option<&Folder>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(256 << 10, stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        let (mut length, mut chunked, mut waits) = (0, false, false);
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let header = line.trim_end().to_ascii_lowercase();
            match header.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().map_err(io::Error::other)?,
                Some(("transfer-encoding", value)) => chunked = value == "chunked",
                Some(("expect", _)) => waits = true,
                Some(_) => {}
                None => break,
            }
        }
        if waits {
            stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if chunked || length > 0 {
            let mut body = Body::begin(folder)?;
            if chunked {
                copy_chunks(&mut stream, &mut body)?;
            } else {
                io::copy(&mut stream.by_ref().take(length), &mut body)?;
            }
            body.end()?;
        }
        let (status, headers) = match (method.as_str(), path.contains("/blobs/uploads/")) {
            ("POST" | "PATCH", true) => ("202 Accepted", "Location: /v2/a/blobs/uploads/1\r\nRange: 0-0\r\n"),
            ("PUT", _) => ("201 Created", "Location: /v2/a\r\n"),
            ("GET", _) if path == "/v2/" => ("200 OK", ""),
            _ => ("404 Not Found", ""),
        };
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\n\r\n");
        stream.get_mut().write_all(head.as_bytes())?;
    }
}

fn copy_chunks(stream: &mut BufReader<TcpStream>, body: &mut Body) -> io::Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        io::copy(&mut stream.by_ref().take(size), body)?;
        // A line break follows.
        io::copy(&mut stream.by_ref().take(2), &mut io::sink())?;
        if size == 0 {
            return Ok(());
        }
    }
}

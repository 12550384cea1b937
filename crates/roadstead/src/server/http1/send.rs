//! How answers go out.

use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Buf as _;
use futures::StreamExt as _;

use super::Connection;
use crate::server::pull::{Body, Response};
use crate::server::{Sendfile, files};

/// A body up to this size is copied behind its head, so that one `write` sends both. Beyond, copying costs more than
/// telling the kernel of two pieces.
const SMALL: usize = 32 << 10;

/// Answers to requests that came together are sent together, up to this size.
const TOGETHER: usize = 64 << 10;

impl<S> Connection<'_, S> {
    /// Writes an answer, or puts it behind those that are waiting.
    pub(super) async fn send(&mut self, response: Response, keep: bool) -> io::Result<()> {
        let Response { status, headers, length, body } = response;
        self.sent = 0;
        let out = &mut self.out;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
        for (name, value) in &headers {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        match (length, &body) {
            (Some(length), _) => write!(out, "content-length: {length}\r\n")?,
            (None, Body::Stream(_)) => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            (None, Body::Bytes(bytes)) if !bytes.is_empty() => write!(out, "content-length: {}\r\n", bytes.len())?,
            (None, _) => {}
        }
        if !keep {
            out.extend_from_slice(b"connection: close\r\n");
        }
        write_date(out);
        out.extend_from_slice(b"\r\n");
        match body {
            Body::Empty => {}
            Body::Bytes(bytes) if bytes.len() <= SMALL => {
                out.extend_from_slice(&bytes);
                self.sent = bytes.len() as u64;
            }
            Body::Bytes(bytes) => {
                self.flush().await?;
                self.write(&bytes).await?;
                self.sent = bytes.len() as u64;
            }
            #[cfg(target_os = "linux")]
            Body::File { file, range } if self.sends_files() => self.send_file(&file, range).await?,
            Body::File { file, range } => self.copy_file(&file, range).await?,
            Body::Stream(mut stream) if length.is_none() => {
                while let Some(bytes) = stream.next().await {
                    let bytes = bytes.map_err(io::Error::other)?;
                    // An empty chunk would be the last.
                    if !bytes.is_empty() {
                        write!(self.out, "{:x}\r\n", bytes.len())?;
                        self.flush().await?;
                        self.write(&bytes).await?;
                        self.sent += bytes.len() as u64;
                        self.out.extend_from_slice(b"\r\n");
                    }
                }
                self.out.extend_from_slice(b"0\r\n\r\n");
            }
            Body::Stream(mut stream) => {
                self.flush().await?;
                let mut rest = length.unwrap_or_default();
                while rest > 0 {
                    let bytes = match stream.next().await {
                        Some(bytes) => bytes.map_err(io::Error::other)?,
                        None => return Err(io::ErrorKind::UnexpectedEof.into()),
                    };
                    let bytes = &bytes[..bytes.len().min(usize::try_from(rest).unwrap_or(usize::MAX))];
                    self.write(bytes).await?;
                    self.sent += bytes.len() as u64;
                    rest -= bytes.len() as u64;
                }
            }
        }
        if self.out.len() > TOGETHER { self.flush().await } else { Ok(()) }
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        self.write(&out).await?;
        self.out = out;
        self.out.clear();
        self.out.shrink_to(TOGETHER);
        Ok(())
    }

    async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes.advance(written),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Waits until the client has taken something.
    async fn writable(&mut self) -> io::Result<()> {
        self.alarm.set(self.shared.limits.stall_time);
        let Self { stream, alarm, .. } = self;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(outcome) = stream.poll_write_ready(cx) {
                return Poll::Ready(outcome);
            }
            ready!(alarm.poll(cx));
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        })
        .await
    }

    /// Whether a blob goes out uncopied.
    #[cfg(target_os = "linux")]
    fn sends_files(&self) -> bool {
        self.shared.sendfile == Sendfile::Everywhere || !self.peer.address.is_loopback()
    }

    /// Hands a part of a file to the kernel, behind what is waiting.
    #[cfg(target_os = "linux")]
    async fn send_file(&mut self, file: &File, range: Range<u64>) -> io::Result<()> {
        use rustix::net::{SendFlags, send};
        use tokio::io::Interest;
        // The kernel is told that more follows, so that the head travels with the first bytes.
        let mut head = std::mem::take(&mut self.out);
        let mut sent = 0;
        while sent < head.len() {
            let more = || Ok(send(&self.stream, &head[sent..], SendFlags::MORE | SendFlags::NOSIGNAL)?);
            match self.stream.try_io(Interest::WRITABLE, more) {
                Ok(count) => sent += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        head.clear();
        self.out = head;
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + files::CHUNK);
            let warm = files::is_warm(file, at, end);
            let count = usize::try_from(end - at).unwrap_or(usize::MAX);
            let step = || Ok(rustix::fs::sendfile(&self.stream, file, Some(&mut at), count)?);
            let outcome = if warm {
                self.stream.try_io(Interest::WRITABLE, step)
            } else {
                files::waiting(|| self.stream.try_io(Interest::WRITABLE, step))
            };
            match outcome {
                // The file has become shorter than what was promised: only the connection's end can say so.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // One task may not keep its thread for the whole of a large blob.
                Ok(count) => {
                    self.sent += count as u64;
                    tokio::task::consume_budget().await;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Copies a part of a file behind what is waiting.
    async fn copy_file(&mut self, file: &File, range: Range<u64>) -> io::Result<()> {
        self.flush().await?;
        let mut at = range.start;
        while at < range.end {
            match files::lend(file, at, range.end, |bytes| self.stream.try_write(bytes))? {
                Ok(written) => {
                    at += written as u64;
                    self.sent += written as u64;
                    tokio::task::consume_budget().await;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Writes the `Date` line, which is made once a second.
fn write_date(out: &mut Vec<u8>) {
    static MADE: Mutex<(u64, [u8; LINE])> = Mutex::new((0, [b' '; LINE]));
    const LINE: usize = b"date: Sat, 21 Nov 2026 00:00:00 GMT\r\n".len();
    let at = SystemTime::now();
    let now = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if made.0 != now {
        *made = (now, *b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
        let mut line = &mut made.1[6..35];
        // Exactly as many bytes as there are: every field has a fixed width until the year 10000.
        let _ = line.write_all(httpdate::fmt_http_date(at).as_bytes());
    }
    out.extend_from_slice(&made.1);
}

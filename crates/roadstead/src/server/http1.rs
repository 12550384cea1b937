//! The transport that pulls take: HTTP/1.1, `GET` and `HEAD` without content.
//!
//! It answers a request only if everything in its head is known to be harmless here. A request that has content, wants
//! to upgrade, repeats what must stand once, or comes in another version goes to the transport that knows all of HTTP,
//! with every byte that was read: two parsers never have to agree about where a request ends.
//!
//! Source: RFC 9112.

use std::fs::File;
use std::future::Future as _;
use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BytesMut};
use futures::StreamExt as _;
use http::{Method, Version};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::front::{Peer, Presented};
use super::pull::{Body, Headers, Request, Response};
use super::status::Counts;
use super::{MAX_HEAD, MAX_HEADERS, Sendfile, Shared, files, push};

/// How a connection ended here.
pub(super) enum Ended {
    /// It is done.
    Closed,
    /// It goes on elsewhere, after these bytes.
    HandedOver(TcpStream, BytesMut),
}

/// What a version 2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A body up to this size is copied behind its head, so that one `write` sends both. Beyond, copying costs more than
/// telling the kernel of two pieces.
const SMALL: usize = 32 << 10;

/// Answers to requests that came together are sent together, up to this size.
const TOGETHER: usize = 64 << 10;

/// Serves a connection for as long as its requests are of the form that this transport knows.
pub(super) async fn serve(stream: TcpStream, peer: Peer, shared: &Arc<Shared>) -> io::Result<Ended> {
    let stop = pin!(shared.stop.wait());
    let mut connection = Connection {
        stream,
        peer,
        shared,
        stop,
        stopping: false,
        alarm: Alarm::new(shared.limits.head_time),
        read: BytesMut::with_capacity(4 << 10),
        out: Vec::with_capacity(4 << 10),
        sent: 0,
    };
    loop {
        match connection.next().await? {
            Next::Again => {}
            Next::Close => return Ok(Ended::Closed),
            Next::HandOver => return Ok(Ended::HandedOver(connection.stream, connection.read)),
        }
    }
}

/// How a connection goes on after a step.
enum Next {
    Again,
    Close,
    HandOver,
}

/// What the bytes read so far are.
enum Head {
    /// A request: its length, and whether the client keeps the connection.
    Plain { length: usize, keep: bool },
    /// The beginning of one.
    Partial,
    /// For the other transport.
    Other,
    /// Not HTTP, or not in a form that may be guessed about.
    Bad,
}

struct Connection<'a, S> {
    stream: TcpStream,
    peer: Peer,
    shared: &'a Arc<Shared>,
    stop: Pin<&'a mut S>,
    stopping: bool,
    alarm: Alarm,
    read: BytesMut,
    out: Vec<u8>,
    /// How much of the last answer's content went out.
    sent: u64,
}

impl<S: Future<Output = ()>> Connection<'_, S> {
    /// Answers a request, or reads more of it.
    async fn next(&mut self) -> io::Result<Next> {
        if self.read.is_empty() {
            return self.fill(true).await;
        }
        let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut []);
        let bytes = &self.read[..];
        let head = match parsed.parse_with_uninit_headers(bytes, &mut lines) {
            _ if bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes) => Head::Partial,
            _ if bytes.starts_with(PREFACE) => Head::Other,
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => classify(&parsed, length),
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => Head::Partial,
            // An HTTP/1.0 request is one too, and whatever else begins like one is for the parser that knows more.
            Err(httparse::Error::Version) => Head::Other,
            Ok(_) => return self.refuse(TOO_LARGE).await,
            Err(httparse::Error::TooManyHeaders) => return self.refuse(TOO_LARGE).await,
            Err(_) => Head::Bad,
        };
        let head = match head {
            // Where an upload is, only pushes know.
            Head::Plain { .. } if self.shared.push.is_some() && is_upload(&parsed) => Head::Other,
            head => head,
        };
        match head {
            Head::Plain { length, keep } => {
                let target = parsed.path.unwrap_or_default();
                let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
                let method = if parsed.method == Some("HEAD") { Method::HEAD } else { Method::GET };
                let mut headers = Headers::default();
                let mut presented = Presented::default();
                for line in parsed.headers.iter() {
                    headers.note(line.name, line.value);
                    if self.shared.looks_at_clients() {
                        presented.note(line.name, line.value);
                    }
                }
                let request = Request { method: &method, path, query, headers };
                let shared = self.shared;
                let (response, noted) = if shared.looks_at_clients() {
                    let (begun, front) = (std::time::Instant::now(), shared.trust.front(&self.peer, &presented));
                    let response = match (shared.pace(&front), &shared.guard) {
                        (Err(refusal), _) => refusal.response(&method),
                        (Ok(()), Some(guard)) => guard.pull(&shared.pull, &request, &presented, &front).await,
                        (Ok(()), None) => shared.pull.answer(&request).await,
                    };
                    let log = shared.access_log.as_ref();
                    let noted =
                        log.map(|log| log.note(&request, Version::HTTP_11, &presented, &front, begun, &response));
                    (response, noted)
                } else {
                    (shared.pull.answer(&request).await, None)
                };
                Log::new(&request, &response).write(&shared.counts);
                let keep = keep && !self.stopping;
                self.read.advance(length);
                let sent = self.send(shared.complete(response), keep).await;
                if let Some(mut noted) = noted {
                    noted.sent = self.sent;
                    noted.ended = sent.is_ok();
                }
                sent?;
                if keep {
                    return Ok(Next::Again);
                }
                self.flush().await?;
                close(&mut self.stream).await;
                Ok(Next::Close)
            }
            Head::Partial => self.fill(false).await,
            Head::Other => {
                self.flush().await?;
                Ok(Next::HandOver)
            }
            Head::Bad => self.refuse(BAD).await,
        }
    }

    /// Sends what is waiting to be sent, then reads. `idle` says that no request has begun.
    async fn fill(&mut self, idle: bool) -> io::Result<Next> {
        self.flush().await?;
        if self.stopping && idle {
            return Ok(Next::Close);
        }
        if idle {
            self.alarm.set(self.shared.limits.idle_time);
            self.read.clear();
        } else if self.alarm.idle {
            self.alarm.set(self.shared.limits.head_time);
        }
        self.alarm.idle = idle;
        self.read.reserve(2 << 10);
        let Self { stream, stop, stopping, alarm, read, .. } = self;
        let mut reading = pin!(stream.read_buf(read));
        let outcome = std::future::poll_fn(|cx| {
            if let Poll::Ready(outcome) = reading.as_mut().poll(cx) {
                return Poll::Ready(outcome.map(Some));
            }
            if !*stopping && stop.as_mut().poll(cx).is_ready() {
                *stopping = true;
            }
            if *stopping && idle {
                return Poll::Ready(Ok(None));
            }
            alarm.poll(cx).map(|()| Ok(None))
        });
        match outcome.await {
            Ok(Some(0)) | Ok(None) => Ok(Next::Close),
            Ok(Some(_)) => Ok(Next::Again),
            Err(e) => Err(e),
        }
    }

    /// Answers what is no request, and ends.
    async fn refuse(&mut self, answer: &'static [u8]) -> io::Result<Next> {
        self.out.extend_from_slice(answer);
        self.flush().await?;
        close(&mut self.stream).await;
        Ok(Next::Close)
    }

    /// Writes an answer, or puts it behind those that are waiting.
    async fn send(&mut self, response: Response, keep: bool) -> io::Result<()> {
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

    async fn flush(&mut self) -> io::Result<()> {
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

/// Ends a connection so that the client can read the last answer: closing while bytes of the client are unread would reset it,
/// and with that throw away what is on its way.
pub(super) async fn close(stream: &mut TcpStream) {
    use tokio::io::AsyncWriteExt as _;
    const LINGER: Duration = Duration::from_secs(2);
    let drained = async {
        stream.shutdown().await?;
        let mut scrap = [0; 4 << 10];
        while stream.read(&mut scrap).await? > 0 {}
        io::Result::Ok(())
    };
    // Whatever comes of it, the connection is over.
    let _ = tokio::time::timeout(LINGER, drained).await;
}

/// Whether a request asks for the state of an upload.
fn is_upload(request: &httparse::Request<'_, '_>) -> bool {
    request.method == Some("GET") && request.path.is_some_and(|path| path.contains("/blobs/uploads/"))
}

/// Whether a request is one that this transport answers.
fn classify(request: &httparse::Request<'_, '_>, length: usize) -> Head {
    // Two lengths are what requests are smuggled with: nobody may have to agree which one counts.
    let has = |name: &str| request.headers.iter().any(|line| line.name.eq_ignore_ascii_case(name));
    if has("content-length") && has("transfer-encoding") {
        return Head::Bad;
    }
    let plain = request.version == Some(1)
        && matches!(request.method, Some("GET" | "HEAD"))
        && request.path.is_some_and(|path| path.starts_with('/'));
    if !plain {
        return Head::Other;
    }
    let (mut hosts, mut keep) = (0, true);
    for line in request.headers.iter() {
        let name = line.name;
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is("host") => hosts += 1,
            10 if is("connection") => {
                if line.value.eq_ignore_ascii_case(b"close") {
                    keep = false;
                } else if !line.value.eq_ignore_ascii_case(b"keep-alive") {
                    return Head::Other;
                }
            }
            // Whatever announces content, or another way for the connection to go on.
            14 if is("content-length") => return Head::Other,
            17 if is("transfer-encoding") => return Head::Other,
            2 | 6 | 7 | 14 if is("te") || is("expect") || is("upgrade") || is("http2-settings") => return Head::Other,
            _ => {}
        }
    }
    if hosts == 1 { Head::Plain { length, keep } } else { Head::Bad }
}

/// A limit on waiting, which costs nothing while nothing waits long: the timer is only moved when it would ring too late,
/// or rings too early.
struct Alarm {
    due: Instant,
    idle: bool,
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    fn new(time: Duration) -> Self {
        Self { due: Instant::now() + time, idle: true, sleep: Box::pin(tokio::time::sleep(time)) }
    }

    fn set(&mut self, time: Duration) {
        self.due = Instant::now() + time;
        if self.due < self.sleep.deadline() {
            self.sleep.as_mut().reset(self.due);
        }
    }

    /// Ready when the time is over.
    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            if self.due <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.due);
        }
        Poll::Pending
    }
}

/// What is answered to bytes that are no request: among them a client's attempt at TLS, which falls back to plain HTTP
/// only if what comes begins like HTTP.
const BAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

const TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A request and its answer, for the log. Without the query and without headers: either may carry secrets; nor with the
/// name of an upload.
pub(super) struct Log<'a> {
    method: &'a Method,
    path: &'a str,
    pub(super) version: Version,
    status: u16,
    length: u64,
}

impl<'a> Log<'a> {
    pub(super) fn new(request: &Request<'a>, response: &Response) -> Self {
        Self {
            method: request.method,
            path: request.path,
            version: Version::HTTP_11,
            status: response.status.as_u16(),
            length: response.length.unwrap_or_default(),
        }
    }

    /// Logs it, and counts it.
    pub(super) fn write(&self, counts: &Counts) {
        let Self { method, path, version, status, length } = self;
        counts.request(method, *status, *length);
        let shown = || push::shown(path);
        tracing::info!(target: "roadstead::access", %method, path = ?shown(), ?version, status, length);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> &'static str {
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut lines);
        let length = parsed.parse(text.as_bytes()).unwrap().unwrap();
        match classify(&parsed, length) {
            Head::Plain { keep: true, .. } => "plain",
            Head::Plain { keep: false, .. } => "last",
            Head::Other => "other",
            Head::Bad => "bad",
            Head::Partial => "partial",
        }
    }

    #[test]
    fn only_what_is_harmless_is_answered_here() {
        for (rest, expected) in [
            ("Host: a\r\n\r\n", "plain"),
            ("host: a\r\nAccept: x\r\nAccept: y\r\nAuthorization: z\r\n\r\n", "plain"),
            ("Host: a\r\nConnection: Keep-Alive\r\n\r\n", "plain"),
            ("Host: a\r\nConnection: close\r\n\r\n", "last"),
            ("Host: a\r\nConnection: close, x\r\n\r\n", "other"),
            ("Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n", "other"),
            ("Host: a\r\nContent-Length: 0\r\n\r\n", "other"),
            ("Host: a\r\ncontent-length: 4\r\nContent-Length: 5\r\n\r\n", "other"),
            ("Host: a\r\nTransfer-Encoding: chunked\r\n\r\n", "other"),
            ("Host: a\r\nExpect: 100-continue\r\n\r\n", "other"),
            ("Host: a\r\nUpgrade: websocket\r\n\r\n", "other"),
            ("Host: a\r\nTE: trailers\r\n\r\n", "other"),
            ("Host: a\r\nHost: a\r\n\r\n", "bad"),
            ("\r\n", "bad"),
        ] {
            assert_eq!(head(&format!("GET /v2/ HTTP/1.1\r\n{rest}")), expected, "{rest:?}");
        }
        for (line, expected) in [
            ("HEAD /v2/ HTTP/1.1", "plain"),
            ("GET /v2/ HTTP/1.0", "other"),
            ("POST /v2/ HTTP/1.1", "other"),
            ("get /v2/ HTTP/1.1", "other"),
            ("GET http://a/v2/ HTTP/1.1", "other"),
            ("OPTIONS * HTTP/1.1", "other"),
        ] {
            assert_eq!(head(&format!("{line}\r\nHost: a\r\n\r\n")), expected, "{line}");
        }
    }
}

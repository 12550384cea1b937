//! An HTTP server that misbehaves exactly as it is told.
//!
//! It writes its answers byte by byte, since a proper server library could not cut a body, lie about its length, or go
//! silent in the middle.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::http::Clock;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How many requests of the same method and target came before.
    pub nth: usize,
}

impl Seen {
    /// A header as text, empty if it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The path without query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The first byte that a `Range` of the form `bytes=N-` asks for.
    #[must_use]
    pub fn range_start(&self) -> Option<usize> {
        self.header("range").strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What happens after part of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Close,
    Silence,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    length: Option<u64>,
    stop: Option<(usize, Then)>,
    endless: bool,
    framing: Framing,
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunks,
    /// HTTP/1.0, and the end of the connection.
    Close,
}

impl Reply {
    /// An answer with an empty body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            length: None,
            stop: None,
            endless: false,
            framing: Framing::Length,
        }
    }

    /// 200 with a body.
    #[must_use]
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::status(200).body(body)
    }

    /// The part of a body that `request` asks for by `Range`, as a server that knows ranges answers.
    #[must_use]
    pub fn ranged(request: &Seen, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        match request.range_start() {
            None => Self::ok(body),
            Some(start) if start < body.len() => Self::status(206)
                .header("content-range", format!("bytes {start}-{}/{}", body.len() - 1, body.len()))
                .body(body.slice(start..)),
            Some(_) => Self::status(416).header("content-range", format!("bytes */{}", body.len())),
        }
    }

    /// A redirect, 307.
    #[must_use]
    pub fn redirect(location: impl Into<String>) -> Self {
        Self::status(307).header("location", location)
    }

    /// A 401 with a challenge.
    #[must_use]
    pub fn challenge(challenge: impl Into<String>) -> Self {
        Self::status(401).header("www-authenticate", challenge)
    }

    /// The answer with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The answer without a header.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// The answer in chunks, so that nobody knows its length before its end.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        self.framing = Framing::Chunks;
        self
    }

    /// The answer of a server that speaks HTTP/1.0 and closes the connection.
    #[must_use]
    pub fn http_1_0(mut self) -> Self {
        self.framing = Framing::Close;
        self
    }

    /// What its body is.
    #[must_use]
    pub const fn content(&self) -> &Bytes {
        &self.body
    }

    /// The answer with this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The answer with another body, made from this one.
    #[must_use]
    pub fn edit(self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut body = self.body.to_vec();
        change(&mut body);
        self.body(body)
    }

    /// The answer with a `Content-Length` that may be a lie.
    #[must_use]
    pub fn claiming(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    /// The answer, but the connection closes after so many bytes of the body.
    #[must_use]
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.stop = Some((bytes, Then::Close));
        self
    }

    /// No answer: the connection closes.
    #[must_use]
    pub fn hang_up() -> Self {
        Self::status(0)
    }

    /// The answer, but nothing comes after so many bytes of the body, while the connection stays open.
    #[must_use]
    pub fn silent_after(mut self, bytes: usize) -> Self {
        self.stop = Some((bytes, Then::Silence));
        self
    }

    /// The answer, but its body repeats without end, in chunks.
    #[must_use]
    pub fn endless(mut self) -> Self {
        self.endless = true;
        self
    }

    fn head(&self) -> String {
        let version = if self.framing == Framing::Close { "1.0" } else { "1.1" };
        let mut head = format!("HTTP/{version} {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.endless || self.framing == Framing::Chunks {
            head.push_str("transfer-encoding: chunked\r\n");
        } else if self.status != 204 && !self.headers.iter().any(|(name, _)| FRAMING.contains(&&**name)) {
            head.push_str(&format!("content-length: {}\r\n", self.length.unwrap_or(self.body.len() as u64)));
        }
        head.push_str("\r\n");
        head
    }

    /// Writes the answer, and says whether the connection can be used again.
    async fn write(&self, to: &mut TcpStream, head_only: bool) -> io::Result<bool> {
        if self.status == 0 {
            return Ok(false);
        }
        to.write_all(self.head().as_bytes()).await?;
        let stays = self.framing != Framing::Close;
        if head_only {
            return Ok(stays);
        }
        if self.endless {
            loop {
                to.write_all(format!("{:x}\r\n", self.body.len()).as_bytes()).await?;
                to.write_all(&self.body).await?;
                to.write_all(b"\r\n").await?;
            }
        }
        let Some((bytes, then)) = self.stop else {
            if self.framing == Framing::Chunks {
                let chunk = if self.body.is_empty() { String::new() } else { format!("{:x}\r\n", self.body.len()) };
                let rest = if self.body.is_empty() { "0\r\n\r\n" } else { "\r\n0\r\n\r\n" };
                let whole = [chunk.as_bytes(), &self.body, rest.as_bytes()].concat();
                to.write_all(&whole).await?;
                return Ok(true);
            }
            to.write_all(&self.body).await?;
            return Ok(stays && self.length.is_none_or(|length| length == self.body.len() as u64));
        };
        to.write_all(&self.body[..bytes.min(self.body.len())]).await?;
        to.flush().await?;
        if then == Then::Silence {
            // Until the client has had enough.
            let mut byte = [0];
            let _ = to.read(&mut byte).await;
        }
        Ok(false)
    }
}

/// The headers that say where a body ends: with one of them in place, no other is written.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

#[derive(Default)]
struct Log {
    seen: Mutex<Vec<Seen>>,
    counts: Mutex<HashMap<(String, String), usize>>,
}

/// A server on a free port of loopback, which answers as a script says and remembers every request. Ends when dropped.
pub struct FaultServer {
    address: SocketAddr,
    log: Arc<Log>,
    task: JoinHandle<()>,
}

impl fmt::Debug for FaultServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl FaultServer {
    /// Starts a server.
    ///
    /// # Panics
    ///
    /// If there is no port to be had.
    pub async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let log = Arc::new(Log::default());
        let script: Arc<Script> = Arc::new(script);
        let shared = Arc::clone(&log);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (script, log) = (Arc::clone(&script), Arc::clone(&shared));
                connections.spawn(async move {
                    // A client that hangs up is what many tests are about.
                    let _ = serve(connection, &*script, &log).await;
                });
            }
        });
        Self { address, log, task }
    }

    /// Host and port, as an image reference has them.
    #[must_use]
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// A URL on this server.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every request so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every request so far as `METHOD target`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    }

    /// How many requests there were whose target begins like this.
    #[must_use]
    pub fn count(&self, prefix: &str) -> usize {
        self.requests().iter().filter(|seen| seen.target.starts_with(prefix)).count()
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut connection: TcpStream, script: &Script, log: &Log) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    loop {
        let Some(seen) = read_request(&mut connection, &mut buffer, log).await? else {
            return Ok(());
        };
        let head_only = seen.method == "HEAD";
        let reply = script(&seen);
        log.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        if !reply.write(&mut connection, head_only).await? {
            return connection.shutdown().await;
        }
    }
}

async fn read_request(connection: &mut TcpStream, buffer: &mut BytesMut, log: &Log) -> io::Result<Option<Seen>> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(buffer) {
            Ok(httparse::Status::Complete(head)) => {
                let method = request.method.unwrap_or_default().to_owned();
                let target = request.path.unwrap_or_default().to_owned();
                let headers: HeaderMap = request
                    .headers
                    .iter()
                    .filter_map(|h| Some((h.name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(h.value).ok()?)))
                    .collect();
                let length = headers.get("content-length").and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(0);
                while buffer.len() < head + length {
                    if connection.read_buf(buffer).await? == 0 {
                        return Ok(None);
                    }
                }
                let _ = buffer.split_to(head);
                let body = buffer.split_to(length).freeze();
                let mut counts = log.counts.lock().unwrap_or_else(PoisonError::into_inner);
                let count = counts.entry((method.clone(), target.clone())).or_default();
                let nth = *count;
                *count += 1;
                return Ok(Some(Seen { method, target, headers, body, nth }));
            }
            Ok(httparse::Status::Partial) => {
                if connection.read_buf(buffer).await? == 0 {
                    return Ok(None);
                }
            }
            Err(_) => {
                // What servers without TLS say to a ClientHello.
                connection.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await?;
                return Ok(None);
            }
        }
    }
}

/// A clock that tests turn by hand: sleeping is done at once, moves the time, and is remembered.
#[derive(Debug)]
pub struct TestClock {
    start: Instant,
    wall_start: SystemTime,
    passed_nanos: AtomicU64,
    slept: Mutex<Vec<Duration>>,
}

impl Default for TestClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            wall_start: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
            passed_nanos: AtomicU64::new(0),
            slept: Mutex::default(),
        }
    }
}

impl TestClock {
    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX / 4);
        self.passed_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How long each sleep was.
    #[must_use]
    pub fn slept(&self) -> Vec<Duration> {
        self.slept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn passed(&self) -> Duration {
        Duration::from_nanos(self.passed_nanos.load(Ordering::Relaxed))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        self.start + self.passed()
    }

    fn wall(&self) -> SystemTime {
        self.wall_start + self.passed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.slept.lock().unwrap_or_else(PoisonError::into_inner).push(duration);
        self.advance(duration);
        Box::pin(async {})
    }
}

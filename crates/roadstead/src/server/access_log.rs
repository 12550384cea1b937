//! The access log: a line for each request, written when its answer is over.
//!
//! Requests hand their lines to a thread, and never wait for it: what a slow disk or a reader that stopped reading
//! leaves unwritten beyond [`MAX_WAITING`] is counted and lost. No line has a secret in it: no header but two, no query
//! but what is known to be harmless, and nothing of the path by which an upload can be gone on with.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{Method, Version};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;

use super::front::{Front, Presented};
use super::pull::{Request, Response};

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// As Apache and nginx do (`combined`), in UTC.
    Combined,
    /// An object of JSON.
    Json,
}

/// The most bytes of lines that wait to be written.
const MAX_WAITING: usize = 8 << 20;

/// The most bytes of a request's target, and of each header, in a line.
const MAX_TARGET: usize = 2048;
const MAX_HEADER: usize = 256;

/// How long the end of a server waits for lines to be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// What stands in the place of what isn't told.
const REDACTED: &str = "REDACTED";

/// What of a query is told: what the API knows, and no name or secret of a client.
const TOLD: [&str; 9] = ["n", "last", "digest", "mount", "from", "tag", "artifactType", "scope", "service"];

/// Writes a line for each request. Clones write to the same place.
#[derive(Debug, Clone)]
pub struct AccessLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    format: LogFormat,
    lines: mpsc::Sender<Message>,
    waiting: AtomicUsize,
    reopen: AtomicBool,
    lost: Counter,
}

enum Message {
    Line(String),
    /// Something is to be done that isn't a line.
    Wake,
    /// Everything before is to be written.
    Finish(oneshot::Sender<()>),
}

impl AccessLog {
    /// Appends to a file, which is made if it isn't there.
    ///
    /// # Errors
    ///
    /// If the file can't be opened.
    pub fn to_file(path: impl Into<PathBuf>, format: LogFormat) -> io::Result<Self> {
        let path = path.into();
        let file = open(&path)?;
        Ok(Self::start(Box::new(file), Some(path), format))
    }

    /// Writes to what is open, such as the standard output.
    #[must_use]
    pub fn to_writer(writer: impl Write + Send + 'static, format: LogFormat) -> Self {
        Self::start(Box::new(writer), None, format)
    }

    /// Opens the file anew, once what waits is written: another program has moved the old one away. Without a file,
    /// nothing happens.
    pub fn reopen(&self) {
        self.0.reopen.store(true, Ordering::SeqCst);
        let _ = self.0.lines.send(Message::Wake);
    }

    fn start(writer: Box<dyn Write + Send>, path: Option<PathBuf>, format: LogFormat) -> Self {
        let (lines, waiting) = mpsc::channel();
        let (reopen, lost) = (AtomicBool::new(false), Counter::default());
        let inner = Arc::new(Inner { format, lines, waiting: AtomicUsize::new(0), reopen, lost });
        // It ends with the last of those that send to it.
        let weak = Arc::downgrade(&inner);
        std::thread::spawn(move || {
            let mut told = 0;
            let mut writer = Writer { out: BufWriter::with_capacity(64 << 10, writer), path, failing: false };
            while let Some(message) = next(&waiting, &mut writer) {
                let Some(inner) = weak.upgrade() else { break };
                match message {
                    Message::Line(line) => {
                        inner.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                        if !writer.write(line.as_bytes()) {
                            inner.lost.inc();
                        }
                    }
                    Message::Wake => {}
                    Message::Finish(done) => {
                        writer.flush();
                        let _ = done.send(());
                    }
                }
                if inner.reopen.swap(false, Ordering::SeqCst) {
                    writer.reopen();
                }
                let lost = inner.lost.get();
                if lost > told && inner.waiting.load(Ordering::Relaxed) == 0 {
                    tracing::warn!("{} lines of the access log were lost", lost - told);
                    told = lost;
                }
            }
        });
        Self(inner)
    }

    /// How many lines were lost.
    pub(super) fn lost(&self) -> Counter {
        self.0.lost.clone()
    }

    /// Takes note of a request that is about to be answered.
    pub(super) fn note(
        &self,
        request: &Request<'_>,
        version: Version,
        presented: &Presented<'_>,
        front: &Front,
        begun: Instant,
        response: &Response,
    ) -> Noted {
        let expected = if request.method == Method::HEAD { Some(0) } else { response.length };
        let header = |value: Option<&[u8]>| {
            let value = String::from_utf8_lossy(value?).into_owned();
            Some(cut(&value, MAX_HEADER).to_owned())
        };
        Noted {
            log: self.clone(),
            begun,
            client: front.client,
            user: front.user.get().cloned(),
            method: request.method.clone(),
            target: target(request.path, request.query),
            version,
            status: response.status.as_u16(),
            // A page's address may have secrets of its own behind the question mark.
            referer: header(presented.referer).map(|url| url.split(['?', '#']).next().unwrap_or_default().to_owned()),
            agent: header(presented.user_agent),
            expected,
            sent: 0,
            ended: false,
        }
    }

    fn write(&self, line: String) {
        let inner = &self.0;
        let length = line.len();
        if inner.waiting.fetch_add(length, Ordering::Relaxed) > MAX_WAITING
            || inner.lines.send(Message::Line(line)).is_err()
        {
            inner.waiting.fetch_sub(length, Ordering::Relaxed);
            inner.lost.inc();
        }
    }

    /// Waits until what was noted is written, for a while.
    pub(super) async fn finish(&self) {
        let (done, finished) = oneshot::channel();
        if self.0.lines.send(Message::Finish(done)).is_ok() {
            let _ = tokio::time::timeout(PATIENCE, finished).await;
        }
    }
}

/// The next message. Before it is waited for, what was written is passed on.
fn next(messages: &mpsc::Receiver<Message>, writer: &mut Writer) -> Option<Message> {
    match messages.try_recv() {
        Ok(message) => Some(message),
        Err(mpsc::TryRecvError::Empty) => {
            writer.flush();
            messages.recv().ok()
        }
        Err(mpsc::TryRecvError::Disconnected) => None,
    }
}

/// Users' names and addresses are not everybody's business.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

struct Writer {
    out: BufWriter<Box<dyn Write + Send>>,
    path: Option<PathBuf>,
    failing: bool,
}

impl Writer {
    fn write(&mut self, bytes: &[u8]) -> bool {
        let written = self.out.write_all(bytes);
        self.judge(written)
    }

    fn flush(&mut self) {
        let flushed = self.out.flush();
        self.judge(flushed);
    }

    /// Says once that nothing can be written, and once that it can be again.
    fn judge(&mut self, outcome: io::Result<()>) -> bool {
        match outcome {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::warn!("the access log can be written again");
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the access log can't be written");
                }
                false
            }
        }
    }

    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(file) => {
                self.flush();
                self.out = BufWriter::with_capacity(64 << 10, Box::new(file));
            }
            Err(error) => {
                tracing::error!(?path, %error, "the access log can't be opened anew, and goes on in the old file");
            }
        }
    }
}

/// A request whose answer is on its way. Its line is written when this is dropped.
pub(super) struct Noted {
    log: AccessLog,
    begun: Instant,
    client: IpAddr,
    user: Option<String>,
    method: Method,
    target: String,
    version: Version,
    status: u16,
    referer: Option<String>,
    agent: Option<String>,
    /// How much content the answer has; `None` if nobody knows before its end.
    expected: Option<u64>,
    /// How much of it went out.
    pub(super) sent: u64,
    /// Whether its end was reached.
    pub(super) ended: bool,
}

impl Drop for Noted {
    fn drop(&mut self) {
        let mut line = match self.log.0.format {
            LogFormat::Combined => self.combined(SystemTime::now()),
            LogFormat::Json => self.json(SystemTime::now()),
        };
        line.push('\n');
        self.log.write(line);
    }
}

impl Noted {
    fn combined(&self, now: SystemTime) -> String {
        let Self { client, method, target, version, status, sent, .. } = self;
        let date = httpdate::fmt_http_date(now);
        let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
        let text = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), escape);
        // A name has no space in it, so that whoever splits lines at spaces is right.
        let user = text(self.user.as_deref()).replace(' ', "\\x20");
        format!(
            "{client} - {user} [{day}/{month}/{year}:{time} +0000] \"{method} {} {version:?}\" {status} {sent} \"{}\" \"{}\"",
            escape(target),
            text(self.referer.as_deref()),
            text(self.agent.as_deref()),
        )
    }

    fn json(&self, now: SystemTime) -> String {
        let complete = self.ended || self.expected.is_some_and(|expected| self.sent >= expected);
        let mut line = serde_json::json!({
            "time": timestamp(now),
            "client": self.client.to_string(),
            "method": self.method.as_str(),
            "target": self.target,
            "protocol": format!("{:?}", self.version),
            "status": self.status,
            "bytes": self.sent,
            "complete": complete,
            "seconds": (self.begun.elapsed().as_secs_f64() * 1e6).round() / 1e6,
        });
        for (key, value) in [("user", &self.user), ("referer", &self.referer), ("user_agent", &self.agent)] {
            if let Some(value) = value {
                line[key] = value.as_str().into();
            }
        }
        line.to_string()
    }
}

/// A time as RFC 3339 writes it, to the millisecond.
fn timestamp(now: SystemTime) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let date = httpdate::fmt_http_date(now);
    let month = MONTHS.find(&date[8..11]).unwrap_or_default() / 3 + 1;
    let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_millis();
    format!("{}-{month:02}-{}T{}.{millis:03}Z", &date[12..16], &date[5..7], &date[17..25])
}

/// What a request asks for, without what its sender alone may know.
fn target(path: &str, query: Option<&str>) -> String {
    const UPLOADS: &str = "/blobs/uploads/";
    let mut told = match path.find(UPLOADS).map(|at| path.split_at(at + UPLOADS.len())) {
        // Whoever knows the name of an upload can go on with it.
        Some((before, session)) if !session.is_empty() => format!("{}{REDACTED}", cut(before, MAX_TARGET)),
        _ if path.is_empty() => "-".to_owned(),
        _ => cut(path, MAX_TARGET).to_owned(),
    };
    for (index, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        told.push(if index == 0 { '?' } else { '&' });
        let key = pair.split_once('=').map_or("", |(key, _)| key);
        told.push_str(if TOLD.contains(&key) { pair } else { REDACTED });
        if told.len() > MAX_TARGET {
            return cut(&told, MAX_TARGET).to_owned();
        }
    }
    told
}

/// As much of a text as fits.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// A text within quotation marks, of printable ASCII.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => {
                let _ = write!(escaped, "\\x{byte:02X}");
            }
            _ => escaped.push(byte.into()),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    #[test]
    fn nothing_secret_is_in_a_target() {
        for (path, query, expected) in [
            ("/v2/", None, "/v2/"),
            ("/v2/a/blobs/uploads/", Some("digest=sha256:x&mount=y"), "/v2/a/blobs/uploads/?digest=sha256:x&mount=y"),
            ("/v2/a/blobs/uploads/8f-3", Some("_state=abc&digest=d"), "/v2/a/blobs/uploads/REDACTED?REDACTED&digest=d"),
            ("/v2/_token", Some("service=r&account=hunter2&scope=a"), "/v2/_token?service=r&REDACTED&scope=a"),
            ("/v2/a/tags/list", Some("n=5&secret&n"), "/v2/a/tags/list?n=5&REDACTED&REDACTED"),
            ("/x", Some("X-Amz-Signature=abc"), "/x?REDACTED"),
            ("/x", Some(""), "/x?REDACTED"),
        ] {
            assert_eq!(target(path, query), expected);
        }
        let long = "é".repeat(MAX_TARGET);
        assert!(target(&long, Some(&long)).len() <= MAX_TARGET + REDACTED.len() + 1);
    }

    #[test]
    fn a_line_stays_one() {
        assert_eq!(escape("a b\"c\\d\r\né\u{7f}"), "a b\\x22c\\x5Cd\\x0D\\x0A\\xC3\\xA9\\x7F");
        let at = UNIX_EPOCH + Duration::from_millis(1_795_680_000_042);
        assert_eq!(timestamp(at), "2026-11-26T08:00:00.042Z");
    }

    /// A place that takes nothing until it may.
    struct Stuck(Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_and_memory_has_an_end() {
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let log = AccessLog::to_writer(Stuck(Arc::clone(&written)), LogFormat::Json);
        let stuck = written.lock().unwrap();
        let line = "x".repeat(1 << 20);
        for _ in 0..32 {
            log.write(line.clone());
        }
        assert!(log.0.waiting.load(Ordering::Relaxed) <= MAX_WAITING + line.len());
        let lost = log.lost().get();
        assert!(lost > 0);
        drop(stuck);
        tokio::runtime::Runtime::new().unwrap().block_on(log.finish());
        assert_eq!(written.lock().unwrap().len() as u64, (32 - lost) << 20);
    }
}

//! The transport that pulls take: HTTP/1.1, `GET` and `HEAD` without content.
//!
//! It answers a request only if everything in its head is known to be harmless here. A request that has content, wants
//! to upgrade, repeats what must stand once, or comes in another version goes to the transport that knows all of HTTP,
//! with every byte that was read: two parsers never have to agree about where a request ends.
//!
//! Source: RFC 9112.

mod head;
mod send;

use std::future::Future as _;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http::{Method, Version};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use self::head::{Head, classify, is_upload};
use super::alarm::Alarm;
use super::front::{Peer, Presented};
use super::pull::{Headers, Request};
use super::told::Log;
use super::{MAX_HEAD, MAX_HEADERS, Shared};

/// How a connection ended here.
pub(super) enum Ended {
    /// It is done.
    Closed,
    /// It goes on elsewhere, after these bytes.
    HandedOver(TcpStream, BytesMut),
}

/// What a version 2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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
        idle: true,
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

struct Connection<'a, S> {
    stream: TcpStream,
    peer: Peer,
    shared: &'a Arc<Shared>,
    stop: Pin<&'a mut S>,
    stopping: bool,
    alarm: Alarm,
    /// Whether no request has begun.
    idle: bool,
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
        } else if self.idle {
            self.alarm.set(self.shared.limits.head_time);
        }
        self.idle = idle;
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

/// What is answered to bytes that are no request: among them a client's attempt at TLS, which falls back to plain HTTP
/// only if what comes begins like HTTP.
const BAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

const TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

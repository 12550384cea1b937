//! The transport that knows all of HTTP: hyper, for versions 1 and 2.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, HOST, HeaderValue, TRANSFER_ENCODING,
};
use http::{Method, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};

use super::access_log::Noted;
use super::auth::{MAX_FORM, TOKEN_PATH};
use super::course::{Course, Received, Step};
use super::front::{Front, Peer, Presented};
use super::pull::{Body, Headers, Request, Response};
use super::rewind::Rewind;
use super::told::Log;
use super::{MAX_HEAD, MAX_HEADERS, Shared, files, push};
use crate::site::BAD_REQUEST;

type Content = UnsyncBoxBody<Bytes, io::Error>;

/// How much of content is read at once, by one that comes quickly: as much as is hashed and written at once. No head may be as
/// long, but one that may not is read as far before it is refused.
const READ: usize = 128 << 10;

/// Streams of one HTTP/2 connection at a time. A pull has a few.
const MAX_STREAMS: u32 = 100;

/// Serves a connection of which `read` has been read.
pub(super) async fn serve<S>(stream: S, read: BytesMut, peer: Peer, shared: &Arc<Shared>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &shared.limits;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // What is waited for has other limits.
        .header_read_timeout(None)
        // Who has sent all may say so, and gets the answer; or else a whole request could be lost that way.
        .half_close(true)
        .max_buf_size(READ)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
    let (peer, course) = (Arc::new(peer), Course::new());
    let io = TokioIo::new(Rewind::new(stream, read, limits.clone(), Arc::clone(&course)));
    let for_service = Arc::clone(shared);
    let service =
        service_fn(move |request| answer(request, Arc::clone(&peer), Arc::clone(&for_service), Arc::clone(&course)));
    let connection = builder.serve_connection(io, service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shared.stop.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    served.map_err(io::Error::other)
}

async fn answer(
    request: http::Request<Incoming>,
    peer: Arc<Peer>,
    shared: Arc<Shared>,
    course: Arc<Course>,
) -> Result<http::Response<Told>, Infallible> {
    let (head, content) = request.into_parts();
    let _working = course.work(head.version == Version::HTTP_2);
    let told = |content, noted| Told { content, noted, _sending: course.send() };
    if head.version < Version::HTTP_2 && length(&head) > MAX_HEAD {
        return Ok(too_large().map(|content| told(content, None)));
    }
    let content = course.receive(content);
    // A message of version 1.1 without one host, or with several, is refused (RFC 9112, section 3.2).
    let hosts = head.headers.get_all(HOST).iter().count();
    let unclear = hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11);
    let (mut headers, mut presented) = (Headers::default(), Presented::default());
    for (name, value) in &head.headers {
        headers.note(name.as_str(), value.as_bytes());
        presented.note(name.as_str(), value.as_bytes());
    }
    // What version 2 has in place of a host.
    presented.host = head.uri.authority().map(|authority| authority.as_str().as_bytes()).or(presented.host);
    let path = if unclear { "" } else { head.uri.path() };
    let request = Request { method: &head.method, path, query: head.uri.query(), headers };
    let (begun, front) = (Instant::now(), shared.trust.front(&peer, &presented));
    let response = match shared.pace(&front) {
        Ok(()) => respond(&request, &presented, &front, pushed(&head), content, &shared).await,
        Err(refusal) => refusal.response(&head.method),
    };
    let mut log = Log::new(&request, &response);
    log.version = head.version;
    log.write(&shared.counts);
    let log = shared.access_log.as_ref();
    let noted = log.map(|log| log.note(&request, head.version, &presented, &front, begun, &response));
    let bad = response.status == BAD_REQUEST.status;
    let mut response = convert(shared.complete(response)).map(|content| told(content, noted));
    // What has both lengths ends where Transfer-Encoding says, and the parser tells nobody of the other one. Whoever passed it on
    // may have gone by that, so the connection ends with it (RFC 9112, section 6.3).
    let in_chunks = head.headers.contains_key(TRANSFER_ENCODING);
    if (bad || in_chunks) && head.version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// How long a head is, about.
fn length(head: &http::request::Parts) -> usize {
    let lines = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    head.uri.path_and_query().map_or(0, |target| target.as_str().len()) + lines.sum::<usize>()
}

fn too_large() -> http::Response<Content> {
    let mut response = http::Response::new(content(Body::Empty));
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The answer to a request, by whoever is there for such.
async fn respond(
    request: &Request<'_>,
    presented: &Presented<'_>,
    front: &Front,
    pushed: push::Request,
    content: Received,
    shared: &Shared,
) -> Response {
    let push = shared.push.as_ref().filter(|push| push.takes(request.method, request.path));
    match (&shared.guard, push) {
        (Some(guard), _) if request.path == TOKEN_PATH && request.method == Method::POST => match form(content).await {
            Some(form) => guard.token(request.method, None, Some(&form), presented, front).await,
            None => shared.pull.answer(&Request { path: "", ..*request }).await,
        },
        (None, Some(push)) => push.answer(pushed, None, receive(content)).await,
        (Some(guard), Some(push)) => {
            let session = guard.session(presented, front).await;
            push.answer(pushed, Some(session), receive(content)).await
        }
        (guard, None) => {
            // Content that nobody reads must not be taken for the next request; hyper closes where it hasn't been read.
            drop(content);
            match guard {
                None => shared.pull.answer(request).await,
                Some(guard) => guard.pull(&shared.pull, request, presented, front).await,
            }
        }
    }
}

/// The content of a form; `None` if it is too large, or doesn't come.
async fn form(content: Received) -> Option<Bytes> {
    let limited = http_body_util::Limited::new(content, MAX_FORM);
    Some(limited.collect().await.ok()?.to_bytes())
}

/// A request as pushes know it.
fn pushed(head: &http::request::Parts) -> push::Request {
    let text = |name| head.headers.get(name).and_then(|value: &HeaderValue| Some(value.to_str().ok()?.to_owned()));
    push::Request {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        content_type: text(CONTENT_TYPE),
        content_range: text(CONTENT_RANGE),
        content_length: text(CONTENT_LENGTH).and_then(|length| length.parse().ok()),
    }
}

/// The content of a request, as it comes. Its first piece is asked for, with `100 Continue` if the client waits for that, only
/// when somebody wants to have it.
fn receive(content: Received) -> push::Content {
    let data = |frame: Result<Frame<Bytes>, hyper::Error>| async move {
        // Trailers say nothing here.
        frame.map_err(Into::into).map(|frame| frame.into_data().ok()).transpose()
    };
    futures::StreamExt::boxed(BodyStream::new(content).filter_map(data))
}

fn convert(response: Response) -> http::Response<Content> {
    let Response { status, headers, length, body } = response;
    let mut converted = http::Response::new(content(body));
    *converted.status_mut() = status;
    let map = converted.headers_mut();
    map.extend(headers);
    if let Some(length) = length {
        map.insert(CONTENT_LENGTH, length.into());
    }
    debug_assert!(!map.contains_key(DATE) && status != StatusCode::CONTINUE, "the transport's own business");
    converted
}

/// An answer's content, and what is told of it once it is over.
struct Told {
    content: Content,
    noted: Option<Noted>,
    _sending: Step,
}

impl hyper::body::Body for Told {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = ready!(Pin::new(&mut self.content).poll_frame(cx));
        if let Some(noted) = &mut self.noted {
            match &frame {
                Some(Ok(frame)) => noted.sent += frame.data_ref().map_or(0, Bytes::len) as u64,
                Some(Err(_)) => {}
                None => noted.ended = true,
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

fn content(body: Body) -> Content {
    match body {
        Body::Empty => Empty::new().map_err(never).boxed_unsync(),
        Body::Bytes(bytes) => Full::new(bytes).map_err(never).boxed_unsync(),
        Body::File { file, range } => {
            let chunks = stream::try_unfold((file, range), |(file, range)| async move {
                if range.is_empty() {
                    return Ok(None);
                }
                let bytes = files::lend(&file, range.start, range.end, Bytes::copy_from_slice)?;
                let rest = range.start + bytes.len() as u64..range.end;
                Ok(Some((Frame::data(bytes), (file, rest))))
            });
            StreamBody::new(chunks.boxed()).boxed_unsync()
        }
        Body::Stream(stream) => {
            let frames = stream.map_ok(Frame::data).map_err(io::Error::other);
            StreamBody::new(frames).boxed_unsync()
        }
    }
}

fn never(impossible: Infallible) -> io::Error {
    match impossible {}
}

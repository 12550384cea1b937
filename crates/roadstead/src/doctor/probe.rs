//! Asking: the only part of the doctor that acts.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::http::HeaderMap;
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures::StreamExt as _;

use super::cause::{Cause, Finding};
use super::observation::{Answer, Content, End, NoAnswer, Outcome, Redirect, Seen};
use super::question::Question;
use crate::http::{Endpoint, HttpError, Request, Response};
use crate::oci::{Hasher, Repository};

/// The most redirects that are followed for one question, as Go's clients do.
const MAX_REDIRECTS: usize = 10;

/// How many questions are asked at a time.
const AT_A_TIME: usize = 8;

/// After so many questions that nobody answers, nothing more is asked.
const MAX_SILENCES: usize = 3;

/// How many times longer than nothing may come an answer may take that keeps on coming, by drops.
const TRICKLE: u32 = 4;

/// How fast a blob comes at the least that is read whole.
const BYTES_A_SECOND: u64 = 16 << 10;

/// Asks a registry, and counts.
pub(super) struct Prober<'a> {
    endpoint: &'a Endpoint,
    watch: &'a (dyn Fn(&Question) + Send + Sync),
    most: usize,
    sent: AtomicUsize,
    /// How many bytes of answers are remembered.
    kept: AtomicUsize,
    silences: AtomicUsize,
}

impl<'a> Prober<'a> {
    pub(super) fn new(endpoint: &'a Endpoint, most: usize, watch: &'a (dyn Fn(&Question) + Send + Sync)) -> Self {
        Self {
            endpoint,
            watch,
            most,
            sent: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            silences: AtomicUsize::new(0),
        }
    }

    /// How many requests went out.
    pub(super) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed).min(self.most)
    }

    /// Asks what has not been asked, as long as there is room; blobs up to `limit` bytes, where it says more than a sample.
    pub(super) async fn ask(&self, repository: &Repository, questions: &[(Question, Option<u64>)], seen: &mut Seen) {
        let mut fresh: Vec<&(Question, Option<u64>)> = Vec::new();
        for asked in questions {
            if seen.get(&asked.0).is_none() && !fresh.iter().any(|other| other.0 == asked.0) {
                fresh.push(asked);
            }
        }
        let mut outcomes = futures::stream::iter(fresh)
            .map(|(question, limit)| async move {
                let limit = limit.unwrap_or_else(|| question.limit());
                (question, self.one(repository, question, limit).await)
            })
            .buffered(AT_A_TIME);
        while let Some((question, outcome)) = outcomes.next().await {
            if let Some(outcome) = outcome {
                seen.insert(question.clone(), outcome);
            }
        }
    }

    /// Asks one question, and follows redirects; `None` if there is no room for it.
    async fn one(&self, repository: &Repository, question: &Question, limit: u64) -> Option<Outcome> {
        let mut request = Request::new(question.method(), question.path(repository), question.scope(repository));
        let mut redirects: Vec<Redirect> = Vec::new();
        loop {
            if self.silences.load(Ordering::Relaxed) >= MAX_SILENCES
                || self.kept.load(Ordering::Relaxed) >= MAX_KEPT
                || self.sent.fetch_add(1, Ordering::Relaxed) >= self.most
            {
                return None;
            }
            if redirects.is_empty() {
                (self.watch)(question);
            }
            request.headers = question.headers();
            let response = match self.endpoint.send(&request.clone().once().unfollowed()).await {
                Ok(response) => response,
                Err(error) => {
                    let why = why(&error);
                    if matches!(why, NoAnswer::Stalled(_)) {
                        self.silences.fetch_add(1, Ordering::Relaxed);
                    }
                    return Some(Err(why));
                }
            };
            let status = response.status().as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                let mut patience = self.endpoint.shared().options.timeouts.stall * TRICKLE;
                if limit > question.limit() {
                    patience += Duration::from_secs(limit / BYTES_A_SECOND);
                }
                let answer = read(response, redirects, question, limit, patience).await;
                if answer.content.end == End::Trickle(patience.as_secs()) {
                    self.silences.fetch_add(1, Ordering::Relaxed);
                }
                self.kept.fetch_add(answer.content.start.len(), Ordering::Relaxed);
                return Some(Ok(answer));
            }
            if redirects.len() >= MAX_REDIRECTS {
                return Some(Err(NoAnswer::Loop));
            }
            let next = match self.endpoint.hop(&response) {
                Ok(next) => next,
                Err(HttpError::Redirect { problem, .. } | HttpError::Invalid { problem, .. }) => {
                    return Some(Err(NoAnswer::Redirect(problem)));
                }
                Err(error) => return Some(Err(why(&error))),
            };
            redirects.push(Redirect {
                status,
                to: next.shown().to_string(),
                elsewhere: next.is_elsewhere(response.url()),
                leaves_tls: response.url().scheme() == "https" && next.is_plain_http(),
            });
            request = Request::at(question.method(), next, question.scope(repository));
        }
    }
}

/// Why there was no answer, without the URL, which the question tells.
fn why(error: &HttpError) -> NoAnswer {
    let mut bottom: &dyn std::error::Error = error;
    while let Some(next) = bottom.source() {
        bottom = next;
    }
    match error {
        HttpError::Stalled { seconds, .. } => NoAnswer::Stalled(*seconds),
        _ if error.speaks_no_tls() => NoAnswer::NoTls,
        _ if error.is_tls() => NoAnswer::Tls(bottom.to_string()),
        HttpError::Unreachable { .. } => NoAnswer::Unreachable(bottom.to_string()),
        HttpError::Redirect { problem, .. } => NoAnswer::Redirect(problem.clone()),
        HttpError::Login { problem, .. } => NoAnswer::Login(problem.clone()),
        _ => NoAnswer::Login(error.to_string()),
    }
}

async fn read(
    mut response: Response,
    redirects: Vec<Redirect>,
    question: &Question,
    limit: u64,
    patience: Duration,
) -> Answer {
    let (status, version) = (response.status().as_u16(), response.version());
    let headers: HeaderMap = response.headers().clone();
    let empty = Content { start: Bytes::new(), length: 0, end: End::Whole, digest: None };
    let mut answer = Answer { status, version, headers, redirects, content: empty };
    if question.method() == ::http::Method::HEAD {
        return answer;
    }
    let mut reader = Reader::new(question, limit, answer.is_gzip());
    let until = tokio::time::Instant::now() + patience;
    answer.content = loop {
        let Ok(chunk) = tokio::time::timeout_at(until, response.chunk()).await else {
            break reader.end(End::Trickle(patience.as_secs()));
        };
        match chunk {
            Ok(None) => break reader.end(End::Whole),
            Err(error) => {
                let said = match why(&error) {
                    NoAnswer::Stalled(seconds) => format!("nothing came for {seconds} s"),
                    _ => "the connection broke".to_owned(),
                };
                break reader.end(End::Broken(said));
            }
            Ok(Some(chunk)) => {
                if !reader.push(&chunk) {
                    break reader.end(End::Undecodable);
                }
                if reader.is_enough() {
                    // What was announced and is there in full is whole, though its end has not been read.
                    break reader.end(End::Enough);
                }
            }
        }
    };
    answer
}

/// Keeps the beginning of a body, and the digest of all of it.
struct Reader {
    /// The most that is kept.
    kept: usize,
    limit: u64,
    decoder: Option<MultiGzDecoder<Sink>>,
    plain: Sink,
}

/// Where bytes end as a client sees them.
struct Sink {
    start: Vec<u8>,
    kept: usize,
    length: u64,
    hasher: Hasher,
}

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = self.kept - self.start.len();
        self.start.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len() as u64;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Reader {
    fn new(question: &Question, limit: u64, gzip: bool) -> Self {
        let kept = usize::try_from(question.limit()).unwrap_or(usize::MAX);
        let sink = || Sink { start: Vec::new(), kept, length: 0, hasher: question.algorithm().hasher() };
        Self { kept, limit, decoder: gzip.then(|| MultiGzDecoder::new(sink())), plain: sink() }
    }

    /// Takes bytes; `false` if they can't be decoded.
    fn push(&mut self, bytes: &[u8]) -> bool {
        match &mut self.decoder {
            Some(decoder) => decoder.write_all(bytes).is_ok(),
            None => self.plain.write_all(bytes).is_ok(),
        }
    }

    /// Whether more has come than is wanted.
    fn is_enough(&self) -> bool {
        self.decoder.as_ref().map_or(self.plain.length, |decoder| decoder.get_ref().length) > self.limit
    }

    fn end(&mut self, end: End) -> Content {
        let (mut end, mut sink) = (end, &mut self.plain);
        if let Some(decoder) = &mut self.decoder {
            if decoder.try_finish().is_err() && end == End::Whole {
                end = End::Undecodable;
            }
            sink = decoder.get_mut();
        }
        debug_assert!(sink.start.len() <= self.kept);
        let digest = (end == End::Whole).then(|| sink.hasher.clone().finish());
        Content { start: std::mem::take(&mut sink.start).into(), length: sink.length, end, digest }
    }
}

/// How many bytes of answers are remembered, some thousands of manifests as they usually are. What a registry says beyond that is
/// not asked for.
const MAX_KEPT: usize = 128 << 20;

/// How long a connection may take that only shows whether there is one.
const CONNECT: Duration = Duration::from_secs(2);

/// Says so if the host's name has an IPv6 address where nobody listens, and others where somebody does.
pub(super) async fn ipv6(endpoint: &Endpoint) -> Option<Finding> {
    let registry = endpoint.registry();
    let port = registry.port().unwrap_or(if endpoint.is_plain_http() { 80 } else { 443 });
    let addresses = tokio::time::timeout(CONNECT, tokio::net::lookup_host((registry.host(), port))).await.ok()?.ok()?;
    let address = deaf_ipv6(addresses.collect()).await?;
    let says = format!("{} has the IPv6 address {} too, where nobody listens", registry.host(), address.ip());
    Some(Finding::new(Cause::Ipv6, &Question::Ping, says))
}

/// An IPv6 address among these where nobody listens, if somebody does at one of IPv4.
async fn deaf_ipv6(addresses: Vec<SocketAddr>) -> Option<SocketAddr> {
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let connects = async |addresses: &[SocketAddr]| {
        let connected = tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect(addresses)).await;
        matches!(connected, Ok(Ok(_)))
    };
    let address = six.first().copied().filter(|_| !four.is_empty())?;
    let deaf = !connects(&six).await && connects(&four).await;
    deaf.then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ipv6_address_where_nobody_listens() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let four = listener.local_addr().unwrap();
        let six = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, four.port()));
        assert_eq!(deaf_ipv6(vec![six, four]).await, Some(six));
        assert_eq!(deaf_ipv6(vec![four]).await, None);
        assert_eq!(deaf_ipv6(vec![six]).await, None);
    }

    /// Each of these answers is as large as a manifest may be.
    #[tokio::test]
    async fn a_registry_that_says_much_is_not_asked_on_and_on() {
        let large = bytes::Bytes::from(vec![b' '; 4 << 20]);
        let server = crate::testing::FaultServer::start(move |_| crate::testing::Reply::ok(large.clone())).await;
        let client = crate::http::Client::new(crate::http::ClientOptions::default()).unwrap();
        let options = crate::http::EndpointOptions { plain_http: true, ..crate::http::EndpointOptions::default() };
        let endpoint = client.endpoint(&server.authority().parse().unwrap(), options).unwrap();
        let prober = Prober::new(&endpoint, 5_000, &|_| {});
        let ask = |n: u32| {
            let digest = crate::oci::Algorithm::Sha256.digest(&n.to_be_bytes());
            (
                Question::manifest(super::super::question::Verb::Get, digest, super::super::question::Accept::OneLine),
                None,
            )
        };
        let questions: Vec<_> = (0..200).map(ask).collect();
        let mut seen = Seen::default();
        prober.ask(&"app".parse().unwrap(), &questions, &mut seen).await;
        let kept: usize = seen.iter().map(|(_, outcome)| outcome.as_ref().map_or(0, |a| a.content.start.len())).sum();
        assert!((MAX_KEPT..MAX_KEPT + AT_A_TIME * (5 << 20)).contains(&kept), "{kept}");
        assert!(prober.sent() < 60, "{}", prober.sent());
    }
}

//! What those who run a server ask of it: whether it lives, whether requests should come, and what it has done.
//!
//! On a listener of its own, since what it tells is nobody's business who may only pull, and since it has to answer while the
//! other listeners are full, or closed for a stop.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Shared;
use super::auth::chain;
use super::pull::{Headers, Request};

/// Connections at a time. Who asks is a machine or two, every few seconds.
const CONNECTIONS: usize = 16;

/// How long one may take for its request, and for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What requests are counted by: few values, whatever clients send.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    method: &'static str,
    code: u32,
}

/// What a server has done so far.
#[derive(Default)]
pub(super) struct Counts {
    requests: Family<Kind, Counter>,
    /// Of answers' content, as it was announced.
    bytes: Counter,
    connections: Gauge,
}

/// A connection, as long as it is open.
pub(super) struct Counted<'a>(&'a Counts);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

impl Counts {
    pub(super) fn connection(&self) -> Counted<'_> {
        self.connections.inc();
        Counted(self)
    }

    pub(super) fn request(&self, method: &Method, code: u16, bytes: u64) {
        let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let method = known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other");
        self.requests.get_or_create(&Kind { method, code: code.into() }).inc();
        if method != "HEAD" {
            self.bytes.inc_by(bytes);
        }
    }
}

/// Everything that is counted, in the text format of OpenMetrics, which Prometheus reads.
async fn metrics(shared: &Shared) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("roadstead");
    let counts = &shared.counts;
    registry.register("requests", "Requests that were answered", counts.requests.clone());
    registry.register_with_unit("response", "Content of answers, as announced", Unit::Bytes, counts.bytes.clone());
    registry.register("connections", "Connections that are open", counts.connections.clone());
    if let Some(log) = &shared.access_log {
        registry.register("access_log_lost", "Lines of the access log that were lost", log.lost());
    }
    if let Some(push) = &shared.push {
        let gauge = |value: usize| {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            gauge
        };
        registry.register("uploads", "Uploads that this server has open", gauge(push.open()));
        let writable = usize::from(trouble(shared).await.is_none());
        registry.register("writable", "Whether what is pushed can be written", gauge(writable));
        registry.register("pushes", "Requests that bring content, and are running", gauge(push.running()));
    }
    let mut encoded = String::new();
    text::encode(&mut encoded, &registry)?;
    Ok(encoded)
}

/// Answers until it is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let slot = Arc::clone(&slots).acquire_owned().await.ok();
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(problem) => {
                tracing::warn!(error = %problem, "can't take a connection that asks for the status");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request: http::Request<Incoming>| answer(request, &shared));
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
            let served = builder.serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(2 * PATIENCE, served).await;
            drop(slot);
        });
    }
}

async fn answer(request: http::Request<Incoming>, shared: &Shared) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let plain = "text/plain; charset=utf-8";
    let (status, content_type, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, plain, "alive\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/readyz") => match readiness(shared).await {
            Ok(()) => match trouble(shared).await {
                None => (StatusCode::OK, plain, "ready\n".to_owned()),
                Some(why) => (StatusCode::OK, plain, format!("ready for pulls alone: {why}\n")),
            },
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, plain, format!("{why}\n")),
        },
        (&Method::GET | &Method::HEAD, "/metrics") => match metrics(shared).await {
            Ok(text) => (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, plain, format!("{error}\n")),
        },
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, plain, "there are /healthz, /readyz and /metrics\n".to_owned())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, plain, "GET and HEAD alone\n".to_owned()),
    };
    let mut response = http::Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Why pushes fail, if they would. That is no reason for others to stay away: pulls go on, and whoever else takes
/// pushes into the same folder fails likewise.
async fn trouble(shared: &Shared) -> Option<String> {
    match tokio::time::timeout(PATIENCE, shared.push.as_ref()?.trouble()).await {
        Ok(trouble) => trouble.map(|error| chain(&error)),
        Err(_) => Some("what is pushed can't be written in time".to_owned()),
    }
}

/// Whether requests should come here: not once the server stops, nor while what it answers from can't be read.
async fn readiness(shared: &Shared) -> Result<(), &'static str> {
    if shared.stop.has_begun() {
        return Err("stopping");
    }
    let request = Request { method: &Method::HEAD, path: "/v2/_catalog", query: None, headers: Headers::default() };
    let asked = tokio::time::timeout(PATIENCE, shared.pull.answer(&request));
    match asked.await {
        Ok(response) if !response.status.is_server_error() => Ok(()),
        Ok(_) => Err("what is served can't be read"),
        Err(_) => Err("what is served can't be read in time"),
    }
}

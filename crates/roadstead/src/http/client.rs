//! What all requests of a run share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;

use super::clock::{Clock, SystemClock};
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::error::HttpError;
use super::proxy::Proxies;
use super::response::{Exchange, Response};
use super::retry::RetryPolicy;
use super::stream;
use super::tls::TlsOptions;
use super::transport::Transport;
use crate::oci::Registry;

/// How long nothing may happen.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// Until an answer begins; a body that is sent has a second more for each 16 KiB.
    pub answer: Duration,
    /// Between two pieces of a body.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(30), answer: Duration::from_secs(120), stall: Duration::from_secs(60) }
    }
}

/// How a [`Client`] works.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// What is sent as `User-Agent`.
    pub user_agent: String,
    /// Certificates.
    pub tls: TlsOptions,
    /// Proxies.
    pub proxies: Proxies,
    /// A Unix socket that every connection goes to, whatever host a URL names.
    pub socket: Option<PathBuf>,
    /// Retries.
    pub retry: RetryPolicy,
    /// Time limits.
    pub timeouts: Timeouts,
    /// What waits and tells the time.
    pub clock: Arc<dyn Clock>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            user_agent: concat!("roadstead/", env!("CARGO_PKG_VERSION")).to_owned(),
            tls: TlsOptions::default(),
            proxies: Proxies::default(),
            socket: None,
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// How one registry is reached.
#[derive(Debug, Clone, Default)]
pub struct EndpointOptions {
    /// Where its credentials are found.
    pub credentials: Credentials,
    /// Whether it is asked without TLS. Loopback registries need no such word.
    pub plain_http: bool,
}

impl Shared {
    /// Waits, longer after each failure; `false` if it is time to give up.
    pub(crate) async fn pause(&self, failures: &mut u32) -> bool {
        *failures += 1;
        let Some(delay) = self.options.retry.delay(*failures, None, fastrand::f64()) else { return false };
        tracing::debug!(?delay, "trying again");
        self.options.clock.sleep(delay).await;
        true
    }
}

/// An HTTP client: connection pools and settings. Clones share them.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: ClientOptions,
    pub(crate) transport: Transport,
}

impl Client {
    /// A client. Nothing is opened or read yet.
    ///
    /// # Errors
    ///
    /// [`HttpError::Setting`] if a proxy can't be used.
    pub fn new(options: ClientOptions) -> Result<Self, HttpError> {
        let transport = Transport::new(&options)?;
        Ok(Self { shared: Arc::new(Shared { options, transport }) })
    }

    /// A registry. It learns as it goes (whether there is TLS, how to authenticate), so keep it for the whole run.
    ///
    /// # Errors
    ///
    /// [`HttpError::Setting`] if the registry's name can't stand in a URL.
    pub fn endpoint(&self, registry: &Registry, options: EndpointOptions) -> Result<Endpoint, HttpError> {
        Endpoint::new(Arc::clone(&self.shared), registry, options)
    }

    /// Asks a service that isn't a registry, such as one that gives credentials, and again after transient failures. An answer of
    /// any status is an answer. No redirect is followed: what is asked of such a service is for nobody else.
    ///
    /// # Errors
    ///
    /// As [`HttpError`]; [`HttpError::TooLarge`] if the answer has more than `limit` bytes.
    pub async fn fetch(
        &self,
        request: ::http::Request<Bytes>,
        limit: u64,
    ) -> Result<::http::Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let mut exchange = exchange(parts)?;
        exchange.body = (!body.is_empty()).then_some(body);
        whole(exchange.send_with_retries(&self.shared).await?, limit).await
    }

    /// The same with a body that comes piece by piece, which is sent once.
    ///
    /// # Errors
    ///
    /// The first error of `pieces`, in which case the request is broken off; inside, what [`fetch`](Self::fetch) would say.
    pub async fn fetch_with_stream<E>(
        &self,
        request: ::http::Request<()>,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send,
        limit: u64,
    ) -> Result<Result<::http::Response<Bytes>, HttpError>, E> {
        let exchange = match exchange(request.into_parts().0) {
            Ok(exchange) => exchange,
            Err(error) => return Ok(Err(error)),
        };
        Ok(match stream::send(&exchange, &self.shared, pieces).await? {
            Ok(answer) => whole(answer, limit).await,
            Err(error) => Err(error),
        })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// A request to a service that isn't a registry.
fn exchange(parts: ::http::request::Parts) -> Result<Exchange<'static>, HttpError> {
    let url = parts.uri.to_string().parse().map_err(|_| HttpError::Setting("that is no URL".to_owned()))?;
    let mut exchange = Exchange::new(parts.method, url);
    exchange.headers = parts.headers;
    exchange.follow = false;
    Ok(exchange)
}

/// An answer with its body, which has `limit` bytes at most.
async fn whole(answer: Response, limit: u64) -> Result<::http::Response<Bytes>, HttpError> {
    let mut response = ::http::Response::new(Bytes::new());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    *response.body_mut() = answer.bytes(limit).await?;
    Ok(response)
}

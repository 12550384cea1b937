//! One registry as a client sees it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use ::http::header::{AUTHORIZATION, LOCATION};
use ::http::{HeaderMap, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use futures::Stream;
use reqwest::Url;

use super::auth::{Authenticator, Scope};
use super::challenge;
use super::client::{EndpointOptions, Shared};
use super::error::{ConnectionError, HttpError};
use super::redirect;
use super::response::{Exchange, Response, Wait};
use super::shown::ShownUrl;
use super::transport::Purpose;
use super::{link, probe, stream};
use crate::oci::Registry;

/// What Docker Hub's registry is called on the network.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// A request to a registry.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    target: Target,
    /// Headers beside those that the client sets itself.
    pub headers: HeaderMap,
    /// A body.
    pub body: Option<Bytes>,
    /// What it needs to be allowed to do.
    pub scope: Scope,
    repeats: Repeats,
    follows: bool,
}

#[derive(Debug, Clone)]
enum Target {
    Path(String),
    Location(Location),
}

/// After which failures a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeats {
    /// After answers that say so, and where nobody knows what became of it if its method allows that.
    ByMethod,
    Always,
    Never,
}

/// Where an answer says to go on, such as a session of an upload. It may be on another host, which then sees no credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location(Url);

impl Location {
    /// The place with one more parameter in its query.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut url = self.0.clone();
        url.query_pairs_mut().append_pair(name, value);
        Self(url)
    }

    /// The place, as people may see it.
    pub(crate) fn shown(&self) -> ShownUrl {
        (&self.0).into()
    }

    /// Whether it is on another host or port than a URL.
    pub(crate) fn is_elsewhere(&self, than: &Url) -> bool {
        self.0.host_str() != than.host_str() || self.0.port_or_known_default() != than.port_or_known_default()
    }

    /// Whether it is asked for without TLS.
    pub(crate) fn is_plain_http(&self) -> bool {
        self.0.scheme() == "http"
    }
}

impl Request {
    /// A request without headers and body to a path and query, from the `/` after the host on.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>, scope: Scope) -> Self {
        Self::to(method, Target::Path(path.into()), scope)
    }

    /// A request without headers and body to where an answer said to go on.
    #[must_use]
    pub fn at(method: Method, location: Location, scope: Scope) -> Self {
        Self::to(method, Target::Location(location), scope)
    }

    fn to(method: Method, target: Target, scope: Scope) -> Self {
        Self { method, target, headers: HeaderMap::new(), body: None, scope, repeats: Repeats::ByMethod, follows: true }
    }

    /// The request with a body.
    #[must_use]
    pub fn body(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }

    /// The request, which may come twice whatever its method is.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.repeats = Repeats::Always;
        self
    }

    /// The request, which is sent again after no failure: whoever sends it looks first how far it came.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.repeats = Repeats::Never;
        self
    }

    /// The request, whose answer may be a redirect: whoever sends it wants to see each.
    #[must_use]
    pub fn unfollowed(mut self) -> Self {
        self.follows = false;
        self
    }

    /// The request with one more header.
    #[must_use]
    pub fn header(mut self, name: ::http::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Whether sending it twice does the same as sending it once.
    fn is_repeatable(&self) -> bool {
        self.repeats == Repeats::Always || self.method.is_idempotent()
    }
}

/// A registry: where it is, whether it speaks TLS, how it wants to be asked. Clones share what has been learnt.
#[derive(Debug, Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
    /// What stands before `/v2/` in every path: nothing, or `/project`.
    below: Arc<str>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    registry: Registry,
    https: Url,
    http: Url,
    plain_http: bool,
    /// One of the constants below.
    scheme: AtomicU8,
    /// Held by whoever is looking for the scheme: many requests that begin together look once.
    probing: tokio::sync::Mutex<()>,
    authenticator: Authenticator,
}

/// Loopback, and nobody has asked yet.
const UNKNOWN: u8 = 0;
const HTTPS: u8 = 1;
const HTTP: u8 = 2;

impl Endpoint {
    pub(crate) fn new(shared: Arc<Shared>, registry: &Registry, options: EndpointOptions) -> Result<Self, HttpError> {
        let authority = if registry.is_docker_hub() { DOCKER_HUB_HOST } else { registry.as_str() };
        let url = |scheme: &str| {
            format!("{scheme}://{authority}/")
                .parse::<Url>()
                .map_err(|_| HttpError::Setting(format!("{registry} is no host that can be asked")))
        };
        let scheme = match (options.plain_http, registry.is_loopback()) {
            (true, _) => HTTP,
            (false, true) => UNKNOWN,
            (false, false) => HTTPS,
        };
        let inner = Inner {
            shared,
            registry: registry.clone(),
            https: url("https")?,
            http: url("http")?,
            plain_http: options.plain_http,
            scheme: AtomicU8::new(scheme),
            probing: tokio::sync::Mutex::default(),
            authenticator: Authenticator::new(registry.clone(), options.credentials),
        };
        Ok(Self { inner: Arc::new(inner), below: Arc::from("") })
    }

    /// The same place below a path of its host: what is asked for as `/v2/…` is asked for as `PATH/v2/…` then.
    #[must_use]
    pub fn below(&self, path: &str) -> Self {
        Self { inner: Arc::clone(&self.inner), below: format!("{}{path}", self.below).trim_end_matches('/').into() }
    }

    /// The path and query of the next page of a list, if the answer names one, to be asked for here.
    ///
    /// # Errors
    ///
    /// What is wrong with the answer's `Link`: it leads to another host, or it is no URL.
    pub fn next_page(&self, response: &Response) -> Result<Option<String>, String> {
        let next = link::next_page(response.headers(), response.url())?;
        // What answers below a path mostly knows nothing of it.
        Ok(next.map(|page| match page.strip_prefix(&*self.below) {
            Some(path) if path.starts_with("/v2/") => path.to_owned(),
            _ => page,
        }))
    }

    /// The registry.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// Gives up asking without TLS where that was not asked for: on loopback.
    pub fn insist_on_tls(&self) {
        if !self.inner.plain_http {
            self.inner.scheme.store(HTTPS, Ordering::Relaxed);
        }
    }

    /// Scheme, host and port, and the path that everything lies below: as far as is known by now.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}{}", self.base().as_str().trim_end_matches('/'), self.below)
    }

    /// Whether it is known to be asked without TLS.
    pub(crate) fn is_plain_http(&self) -> bool {
        self.inner.scheme.load(Ordering::Relaxed) == HTTP
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// Asks the registry, as often as the settings allow. An answer of any status is an answer.
    ///
    /// # Errors
    ///
    /// As [`HttpError`], for everything that kept an answer from coming.
    pub async fn send(&self, request: &Request) -> Result<Response, HttpError> {
        let mut failures = 0;
        loop {
            let outcome = self.attempt(request).await;
            if request.repeats == Repeats::Never {
                return outcome.map_err(|(error, _)| error);
            }
            match Wait::after(&outcome, &mut failures, self.shared(), request.is_repeatable()) {
                Some(wait) => wait.sleep(self.shared()).await,
                None => return outcome.map_err(|(error, _)| error),
            }
        }
    }

    /// Asks the registry, and takes any status but success for an error.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`HttpError::Status`].
    pub async fn expect_success(&self, request: &Request) -> Result<Response, HttpError> {
        let response = self.send(request).await?;
        if response.status().is_success() { Ok(response) } else { Err(response.into_error().await) }
    }

    /// Sends a request whose body comes piece by piece, once, and says nothing to a challenge: the body would be needed again.
    /// The headers say its length. An answer that comes before the last piece ends the sending.
    ///
    /// # Errors
    ///
    /// The first error of `pieces`, in which case the request is broken off; inside, what [`send`](Self::send) would say.
    pub async fn send_stream<E>(
        &self,
        request: &Request,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Result<Response, HttpError>, E> {
        let Inner { shared, authenticator, .. } = &*self.inner;
        let base = self.base();
        let authorization = match authenticator.current(shared, &base, &request.scope).await {
            Ok(authorization) => authorization,
            Err(error) => return Ok(Err(error)),
        };
        match self.exchange(request, authorization.as_ref(), &base) {
            Ok(exchange) => stream::send(&exchange, shared, pieces).await,
            Err((error, _)) => Ok(Err(error)),
        }
    }

    /// Waits after a failure that may pass, in something that takes several requests; `false` if it is time to give up. A
    /// registry that has answered before may be restarting, so then it may also be out of reach for a while.
    pub async fn pause_after(&self, error: &HttpError, failures: &mut u32) -> bool {
        let may_pass = error.is_transient() || (*failures > 0 && error.is_unreachable());
        may_pass && self.pause(failures).await
    }

    /// Waits, longer after each failure; `false` if it is time to give up.
    pub async fn pause(&self, failures: &mut u32) -> bool {
        self.shared().pause(failures).await
    }

    /// Where an answer's `Location` says to go on.
    ///
    /// A registry behind a proxy often calls itself `http` where it is reached by `https`, so that is taken for a slip if all
    /// else is the same. Any other way out of TLS is refused.
    ///
    /// # Errors
    ///
    /// [`HttpError::Invalid`] if there is none, [`HttpError::Redirect`] if nobody may go there.
    pub fn location(&self, response: &Response) -> Result<Location, HttpError> {
        let here = response.url();
        let text = response.header(LOCATION).ok_or_else(|| response.invalid("it does not say where to go on"))?;
        let refused = |problem: String| HttpError::Redirect { url: here.into(), problem };
        let mut url = redirect::next(here, text, true).map_err(refused)?;
        if here.scheme() == "https" && url.scheme() == "http" {
            let slip = url.host_str() == here.host_str() && (url.port().is_none() || url.port() == here.port());
            if slip {
                url.set_scheme("https").expect("one scheme of the web can replace the other");
            } else if !self.inner.plain_http {
                return Err(refused("from https to http".to_owned()));
            }
        }
        Ok(Location(url))
    }

    /// Where a redirect leads that was not followed, as clients other than this one would follow it: also out of TLS.
    ///
    /// # Errors
    ///
    /// [`HttpError::Invalid`] if it says nothing of that, [`HttpError::Redirect`] if nobody may go there.
    pub(crate) fn hop(&self, response: &Response) -> Result<Location, HttpError> {
        let here = response.url();
        let text = response.header(LOCATION).ok_or_else(|| response.invalid("it does not say where to"))?;
        let refused = |problem| HttpError::Redirect { url: here.into(), problem };
        redirect::next(here, text, true).map(Location).map_err(refused)
    }

    /// Asks whether the registry accepts the credentials: `GET /v2/`. Returns whether it wanted any.
    ///
    /// # Errors
    ///
    /// [`HttpError::Status`] or [`HttpError::Token`] with status 401 or 403 if it doesn't.
    pub async fn ping(&self) -> Result<bool, HttpError> {
        self.expect_success(&Request::new(Method::GET, "/v2/", Scope::None)).await?;
        Ok(self.inner.authenticator.was_asked())
    }

    /// One attempt, with as many answers to challenges as it takes: none if the token is good, one if there was none.
    async fn attempt(&self, request: &Request) -> Result<Response, (HttpError, bool)> {
        let final_error = |error| (error, false);
        let Inner { shared, authenticator, .. } = &*self.inner;
        let base = self.base();
        let authorization = authenticator.current(shared, &base, &request.scope).await.map_err(final_error)?;
        let response = self.send_once(request, authorization.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !response.is_at_home() {
            return Ok(response);
        }
        let challenges = challenge::parse(response.headers());
        // The scheme may have been learnt by that request.
        let base = self.base();
        let answer = authenticator.answer(shared, &base, &request.scope, &challenges, authorization.as_ref()).await;
        match answer.map_err(final_error)? {
            Some(authorization) => self.send_once(request, Some(&authorization)).await,
            None => Ok(response),
        }
    }

    async fn send_once(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, (HttpError, bool)> {
        let Inner { shared, scheme, .. } = &*self.inner;
        if scheme.load(Ordering::Relaxed) == UNKNOWN {
            let _probing = self.inner.probing.lock().await;
            let port = self.inner.registry.port().unwrap_or(443);
            if scheme.load(Ordering::Relaxed) == UNKNOWN
                && probe::answers_in_http(self.inner.registry.host(), port).await
            {
                scheme.store(HTTP, Ordering::Relaxed);
            }
        }
        // Other requests may learn the scheme meanwhile; this one is sent without knowing it.
        let was_known = scheme.load(Ordering::Relaxed) != UNKNOWN;
        let outcome = self.exchange(request, authorization, &self.base())?.send(shared).await;
        if was_known {
            return outcome;
        }
        let (outcome, learnt) = match outcome {
            Err((error, _)) if speaks_no_tls(&error) => {
                (self.exchange(request, authorization, &self.inner.http)?.send(shared).await, HTTP)
            }
            outcome => (outcome, HTTPS),
        };
        if outcome.is_ok() {
            scheme.store(learnt, Ordering::Relaxed);
        }
        outcome
    }

    fn exchange(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
        base: &Url,
    ) -> Result<Exchange<'_>, (HttpError, bool)> {
        let url = match &request.target {
            Target::Path(path) => {
                let url = base.join(&format!("{}{path}", self.below)).ok();
                // A path such as `//host/` would be another host.
                url.filter(|url| redirect::same_origin(url, base))
                    .ok_or_else(|| (HttpError::Setting(format!("{path} is no path of a registry")), false))?
            }
            Target::Location(location) => location.0.clone(),
        };
        let home = redirect::same_origin(&url, base);
        let mut exchange = Exchange::new(request.method.clone(), url);
        exchange.headers = request.headers.clone();
        if home {
            exchange.headers.extend(authorization.map(|value| (AUTHORIZATION, value.clone())));
        } else {
            exchange.purpose = Purpose::Elsewhere;
        }
        exchange.body = request.body.clone();
        exchange.plain_http = self.inner.plain_http;
        exchange.follow = request.follows;
        Ok(exchange)
    }

    /// The registry's URL, as far as is known.
    fn base(&self) -> Url {
        match self.inner.scheme.load(Ordering::Relaxed) {
            HTTP => self.inner.http.clone(),
            _ => self.inner.https.clone(),
        }
    }
}

/// Whether a failed connection means that there is a server without TLS, rather than none or one that is not trusted.
///
/// An HTTP server answers a ClientHello with a line of text, which TLS finds to be no message of its own, or hangs up.
/// Where nobody listens, the port of plain HTTP may differ (443 and 80), so that is tried as well.
fn speaks_no_tls(error: &HttpError) -> bool {
    let HttpError::Unreachable { source, .. } = error else {
        return false;
    };
    let Some(failure) = source.downcast_ref::<ConnectionError>() else {
        return false;
    };
    if let Some(tls) = failure.tls() {
        return matches!(tls, rustls::Error::InvalidMessage(_));
    }
    failure.io_kind().is_some_and(|kind| {
        matches!(
            kind,
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        )
    })
}

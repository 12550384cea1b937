//! One request and its answer, redirects followed.

use std::time::Duration;

use ::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use ::http::{HeaderMap, Method, StatusCode};
use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use reqwest::Url;

use super::client::Shared;
use super::error::{ErrorBody, HttpError, MAX_ERROR_BODY};
use super::redirect::{self, MAX_REDIRECTS};
use super::retry;
use super::shown::ShownUrl;
use super::transport::Purpose;

/// How many bytes a second a line sends at least: less than that is none.
const SLOWEST: u64 = 16 << 10;

/// Where a hop of a request may lead.
type Check<'a> = &'a (dyn Fn(&Url) -> Result<(), String> + Send + Sync);

/// A request to a full URL, on its way.
pub(crate) struct Exchange<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) purpose: Purpose,
    /// Whether a redirect from TLS to plain HTTP is followed.
    pub(crate) plain_http: bool,
    /// A rule for every hop beyond those that hold for all requests.
    pub(crate) check: Option<Check<'a>>,
    /// Whether redirects are followed at all. What is signed is good for one place only.
    pub(crate) follow: bool,
}

impl Exchange<'_> {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            purpose: Purpose::Registry,
            plain_http: false,
            check: None,
            follow: true,
        }
    }

    /// Sends it once, and follows redirects if that changes nothing but the place.
    ///
    /// # Errors
    ///
    /// With the failure, and whether it may pass.
    pub(crate) async fn send(&self, shared: &Shared) -> Result<Response, (HttpError, bool)> {
        let final_error = |error| (error, false);
        let mut url = self.url.clone();
        let mut seen: Vec<Url> = Vec::new();
        loop {
            let home = self.purpose != Purpose::Elsewhere && redirect::same_origin(&url, &self.url);
            let purpose = if home || self.purpose == Purpose::Token { self.purpose } else { Purpose::Elsewhere };
            let client = shared.transport.client(&url, purpose, &shared.options).map_err(final_error)?;
            let mut headers = self.headers.clone();
            if !home {
                headers.remove(AUTHORIZATION);
            }
            let mut request = client.request(self.method.clone(), url.clone()).headers(headers);
            if let Some(body) = &self.body {
                request = request.body(body.clone());
            }
            let limit = self.patience(shared.options.timeouts.answer);
            let answer = match tokio::time::timeout(limit, request.send()).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => {
                    let transient = retry::is_transient_failure(&error);
                    return Err((HttpError::transport(&url, error), transient));
                }
                Err(_) => return Err((HttpError::Stalled { url: (&url).into(), seconds: limit.as_secs() }, true)),
            };
            let followed = self.follow && (self.method == Method::GET || self.method == Method::HEAD);
            let location = match answer.headers().get(LOCATION) {
                Some(location) if followed && redirect::is_redirect(answer.status()) => location,
                _ => return Ok(Response { answer, url, at_home: home, shared_stall: shared.options.timeouts.stall }),
            };
            let refused = |problem: String| final_error(HttpError::Redirect { url: (&url).into(), problem });
            let location = location.to_str().map_err(|_| refused("to something that is no URL".to_owned()))?;
            let next = redirect::next(&url, location, self.plain_http).map_err(refused)?;
            if let Some(check) = self.check {
                check(&next).map_err(|problem| refused(format!("where it may not: {problem}")))?;
            }
            seen.push(url.clone());
            if seen.contains(&next) {
                return Err(refused("in a circle".to_owned()));
            }
            if seen.len() > MAX_REDIRECTS {
                return Err(refused(format!("more than {MAX_REDIRECTS} times")));
            }
            url = next;
        }
    }

    /// How long an answer may take: what a line needs to send the body that is slow and alive, and then `answer`.
    fn patience(&self, answer: Duration) -> Duration {
        let length = self.body.as_ref().map_or(0, Bytes::len) as u64;
        answer + Duration::from_secs(length / SLOWEST)
    }

    /// Sends it with a body that is still being made. No redirect is followed, and no time limit watches the body.
    pub(crate) async fn send_body(&self, shared: &Shared, body: reqwest::Body) -> Result<Response, HttpError> {
        let client = shared.transport.client(&self.url, self.purpose, &shared.options)?;
        let request = client.request(self.method.clone(), self.url.clone()).headers(self.headers.clone()).body(body);
        let answer = request.send().await.map_err(|error| HttpError::transport(&self.url, error))?;
        let at_home = self.purpose != Purpose::Elsewhere;
        Ok(Response { answer, url: self.url.clone(), at_home, shared_stall: shared.options.timeouts.stall })
    }

    /// Sends it, and again after transient failures. An answer that is a transient failure to the end is still an answer.
    pub(crate) async fn send_with_retries(&self, shared: &Shared) -> Result<Response, HttpError> {
        let mut failures = 0;
        loop {
            let outcome = self.send(shared).await;
            match Wait::after(&outcome, &mut failures, shared, true) {
                Some(wait) => wait.sleep(shared).await,
                None => return outcome.map_err(|(error, _)| error),
            }
        }
    }
}

/// A pause before the next attempt.
pub(crate) struct Wait(Duration);

impl Wait {
    /// The pause that an outcome calls for, if it calls for one.
    pub(crate) fn after(
        outcome: &Result<Response, (HttpError, bool)>,
        failures: &mut u32,
        shared: &Shared,
        repeatable: bool,
    ) -> Option<Self> {
        let asked = match outcome {
            Ok(response) if retry::is_transient_status(response.status()) => {
                retry::retry_after(response.headers(), shared.options.clock.wall())
            }
            Err((_, true)) if repeatable => None,
            _ => return None,
        };
        *failures += 1;
        let delay = shared.options.retry.delay(*failures, asked, fastrand::f64())?;
        match outcome {
            Ok(response) => {
                let (url, status) = (response.shown(), response.status());
                tracing::debug!(%url, %status, ?delay, "asking again");
            }
            Err((error, _)) => tracing::debug!(%error, ?delay, "asking again"),
        }
        Some(Self(delay))
    }

    pub(crate) async fn sleep(self, shared: &Shared) {
        shared.options.clock.sleep(self.0).await;
    }
}

/// An answer whose body has not been read.
#[derive(Debug)]
pub struct Response {
    answer: reqwest::Response,
    url: Url,
    at_home: bool,
    shared_stall: Duration,
}

impl Response {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.answer.status()
    }

    /// The version of HTTP that was spoken.
    #[must_use]
    pub fn version(&self) -> ::http::Version {
        self.answer.version()
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.answer.headers()
    }

    /// One header as text.
    #[must_use]
    pub fn header(&self, name: impl ::http::header::AsHeaderName) -> Option<&str> {
        self.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// `Content-Type` without parameters, in lower case.
    #[must_use]
    pub fn content_type(&self) -> Option<String> {
        let value = self.header(CONTENT_TYPE)?;
        Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    }

    /// Whether the body is a page for people.
    #[must_use]
    pub fn is_html(&self) -> bool {
        matches!(self.content_type().as_deref(), Some("text/html" | "application/xhtml+xml"))
    }

    /// `Content-Length`, also of an answer to HEAD.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.header(::http::header::CONTENT_LENGTH)?.parse().ok()
    }

    /// Where the answer came from in the end.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Where the answer came from, as people may see it.
    #[must_use]
    pub fn shown(&self) -> ShownUrl {
        (&self.url).into()
    }

    /// Whether the host that was asked answered, rather than one that it redirected to.
    pub(crate) fn is_at_home(&self) -> bool {
        self.at_home
    }

    /// The next piece of the body, `None` after the last.
    ///
    /// # Errors
    ///
    /// [`HttpError::Unreachable`] if the connection breaks, [`HttpError::Stalled`] if nothing comes.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        match tokio::time::timeout(self.shared_stall, self.answer.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(HttpError::transport(&self.url, error)),
            Err(_) => Err(HttpError::Stalled { url: self.shown(), seconds: self.shared_stall.as_secs() }),
        }
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// As [`HttpError`]; [`HttpError::TooLarge`] as soon as more than `limit` bytes are announced or come.
    pub async fn bytes(mut self, limit: u64) -> Result<Bytes, HttpError> {
        let too_large = |response: &Self| HttpError::TooLarge { url: response.shown(), limit };
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(too_large(&self));
        }
        let Some(first) = self.chunk().await? else {
            return Ok(Bytes::new());
        };
        let mut whole = BytesMut::from(first);
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
            if whole.len() as u64 > limit {
                break;
            }
        }
        if whole.len() as u64 > limit { Err(too_large(&self)) } else { Ok(whole.freeze()) }
    }

    /// The body as it comes.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, HttpError>> + Send + 'static {
        stream::try_unfold(self, |mut response| async move {
            let chunk = response.chunk().await?;
            Ok(chunk.map(|chunk| (chunk, response)))
        })
    }

    /// The answer as an error, with what the registry said about it.
    pub async fn into_error(mut self) -> HttpError {
        let (url, status, html) = (self.shown(), self.status(), self.is_html());
        let mut body = BytesMut::new();
        // What can't be read of an error's explanation is no further error.
        while let Ok(Some(chunk)) = self.chunk().await {
            let room = usize::try_from(MAX_ERROR_BODY).unwrap_or(usize::MAX).saturating_sub(body.len());
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() >= room {
                break;
            }
        }
        HttpError::Status { url, status, html, body: ErrorBody::parse(&body, html) }
    }

    /// An error about this answer.
    pub fn invalid(&self, problem: impl Into<String>) -> HttpError {
        HttpError::Invalid { url: self.shown(), problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_has_time_on_a_slow_line() {
        let url: Url = "http://127.0.0.1".parse().unwrap();
        let mut exchange = Exchange::new(Method::PUT, url);
        let answer = Duration::from_secs(60);
        assert_eq!(exchange.patience(answer), answer);
        exchange.body = Some(vec![0; 8 << 20].into());
        assert_eq!(exchange.patience(answer), answer + Duration::from_secs(512));
    }
}

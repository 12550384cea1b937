//! Calls of a service: signed, sent as often as it takes, and their faults understood.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use reqwest::Url;
use tokio::task::JoinError;

use super::place::Base;
use super::service::Service;
use super::xml::{self, Fault};
use super::{BucketError, google};
use crate::http::{Client, Exchange, HttpError, Response, Wait};
use crate::store::LEASE;

/// The most bytes of what a service says about an error.
const MAX_FAULT: u64 = 64 << 10;

/// What a call is about.
#[derive(Debug, Clone)]
enum To<'a> {
    Bucket,
    Object(&'a str),
    /// Something of the service that is neither, by its encoded path.
    Service(String),
    /// What the service itself has named.
    Url(Url),
}

/// A call.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    method: Method,
    to: To<'a>,
    parameters: Vec<(&'a str, &'a str)>,
    headers: HeaderMap,
    body: Bytes,
    /// What the caller has to be allowed to do.
    action: &'static str,
    dated: Option<Dated>,
}

/// As of when calls are signed, if not when they are made: the service refuses what comes more than a lease later, by its clock.
#[derive(Debug, Clone)]
pub(super) struct Dated {
    pub(super) date: SystemTime,
    /// Becomes true when an answer doesn't come, so that nobody knows when the call will have been carried out.
    pub(super) unanswered: Arc<AtomicBool>,
}

/// A call that has no answer yet. If it is dropped, none will come, and nobody knows whether it is carried out.
struct Unanswered<'a>(Option<&'a Dated>);

impl Unanswered<'_> {
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(dated) = self.0 {
            dated.unanswered.store(true, Ordering::SeqCst);
        }
    }
}

impl<'a> Call<'a> {
    /// A call about an object, or about the bucket itself.
    pub(super) fn new(method: Method, object: Option<&'a str>, action: &'static str) -> Self {
        Self::to(method, object.map_or(To::Bucket, To::Object), action)
    }

    /// A call about something else of the service, by its encoded path.
    pub(super) fn of_service(method: Method, path: String, action: &'static str) -> Self {
        Self::to(method, To::Service(path), action)
    }

    /// A call to a URL that the service has named, and that is of the service.
    pub(super) fn to_url(method: Method, url: Url, action: &'static str) -> Self {
        Self::to(method, To::Url(url), action)
    }

    fn to(method: Method, to: To<'a>, action: &'static str) -> Self {
        let (parameters, headers) = (Vec::new(), HeaderMap::new());
        Self { method, to, parameters, headers, body: Bytes::new(), action, dated: None }
    }

    pub(super) fn parameter(mut self, name: &'a str, value: &'a str) -> Self {
        self.parameters.push((name, value));
        self
    }

    /// The call with a header, unless its value can't be one: such a value names nothing that there is.
    pub(super) fn header(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::try_from(value.as_ref()) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(super) fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// The call as it would have been signed then.
    pub(super) fn dated(self, dated: Option<&Dated>) -> Self {
        Self { dated: dated.cloned(), ..self }
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }
}

/// An answer that is no fault.
pub(super) struct Answer {
    pub(super) response: Response,
    /// Whether an earlier attempt may have been carried out, too, without a word.
    pub(super) doubtful: bool,
}

/// Why a call had no good answer.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: BucketError,
    pub(super) doubtful: bool,
}

impl Failed {
    pub(super) fn status(&self) -> Option<StatusCode> {
        match &self.error {
            BucketError::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub(super) fn says(&self, said: &str) -> bool {
        matches!(&self.error, BucketError::Refused { code, .. } if code == said)
    }
}

impl From<BucketError> for Failed {
    fn from(error: BucketError) -> Self {
        Self { error, doubtful: false }
    }
}

/// What a task came to that made calls.
pub(super) fn joined<T>(task: Result<Result<T, Failed>, JoinError>) -> Result<T, Failed> {
    task.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => Err(BucketError::Answer(error.to_string()).into()),
    })
}

/// Sends calls to one bucket.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) client: Client,
    pub(super) base: Base,
    pub(super) service: Service,
    /// Whether the service has ever answered.
    pub(super) answers: AtomicBool,
}

impl Calls {
    /// Makes a call. Whatever fails in a way that may pass is tried again, which every call of this API allows: whoever cares
    /// whether it was carried out twice looks at `doubtful`.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Answer, Failed> {
        let (mut failures, mut doubtful) = (0, false);
        // Hashed once, for all attempts.
        let content = self.service.checksum(&call.body);
        loop {
            let exchange = self.prepare(call, &content).await?;
            let unanswered = Unanswered(call.dated.as_ref());
            let outcome = exchange.send(self.client.shared()).await;
            let answers = self.answers.fetch_or(outcome.is_ok(), Ordering::Relaxed);
            // Where nothing ever came from, nothing will.
            let is_mute = !answers && matches!(&outcome, Err((HttpError::Stalled { .. }, _)));
            if outcome.is_ok() {
                unanswered.forget();
            }
            if !is_mute && let Some(wait) = Wait::after(&outcome, &mut failures, self.client.shared(), true) {
                // A service that is overrun says so instead of working, and anything else may have come after the work.
                doubtful |= !matches!(&outcome, Ok(response) if response.status() == StatusCode::TOO_MANY_REQUESTS);
                wait.sleep(self.client.shared()).await;
                continue;
            }
            return match outcome {
                Ok(response) if response.status().is_success() => Ok(Answer { response, doubtful }),
                // What was sent to a URL of the service's own is not all that is to come.
                Ok(response)
                    if matches!(call.to, To::Url(_)) && response.status() == StatusCode::PERMANENT_REDIRECT =>
                {
                    Ok(Answer { response, doubtful })
                }
                Ok(response) => {
                    doubtful |= response.status().is_server_error();
                    Err(Failed { error: refused(response, self.service.permission(call.action)).await, doubtful })
                }
                Err((error, _)) => Err(Failed { error: BucketError::Http(error), doubtful: true }),
            };
        }
    }

    /// Makes a call whose answer is a document. One that turns out to be a fault, though its status is 200, counts as that; what
    /// may pass of these is tried again.
    pub(super) async fn ask(&self, call: &Call<'_>) -> Result<(Bytes, bool), Failed> {
        let (mut failures, mut repeated) = (0, false);
        loop {
            let Answer { response, doubtful } =
                self.send(call).await.map_err(|failed| Failed { doubtful: failed.doubtful || repeated, ..failed })?;
            let (status, shown) = (response.status(), response.shown());
            let failed = |error| Failed { error, doubtful: true };
            let answer = response.bytes(xml::MAX_ANSWER).await.map_err(|e| failed(BucketError::Http(e)))?;
            let Some(Fault { code, message, region }) = xml::fault(&answer) else {
                return Ok((answer, doubtful || repeated));
            };
            repeated = true;
            let may_pass = matches!(code.as_str(), "InternalError" | "SlowDown" | "ServiceUnavailable");
            if !may_pass || !self.pause(&mut failures).await {
                let url = shown.to_string();
                let action = self.service.permission(call.action);
                return Err(failed(BucketError::Refused { url, status, code, message, region, action }));
            }
        }
    }

    /// Waits, longer after each failure; `false` if it is time to give up.
    pub(super) async fn pause(&self, failures: &mut u32) -> bool {
        self.client.shared().pause(failures).await
    }

    /// The failure of a body that broke off.
    pub(super) fn is_transient(error: &HttpError) -> bool {
        error.is_transient() || error.is_unreachable()
    }

    async fn prepare(&self, call: &Call<'_>, content: &str) -> Result<Exchange<'_>, Failed> {
        let url = match &call.to {
            To::Bucket => self.base.url(None, &call.parameters),
            To::Object(object) => self.base.url(Some(object), &call.parameters),
            To::Service(path) => self.base.of_service(path, &call.parameters),
            To::Url(url) => url.clone(),
        };
        let mut exchange = Exchange::new(call.method.clone(), url);
        exchange.follow = false;
        exchange.headers = call.headers.clone();
        let has_body = !matches!(call.method, Method::GET | Method::HEAD | Method::DELETE);
        exchange.body = has_body.then(|| call.body.clone());
        let now = match &call.dated {
            Some(dated) => dated.date,
            None => self.client.shared().options.clock.wall(),
        };
        let bound = match &call.dated {
            Some(dated) => self.until(dated.date + LEASE).await?,
            None => None,
        };
        self.service.sign(&mut exchange, content, now, bound).await?;
        Ok(exchange)
    }
}

/// An answer that is a fault. Those to HEAD say nothing but their status.
async fn refused(response: Response, action: &'static str) -> BucketError {
    let (status, url) = (response.status(), response.shown().to_string());
    let region = response.header("x-amz-bucket-region").map(str::to_owned);
    // Azure says it here, too, for answers that have no body.
    let code = response.header("x-ms-error-code").map(str::to_owned);
    let body = response.bytes(MAX_FAULT).await.unwrap_or_default();
    let said = xml::fault(&body).or_else(|| google::fault(&body)).unwrap_or_default();
    let clean = |text: &str| {
        crate::oci::excerpt(&text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>())
    };
    BucketError::Refused {
        url,
        status,
        code: clean(if said.code.is_empty() { code.as_deref().unwrap_or_default() } else { &said.code }),
        message: clean(&said.message),
        region: region.or(said.region).map(|region| clean(&region)),
        action,
    }
}

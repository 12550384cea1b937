//! What is answered to those who may not.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, StatusCode};

use super::super::pull::{Body, Response};
use crate::oci::ErrorCode;
use crate::site::DOCKER_DISTRIBUTION_API_VERSION;

/// Why something may not be done, and what can be done about that.
#[derive(Debug, Clone)]
pub(in super::super) struct Refusal {
    pub(in super::super) status: StatusCode,
    pub(in super::super) code: ErrorCode,
    pub(in super::super) detail: String,
    pub(in super::super) lines: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// Who asks has to say who they are, as the challenge says.
    pub(super) fn unknown(challenge: String, detail: impl Into<String>) -> Self {
        let challenge = HeaderValue::try_from(challenge).ok();
        let lines = challenge.map(|challenge| (WWW_AUTHENTICATE, challenge)).into_iter().collect();
        Self { status: StatusCode::UNAUTHORIZED, code: ErrorCode::Unauthorized, detail: detail.into(), lines }
    }

    /// It is known who asks, and they may not.
    pub(super) fn denied(detail: impl Into<String>) -> Self {
        let (status, code) = (StatusCode::FORBIDDEN, ErrorCode::Denied);
        Self { status, code, detail: detail.into(), lines: Vec::new() }
    }

    pub(super) fn bad(detail: impl Into<String>) -> Self {
        let (status, code) = (StatusCode::BAD_REQUEST, ErrorCode::Unsupported);
        Self { status, code, detail: detail.into(), lines: Vec::new() }
    }

    /// After that time. Clients are told in whole seconds, and to come again at once by none of them.
    pub(in super::super) fn busy(detail: impl Into<String>, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let lines = vec![(RETRY_AFTER, seconds.max(1).into())];
        let (status, code) = (StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests);
        Self { status, code, detail: detail.into(), lines }
    }

    /// The answer.
    pub(in super::super) fn response(self, method: &Method) -> Response {
        let Self { status, code, detail, lines } = self;
        // Most clients show the message alone.
        let error = serde_json::json!({"code": code.as_str(), "message": detail, "detail": code.message()});
        let body = serde_json::json!({ "errors": [error] });
        let mut response = json(status, body.to_string(), method);
        response.headers.extend(lines);
        response
    }
}

/// An answer that is for whoever asked, and nobody else.
pub(super) fn json(status: StatusCode, body: String, method: &Method) -> Response {
    let headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (DOCKER_DISTRIBUTION_API_VERSION, HeaderValue::from_static("registry/2.0")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    let body = Bytes::from(body);
    let length = Some(body.len() as u64);
    let body = if method == Method::HEAD { Body::Empty } else { Body::Bytes(body) };
    Response { status, headers, length, body }
}

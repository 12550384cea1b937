//! The answers to pushes.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};

use bytes::Bytes;
use http::StatusCode;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};

use super::super::auth::Refusal;
use super::super::pull::{Body, Response};
use crate::oci::{ErrorCode, Repository};
use crate::site::DOCKER_DISTRIBUTION_API_VERSION;
use crate::store::StoreError;
use crate::tree::TreeError;

type Lines = Vec<(HeaderName, HeaderValue)>;

/// Header lines of what has no character that a header can't have: names, tags, digests, numbers.
pub(super) fn headers<const N: usize>(lines: [(HeaderName, String); N]) -> Lines {
    lines.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))).collect()
}

/// An answer without content.
pub(super) fn success(status: StatusCode, lines: Lines) -> Response {
    // One without content by its status has no length, either.
    let length = (status != StatusCode::NO_CONTENT).then_some(0);
    Response { status, headers: with_common(lines), length, body: Body::Empty }
}

fn with_common(mut lines: Lines) -> Lines {
    lines.extend([
        (DOCKER_DISTRIBUTION_API_VERSION, HeaderValue::from_static("registry/2.0")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ]);
    lines
}

/// An error and its causes.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// What whoever pushes is told of a failure of ours: what its kind is, and nothing of where.
fn why(error: &(dyn Error + Send + Sync + 'static)) -> &'static str {
    let (mut cause, mut kind): (Option<&(dyn Error + 'static)>, _) = (Some(error), None);
    while let Some(error) = cause.filter(|_| kind.is_none()) {
        kind = error.downcast_ref().map(io::Error::kind);
        cause = error.source();
    }
    match kind {
        Some(ErrorKind::ReadOnlyFilesystem) => "the registry can not write its tree: its disk is read-only",
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            "the registry can not write its tree: its disk is full"
        }
        _ => "the registry can not write its tree",
    }
}

/// Why a request can't be done.
pub(super) struct Problem {
    status: StatusCode,
    code: ErrorCode,
    detail: String,
    lines: Lines,
    /// What only the operator is told.
    pub(super) cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Problem {
    /// A code of the specification, with the status that goes with it.
    pub(super) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let status = match code {
            ErrorCode::BlobUnknown
            | ErrorCode::BlobUploadUnknown
            | ErrorCode::ManifestUnknown
            | ErrorCode::NameUnknown => StatusCode::NOT_FOUND,
            ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorCode::Denied => StatusCode::FORBIDDEN,
            ErrorCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { status, code, detail: detail.into(), lines: Vec::new(), cause: None }
    }

    pub(super) fn missing(self) -> Self {
        Self { status: StatusCode::NOT_FOUND, ..self }
    }

    pub(super) fn out_of_order(self, lines: Lines) -> Self {
        Self { status: StatusCode::RANGE_NOT_SATISFIABLE, lines, ..self }
    }

    pub(super) fn too_many_tags(self) -> Self {
        Self { status: StatusCode::URI_TOO_LONG, ..self }
    }

    pub(super) fn too_large(limit: u64) -> Self {
        let problem = Self::new(ErrorCode::SizeInvalid, format!("more than {limit} bytes"));
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, ..problem }
    }

    pub(super) fn not_allowed(detail: impl Into<String>) -> Self {
        let lines = headers([(ALLOW, "GET, HEAD".to_owned())]);
        let problem = Self::new(ErrorCode::Unsupported, detail);
        Self { status: StatusCode::METHOD_NOT_ALLOWED, lines, ..problem }
    }

    /// A repository that can't be here, since all have a prefix.
    pub(super) fn outside(prefix: Option<&Repository>) -> Self {
        let prefix = prefix.map(Repository::to_string).unwrap_or_default();
        Self::new(ErrorCode::NameUnknown, format!("every name begins with {prefix}/ here"))
    }

    pub(super) fn busy(detail: &str) -> Self {
        let lines = headers([(RETRY_AFTER, "1".to_owned())]);
        Self { lines, ..Self::new(ErrorCode::TooManyRequests, detail) }
    }

    /// The request's content broke off, or can't be read as HTTP.
    #[expect(clippy::needless_pass_by_value, reason = "what map_err hands over")]
    pub(super) fn cut(error: Box<dyn Error + Send + Sync>) -> Self {
        Self::new(ErrorCode::BlobUploadInvalid, format!("the content broke off: {error}"))
    }

    /// Whether the same may well be done in a while.
    pub(super) fn may_pass(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    /// The same, and what the operator is told of it.
    pub(super) fn because(self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// The store can't do it now, and nothing is wrong with what was asked.
    fn later(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let lines = headers([(RETRY_AFTER, "5".to_owned())]);
        Self { status: StatusCode::SERVICE_UNAVAILABLE, lines, ..Self::failed(cause) }
    }

    /// Who asks may not.
    pub(super) fn refused(refusal: Refusal) -> Self {
        let Refusal { status, code, detail, lines } = refusal;
        Self { status, code, detail, lines, cause: None }
    }

    pub(super) fn failed(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let cause = cause.into();
        let problem = Self::new(ErrorCode::Unsupported, why(&*cause));
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, cause: Some(cause), ..problem }
    }

    pub(super) fn response(self) -> Response {
        let Self { status, code, detail, lines, .. } = self;
        let body = if status == StatusCode::SERVICE_UNAVAILABLE {
            let message = "what the registry writes to takes nothing at the moment: come again";
            serde_json::json!({"errors": [{"code": "UNAVAILABLE", "message": message}]})
        } else if status.is_server_error() {
            serde_json::json!({"errors": [{"code": "UNKNOWN", "message": detail}]})
        } else {
            // Of what was asked for most clients show the message alone, and only here does it depend on who asks.
            let refused = matches!(code, ErrorCode::Unauthorized | ErrorCode::Denied);
            let (message, detail) = if refused { (&*detail, code.message()) } else { (code.message(), &*detail) };
            serde_json::json!({"errors": [{"code": code.as_str(), "message": message, "detail": detail}]})
        };
        let body = Bytes::from(body.to_string());
        let mut lines = with_common(lines);
        lines.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        Response { status, headers: lines, length: Some(body.len() as u64), body: Body::Bytes(body) }
    }
}

impl From<TreeError> for Problem {
    fn from(error: TreeError) -> Self {
        match error {
            // A name that can't be beside others is the client's, not the operator's, to change.
            TreeError::Store(StoreError::Collision { .. }) => {
                let detail = "a repository and a tag of another one would have the same place";
                Self { status: StatusCode::CONFLICT, ..Self::new(ErrorCode::NameInvalid, detail) }
            }
            error @ TreeError::TooManyReferrers { .. } => Self::new(ErrorCode::Denied, error.to_string()),
            TreeError::Store(error) if error.may_pass() => Self::later(error),
            error @ TreeError::Busy { .. } => Self::later(error),
            error => Self::failed(error),
        }
    }
}

//! What went wrong with a bucket.

use ::http::StatusCode;

use crate::http::{BoxError, HttpError};

/// Why a bucket didn't do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// It answered that it won't.
    #[error("{url} answers {status}{} to what needs the permission {action}", said(.code, .message))]
    Refused {
        /// What was asked.
        url: String,
        /// The status.
        status: StatusCode,
        /// The service's word for the reason; empty where it gives none, as in answers to `HEAD`.
        code: String,
        /// Its explanation.
        message: String,
        /// The region that the bucket is in, where the service says so.
        region: Option<String>,
        /// The permission that was needed.
        action: &'static str,
    },
    /// No answer came.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// There is nothing to sign with.
    #[error("there are no usable credentials")]
    Credentials(#[source] BoxError),
    /// It answered something that makes no sense.
    #[error("{0}")]
    Answer(String),
}

fn said(code: &str, message: &str) -> String {
    match (code, message) {
        ("", "") => String::new(),
        (code, "") => format!(" ({code})"),
        (code, message) => format!(" ({code}: {})", message.trim_end_matches('.')),
    }
}

//! What goes wrong on the way to a registry.

use std::error::Error;
use std::fmt;
use std::io;

use ::http::StatusCode;
use reqwest::Url;

use super::credentials::CredentialError;
use super::retry;
use super::shown::ShownUrl;
use super::tls::TlsError;
use crate::oci::{ErrorCode, excerpt};

/// Any error, as a cause.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a request had no useful answer. URLs are shown without the values of their queries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No connection, a connection that broke, or TLS that failed.
    #[error("{url} can't be reached")]
    Unreachable {
        /// What was asked for.
        url: ShownUrl,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// Nothing came for too long.
    #[error("{url}: nothing came for {seconds} s")]
    Stalled {
        /// What was asked for.
        url: ShownUrl,
        /// How long.
        seconds: u64,
    },
    /// A status that is no success.
    #[error("{url} answers {status}{}", if *.html { " with an HTML page" } else { "" })]
    Status {
        /// What was asked for.
        url: ShownUrl,
        /// The status.
        status: StatusCode,
        /// Whether people rather than clients were meant to read the answer.
        html: bool,
        /// What the registry said about it.
        #[source]
        body: Option<ErrorBody>,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects {problem}")]
    Redirect {
        /// Who redirects.
        url: ShownUrl,
        /// Where, and what is wrong with that.
        problem: String,
    },
    /// A body that is longer than it may be.
    #[error("{url}: more than {limit} bytes came")]
    TooLarge {
        /// What was asked for.
        url: ShownUrl,
        /// The limit in bytes.
        limit: u64,
    },
    /// An answer that breaks the protocol.
    #[error("{url}: {problem}")]
    Invalid {
        /// What was asked for.
        url: ShownUrl,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The registry wants to be asked in a way that is refused or unknown.
    #[error("{registry} can't be logged in to: {problem}")]
    Login {
        /// The registry.
        registry: String,
        /// What is wrong.
        problem: String,
    },
    /// The token service gave no token.
    #[error("no token for {registry}")]
    Token {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: Box<HttpError>,
    },
    /// The credentials can't be read.
    #[error("the credentials for {registry} can't be read")]
    Credentials {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: CredentialError,
    },
    /// Certificates or keys can't be used.
    #[error("TLS can't be set up for {host}")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// A setting that can't be used.
    #[error("{0}")]
    Setting(String),
}

impl HttpError {
    /// The status, if there was an answer; that of the token service if it was the one that refused.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Token { source, .. } => source.status(),
            _ => None,
        }
    }

    /// Whether the registry gave this code as a reason.
    #[must_use]
    pub fn says(&self, code: ErrorCode) -> bool {
        matches!(self, Self::Status { body: Some(ErrorBody(said)), .. } if said.contains(code.as_str()))
    }

    /// Whether no answer came at all.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Stalled { .. } => true,
            Self::Token { source, .. } => source.is_unreachable(),
            _ => false,
        }
    }

    /// Whether it was TLS that failed: a certificate that is not trusted, or a server that speaks something else.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Tls { .. } => true,
            Self::Unreachable { source, .. } => {
                source.downcast_ref().is_some_and(|failure: &ConnectionError| failure.tls().is_some())
            }
            Self::Token { source, .. } => source.is_tls(),
            _ => false,
        }
    }

    /// Whether TLS was asked for, and what answered speaks something else.
    pub(crate) fn speaks_no_tls(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => {
                let tls = source.downcast_ref().and_then(ConnectionError::tls);
                matches!(tls, Some(rustls::Error::InvalidMessage(_)))
            }
            Self::Token { source, .. } => source.speaks_no_tls(),
            _ => false,
        }
    }

    /// Whether the same may well succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Stalled { .. } => true,
            Self::Status { status, .. } => retry::is_transient_status(*status),
            Self::Unreachable { source, .. } => {
                source.downcast_ref().is_some_and(|ConnectionError(error)| retry::is_transient_failure(error))
            }
            _ => false,
        }
    }

    /// What the operating system said about a connection that never came about or broke.
    pub(crate) fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Unreachable { source, .. } => source.downcast_ref().and_then(ConnectionError::io_kind),
            _ => None,
        }
    }

    /// A failure of the transport. `reqwest` would print the URL, so it is taken off.
    pub(crate) fn transport(url: &Url, error: reqwest::Error) -> Self {
        Self::Unreachable { url: url.into(), source: ConnectionError(error.without_url()).into() }
    }
}

/// Why a connection failed, in the words of whatever failed at the bottom. The layers above it would add three lines that
/// say "error sending request" in their own ways, so they are not part of the chain.
#[derive(Debug)]
pub(crate) struct ConnectionError(reqwest::Error);

impl ConnectionError {
    /// What TLS found wrong, if it was TLS.
    pub(crate) fn tls(&self) -> Option<&rustls::Error> {
        cause(&self.0)
    }

    /// What the operating system said, if it said anything.
    pub(crate) fn io_kind(&self) -> Option<io::ErrorKind> {
        io_kind(&self.0)
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_connect() && self.0.is_timeout() {
            return f.write_str("no connection came about in time");
        }
        let mut bottom: &dyn Error = &self.0;
        while let Some(next) = bottom.source() {
            bottom = next;
        }
        fmt::Display::fmt(bottom, f)
    }
}

impl Error for ConnectionError {}

/// What a registry says about an error: codes and messages of the specification, or the beginning of what else it sent.
///
/// It is hostile text, so control characters are gone and its length is bounded.
///
/// Source: distribution specification, "Error Codes".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorBody(String);

/// The most bytes of an error's body that are read.
pub(crate) const MAX_ERROR_BODY: u64 = 64 << 10;

impl ErrorBody {
    /// Reads a body; `None` if there is nothing in it that would help anybody.
    #[must_use]
    pub fn parse(body: &[u8], html: bool) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Body {
            #[serde(default)]
            errors: Vec<Entry>,
            /// Token services and proxies say this instead.
            #[serde(default)]
            details: Option<String>,
            #[serde(default)]
            message: Option<String>,
        }
        #[derive(serde::Deserialize)]
        struct Entry {
            #[serde(default)]
            code: Option<String>,
            #[serde(default)]
            message: Option<String>,
        }
        if html {
            return None;
        }
        let text = match serde_json::from_slice::<Body>(body) {
            Ok(body) => {
                let said = body.errors.iter().take(5).map(|entry| {
                    let code = entry.code.as_deref().filter(|code| !code.is_empty());
                    match (code, entry.message.as_deref().filter(|message| !message.is_empty())) {
                        (Some(code), Some(message)) => format!("{code}: {message}"),
                        (code, message) => code.or(message).unwrap_or_default().to_owned(),
                    }
                });
                let said = said.filter(|said| !said.is_empty()).collect::<Vec<_>>().join("; ");
                if said.is_empty() { body.details.or(body.message).unwrap_or_default() } else { said }
            }
            Err(_) => String::from_utf8_lossy(body).into_owned(),
        };
        let printable: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        (!printable.is_empty()).then(|| Self(excerpt(&printable)))
    }
}

impl fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for ErrorBody {}

/// An error and its causes, from the top.
///
/// An `io::Error` that wraps an error gives that error's cause as its own, so `source` alone would step over what it wraps.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
        Some(error)
    })
}

/// Looks for a kind of error among the causes of another one.
pub(crate) fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// What the operating system said, or the layer next to it: those above wrap it as `Other`.
pub(crate) fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last().map(io::Error::kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says() {
        let said = |body: &str| ErrorBody::parse(body.as_bytes(), false).map(|said| said.to_string());
        for (body, expected) in [
            (r#"{"errors":[{"code":"DENIED","message":"no"}]}"#, Some("DENIED: no")),
            (r#"{"errors":[{"code":"A"},{"message":"b"}]}"#, Some("A; b")),
            (r#"{"errors":[]}"#, None),
            (r#"{"details":"incorrect username or password"}"#, Some("incorrect username or password")),
            ("plain\r\n\u{1b}[31mtext\n", Some("plain   [31mtext")),
            ("", None),
            ("  \n", None),
        ] {
            assert_eq!(said(body).as_deref(), expected, "{body:?}");
        }
        assert!(said(&"x".repeat(70_000)).is_some_and(|said| said.len() < 300));
        assert_eq!(ErrorBody::parse(b"<html>", true), None);
    }
}

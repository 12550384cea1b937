//! What came back, as plain data.

use std::collections::HashMap;

use ::http::header::{AsHeaderName, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use ::http::{HeaderMap, HeaderName, HeaderValue, Version};
use bytes::Bytes;

use super::question::Question;
use crate::oci::Digest;

/// An answer, with the redirects that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The version of HTTP.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
    /// The redirects that were followed.
    pub redirects: Vec<Redirect>,
    /// The body.
    pub content: Content,
}

/// A redirect that was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Its status.
    pub status: u16,
    /// Where it led, as people may see it.
    pub to: String,
    /// Whether it led to another host or port.
    pub elsewhere: bool,
    /// Whether it left TLS.
    pub leaves_tls: bool,
}

/// A body, as a client sees it that undoes gzip where `Content-Encoding` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// How it begins: all of a manifest or list, the first bytes of a blob.
    pub start: Bytes,
    /// How many bytes were read.
    pub length: u64,
    /// How it ended.
    pub end: End,
    /// The digest, if all of it was read.
    pub digest: Option<Digest>,
}

/// How a body ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Whole,
    /// Enough had been read.
    Enough,
    /// The connection broke, or nothing came any more.
    Broken(String),
    /// It kept on coming, so slowly that after so many seconds nobody waited for the rest.
    Trickle(u64),
    /// It says that gzip has compressed it, and that isn't so.
    Undecodable,
}

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// No connection, or one that broke.
    Unreachable(String),
    /// TLS failed.
    Tls(String),
    /// TLS was asked for, and something else spoken.
    NoTls,
    /// Nothing came for so many seconds.
    Stalled(u64),
    /// Redirects went round in a circle, or on and on.
    Loop,
    /// A redirect led where nobody may go.
    Redirect(String),
    /// The login failed.
    Login(String),
}

/// What came of a question.
pub type Outcome = Result<Answer, NoAnswer>;

/// Everything that is known.
#[derive(Debug, Clone, Default)]
pub struct Seen(HashMap<Question, Outcome>);

impl Seen {
    /// Remembers what came of a question.
    pub fn insert(&mut self, question: Question, outcome: Outcome) {
        self.0.insert(question, outcome);
    }

    /// Forgets what came of a question, since it is about to be asked elsewhere.
    pub(super) fn forget(&mut self, question: &Question) {
        self.0.remove(question);
    }

    /// What came of a question, if it was asked.
    #[must_use]
    pub fn get(&self, question: &Question) -> Option<&Outcome> {
        self.0.get(question)
    }

    /// The answer to a question, if one came.
    #[must_use]
    pub fn answer(&self, question: &Question) -> Option<&Answer> {
        self.get(question)?.as_ref().ok()
    }

    /// All that was asked.
    pub fn iter(&self) -> impl Iterator<Item = (&Question, &Outcome)> {
        self.0.iter()
    }
}

impl Answer {
    /// An answer without headers and body, for tests and such.
    #[must_use]
    pub fn new(status: u16) -> Self {
        let content = Content { start: Bytes::new(), length: 0, end: End::Whole, digest: None };
        Self { status, version: Version::HTTP_11, headers: HeaderMap::new(), redirects: Vec::new(), content }
    }

    /// The answer with one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// A header as text; several of a name count as one with commas, as HTTP has it.
    #[must_use]
    pub fn text(&self, name: impl AsHeaderName) -> Option<String> {
        let values: Vec<_> = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The first header of a name, which is the one that Go's clients look at.
    #[must_use]
    pub fn first(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `Content-Type`, unless it is empty.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.first(CONTENT_TYPE).map(str::trim).filter(|text| !text.is_empty())
    }

    /// `Content-Length`, as clients see it: what is compressed on its way has none.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        if self.is_gzip() { None } else { self.first(CONTENT_LENGTH)?.trim().parse().ok() }
    }

    /// Whether the body is compressed for the way.
    #[must_use]
    pub fn is_gzip(&self) -> bool {
        self.first(CONTENT_ENCODING).is_some_and(|encoding| encoding.trim().eq_ignore_ascii_case("gzip"))
    }

    /// Whether it is a success.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// Whether people rather than clients were meant to read it.
    #[must_use]
    pub fn is_html(&self) -> bool {
        let start = &self.content.start[..self.content.start.len().min(64)];
        let start = String::from_utf8_lossy(start).trim_start().to_ascii_lowercase();
        self.content_type().is_some_and(|text| text.to_ascii_lowercase().starts_with("text/html"))
            || start.starts_with("<!doctype html")
            || start.starts_with("<html")
    }
}

//! The read side of the distribution API: from a request to its answer, whatever carries the two.
//!
//! Statuses and headers come from [`site::RULES`]; this module asks the [`Origin`] what lies under a path, and knows what HTTP
//! adds to every answer: conditions, ranges, pages of lists.
//!
//! Nothing that can change is remembered across requests but by a name that changes with it: manifests by digest, lists by
//! the version of their object. So what another process does to a tree shows in the next answer.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_RANGE, CONTENT_TYPE, HeaderName,
    HeaderValue, LINK, LOCATION,
};
use http::{Method, StatusCode};

use super::lists::{self, Page};
use super::origin::{Content, Failure, Found, OfTree, Origin, Want};
use super::range::{self, Selected};
use super::upstream::OfUpstream;
use crate::oci::{Digest, Reference, Repository};
use crate::site::{self, Answer, Facts, Path, PathPattern};
use crate::store::{self, Key, Store, StoreError};
use crate::tree::{TreeError, keys};

/// A request, as far as its answer depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, escapes and all, without the query.
    pub path: &'a str,
    /// What stands behind the question mark.
    pub query: Option<&'a str>,
    /// The headers that count.
    pub headers: Headers<'a>,
}

/// The headers on which an answer depends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    /// `If-None-Match`.
    pub if_none_match: Option<&'a [u8]>,
    /// `If-Range`.
    pub if_range: Option<&'a [u8]>,
    /// `Range`.
    pub range: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    /// Takes note of one of a request's header lines, if it counts. Of a header that may stand only once, the first line
    /// counts.
    pub fn note(&mut self, name: &str, value: &'a [u8]) {
        let field = match name.len() {
            13 if name.eq_ignore_ascii_case("if-none-match") => &mut self.if_none_match,
            8 if name.eq_ignore_ascii_case("if-range") => &mut self.if_range,
            5 if name.eq_ignore_ascii_case("range") => &mut self.range,
            _ => return,
        };
        field.get_or_insert(value);
    }
}

/// An answer.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers, those aside that the transport writes: `Content-Length`, `Date`, `Connection`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The length of what a `GET` is answered with; `None` if the answer has no content by its status, or if nobody knows before
    /// its end, for a [`Body::Stream`] alone.
    pub length: Option<u64>,
    /// The content: empty in the answer to a `HEAD`.
    pub body: Body,
}

/// An answer's content, in the form that the origin has it in.
pub enum Body {
    /// None.
    Empty,
    /// All of it.
    Bytes(Bytes),
    /// A range of an open file.
    File {
        /// The file.
        file: std::fs::File,
        /// The bytes meant.
        range: Range<u64>,
    },
    /// As it comes.
    Stream(BoxStream<'static, Result<Bytes, StoreError>>),
}

/// Which repositories somebody sees.
pub(super) type Sees<'a> = dyn Fn(&Repository) -> bool + Sync + 'a;

/// Answers requests from an origin. Clones share everything.
#[derive(Clone)]
pub struct Pull(Arc<Inner>);

struct Inner {
    content: Box<dyn Content>,
    name_prefix: Option<Repository>,
    cors: bool,
    lists: lists::Lists,
    /// Where clients fetch blobs themselves.
    elsewhere: Option<Arc<dyn Store>>,
}

/// For how long a client may use the URL that it is sent to. It is judged when the client begins to read.
const GOOD_FOR: Duration = Duration::from_mins(15);

impl Pull {
    /// Answers from `origin`, whose repositories appear below `name_prefix`, with `cors` to pages of every origin. At most
    /// `memory` bytes of manifests are held, and half as much of lists.
    #[must_use]
    pub fn new(origin: impl Into<Origin>, name_prefix: Option<Repository>, cors: bool, memory: usize) -> Self {
        Self::sending_elsewhere(origin, name_prefix, cors, memory, None)
    }

    /// The same, but clients are sent for blobs to `elsewhere`, the store of the tree as they reach it, where that has
    /// URLs for them.
    pub(super) fn sending_elsewhere(
        origin: impl Into<Origin>,
        name_prefix: Option<Repository>,
        cors: bool,
        memory: usize,
        elsewhere: Option<Arc<dyn Store>>,
    ) -> Self {
        let content: Box<dyn Content> = match origin.into() {
            Origin::Tree(tree) => Box::new(OfTree::public(tree, memory)),
            Origin::WholeTree(tree) => Box::new(OfTree::whole(tree, memory)),
            Origin::Upstream(upstream) => Box::new(OfUpstream::new(upstream, memory)),
        };
        Self(Arc::new(Inner { content, name_prefix, cors, lists: lists::Lists::new(memory / 2), elsewhere }))
    }

    /// The answer to a request. What goes wrong on the way is an answer, too.
    pub async fn answer(&self, request: &Request<'_>) -> Response {
        self.answer_to(request, None).await
    }

    /// The same for somebody in whose catalogue are the repositories that `sees` says.
    pub(super) async fn answer_to(&self, request: &Request<'_>, sees: Option<&Sees<'_>>) -> Response {
        let mut response = self.answer_here(request, sees).await;
        if self.0.cors {
            let fixed = |value| match value {
                site::Value::Fixed(text) => Some(HeaderValue::from_static(text)),
                _ => None,
            };
            response.headers.extend(site::CORS.into_iter().filter_map(|(name, value)| Some((name, fixed(value)?))));
        }
        response
    }

    /// The answer for those who come from nowhere else.
    async fn answer_here(&self, request: &Request<'_>, sees: Option<&Sees<'_>>) -> Response {
        let Ok(path) = Path::parse(request.path, self.0.name_prefix.as_ref()) else {
            return fixed(&site::BAD_REQUEST, request);
        };
        if self.0.cors && request.method == Method::OPTIONS && path.is_api() {
            // An answer without content has no length, either.
            return Response { length: None, ..fixed(&site::PREFLIGHT, request) };
        }
        if request.method != Method::GET && request.method != Method::HEAD {
            return fixed(&site::METHOD_NOT_ALLOWED, request);
        }
        let rule = path.pattern().rule();
        let Some(found) = &rule.found else {
            return fixed(&rule.missing, request);
        };
        match self.0.look(&path, found, request, sees).await {
            Ok(Some(response)) => response,
            Ok(None) => self.missing(&path, &rule.missing, request),
            Err(failure) => {
                let (mut answer, what) = self.0.content.silence();
                if may_pass(&failure) {
                    answer = &site::UNAVAILABLE;
                }
                let cause: &(dyn std::error::Error + 'static) = &*failure;
                tracing::error!(path = ?request.path, error = cause, "{what}");
                fixed(answer, request)
            }
        }
    }

    fn missing(&self, path: &Path, answer: &Answer, request: &Request<'_>) -> Response {
        let mut response = fixed(answer, request);
        if path.pattern() == PathPattern::Referrers && lists::artifact_type(request.query).is_some() {
            response.headers.push(FILTERED);
        }
        response
    }
}

/// Whether the same may well be answered in a while.
fn may_pass(failure: &Failure) -> bool {
    match (failure.downcast_ref(), failure.downcast_ref()) {
        (Some(TreeError::Store(error)), _) | (_, Some(error)) => StoreError::may_pass(error),
        _ => false,
    }
}

const FILTERED: (HeaderName, HeaderValue) = (site::OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));

impl Inner {
    /// The answer if something lies under the path.
    async fn look(
        &self,
        path: &Path,
        answer: &Answer,
        request: &Request<'_>,
        sees: Option<&Sees<'_>>,
    ) -> Result<Option<Response>, Failure> {
        match path {
            Path::Manifest(repository, reference) => self.manifest(repository, reference, answer, request).await,
            Path::Blob(repository, digest) => self.blob(repository, digest, answer, request).await,
            Path::TagsList(repository) => {
                let Some(object) = self.content.tags_list(repository).await? else { return Ok(None) };
                let shown = self.shown(repository);
                let page = Page::of(request.query);
                if page.is_none() && self.name_prefix.is_none() {
                    return Ok(Some(deliver(answer, Facts::NONE, object, request)));
                }
                let tags = self.lists.tags(repository, object).await?;
                let (body, next) = page.unwrap_or_default().tags(&shown, &tags);
                let link = next.map(|next| format!("</v2/{shown}/tags/list?{next}>; rel=\"next\""));
                Ok(Some(listed(answer, &body, link, request)))
            }
            Path::Catalog => {
                let Some(object) = self.content.catalog().await? else { return Ok(None) };
                let page = Page::of(request.query);
                if page.is_none() && self.name_prefix.is_none() && sees.is_none() {
                    return Ok(Some(deliver(answer, Facts::NONE, object, request)));
                }
                let mut repositories = self.lists.catalog(object).await?;
                if let Some(sees) = sees {
                    // What is no name can't be said to be for anybody.
                    let seen = |name: &str| name.parse().is_ok_and(|name| sees(&name));
                    repositories = repositories.iter().filter(|name| seen(name)).cloned().collect();
                }
                let (body, next) = page.unwrap_or_default().repositories(self.name_prefix.as_ref(), &repositories);
                let link = next.map(|next| format!("</v2/_catalog?{next}>; rel=\"next\""));
                Ok(Some(listed(answer, &body, link, request)))
            }
            Path::Referrers(repository, subject) => {
                let Some(object) = self.content.referrers(repository, subject).await? else { return Ok(None) };
                let Some(artifact_type) = lists::artifact_type(request.query) else {
                    return Ok(Some(deliver(answer, Facts::NONE, object, request)));
                };
                let body = lists::filtered(repository, subject, object, &artifact_type).await?;
                let mut response = whole(answer, Facts::NONE, &body, request);
                response.headers.push(FILTERED);
                Ok(Some(response))
            }
            Path::Page(name) => {
                let Ok(key) = name.parse::<Key>() else { return Ok(None) };
                let Some(object) = self.content.page(&key).await? else { return Ok(None) };
                let extension = name.rsplit_once('.').map(|(_, extension)| extension);
                Ok(Some(deliver(answer, Facts { extension, ..Facts::NONE }, object, request)))
            }
            Path::Ping | Path::Missing(_) => Ok(None),
        }
    }

    /// A repository's name as it appears outside.
    fn shown(&self, repository: &Repository) -> String {
        self.name_prefix.as_ref().map_or_else(|| repository.to_string(), |prefix| format!("{prefix}/{repository}"))
    }

    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        answer: &Answer,
        request: &Request<'_>,
    ) -> Result<Option<Response>, Failure> {
        let Some(found) = self.content.manifest(repository, reference).await? else { return Ok(None) };
        let facts = Facts { digest: Some(&found.digest), media_type: Some(&found.media_type), extension: None };
        Ok(Some(whole(answer, facts, &found.bytes, request)))
    }

    async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        answer: &Answer,
        request: &Request<'_>,
    ) -> Result<Option<Response>, Failure> {
        let facts = Facts { digest: Some(digest), ..Facts::NONE };
        if let Some(store) = self.elsewhere.as_ref().filter(|_| request.method == Method::GET) {
            let Some(found) = self.content.blob(repository, digest, Want::Size).await? else { return Ok(None) };
            let is_read = matches!(choose(answer, facts, found.size, request), Choice::Whole | Choice::Part(_));
            if !is_read {
                return Ok(Some(deliver(answer, facts, found, request)));
            }
            if let Some(url) = store.signed_url(&keys::blob(repository, digest), GOOD_FOR).await? {
                let mut url = HeaderValue::try_from(url)?;
                url.set_sensitive(true);
                let mut response = whole(&site::SENT_ELSEWHERE, facts, &Bytes::new(), request);
                response.headers.push((LOCATION, url));
                return Ok(Some(response));
            }
        }
        let Headers { if_none_match, if_range: _, range } = request.headers;
        let plain = request.method == Method::GET && if_none_match.is_none() && range.is_none();
        let want = if plain { Want::Whole } else { Want::Size };
        let Some(mut found) = self.content.blob(repository, digest, want).await? else { return Ok(None) };
        // What is no open file is asked for once more, as soon as it is known how much of it is to be sent.
        if !plain && request.method == Method::GET && !matches!(found.body, store::Body::File { .. }) {
            let want = match choose(answer, facts, found.size, request) {
                // A whole can be judged, and a client that asks for all of it by a range gets it as one.
                Choice::Part(range) if found.size == Some(range.end - range.start) => Some(Want::Whole),
                Choice::Part(range) => Some(Want::Part(range)),
                Choice::Whole => Some(Want::Whole),
                Choice::Unsatisfiable | Choice::Unchanged => None,
            };
            if let Some(want) = want {
                let is_part = matches!(want, Want::Part(_));
                let Some(wanted) = self.content.blob(repository, digest, want).await? else { return Ok(None) };
                if is_part {
                    found.body = wanted.body;
                } else {
                    // What comes counts, and not what was said of it before.
                    found = wanted;
                }
            }
        }
        Ok(Some(deliver(answer, facts, found, request)))
    }
}

/// Lets pages of other origins read an answer that came by no rule: where a token is to be had, and what was wrong. Those that came
/// by one say it already.
pub(super) fn open_to_pages(response: &mut Response) {
    if !response.headers.iter().any(|(name, _)| *name == ACCESS_CONTROL_ALLOW_ORIGIN) {
        response.headers.extend([
            (ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
            (
                ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static("Docker-Content-Digest, Location, Range, Retry-After, WWW-Authenticate"),
            ),
        ]);
    }
}

/// An answer that is the same for everyone.
fn fixed(answer: &Answer, request: &Request<'_>) -> Response {
    let body = match &answer.body {
        site::Body::Fixed(text) => Bytes::from(text.clone().into_owned()),
        site::Body::Object => Bytes::new(),
    };
    whole(answer, Facts::NONE, &body, request)
}

/// A page of a list.
fn listed(answer: &Answer, body: &Bytes, link: Option<String>, request: &Request<'_>) -> Response {
    let mut response = whole(answer, Facts::NONE, body, request);
    // Names and tags have no character that a header can't have.
    response.headers.extend(link.and_then(|link| Some((LINK, HeaderValue::try_from(link).ok()?))));
    response
}

/// Answers with what is in memory.
fn whole(answer: &Answer, facts: Facts<'_>, bytes: &Bytes, request: &Request<'_>) -> Response {
    let size = Some(bytes.len() as u64);
    let choice = choose(answer, facts, size, request);
    let cut = |range: Range<u64>| {
        let index = |at: u64| usize::try_from(at).unwrap_or(bytes.len());
        Body::Bytes(bytes.slice(index(range.start)..index(range.end)))
    };
    respond(answer, facts, &choice, size, request, cut)
}

/// Answers with an object.
fn deliver(answer: &Answer, facts: Facts<'_>, found: Found, request: &Request<'_>) -> Response {
    let Found { size, body, .. } = found;
    let choice = choose(answer, facts, size, request);
    let content = |range: Range<u64>| match body {
        // All of it, or the part that was asked for and no more.
        store::Body::Bytes(bytes) if Some(bytes.len() as u64) == size => {
            let index = |at: u64| usize::try_from(at).unwrap_or(bytes.len());
            Body::Bytes(bytes.slice(index(range.start)..index(range.end)))
        }
        store::Body::Bytes(bytes) => Body::Bytes(bytes),
        store::Body::File { file, .. } => Body::File { file, range },
        store::Body::Stream(stream) => Body::Stream(stream),
    };
    respond(answer, facts, &choice, size, request, content)
}

/// Which bytes of an object are to be sent.
enum Choice {
    Whole,
    Part(Range<u64>),
    Unsatisfiable,
    /// The client has them.
    Unchanged,
}

fn choose(answer: &Answer, facts: Facts<'_>, size: Option<u64>, request: &Request<'_>) -> Choice {
    // Without these there is nothing to decide, and no digest to be spelled for it.
    let Headers { if_none_match, if_range, range } = request.headers;
    if if_none_match.is_none() && range.is_none() {
        return Choice::Whole;
    }
    let tag = facts.digest.map(Digest::to_string);
    if let (Some(header), Some(tag)) = (if_none_match, &tag)
        && range::none_match_names(header, tag)
    {
        return Choice::Unchanged;
    }
    let in_ranges = request.method == Method::GET && answer.headers.iter().any(|(name, _)| *name == ACCEPT_RANGES);
    // Parts of what has no known end can't be named.
    let (true, Some(header), Some(size)) = (in_ranges, range, size) else { return Choice::Whole };
    let same = |header| tag.as_deref().is_some_and(|tag| range::if_range_names(header, tag));
    if !if_range.is_none_or(same) {
        return Choice::Whole;
    }
    match range::select(header, size) {
        Selected::Whole => Choice::Whole,
        Selected::Part(range) => Choice::Part(range),
        Selected::Unsatisfiable => Choice::Unsatisfiable,
    }
}

fn respond(
    answer: &Answer,
    facts: Facts<'_>,
    choice: &Choice,
    size: Option<u64>,
    request: &Request<'_>,
    content: impl FnOnce(Range<u64>) -> Body,
) -> Response {
    let (status, range) = match choice {
        Choice::Whole => (answer.status, 0..size.unwrap_or(u64::MAX)),
        Choice::Part(range) => (StatusCode::PARTIAL_CONTENT, range.clone()),
        Choice::Unchanged => {
            return Response {
                status: StatusCode::NOT_MODIFIED,
                headers: headers(answer, facts),
                length: None,
                body: Body::Empty,
            };
        }
        Choice::Unsatisfiable => {
            let mut headers = headers(answer, facts);
            headers.extend(content_range(format!("bytes */{}", size.unwrap_or_default())));
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            let text = Bytes::from_static(site::BEHIND_THE_END.as_bytes());
            return Response { status, headers, length: Some(text.len() as u64), body: Body::Bytes(text) };
        }
    };
    let mut headers = headers(answer, facts);
    if let (StatusCode::PARTIAL_CONTENT, Some(size)) = (status, size) {
        headers.extend(content_range(format!("bytes {}-{}/{size}", range.start, range.end - 1)));
    }
    let length = size.map(|_| range.end - range.start);
    let body = if request.method == Method::HEAD || range.is_empty() { Body::Empty } else { content(range) };
    Response { status, headers, length, body }
}

fn content_range(value: String) -> Option<(HeaderName, HeaderValue)> {
    Some((CONTENT_RANGE, HeaderValue::try_from(value).ok()?))
}

/// The headers that a rule asks for.
fn headers(answer: &Answer, facts: Facts<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::with_capacity(answer.headers.len() + 1);
    for (name, value) in &answer.headers {
        let value = match value {
            site::Value::Fixed(text) => Some(HeaderValue::from_static(text)),
            value => {
                let mut text = Vec::with_capacity(160);
                // What becomes a header was parsed into digests and media types, which have no other characters.
                if facts.write(name, *value, &mut text) {
                    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
                } else {
                    None
                }
            }
        };
        headers.extend(value.map(|value| (name.clone(), value)));
    }
    let content = answer.status != StatusCode::NO_CONTENT;
    debug_assert!(!content || headers.iter().any(|(name, _)| *name == CONTENT_TYPE), "an answer without a type");
    headers
}

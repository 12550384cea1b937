//! A site: a tree seen from outside. What every path must be answered with, written once, as data.
//!
//! [`RULES`] is the table. The hosts' configurations, the headers of objects in a bucket and the built-in server are
//! renderings of it; none of them knows a status, a header or an error code that isn't written here, so they can't
//! drift apart. A shared table of requests proves it over the real servers.
//!
//! This module decides, and does nothing: it reads no file and knows no host's syntax beyond the regular expressions that
//! all of them share.
//!
//! Source: distribution specification 1.1, *Endpoints* and *Error Codes*; RFC 9110 and 9111 for what HTTP adds.

mod elsewhere;
mod measure;
mod path;
mod shell;
mod survey;

use std::borrow::Cow;
use std::sync::LazyLock;

use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, StatusCode};

pub use elsewhere::{Elsewhere, ElsewhereError, Piece};
pub use measure::{Measure, Raised, RaisedError};
pub use path::{Path, PathError, decode};
pub use shell::{Around, Shell, Users};
pub use survey::{Extent, Named, Survey};

use crate::oci::{Digest, ErrorCode, MediaType, Repository};
// A tree in a bucket says so with each object, whoever serves it.
use crate::tree::{FOR_EVER, SHORTLY};

/// `Docker-Content-Digest`, which saves clients a request and which the specification's `HEAD` asks for.
pub const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// `Docker-Distribution-API-Version`, by which old clients knew a registry.
pub const DOCKER_DISTRIBUTION_API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// `OCI-Filters-Applied`, which says that a list of referrers was filtered.
pub const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// The headers whose canonical spelling isn't each word with a capital. Header names have no case, but people read them.
const SPELLED: [(HeaderName, &str); 3] = [
    (ETAG, "ETag"),
    (DOCKER_DISTRIBUTION_API_VERSION, "Docker-Distribution-API-Version"),
    (OCI_FILTERS_APPLIED, "OCI-Filters-Applied"),
];

/// A header's name as people write it: `Content-Type`, `ETag`.
#[must_use]
pub fn spelled(name: &HeaderName) -> String {
    if let Some((_, spelled)) = SPELLED.iter().find(|(known, _)| known == name) {
        return (*spelled).to_owned();
    }
    let mut word_begins = true;
    let capital = |c: char| {
        let c = if word_begins { c.to_ascii_uppercase() } else { c };
        word_begins = c == '-';
        c
    };
    name.as_str().chars().map(capital).collect()
}

/// What is missing now may be there at once.
const NOT_AT_ALL: &str = "no-cache";

const JSON: &str = "application/json";

/// The forms of path that are told apart. Which one a path has never depends on what the tree holds.
///
/// The last two components of a path decide, so that a repository may be called `a/manifests/b` or `blobs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// `/v2/`, which says that here is a registry.
    Ping,
    /// `/v2/_catalog`, the names of the repositories.
    Catalog,
    /// `/v2/<name>/tags/list`.
    TagsList,
    /// `/v2/<name>/manifests/<tag>`.
    ManifestByTag,
    /// `/v2/<name>/manifests/<digest>`.
    ManifestByDigest,
    /// `/v2/<name>/blobs/<digest>`.
    Blob,
    /// `/v2/<name>/referrers/<digest>`.
    Referrers,
    /// `/v2/<name>/manifests/…` of what is neither a tag nor a digest.
    NotAReference,
    /// `/v2/<name>/blobs/…` of what is no digest.
    NotABlob,
    /// `/v2/<name>/referrers/…` of what is no digest.
    NotASubject,
    /// A path of one of the forms above under what can't be a repository's name.
    NotAName,
    /// Anything else under `/v2/`.
    Unknown,
    /// The pages for people.
    Page,
    /// Anything else.
    Outside,
}

impl PathPattern {
    /// All of them, in the order in which they have to be tried where one may match what another does.
    pub const ALL: [Self; 14] = [
        Self::Ping,
        Self::Catalog,
        Self::TagsList,
        Self::ManifestByTag,
        Self::ManifestByDigest,
        Self::Blob,
        Self::Referrers,
        Self::NotAReference,
        Self::NotABlob,
        Self::NotASubject,
        Self::NotAName,
        Self::Unknown,
        Self::Page,
        Self::Outside,
    ];

    /// Its rule.
    #[must_use]
    pub fn rule(self) -> &'static Rule {
        // ALL, RULES and the variants are in one order, which a test holds.
        &RULES[self as usize]
    }

    /// A regular expression for its decoded paths, in the syntax that PCRE, RE2 and JavaScript share, with the captures
    /// named `name`, `tag` and `digest`. `prefix` is put in front of the name. A path under `/content/` is never a page,
    /// which no expression says that all of these engines could run.
    #[must_use]
    pub fn regex(self, prefix: Option<&Repository>) -> String {
        // In Repository's grammar a dot is the only character that an expression would take for something else.
        let prefix = prefix.map(|prefix| format!("{}/", prefix.as_str().replace('.', r"\."))).unwrap_or_default();
        let component = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
        let name = format!("{prefix}(?<name>{component}(?:/{component})*)");
        let tag = "(?<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})";
        let digest = "(?<digest>sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})";
        match self {
            Self::Ping => "^/v2/?$".to_owned(),
            Self::Catalog => "^/v2/_catalog$".to_owned(),
            Self::TagsList => format!("^/v2/{name}/tags/list$"),
            Self::ManifestByTag => format!("^/v2/{name}/manifests/{tag}$"),
            Self::ManifestByDigest => format!("^/v2/{name}/manifests/{digest}$"),
            Self::Blob => format!("^/v2/{name}/blobs/{digest}$"),
            Self::Referrers => format!("^/v2/{name}/referrers/{digest}$"),
            Self::NotAReference => format!("^/v2/{name}/manifests/[^/]*$"),
            Self::NotABlob => format!("^/v2/{name}/blobs/[^/]*$"),
            Self::NotASubject => format!("^/v2/{name}/referrers/[^/]*$"),
            Self::NotAName => "^/v2/.*/(?:(?:manifests|blobs|referrers)/[^/]*|tags/list)$".to_owned(),
            Self::Unknown => "^/v2/".to_owned(),
            Self::Page => {
                let segment = "[A-Za-z0-9_-][A-Za-z0-9._-]*";
                let types: Vec<_> = PAGE_TYPES.iter().map(|(extension, _)| *extension).collect();
                format!("^/(?:{segment}/)*(?:{segment}\\.(?:{}))?$", types.join("|"))
            }
            Self::Outside => "^".to_owned(),
        }
    }
}

/// What the pages for people may consist of, by extension.
pub const PAGE_TYPES: [(&str, &str); 8] = [
    ("html", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", JSON),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("ico", "image/x-icon"),
    ("txt", "text/plain; charset=utf-8"),
];

/// What of a path can become a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Capture {
    /// The digest.
    Digest,
}

/// What of an object can become a header. A host that can't look enumerates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// Its media type.
    MediaType,
    /// Its digest.
    Digest,
}

/// Where a header's value comes from. In an `ETag` it stands between quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Value {
    /// It is always the same.
    Fixed(&'static str),
    /// The path says it.
    FromPath(Capture),
    /// The object says it.
    OfContent(Content),
    /// The extension of the path decides, by [`PAGE_TYPES`].
    OfPage,
}

/// What comes after the headers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Body {
    /// The bytes that lie under the path, whole or in ranges. A range that begins behind their end is answered with status
    /// 416, the same headers and [`BEHIND_THE_END`]: what an object is does not depend on which part of it is asked for.
    Object,
    /// Always the same. In JSON there are no quotes but `"`, so that it can stand between the others in a configuration.
    Fixed(Cow<'static, str>),
}

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, those that HTTP itself asks for (`Date`, `Content-Length`) aside.
    pub headers: Vec<(HeaderName, Value)>,
    /// The body, which a `HEAD` leaves out.
    pub body: Body,
}

/// What a form of path is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The form.
    pub pattern: PathPattern,
    /// The answer if something lies there; `None` if nothing can.
    pub found: Option<Answer>,
    /// The answer if nothing lies there.
    pub missing: Answer,
}

/// The table, in the order of [`PathPattern::ALL`].
pub static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| PathPattern::ALL.into_iter().map(rule).collect());

/// The answer to a method other than `GET` and `HEAD` under `/v2/`.
pub static METHOD_NOT_ALLOWED: LazyLock<Answer> = LazyLock::new(|| {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported);
    answer.headers.push((ALLOW, Value::Fixed("GET, HEAD")));
    answer
});

/// What lets the pages of other origins, such as a registry's user interface, read what a site answers: headers on every
/// answer of a site with [`Site::cors`]. A tree that its host shows to everyone has no secret that this would tell.
pub const CORS: [(HeaderName, Value); 2] = [
    (ACCESS_CONTROL_ALLOW_ORIGIN, Value::Fixed("*")),
    (
        ACCESS_CONTROL_EXPOSE_HEADERS,
        Value::Fixed("Content-Length, Content-Range, Docker-Content-Digest, ETag, Link, OCI-Filters-Applied"),
    ),
];

/// The answer to a browser that asks what it may send (`OPTIONS`), under `/v2/` of a site with [`Site::cors`].
pub static PREFLIGHT: LazyLock<Answer> = LazyLock::new(|| Answer {
    status: StatusCode::NO_CONTENT,
    headers: vec![
        (ACCESS_CONTROL_ALLOW_METHODS, Value::Fixed("GET, HEAD")),
        (ACCESS_CONTROL_ALLOW_HEADERS, Value::Fixed("Accept, Authorization, If-None-Match, If-Range, Range")),
        (ACCESS_CONTROL_MAX_AGE, Value::Fixed("86400")),
        (CACHE_CONTROL, Value::Fixed(NOT_AT_ALL)),
        (X_CONTENT_TYPE_OPTIONS, Value::Fixed("nosniff")),
    ],
    body: Body::Fixed(Cow::Borrowed("")),
});

/// The answer to a request that can't be understood.
pub static BAD_REQUEST: LazyLock<Answer> = LazyLock::new(|| error(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid));

/// The answer when the tree can't be read. Its cause is the operator's to know, not the client's.
pub static UNREADABLE: LazyLock<Answer> = LazyLock::new(|| {
    let mut answer = error(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unsupported);
    answer.body =
        Body::Fixed(r#"{"errors":[{"code":"UNKNOWN","message":"the registry can not read its tree"}]}"#.into());
    answer
});

/// The answer when what the tree lies in takes nothing at the moment, or can't be reached.
pub static UNAVAILABLE: LazyLock<Answer> = LazyLock::new(|| {
    let mut answer = error(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unsupported);
    answer.headers.push((RETRY_AFTER, Value::Fixed("5")));
    answer.body = Body::Fixed(
        r#"{"errors":[{"code":"UNAVAILABLE","message":"what the registry reads from gives nothing at the moment"}]}"#
            .into(),
    );
    answer
});

/// The answer when the host behind us gives none, or one that can't be passed on. Its cause is the operator's to know, too.
pub static UNREACHABLE: LazyLock<Answer> = LazyLock::new(|| {
    let mut answer = error(StatusCode::BAD_GATEWAY, ErrorCode::Unsupported);
    answer.body = Body::Fixed(
        r#"{"errors":[{"code":"UNKNOWN","message":"the registry can not read from its upstream"}]}"#.into(),
    );
    answer
});

/// The answer that sends a client elsewhere for a blob, with the URL in `Location`. That is good for a moment and lets
/// anybody read, so nobody keeps it.
pub static SENT_ELSEWHERE: LazyLock<Answer> = LazyLock::new(|| {
    let anything = Value::Fixed("application/octet-stream");
    let mut answer = registry(StatusCode::TEMPORARY_REDIRECT, anything, "no-store", Body::Fixed(Cow::Borrowed("")));
    answer.headers.push((DOCKER_CONTENT_DIGEST, Value::FromPath(Capture::Digest)));
    answer
});

/// The content of an answer to a range that begins behind the end: nobody reads it, but some hosts can't leave it empty.
pub const BEHIND_THE_END: &str = "range not satisfiable\n";

/// The body of an empty list of referrers.
pub const EMPTY_INDEX: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// What an answer under `/v2/` carries, whatever it is.
fn registry(status: StatusCode, content_type: Value, caching: &'static str, body: Body) -> Answer {
    Answer {
        status,
        headers: vec![
            (CONTENT_TYPE, content_type),
            (CACHE_CONTROL, Value::Fixed(caching)),
            (DOCKER_DISTRIBUTION_API_VERSION, Value::Fixed("registry/2.0")),
            (X_CONTENT_TYPE_OPTIONS, Value::Fixed("nosniff")),
        ],
        body,
    }
}

/// An object that a digest names: its headers say which, and ranges of it can be asked for.
fn digested(content_type: Value, digest: Value, caching: &'static str) -> Answer {
    let mut answer = registry(StatusCode::OK, content_type, caching, Body::Object);
    answer.headers.extend([(DOCKER_CONTENT_DIGEST, digest), (ETAG, digest), (ACCEPT_RANGES, Value::Fixed("bytes"))]);
    answer
}

fn error(status: StatusCode, code: ErrorCode) -> Answer {
    registry(status, Value::Fixed(JSON), NOT_AT_ALL, Body::Fixed(code.body().into()))
}

fn rule(pattern: PathPattern) -> Rule {
    use PathPattern as P;
    let manifest = Value::OfContent(Content::MediaType);
    let index = Value::Fixed("application/vnd.oci.image.index.v1+json");
    let list = || registry(StatusCode::OK, Value::Fixed(JSON), SHORTLY, Body::Object);
    let nothing_here = |status, code| (None, error(status, code));
    let not_found = StatusCode::NOT_FOUND;
    let (found, missing) = match pattern {
        // A ping is answered even by an empty tree.
        P::Ping => (None, registry(StatusCode::OK, Value::Fixed(JSON), NOT_AT_ALL, Body::Fixed("{}".into()))),
        P::Catalog => {
            let empty = Body::Fixed(r#"{"repositories":[]}"#.into());
            (Some(list()), registry(StatusCode::OK, Value::Fixed(JSON), SHORTLY, empty))
        }
        P::TagsList => (Some(list()), error(not_found, ErrorCode::NameUnknown)),
        P::ManifestByTag => {
            let found = digested(manifest, Value::OfContent(Content::Digest), SHORTLY);
            (Some(found), error(not_found, ErrorCode::ManifestUnknown))
        }
        P::ManifestByDigest => {
            let found = digested(manifest, Value::FromPath(Capture::Digest), FOR_EVER);
            (Some(found), error(not_found, ErrorCode::ManifestUnknown))
        }
        P::Blob => {
            // What a layer claims to be is text from outside, and no client reads it here.
            let anything = Value::Fixed("application/octet-stream");
            let found = digested(anything, Value::FromPath(Capture::Digest), FOR_EVER);
            (Some(found), error(not_found, ErrorCode::BlobUnknown))
        }
        P::Referrers => {
            // An unknown subject has no referrers, which is not an error: clients that see one fall back to tags, or fail.
            let empty = registry(StatusCode::OK, index, SHORTLY, Body::Fixed(EMPTY_INDEX.into()));
            (Some(registry(StatusCode::OK, index, SHORTLY, Body::Object)), empty)
        }
        P::NotAReference => nothing_here(not_found, ErrorCode::ManifestUnknown),
        P::NotABlob => nothing_here(not_found, ErrorCode::BlobUnknown),
        P::NotASubject => nothing_here(StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid),
        P::NotAName => nothing_here(not_found, ErrorCode::NameInvalid),
        P::Unknown => nothing_here(not_found, ErrorCode::Unsupported),
        P::Page => {
            let headers = vec![
                (CONTENT_TYPE, Value::OfPage),
                (CACHE_CONTROL, Value::Fixed(SHORTLY)),
                (X_CONTENT_TYPE_OPTIONS, Value::Fixed("nosniff")),
            ];
            (Some(Answer { status: StatusCode::OK, headers, body: Body::Object }), outside())
        }
        P::Outside => (None, outside()),
    };
    Rule { pattern, found, missing }
}

fn outside() -> Answer {
    let headers = vec![
        (CONTENT_TYPE, Value::Fixed("text/plain; charset=utf-8")),
        (CACHE_CONTROL, Value::Fixed(NOT_AT_ALL)),
        (X_CONTENT_TYPE_OPTIONS, Value::Fixed("nosniff")),
    ];
    Answer { status: StatusCode::NOT_FOUND, headers, body: Body::Fixed("not found\n".into()) }
}

/// What is known of an object when its headers are filled in.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The digest, from the path or from what the reference leads to.
    pub digest: Option<&'a Digest>,
    /// The media type that the reference spells.
    pub media_type: Option<&'a MediaType>,
    /// The extension of a page.
    pub extension: Option<&'a str>,
}

impl Facts<'_> {
    /// Of an object about which no header says anything.
    pub const NONE: Self = Self { digest: None, media_type: None, extension: None };

    /// Appends the value of a header. A fact that isn't known leaves it out: returns whether anything was appended.
    pub fn write(&self, name: &HeaderName, value: Value, to: &mut Vec<u8>) -> bool {
        let quoted = *name == ETAG;
        let start = to.len();
        if quoted {
            to.push(b'"');
        }
        let known = match value {
            Value::Fixed(text) => {
                to.extend_from_slice(text.as_bytes());
                true
            }
            Value::FromPath(Capture::Digest) | Value::OfContent(Content::Digest) => {
                self.digest.map(|digest| to.extend_from_slice(digest.to_string().as_bytes())).is_some()
            }
            Value::OfContent(Content::MediaType) => {
                self.media_type.map(|media_type| to.extend_from_slice(media_type.as_str().as_bytes())).is_some()
            }
            Value::OfPage => {
                let page_type = PAGE_TYPES.iter().find(|(extension, _)| Some(*extension) == self.extension);
                page_type.map(|(_, media_type)| to.extend_from_slice(media_type.as_bytes())).is_some()
            }
        };
        if quoted {
            to.push(b'"');
        }
        if !known {
            to.truncate(start);
        }
        known
    }
}

/// A tree as it is to be seen from outside.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// Where a host finds the tree: a folder, or whatever the host takes for one.
    pub root: String,
    /// Whether that is the path of a folder as it stands, in which nothing is a host's variable.
    pub root_is_literal: bool,
    /// Where a host listens, for those that are told.
    pub listen: String,
    /// Which part of a host's configuration is wanted.
    pub form: Form,
    /// Put in front of every repository's name, without rewriting the tree.
    pub name_prefix: Option<Repository>,
    /// Whether pages of other origins may read it: [`CORS`].
    pub cors: bool,
    /// Whether the tags of the survey are to be named, by a host that could do without and is faster so.
    pub pinned: bool,
    /// What the tree holds, for hosts that can't look at it.
    pub survey: Survey,
    /// Where blobs are, if not in the site.
    pub blobs_at: Option<Elsewhere>,
    /// Where manifests are, if not in the site.
    pub manifests_at: Option<Elsewhere>,
    /// What a host lets somebody have beyond what it lets everybody have.
    pub raised: Vec<Raised>,
    /// What a host starts that only runs another one.
    pub shell: Shell,
}

impl Site {
    /// The headers of an answer on this site.
    pub fn headers<'a>(&self, answer: &'a Answer) -> impl Iterator<Item = (HeaderName, Value)> + use<'a> {
        let more = self.cors.then_some(CORS).into_iter().flatten();
        answer.headers.iter().cloned().chain(more)
    }
}

/// Which part of a host's configuration is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Form {
    /// A site of its own, for the folder from which the host takes its sites.
    #[default]
    Site,
    /// The paths alone, for inside a site that is there.
    Snippet,
    /// Everything, so that the host runs from this alone, as an ordinary user.
    Standalone,
    /// A site of its own, with a script that the host runs for each request: it says what rules can't.
    Edge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_in_order() {
        for (index, pattern) in PathPattern::ALL.into_iter().enumerate() {
            assert_eq!(pattern as usize, index, "{pattern:?}");
            assert_eq!(RULES[index].pattern, pattern);
        }
    }

    #[test]
    fn every_answer_says_its_type_and_how_long_it_holds() {
        let answers = RULES.iter().flat_map(|rule| rule.found.iter().chain([&rule.missing]));
        for answer in answers.chain([&*METHOD_NOT_ALLOWED, &*BAD_REQUEST, &*UNREADABLE, &*UNAVAILABLE, &*UNREACHABLE]) {
            for name in [CONTENT_TYPE, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS] {
                let count = answer.headers.iter().filter(|(n, _)| *n == name).count();
                assert_eq!(count, 1, "{name} in {answer:?}");
            }
            if let Body::Fixed(text) = &answer.body {
                assert!(!text.contains('\''), "{text}");
                assert!(!text.contains('$'), "{text}");
            }
        }
    }

    #[test]
    fn only_what_a_digest_names_is_immutable() {
        for rule in RULES.iter() {
            let named_by_digest = matches!(rule.pattern, PathPattern::ManifestByDigest | PathPattern::Blob);
            let immutable = |answer: &Answer| answer.headers.contains(&(CACHE_CONTROL, Value::Fixed(FOR_EVER)));
            assert_eq!(rule.found.as_ref().is_some_and(immutable), named_by_digest, "{rule:?}");
            assert!(!immutable(&rule.missing), "{rule:?}");
        }
    }

    #[test]
    fn names_are_spelled_as_people_do() {
        assert_eq!(spelled(&CONTENT_TYPE), "Content-Type");
        assert_eq!(spelled(&DOCKER_CONTENT_DIGEST), "Docker-Content-Digest");
        assert_eq!(spelled(&ETAG), "ETag");
    }

    #[test]
    fn an_unknown_fact_leaves_its_header_out() {
        let mut written = Vec::new();
        assert!(!Facts::NONE.write(&ETAG, Value::OfContent(Content::Digest), &mut written));
        assert!(written.is_empty());
        let digest = crate::oci::Algorithm::Sha256.digest(b"x");
        let facts = Facts { digest: Some(&digest), ..Facts::NONE };
        assert!(facts.write(&ETAG, Value::OfContent(Content::Digest), &mut written));
        assert_eq!(String::from_utf8(written).unwrap(), format!("\"{digest}\""));
    }
}

//! What clients ask a registry.

use std::fmt;

use ::http::header::{ACCEPT, ACCEPT_ENCODING, HeaderValue, RANGE};
use ::http::{HeaderMap, Method};

use crate::http::Scope;
use crate::oci::{Algorithm, Digest, MAX_MANIFEST_SIZE, MediaType, Reference, Repository, Tag};

/// How much of a layer is read, unless all of it is wanted.
pub const SAMPLE: u64 = 64 << 10;

/// How much of an answer to `GET /v2/` is read: nobody cares what it says.
const PING_LIMIT: u64 = 64 << 10;

/// `GET` or `HEAD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// With a body.
    Get,
    /// Headers alone.
    Head,
}

/// How the wanted media types are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accept {
    /// In one line, as containerd, go-containerregistry and oras-go do.
    OneLine,
    /// A line for each, as Docker's graph store and containers/image do.
    Lines,
}

/// How the colon of a digest is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Colon {
    /// As it is: what every client sends.
    Raw,
    /// `%3A`, which some proxies make of it.
    Escaped,
}

/// One question. Two clients that ask the same share the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// `GET /v2/`
    Ping,
    /// The list of repositories.
    Catalog,
    /// The list of tags.
    Tags,
    /// A manifest.
    Manifest {
        /// The method.
        verb: Verb,
        /// Which one.
        reference: Reference,
        /// How types are listed.
        accept: Accept,
        /// How its path is written.
        colon: Colon,
    },
    /// A blob, or its bytes from one on.
    Blob {
        /// Which one.
        digest: Digest,
        /// The first byte that is wanted.
        from: Option<u64>,
    },
    /// What refers to a manifest.
    Referrers(Digest),
}

impl Question {
    /// A manifest, as clients ask for it.
    #[must_use]
    pub fn manifest(verb: Verb, reference: impl Into<Reference>, accept: Accept) -> Self {
        Self::Manifest { verb, reference: reference.into(), accept, colon: Colon::Raw }
    }

    /// A blob from its beginning.
    #[must_use]
    pub const fn blob(digest: Digest) -> Self {
        Self::Blob { digest, from: None }
    }

    /// The tag that no repository has.
    #[must_use]
    pub fn absent_tag() -> Tag {
        "roadstead-doctor-asks-for-what-is-not-there".parse().expect("that is a tag")
    }

    /// The digest of nothing that anybody keeps.
    #[must_use]
    pub fn absent_digest() -> Digest {
        Algorithm::Sha256.digest(b"roadstead doctor asks for what is not there")
    }

    /// The method.
    #[must_use]
    pub const fn method(&self) -> Method {
        match self {
            Self::Manifest { verb: Verb::Head, .. } => Method::HEAD,
            _ => Method::GET,
        }
    }

    /// The path.
    #[must_use]
    pub fn path(&self, repository: &Repository) -> String {
        match self {
            Self::Ping => "/v2/".to_owned(),
            Self::Catalog => "/v2/_catalog".to_owned(),
            Self::Tags => format!("/v2/{repository}/tags/list"),
            Self::Manifest { reference, colon, .. } => {
                let reference = reference.to_string();
                let reference = if *colon == Colon::Escaped { reference.replace(':', "%3A") } else { reference };
                format!("/v2/{repository}/manifests/{reference}")
            }
            Self::Blob { digest, .. } => format!("/v2/{repository}/blobs/{digest}"),
            Self::Referrers(digest) => format!("/v2/{repository}/referrers/{digest}"),
        }
    }

    /// The headers. Every client asks through Go's HTTP library, which offers to take answers that gzip has compressed.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        match self {
            Self::Manifest { accept, .. } => {
                let mut wanted: Vec<&str> = MANIFEST_TYPES.iter().map(MediaType::as_str).collect();
                match accept {
                    Accept::OneLine => {
                        wanted.push("*/*");
                        headers.insert(ACCEPT, value(&wanted.join(", ")));
                    }
                    Accept::Lines => wanted.iter().for_each(|one| _ = headers.append(ACCEPT, value(one))),
                }
            }
            Self::Blob { from: Some(from), .. } => _ = headers.insert(RANGE, value(&format!("bytes={from}-"))),
            Self::Referrers(_) => _ = headers.insert(ACCEPT, value(MediaType::OCI_INDEX.as_str())),
            _ => {}
        }
        if self.method() == Method::GET && !headers.contains_key(RANGE) {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers
    }

    /// What it needs to be allowed to do.
    pub(super) fn scope(&self, repository: &Repository) -> Scope {
        match self {
            Self::Ping => Scope::None,
            Self::Catalog => Scope::Catalog,
            _ => Scope::Pull(repository.clone()),
        }
    }

    /// The most bytes of an answer that are read.
    pub(super) const fn limit(&self) -> u64 {
        match self {
            Self::Ping => PING_LIMIT,
            Self::Blob { .. } => SAMPLE,
            _ => MAX_MANIFEST_SIZE,
        }
    }

    /// The algorithm that names the content.
    pub(super) const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Manifest { reference: Reference::Digest(digest), .. } | Self::Blob { digest, .. } => {
                digest.algorithm()
            }
            _ => Algorithm::Sha256,
        }
    }

    /// The same question with the wanted types in one line.
    pub(super) fn in_one_line(&self) -> Self {
        match self {
            Self::Manifest { verb, reference, colon, .. } => {
                let (reference, accept) = (reference.clone(), Accept::OneLine);
                Self::Manifest { verb: *verb, reference, accept, colon: *colon }
            }
            other => other.clone(),
        }
    }

    /// Whether it is about a blob, which may lie on another host.
    #[must_use]
    pub const fn is_blob(&self) -> bool {
        matches!(self, Self::Blob { .. })
    }
}

/// `GET the tag 1.0`: what was asked, for people.
impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ping => f.write_str("GET /v2/"),
            Self::Catalog => f.write_str("GET /v2/_catalog"),
            Self::Tags => f.write_str("GET …/tags/list"),
            Self::Manifest { reference, colon, .. } => {
                let reference = match reference {
                    Reference::Tag(tag) => tag.to_string(),
                    Reference::Digest(digest) => short(digest),
                };
                let reference = if *colon == Colon::Escaped { reference.replace(':', "%3A") } else { reference };
                write!(f, "{} …/manifests/{reference}", self.method())
            }
            Self::Blob { digest, from: None } => write!(f, "GET …/blobs/{}", short(digest)),
            Self::Blob { digest, from: Some(from) } => write!(f, "GET …/blobs/{} from byte {from}", short(digest)),
            Self::Referrers(digest) => write!(f, "GET …/referrers/{}", short(digest)),
        }
    }
}

/// A digest for people.
pub(super) fn short(digest: &Digest) -> String {
    format!("{}:{}", digest.algorithm().as_str(), digest.short())
}

/// In the order of containers/image. Docker's is that of a table of hashes: any.
static MANIFEST_TYPES: [MediaType; 5] = [
    MediaType::OCI_MANIFEST,
    MediaType::DOCKER_MANIFEST,
    MediaType::DOCKER_SCHEMA1,
    MediaType::DOCKER_LIST,
    MediaType::OCI_INDEX,
];

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("media types and numbers are header values")
}

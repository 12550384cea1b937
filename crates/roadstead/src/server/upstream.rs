//! A host in whose place we answer: it has the paths of a registry, and says nothing true about them.
//!
//! Whatever a header would say follows from the bytes: the media type and the digest of a manifest, and what a blob's path
//! promises. So every byte is judged where it can be:
//!
//! - manifests and lists of referrers whole, before anything is answered;
//! - small blobs likewise; larger ones while they pass, with the last piece held back until all are right, so that a client
//!   never sees the end of a wrong one;
//! - parts of blobs can't be judged by anybody but the client, which has the rest.
//!
//! Manifests are remembered by repository and digest, which name the same bytes for ever. Tags, lists and blobs are asked for each
//! time: how long those may be kept is for caches in front to decide, to which the answers say it.
//!
//! The host is asked as a stranger: nothing that a client sends goes there, and no credentials are ours to lend.
//!
//! Remembering blobs on a disk was the alternative. It would be a second store with a sweeper of its own, for what a copy into a
//! tree, or a cache in front, does already.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use http::header::{ACCEPT, ETAG};
use http::{HeaderValue, Method, StatusCode};
use tokio::sync::Semaphore;

use super::cache::Cache;
use super::origin::{Content, Failure, Found, FoundManifest, OVERHEAD, Want};
use crate::http::{Download, Endpoint, HttpError, Progress, Request, Response, Scope};
use crate::oci::{
    Algorithm, Digest, Hasher, Kind, MAX_MANIFEST_SIZE, Manifest, ManifestError, MediaType, Reference, Repository,
};
use crate::site::{self, Answer, DOCKER_CONTENT_DIGEST};
use crate::store::{Body, Key, StoreError, Version};
use crate::tree::keys;

/// Blobs up to this size, configs among them, are judged before they are answered.
const SMALL: u64 = 32 << 10;

/// What manifests that are being read are counted in.
const UNIT: u64 = 1 << 10;

/// All types in one line, for an upstream that is a registry after all.
static MANIFESTS: LazyLock<HeaderValue> = LazyLock::new(|| {
    let manifests = MediaType::MANIFESTS;
    let types: Vec<&str> = manifests.iter().map(MediaType::as_str).collect();
    HeaderValue::from_str(&types.join(", ")).expect("media types are visible ASCII")
});

/// An upstream that sends what it can't have meant.
#[derive(Debug, thiserror::Error)]
enum UpstreamError {
    /// Something else lies where a manifest should.
    #[error("{path} of the upstream is no manifest that can be served")]
    Manifest {
        path: String,
        #[source]
        source: ManifestError,
    },
    /// A blob is not what its path says.
    #[error("{path} of the upstream has the digest {actual}")]
    Blob { path: String, actual: Digest },
    /// A list that isn't one.
    #[error("{path} of the upstream is no list")]
    List { path: String },
    /// Only a part of a list came.
    #[error("{path} of the upstream is one page of a list: the upstream is a registry of its own, to be asked itself")]
    Page { path: String },
}

/// The content of an upstream.
pub(super) struct OfUpstream {
    endpoint: Endpoint,
    manifests: Cache<(Repository, Digest), FoundManifest>,
    /// What manifests may take while they are read, in units.
    reading: Semaphore,
    units: u32,
    told_of_denial: AtomicBool,
}

impl OfUpstream {
    /// At most `memory` bytes of manifests are remembered, and as many being read.
    pub(super) fn new(endpoint: Endpoint, memory: usize) -> Self {
        let units = u32::try_from((memory as u64).max(MAX_MANIFEST_SIZE) / UNIT + 1).unwrap_or(u32::MAX);
        let (manifests, reading) = (Cache::new(memory), Semaphore::new(units as usize));
        Self { endpoint, manifests, reading, units, told_of_denial: AtomicBool::new(false) }
    }

    /// The answer to a request, `None` if it says that nothing is there.
    async fn ask(&self, request: &Request) -> Result<Option<Response>, HttpError> {
        let response = self.endpoint.send(request).await?;
        if response.status().is_success() {
            return Ok(Some(response));
        }
        let error = response.into_error().await;
        if self.is_missing(&error) { Ok(None) } else { Err(error) }
    }

    /// Whether an answer says that nothing is there. A bucket that lets nobody list it says 403; since that may also be the
    /// answer to everything, it is told once.
    fn is_missing(&self, error: &HttpError) -> bool {
        let HttpError::Status { status, .. } = error else { return false };
        if *status == StatusCode::FORBIDDEN && !self.told_of_denial.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "what the upstream denies is taken for missing");
        }
        [StatusCode::NOT_FOUND, StatusCode::GONE, StatusCode::FORBIDDEN].contains(status)
    }

    /// A manifest-sized answer, whole, counted against what may be read at a time.
    async fn read(&self, response: Response) -> Result<Bytes, HttpError> {
        let size = response.content_length().unwrap_or(MAX_MANIFEST_SIZE).min(MAX_MANIFEST_SIZE);
        let units = u32::try_from(size / UNIT + 1).unwrap_or(u32::MAX).min(self.units);
        // It is never closed.
        let _permit = self.reading.acquire_many(units).await.ok();
        response.bytes(MAX_MANIFEST_SIZE).await
    }

    /// A list as it comes, if it begins like one.
    async fn list(&self, key: &Key, scope: Scope) -> Result<Option<Found>, Failure> {
        let path = format!("/{key}");
        let Some(response) = self.ask(&Request::new(Method::GET, &*path, scope)).await? else { return Ok(None) };
        if !matches!(self.endpoint.next_page(&response), Ok(None)) {
            return Err(UpstreamError::Page { path }.into());
        }
        let mut found = found(response, key);
        let Body::Stream(mut stream) = found.body else { return Ok(None) };
        let mut begun = BytesMut::new();
        while begun.trim_ascii_start().is_empty() {
            match stream.try_next().await? {
                Some(piece) if begun.len() < SMALL as usize => begun.extend_from_slice(&piece),
                _ => return Err(UpstreamError::List { path }.into()),
            }
        }
        if !begun.trim_ascii_start().starts_with(b"{") {
            return if is_page(&begun) { Ok(None) } else { Err(UpstreamError::List { path }.into()) };
        }
        found.body = Body::Stream(stream::iter([Ok(begun.freeze())]).chain(stream).boxed());
        Ok(Some(found))
    }
}

#[async_trait]
impl Content for OfUpstream {
    async fn manifest(&self, repository: &Repository, reference: &Reference) -> Result<Option<FoundManifest>, Failure> {
        if let Reference::Digest(digest) = reference
            && let Some(known) = self.manifests.get(&(repository.clone(), *digest))
        {
            return Ok(Some(known));
        }
        let path = format!("/{}", keys::manifest(repository, reference));
        let request = Request::new(Method::GET, &*path, Scope::Pull(repository.clone()));
        let request = request.header(ACCEPT, MANIFESTS.clone());
        let Some(response) = self.ask(&request).await? else { return Ok(None) };
        let expected = match reference {
            Reference::Digest(digest) => Some(*digest),
            // If it is known: else nothing says that a tag stands for a digest other than SHA-256's.
            Reference::Tag(_) => response.header(DOCKER_CONTENT_DIGEST).and_then(|digest| digest.trim().parse().ok()),
        };
        let bytes = self.read(response).await?;
        let algorithm = expected.map_or(Algorithm::Sha256, |digest: Digest| digest.algorithm());
        let manifest = match Manifest::parse(bytes.clone(), algorithm) {
            Ok(manifest) => manifest,
            // A host for applications of one page answers with that page where nothing is.
            Err(_) if is_page(&bytes) => return Ok(None),
            Err(source) => return Err(UpstreamError::Manifest { path, source }.into()),
        };
        if let Some(expected) = expected.filter(|expected| expected != manifest.digest()) {
            let source = ManifestError::Digest { expected, actual: *manifest.digest() };
            return Err(UpstreamError::Manifest { path, source }.into());
        }
        let (digest, media_type) = (*manifest.digest(), manifest.media_type().clone());
        let found = FoundManifest { media_type, digest, bytes };
        let weight = found.bytes.len() + repository.as_str().len() + OVERHEAD;
        self.manifests.insert((repository.clone(), digest), found.clone(), weight);
        Ok(Some(found))
    }

    async fn blob(&self, repository: &Repository, digest: &Digest, want: Want) -> Result<Option<Found>, Failure> {
        let path = format!("/{}", keys::blob(repository, digest));
        let request = |method| Request::new(method, &*path, Scope::Pull(repository.clone()));
        if want == Want::Size {
            let response = match self.ask(&request(Method::HEAD)).await {
                // What is wrong may be HEAD.
                Err(error) if error.status().is_some_and(|status| status.is_client_error() || status == 501) => {
                    self.ask(&request(Method::GET)).await
                }
                said => said,
            };
            return Ok(response?.map(|response| Found {
                size: response.content_length(),
                version: None,
                body: Body::Bytes(Bytes::new()),
            }));
        }
        let offset = if let Want::Part(range) = &want { range.start } else { 0 };
        let progress = Progress { offset, size: None };
        let download = match Download::start(&self.endpoint, request(Method::GET), progress).await {
            Ok(download) => download,
            Err(error) if self.is_missing(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let size = download.progress().size;
        let body = match want {
            Want::Part(range) => part(download, range.end - range.start, path),
            _ => {
                let passing = Passing {
                    download,
                    hasher: digest.algorithm().hasher(),
                    held: Bytes::new(),
                    digest: *digest,
                    path,
                };
                if size.is_some_and(|size| size <= SMALL) {
                    match passing.whole().await {
                        Ok(bytes) => Body::Bytes(bytes),
                        Err(Judged::Page) => return Ok(None),
                        Err(Judged::Failed(failure)) => return Err(failure),
                    }
                } else {
                    passing.into_body()
                }
            }
        };
        Ok(Some(Found { size, version: None, body }))
    }

    async fn tags_list(&self, repository: &Repository) -> Result<Option<Found>, Failure> {
        self.list(&keys::tags_list(repository), Scope::Pull(repository.clone())).await
    }

    async fn catalog(&self) -> Result<Option<Found>, Failure> {
        self.list(&keys::catalog(), Scope::Catalog).await
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Option<Found>, Failure> {
        let path = format!("/{}", keys::referrers(repository, subject));
        let request = Request::new(Method::GET, &*path, Scope::Pull(repository.clone()));
        let Some(response) = self.ask(&request).await? else { return Ok(None) };
        let bytes = self.read(response).await?;
        match Manifest::parse(bytes.clone(), Algorithm::Sha256) {
            Ok(list) if list.kind() == Kind::Index => {
                Ok(Some(Found { size: Some(bytes.len() as u64), version: None, body: Body::Bytes(bytes) }))
            }
            Err(_) if is_page(&bytes) => Ok(None),
            _ => Err(UpstreamError::List { path }.into()),
        }
    }

    async fn page(&self, key: &Key) -> Result<Option<Found>, Failure> {
        let request = Request::new(Method::GET, format!("/{key}"), Scope::None);
        Ok(self.ask(&request).await?.map(|response| found(response, key)))
    }

    fn silence(&self) -> (&'static Answer, &'static str) {
        (&site::UNREACHABLE, "the upstream gives no answer that can be served")
    }
}

/// Whether this is a page for people. What is sent as the type of what isn't known is no evidence, in either direction.
fn is_page(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    text.trim_ascii_start().starts_with(b"<")
}

fn reading(path: String, source: Failure) -> StoreError {
    StoreError::Io { operation: "reading", what: path, source }
}

/// An object as it comes.
fn found(response: Response, key: &Key) -> Found {
    // Only a strong tag changes with every byte.
    let version = response.header(ETAG).filter(|tag| tag.starts_with('"')).map(|tag| Version(tag.into()));
    let (size, path) = (response.content_length(), format!("/{key}"));
    let bytes = response.into_stream().map_err(move |error| reading(path.clone(), error.into()));
    Found { size, version, body: Body::Stream(bytes.boxed()) }
}

/// So many bytes of a download, and no request for more.
fn part(download: Download, length: u64, path: String) -> Body {
    let state = (download, length, path);
    let bytes = stream::try_unfold(state, |(mut download, left, path)| async move {
        if left == 0 {
            return Ok(None);
        }
        match download.chunk().await {
            Ok(Some(mut piece)) => {
                piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - piece.len() as u64;
                Ok(Some((piece, (download, left, path))))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                tracing::error!(path, error = &error as &(dyn std::error::Error + 'static), "the upstream breaks off");
                Err(reading(path, error.into()))
            }
        }
    });
    Body::Stream(bytes.boxed())
}

/// A blob on its way, of which the last piece is held back until all are known to be right.
struct Passing {
    download: Download,
    hasher: Hasher,
    held: Bytes,
    digest: Digest,
    path: String,
}

/// Why a small blob isn't served.
enum Judged {
    /// It is a page where nothing is.
    Page,
    Failed(Failure),
}

impl Passing {
    /// The next piece and what follows, `None` after the last if all were right.
    async fn next(mut self) -> Result<Option<(Bytes, Option<Self>)>, Failure> {
        loop {
            match self.download.chunk().await? {
                Some(piece) => {
                    self.hasher.update(&piece);
                    let ready = std::mem::replace(&mut self.held, piece);
                    if !ready.is_empty() {
                        return Ok(Some((ready, Some(self))));
                    }
                }
                None => {
                    let actual = self.hasher.finish();
                    if actual != self.digest {
                        return Err(UpstreamError::Blob { path: self.path, actual }.into());
                    }
                    return Ok((!self.held.is_empty()).then_some((self.held, None)));
                }
            }
        }
    }

    /// All of it, in memory.
    async fn whole(mut self) -> Result<Bytes, Judged> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.download.chunk().await.map_err(|error| Judged::Failed(error.into()))? {
            whole.extend_from_slice(&piece);
            // The upstream said that it was small; were it believed to go on for ever, so would this.
            if whole.len() as u64 > SMALL {
                break;
            }
        }
        let actual = self.digest.algorithm().digest(&whole);
        match actual == self.digest {
            true => Ok(whole.freeze()),
            false if is_page(&whole) => Err(Judged::Page),
            false => Err(Judged::Failed(UpstreamError::Blob { path: self.path, actual }.into())),
        }
    }

    fn into_body(self) -> Body {
        let bytes: BoxStream<'static, Result<Bytes, StoreError>> = stream::try_unfold(Some(self), |passing| async {
            let Some(passing) = passing else { return Ok(None) };
            let path = passing.path.clone();
            passing.next().await.map_err(|failure| {
                let cause: &(dyn std::error::Error + 'static) = &*failure;
                tracing::error!(path, error = cause, "a blob of the upstream is cut off");
                reading(path, failure)
            })
        })
        .boxed();
        Body::Stream(bytes)
    }
}

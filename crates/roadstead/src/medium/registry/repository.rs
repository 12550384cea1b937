//! One repository of a registry: manifests and blobs.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use ::http::header::{ACCEPT, HeaderName};
use ::http::{HeaderValue, Method, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::fault::is_mended_elsewhere;
use super::{Places, fault, lists, referrers};
use crate::http::{Download, Endpoint, HttpError, Progress, Request, Response, Scope};
use crate::image::{ByteStream, RepositorySource, SourceError};
use crate::oci::{
    Algorithm, Descriptor, Digest, MAX_MANIFEST_SIZE, Manifest, ManifestError, MediaType, Reference, Repository, Tag,
};

/// The digest of what is served, as the registry sees it.
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// All types in one line: some servers read only the first `Accept` line of several.
static ACCEPT_MANIFESTS: LazyLock<HeaderValue> = LazyLock::new(|| {
    let manifests = MediaType::MANIFESTS;
    let types: Vec<&str> = manifests.iter().map(MediaType::as_str).collect();
    HeaderValue::from_str(&types.join(", ")).expect("media types are visible ASCII")
});

/// How many manifests are kept that came although only their names were wanted.
const KEPT: usize = 16;

/// A repository in whichever place has it.
#[derive(Debug, Clone)]
pub(super) struct RegistryRepository {
    places: Arc<Places>,
    name: Repository,
    /// With what right it is asked: whoever pushes has a token for that, and needs no second one.
    scope: Scope,
    /// Manifests that a place handed over where it could not merely name them. Each is given out once.
    kept: Arc<Mutex<VecDeque<Manifest>>>,
}

impl RegistryRepository {
    pub(super) fn new(places: Arc<Places>, name: Repository, scope: Scope) -> Self {
        Self { places, name, scope, kept: Arc::default() }
    }

    /// Keeps a manifest for whoever asks for it next.
    pub(super) fn keep(&self, manifest: Manifest) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(manifest);
    }

    fn take_kept(&self, digest: &Digest) -> Option<Manifest> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|manifest| manifest.digest() == digest)?;
        kept.remove(at)
    }

    fn describe_digest(&self, digest: &Digest) -> String {
        self.describe(&Reference::Digest(*digest))
    }

    async fn resolve_at(&self, place: &Endpoint, reference: &Reference) -> Result<Descriptor, SourceError> {
        let what = || self.describe(reference);
        let failed = |error| fault::of(place.registry(), what(), error);
        let request = manifest_request(Method::HEAD, &self.name, &self.scope, reference);
        let response = place.send(&request).await.map_err(failed)?;
        self.resolved(place, reference, response).await
    }

    /// What an answer to a HEAD names, after a GET if it doesn't say.
    async fn resolved(
        &self,
        place: &Endpoint,
        reference: &Reference,
        response: Response,
    ) -> Result<Descriptor, SourceError> {
        let what = || self.describe(reference);
        let failed = |error| fault::of(place.registry(), what(), error);
        let status = response.status();
        if status.is_success() {
            if let Some(named) = named(&response, reference).map_err(failed)? {
                return Ok(named);
            }
        } else if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Err(failed(response.into_error().await));
        }
        // Whatever else a HEAD says may be about HEAD alone, and comes without the registry's explanation: a GET has both.
        let manifest = fetch_manifest(place, &self.name, &self.scope, reference, what).await?;
        let descriptor = manifest.descriptor();
        self.keep(manifest);
        Ok(descriptor)
    }

    async fn blob_at(&self, place: &Endpoint, expected: &Descriptor, from: u64) -> Result<ByteStream, SourceError> {
        let what = format!("{}{}: blob {}", self.places.shown, self.name, expected.digest);
        let path = format!("/v2/{}/blobs/{}", self.name, expected.digest);
        let request = Request::new(Method::GET, path, self.scope.clone());
        let progress = Progress { offset: from, size: expected.size };
        let registry = place.registry().clone();
        let download = Download::start(place, request, progress).await.map_err(|e| fault::of(&registry, &what, e))?;
        if let Some(response) = download.response()
            && response.is_html()
            && response.content_length().is_none_or(|length| Some(length) != expected.size.map(|size| size - from))
        {
            return Err(fault::of(&registry, what, response.invalid("an HTML page came instead of the blob")));
        }
        Ok(download.into_stream().map_err(move |error| fault::of(&registry, &what, error)).boxed())
    }
}

#[async_trait]
impl RepositorySource for RegistryRepository {
    fn describe(&self, reference: &Reference) -> String {
        let place = &self.places.shown;
        match reference {
            Reference::Tag(tag) => format!("{place}{}:{tag}", self.name),
            Reference::Digest(digest) => format!("{place}{}@{digest}", self.name),
        }
    }

    async fn resolve(&self, reference: &Reference) -> Result<Descriptor, SourceError> {
        self.places.ask(|place| self.resolve_at(place, reference)).await
    }

    async fn look_up(&self, tag: &Tag) -> Result<Option<Descriptor>, SourceError> {
        let reference = Reference::Tag(tag.clone());
        let asked = self.places.ask(|place| async {
            let request = manifest_request(Method::HEAD, &self.name, &self.scope, &reference);
            let response = place.send(&request).await;
            let response = response.map_err(|e| fault::of(place.registry(), self.describe(&reference), e))?;
            // Nobody will read why: a GET after it would double the cost of what is absent as a rule.
            if response.status() == StatusCode::NOT_FOUND {
                return Err(SourceError::NotFound { what: self.describe(&reference), source: None });
            }
            self.resolved(place, &reference, response).await
        });
        match asked.await {
            Err(SourceError::NotFound { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    async fn manifest(&self, expected: &Descriptor) -> Result<Manifest, SourceError> {
        let what = || self.describe_digest(&expected.digest);
        let verified = |manifest: Manifest| {
            Manifest::verify(manifest.bytes().clone(), expected)
                .map_err(|source| SourceError::Manifest { what: what(), source: Box::new(source) })
        };
        if let Some(kept) = self.take_kept(&expected.digest) {
            return verified(kept);
        }
        let reference = Reference::Digest(expected.digest);
        let manifest =
            self.places.ask(|place| fetch_manifest(place, &self.name, &self.scope, &reference, what)).await?;
        verified(manifest)
    }

    async fn blob(&self, expected: &Descriptor, from: u64) -> Result<ByteStream, SourceError> {
        let asked = self.places.ask(async |place| Ok((place, self.blob_at(place, expected, from).await?))).await;
        let (place, bytes) = asked?;
        if std::ptr::eq(place, &self.places.upstream) {
            return Ok(bytes);
        }
        let rest = Rest { repository: self.clone(), expected: expected.clone(), bytes, offset: from, at_mirror: true };
        Ok(stream::try_unfold(rest, Rest::next).boxed())
    }

    fn tags(&self) -> BoxStream<'_, Result<Tag, SourceError>> {
        lists::tags(&self.places, &self.name)
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, SourceError> {
        // Many mirrors know neither the API nor, being asked for what they haven't got, the tag: that one lists nothing says
        // nothing about the registry.
        for mirror in &self.places.mirrors {
            match referrers::of(mirror, &self.name, subject).await {
                Ok(found) if found.is_empty() => {}
                Err(error) if is_mended_elsewhere(&error) => {}
                said => return said,
            }
        }
        referrers::of(&self.places.upstream, &self.name, subject).await
    }
}

/// A blob that comes from a mirror. If that breaks off, the registry itself gives the rest: the digest is the same.
struct Rest {
    repository: RegistryRepository,
    expected: Descriptor,
    bytes: ByteStream,
    offset: u64,
    at_mirror: bool,
}

impl Rest {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, SourceError> {
        loop {
            match self.bytes.try_next().await {
                Ok(None) => return Ok(None),
                Ok(Some(chunk)) => {
                    self.offset += chunk.len() as u64;
                    return Ok(Some((chunk, self)));
                }
                Err(error) if self.at_mirror && is_mended_elsewhere(&error) => {
                    tracing::debug!(%error, offset = self.offset, "the registry itself gives the rest");
                    let upstream = &self.repository.places.upstream;
                    self.bytes = self.repository.blob_at(upstream, &self.expected, self.offset).await?;
                    self.at_mirror = false;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn manifest_request(method: Method, name: &Repository, scope: &Scope, reference: &Reference) -> Request {
    let path = format!("/v2/{name}/manifests/{reference}");
    Request::new(method, path, scope.clone()).header(ACCEPT, ACCEPT_MANIFESTS.clone())
}

/// `Docker-Content-Digest`, if it is a digest that can be verified.
pub(super) fn content_digest(response: &Response) -> Option<Digest> {
    response.header(DOCKER_CONTENT_DIGEST)?.trim().parse().ok()
}

/// What the answer to a HEAD names, if it says enough to do without the manifest.
fn named(response: &Response, reference: &Reference) -> Result<Option<Descriptor>, HttpError> {
    let Some(digest) = content_digest(response) else {
        return Ok(None);
    };
    // A proxy may answer with a length of zero in place of the manifest's.
    let size = response.content_length().filter(|size| *size > 0 && *size <= MAX_MANIFEST_SIZE);
    let media_type = response.content_type().and_then(|text| text.parse::<MediaType>().ok());
    let (Some(size), Some(media_type)) = (size, media_type.filter(MediaType::is_manifest)) else {
        return Ok(None);
    };
    match reference {
        Reference::Digest(asked) if asked.algorithm() == digest.algorithm() && *asked != digest => {
            Err(response.invalid(format!("it names {digest} when asked for {asked}")))
        }
        Reference::Digest(asked) => Ok(Some(Descriptor::new(media_type.as_str(), *asked, size))),
        Reference::Tag(_) => Ok(Some(Descriptor::new(media_type.as_str(), digest, size))),
    }
}

/// Gets a manifest and checks it against the digest that was asked for, or against the one that the registry gives.
pub(super) async fn fetch_manifest(
    place: &Endpoint,
    name: &Repository,
    scope: &Scope,
    reference: &Reference,
    what: impl Fn() -> String,
) -> Result<Manifest, SourceError> {
    let failed = |error| fault::of(place.registry(), what(), error);
    let request = manifest_request(Method::GET, name, scope, reference);
    let response = place.expect_success(&request).await.map_err(failed)?;
    let expected = match reference {
        Reference::Digest(digest) => Some(*digest),
        Reference::Tag(_) => content_digest(&response),
    };
    let bytes = response.bytes(MAX_MANIFEST_SIZE).await.map_err(failed)?;
    let unusable = |source: ManifestError| SourceError::Manifest { what: what(), source: Box::new(source) };
    let algorithm = expected.map_or(Algorithm::Sha256, |digest| digest.algorithm());
    let manifest = Manifest::parse(bytes, algorithm).map_err(unusable)?;
    match expected {
        Some(expected) if expected != *manifest.digest() => {
            Err(unusable(ManifestError::Digest { expected, actual: *manifest.digest() }))
        }
        _ => Ok(manifest),
    }
}

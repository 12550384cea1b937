//! Pushing to a registry.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderValue, Method};
use async_trait::async_trait;
use bytes::Bytes;

use super::Places;
use super::repository::{RegistryRepository, content_digest, fetch_manifest};
use super::upload::{Mounted, Session, Uploads, WINDOW};
use crate::http::{Endpoint, Request, Response};
use crate::image::{
    ByteStream, Checked, Claim, PutError, RepositorySink, RepositorySource, Sink, SinkError, SourceError,
};
use crate::oci::{Algorithm, Descriptor, Digest, ErrorCode, Kind, Manifest, Reference, Referrers, Repository, Tag};

/// How often a manifest is sent anew to a registry that doesn't know the manifest's blobs.
const MAX_LAG: u32 = 2;

/// How many repositories are asked for a blob before its bytes are sent.
const MAX_MOUNTS: usize = 3;

/// A registry that images are pushed to.
#[derive(Debug, Clone)]
pub struct RegistrySink {
    place: Endpoint,
    mount_from: Vec<Repository>,
    /// A repository for each blob that this run has found or put somewhere.
    held: Arc<Mutex<HashMap<Digest, Repository>>>,
}

impl RegistrySink {
    /// The registry behind `endpoint`.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { place: endpoint, mount_from: Vec::new(), held: Arc::default() }
    }

    /// The same sink, which asks for blobs of that repository before it sends any: that of the source, if it is on the
    /// same registry.
    #[must_use]
    pub fn mount_from(mut self, repository: Repository) -> Self {
        self.mount_from.push(repository);
        self
    }
}

#[async_trait]
impl Sink for RegistrySink {
    async fn repository(&self, name: &Repository) -> Result<Box<dyn RepositorySink>, SinkError> {
        let uploads = Uploads { place: self.place.clone(), name: name.clone() };
        let places = Arc::new(Places::new(self.place.clone(), Vec::new()));
        let reader = RegistryRepository::new(places, name.clone(), uploads.scope());
        Ok(Box::new(RegistryRepositorySink {
            sink: self.clone(),
            uploads,
            reader,
            sessions: Mutex::default(),
            found: Mutex::default(),
            referring: tokio::sync::Mutex::default(),
        }))
    }
}

/// A session that the next attempt to put a blob goes on with.
struct Waiting {
    session: Session,
    /// Whether bytes were sent there before; else the registry offered it when a blob couldn't be mounted.
    interrupted: bool,
}

/// One repository of a registry, to push to.
struct RegistryRepositorySink {
    sink: RegistrySink,
    uploads: Uploads,
    reader: RegistryRepository,
    sessions: Mutex<HashMap<Digest, Waiting>>,
    /// Manifests that the registry had before they were put.
    found: Mutex<HashSet<Digest>>,
    /// Lists of referrers are read, changed and written back by one task at a time.
    referring: tokio::sync::Mutex<()>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RegistryRepositorySink {
    fn name(&self) -> &Repository {
        &self.uploads.name
    }

    fn remember(&self, digest: Digest) {
        held(&self.sink.held).entry(digest).or_insert_with(|| self.name().clone());
    }

    fn wait(&self, digest: Digest, session: Session, interrupted: bool) {
        held(&self.sessions).insert(digest, Waiting { session, interrupted });
    }

    /// Whether the registry gives this repository a blob of another one.
    async fn mount(&self, digest: &Digest) -> bool {
        let known = held(&self.sink.held).get(digest).cloned();
        let others = known.iter().chain(&self.sink.mount_from).filter(|other| *other != self.name());
        for other in others.take(MAX_MOUNTS) {
            match self.uploads.mount(digest, other).await {
                Ok(Mounted::Done) => return true,
                Ok(Mounted::Refused(session)) => self.wait(*digest, session, false),
                // It was worth a question. Whether the bytes may be sent shows when they are.
                Err(error) => tracing::debug!(%error, %other, "a blob can't be mounted"),
            }
        }
        false
    }

    /// Sends a blob whole, or in parts.
    async fn upload(
        &self,
        expected: Option<&Descriptor>,
        waiting: Option<Waiting>,
        mut checked: Checked,
    ) -> Result<(Digest, u64), PutError> {
        let failed = |error| PutError::Sink(self.uploads.failed(expected.map(|blob| &blob.digest), error));
        let interrupted = waiting.as_ref().is_some_and(|waiting| waiting.interrupted);
        let session = waiting.map(|waiting| waiting.session);
        let begun = checked.fill(Bytes::new(), WINDOW + 1).await?;
        match &begun {
            (bytes, true) if !interrupted => {
                let (digest, size) = checked.named().expect("the end came, so the blob has a name");
                let blob = Descriptor::new("", digest, size);
                self.uploads.send_whole(session, &blob, bytes).await.map_err(failed)?;
            }
            _ => self.uploads.send_parts(session, begun, &mut checked).await?,
        }
        let named = checked.named().expect("the end came, so the blob has a name");
        self.remember(named.0);
        Ok(named)
    }

    async fn send_manifest(&self, manifest: &Manifest, reference: &Reference) -> Result<Response, SinkError> {
        let failed = |error| SinkError::new(&self.reader.describe(reference), error);
        let media_type = HeaderValue::from_str(manifest.media_type().as_str()).expect("media types are visible ASCII");
        let path = format!("/v2/{}/manifests/{reference}", self.name());
        let request = Request::new(Method::PUT, path, self.uploads.scope())
            .header(CONTENT_TYPE, media_type)
            .body(manifest.bytes().clone());
        let (place, mut failures) = (&self.uploads.place, 0);
        let response = loop {
            match place.expect_success(&request).await {
                // The blobs are there: it has just said so. Some registries know it everywhere only a moment later.
                Err(error)
                    if error.says(ErrorCode::ManifestBlobUnknown)
                        && failures < MAX_LAG
                        && place.pause(&mut failures).await => {}
                sent => break sent.map_err(failed)?,
            }
        };
        match content_digest(&response) {
            Some(other) if other.algorithm() == manifest.digest().algorithm() && other != *manifest.digest() => {
                Err(failed(response.invalid(format!("it took {} for {other}", manifest.digest()))))
            }
            _ => Ok(response),
        }
    }

    /// Adds a manifest to the tag that lists what refers to `subject`, where a registry keeps no such list itself.
    ///
    /// Source: distribution specification, "Referrers Tag Schema". Two programs that do this at the same time may lose one of
    /// their changes; the specification knows no remedy.
    async fn refer(&self, manifest: &Manifest, subject: &Digest) -> Result<(), SinkError> {
        let _alone = self.referring.lock().await;
        let reference = Reference::Tag(Tag::referrers_fallback(subject));
        let what = self.reader.describe(&reference);
        let place = &self.uploads.place;
        let listed = fetch_manifest(place, self.name(), &self.uploads.scope(), &reference, || what.clone()).await;
        let mut referrers = match listed {
            Ok(index) if index.kind() == Kind::Index => {
                Referrers::parse(index.bytes()).map_err(|error| SinkError::new(&what, error))?
            }
            Ok(_) => return Err(SinkError::new(&what, "it names something that is no list of referrers")),
            Err(SourceError::NotFound { .. }) => Referrers::default(),
            Err(error) => return Err(SinkError::new(&what, error)),
        };
        if referrers.add(manifest) {
            let index = Manifest::parse(referrers.to_bytes(), Algorithm::Sha256);
            self.send_manifest(&index.map_err(|error| SinkError::new(&what, error))?, &reference).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl RepositorySink for RegistryRepositorySink {
    async fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, SinkError> {
        let expected = Descriptor { size: None, ..Descriptor::new("", *digest, 0) };
        match self.reader.manifest(&expected).await {
            Ok(manifest) => {
                self.reader.keep(manifest.clone());
                held(&self.found).insert(*digest);
                Ok(Some(manifest))
            }
            // What is damaged there is sent again.
            Err(SourceError::NotFound { .. } | SourceError::Manifest { .. }) => Ok(None),
            Err(error) => Err(SinkError::new(&self.reader.describe(&Reference::Digest(*digest)), error)),
        }
    }

    /// Nothing: the source is as near as the registry.
    async fn small_blob(&self, _: &Descriptor) -> Result<Option<Bytes>, SinkError> {
        Ok(None)
    }

    async fn claim(&self, blob: &Descriptor) -> Result<Claim, SinkError> {
        let claim =
            match self.uploads.has(blob).await.map_err(|error| self.uploads.failed(Some(&blob.digest), error))? {
                true => Claim::Present,
                false if self.mount(&blob.digest).await => Claim::Linked,
                false => return Ok(Claim::Missing),
            };
        self.remember(blob.digest);
        Ok(claim)
    }

    async fn put_blob(&self, expected: &Descriptor, bytes: ByteStream) -> Result<(), PutError> {
        let failed = |error| PutError::Sink(self.uploads.failed(Some(&expected.digest), error));
        let checked = Checked::expecting(expected, bytes);
        let waiting = held(&self.sessions).remove(&expected.digest);
        let interrupted = waiting.as_ref().is_some_and(|waiting| waiting.interrupted);
        // Perhaps only the answer was lost.
        if interrupted && self.uploads.has(expected).await.map_err(failed)? {
            self.remember(expected.digest);
            return Ok(());
        }
        if interrupted || expected.size.is_none_or(|size| size <= WINDOW as u64) {
            return self.upload(Some(expected), waiting, checked).await.map(drop);
        }
        let session = match waiting {
            Some(offered) => offered.session,
            None => self.uploads.begin().await.map_err(failed)?,
        };
        let sent = self.uploads.send_stream(&session, expected, checked).await;
        match &sent {
            Ok(()) => self.remember(expected.digest),
            Err(PutError::Interrupted(_)) => self.wait(expected.digest, session, true),
            Err(_) => {}
        }
        sent
    }

    async fn add_blob(&self, algorithm: Algorithm, bytes: ByteStream) -> Result<(Digest, u64), PutError> {
        self.upload(None, None, Checked::naming(algorithm, bytes)).await
    }

    async fn put_manifest(&self, manifest: &Manifest) -> Result<(), SinkError> {
        let known = held(&self.found).contains(manifest.digest());
        let Some(subject) = manifest.subject() else {
            if !known {
                self.send_manifest(manifest, &Reference::Digest(*manifest.digest())).await?;
                self.reader.keep(manifest.clone());
            }
            return Ok(());
        };
        // Whoever sent it first may have been killed before it was listed.
        let response = self.send_manifest(manifest, &Reference::Digest(*manifest.digest())).await?;
        self.reader.keep(manifest.clone());
        if response.header("oci-subject").is_some() {
            return Ok(());
        }
        self.refer(manifest, &subject.digest).await
    }

    /// Nothing: a registry has no place for such a note, and may refuse an index without its children.
    async fn leave_out(&self, _: &Digest, _: &[Digest]) -> Result<(), SinkError> {
        Ok(())
    }

    /// Nothing: what a registry has accepted is visible.
    async fn commit(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn tag(&self, tag: &Tag, manifest: &Descriptor) -> Result<bool, SinkError> {
        let reference = Reference::Tag(tag.clone());
        let failed = |error: SourceError| SinkError::new(&self.reader.describe(&reference), error);
        match self.reader.resolve(&reference).await {
            Ok(named) if named.digest == manifest.digest => return Ok(false),
            Ok(_) | Err(SourceError::NotFound { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        let manifest = self.reader.manifest(manifest).await.map_err(failed)?;
        self.send_manifest(&manifest, &reference).await?;
        self.reader.keep(manifest);
        Ok(true)
    }

    /// Nothing: a registry keeps its lists itself.
    async fn finish(&self) -> Result<(), SinkError> {
        Ok(())
    }
}

//! The write side of the distribution API: from a request to what is done to the tree, and its answer.
//!
//! A push is a copy whose source is an HTTP client: what arrives is hashed while it is written where it will stay, gets its name
//! only if its digest is right, and is acknowledged when it is durable and visible.
//!
//! Every request is answered by a task of its own, so that a client that goes away stops nothing halfway.
//!
//! Source: distribution specification, *Push* and *Content Management*.

mod answer;
mod holders;
mod manifests;
mod rights;
mod uploads;

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::header::{HeaderName, HeaderValue, LOCATION, RANGE};
use http::{Method, StatusCode};
use tokio::sync::Semaphore;

use self::answer::{Problem, headers, success};
use self::holders::Holders;
pub(super) use self::uploads::shown;
use self::uploads::{Now, Open, Uploads};
use super::auth::{Right, Running, Session};
use super::lists::{value, values};
use super::pull::Response;
use crate::oci::{Algorithm, Digest, DigestError, ErrorCode, MAX_BLOB_SIZE, Reference, Repository};
use crate::site::{self, DOCKER_CONTENT_DIGEST, Path};
use crate::store::{LocalStore, SessionId, Store, StoreError, Upload};
use crate::tree::{Tree, TreeError};

/// What clients may do, and take, when they push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushOptions {
    /// Whether tags, manifests and blobs may be deleted.
    pub delete: bool,
    /// How long an upload may lie still before it is given up.
    pub upload_ttl: Duration,
    /// How many requests may bring content at a time. Those beyond are told to come again.
    pub max_running: usize,
    /// How many of them may be one client's: one user's, or for those without a name, one address's. A server that asks
    /// nobody who they are takes all for one.
    pub max_running_per_client: usize,
    /// The most bytes of a blob.
    pub max_blob_size: u64,
    /// How many uploads may be open at a time.
    pub max_uploads: usize,
    /// A folder on this machine where content waits until its digest is known, for a tree in a bucket. Without it
    /// content waits in the tree's own store, which has to [keep uploads](crate::store::Store::begin_session) if they
    /// are to outlive the server.
    pub spool: Option<PathBuf>,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self {
            delete: false,
            upload_ttl: Duration::from_hours(1),
            max_running: 512,
            max_running_per_client: usize::MAX,
            max_blob_size: MAX_BLOB_SIZE,
            max_uploads: 4096,
            spool: None,
        }
    }
}

/// The most tags that one request may name.
const MAX_TAGS: usize = 64;

/// How much of a refused request's content is read, so that the client gets to see the answer.
const MAX_DRAIN: u64 = 8 << 20;

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// The content of a request.
pub(super) type Content = BoxStream<'static, Result<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

/// A request, as far as a push depends on it.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) content_range: Option<String>,
    pub(super) content_length: Option<u64>,
}

/// What a request is about.
enum Target {
    /// The uploads of a repository.
    Uploads(Repository),
    /// One of them, by what is to be its identifier.
    Upload(Repository, String),
    Manifest(Repository, Reference),
    Blob(Repository, Digest),
}

/// Takes pushes into a tree. Clones share everything.
#[derive(Clone)]
pub(super) struct Push(Arc<Inner>);

struct Inner {
    tree: Tree,
    name_prefix: Option<Repository>,
    options: PushOptions,
    uploads: Uploads,
    /// Whether uploads are not where their blobs will be.
    is_spooled: bool,
    /// Who holds blobs of which nothing else says that.
    holders: Holders,
    running: Semaphore,
    by_client: Running,
}

impl Push {
    /// # Errors
    ///
    /// If what is pushed can't be written.
    pub(super) async fn new(
        tree: Tree,
        name_prefix: Option<Repository>,
        options: PushOptions,
    ) -> Result<Self, TreeError> {
        let store: Arc<dyn Store> = match &options.spool {
            Some(folder) => {
                // What lies there is nobody else's business, like all that is in the folder above it.
                let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
                let what = || folder.display().to_string();
                made.map_err(|e| StoreError::Io { operation: "creating", what: what(), source: e.into() })?;
                // A bucket that ignores conditions, or that nobody may write to, is told now, and not to whoever pushes
                // first.
                tree.store().try_conditions().await?;
                // After a power cut nobody relies on what lay there: it is hashed again, and what is gone is sent
                // again.
                Arc::new(LocalStore::create(folder)?.without_sync())
            }
            None => tree.store().clone(),
        };
        // And so is a disk that can't be written.
        drop(store.begin_upload(Algorithm::Sha256.hasher()).await?);
        let uploads = Uploads::new(store, options.upload_ttl, options.max_uploads);
        let running = Semaphore::new(options.max_running.min(Semaphore::MAX_PERMITS));
        let (is_spooled, by_client) = (options.spool.is_some(), Running::default());
        let holders = Holders::over(&tree);
        Ok(Self(Arc::new(Inner { tree, name_prefix, options, uploads, is_spooled, holders, running, by_client })))
    }

    /// Lets nobody wait for a server that ends.
    pub(super) async fn leave(&self) {
        self.0.tree.end_all_pushes().await;
    }

    /// Gives up the uploads that have lain still for too long.
    pub(super) async fn expire(&self) {
        self.0.uploads.expire(Now::read()).await;
    }

    /// Why nothing can be pushed, if nothing can: the disk of the uploads is full or read-only, or nobody knows what of
    /// its content is written. What is elsewhere is asked when something comes: each look would be paid for.
    pub(super) async fn trouble(&self) -> Option<TreeError> {
        let store = self.0.uploads.store();
        let tried = async {
            drop(store.begin_upload(Algorithm::Sha256.hasher()).await?);
            store.sync().await
        };
        tried.await.err().map(TreeError::from)
    }

    /// How many uploads this server has open.
    pub(super) fn open(&self) -> usize {
        self.0.uploads.open()
    }

    /// How many requests are running.
    pub(super) fn running(&self) -> usize {
        let most = self.0.options.max_running.min(Semaphore::MAX_PERMITS);
        most - self.0.running.available_permits().min(most)
    }

    /// Whether a request is one that this answers; what isn't is a pull's.
    pub(super) fn takes(&self, method: &Method, path: &str) -> bool {
        match *method {
            Method::POST | Method::PUT | Method::PATCH | Method::DELETE => path.starts_with("/v2/"),
            Method::GET => path.contains("/blobs/uploads/"),
            _ => false,
        }
    }

    /// The answer to a request. What goes wrong on the way is an answer, too.
    pub(super) async fn answer(&self, request: Request, session: Option<Session>, content: Content) -> Response {
        let (push, path) = (self.clone(), request.path.clone());
        let task = tokio::spawn(async move {
            let mut content = content;
            let answered = push.0.answer(&request, session.as_ref(), &mut content).await;
            answered.unwrap_or_else(|problem| {
                if let Some(error) = &problem.cause {
                    let cause: &(dyn std::error::Error + 'static) = &**error;
                    tracing::error!(path = ?shown(&request.path), error = cause, "a push failed");
                }
                problem.response()
            })
        });
        match task.await {
            Ok(response) => response,
            Err(error) => {
                let cause: &(dyn std::error::Error + 'static) = &error;
                tracing::error!(path = ?shown(&path), error = cause, "a push failed");
                Problem::failed(error).response()
            }
        }
    }
}

/// Reads on, up to a limit, so that a client that sends before it listens gets the answer.
async fn drain(content: &mut Content) {
    let mut read = 0;
    while read < MAX_DRAIN
        && let Some(Ok(bytes)) = content.next().await
    {
        read += bytes.len() as u64;
    }
}

impl Inner {
    async fn answer(
        &self,
        request: &Request,
        session: Option<&Session>,
        content: &mut Content,
    ) -> Result<Response, Problem> {
        let answered = self.act(request, session, content).await;
        if answered.is_err() {
            drain(content).await;
        }
        answered
    }

    async fn act(
        &self,
        request: &Request,
        session: Option<&Session>,
        content: &mut Content,
    ) -> Result<Response, Problem> {
        let target = self.target(&request.path)?;
        rights::allow(session, &request.method, &target).await?;
        let turn = || {
            let client = session.map(Session::client).unwrap_or_default();
            self.by_client.begin(client, self.options.max_running_per_client)
        };
        let _turn =
            turn().ok_or_else(|| Problem::busy("as many requests of this client as there may be are running"))?;
        let running =
            self.running.try_acquire().map_err(|_| Problem::busy("as many requests as there may be are running"));
        let _running = running?;
        let query = request.query.as_deref();
        match (&request.method, &target) {
            (&Method::POST, Target::Uploads(repository)) => self.begin(repository, session, request, content).await,
            (&Method::GET, Target::Upload(repository, id)) => {
                let id = &uploads::named(id)?;
                let upload = self.uploads.get(id, repository, Now::read()).await?;
                let open = upload.open().await?;
                Ok(self.progress(StatusCode::NO_CONTENT, repository, id, open.offset))
            }
            (&Method::PATCH, Target::Upload(repository, id)) => {
                let id = &uploads::named(id)?;
                let upload = self.uploads.get(id, repository, Now::read()).await?;
                let mut open = upload.open().await?;
                self.check_range(request, repository, id, open.offset)?;
                let received = receive(&mut open, content, self.options.max_blob_size).await;
                if open.is_over() {
                    // What can't be written to, most often for want of space, takes none.
                    self.uploads.remove(id).await?;
                }
                received?;
                Ok(self.progress(StatusCode::ACCEPTED, repository, id, open.offset))
            }
            (&Method::PUT, Target::Upload(repository, id)) => {
                let id = &uploads::named(id)?;
                let upload = self.uploads.get(id, repository, Now::read()).await?;
                let mut open = upload.open().await?;
                let digest = digest_of(query, "digest")?;
                let Some(digest) = digest else {
                    return Err(Problem::new(ErrorCode::DigestInvalid, "the query lacks the digest of the blob"));
                };
                self.check_range(request, repository, id, open.offset)?;
                let received = receive(&mut open, content, self.options.max_blob_size).await;
                if open.is_over() {
                    self.uploads.remove(id).await?;
                }
                // Of what broke off the rest may come yet.
                received?;
                if self.is_spooled {
                    let sent = self.send(repository, &mut open, &digest).await;
                    // What can't be sent at the moment is asked for again; what was sent, or never can be, takes no
                    // space.
                    if !matches!(&sent, Err(problem) if problem.may_pass()) {
                        drop(open.take());
                        drop(open);
                        self.uploads.remove(id).await?;
                    }
                    return sent;
                }
                let (upload, size) = open.take()?;
                drop(open);
                self.uploads.claim(id)?;
                self.finish(repository, upload, size, &digest, Some(id)).await
            }
            (&Method::DELETE, Target::Upload(repository, id)) => {
                let id = &uploads::named(id)?;
                self.uploads.get(id, repository, Now::read()).await?;
                self.uploads.remove(id).await?;
                Ok(success(StatusCode::NO_CONTENT, Vec::new()))
            }
            (&Method::PUT, Target::Manifest(repository, reference)) => {
                self.put_manifest(repository, reference, session, request, content).await
            }
            (&Method::DELETE, Target::Manifest(..) | Target::Blob(..)) => self.delete(&target, session).await,
            _ => Err(Problem::not_allowed("no such request can be made of this")),
        }
    }

    /// What a path is about.
    fn target(&self, raw: &str) -> Result<Target, Problem> {
        let path = site::decode(raw).map_err(|error| Problem::new(ErrorCode::NameInvalid, error.to_string()))?;
        let prefix = self.name_prefix.as_ref();
        if let Some((name, id)) = path.strip_prefix("/v2/").and_then(|path| path.rsplit_once("/blobs/uploads")) {
            let id = id.strip_prefix('/').or(id.is_empty().then_some(""));
            // The name is judged as that of a list, which says whether it has the prefix that every name has here.
            let listed = Path::parse(&format!("/v2/{name}/tags/list"), prefix);
            let (Some(id), Ok(listed)) = (id, listed) else {
                return Err(Problem::new(ErrorCode::BlobUploadUnknown, "no such path"));
            };
            return match listed {
                Path::TagsList(repository) if id.is_empty() => Ok(Target::Uploads(repository)),
                Path::TagsList(repository) => Ok(Target::Upload(repository, id.to_owned())),
                _ if name.parse::<Repository>().is_ok() => Err(Problem::outside(prefix)),
                _ => Err(Problem::new(ErrorCode::NameInvalid, format!("{name:?} is no name of a repository"))),
            };
        }
        match Path::parse(raw, prefix) {
            Ok(Path::Manifest(repository, reference)) => Ok(Target::Manifest(repository, reference)),
            Ok(Path::Blob(repository, digest)) => Ok(Target::Blob(repository, digest)),
            Ok(Path::Missing(pattern)) => Err(match pattern {
                site::PathPattern::NotAName => Problem::new(ErrorCode::NameInvalid, "no name of a repository"),
                site::PathPattern::NotAReference => {
                    Problem::new(ErrorCode::ManifestInvalid, "neither a tag nor a digest")
                }
                site::PathPattern::NotABlob => Problem::new(ErrorCode::DigestInvalid, "no digest"),
                site::PathPattern::Unknown => Problem::not_allowed("no such path"),
                _ => Problem::outside(prefix),
            }),
            _ => Err(Problem::not_allowed("no such request can be made of this")),
        }
    }

    /// A repository's name as it appears outside.
    fn shown(&self, repository: &Repository) -> String {
        self.name_prefix.as_ref().map_or_else(|| repository.to_string(), |prefix| format!("{prefix}/{repository}"))
    }

    async fn begin(
        &self,
        repository: &Repository,
        session: Option<&Session>,
        request: &Request,
        content: &mut Content,
    ) -> Result<Response, Problem> {
        let query = request.query.as_deref();
        if let Some(digest) = digest_of(query, "mount")? {
            // A name that can't be, or that nobody has, is as good as one that hasn't the blob.
            let from = values(query, "from").next().map(|from| from.and_then(|from| self.inside(&from)));
            let mounted = match from {
                Some(None) => false,
                Some(Some(from)) => {
                    let may_read = match session {
                        Some(session) => session.check(&from, Right::Pull).await.is_ok(),
                        None => true,
                    };
                    may_read && self.tree.mount_blob(repository, &digest, Some(&from)).await?
                }
                // Whoever holds it may be nobody whom this client may read.
                None if session.is_some() => false,
                None => match self.holders.of(&digest) {
                    Some(holder) if self.tree.mount_blob(repository, &digest, Some(&holder)).await? => true,
                    _ => self.tree.mount_blob(repository, &digest, None).await?,
                },
            };
            if mounted {
                return Ok(self.created_blob(repository, &digest));
            }
        }
        let announced = value(query, "digest-algorithm").map(|name| {
            let known = Algorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name);
            known.ok_or_else(|| Problem::new(ErrorCode::DigestInvalid, format!("{name:?} is no algorithm known here")))
        });
        let announced = announced.transpose()?.unwrap_or(Algorithm::Sha256);
        if let Some(digest) = digest_of(query, "digest")? {
            let mut open = self.uploads.begin_unnamed(digest.algorithm()).await?;
            self.check_length(request, 0)?;
            receive(&mut open, content, self.options.max_blob_size).await?;
            if self.is_spooled {
                return self.send(repository, &mut open, &digest).await;
            }
            let (upload, size) = open.take()?;
            return self.finish(repository, upload, size, &digest, None).await;
        }
        let id = self.uploads.begin(repository, announced).await?;
        Ok(self.progress(StatusCode::ACCEPTED, repository, &id, 0))
    }

    /// The repository that a name from outside means.
    fn inside(&self, name: &str) -> Option<Repository> {
        match Path::parse(&format!("/v2/{name}/tags/list"), self.name_prefix.as_ref()) {
            Ok(Path::TagsList(repository)) => Some(repository),
            _ => None,
        }
    }

    /// Where an upload is.
    fn progress(&self, status: StatusCode, repository: &Repository, id: &SessionId, offset: u64) -> Response {
        success(status, self.position(repository, id, offset))
    }

    fn position(&self, repository: &Repository, id: &SessionId, offset: u64) -> Vec<(HeaderName, HeaderValue)> {
        let location = format!("/v2/{}/blobs/uploads/{id}", self.shown(repository));
        headers([(LOCATION, location), (RANGE, format!("0-{}", offset.saturating_sub(1))), (UPLOAD_ID, id.to_string())])
    }

    /// Refuses a chunk that doesn't begin where the upload ends so far.
    fn check_range(
        &self,
        request: &Request,
        repository: &Repository,
        id: &SessionId,
        offset: u64,
    ) -> Result<(), Problem> {
        if let Some(text) = &request.content_range {
            let malformed = || {
                let what = format!("Content-Range is {text:?}, expected FIRST-LAST");
                Problem::new(ErrorCode::BlobUploadInvalid, what)
            };
            let bare = text.trim();
            let bare = bare.strip_prefix("bytes ").or_else(|| bare.strip_prefix("bytes=")).unwrap_or(bare);
            let bare = bare.split_once('/').map_or(bare, |(range, _)| range);
            let number = |text: &str| {
                let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
                digits.then(|| text.parse::<u64>().ok()).flatten().ok_or_else(malformed)
            };
            let (first, last) = bare.split_once('-').ok_or_else(malformed)?;
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(malformed());
            }
            if first != offset {
                let what = format!("the chunk begins at {first}, the upload has {offset} bytes");
                let position = self.position(repository, id, offset);
                return Err(Problem::new(ErrorCode::BlobUploadInvalid, what).out_of_order(position));
            }
            if request.content_length.is_some_and(|length| length != (last - first).saturating_add(1)) {
                return Err(Problem::new(
                    ErrorCode::SizeInvalid,
                    "Content-Range and Content-Length contradict each other",
                ));
            }
        }
        self.check_length(request, offset)
    }

    fn check_length(&self, request: &Request, offset: u64) -> Result<(), Problem> {
        let end = request.content_length.unwrap_or_default().saturating_add(offset);
        let limit = self.options.max_blob_size;
        if end > limit { Err(Problem::too_large(limit)) } else { Ok(()) }
    }

    /// Gives an upload its name, if it is what its digest says.
    async fn finish(
        &self,
        repository: &Repository,
        mut upload: Box<dyn Upload>,
        size: u64,
        expected: &Digest,
        id: Option<&SessionId>,
    ) -> Result<Response, Problem> {
        if let Err(problem) = judge(&mut *upload, expected).await {
            if let Some(id) = id {
                drop(upload);
                self.uploads.forget(id).await?;
            }
            return Err(problem);
        }
        self.tree.push_blob(repository, upload, expected, size).await?;
        Ok(self.created_blob(repository, expected))
    }

    /// Sends what was uploaded to where blobs are, if it is what its digest says.
    async fn send(&self, repository: &Repository, open: &mut Open, expected: &Digest) -> Result<Response, Problem> {
        let size = open.offset;
        let upload = open.upload()?;
        judge(upload, expected).await?;
        let content = upload.content().await.map_err(TreeError::from)?;
        let content = content.ok_or_else(|| Problem::failed("what waits can't be read again"))?;
        self.tree.push_content(repository, content, expected, size).await?;
        Ok(self.created_blob(repository, expected))
    }

    fn created_blob(&self, repository: &Repository, digest: &Digest) -> Response {
        self.holders.note(repository, digest);
        let location = format!("/v2/{}/blobs/{digest}", self.shown(repository));
        success(StatusCode::CREATED, headers([(LOCATION, location), (DOCKER_CONTENT_DIGEST, digest.to_string())]))
    }
}

/// Refuses an upload that isn't what its digest says.
async fn judge(upload: &mut dyn Upload, expected: &Digest) -> Result<(), Problem> {
    let (mut actual, size) = upload.digest().await.map_err(TreeError::from)?;
    if actual.algorithm() != expected.algorithm() {
        // Nobody said at the beginning by what the blob would be named.
        let again = upload.digest_by(expected.algorithm()).await.map_err(TreeError::from)?;
        actual = again.unwrap_or(actual);
    }
    if actual != *expected {
        let what = format!("the {size} bytes that came are {actual}, expected {expected}");
        return Err(Problem::new(ErrorCode::DigestInvalid, what));
    }
    Ok(())
}

/// The digest in a query.
fn digest_of(query: Option<&str>, name: &str) -> Result<Option<Digest>, Problem> {
    let Some(given) = values(query, name).next() else { return Ok(None) };
    let invalid = |what: String| Problem::new(ErrorCode::DigestInvalid, what);
    let given = given.ok_or_else(|| invalid(format!("{name} in the query can't be decoded")))?;
    given.parse().map(Some).map_err(|error: DigestError| invalid(error.to_string()))
}

/// Writes what a request brings. What came stays also if the rest doesn't.
async fn receive(open: &mut Open, content: &mut Content, limit: u64) -> Result<(), Problem> {
    let received = write(open, content, limit).await;
    if open.is_over() { received } else { received.and(open.settle().await) }
}

async fn write(open: &mut Open, content: &mut Content, limit: u64) -> Result<(), Problem> {
    while let Some(bytes) = content.next().await {
        let bytes = bytes.map_err(Problem::cut)?;
        let length = bytes.len() as u64;
        if open.offset.saturating_add(length) > limit {
            return Err(Problem::too_large(limit));
        }
        open.write(bytes).await?;
    }
    Ok(())
}

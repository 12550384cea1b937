//! Uploads between the requests that bring them.
//!
//! What is open here is a cache of what the store keeps: a server that finds an upload in neither has never had it, or it is
//! over.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use super::answer::Problem;
use crate::oci::{Algorithm, ErrorCode, Repository};
use crate::site;
use crate::store::{SessionId, Store, StoreError, Upload};
use crate::tree::TreeError;

/// What the time is, by a clock that never jumps and by the one that files are dated by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) steady: Instant,
    pub(super) dated: SystemTime,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { steady: Instant::now(), dated: SystemTime::now() }
    }
}

/// The uploads that are open, by their names.
pub(super) struct Uploads {
    /// Where their bytes wait.
    store: Arc<dyn Store>,
    ttl: Duration,
    limit: usize,
    open: Mutex<HashMap<SessionId, Session>>,
    /// Held by whoever looks for an upload that was begun elsewhere, so that two who ask for one get the same.
    resuming: tokio::sync::Mutex<()>,
}

/// An upload, and whose it is.
#[derive(Clone)]
pub(super) struct Session {
    repository: Repository,
    touched: Instant,
    state: Arc<tokio::sync::Mutex<Open>>,
}

/// What of an upload has come.
pub(super) struct Open {
    /// Gone once it is finished, or can't be written any more.
    pub(super) upload: Option<Box<dyn Upload>>,
    /// How many bytes.
    pub(super) offset: u64,
}

impl Open {
    fn gone() -> Problem {
        Problem::new(ErrorCode::BlobUploadUnknown, "the upload is over")
    }

    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), Problem> {
        let length = bytes.len() as u64;
        let upload = self.upload.as_mut().ok_or_else(Self::gone)?;
        match upload.write(bytes).await {
            Ok(()) => {
                self.offset += length;
                Ok(())
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Waits until what has come outlives this process.
    pub(super) async fn settle(&mut self) -> Result<(), Problem> {
        let upload = self.upload.as_mut().ok_or_else(Self::gone)?;
        match upload.settle().await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// How much of it was written nobody knows.
    fn fail(&mut self, error: StoreError) -> Problem {
        self.upload = None;
        TreeError::from(error).into()
    }

    /// Whether nothing can be written to it any more.
    pub(super) fn is_over(&self) -> bool {
        self.upload.is_none()
    }

    pub(super) fn upload(&mut self) -> Result<&mut dyn Upload, Problem> {
        Ok(&mut **self.upload.as_mut().ok_or_else(Self::gone)?)
    }

    pub(super) fn take(&mut self) -> Result<(Box<dyn Upload>, u64), Problem> {
        Ok((self.upload.take().ok_or_else(Self::gone)?, self.offset))
    }
}

impl Session {
    fn new(repository: Repository, upload: Box<dyn Upload>, offset: u64, touched: Instant) -> Self {
        let state = Arc::new(tokio::sync::Mutex::new(Open { upload: Some(upload), offset }));
        Self { repository, touched, state }
    }

    /// Waits until no other request writes to it.
    pub(super) async fn open(self) -> Result<OwnedMutexGuard<Open>, Problem> {
        let open = self.state.lock_owned().await;
        if open.is_over() { Err(Open::gone()) } else { Ok(open) }
    }
}

impl Uploads {
    pub(super) fn new(store: Arc<dyn Store>, ttl: Duration, limit: usize) -> Self {
        Self { store, ttl, limit, open: Mutex::default(), resuming: tokio::sync::Mutex::default() }
    }

    /// Where they are written.
    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }

    fn held(&self) -> MutexGuard<'_, HashMap<SessionId, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(super) fn open(&self) -> usize {
        self.held().len()
    }

    fn full() -> Problem {
        Problem::busy("as many uploads as there may be are open")
    }

    /// Opens an upload, and returns its name.
    pub(super) async fn begin(&self, repository: &Repository, algorithm: Algorithm) -> Result<SessionId, Problem> {
        if self.held().len() >= self.limit {
            return Err(Self::full());
        }
        let id = random_id().map_err(Problem::failed)?;
        let kept = crate::store::Session { repository: repository.clone(), ttl: self.ttl };
        let upload = self.store.begin_session(&id, kept, algorithm.hasher()).await.map_err(TreeError::from)?;
        let session = Session::new(repository.clone(), upload, 0, Instant::now());
        // Others may have come meanwhile.
        let is_full = {
            let mut open = self.held();
            let is_full = open.len() >= self.limit;
            if !is_full {
                open.insert(id.clone(), session);
            }
            is_full
        };
        if is_full {
            self.forget(&id).await?;
            return Err(Self::full());
        }
        Ok(id)
    }

    /// The upload with a name, also if it was begun by a server that is dead.
    pub(super) async fn get(&self, id: &SessionId, repository: &Repository, now: Now) -> Result<Session, Problem> {
        if let Some(session) = self.look_up(id, repository, now)? {
            return Ok(session);
        }
        let _turn = self.resuming.lock().await;
        if let Some(session) = self.look_up(id, repository, now)? {
            return Ok(session);
        }
        let resumed = self.store.resume_session(id, now.dated).await.map_err(TreeError::from)?;
        let resumed = resumed.filter(|resumed| resumed.session.repository == *repository);
        let resumed = resumed.ok_or_else(|| unknown(id.as_str()))?;
        let session = Session::new(repository.clone(), resumed.upload, resumed.offset, now.steady);
        let mut open = self.held();
        if open.len() >= self.limit {
            return Err(Self::full());
        }
        open.insert(id.clone(), session.clone());
        Ok(session)
    }

    fn look_up(&self, id: &SessionId, repository: &Repository, now: Now) -> Result<Option<Session>, Problem> {
        let mut open = self.held();
        let Some(session) = open.get_mut(id) else { return Ok(None) };
        if session.repository != *repository {
            return Err(unknown(id.as_str()));
        }
        session.touched = now.steady;
        Ok(Some(session.clone()))
    }

    /// Takes an upload out that is about to be finished. Says whether nobody ended it meanwhile.
    pub(super) fn claim(&self, id: &SessionId) -> Result<(), Problem> {
        self.held().remove(id).map(drop).ok_or_else(Open::gone)
    }

    /// Ends an upload, and gives back what space it still takes.
    pub(super) async fn remove(&self, id: &SessionId) -> Result<(), Problem> {
        let removed = self.held().remove(id);
        // Its file is closed outside the lock.
        drop(removed);
        self.forget(id).await
    }

    /// Lets nobody go on with an upload that isn't open here, and gives back its space.
    pub(super) async fn forget(&self, id: &SessionId) -> Result<(), Problem> {
        Ok(self.store.forget_session(id).await.map_err(TreeError::from)?)
    }

    /// Begins an upload that ends with its request.
    pub(super) async fn begin_unnamed(&self, algorithm: Algorithm) -> Result<Open, Problem> {
        let upload = self.store.begin_upload(algorithm.hasher()).await.map_err(TreeError::from)?;
        Ok(Open { upload: Some(upload), offset: 0 })
    }

    /// Gives up what has lain still for too long, and isn't being written to.
    pub(super) async fn expire(&self, now: Now) {
        let expired: Vec<(SessionId, Session)> = {
            let mut open = self.held();
            let lies_still = |session: &Session| now.steady.saturating_duration_since(session.touched);
            let old = |session: &Session| lies_still(session) > self.ttl && session.state.try_lock().is_ok();
            open.extract_if(|_, session| old(session)).collect()
        };
        let mut count = expired.len() as u64;
        for (id, session) in expired {
            drop(session);
            if let Err(error) = self.store.forget_session(&id).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "can't give up an upload");
            }
        }
        match self.store.expire_sessions(now.dated).await {
            Ok(left) => count += left.files,
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "can't give up old uploads"),
        }
        if count > 0 {
            tracing::info!(count, "gave up uploads that nobody went on with");
        }
    }
}

/// There is no such upload.
pub(super) fn unknown(id: &str) -> Problem {
    Problem::new(ErrorCode::BlobUploadUnknown, format!("there is no upload {id:?}"))
}

/// A path as logs show it: without the identifier of an upload, by which whoever may push could go on with it.
pub(in super::super) fn shown(path: &str) -> Cow<'_, str> {
    const UPLOADS: &str = "/blobs/uploads/";
    let decoded = site::decode(path).unwrap_or(Cow::Borrowed(path));
    match decoded.rfind(UPLOADS).map(|at| at + UPLOADS.len()) {
        Some(end) if end < decoded.len() => Cow::Owned(format!("{}REDACTED", &decoded[..end])),
        _ => Cow::Borrowed(path),
    }
}

/// The identifier in a path; nothing has another one than those that we give.
pub(super) fn named(id: &str) -> Result<SessionId, Problem> {
    id.parse().map_err(|_| unknown(id))
}

fn random_id() -> Result<SessionId, &'static str> {
    let mut bytes = [0_u8; 16];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| "the system gives no random bytes")?;
    Ok(SessionId::from_random(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LocalStore;

    const TTL: Duration = Duration::from_secs(60);

    fn after(now: Now, time: Duration) -> Now {
        Now { steady: now.steady + time, dated: now.dated + time }
    }

    #[test]
    fn logs_name_no_upload() {
        let id = "c9b14a98-1c0a-422b-b554-145639957a96";
        for (path, expected) in [
            (format!("/v2/a/b/blobs/uploads/{id}"), "/v2/a/b/blobs/uploads/REDACTED"),
            (format!("/v2/a%2Fblobs%2fuploads/{id}"), "/v2/a/blobs/uploads/REDACTED"),
            (format!("/v2/a/blobs/uploads/b/blobs/uploads/{id}"), "/v2/a/blobs/uploads/b/blobs/uploads/REDACTED"),
            ("/v2/a/blobs/uploads/".to_owned(), "/v2/a/blobs/uploads/"),
            ("/v2/a/blobs/sha256:00".to_owned(), "/v2/a/blobs/sha256:00"),
            ("/v2/%zz".to_owned(), "/v2/%zz"),
        ] {
            assert_eq!(shown(&path), expected);
        }
    }

    #[tokio::test]
    async fn uploads_expire_wherever_they_were_begun() {
        let folder = tempfile::tempdir().unwrap();
        let files = || std::fs::read_dir(folder.path().join(".roadstead/uploads")).unwrap().count();
        let store = Arc::new(LocalStore::create(folder.path()).unwrap());
        let app = "app".parse().unwrap();
        let uploads = || Uploads::new(store.clone(), TTL, 10);
        let (dead, living) = (uploads(), uploads());
        dead.begin(&app, Algorithm::Sha256).await.ok().unwrap();
        let kept = dead.begin(&app, Algorithm::Sha256).await.ok().unwrap();
        drop(dead);
        let own = living.begin(&app, Algorithm::Sha256).await.ok().unwrap();
        assert_eq!(files(), 6);

        let now = Now::read();
        let soon = after(now, TTL / 2);
        living.expire(soon).await;
        assert_eq!(files(), 6);
        living.get(&kept, &app, soon).await.ok().unwrap();
        // Later by more than the ttl than anything but what was asked about meanwhile.
        let later = after(now, TTL + Duration::from_secs(1));
        living.expire(later).await;
        assert_eq!(files(), 2);
        assert!(living.get(&own, &app, later).await.is_err());
        let session = living.get(&kept, &app, later).await.ok().unwrap();
        // Nobody takes it away from a request that is busy with it.
        let open = session.open().await.ok().unwrap();
        let much_later = after(later, 2 * TTL);
        living.expire(much_later).await;
        assert_eq!(files(), 2);
        drop(open);
        living.expire(much_later).await;
        assert_eq!(files(), 0);
    }
}

//! Uploads between the requests that bring them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use super::answer::Problem;
use crate::oci::{ErrorCode, Repository};
use crate::store::Upload;
use crate::tree::TreeError;

/// The uploads that are open, by their names.
pub(super) struct Uploads {
    ttl: Duration,
    limit: usize,
    open: Mutex<HashMap<String, Session>>,
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
            Err(error) => {
                // How much of it was written nobody knows.
                self.upload = None;
                Err(TreeError::from(error).into())
            }
        }
    }

    pub(super) fn take(&mut self) -> Result<(Box<dyn Upload>, u64), Problem> {
        Ok((self.upload.take().ok_or_else(Self::gone)?, self.offset))
    }
}

impl Session {
    /// Waits until no other request writes to it.
    pub(super) async fn open(self) -> Result<OwnedMutexGuard<Open>, Problem> {
        let open = self.state.lock_owned().await;
        if open.upload.is_some() { Ok(open) } else { Err(Open::gone()) }
    }
}

impl Uploads {
    pub(super) fn new(ttl: Duration, limit: usize) -> Self {
        Self { ttl, limit, open: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an upload, and returns its name: a UUID that nobody guesses.
    pub(super) fn begin(&self, repository: &Repository, upload: Box<dyn Upload>) -> Result<String, Problem> {
        let id = uuid().map_err(Problem::failed)?;
        let state = Arc::new(tokio::sync::Mutex::new(Open { upload: Some(upload), offset: 0 }));
        let session = Session { repository: repository.clone(), touched: Instant::now(), state };
        let mut open = self.held();
        if open.len() >= self.limit {
            return Err(Problem::busy("as many uploads as there may be are open"));
        }
        open.insert(id.clone(), session);
        Ok(id)
    }

    pub(super) fn get(&self, id: &str, repository: &Repository) -> Result<Session, Problem> {
        let mut open = self.held();
        let session = open.get_mut(id).filter(|session| session.repository == *repository);
        let session =
            session.ok_or_else(|| Problem::new(ErrorCode::BlobUploadUnknown, format!("there is no upload {id:?}")))?;
        session.touched = Instant::now();
        Ok(session.clone())
    }

    pub(super) fn remove(&self, id: &str) {
        let removed = self.held().remove(id);
        // Its file goes outside the lock.
        drop(removed);
    }

    /// Gives up what has lain still for too long, and isn't being written to.
    pub(super) fn expire(&self) {
        let expired: Vec<Session> = {
            let mut open = self.held();
            let old = |session: &Session| session.touched.elapsed() > self.ttl && session.state.try_lock().is_ok();
            let ids: Vec<String> = open.iter().filter(|(_, s)| old(s)).map(|(id, _)| id.clone()).collect();
            ids.iter().filter_map(|id| open.remove(id)).collect()
        };
        if !expired.is_empty() {
            tracing::info!(count = expired.len(), "gave up uploads that nobody went on with");
        }
    }
}

/// A random UUID, version 4.
fn uuid() -> Result<String, &'static str> {
    let mut bytes = [0_u8; 16];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| "the system gives no random bytes")?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

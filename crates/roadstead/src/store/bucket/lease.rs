//! Leases: the service refuses what was signed too long ago, by its own clock, whatever became of whoever sent it.
//!
//! Signature Version 4 says when a request was signed, and services refuse one that says more than fifteen minutes ago. So what
//! is done under a lease is signed as at the moment when the lease's object was written, which the service said itself. Azure is
//! sent a signature that ends a lease after that moment ([bounded](super::bounded)).
//!
//! *Rejected:* conditions on the object that a call is about (`If-Match`, generations), which Google's could have: they keep a
//! remover who wakes from deleting what somebody has written since, but not what somebody relies on since; and a writer who wakes
//! from nothing, if the tag that it makes is new.
//!
//! Source: AWS, "Authenticating Requests (AWS Signature Version 4)", Request time stamp; error code `RequestTimeTooSkewed`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use ::http::Method;
use ::http::header::{DATE, ETAG, LAST_MODIFIED};
use bytes::Bytes;

use super::client::{Call, Dated};
use super::{BucketError, BucketStore, Headers, Key, Lease, Store as _, StoreError, Version, Written};
use crate::http::Response;
use crate::store::{Condition, LEASE};

/// By how much more than a lease what tries a service is too old.
const BEYOND: Duration = Duration::from_mins(1);

impl BucketStore {
    /// The store whose requests are signed when they are made.
    pub(super) fn undated(&self) -> Self {
        Self(self.0.clone(), None)
    }

    fn as_of(&self, date: SystemTime, unanswered: &Arc<AtomicBool>) -> Self {
        Self(self.0.clone(), Some(Dated { date, unanswered: unanswered.clone() }))
    }
}

fn time(response: &Response, header: ::http::HeaderName) -> Option<SystemTime> {
    response.header(header).and_then(|date| httpdate::parse_http_date(date).ok())
}

/// Puts the object of a lease.
pub(super) async fn take(
    store: &BucketStore,
    key: &Key,
    bytes: Bytes,
    when: Condition,
) -> Result<Option<Lease>, StoreError> {
    let Some(answer) = store.undated().put_noted(key, bytes.clone(), &Headers::default(), when).await? else {
        return Ok(None);
    };
    let noted = answer.and_then(|answer| Some((answer.header(ETAG)?.into(), time(&answer, DATE)?)));
    let (version, at) = match noted {
        Some((version, at)) => (Version(version), at),
        None => {
            // The answer was lost, or says too little.
            let object = store.0.at.object(key);
            let head = store.0.calls.send(&Call::new(Method::HEAD, Some(&object), "s3:GetObject")).await;
            let response = head.map_err(|failed| store.failed("reading", key.as_str(), failed.error))?.response;
            let version = store.entry(key, &response)?.version;
            if !store.holds(key, &bytes).await? {
                return Ok(None);
            }
            let lacks = || BucketError::Answer(format!("{} does not say when it was written", response.shown()));
            let at = time(&response, LAST_MODIFIED).ok_or_else(|| store.failed("reading", key.as_str(), lacks()))?;
            (version, at)
        }
    };
    let unanswered = Arc::default();
    let holder = if store.is_fenced().await? { store.as_of(at, &unanswered) } else { store.undated() };
    Ok(Some(Lease { store: Arc::new(holder), version, at, unanswered }))
}

/// Tries whether the service refuses what is too old.
pub(super) async fn probe(store: &BucketStore) -> Result<SystemTime, StoreError> {
    let unfenced = |how| StoreError::Unfenced { what: store.describe(), how };
    if !store.is_fenced().await? {
        return Err(unfenced("is asked without a signature that could be too old"));
    }
    let key = store.private(&format!("probe/{:016x}", fastrand::u64(..)))?;
    let taken = take(store, &key, Bytes::from_static(b"1"), Condition::Always).await?;
    let at = taken.ok_or_else(|| unfenced("does not say when something was written"))?.at;
    let late = store.as_of(at.checked_sub(LEASE + BEYOND).unwrap_or(SystemTime::UNIX_EPOCH), &Arc::default());
    let outcome = late.put(&key, Bytes::from_static(b"2"), &Headers::default(), Condition::Always).await;
    store.undated().delete(&key).await?;
    match outcome {
        Err(StoreError::Late { .. }) => Ok(at),
        Ok(Written::Done | Written::Refused) => {
            Err(unfenced("takes requests that were signed a quarter of an hour ago"))
        }
        Err(error) => Err(error),
    }
}

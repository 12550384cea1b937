//! Small objects, each written in one call, on a condition.

use ::http::header::{IF_MATCH, IF_NONE_MATCH};
use ::http::{Method, StatusCode};
use bytes::Bytes;
use futures::TryStreamExt as _;

use super::client::{Call, Failed};
use super::{
    BucketError, BucketStore, Cloud, Condition, Headers, Key, LockMode, Store as _, StoreError, azure, google,
    is_absent,
};
use crate::http::Response;

impl BucketStore {
    /// The call that writes an object whole, on a condition.
    fn put_call<'a>(&self, object: &'a str, bytes: &Bytes, headers: &Headers, condition: &Condition) -> Call<'a> {
        let call = Call::new(Method::PUT, Some(object), "s3:PutObject").headers(self.written(headers));
        let call = match self.0.calls.service.cloud() {
            Cloud::Azure => call.header(azure::BLOB_TYPE, "BlockBlob"),
            _ => call,
        };
        let call = call.body(bytes.clone());
        match condition {
            Condition::Always => call,
            Condition::Absent => call.header(IF_NONE_MATCH, "*"),
            Condition::Unchanged(version) => call.header(IF_MATCH, &version.0),
        }
    }

    /// Whether exactly these bytes are under a key.
    pub(super) async fn holds(&self, key: &Key, bytes: &Bytes) -> Result<bool, StoreError> {
        let size = bytes.len() as u64;
        match self.get(key, None).await? {
            Some(object) if object.entry.size == size => Ok(object.body.into_bytes(size, key).await? == *bytes),
            _ => Ok(false),
        }
    }

    /// Whether a condition holds now.
    async fn allows(&self, key: &Key, condition: &Condition) -> Result<bool, StoreError> {
        Ok(match condition {
            Condition::Always => true,
            Condition::Absent => self.head(key).await?.is_none(),
            Condition::Unchanged(version) => self.head(key).await?.is_some_and(|entry| entry.version == *version),
        })
    }

    /// Whether anything is in the way of a key. A service that keeps objects in folders may say so, too, when a folder is just
    /// being removed with its last object.
    async fn is_obstructed(&self, key: &Key) -> Result<bool, StoreError> {
        for above in std::iter::successors(key.parent(), Key::parent) {
            if self.head(&above).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(self.list(key).try_next().await?.is_some())
    }

    /// Whether to write a key again, since nothing is in the way that was said to be.
    pub(super) async fn is_misled(&self, key: &Key, failed: &Failed, failures: &mut u32) -> Result<bool, StoreError> {
        Ok(is_collision(&failed.error) && !self.is_obstructed(key).await? && self.0.calls.pause(failures).await)
    }

    /// Writes a small object. Returns the answer to that, if the condition held and one came.
    pub(super) async fn put_noted(
        &self,
        key: &Key,
        bytes: Bytes,
        headers: &Headers,
        condition: Condition,
    ) -> Result<Option<Option<Response>>, StoreError> {
        let object = self.0.at.object(key);
        let cloud = self.0.calls.service.cloud();
        let on = if self.0.alone { &Condition::Always } else { &condition };
        let call = match cloud {
            Cloud::Google => google::put(self, &object, &bytes, headers, on),
            _ => self.put_call(&object, &bytes, headers, on),
        };
        let call = call.dated(self.1.as_ref());
        let mut _turn = None;
        if self.0.alone && condition != Condition::Always {
            _turn = Some(self.0.locks.lock("put", LockMode::Exclusive).await);
            if !self.allows(key, &condition).await? {
                return Ok(None);
            }
        }
        let conditional = !self.0.alone && condition != Condition::Always;
        let mut failures = 0;
        loop {
            let failed = match self.0.calls.send(&call).await {
                Ok(answer) => return Ok(Some(Some(answer.response))),
                Err(failed) => failed,
            };
            if self.is_misled(key, &failed, &mut failures).await? {
                continue;
            }
            match failed.status() {
                Some(StatusCode::PRECONDITION_FAILED) if conditional => {}
                // (Google says that of buckets alone.)
                Some(StatusCode::NOT_FOUND) if conditional && cloud != Cloud::Google && is_absent(&failed) => {}
                Some(StatusCode::NOT_IMPLEMENTED) if conditional => return Err(self.unconditional("does not know")),
                // Another write to the key is under way, and nobody knows yet what will come of it. (Or that is how the service
                // says that the condition doesn't hold.)
                Some(StatusCode::CONFLICT) if conditional && !is_collision(&failed.error) => {
                    if self.allows(key, &condition).await? {
                        if self.0.calls.pause(&mut failures).await {
                            continue;
                        }
                        return Err(self.failed("writing", key.as_str(), failed.error));
                    }
                }
                _ => return Err(self.failed("writing", key.as_str(), failed.error)),
            }
            // What doesn't hold any more may be this writer's own doing, in an attempt whose answer was lost.
            let own = (failed.doubtful || failures > 0) && self.holds(key, &bytes).await?;
            return Ok(own.then_some(None));
        }
    }
}

/// Whether a service that keeps objects in folders says that it can't have `a` beside `a/b`.
pub(super) fn is_collision(error: &BucketError) -> bool {
    let BucketError::Refused { code, .. } = error else { return false };
    matches!(
        code.as_str(),
        "ObjectParentIsFile" | "ExistingObjectIsDirectory" | "XMinioParentIsObject" | "XMinioObjectExistsAsDirectory"
    )
}

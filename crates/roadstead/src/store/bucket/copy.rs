//! Objects that the service makes of others, so that no byte moves through this process.
//!
//! Within a tree a digest was verified when its bytes came in. What lies elsewhere was not, so it is copied to a private name
//! first, with the demand that the service hashes it; what that found is told by [`digest`](Upload::digest), and only when the
//! caller is content does the service copy it on. Where a service doesn't say, it is not asked again.
//!
//! *Rejected:* to copy to the final name at once, where anybody could read what nobody has verified; the part of an upload in
//! parts, which shows only when it is complete and would save the second copy: MinIO takes no copies in such uploads, and
//! versitygw says the digest of the whole object for a part of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::http::header::{DATE, LAST_MODIFIED};
use ::http::{HeaderName, Method, StatusCode};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::StreamExt as _;

use super::client::{Call, Failed, joined};
use super::{
    Aim, BucketError, BucketStore, Cloud, Condition, Entry, Headers, Key, Object, Store as _, StoreError, Upload,
    azure, google, is_absent, is_collision, sign, upload,
};
use crate::oci::{Algorithm, Digest};

pub(super) const SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");

/// What the service is to compute of what it writes.
const CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("x-amz-checksum-algorithm");

/// Whether it is to say so.
const CHECKSUM_MODE: HeaderName = HeaderName::from_static("x-amz-checksum-mode");

/// What it says: base64 of the digest, with a number behind it where that is one of digests of parts.
const CHECKSUM: &str = "x-amz-checksum-sha256";

/// From this size on, the four requests of a verified copy cost less than moving the bytes twice.
const WORTH_IT: u64 = 1 << 20;

/// Makes `key` an object with the bytes of `target`.
pub(super) async fn link(store: &BucketStore, key: &Key, target: &Key, headers: &Headers) -> Result<bool, StoreError> {
    let mut size = None;
    if let Some(there) = store.head(key).await?
        && there.headers == *headers
    {
        // A digest says what the bytes are; without one, the versions of small objects do.
        if headers.digest.is_some() {
            return Ok(false);
        }
        if let Some(target) = store.head(target).await? {
            // (No two objects of Azure or Google are of one version.)
            if (target.size, &target.version) == (there.size, &there.version) {
                return Ok(false);
            }
            size = Some(target.size);
        }
    }
    if store.0.calls.service.cloud() == Cloud::Azure {
        return azure_link(store, key, target, headers, size.is_some()).await;
    }
    if store.0.calls.service.cloud() == Cloud::Google {
        // Versions of different objects say nothing of their bytes.
        if let Some(0..=WORTH_IT) = size
            && let Some(target) = store.get(target, None).await?
            && store.holds(key, &target.body.into_bytes(WORTH_IT, key).await?).await?
        {
            return Ok(false);
        }
        let copied = google::rewrite(store, &store.0.at.object(key), &store.0.at.object(target), headers).await;
        return copied.map(|()| true).map_err(|e| store.failed("copying", target.as_str(), e.error));
    }
    let failed = |failed: Failed| {
        let what = if is_collision(&failed.error) { key } else { target };
        store.failed("copying", what.as_str(), failed.error)
    };
    let (object, from) = (store.0.at.object(key), store.0.at.object(target));
    let source = store.0.at.source(&from);
    let mut failures = 0;
    while size.is_none_or(|size| size <= store.0.copy_limit) {
        let Err(refused) = ask(store, call(store, &object, &source, headers)).await else { return Ok(true) };
        if store.is_misled(key, &refused, &mut failures).await? {
            continue;
        }
        if refused.status() == Some(StatusCode::BAD_REQUEST) && size.is_none() {
            // Perhaps it is too large for that.
            size = store.head(target).await?.map(|entry| entry.size);
            if size.is_some_and(|size| size > store.0.copy_limit) {
                break;
            }
        }
        return Err(failed(refused));
    }
    let Some(size) = size.or(store.head(target).await?.map(|entry| entry.size)) else {
        return Err(gone(store, target));
    };
    upload::copy_in_parts(store, &object, &from, size, headers).await.map_err(failed)?;
    Ok(true)
}

/// What was written so long ago is renewed: less than any time for which somebody leaves alone what is young.
const OLD: Duration = Duration::from_mins(10);

/// Makes an object as old as if it had been written now, if it is there and not young.
pub(super) async fn renew(store: &BucketStore, key: &Key) -> Result<(), StoreError> {
    let object = store.0.at.object(key);
    let failed = |failed: Failed| store.failed("writing", key.as_str(), failed.error);
    let response = match store.0.calls.send(&Call::new(Method::HEAD, Some(&object), "s3:GetObject")).await {
        Ok(answer) => answer.response,
        Err(absent) if is_absent(&absent) => return Ok(()),
        Err(other) => return Err(failed(other)),
    };
    // Both are the service's, whatever our clock says.
    let time = |name| response.header(name).and_then(|date| httpdate::parse_http_date(date).ok());
    if let (Some(written), Some(now)) = (time(LAST_MODIFIED), time(DATE))
        && now.duration_since(written).is_ok_and(|age| age < OLD)
    {
        return Ok(());
    }
    let Entry { size, headers, .. } = store.entry(key, &response)?;
    let copied = match store.0.calls.service.cloud() {
        // There an object isn't copied onto itself, but its metadata count.
        Cloud::Azure => {
            let call = Call::new(Method::PUT, Some(&object), "s3:PutObject").parameter("comp", "metadata");
            let digest = headers.digest.map(|digest| digest.to_string());
            let call = digest.into_iter().fold(call, |call, digest| call.header(azure::DIGEST, digest));
            store.0.calls.send(&call).await.map(drop)
        }
        Cloud::Google => google::rewrite(store, &object, &object, &headers).await,
        // Copied onto itself, it would stay as old as it is at versitygw.
        Cloud::S3 => {
            let between = store.0.at.object(&store.upload_key()?);
            let nothing = Headers::default();
            let copied = match size <= store.0.copy_limit {
                true => ask(store, call(store, &between, &store.0.at.source(&object), &nothing)).await,
                false => upload::copy_in_parts(store, &between, &object, size, &nothing).await,
            };
            match copied {
                Ok(()) => {
                    let private = Private::new(store.clone(), between.as_str().into());
                    return private.rename(key, size, &headers).await;
                }
                other => other,
            }
        }
    };
    match copied {
        Err(absent) if is_absent(&absent) => Ok(()),
        copied => copied.map_err(failed),
    }
}

/// Makes `key` an object with the bytes of `target`, where a copy keeps the headers of what it is copied from, and has a
/// version of its own. `perhaps` it is that already.
async fn azure_link(
    store: &BucketStore,
    key: &Key,
    target: &Key,
    headers: &Headers,
    perhaps: bool,
) -> Result<bool, StoreError> {
    // Everything of what is small, and of what is large only what it is like.
    let beginning = store.get(target, Some(0..WORTH_IT)).await?;
    let Some(Object { entry, body }) = beginning else { return Err(gone(store, target)) };
    if entry.size <= WORTH_IT {
        let bytes = body.into_bytes(WORTH_IT, target).await?;
        if perhaps && store.holds(key, &bytes).await? {
            return Ok(false);
        }
        return store.put(key, bytes, headers, Condition::Always).await.map(|_| true);
    }
    drop(body);
    if entry.headers == *headers {
        let copied = azure_copy(store, &store.0.at.object(key), &store.0.at.object(target)).await;
        return copied.map(|()| true).map_err(|e| store.failed("copying", target.as_str(), e.error));
    }
    let Some(Object { entry, body }) = store.get(target, None).await? else { return Err(gone(store, target)) };
    let aim = Aim { key: key.clone(), headers: headers.clone(), size: Some(entry.size) };
    let mut upload = store.begin_upload_to(Algorithm::Sha256.hasher(), aim).await?;
    let mut pieces = body.into_stream(target);
    while let Some(piece) = pieces.next().await {
        upload.write(piece?).await?;
    }
    upload.finish(key, headers).await?;
    Ok(true)
}

/// Copies an object of an account, with its headers, and waits until that is done.
async fn azure_copy(store: &BucketStore, object: &str, from: &str) -> Result<(), Failed> {
    let calls = &store.0.calls;
    let source = calls.base.url(Some(from), &[]);
    let call = Call::new(Method::PUT, Some(object), "s3:PutObject")
        .headers(store.0.writing.clone())
        .header(azure::COPY_SOURCE, source);
    let mut response = calls.send(&call).await?.response;
    let (mut failures, mut progress) = (0, None);
    loop {
        match response.header("x-ms-copy-status") {
            Some("success") => return Ok(()),
            Some("pending") => {
                let now = response.header("x-ms-copy-progress").map(str::to_owned);
                if now != progress {
                    (failures, progress) = (0, now);
                }
                if !calls.pause(&mut failures).await {
                    let problem = format!("{} is being copied, and gets no further", response.shown());
                    return Err(BucketError::Answer(problem).into());
                }
            }
            other => {
                let problem = format!("{} says {other:?} of a copy", response.shown());
                return Err(BucketError::Answer(problem).into());
            }
        }
        response = calls.send(&Call::new(Method::HEAD, Some(object), "s3:GetObject")).await?.response;
    }
}

fn gone(store: &BucketStore, target: &Key) -> StoreError {
    let gone = std::io::Error::from(std::io::ErrorKind::NotFound);
    StoreError::Io { operation: "copying", what: format!("{}/{target}", store.0.at), source: gone.into() }
}

/// The call that makes an object of another one's bytes.
fn call<'a>(store: &BucketStore, object: &'a str, source: &str, headers: &Headers) -> Call<'a> {
    Call::new(Method::PUT, Some(object), "s3:PutObject")
        .dated(store.1.as_ref())
        .headers(store.written(headers))
        .header(SOURCE, source)
        .header(HeaderName::from_static("x-amz-metadata-directive"), "REPLACE")
}

async fn ask(store: &BucketStore, call: Call<'_>) -> Result<(), Failed> {
    store.0.calls.ask(&call).await.map(drop)
}

/// An object under a private name, on the way to the one that it is for. Dropped before it gets there, it is deleted.
pub(super) struct Private {
    store: BucketStore,
    object: Arc<str>,
    deleted: bool,
}

impl Private {
    /// What is under a name that the store made up for it, or comes to be there.
    pub(super) fn new(store: BucketStore, object: Arc<str>) -> Self {
        Self { store, object, deleted: false }
    }

    /// Makes `size` bytes the object under `key`.
    pub(super) async fn rename(mut self, key: &Key, size: u64, headers: &Headers) -> Result<(), StoreError> {
        let store = &self.store;
        let object = store.0.at.object(key);
        let copied = if store.0.calls.service.cloud() == Cloud::Azure {
            azure_copy(store, &object, &self.object).await
        } else if store.0.calls.service.cloud() == Cloud::Google {
            google::rewrite(store, &object, &self.object, headers).await
        } else if size <= store.0.copy_limit {
            ask(store, call(store, &object, &store.0.at.source(&self.object), headers)).await
        } else {
            upload::copy_in_parts(store, &object, &self.object, size, headers).await
        };
        let copied = copied.map_err(|e| store.failed("writing", key.as_str(), e.error));
        let deleted = self.delete().await.map_err(|e| self.store.failed("deleting", &self.object, e.error));
        copied.and(deleted)
    }

    async fn delete(&mut self) -> Result<(), Failed> {
        let call = Call::new(Method::DELETE, Some(&self.object), "s3:DeleteObject");
        let deleted = self.store.0.calls.send(&call).await;
        self.deleted = true;
        deleted.map(drop)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if !self.deleted
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let mut rest = Self { store: self.store.clone(), object: Arc::clone(&self.object), deleted: true };
            runtime.spawn(async move {
                if let Err(Failed { error, .. }) = rest.delete().await {
                    tracing::warn!(%error, object = &*rest.object, "what nobody needs could not be deleted");
                }
            });
        }
    }
}

/// A copy of what lies elsewhere, under a private name.
struct Copied {
    private: Private,
    digest: Digest,
    size: u64,
}

/// Copies what lies at a [location](super::Base::location), if the service says what it is.
pub(super) async fn begin(
    store: &BucketStore,
    from: &str,
    algorithm: Algorithm,
    size: Option<u64>,
) -> Result<Option<Box<dyn Upload>>, StoreError> {
    let Some(source) = store.0.calls.base.source(from) else { return Ok(None) };
    // What Azure and Google copy, they say no SHA-256 of.
    if store.0.calls.service.cloud() != Cloud::S3 {
        return Ok(None);
    }
    let is_worth_it = size.is_some_and(|size| (WORTH_IT..=store.0.copy_limit).contains(&size));
    if algorithm != Algorithm::Sha256 || !is_worth_it || store.0.vouches_for_nothing.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let object = store.0.at.object(&store.upload_key()?);
    // A request that is broken off may be carried out all the same, after the deletion: what nobody waits for any more is
    // deleted when it is there.
    let copying = tokio::spawn(make(store.clone(), object, source.to_owned()));
    let copied = joined(copying.await).map_err(|failed| {
        let (operation, what) = ("copying", from.to_owned());
        StoreError::Io { operation, what, source: failed.error.into() }
    })?;
    Ok(copied.map(|copied| Box::new(copied) as Box<dyn Upload>))
}

/// Makes `object` a copy, if the service says what it is.
async fn make(store: BucketStore, object: String, source: String) -> Result<Option<Copied>, Failed> {
    let copying = call(&store, &object, &source, &Headers::default()).header(CHECKSUM_ALGORITHM, "SHA256");
    let mut private = Private::new(store.clone(), object.as_str().into());
    match ask(&store, copying).await {
        Ok(()) => {}
        Err(refused) if matches!(refused.error, BucketError::Refused { .. }) => {
            tracing::debug!(error = %refused.error, "the service does not copy {source}");
            store.0.vouches_for_nothing.fetch_or(!is_absent(&refused), Ordering::Relaxed);
            private.delete().await?;
            return Ok(None);
        }
        Err(other) => return Err(other),
    }
    let asking = Call::new(Method::HEAD, Some(&object), "s3:GetObject").header(CHECKSUM_MODE, "ENABLED");
    let response = store.0.calls.send(&asking).await?.response;
    let said = response.header(CHECKSUM).and_then(digest).zip(response.content_length());
    let Some((digest, size)) = said else {
        tracing::debug!("{} does not say the digests of its copies", store.describe());
        store.0.vouches_for_nothing.store(true, Ordering::Relaxed);
        private.delete().await?;
        return Ok(None);
    };
    Ok(Some(Copied { private, digest, size }))
}

/// What a service says that an object is.
fn digest(checksum: &str) -> Option<Digest> {
    let bytes = BASE64.decode(checksum).ok()?;
    format!("{}:{}", Algorithm::Sha256, sign::hex(&bytes)).parse().ok()
}

#[async_trait]
impl Upload for Copied {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let problem = "it is a copy, which nothing can be added to".to_owned();
        Err(self.private.store.failed("writing", &self.private.object, BucketError::Answer(problem)))
    }

    async fn digest(&mut self) -> Result<(Digest, u64), StoreError> {
        Ok((self.digest, self.size))
    }

    async fn finish(self: Box<Self>, key: &Key, headers: &Headers) -> Result<(), StoreError> {
        self.private.rename(key, self.size, headers).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums() {
        let content = Algorithm::Sha256.digest(b"content");
        let said = BASE64.encode(content.as_bytes());
        assert_eq!(digest(&said), Some(content));
        for other in ["", "AAAA", &format!("{said}-2"), &said[1..], "not base64"] {
            assert_eq!(digest(other), None, "{other:?}");
        }
    }
}

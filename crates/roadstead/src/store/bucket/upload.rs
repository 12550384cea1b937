//! Objects in the making.
//!
//! What is small goes in one request when it is whole. What is larger goes in parts of equal size, which some services insist
//! on, a few at once; the object shows when they are put together, which is asked for only by [`finish`](Upload::finish).
//! Where its key isn't known before, it is put together under a private one and copied by the service.
//!
//! All uploads share the memory that parts may take, so that many at once are no more than few.
//!
//! *Rejected:* one request of unknown length, signed piece by piece, which can't be repeated when it breaks after hours.

use std::sync::Arc;

use ::http::header::ETAG;
use ::http::{HeaderName, Method};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::client::{Call, Failed, joined};
use super::copy::{self, Private};
use super::session::Session;
use super::{
    Aim, BucketError, BucketStore, Cloud, Condition, Headers, Key, Store as _, StoreError, Upload, azure, is_absent,
    resume, xml,
};
use crate::oci::{Digest, Hasher};

/// The size of a part, and so what is put in one request. Services take no less than 5 MiB.
const PART: u64 = 8 << 20;

/// The largest part.
const MAX_PART: u64 = 64 << 20;

/// How many parts an object may have.
const MAX_PARTS: u64 = 10_000;

/// How many parts of one upload are under way at once.
const AT_ONCE: usize = 4;

/// The MiB that the parts of all uploads take of memory at most: those that are being filled and those under way.
pub(super) const MEMORY: usize = 48;

/// The size up to which what is kept in memory doesn't count.
const SMALL: u64 = 64 << 10;

/// The size of a part of a copy, which passes through nobody's memory.
const COPIED_PART: u64 = 1 << 30;

/// An upload in parts that has begun. Dropped before it is complete, it is called off.
struct Parts {
    store: BucketStore,
    object: Arc<str>,
    id: Arc<str>,
    /// The tags of the parts that are there, by number less one.
    etags: Vec<Option<String>>,
    under_way: JoinSet<Result<(usize, String), Failed>>,
    /// What was there before.
    begun: Option<resume::Begun>,
    /// Whether somebody else has ended it, so that there is nothing to be sent to any more.
    ended: bool,
    complete: bool,
}

impl Parts {
    async fn begin(store: &BucketStore, object: &str, headers: &Headers) -> Result<Self, Failed> {
        let begun = |id: String| Self {
            store: store.clone(),
            object: object.into(),
            id: id.into(),
            etags: Vec::new(),
            under_way: JoinSet::new(),
            begun: None,
            ended: false,
            complete: false,
        };
        if store.0.calls.service.cloud() == Cloud::Azure {
            return Ok(begun(format!("{:032x}", fastrand::u128(..))));
        }
        let call = Call::new(Method::POST, Some(object), "s3:PutObject")
            .parameter("uploads", "")
            .headers(store.written(headers));
        let (answer, _) = store.0.calls.ask(&call).await?;
        let xml::Begun { upload_id } = xml::read(&answer).map_err(BucketError::Answer)?;
        Ok(begun(upload_id))
    }

    /// Goes on with what was begun before, for an object that is named by its digest, where the service shows such to others.
    async fn resume(store: &BucketStore, object: &str) -> Option<Self> {
        if store.0.calls.service.cloud() != Cloud::S3 {
            return None;
        }
        let begun = resume::find(store, object).await?;
        tracing::debug!(object, parts = begun.parts.len(), "an upload is taken up");
        Some(Self {
            store: store.clone(),
            object: object.into(),
            id: begun.id.as_str().into(),
            etags: Vec::new(),
            under_way: JoinSet::new(),
            begun: Some(begun),
            ended: false,
            complete: false,
        })
    }

    /// Sends a part as soon as there is room, unless it is there. Its memory is given back when it has been sent.
    async fn send(&mut self, bytes: Bytes, memory: Option<OwnedSemaphorePermit>) -> Result<(), Failed> {
        if self.ended {
            return Ok(());
        }
        if let Some(tag) = self.begun.as_ref().and_then(|begun| begun.has(self.etags.len() + 1, &bytes)) {
            self.etags.push(Some(tag.clone()));
            return Ok(());
        }
        while self.under_way.len() >= AT_ONCE {
            self.sent().await?;
        }
        let (store, object, id) = (self.store.clone(), Arc::clone(&self.object), Arc::clone(&self.id));
        let part = self.etags.len();
        self.etags.push(None);
        self.under_way.spawn(async move {
            if store.0.calls.service.cloud() == Cloud::Azure {
                let block = azure::block(&id, part);
                let call = Call::new(Method::PUT, Some(&object), "s3:PutObject")
                    .parameter("comp", "block")
                    .parameter("blockid", &block)
                    .body(bytes);
                store.0.calls.send(&call).await?;
                return Ok((part, block));
            }
            let number = (part + 1).to_string();
            let call = Call::new(Method::PUT, Some(&object), "s3:PutObject")
                .parameter("partNumber", &number)
                .parameter("uploadId", &id)
                .body(bytes);
            let answer = store.0.calls.send(&call).await;
            drop((call, memory));
            let answer = answer?.response;
            let etag = answer.header(ETAG).map(str::to_owned);
            Ok((part, etag.ok_or_else(|| no_tag(&answer.shown().to_string()))?))
        });
        Ok(())
    }

    /// Copies a part of another object.
    async fn copy(&mut self, source: &str, start: u64, end: u64) -> Result<(), Failed> {
        let (number, range) = ((self.etags.len() + 1).to_string(), format!("bytes={start}-{}", end - 1));
        let call = Call::new(Method::PUT, Some(&self.object), "s3:PutObject")
            .parameter("partNumber", &number)
            .parameter("uploadId", &self.id)
            .header(copy::SOURCE, source)
            .header(HeaderName::from_static("x-amz-copy-source-range"), &range);
        let (answer, _) = self.store.0.calls.ask(&call).await?;
        let xml::Copied { etag } = xml::read(&answer).map_err(BucketError::Answer)?;
        self.etags.push(Some(etag));
        Ok(())
    }

    /// Waits for a part that is under way.
    async fn sent(&mut self) -> Result<(), Failed> {
        match self.under_way.join_next().await.map(joined) {
            None => Ok(()),
            Some(Ok((part, etag))) => {
                self.etags[part] = Some(etag);
                Ok(())
            }
            // What that made is looked at when it is time to.
            Some(Err(failed)) if failed.says("NoSuchUpload") => {
                self.ended = true;
                Ok(())
            }
            Some(Err(failed)) => Err(failed),
        }
    }

    /// Puts the parts together. From here on the object shows.
    async fn complete(&mut self, size: u64, headers: &Headers) -> Result<(), Failed> {
        while !self.under_way.is_empty() {
            self.sent().await?;
        }
        let etags: Vec<String> = self.etags.iter().flatten().cloned().collect();
        if self.store.0.calls.service.cloud() == Cloud::Azure {
            return self.commit(&etags, size, headers).await;
        }
        let call = Call::new(Method::POST, Some(&self.object), "s3:PutObject")
            .parameter("uploadId", &self.id)
            .body(xml::complete(&etags).into());
        match self.store.0.calls.ask(&call).await {
            Ok(_) => {}
            // Done by an earlier attempt, whose answer was lost, or by somebody else who sent the same.
            Err(failed) if failed.says("NoSuchUpload") && self.is_there(size).await? => {}
            Err(failed) => return Err(failed),
        }
        self.complete = true;
        Ok(())
    }

    /// Puts blocks together, under headers that are said only now.
    async fn commit(&mut self, blocks: &[String], size: u64, headers: &Headers) -> Result<(), Failed> {
        let store = &self.store;
        let call = Call::new(Method::PUT, Some(&self.object), "s3:PutObject")
            .parameter("comp", "blocklist")
            .headers(store.written(headers))
            .body(azure::commit(blocks).into());
        match store.0.calls.send(&call).await {
            Ok(_) => {}
            // Another upload to the same name took the blocks with it. If it was the same digest's, nothing is lost.
            Err(failed) if failed.says("InvalidBlockList") && headers.digest.is_some() => {
                let there = store.0.calls.send(&Call::new(Method::HEAD, Some(&self.object), "s3:GetObject")).await?;
                let digest = there.response.header(azure::DIGEST).and_then(|text| text.parse().ok());
                if (digest, there.response.content_length()) != (headers.digest, Some(size)) {
                    return Err(failed);
                }
            }
            Err(failed) => return Err(failed),
        }
        self.complete = true;
        Ok(())
    }

    async fn is_there(&self, size: u64) -> Result<bool, Failed> {
        match self.store.0.calls.send(&Call::new(Method::HEAD, Some(&self.object), "s3:GetObject")).await {
            Ok(answer) => Ok(answer.response.content_length() == Some(size)),
            Err(failed) if is_absent(&failed) => Ok(false),
            Err(failed) => Err(failed),
        }
    }
}

fn no_tag(url: &str) -> BucketError {
    BucketError::Answer(format!("{url} does not say what it calls the part"))
}

impl Drop for Parts {
    fn drop(&mut self) {
        // Parts that belong to no object cost money all the same.
        // Azure's go by themselves.
        if !self.complete
            && self.store.0.calls.service.cloud() != Cloud::Azure
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let mut under_way = std::mem::take(&mut self.under_way);
            let (store, object, id) = (self.store.clone(), Arc::clone(&self.object), Arc::clone(&self.id));
            runtime.spawn(async move {
                // One that arrives after the end of its upload would stay, and one that is broken off may still arrive.
                while under_way.join_next().await.is_some() {}
                let call =
                    Call::new(Method::DELETE, Some(&object), "s3:AbortMultipartUpload").parameter("uploadId", &id);
                if let Err(failed) = store.0.calls.send(&call).await {
                    tracing::warn!(error = %failed.error, "an upload could not be called off");
                }
            });
        }
    }
}

/// Copies an object within the service that is too large for one call.
pub(super) async fn copy_in_parts(
    store: &BucketStore,
    object: &str,
    from: &str,
    size: u64,
    headers: &Headers,
) -> Result<(), Failed> {
    let source = store.0.at.source(from);
    let length = store.0.copy_limit.min(COPIED_PART.max(size.div_ceil(MAX_PARTS)));
    let mut parts = Parts::begin(store, object, headers).await?;
    let mut start = 0;
    while start < size {
        let end = size.min(start + length);
        parts.copy(&source, start, end).await?;
        start = end;
    }
    parts.complete(size, headers).await
}

/// An object in the making of which some parts are on their way.
enum Begun {
    Parts(Parts),
    Session(Session),
}

impl Begun {
    async fn new(store: &BucketStore, object: &str, headers: &Headers) -> Result<Self, Failed> {
        match store.0.calls.service.cloud() {
            Cloud::Google => Session::begin(store, object, headers).await.map(Self::Session),
            _ => Parts::begin(store, object, headers).await.map(Self::Parts),
        }
    }

    /// How many parts there are, of those that are counted.
    fn count(&self) -> u64 {
        match self {
            Self::Parts(parts) => parts.etags.len() as u64,
            Self::Session(_) => 0,
        }
    }

    async fn send(&mut self, bytes: Bytes, memory: Option<OwnedSemaphorePermit>) -> Result<(), Failed> {
        match self {
            Self::Parts(parts) => parts.send(bytes, memory).await,
            Self::Session(session) => session.send(bytes, memory).await,
        }
    }

    /// Makes them one object with the last one. Returns its name.
    async fn finish(
        mut self,
        last: Bytes,
        memory: Option<OwnedSemaphorePermit>,
        size: u64,
        headers: &Headers,
    ) -> Result<Arc<str>, Failed> {
        match &mut self {
            Self::Parts(parts) => {
                if !last.is_empty() {
                    parts.send(last, memory).await?;
                }
                parts.complete(size, headers).await?;
                Ok(Arc::clone(&parts.object))
            }
            Self::Session(session) => {
                session.finish(last).await?;
                Ok(session.object())
            }
        }
    }
}

struct BucketUpload {
    store: BucketStore,
    hasher: Hasher,
    written: u64,
    aim: Option<Aim>,
    part: usize,
    buffer: BytesMut,
    /// The room that the buffer has, once there is more than fits into one request.
    memory: Option<OwnedSemaphorePermit>,
    parts: Option<Begun>,
}

pub(super) fn begin(store: BucketStore, hasher: Hasher, aim: Option<Aim>) -> Box<dyn Upload> {
    let size = aim.as_ref().and_then(|aim| aim.size).unwrap_or(0);
    // Of whole MiB; an object of unknown size that outgrows its parts is refused when it does.
    let part = size.div_ceil(MAX_PARTS).next_multiple_of(1 << 20).clamp(PART, MAX_PART);
    let part = usize::try_from(part).expect("a part fits into memory");
    Box::new(BucketUpload { store, hasher, written: 0, aim, part, buffer: BytesMut::new(), memory: None, parts: None })
}

impl BucketUpload {
    fn failed(&self, failed: Failed) -> StoreError {
        let key = self.aim.as_ref().map_or("", |aim| aim.key.as_str());
        self.store.failed("writing", key, failed.error)
    }

    /// Waits until there is memory for a part.
    async fn room(&self) -> Option<OwnedSemaphorePermit> {
        let size = self.aim.as_ref().and_then(|aim| aim.size).unwrap_or(u64::MAX).min(self.part as u64);
        if size <= SMALL {
            return None;
        }
        let needed = size.div_ceil(1 << 20).clamp(1, MEMORY as u64);
        // Whole MiB, of which there are few.
        self.store.0.memory.clone().acquire_many_owned(u32::try_from(needed).unwrap_or(1)).await.ok()
    }

    /// Sends what is buffered as a part.
    async fn flush(&mut self) -> Result<(), StoreError> {
        let mut parts = match self.parts.take() {
            Some(parts) => parts,
            None => {
                let (object, headers) = match &self.aim {
                    Some(aim) => (self.store.0.at.object(&aim.key), aim.headers.clone()),
                    None => (self.store.0.at.object(&self.store.upload_key()?), Headers::default()),
                };
                let begun = match self.aim.as_ref().is_some_and(|aim| aim.headers.digest.is_some()) {
                    true => Parts::resume(&self.store, &object).await.map(Begun::Parts),
                    false => None,
                };
                match begun {
                    Some(begun) => begun,
                    None => Begun::new(&self.store, &object, &headers).await.map_err(|e| self.failed(e))?,
                }
            }
        };
        // The one that comes last is counted, too.
        if parts.count() + 1 >= MAX_PARTS {
            let problem = format!("more than {MAX_PARTS} parts of {} bytes", self.part);
            return Err(self.failed(BucketError::Answer(problem).into()));
        }
        // What is split off shares its memory with the rest, which would be held until there is room for the next part.
        let bytes = std::mem::take(&mut self.buffer).freeze();
        let sent = parts.send(bytes, self.memory.take()).await;
        self.parts = Some(parts);
        sent.map_err(|e| self.failed(e))
    }
}

#[async_trait]
impl Upload for BucketUpload {
    async fn write(&mut self, mut bytes: Bytes) -> Result<(), StoreError> {
        self.hasher.update(&bytes);
        self.written += bytes.len() as u64;
        while !bytes.is_empty() {
            // A full buffer waits for more: an object of exactly one part needs no parts.
            if self.buffer.len() == self.part {
                self.flush().await?;
            }
            if self.memory.is_none() {
                self.memory = self.room().await;
            }
            let room = self.part - self.buffer.len();
            let piece = bytes.split_to(room.min(bytes.len()));
            // What grows by doubling takes twice as much.
            let is_full_soon = self.aim.as_ref().and_then(|aim| aim.size).is_some_and(|size| size >= self.part as u64);
            if (self.parts.is_some() || is_full_soon) && self.buffer.capacity() < self.part {
                self.buffer.reserve(self.part - self.buffer.len());
            }
            self.buffer.extend_from_slice(&piece);
        }
        Ok(())
    }

    async fn digest(&mut self) -> Result<(Digest, u64), StoreError> {
        Ok((self.hasher.clone().finish(), self.written))
    }

    async fn finish(mut self: Box<Self>, key: &Key, headers: &Headers) -> Result<(), StoreError> {
        if self.parts.is_none() {
            let bytes = std::mem::take(&mut self.buffer).freeze();
            return self.store.put(key, bytes, headers, Condition::Always).await.map(drop);
        }
        let Some(parts) = self.parts.take() else { return Ok(()) };
        if let Some(aim) = &self.aim
            && (&aim.key, &aim.headers) != (key, headers)
        {
            let problem = format!("its parts were sent for {}, and can go nowhere else", aim.key);
            return Err(self.store.failed("writing", key.as_str(), BucketError::Answer(problem)));
        }
        // What is full waits for more, so there is always something left.
        let last = std::mem::take(&mut self.buffer).freeze();
        let memory = self.memory.take();
        let object = parts.finish(last, memory, self.written, headers).await.map_err(|e| self.failed(e))?;
        if self.aim.is_some() {
            return Ok(());
        }
        let private = Private::new(self.store.clone(), object);
        private.rename(key, self.written, headers).await
    }
}

#[cfg(test)]
mod tests {
    use roadstead_parts::{BucketServer, Buckets};

    use super::*;
    use crate::http::{Client, ClientOptions};
    use crate::store::bucket::{BucketOptions, Keys};
    use crate::testing::noise;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_too_large_for_one_copy_is_copied_in_parts() {
        let buckets = BucketServer::Versitygw.start(&["copies"]);
        let keys = Keys { id: Buckets::ID.to_owned(), secret: Buckets::SECRET.into(), token: None };
        let options = BucketOptions {
            endpoint: Some(buckets.url()),
            credentials: Some(Arc::new(keys)),
            ..BucketOptions::default()
        };
        let client = Client::new(ClientOptions::default()).unwrap();
        let store = BucketStore::open("s3://copies".parse().unwrap(), client, options).unwrap();
        let mut inner = Arc::into_inner(store.0).unwrap();
        inner.copy_limit = 6 << 20;
        let store = BucketStore(Arc::new(inner), None);
        let (content, from): (_, Key) = (noise(4, 13 << 20), "from here".parse().unwrap());
        let _ = store.put(&from, content.clone(), &Headers::default(), Condition::Always).await.unwrap();
        let headers = Headers { cache_control: Some("max-age=1".into()), ..Headers::default() };
        let copied = copy_in_parts(&store, "to", "from here", 13 << 20, &headers).await;
        copied.unwrap_or_else(|failed| panic!("{failed:?}"));
        let object = store.get(&"to".parse().unwrap(), None).await.unwrap().unwrap();
        assert_eq!(object.entry.headers, headers);
        assert!(object.entry.version.0.contains("-3"), "three parts: {:?}", object.entry.version);
        assert_eq!(object.body.into_bytes(1 << 30, &from).await.unwrap(), content);
    }
}

//! A store in a bucket: Amazon S3 and everything that speaks its API, Azure Blob Storage, and Google Cloud Storage.
//!
//! ```text
//! place    s3://BUCKET/PREFIX, az://CONTAINER/PREFIX, gs://BUCKET/PREFIX, and the URLs of their objects
//! service  what services differ in
//! sign     Amazon's signature of a request
//! xml      what Amazon's answers mean
//! azure    Azure's signatures and documents, and where it is unlike the others
//! bounded  signatures of Azure's that end
//! google   Google's documents, and where it is unlike the others
//! client   calls: signed, repeated, their faults understood
//! listing  lists, a page of a thousand names at a time
//! reading  objects as they come, going on where a connection broke
//! writing  small objects, each in one call, on conditions
//! upload   objects in the making: one PUT, or parts
//! resume   parts that were sent before, by whomever
//! session  the same at Google's, where one piece follows the other
//! copy     objects made of others by the service
//! signed_url  URLs by which anybody may read an object for a time
//! lease    requests that the service refuses when they come too late
//! error    what went wrong
//! ```
//!
//! # What a bucket is good for
//!
//! An object is put whole or not at all, a list shows everything that was put before it was asked for, and a write may depend on
//! what is there (`If-None-Match`, `If-Match`). That is all that a tree needs beside bytes and headers. A bucket that ignores
//! conditions would lose tags when two write at once, so [`BucketStore::create`] tries it first.
//!
//! # What it is not good for
//!
//! There are no locks: [`reach`](Store::reach) says so, unless the caller vouches for being alone
//! ([`BucketOptions::alone`]). A lease that its holder watches would be a lock only as long as nobody's clock, network or laptop
//! sleeps; so the [leases](super::Lease) of a bucket are watched by the service, which refuses old signatures.
//!
//! # Integrity
//!
//! The signature of each request covers the SHA-256 of its body, so the service refuses what was damaged on the way: every
//! part of an upload, too. *Rejected:* the headers for checksums beside it, which some services don't know. Azure and
//! Google sign no bodies, and compare their MD5 instead.

mod azure;
mod bounded;
mod client;
mod copy;
mod error;
mod google;
mod lease;
mod listing;
mod place;
mod reading;
mod resume;
mod service;
mod session;
mod sign;
mod signed_url;
mod upload;
mod writing;
mod xml;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use ::http::header::{CACHE_CONTROL, CONTENT_RANGE};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::Semaphore;

use super::task_locks::TaskLocks;
use super::{
    Aim, Body, Condition, Entry, Headers, Key, Lease, Listed, LockGuard, LockMode, Md5, Named, Naming, Object, Reach,
    Store, StoreError, Upload, Version, Written,
};
use crate::http::{BoxError, Client, Response, Secret};
use crate::oci::{Algorithm, Hasher};
pub use azure::{AzureCredentialSource, AzureKey};
use client::{Call, Calls, Dated, Failed};
pub use error::BucketError;
pub use google::GoogleCredentialSource;
use place::Base;
pub use place::{Addressing, BucketUrl, BucketUrlError, Cloud};
use service::Service;
use writing::is_collision;

/// What objects are that have no type of their own.
const OCTETS: &str = "application/octet-stream";

/// The largest object that is copied in one call.
const COPY_LIMIT: u64 = 5 << 30;

/// Access keys, as a service hands them out.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The access key's id.
    pub id: String,
    /// The secret access key.
    pub secret: Secret,
    /// The session token, with keys that expire.
    pub token: Option<Secret>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Where access keys come from.
#[async_trait]
pub trait CredentialSource: fmt::Debug + Send + Sync {
    /// Keys that are good now. Asked before every request, so a source keeps them as long as they last.
    ///
    /// # Errors
    ///
    /// If there are none.
    async fn keys(&self) -> Result<Keys, BoxError>;
}

#[async_trait]
impl CredentialSource for Keys {
    async fn keys(&self) -> Result<Keys, BoxError> {
        Ok(self.clone())
    }
}

/// How a bucket is reached, and what objects in it are like.
#[derive(Debug, Clone, Default)]
pub struct BucketOptions {
    /// The service's URL, if it isn't Amazon's; for Azure, if it isn't the account's at Microsoft's.
    pub endpoint: Option<String>,
    /// The region; without it, the one that Amazon and others take for the default, `us-east-1`.
    pub region: Option<String>,
    /// Where the bucket's name stands.
    pub addressing: Addressing,
    /// Who asks; nobody in particular without it.
    pub credentials: Option<Arc<dyn CredentialSource>>,
    /// The canned access control list of what is written. Many buckets refuse any.
    pub acl: Option<String>,
    /// The storage class of what is written; Azure's access tier.
    pub storage_class: Option<String>,
    /// The server's encryption of what is written: `AES256`, `aws:kms`.
    pub encryption: Option<String>,
    /// The key for `aws:kms`.
    pub kms_key: Option<String>,
    /// Whether whoever asks pays for it.
    pub requester_pays: bool,
    /// Whether the caller vouches that nobody else writes to the bucket: then this process's locks are everybody's, and
    /// conditions are judged here, for services that know none.
    pub alone: bool,
    /// How Azure is reached.
    pub azure: AzureOptions,
    /// Who asks Google; nobody in particular without it.
    pub google: Option<Arc<dyn GoogleCredentialSource>>,
}

/// How Azure is reached.
#[derive(Debug, Clone, Default)]
pub struct AzureOptions {
    /// The storage account, if neither the URL nor the endpoint says it.
    pub account: Option<String>,
    /// Who asks; nobody in particular without it.
    pub credentials: Option<Arc<dyn AzureCredentialSource>>,
}

/// A store in a bucket. Clones share it. What is changed through one with a date is signed as of then.
#[derive(Clone)]
pub struct BucketStore(Arc<Inner>, Option<Dated>);

struct Inner {
    at: BucketUrl,
    calls: Calls,
    /// What every object that is written gets.
    writing: HeaderMap,
    alone: bool,
    locks: TaskLocks,
    /// The MiB that parts may still take of memory, over all uploads.
    memory: Arc<Semaphore>,
    /// The largest object that is copied in one call, which tests lower.
    copy_limit: u64,
    /// Whether the service has shown that it doesn't say the digests of its copies, or makes none of what is elsewhere.
    vouches_for_nothing: AtomicBool,
    /// Whether the service has shown that it keeps to conditions.
    conditional: AtomicBool,
}

impl BucketStore {
    /// The store in a bucket, which nobody asks for anything yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsuitable`] if an option makes no sense.
    pub fn open(at: BucketUrl, client: Client, options: BucketOptions) -> Result<Self, StoreError> {
        let unsuitable = |problem| StoreError::Unsuitable { what: at.to_string(), problem };
        let region = options.region.unwrap_or_else(|| "us-east-1".to_owned());
        let is_azure = at.cloud() == Cloud::Azure;
        let is_google = at.cloud() == Cloud::Google;
        let mut endpoint = options.endpoint;
        if is_azure && endpoint.is_none() && at.host().is_none() {
            let account = options.azure.account.as_deref().ok_or_else(|| {
                unsuitable(
                    "whose container that is isn't known: name the account, or write \
                     az://ACCOUNT.blob.core.windows.net/CONTAINER"
                        .to_owned(),
                )
            })?;
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            if account.is_empty() || !account.bytes().all(legal) {
                return Err(unsuitable(format!("{account:?} is no storage account")));
            }
            endpoint = Some(format!("https://{account}.blob.core.windows.net"));
        }
        let base = Base::new(&at, endpoint.as_deref(), &region, options.addressing).map_err(unsuitable)?;
        let mut writing = HeaderMap::new();
        let tier = if is_azure { "x-ms-access-tier" } else { "x-amz-storage-class" };
        let (class, storage_class) =
            if is_google { (None, options.storage_class) } else { (options.storage_class, None) };
        for (name, value, what) in [
            ("x-amz-acl", options.acl, Some("an ACL")),
            (tier, class, None),
            ("x-amz-server-side-encryption", options.encryption, Some("an encryption")),
            ("x-amz-server-side-encryption-aws-kms-key-id", options.kms_key, Some("a key")),
        ] {
            let Some(value) = value else { continue };
            if let Some(what) = what.filter(|_| is_azure || is_google) {
                let problem = format!("{what} can't be said of each object here: the bucket or the account has it");
                return Err(unsuitable(problem));
            }
            let legal = HeaderValue::try_from(&value).map_err(|_| unsuitable(format!("{value:?} is no setting")))?;
            writing.insert(HeaderName::from_static(name), legal);
        }
        let service = if is_azure {
            let account = options.azure.account.or_else(|| base.account().map(str::to_owned)).unwrap_or_default();
            let (container, bounds) = (at.bucket().to_owned(), bounded::Bounds::new());
            Service::Azure { account, container, credentials: options.azure.credentials, bounds }
        } else if is_google {
            Service::Google { bucket: at.bucket().to_owned(), credentials: options.google, storage_class }
        } else {
            Service::S3 { region, credentials: options.credentials, requester_pays: options.requester_pays }
        };
        let calls = Calls { client, base, service, answers: AtomicBool::new(false) };
        let (alone, locks) = (options.alone, TaskLocks::default());
        let (copy_limit, vouches_for_nothing, conditional) =
            (COPY_LIMIT, AtomicBool::new(false), AtomicBool::new(false));
        let memory = Arc::new(Semaphore::new(upload::MEMORY));
        let inner = Inner { at, calls, writing, alone, locks, memory, copy_limit, vouches_for_nothing, conditional };
        Ok(Self(Arc::new(inner), None))
    }

    /// The store in a bucket, which is tried if it holds no tree yet: whether a write may depend on what is there.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`StoreError::Unconditional`] if the service ignores conditions or knows none.
    pub async fn create(at: BucketUrl, client: Client, options: BucketOptions) -> Result<Self, StoreError> {
        let store = Self::open(at, client, options)?;
        if !store.0.alone && store.head(&store.private("format")?).await?.is_none() {
            store.probe().await?;
        }
        Ok(store)
    }

    /// The URL below which the service hands objects out under their keys, to those who may read them.
    #[must_use]
    pub fn url(&self) -> String {
        let prefix = self.0.at.prefix().map(Key::as_str);
        self.0.calls.base.url(prefix, &[]).to_string().trim_end_matches('/').to_owned()
    }

    /// Deletes an object. Returns `false` where the service says that there was none.
    async fn delete_now(&self, key: &Key) -> Result<bool, StoreError> {
        let object = self.0.at.object(key);
        match self
            .0
            .calls
            .send(&Call::new(Method::DELETE, Some(&object), "s3:DeleteObject").dated(self.1.as_ref()))
            .await
        {
            Ok(_) => Ok(true),
            Err(failed) if is_absent(&failed) => Ok(false),
            Err(failed) => Err(self.failed("deleting", key.as_str(), failed.error)),
        }
    }

    /// Tries whether conditions are obeyed.
    async fn probe(&self) -> Result<(), StoreError> {
        let key = self.private(&format!("probe/{:016x}", fastrand::u64(..)))?;
        let headers = Headers::default();
        let put = |text, condition| self.put(&key, Bytes::from_static(text), &headers, condition);
        let first = put(b"1", Condition::Absent).await?;
        let unknown = Condition::Unchanged(Version(self.0.calls.service.no_version().into()));
        let (second, third) = futures::try_join!(put(b"2", Condition::Absent), put(b"3", unknown))?;
        self.delete_now(&key).await?;
        match (first, second, third) {
            (Written::Done, Written::Refused, Written::Refused) => {
                self.0.conditional.store(true, Ordering::SeqCst);
                Ok(())
            }
            _ => Err(self.unconditional("ignores")),
        }
    }

    fn unconditional(&self, how: &'static str) -> StoreError {
        StoreError::Unconditional { what: self.describe(), how }
    }

    /// A key for what is nobody else's business.
    fn private(&self, name: &str) -> Result<Key, StoreError> {
        format!("{}/{name}", super::local::PRIVATE)
            .parse()
            .map_err(|error: super::KeyError| self.failed("writing", name, BucketError::Answer(error.to_string())))
    }

    /// A key for an object that will get another one.
    fn upload_key(&self) -> Result<Key, StoreError> {
        self.private(&format!("uploads/{:032x}", fastrand::u128(..)))
    }

    /// What went wrong with an object or, without a name, with the bucket.
    fn failed(&self, operation: &'static str, key: &str, error: BucketError) -> StoreError {
        let what = if key.is_empty() { self.describe() } else { format!("{}/{key}", self.0.at) };
        if is_collision(&error) {
            return StoreError::Collision { what };
        }
        if self.1.is_some()
            && matches!(&error, BucketError::Refused { code, .. } if self.0.calls.service.is_too_late(code))
        {
            return StoreError::Late { what };
        }
        StoreError::Io { operation, what, source: error.into() }
    }

    /// The headers of an object that is written.
    fn written(&self, headers: &Headers) -> HeaderMap {
        let mut written = self.0.writing.clone();
        let content_type = headers.content_type.as_ref().map_or(OCTETS, |content_type| content_type.as_str());
        let digest = headers.digest.map(|digest| digest.to_string());
        let names = self.0.calls.service.names();
        let values = [
            (names.content_type, Some(content_type)),
            (names.cache_control, headers.cache_control.as_deref()),
            (names.digest, digest.as_deref()),
        ];
        for (name, value) in values {
            // Types and digests are of an alphabet that headers can have.
            written.extend(value.and_then(|value| Some((name, HeaderValue::try_from(value).ok()?))));
        }
        written
    }

    /// What an answer says about an object.
    fn entry(&self, key: &Key, response: &Response) -> Result<Entry, StoreError> {
        let lacks = |what: &str| {
            let error = BucketError::Answer(format!("{} does not say its {what}", response.shown()));
            self.failed("reading", key.as_str(), error)
        };
        let total = response.header(CONTENT_RANGE).and_then(|range| range.rsplit_once('/')?.1.trim().parse().ok());
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let size = if partial { total } else { response.content_length() };
        let content_type = response.content_type().filter(|text| text != OCTETS);
        Ok(Entry {
            size: size.ok_or_else(|| lacks("size"))?,
            version: Version(
                response.header(self.0.calls.service.names().version).ok_or_else(|| lacks("version"))?.into(),
            ),
            headers: Headers {
                content_type: content_type.and_then(|text| text.parse().ok()),
                digest: response.header(self.0.calls.service.names().digest).and_then(|text| text.parse().ok()),
                cache_control: response.header(CACHE_CONTROL).map(|text| text.to_owned().into()),
            },
            target: None,
        })
    }
}

/// Whether a call failed since there is no such object. That there is no such bucket is another matter, and that nobody in
/// particular may enter one, of which Azure says that nothing is there.
fn is_absent(failed: &Failed) -> bool {
    let others = ["NoSuchBucket", "ContainerNotFound", "ResourceNotFound"];
    failed.status() == Some(StatusCode::NOT_FOUND) && !others.iter().any(|code| failed.says(code))
}

#[async_trait]
impl Store for BucketStore {
    fn describe(&self) -> String {
        self.0.at.to_string()
    }

    fn naming(&self) -> Naming {
        Naming::Copies
    }

    async fn head(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let object = self.0.at.object(key);
        match self.0.calls.send(&Call::new(Method::HEAD, Some(&object), "s3:GetObject")).await {
            Ok(answer) => self.entry(key, &answer.response).map(Some),
            Err(failed) if is_absent(&failed) => Ok(None),
            Err(failed) => Err(self.failed("reading", key.as_str(), failed.error)),
        }
    }

    async fn target(&self, _: &Key) -> Result<Option<Key>, StoreError> {
        Ok(None)
    }

    async fn modified(&self, key: &Key) -> Result<Option<SystemTime>, StoreError> {
        let object = self.0.at.object(key);
        match self.0.calls.send(&Call::new(Method::HEAD, Some(&object), "s3:GetObject")).await {
            Ok(answer) => {
                let written = answer.response.header("last-modified");
                Ok(written.and_then(|date| httpdate::parse_http_date(date).ok()))
            }
            Err(failed) if is_absent(&failed) => Ok(None),
            Err(failed) => Err(self.failed("reading", key.as_str(), failed.error)),
        }
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>, StoreError> {
        let nothing = |entry| Object { entry, body: Body::Bytes(Bytes::new()) };
        if range.as_ref().is_some_and(Range::is_empty) {
            return Ok(self.head(key).await?.map(nothing));
        }
        let object = self.0.at.object(key);
        let call = reading::call(&object, range.as_ref());
        let response = match self.0.calls.send(&call).await {
            Ok(answer) => answer.response,
            Err(failed) if is_absent(&failed) => return Ok(None),
            Err(failed) if failed.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE) => {
                return Ok(self.head(key).await?.map(nothing));
            }
            Err(failed) => return Err(self.failed("reading", key.as_str(), failed.error)),
        };
        let entry = self.entry(key, &response)?;
        let range = super::clamp(range, entry.size);
        let version = entry.version.clone();
        Ok(Some(Object {
            entry,
            body: Body::Stream(reading::stream(self.clone(), key.clone(), version, range, response)),
        }))
    }

    async fn put(
        &self,
        key: &Key,
        bytes: Bytes,
        headers: &Headers,
        condition: Condition,
    ) -> Result<Written, StoreError> {
        let put = self.put_noted(key, bytes, headers, condition).await?;
        Ok(if put.is_some() { Written::Done } else { Written::Refused })
    }

    async fn begin_upload(&self, hasher: Hasher) -> Result<Box<dyn Upload>, StoreError> {
        Ok(upload::begin(self.undated(), hasher, None))
    }

    async fn begin_upload_to(&self, hasher: Hasher, aim: Aim) -> Result<Box<dyn Upload>, StoreError> {
        Ok(upload::begin(self.undated(), hasher, Some(aim)))
    }

    async fn link(&self, key: &Key, target: &Key, headers: &Headers) -> Result<bool, StoreError> {
        copy::link(self, key, target, headers).await
    }

    fn location(&self, key: &Key) -> Option<String> {
        Some(self.0.calls.base.location(&self.0.at, key))
    }

    async fn signed_url(&self, key: &Key, time: Duration) -> Result<Option<String>, StoreError> {
        signed_url::of(self, key, time).await.map_err(|error| self.failed("reading", key.as_str(), error))
    }

    async fn begin_copy(
        &self,
        from: &str,
        algorithm: Algorithm,
        size: Option<u64>,
    ) -> Result<Option<Box<dyn Upload>>, StoreError> {
        copy::begin(&self.undated(), from, algorithm, size).await
    }

    async fn renew(&self, key: &Key) -> Result<(), StoreError> {
        copy::renew(self, key).await
    }

    async fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        // The answer to a deletion doesn't tell.
        Ok(self.head(key).await?.is_some() && self.delete_now(key).await?)
    }

    async fn discard(&self, key: &Key) -> Result<(), StoreError> {
        self.delete_now(key).await.map(drop)
    }

    fn list(&self, prefix: &Key) -> BoxStream<'_, Result<Listed, StoreError>> {
        listing::list(self, prefix)
    }

    fn walk(&self, prefix: &Key) -> BoxStream<'_, Result<Named, StoreError>> {
        listing::walk(self, prefix)
    }

    async fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn reach(&self) -> Reach {
        if self.0.alone { Reach::Everybody } else { Reach::Process }
    }

    async fn is_fenced(&self) -> Result<bool, StoreError> {
        let fenced = !self.0.alone && self.0.calls.refuses_late().await.map_err(|e| self.failed("reading", "", e))?;
        Ok(fenced)
    }

    async fn lease(&self, key: &Key, bytes: Bytes, when: Condition) -> Result<Option<Lease>, StoreError> {
        lease::take(self, key, bytes, when).await
    }

    async fn try_conditions(&self) -> Result<(), StoreError> {
        if self.0.conditional.load(Ordering::SeqCst) { Ok(()) } else { self.undated().probe().await }
    }

    async fn try_lease(&self) -> Result<SystemTime, StoreError> {
        lease::probe(self).await
    }

    async fn lock(&self, name: &str, mode: LockMode) -> Result<LockGuard, StoreError> {
        Ok(self.0.locks.lock(name, mode).await)
    }
}

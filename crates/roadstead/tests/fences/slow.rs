//! A service that takes one write a second of each key, as R2 does, and thirty jobs that publish at once. The time is virtual.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use Outcome::{Done, Refused};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::{self, BoxStream};
use roadstead::http::RetryPolicy;
use roadstead::image::Silent;
use roadstead::oci::{Digest, Hasher};
use roadstead::publish::{Plan, PlanOptions, TransferOptions};
use roadstead::store::bucket::BucketError;
use roadstead::store::{
    Condition, Entry, Headers, Key, Lease, Listed, LockGuard, LockMode, MemoryStore, Naming, Object, Reach, Store,
    StoreError, Upload, Written as Outcome,
};
use roadstead::testing::ImageBuilder;
use roadstead::tree::Tree;
use tokio::time::{Instant, sleep};

use crate::removal::{add, image, prepared, tags};
use crate::world::read;

const JOBS: usize = 30;

/// How long an answer takes.
const ROUND_TRIP: Duration = Duration::from_millis(30);

struct Service {
    store: MemoryStore,
    keys: Mutex<HashMap<Key, Written>>,
}

/// What became of the writes of a key.
#[derive(Default)]
struct Written {
    last: Option<Instant>,
    times: usize,
}

/// The service as a process sees it, which waits as clients of buckets do.
#[derive(Clone)]
struct Slow {
    service: Arc<Service>,
    locks: MemoryStore,
}

impl Slow {
    /// Does something with a key as soon as it may be written, trying as often as a client does. It says whether it wrote.
    async fn writing<T>(
        &self,
        key: &Key,
        work: impl AsyncFnOnce() -> Result<T, StoreError>,
        wrote: impl FnOnce(&T) -> bool,
    ) -> Result<T, StoreError> {
        let policy = RetryPolicy::default();
        for attempt in 0..policy.attempts {
            sleep(ROUND_TRIP).await;
            let of = |change: &dyn Fn(&mut Written)| {
                let mut keys = self.service.keys.lock().unwrap();
                let of = keys.entry(key.clone()).or_default();
                change(of);
                of.last
            };
            if of(&|_| {}).is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
                // Memory does not wait, so nobody comes in between.
                let done = work().await?;
                if wrote(&done) {
                    of(&|of| (of.last, of.times) = (Some(Instant::now()), of.times + 1));
                }
                return Ok(done);
            }
            let wait = (policy.first_delay * (1 << attempt)).min(policy.max_delay);
            sleep(wait / 2 + (wait / 2).mul_f64(fastrand::f64())).await;
        }
        let source = BucketError::Refused {
            url: key.to_string(),
            status: http::StatusCode::TOO_MANY_REQUESTS,
            code: "SlowDown".to_owned(),
            message: String::new(),
            region: None,
            action: "s3:PutObject",
        };
        Err(StoreError::Io { operation: "writing", what: key.to_string(), source: source.into() })
    }
}

#[async_trait]
impl Store for Slow {
    fn describe(&self) -> String {
        "the slow bucket".to_owned()
    }

    fn naming(&self) -> Naming {
        Naming::Copies
    }

    async fn head(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        sleep(ROUND_TRIP).await;
        self.service.store.head(key).await
    }

    async fn target(&self, _: &Key) -> Result<Option<Key>, StoreError> {
        Ok(None)
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>, StoreError> {
        sleep(ROUND_TRIP).await;
        self.service.store.get(key, range).await
    }

    async fn put(&self, key: &Key, bytes: Bytes, headers: &Headers, when: Condition) -> Result<Outcome, StoreError> {
        let put = async || self.service.store.put(key, bytes, headers, when).await;
        self.writing(key, put, |written| *written == Done).await
    }

    async fn begin_upload(&self, hasher: Hasher) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(SlowUpload { slow: self.clone(), upload: self.service.store.begin_upload(hasher).await? }))
    }

    async fn link(&self, key: &Key, target: &Key, headers: &Headers) -> Result<bool, StoreError> {
        self.writing(key, async || self.service.store.link(key, target, headers).await, |_| true).await
    }

    async fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        sleep(ROUND_TRIP).await;
        self.service.store.delete(key).await
    }

    fn list(&self, prefix: &Key) -> BoxStream<'_, Result<Listed, StoreError>> {
        let prefix = prefix.clone();
        let listed = async move {
            sleep(ROUND_TRIP).await;
            let listed: Vec<_> = self.service.store.list(&prefix).collect().await;
            stream::iter(listed)
        };
        stream::once(listed).flatten().boxed()
    }

    async fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn reach(&self) -> Reach {
        Reach::Process
    }

    async fn lease(&self, key: &Key, bytes: Bytes, when: Condition) -> Result<Option<Lease>, StoreError> {
        if self.put(key, bytes, &Headers::default(), when).await? == Refused {
            return Ok(None);
        }
        let version = self.service.store.head(key).await?.unwrap().version;
        Ok(Some(Lease {
            store: Arc::new(self.clone()),
            version,
            at: SystemTime::UNIX_EPOCH,
            unanswered: Arc::default(),
        }))
    }

    async fn lock(&self, name: &str, mode: LockMode) -> Result<LockGuard, StoreError> {
        self.locks.lock(name, mode).await
    }
}

struct SlowUpload {
    slow: Slow,
    upload: Box<dyn Upload>,
}

#[async_trait]
impl Upload for SlowUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.upload.write(bytes).await
    }

    async fn digest(&mut self) -> Result<(Digest, u64), StoreError> {
        self.upload.digest().await
    }

    async fn finish(self: Box<Self>, key: &Key, headers: &Headers) -> Result<(), StoreError> {
        let Self { slow, upload } = *self;
        slow.writing(key, async || upload.finish(key, headers).await, |()| true).await
    }
}

/// Publishes one tree from each job, all at once. Returns how often the most written list was written.
async fn publish(trees: Vec<Tree>) -> (MemoryStore, usize) {
    fastrand::seed(7);
    let store = prepared(async |tree| add(tree, "app:base", &image("base")).await.unwrap());
    let service = Arc::new(Service { store: store.clone(), keys: Mutex::default() });
    let jobs = trees.into_iter().map(|from| {
        let client = Slow { service: service.clone(), locks: MemoryStore::new(Naming::Copies) };
        async move {
            let to = Tree::open(Arc::new(client)).await.unwrap();
            let plan = Plan::compare(&from, Some(&to), &PlanOptions::default()).await.unwrap();
            let how = TransferOptions { jobs: 4, bandwidth: None, clobber: true, events: Arc::new(Silent) };
            plan.carry_out(&from, &to, &how).await
        }
    });
    for errors in join_all(jobs).await {
        assert!(errors.is_empty(), "{errors:?}");
    }
    let keys = service.keys.lock().unwrap();
    let written = keys.values().map(|of| of.times).max();
    (store, written.unwrap_or_default())
}

async fn with(name: String, image: &roadstead::testing::Image) -> Tree {
    let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
    add(&tree, &name, image).await.unwrap();
    tree
}

#[tokio::test(start_paused = true)]
async fn thirty_jobs_publish_into_one_repository() {
    let trees = (0..JOBS).map(|job| async move { with(format!("app:{job}"), &image(&job.to_string())).await });
    let (store, written) = publish(join_all(trees).await).await;
    let (offered, named) = tags(&store, "app");
    assert_eq!(offered.len(), JOBS + 1);
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    assert_eq!(sorted(offered), sorted(named));
    assert!(written <= JOBS / 3, "one writes for others: {written}");
}

#[tokio::test(start_paused = true)]
async fn thirty_jobs_publish_repositories_of_their_own() {
    let trees = (0..JOBS).map(|job| async move { with(format!("own/{job}:1"), &image(&job.to_string())).await });
    let (store, written) = publish(join_all(trees).await).await;
    let catalog = String::from_utf8(read(&store, "v2/_catalog").unwrap().to_vec()).unwrap();
    for job in 0..JOBS {
        assert!(catalog.contains(&format!("\"own/{job}\"")), "{job} is not in {catalog}");
    }
    assert!(written <= JOBS / 3, "one writes for others: {written}");
}

#[tokio::test(start_paused = true)]
async fn thirty_jobs_sign_one_image() {
    let subject = image("base");
    let signature = |job: usize| {
        let signature = ImageBuilder::new().artifact_type("application/vnd.example.signature");
        signature.subject(&subject.descriptor()).blob("text/plain", job.to_string()).build()
    };
    let trees = (0..JOBS).map(|job| {
        let signature = signature(job);
        async move { with(format!("app:signature-{job}"), &signature).await }
    });
    let (store, _) = publish(join_all(trees).await).await;
    let list = read(&store, &format!("v2/app/referrers/{}", subject.digest())).unwrap();
    let fallback = read(&store, &format!("v2/app/manifests/{}", subject.digest().to_string().replace(':', "-")));
    assert_eq!(fallback, Some(list.clone()), "the fallback is another list");
    let list = String::from_utf8(list.to_vec()).unwrap();
    for job in 0..JOBS {
        assert!(list.contains(&signature(job).digest().to_string()), "{job} is not in {list}");
    }
}

//! Removing beside writers: by the clock of a real server, and what a service has to do for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use futures::TryStreamExt as _;
use futures::future::join_all;
use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, Source as _};
use roadstead::oci::{Algorithm, Digest, Manifest, Reference, Repository, Tag};
use roadstead::publish::{Plan, PlanOptions, PublishError, TransferOptions};
use roadstead::store::bucket::BucketOptions;
use roadstead::store::{BucketStore, Condition, Headers, Key, MemoryStore, Naming, Store, StoreError};
use roadstead::testing::contract::store::bytes_of;
use roadstead::testing::{FaultServer, Image, ImageBuilder, MemorySource, Reply, Seen};
use roadstead::tree::Tree;
use roadstead_parts::{BucketServer, Buckets};

use crate::support::{impatient, open, options};

fn app() -> Repository {
    "app".parse().unwrap()
}

fn image(text: &str) -> Image {
    ImageBuilder::new().layer("shared").layer(text.to_owned()).build()
}

async fn add(tree: &Tree, tag: &str, image: &Image) {
    let (source, tag): (MemorySource, Tag) = (MemorySource::new(), tag.parse().unwrap());
    source.add(&format!("app:{tag}"), image);
    let (from, to) = (source.repository(&app()), tree.repository(&app()).await.unwrap());
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    copier.copy(&*from, &Reference::Tag(tag.clone()), &*to, &[tag]).await.unwrap();
    to.finish().await.unwrap();
}

async fn tree(store: BucketStore) -> Tree {
    Tree::create(Arc::new(store)).await.unwrap()
}

/// Publishes as the command does: again, if something was removed meanwhile.
async fn publish(from: &Tree, to: &Tree) {
    let how = TransferOptions { jobs: 4, bandwidth: None, clobber: true, events: Arc::new(Silent) };
    for _ in 0..8 {
        let plan = Plan::compare(from, Some(to), &PlanOptions::default()).await.unwrap();
        match &*plan.carry_out(from, to, &how).await {
            [] => return,
            [PublishError::Overtaken { .. }] => {}
            errors => panic!("{errors:?}"),
        }
    }
    panic!("it was compared again and again");
}

/// Pulls every tag as a client does, until it is told to stop; returns how many were pulled.
async fn pull(store: &dyn Store, stop: &AtomicBool) -> usize {
    let there = async |name: &str| store.head(&name.parse().unwrap()).await.unwrap().is_some();
    let mut pulled = 0;
    while !stop.load(Ordering::SeqCst) {
        let folder: Key = "v2/app/manifests".parse().unwrap();
        let names: Vec<_> = store.list(&folder).try_collect().await.unwrap();
        for name in names {
            let roadstead::store::Listed::Object(key) = name else { continue };
            let Some(object) = store.get(&key, None).await.unwrap() else { continue };
            if key.name().contains(':') {
                continue;
            }
            let version = object.entry.version.clone();
            let manifest = Manifest::parse(bytes_of(object).await, Algorithm::Sha256).unwrap();
            let mut needed: Vec<String> =
                manifest.blobs().map(|blob| format!("v2/app/blobs/{}", blob.digest)).collect();
            needed.push(format!("v2/app/manifests/{}", manifest.digest()));
            for name in needed {
                if there(&name).await {
                    continue;
                }
                // Perhaps the tag is gone as well.
                let now = store.head(&key).await.unwrap();
                assert!(now.is_none_or(|now| now.version != version), "{key} needs {name}, which is absent");
            }
            pulled += 1;
        }
    }
    pulled
}

/// Two publish while somebody removes what both of them rely on, and somebody pulls; in each run in another place.
pub(crate) async fn nothing_is_lost(place: impl Fn(usize) -> BucketStore, runs: usize) {
    let mut pulled = 0;
    for run in 0..runs {
        let first = tree(place(run)).await;
        add(&first, "old", &image("old")).await;
        // One needs no more than another tag, the other a layer.
        let publishers = [("again", "old"), ("new", "new")].map(|(tag, text)| {
            let to = place(run);
            async move {
                let from = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
                add(&from, tag, &image(text)).await;
                publish(&from, &tree(to).await).await;
            }
        });
        let removal = async {
            // In each run a little later.
            for _ in 0..run * 7 % 160 {
                tokio::task::yield_now().await;
            }
            let tree = tree(place(run)).await;
            tree.remove(&app(), Some(&"old".parse().unwrap())).await.unwrap();
        };
        let stop = AtomicBool::new(false);
        let store = place(run);
        let work = async {
            futures::join!(join_all(publishers), removal);
            stop.store(true, Ordering::SeqCst);
        };
        let (count, ()) = futures::join!(pull(&store, &stop), work);
        pulled += count;

        let tags: Vec<String> = first.tags(&app()).await.unwrap().into_keys().map(|tag| tag.to_string()).collect();
        assert_eq!(tags, ["again", "new"], "run {run}");
        let list = bytes_of(first.tags_list(&app()).await.unwrap().unwrap()).await;
        assert_eq!(list, r#"{"name":"app","tags":["again","new"]}"#, "run {run}");
        let names: Vec<_> = store.walk(&".roadstead/writers".parse().unwrap()).try_collect().await.unwrap();
        assert!(names.is_empty(), "run {run}: {names:?}");
        pull_once(&store).await;
    }
    assert!(pulled > runs, "nobody saw what happened");
}

/// Everything that the tags need, and nothing else.
async fn pull_once(store: &dyn Store) {
    let walked: Vec<_> = store.walk(&"v2/app/blobs".parse().unwrap()).try_collect().await.unwrap();
    let blobs: BTreeSet<Digest> = walked.iter().map(|named| named.key.name().parse().unwrap()).collect();
    let needed: BTreeSet<Digest> = ["old", "new"].iter().flat_map(|text| image(text).blobs.into_keys()).collect();
    assert_eq!(blobs, needed);
}

/// How many rounds there are, unless `ROADSTEAD_ROUNDS` says so.
#[expect(clippy::disallowed_methods, reason = "how long it may take is known to whoever runs the tests")]
fn rounds() -> usize {
    std::env::var("ROADSTEAD_ROUNDS").map_or(300, |rounds| rounds.parse().expect("a number of rounds"))
}

/// Places in a bucket.
fn places(buckets: &Buckets) -> impl Fn(usize) -> BucketStore {
    let url = buckets.url();
    move |run| open(&format!("s3://shared/{run}"), options(&url))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_beside_a_removal_in_versitygw() {
    let buckets = BucketServer::Versitygw.start(&["shared"]);
    nothing_is_lost(places(&buckets), 24).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes"]
async fn nothing_is_lost_beside_hundreds_of_removals_in_versitygw() {
    let buckets = BucketServer::Versitygw.start(&["shared"]);
    nothing_is_lost(places(&buckets), rounds()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn nothing_is_lost_beside_a_removal_in_minio() {
    let buckets = BucketServer::Minio.start(&["shared"]);
    nothing_is_lost(places(&buckets), 24).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versitygw_refuses_what_is_late() {
    let buckets = BucketServer::Versitygw.start(&["shared"]);
    open("s3://shared/leases", options(&buckets.url())).try_lease().await.unwrap();
    // Nobody could take an unsigned request for late.
    let anonymous = BucketOptions { credentials: None, ..options(&buckets.url()) };
    let refused = open("s3://shared/leases", anonymous).try_lease().await.unwrap_err();
    assert!(matches!(refused, StoreError::Unfenced { .. }), "{refused}");
}

fn key() -> Key {
    "a/key".parse().unwrap()
}

fn store(server: &FaultServer) -> BucketStore {
    BucketStore::open("s3://bucket".parse().unwrap(), impatient(), options(&server.url(""))).unwrap()
}

/// What a service says that has put an object.
fn put() -> Reply {
    Reply::ok("").header("etag", "\"1\"").header("date", "Thu, 26 Nov 2026 13:00:00 GMT")
}

#[tokio::test]
async fn a_service_that_takes_what_is_late_is_found_out() {
    let server = FaultServer::start(|_: &Seen| put()).await;
    let refused = store(&server).try_lease().await.unwrap_err();
    assert!(matches!(refused, StoreError::Unfenced { .. }), "{refused}");
    assert!(refused.to_string().contains("signed a quarter of an hour ago"), "{refused}");
}

#[tokio::test]
async fn what_is_done_under_a_lease_is_signed_as_of_its_beginning() {
    let server = FaultServer::start(|seen: &Seen| match (seen.method.as_str(), seen.target.as_str()) {
        ("DELETE", _) => Reply::status(403)
            .body("<?xml version=\"1.0\"?><Error><Code>RequestTimeTooSkewed</Code><Message>no.</Message></Error>"),
        _ => put(),
    })
    .await;
    let lease = store(&server).lease(&key(), "me".into(), Condition::Absent).await.unwrap().unwrap();
    assert_eq!(lease.at, UNIX_EPOCH + Duration::from_secs(1_795_698_000));
    let _ = lease.store.put(&key(), "mine".into(), &Headers::default(), Condition::Always).await.unwrap();
    let late = lease.store.delete(&key()).await.unwrap_err();
    assert!(matches!(late, StoreError::Late { .. }), "{late}");
    let dates: Vec<(String, bool)> = server
        .requests()
        .iter()
        .map(|seen| (seen.method.clone(), seen.headers["x-amz-date"] == "20261126T130000Z"))
        .collect();
    // What only looks is signed when it is asked.
    let expected = [("PUT", false), ("PUT", true), ("HEAD", false), ("DELETE", true)];
    assert_eq!(dates, expected.map(|(method, dated)| (method.to_owned(), dated)));
    assert!(!lease.unanswered.load(Ordering::SeqCst), "all were answered");
}

/// What was sent and not answered may be done later, whatever was done since.
#[tokio::test]
async fn an_answer_that_is_lost_is_remembered() {
    let deleted = AtomicBool::new(false);
    let server = FaultServer::start(move |seen: &Seen| match seen.method.as_str() {
        "DELETE" if !deleted.swap(true, Ordering::SeqCst) => Reply::hang_up(),
        "DELETE" => Reply::status(204),
        _ => put(),
    })
    .await;
    let lease = store(&server).lease(&key(), "me".into(), Condition::Absent).await.unwrap().unwrap();
    assert!(!lease.unanswered.load(Ordering::SeqCst));
    assert!(lease.store.delete(&key()).await.unwrap());
    assert!(lease.unanswered.load(Ordering::SeqCst));
}

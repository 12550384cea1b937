//! Buckets of Google Cloud Storage: the same promises, over an emulator that others test with, and what it doesn't do over
//! answers that are told.

use std::error::Error as _;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use roadstead::http::{BoxError, Secret};
use roadstead::oci::{Algorithm, Digest};
use roadstead::store::bucket::{BucketOptions, GoogleCredentialSource};
use roadstead::store::{Aim, BucketStore, Condition, Headers, Key, Store, Written};
use roadstead::testing::contract::store::{self, Subject, bytes_of};
use roadstead::testing::{FaultServer, Reply, Seen, noise};
use roadstead_parts::{FakeGcs, wait_until};

use crate::contract::{is_a_sink, large_objects};
use crate::published::sums_tell;
use crate::support::{clients_pull, impatient, objects, open};

/// A store in a bucket of the emulator, which asks nobody who they are.
fn emulated(server: &FakeGcs, at: &str) -> BucketStore {
    open(at, BucketOptions { endpoint: Some(server.url()), ..BucketOptions::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn fake_gcs_keeps_the_promises_of_a_store() {
    let server = FakeGcs::start(&["store", "below"]);
    for at in ["gs://store", "gs://below/a/prefix"] {
        let bucket = emulated(&server, at);
        let store: Subject = Arc::new(bucket.clone());
        store::run_all(&store, &|| objects(&bucket)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn fake_gcs_keeps_the_promises_of_a_sink() {
    let server = FakeGcs::start(&["sink"]);
    is_a_sink("fake-gcs-server", emulated(&server, "gs://sink/tree")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn fake_gcs_s_sums_tell_what_to_publish() {
    let server = FakeGcs::start(&["sums"]);
    sums_tell("fake-gcs-server", emulated(&server, "gs://sums/tree")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn fake_gcs_takes_large_objects() {
    let server = FakeGcs::start(&["large"]);
    let store = emulated(&server, "gs://large");
    drop(large_objects("fake-gcs-server", &store).await);
    assert_eq!(objects(&store), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn clients_pull_from_a_bucket_that_anybody_may_read() {
    let server = FakeGcs::start(&["public"]);
    let _ = clients_pull(emulated(&server, "gs://public"), &format!("{}/public", server.url())).await;
}

#[derive(Debug)]
struct Token;

#[async_trait]
impl GoogleCredentialSource for Token {
    async fn token(&self) -> Result<Secret, BoxError> {
        Ok("its-token".into())
    }
}

/// A store in a bucket of a service that answers as it is told.
fn told(server: &FaultServer) -> BucketStore {
    let options = BucketOptions {
        endpoint: Some(server.url("")),
        google: Some(Arc::new(Token)),
        storage_class: Some("NEARLINE".to_owned()),
        ..BucketOptions::default()
    };
    BucketStore::open("gs://bucket/p".parse().unwrap(), impatient(), options).unwrap()
}

fn key() -> Key {
    "v2/x".parse().unwrap()
}

fn refused(status: u16, reason: &str, message: &str) -> Reply {
    let text = format!(r#"{{"error":{{"code":{status},"message":"{message}","errors":[{{"reason":"{reason}"}}]}}}}"#);
    Reply::status(status).body(text)
}

#[tokio::test]
async fn an_object_is_written_with_its_headers_and_its_sum() {
    let server = FaultServer::start(|seen: &Seen| match seen.nth {
        0 => refused(429, "rateLimitExceeded", "slow down"),
        _ => Reply::ok(r#"{"generation":"7"}"#),
    })
    .await;
    let digest = Algorithm::Sha256.digest(b"content");
    let headers = Headers { digest: Some(digest), cache_control: Some("max-age=60".into()), ..Headers::default() };
    let put = told(&server).put(&key(), "content".into(), &headers, Condition::Absent).await;
    assert_eq!(put.unwrap(), Written::Done);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    for seen in requests {
        assert!(seen.target.starts_with("/upload/storage/v1/b/bucket/o?"), "{}", seen.target);
        assert!(seen.target.contains("ifGenerationMatch=0"), "{}", seen.target);
        assert_eq!(seen.header("authorization"), "Bearer its-token");
        let body = String::from_utf8(seen.body.to_vec()).unwrap();
        let said = body.lines().find(|line| line.starts_with('{')).unwrap();
        let said: serde_json::Value = serde_json::from_str(said).unwrap();
        let expected = serde_json::json!({
            "name": "p/v2/x", "contentType": "application/octet-stream", "cacheControl": "max-age=60",
            "storageClass": "NEARLINE", "metadata": { "docker-content-digest": digest.to_string() },
            "md5Hash": "mgNkuembtIDdJeHwKEyFVQ==",
        });
        assert_eq!(said, expected);
        assert!(body.contains("\r\n\r\ncontent\r\n--"), "{body}");
    }
}

#[tokio::test]
async fn refusals_are_named_and_keep_secrets() {
    for (status, reason, message, code) in [
        (403, "forbidden", "ci@acme does not have storage.objects.create access", "forbidden"),
        (404, "notFound", "The specified bucket does not exist.", "NoSuchBucket"),
    ] {
        let server = FaultServer::start(move |_: &Seen| refused(status, reason, message)).await;
        for condition in [Condition::Always, Condition::Absent] {
            let error = told(&server).put(&key(), "x".into(), &Headers::default(), condition).await.unwrap_err();
            let why = error.source().unwrap().to_string();
            assert!(why.contains(code) && why.contains("storage.objects.create"), "{why}");
            assert!(!format!("{error:?}{why}").contains("its-token"), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_condition_that_does_not_hold_is_an_answer() {
    let server = FaultServer::start(|_: &Seen| refused(412, "conditionNotMet", "no")).await;
    let put = told(&server).put(&key(), "x".into(), &Headers::default(), Condition::Absent).await;
    assert_eq!(put.unwrap(), Written::Refused);
}

#[tokio::test]
async fn what_is_read_on_is_of_the_same_generation() {
    let content = noise(1, 100_000);
    let body = content.clone();
    let server = FaultServer::start(move |seen: &Seen| {
        let reply = match seen.nth {
            0 => Reply::ok(body.clone()).cut_after(30_000),
            _ => Reply::ranged(seen, body.clone()),
        };
        reply.header("etag", "\"x\"").header("x-goog-generation", "17")
    })
    .await;
    let object = told(&server).get(&key(), None).await.unwrap().unwrap();
    assert_eq!(bytes_of(object).await, content);
    let requests = server.requests();
    assert_eq!(requests[0].target, "/bucket/p/v2/x");
    assert_eq!(requests[1].header("x-goog-if-generation-match"), "17");
    assert!(requests.iter().all(|seen| seen.header("cache-control") == "no-store"), "caches have what was");
}

#[tokio::test]
async fn a_copy_is_asked_for_until_it_is_done() {
    let server =
        FaultServer::start(|seen: &Seen| match (seen.method.as_str(), seen.target.contains("rewriteToken=more")) {
            ("HEAD", _) => Reply::status(404),
            (_, false) => Reply::ok(r#"{"done":false,"rewriteToken":"more","totalBytesRewritten":"5"}"#),
            (_, true) => Reply::ok(r#"{"done":true,"totalBytesRewritten":"9"}"#),
        })
        .await;
    let from: Key = "v2/a:b".parse().unwrap();
    assert!(told(&server).link(&key(), &from, &Headers::default()).await.unwrap());
    let copies: Vec<_> = server.requests().into_iter().filter(|seen| seen.method == "POST").collect();
    assert_eq!(copies.len(), 2);
    assert_eq!(copies[0].path(), "/storage/v1/b/bucket/o/p%2Fv2%2Fa%3Ab/rewriteTo/b/bucket/o/p%2Fv2%2Fx");
}

const SESSION: &str = "/upload/storage/v1/b/bucket/o?uploadType=resumable&upload_id=secret-id";

/// A service that takes an upload in pieces, and what it has of it.
struct Taker {
    taken: std::sync::Mutex<Vec<u8>>,
}

impl Taker {
    /// Takes as much of a piece as it is told; answers with what it has, or that it is everything.
    fn take(&self, seen: &Seen, most: usize) -> Reply {
        let mut taken = self.taken.lock().unwrap();
        let (range, total) = seen.header("content-range").strip_prefix("bytes ").unwrap().split_once('/').unwrap();
        let start: usize = range.split_once('-').unwrap().0.parse().unwrap();
        assert!(start <= taken.len(), "a piece is missing before {range}");
        let new = &seen.body[taken.len() - start..];
        taken.extend_from_slice(&new[..new.len().min(most)]);
        if total == taken.len().to_string() {
            let made = serde_json::json!({ "md5Hash": md5_of(&taken), "generation": "1" });
            return Reply::ok(made.to_string());
        }
        let reply = Reply::status(308);
        if taken.is_empty() { reply } else { reply.header("range", format!("bytes=0-{}", taken.len() - 1)) }
    }
}

fn md5_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    use md5::Digest as _;
    base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(bytes))
}

fn location(server: &Seen, to: &str) -> Reply {
    Reply::ok("").header("location", format!("http://{}{to}", server.header("host")))
}

async fn upload(store: &BucketStore, content: &Bytes) -> Result<Digest, roadstead::store::StoreError> {
    let (digest, headers) = (Algorithm::Sha256.digest(content), Headers::default());
    let aim = Aim { key: key(), headers: headers.clone(), size: Some(content.len() as u64) };
    let mut upload = store.begin_upload_to(Algorithm::Sha256.hasher(), aim).await?;
    for piece in content.chunks(1_000_003) {
        upload.write(Bytes::copy_from_slice(piece)).await?;
    }
    upload.finish(&key(), &headers).await?;
    Ok(digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_kept_of_a_piece_is_sent_again() {
    let content = noise(3, (17 << 20) + 5);
    let taker = Arc::new(Taker { taken: std::sync::Mutex::default() });
    let (keeper, size) = (taker.clone(), content.len());
    let server = FaultServer::start(move |seen: &Seen| match (seen.method.as_str(), seen.nth) {
        ("POST", _) => location(seen, SESSION),
        // Half of a piece; nothing of one; an answer that is lost, and one that says to wait.
        ("PUT", 0) => keeper.take(seen, 3 << 20),
        ("PUT", 2) => keeper.take(seen, 0),
        ("PUT", 3) => {
            keeper.take(seen, size);
            Reply::hang_up()
        }
        ("PUT", 4) => Reply::status(503),
        _ => keeper.take(seen, size),
    })
    .await;
    upload(&told(&server), &content).await.unwrap();
    assert_eq!(*taker.taken.lock().unwrap(), content);
    let last = server.requests().pop().unwrap();
    assert_eq!(last.header("x-goog-hash"), format!("md5={}", md5_of(&content)));
    assert!(server.requests().iter().all(|seen| seen.header("authorization") == "Bearer its-token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_given_up_is_called_off() {
    let server = FaultServer::start(|seen: &Seen| match seen.method.as_str() {
        "POST" => location(seen, SESSION),
        "PUT" => Reply::status(308).header("range", "bytes=0-8388607"),
        _ => Reply::status(499),
    })
    .await;
    let store = told(&server);
    let aim = Aim { key: key(), headers: Headers::default(), size: None };
    let mut upload = store.begin_upload_to(Algorithm::Sha256.hasher(), aim).await.unwrap();
    upload.write(noise(1, 9 << 20)).await.unwrap();
    drop(upload);
    let called_off = wait_until(std::time::Duration::from_secs(30), || {
        server.requests().iter().any(|seen| seen.method == "DELETE" && seen.target == SESSION)
    });
    assert!(called_off, "{:?}", server.lines());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_where_another_host_is_named() {
    let elsewhere = FaultServer::start(|_: &Seen| Reply::ok("")).await;
    let to = elsewhere.url(SESSION);
    let server = FaultServer::start(move |_: &Seen| Reply::ok("").header("location", to.clone())).await;
    let error = upload(&told(&server), &noise(1, 9 << 20)).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("does not say where"), "{error:?}");
    assert!(!format!("{error:?}").contains("secret-id"), "{error:?}");
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_than_were_sent_do_not_stay() {
    let server = FaultServer::start(|seen: &Seen| match (seen.method.as_str(), seen.nth) {
        ("POST", _) => location(seen, SESSION),
        ("PUT", 0) => Reply::status(308).header("range", "bytes=0-8388607"),
        ("PUT", _) => Reply::ok(r#"{"md5Hash":"mgNkuembtIDdJeHwKEyFVQ==","generation":"5"}"#),
        _ => Reply::status(204),
    })
    .await;
    let error = upload(&told(&server), &noise(1, 9 << 20)).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("other bytes have arrived"), "{error:?}");
    let last = server.requests().pop().unwrap();
    assert_eq!((last.method.as_str(), last.target.as_str()), ("DELETE", "/bucket/p/v2/x"));
    assert_eq!(last.header("x-goog-if-generation-match"), "5", "what somebody else wrote since stays");
}

#[tokio::test]
async fn a_list_says_sizes_and_sums() {
    let server = FaultServer::start(|seen: &Seen| match seen.target.contains("pageToken=more") {
        false => Reply::ok(
            r#"{"nextPageToken":"more","items":[{"name":"p/v2/a","size":"7","md5Hash":"mgNkuembtIDdJeHwKEyFVQ=="}]}"#,
        ),
        true => Reply::ok(r#"{"items":[{"name":"p/v2/b","size":"70000000000","crc32c":"x"}]}"#),
    })
    .await;
    let walked: Vec<_> = told(&server).walk(&"v2".parse().unwrap()).try_collect().await.unwrap();
    let seen: Vec<_> = walked.iter().map(|named| (named.key.as_str(), named.size, named.md5.is_some())).collect();
    assert_eq!(seen, [("v2/a", 7, true), ("v2/b", 70_000_000_000, false)]);
    assert!(server.lines().iter().all(|line| line.starts_with("GET /storage/v1/b/bucket/o?")), "{:?}", server.lines());
}

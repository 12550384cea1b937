//! Services that fail: overrun, cut off, forgetful, or with ideas of their own.

use std::error::Error as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use roadstead::http::{Client, ClientOptions, RetryPolicy};
use roadstead::oci::Algorithm;
use roadstead::store::bucket::{BucketOptions, BucketUrl};
use roadstead::store::{Aim, BucketStore, Condition, Headers, Key, Store, StoreError, Written};
use roadstead::testing::contract::store::bytes_of;
use roadstead::testing::{FaultServer, Reply, Seen, TestClock, noise};
use roadstead_parts::wait_until;

use crate::support::{impatient, options};

fn key() -> Key {
    "a/key".parse().unwrap()
}

fn at() -> BucketUrl {
    "s3://bucket".parse().unwrap()
}

fn store(server: &FaultServer) -> BucketStore {
    BucketStore::open(at(), impatient(), options(&server.url(""))).unwrap()
}

fn error(status: u16, code: &str) -> Reply {
    Reply::status(status)
        .body(format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no.</Message></Error>"))
}

fn tagged(reply: Reply) -> Reply {
    reply.header("etag", "\"1\"")
}

async fn put(store: &BucketStore, condition: Condition) -> Result<Written, StoreError> {
    store.put(&key(), "content".into(), &Headers::default(), condition).await
}

#[tokio::test]
async fn a_service_that_is_overrun_is_given_time() {
    let server = FaultServer::start(|seen: &Seen| match seen.nth {
        0 => error(503, "SlowDown"),
        1 => Reply::status(429),
        2 => error(500, "InternalError"),
        _ => tagged(Reply::ok("")),
    })
    .await;
    assert_eq!(put(&store(&server), Condition::Always).await.unwrap(), Written::Done);
    assert_eq!(server.lines(), ["PUT /bucket/a/key"; 4]);
    let signatures: Vec<_> = server.requests().iter().map(|seen| seen.headers["authorization"].clone()).collect();
    assert!(signatures.iter().all(|signature| !signature.is_empty()));
}

/// Whom a service slows down for minutes.
#[tokio::test]
async fn a_service_that_is_overrun_for_minutes_is_waited_for() {
    let server = FaultServer::start(|seen: &Seen| match seen.nth {
        0..11 => error(503, "SlowDown").header("retry-after", "20"),
        _ => tagged(Reply::ok("")),
    })
    .await;
    let clock = Arc::new(TestClock::default());
    let retry = RetryPolicy { attempts: 12, ..RetryPolicy::default() };
    let client = Client::new(ClientOptions { clock: clock.clone(), retry, ..ClientOptions::default() }).unwrap();
    let store = BucketStore::open(at(), client, options(&server.url(""))).unwrap();
    assert_eq!(put(&store, Condition::Always).await.unwrap(), Written::Done);
    let waited: std::time::Duration = clock.slept().iter().sum();
    assert!(waited >= std::time::Duration::from_secs(11 * 20), "{:?}", clock.slept());
}

#[tokio::test]
async fn a_cut_object_goes_on_where_it_stopped() {
    let content = noise(1, 100_000);
    let body = content.clone();
    let server = FaultServer::start(move |seen: &Seen| match seen.nth {
        0 => tagged(Reply::ok(body.clone())).cut_after(30_000),
        1 => Reply::hang_up(),
        _ => tagged(Reply::ranged(seen, body.clone())),
    })
    .await;
    let object = store(&server).get(&key(), None).await.unwrap().unwrap();
    assert_eq!(bytes_of(object).await, content);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[2].headers["range"], "bytes=30000-99999");
    assert_eq!(requests[2].headers["if-match"], "\"1\"", "another version's bytes must not be joined to these");
}

#[tokio::test]
async fn an_object_that_is_replaced_while_it_is_read_is_an_error() {
    let server = FaultServer::start(|seen: &Seen| match seen.nth {
        0 => tagged(Reply::ok(noise(1, 100_000))).cut_after(30_000),
        _ => error(412, "PreconditionFailed"),
    })
    .await;
    let object = store(&server).get(&key(), None).await.unwrap().unwrap();
    let error = object.body.into_bytes(1 << 20, &key()).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("PreconditionFailed"), "{error:?}");
}

#[tokio::test]
async fn a_conditional_write_whose_answer_is_lost_is_known_by_its_content() {
    for (there, expected) in [("content", Written::Done), ("another", Written::Refused)] {
        let server = FaultServer::start(move |seen: &Seen| match (seen.method.as_str(), seen.nth) {
            ("PUT", 0) => Reply::hang_up(),
            ("PUT", _) => error(412, "PreconditionFailed"),
            _ => tagged(Reply::ok(there)),
        })
        .await;
        assert_eq!(put(&store(&server), Condition::Absent).await.unwrap(), expected, "{there}");
        assert!(server.requests().iter().take(2).all(|seen| seen.headers["if-none-match"] == "*"));
    }
}

#[tokio::test]
async fn a_conflict_is_tried_again_or_is_an_answer() {
    let under_way = FaultServer::start(|seen: &Seen| match (seen.method.as_str(), seen.nth) {
        ("PUT", 0) => error(409, "ConditionalRequestConflict"),
        ("PUT", _) => tagged(Reply::ok("")),
        _ => Reply::status(404),
    })
    .await;
    assert_eq!(put(&store(&under_way), Condition::Absent).await.unwrap(), Written::Done);
    let there = FaultServer::start(|seen: &Seen| match seen.method.as_str() {
        "PUT" => error(409, "ObjectAlreadyExists"),
        _ => tagged(Reply::ok("another")),
    })
    .await;
    assert_eq!(put(&store(&there), Condition::Absent).await.unwrap(), Written::Refused);
}

#[tokio::test]
async fn a_service_without_conditions_is_found_out() {
    let ignores = FaultServer::start(|seen: &Seen| match (seen.method.as_str(), seen.target.as_str()) {
        ("HEAD", "/bucket/.roadstead/format") => Reply::status(404),
        _ => tagged(Reply::ok("")),
    })
    .await;
    let lacks = FaultServer::start(|seen: &Seen| match seen.method.as_str() {
        "PUT" => error(501, "NotImplemented"),
        _ => Reply::status(404),
    })
    .await;
    for (server, expected) in [(&ignores, "s3://bucket ignores"), (&lacks, "s3://bucket does not know")] {
        let failed = BucketStore::create(at(), impatient(), options(&server.url(""))).await.err().unwrap();
        assert!(
            matches!(failed, StoreError::Unconditional { .. }) && failed.to_string().starts_with(expected),
            "{failed}"
        );
    }
    // Whoever is alone needs none.
    let alone = BucketOptions { alone: true, ..options(&ignores.url("")) };
    let alone = BucketStore::create(at(), impatient(), alone).await.unwrap();
    assert_eq!(put(&alone, Condition::Absent).await.unwrap(), Written::Refused, "something is there");
    assert_eq!(put(&alone, Condition::Always).await.unwrap(), Written::Done);
    let last = ignores.requests().pop().unwrap();
    assert!(!last.headers.contains_key("if-none-match"), "{last:?}");
}

#[tokio::test]
async fn a_copy_that_fails_with_a_status_of_success_has_failed() {
    let server = FaultServer::start(|seen: &Seen| match (seen.method.as_str(), seen.nth) {
        ("HEAD", _) => Reply::status(404),
        ("PUT", 0) => error(200, "InternalError"),
        ("PUT", 1) => Reply::ok("<CopyObjectResult><ETag>\"1\"</ETag></CopyObjectResult>"),
        _ => error(200, "AccessDenied"),
    })
    .await;
    let store = store(&server);
    let target: Key = "a/target".parse().unwrap();
    assert!(store.link(&key(), &target, &Headers::default()).await.unwrap());
    let copy = server.requests().pop().unwrap();
    assert_eq!(copy.headers["x-amz-copy-source"], "bucket/a/target");
    assert_eq!(copy.headers["x-amz-metadata-directive"], "REPLACE");
    let refused = store.link(&key(), &target, &Headers::default()).await.unwrap_err();
    assert!(refused.to_string().contains("s3://bucket/a/target"), "{refused}");
    assert!(refused.source().unwrap().to_string().contains("AccessDenied"), "{refused:?}");
}

/// A service that takes uploads in parts, and answers to their completion with what `complete` says.
async fn parts(complete: fn(&Seen) -> Reply) -> FaultServer {
    FaultServer::start(move |seen: &Seen| match seen.method.as_str() {
        "POST" if seen.target.ends_with("?uploads=") => {
            Reply::ok("<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>")
        }
        "POST" => complete(seen),
        "HEAD" => tagged(Reply::ok(noise(2, 17 << 20))),
        _ => tagged(Reply::ok("")),
    })
    .await
}

async fn upload(store: &BucketStore) -> Result<(), StoreError> {
    let aim = Aim { key: key(), headers: Headers::default(), size: None };
    let mut upload = store.begin_upload_to(Algorithm::Sha256.hasher(), aim).await?;
    upload.write(noise(2, 17 << 20)).await?;
    upload.finish(&key(), &Headers::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_were_put_together_without_a_word_are_together() {
    let server = parts(|seen| if seen.nth == 0 { Reply::hang_up() } else { error(404, "NoSuchUpload") }).await;
    upload(&store(&server)).await.unwrap();
    let sizes: Vec<_> =
        server.requests().iter().filter(|seen| seen.method == "PUT").map(|seen| seen.body.len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 17 << 20);
    assert_eq!(sizes.iter().filter(|size| **size == 8 << 20).count(), 2, "all but the last are of one size: {sizes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_cut_is_sent_again() {
    let server = FaultServer::start(|seen: &Seen| match seen.method.as_str() {
        "POST" if seen.target.ends_with("?uploads=") => {
            Reply::ok("<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>")
        }
        "PUT" if seen.target.contains("partNumber=2&") && seen.nth == 0 => Reply::hang_up(),
        _ => tagged(Reply::ok("")),
    })
    .await;
    upload(&store(&server)).await.unwrap();
    let parts: Vec<_> = server.requests().into_iter().filter(|seen| seen.method == "PUT").collect();
    assert_eq!(parts.len(), 4, "three parts, one of them twice: {:?}", server.lines());
    assert_eq!(parts.iter().map(|seen| seen.body.len()).max(), Some(8 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_is_called_off() {
    let server = parts(|_| error(400, "InvalidPart")).await;
    let failed = upload(&store(&server)).await.unwrap_err();
    assert!(failed.source().unwrap().to_string().contains("InvalidPart"), "{failed:?}");
    let expected = "DELETE /bucket/a/key?uploadId=id".to_owned();
    assert!(
        wait_until(std::time::Duration::from_secs(60), || server.lines().contains(&expected)),
        "{:?}",
        server.lines()
    );
}

#[tokio::test]
async fn a_refusal_names_the_permission_and_no_secret() {
    let server = FaultServer::start(|_: &Seen| error(403, "AccessDenied")).await;
    let token = Some("a-session-token".into());
    let keys = roadstead::store::bucket::Keys { token, ..crate::support::keys() };
    let options = BucketOptions { credentials: Some(Arc::new(keys)), ..options(&server.url("")) };
    let store = BucketStore::open(at(), impatient(), options).unwrap();
    let failed = put(&store, Condition::Always).await.unwrap_err();
    assert!(failed.is_permission_denied());
    let text = format!("{failed}: {:?}", failed.source().unwrap().to_string());
    for word in ["s3://bucket/a/key", "AccessDenied", "s3:PutObject"] {
        assert!(text.contains(word), "{word} is missing: {text}");
    }
    assert!(!format!("{text}{failed:?}").contains("a-session-token"), "{text}");
    let seen = server.requests().pop().unwrap();
    assert_eq!(seen.headers["x-amz-security-token"], "a-session-token");
    let content: String = Algorithm::Sha256.digest(b"content").to_string();
    assert!(content.ends_with(seen.headers["x-amz-content-sha256"].to_str().unwrap()), "the body is signed");
}

#[tokio::test]
async fn what_makes_no_sense_is_an_error() {
    let circle = FaultServer::start(|_: &Seen| {
        Reply::ok(
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>\
             </ListBucketResult>",
        )
    })
    .await;
    assert!(store(&circle).list(&key()).try_collect::<Vec<_>>().await.is_err(), "a list without end");
    let page = FaultServer::start(|_: &Seen| tagged(Reply::ok("<html>welcome</html>"))).await;
    let listed = store(&page).list(&key()).try_collect::<Vec<_>>().await;
    assert!(listed.as_ref().is_ok_and(Vec::is_empty) || listed.is_err());
    let whole = FaultServer::start(|_: &Seen| tagged(Reply::ok("0123456789"))).await;
    let part = store(&whole).get(&key(), Some(2..4)).await.unwrap().unwrap();
    assert_eq!(bytes_of(part).await, "23", "more than was asked for");
    let bare = FaultServer::start(|_: &Seen| Reply::ok("content")).await;
    assert!(store(&bare).head(&key()).await.is_err(), "no version");
    let short = FaultServer::start(|_: &Seen| tagged(Reply::ok(Bytes::from_static(b"abc"))).claiming(9)).await;
    let object = store(&short).get(&key(), None).await.unwrap().unwrap();
    assert!(object.body.into_bytes(100, &key()).await.is_err(), "an object that ends early");
}

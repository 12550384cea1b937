//! Containers of Azure Blob Storage: the same promises, over Microsoft's emulator.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use roadstead::oci::Algorithm;
use roadstead::store::bucket::{AzureKey, AzureOptions, BucketOptions};
use roadstead::store::{Aim, BucketStore, Condition, Headers, Key, Store, StoreError, Written};
use roadstead::testing::contract::store::{self, Subject, bytes_of};
use roadstead::testing::{FaultServer, Reply, Seen, noise};
use roadstead_parts::Azurite;

use crate::contract::{is_a_sink, large_objects};
use crate::fences::nothing_is_lost;
use crate::published::sums_tell;
use crate::support::{clients_pull, impatient, objects, open};

fn options(azurite: &Azurite, key: AzureKey) -> BucketOptions {
    BucketOptions {
        endpoint: Some(azurite.url()),
        azure: AzureOptions { account: None, credentials: Some(Arc::new(key)) },
        ..BucketOptions::default()
    }
}

/// The store in a container, for whoever has the account's key.
fn owned(azurite: &Azurite, at: &str) -> BucketStore {
    open(at, options(azurite, AzureKey::Account(Azurite::KEY.into())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn azurite_keeps_the_promises_of_a_store() {
    let azurite = Azurite::start(&["store", "below"]);
    for at in ["az://store", "az://below/a/prefix"] {
        let bucket = owned(&azurite, at);
        let store: Subject = Arc::new(bucket.clone());
        store::run_all(&store, &|| objects(&bucket)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn azurite_keeps_the_promises_of_a_sink() {
    let azurite = Azurite::start(&["sink"]);
    is_a_sink("Azurite", owned(&azurite, "az://sink/tree")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn azurite_s_sums_tell_what_to_publish() {
    let azurite = Azurite::start(&["sums"]);
    sums_tell("Azurite", owned(&azurite, "az://sums/tree")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn azurite_takes_large_objects() {
    let azurite = Azurite::start(&["large"]);
    let store = owned(&azurite, "az://large");
    let begun = large_objects("Azurite", &store).await;
    drop(begun);
    assert_eq!(objects(&store), Vec::<String>::new());

    // Of two uploads to one name the second to be finished finds its blocks gone, and the first one's in their place.
    let content = noise(5, 17 << 20);
    let digest = Algorithm::Sha256.digest(&content);
    let headers = Headers { digest: Some(digest), ..Headers::default() };
    let key: Key = "v2/blob".parse().unwrap();
    let upload = async || {
        let aim = Aim { key: key.clone(), headers: headers.clone(), size: Some(content.len() as u64) };
        let mut upload = store.begin_upload_to(Algorithm::Sha256.hasher(), aim).await.unwrap();
        upload.write(content.clone()).await.unwrap();
        upload
    };
    let (one, other) = (upload().await, upload().await);
    one.finish(&key, &headers).await.unwrap();
    other.finish(&key, &headers).await.unwrap();
    assert_eq!(bytes_of(store.get(&key, None).await.unwrap().unwrap()).await, content);

    // The service copies what keeps its headers; what gets others passes through here.
    let linked = |name: &str| name.parse::<Key>().unwrap();
    for (name, headers) in [("v2/same", headers.clone()), ("v2/other", Headers::default())] {
        assert!(store.link(&linked(name), &key, &headers).await.unwrap(), "{name}");
        let object = store.get(&linked(name), None).await.unwrap().unwrap();
        assert_eq!(object.entry.headers, headers, "{name}");
        assert_eq!(bytes_of(object).await, content, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn a_shared_access_signature_will_do_and_refusals_keep_secrets() {
    let azurite = Azurite::start(&["shared"]);
    let key: Key = "v2/x".parse().unwrap();
    let signed = open("az://shared/p", options(&azurite, AzureKey::Signature(Azurite::SIGNATURE.into())));
    let content = noise(6, 2 << 20);
    let done = signed.put(&key, content.clone(), &Headers::default(), Condition::Absent).await.unwrap();
    assert_eq!(done, Written::Done);
    let again = signed.put(&key, Bytes::from_static(b"2"), &Headers::default(), Condition::Absent).await.unwrap();
    assert_eq!(again, Written::Refused);
    let copy: Key = "v2/copy".parse().unwrap();
    assert!(signed.link(&copy, &key, &Headers::default()).await.unwrap(), "what is copied is signed for, too");
    assert_eq!(bytes_of(signed.get(&copy, None).await.unwrap().unwrap()).await, content);

    let told = async |at: &str, proof: AzureKey| {
        let error = open(at, options(&azurite, proof)).get(&key, None).await.err().expect("it is refused");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        (error.to_string(), cause)
    };
    let (what, why) = told("az://nowhere", AzureKey::Account(Azurite::KEY.into())).await;
    assert!(what.contains("az://nowhere/v2/x") && why.contains("ContainerNotFound"), "{what}: {why}");
    let (what, why) = told("az://shared/p", AzureKey::Account("YW5vdGhlci1zZWNyZXQ=".into())).await;
    assert!(why.contains("AuthorizationFailure") && why.contains("blobs/read"), "{what}: {why}");
    assert!(!format!("{what}{why}").contains("YW5vdGhlci1zZWNyZXQ"), "{what}: {why}");
    let (what, why) = told("az://shared/p", AzureKey::Signature("sv=2021-12-02&sig=hidden".into())).await;
    assert!(!format!("{what}{why}").contains("hidden"), "{what}: {why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn clients_pull_from_a_container_that_anybody_may_read() {
    let azurite = Azurite::start(&[]);
    azurite.create_public("public");
    let url = format!("{}/public", azurite.url());
    let index = clients_pull(owned(&azurite, "az://public"), &url).await;

    let nobody = AzureOptions { account: None, credentials: None };
    let anybody = open("az://public", BucketOptions { azure: nobody, ..options(&azurite, AzureKey::Token("".into())) });
    let key = |text: &str| text.parse::<Key>().unwrap();
    let entry = anybody.head(&key("v2/org/app/manifests/1")).await.unwrap().unwrap();
    assert_eq!(entry.headers.content_type.unwrap().as_str(), index.manifest.media_type().as_str());
    assert_eq!(entry.headers.digest, Some(index.digest()));
    assert!(anybody.head(&key("v2/org/app/manifests/2")).await.unwrap().is_none(), "missing is missing");
    let written = anybody.put(&key("v2/x"), "other".into(), &Headers::default(), Condition::Always).await;
    assert!(written.is_err(), "anybody may write");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn azurite_refuses_what_is_late() {
    let azurite = Azurite::start(&["shared"]);
    let store = owned(&azurite, "az://shared/leases");
    assert!(store.is_fenced().await.unwrap());
    store.try_lease().await.unwrap();
    // Whoever was handed a signature has no other one that ends before.
    let signed = open("az://shared/leases", options(&azurite, AzureKey::Signature(Azurite::SIGNATURE.into())));
    assert!(!signed.is_fenced().await.unwrap());
    let refused = signed.try_lease().await.unwrap_err();
    assert!(matches!(refused, StoreError::Unfenced { .. }), "{refused}");

    let (key, mine): (Key, Key) = ("lease".parse().unwrap(), "v2/mine".parse().unwrap());
    let lease = store.lease(&key, "me".into(), Condition::Absent).await.unwrap().unwrap();
    let put = async |text: &'static str| {
        lease.store.put(&mine, text.into(), &Headers::default(), Condition::Always).await.unwrap()
    };
    assert_eq!((put("one").await, put("two").await), (Written::Done, Written::Done));
    assert!(lease.store.link(&"v2/copy".parse().unwrap(), &mine, &Headers::default()).await.unwrap());
    assert!(lease.store.delete(&mine).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn nothing_is_lost_beside_a_removal_in_azurite() {
    let azurite = Azurite::start(&["shared"]);
    nothing_is_lost(|run| owned(&azurite, &format!("az://shared/{run}")), 24).await;
}

/// A store in a container of a service that answers as it is told.
fn told(server: &FaultServer) -> BucketStore {
    told_by(server, AzureKey::Account("aw==".into()))
}

fn told_by(server: &FaultServer, key: AzureKey) -> BucketStore {
    let azure = AzureOptions { account: Some("acct".to_owned()), credentials: Some(Arc::new(key)) };
    let options = BucketOptions { endpoint: Some(server.url("")), azure, ..BucketOptions::default() };
    BucketStore::open("az://images".parse().unwrap(), impatient(), options).unwrap()
}

/// What a service says that has put an object.
fn written() -> Reply {
    Reply::status(201).header("etag", "\"1\"").header("date", "Thu, 26 Nov 2026 13:00:00 GMT")
}

/// A key to sign with, as the service gives it to whoever has a token.
const DELEGATION: &str = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><UserDelegationKey><SignedOid>me</SignedOid>\
    <SignedTid>us</SignedTid><SignedStart>2026-11-26T12:00:00Z</SignedStart><SignedExpiry>2026-11-27T12:00:00Z</SignedExpiry>\
    <SignedService>b</SignedService><SignedVersion>2021-12-02</SignedVersion><Value>YQ==</Value></UserDelegationKey>";

#[tokio::test]
async fn what_is_done_under_a_lease_ends_with_it() {
    let (key, mine): (Key, Key) = ("lease".parse().unwrap(), "v2/mine".parse().unwrap());
    for proof in [AzureKey::Account("aw==".into()), AzureKey::Token("token".into())] {
        let server = FaultServer::start(|seen: &Seen| match (seen.method.as_str(), seen.path()) {
            ("POST", "/") => Reply::ok(DELEGATION),
            ("DELETE", _) => Reply::status(403).header("x-ms-error-code", "AuthenticationFailed"),
            ("HEAD", _) => written().header("content-length", "1"),
            _ => written(),
        })
        .await;
        let store = told_by(&server, proof.clone());
        assert!(store.is_fenced().await.unwrap());
        let lease = store.lease(&key, "me".into(), Condition::Absent).await.unwrap().unwrap();
        let put = lease.store.put(&mine, "mine".into(), &Headers::default(), Condition::Always).await;
        assert_eq!(put.unwrap(), Written::Done);
        let late = lease.store.delete(&mine).await.unwrap_err();
        assert!(matches!(late, StoreError::Late { .. }), "{late}");
        for seen in server.requests() {
            let ends = seen.target.contains("se=2026-11-26T13%3A15%3A00Z");
            let is_mine = seen.path() == "/images/v2/mine" && seen.method != "HEAD";
            assert_eq!((ends, seen.headers.contains_key("authorization")), (is_mine, !is_mine), "{seen:?}");
            let delegated = matches!(proof, AzureKey::Token(_)) && is_mine;
            assert_eq!(seen.target.contains("skoid=me&"), delegated, "{seen:?}");
        }
        let asked = server.requests().iter().filter(|seen| seen.method == "POST").count();
        assert_eq!(asked, usize::from(matches!(proof, AzureKey::Token(_))), "a key lasts for all");
    }
}

/// Whoever may not have a key to sign with goes on without: then nobody takes them for dead.
#[tokio::test]
async fn a_token_without_the_right_to_sign_is_enough_to_write() {
    let server = FaultServer::start(|seen: &Seen| match seen.method.as_str() {
        "POST" => Reply::status(403).header("x-ms-error-code", "AuthorizationPermissionMismatch"),
        _ => written(),
    })
    .await;
    let store = told_by(&server, AzureKey::Token("token".into()));
    assert!(!store.is_fenced().await.unwrap() && !store.is_fenced().await.unwrap());
    let lease = store.lease(&"lease".parse().unwrap(), "me".into(), Condition::Absent).await.unwrap().unwrap();
    let mine = "v2/mine".parse().unwrap();
    let put = lease.store.put(&mine, "mine".into(), &Headers::default(), Condition::Always).await.unwrap();
    assert_eq!(put, Written::Done);
    let lines = server.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("POST")).count(), 1, "{lines:?}");
    let refused = store.try_lease().await.unwrap_err();
    assert!(matches!(refused, StoreError::Unfenced { .. }), "{refused}");
}

#[tokio::test]
async fn a_container_that_is_closed_is_not_empty() {
    // To somebody who says no name, Azure says that nothing is there.
    let server = FaultServer::start(|_: &Seen| Reply::status(404).header("x-ms-error-code", "ResourceNotFound")).await;
    let error = told(&server).head(&"v2/x".parse().unwrap()).await.unwrap_err();
    assert!(format!("{:?}", std::error::Error::source(&error)).contains("ResourceNotFound"), "{error:?}");
}

#[tokio::test]
async fn a_copy_is_waited_for_as_long_as_it_goes_on() {
    let copying = |progress: usize| {
        let status = if progress < 40 { "pending" } else { "success" };
        let reply = Reply::status(if progress == 0 { 202 } else { 200 }).header("x-ms-copy-status", status);
        reply.header("x-ms-copy-progress", format!("{progress}/40"))
    };
    let size = 2 << 20;
    let server = FaultServer::start(move |seen: &Seen| match (seen.method.as_str(), seen.path()) {
        ("PUT", _) => copying(0),
        ("HEAD", "/images/to") if seen.nth == 0 => Reply::status(404).header("x-ms-error-code", "BlobNotFound"),
        ("HEAD", _) => copying(seen.nth),
        _ => Reply::status(206)
            .header("etag", "\"1\"")
            .header("content-type", "application/octet-stream")
            .header("content-range", format!("bytes 0-9/{size}"))
            .body("0123456789"),
    })
    .await;
    let (to, from): (Key, Key) = ("to".parse().unwrap(), "from".parse().unwrap());
    assert!(told(&server).link(&to, &from, &Headers::default()).await.unwrap());
    let copied = server.requests().into_iter().find(|seen| seen.method == "PUT").unwrap();
    assert!(copied.header("x-ms-copy-source").ends_with("/images/from"), "{copied:?}");
}

#[tokio::test]
async fn a_service_that_is_overrun_is_given_time_and_compares_what_arrived() {
    let server = FaultServer::start(|seen: &Seen| match seen.nth {
        0 => Reply::status(503).body("\u{feff}<?xml version=\"1.0\"?><Error><Code>ServerBusy</Code></Error>"),
        _ => Reply::status(201).header("etag", "\"1\""),
    })
    .await;
    let put = told(&server).put(&"k".parse().unwrap(), "content".into(), &Headers::default(), Condition::Always).await;
    assert_eq!(put.unwrap(), Written::Done);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    for seen in requests {
        assert_eq!(seen.header("content-md5"), "mgNkuembtIDdJeHwKEyFVQ==");
        assert!(seen.header("authorization").starts_with("SharedKey acct:"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_list_says_sizes_and_sums() {
    let server = FaultServer::start(|seen: &Seen| {
        let blob = |name: &str, md5: &str| {
            format!(
                "<Blob><Name>v2/{name}</Name><Properties><Content-Length>7</Content-Length>{md5}</Properties></Blob>"
            )
        };
        let (blobs, next) = match seen.target.contains("marker=more") {
            false => {
                (blob("a", "<Content-MD5>mgNkuembtIDdJeHwKEyFVQ==</Content-MD5>"), "<NextMarker>more</NextMarker>")
            }
            true => (blob("b", "<Content-MD5 />"), "<NextMarker />"),
        };
        Reply::ok(format!(
            "\u{feff}<?xml version=\"1.0\"?><EnumerationResults><Blobs>{blobs}</Blobs>{next}</EnumerationResults>"
        ))
    })
    .await;
    let walked: Vec<_> = told(&server).walk(&"v2".parse().unwrap()).try_collect().await.unwrap();
    let seen: Vec<_> = walked.iter().map(|named| (named.key.as_str(), named.size, named.md5.is_some())).collect();
    assert_eq!(seen, [("v2/a", 7, true), ("v2/b", 7, false)]);
    assert!(server.lines().iter().all(|line| line.starts_with("GET /images?") && !line.contains("delimiter")));
}

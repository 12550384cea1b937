//! Pushing to a registry that misbehaves as it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use roadstead::http::EndpointOptions;
use roadstead::http::credentials::{Credential, Credentials};
use roadstead::image::{
    ByteStream, Claim, Copier, CopyOptions, PutError, RepositorySink, Silent, Sink, Source, SourceError,
};
use roadstead::medium::registry::RegistrySink;
use roadstead::oci::{Algorithm, Descriptor, Digest, Reference};
use roadstead::testing::contract::sink::stream_of;
use roadstead::testing::{FaultServer, Image, ImageBuilder, Layer, MemorySource, Reply, Seen, noise};

use crate::support::{Setup, chain};

/// What a registry that takes uploads knows: whole blobs, sessions by number, manifests by reference.
#[derive(Default)]
struct Content {
    blobs: HashMap<String, Bytes>,
    sessions: Vec<Option<Vec<u8>>>,
    manifests: HashMap<String, Bytes>,
}

/// Such a registry with one repository, `app`.
#[derive(Clone, Default)]
struct Registry(Arc<Mutex<Content>>);

impl Registry {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().expect("no test panics with it")
    }

    fn blob(&self, digest: &Digest) -> Option<Bytes> {
        self.content().blobs.get(&digest.to_string()).cloned()
    }

    fn put(&self, bytes: &Bytes) -> Descriptor {
        let digest = Algorithm::Sha256.digest(bytes);
        self.content().blobs.insert(digest.to_string(), bytes.clone());
        Descriptor::new("", digest, bytes.len() as u64)
    }

    /// The answer without any fault.
    fn answer(&self, seen: &Seen) -> Reply {
        self.answer_taking(seen, seen.body.len())
    }

    /// The answer of a registry that got only so many bytes of the body.
    fn answer_taking(&self, seen: &Seen, taken: usize) -> Reply {
        let mut content = self.content();
        let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        let Some(path) = path.strip_prefix("/v2/app/") else {
            return Reply::status(if path == "/v2/" { 200 } else { 404 });
        };
        if let Some(number) = path.strip_prefix("blobs/uploads/") {
            return content.upload(seen, number, query, taken);
        }
        if let Some(digest) = path.strip_prefix("blobs/") {
            return content.blobs.get(digest).map_or(Reply::status(404), |blob| Reply::ok(blob.clone()));
        }
        let Some(reference) = path.strip_prefix("manifests/") else { return Reply::status(404) };
        if seen.method == "PUT" {
            let digest = Algorithm::Sha256.digest(&seen.body).to_string();
            content.manifests.insert(digest.clone(), seen.body.clone());
            content.manifests.insert(reference.to_owned(), seen.body.clone());
            return Reply::status(201).header("docker-content-digest", digest);
        }
        content.manifests.get(reference).map_or(Reply::status(404), |manifest| {
            Reply::ok(manifest.clone())
                .header("content-type", "application/vnd.oci.image.manifest.v1+json")
                .header("docker-content-digest", Algorithm::Sha256.digest(manifest).to_string())
        })
    }
}

impl Content {
    fn upload(&mut self, seen: &Seen, number: &str, query: &str, taken: usize) -> Reply {
        let at = |number: usize| format!("/v2/app/blobs/uploads/{number}?state={number}");
        if seen.method == "POST" {
            self.sessions.push(Some(Vec::new()));
            return Reply::status(202).header("location", at(self.sessions.len() - 1));
        }
        let number: usize = number.parse().expect("the session that was given");
        assert!(
            query.starts_with(&format!("state={number}")),
            "a location is to be used as it stands: {}",
            seen.target
        );
        let Some(session) = self.sessions[number].as_mut() else { return Reply::status(404) };
        if seen.method == "PATCH" {
            let first = seen.header("content-range").split('-').next().and_then(|first| first.parse().ok());
            if first != Some(session.len()) {
                return Reply::status(416);
            }
        }
        session.extend_from_slice(&seen.body[..taken]);
        let has = |status, session: &[u8]| {
            let range = format!("0-{}", session.len().saturating_sub(1));
            Reply::status(status).header("location", at(number)).header("range", range)
        };
        match seen.method.as_str() {
            "GET" => has(204, session),
            "PATCH" => has(202, session),
            _ => {
                let named = query.split("digest=").nth(1).expect("a digest").replace("%3A", ":");
                let digest: Digest = named.parse().expect("a digest");
                if digest.algorithm().digest(session) != digest {
                    let body = r#"{"errors":[{"code":"DIGEST_INVALID","message":"not what it says"}]}"#;
                    return Reply::status(400).body(body);
                }
                let session = self.sessions[number].take().expect("it was there a moment ago");
                self.blobs.insert(named, session.into());
                Reply::status(201)
            }
        }
    }
}

/// The repository `app` of a server, to push to.
async fn app(server: &FaultServer) -> Box<dyn RepositorySink> {
    app_with(&sink(server, EndpointOptions::default())).await
}

async fn app_with(sink: &RegistrySink) -> Box<dyn RepositorySink> {
    sink.repository(&"app".parse().expect("a name")).await.expect("nothing is asked")
}

fn sink(server: &FaultServer, options: EndpointOptions) -> RegistrySink {
    let registry = server.authority().parse().expect("host and port");
    RegistrySink::new(Setup::new().client.endpoint(&registry, options).expect("a registry"))
}

const MIB: usize = 1 << 20;

/// A blob that is too large to be kept in memory.
fn large() -> (Bytes, Descriptor) {
    let bytes = noise(9, 20 * MIB);
    let blob = Descriptor::new("", Algorithm::Sha256.digest(&bytes), bytes.len() as u64);
    (bytes, blob)
}

fn small() -> (Bytes, Descriptor) {
    let bytes = noise(8, 100_000);
    let blob = Descriptor::new("", Algorithm::Sha256.digest(&bytes), bytes.len() as u64);
    (bytes, blob)
}

fn lines(server: &FaultServer, method: &str) -> usize {
    server.requests().iter().filter(|seen| seen.method == method).count()
}

#[tokio::test]
async fn a_large_blob_is_one_request() {
    let registry = Registry::default();
    let shared = registry.clone();
    let server = FaultServer::start(move |seen| shared.answer(seen)).await;
    let (bytes, blob) = large();
    app(&server).await.put_blob(&blob, stream_of(&bytes)).await.unwrap();
    assert_eq!(registry.blob(&blob.digest), Some(bytes));
    let methods: Vec<_> = server.requests().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["POST", "PUT"]);
}

#[tokio::test]
async fn a_cut_blob_goes_on_where_the_registry_stopped() {
    for fault in [Some(5 * MIB), Some(0), None] {
        let registry = Registry::default();
        let shared = registry.clone();
        let server = FaultServer::start(move |seen| match (seen.method.as_str(), fault) {
            ("PUT", Some(taken)) if seen.body.len() > 10 * MIB => {
                shared.answer_taking(seen, taken);
                Reply::hang_up()
            }
            // Nothing is taken from whoever sends so much.
            ("PUT", None) if seen.body.len() > 10 * MIB => Reply::status(413),
            _ => shared.answer(seen),
        })
        .await;
        let image = ImageBuilder::new().layer(Layer::new().file("large", noise(1, 20 * MIB), 0o644)).build();
        let source = MemorySource::new();
        source.add("from:1", &image);
        let from = source.repository(&"from".parse().unwrap());
        let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
        let tag = "1".parse().unwrap();
        copier
            .copy(&*from, &Reference::Tag("1".parse().unwrap()), &*app(&server).await, std::slice::from_ref(&tag))
            .await
            .unwrap_or_else(|error| panic!("{fault:?}: {}", chain(&error)));
        for (digest, bytes) in &image.blobs {
            assert_eq!(registry.blob(digest).as_ref(), Some(bytes), "{fault:?}");
        }
        let patches: Vec<Seen> = server.requests().into_iter().filter(|seen| seen.method == "PATCH").collect();
        let layer = image.blobs.values().map(Bytes::len).max().unwrap();
        let sent: usize = patches.iter().map(|seen| seen.body.len()).sum();
        assert_eq!(sent, layer - fault.unwrap_or(0), "{fault:?}: no byte that was there came twice");
    }
}

#[tokio::test]
async fn a_cut_part_is_sent_from_where_it_stopped() {
    let registry = Registry::default();
    let shared = registry.clone();
    let server = FaultServer::start(move |seen| match (seen.method.as_str(), seen.nth) {
        ("PATCH", 0) => {
            shared.answer_taking(seen, 3 * MIB);
            Reply::hang_up()
        }
        // The answer alone is lost.
        ("PATCH", 2) => {
            shared.answer(seen);
            Reply::hang_up()
        }
        ("GET", 0) => Reply::status(503),
        _ => shared.answer(seen),
    })
    .await;
    let (bytes, blob) = large();
    let added = app(&server).await.add_blob(Algorithm::Sha256, stream_of(&bytes)).await.unwrap();
    assert_eq!(added, (blob.digest, bytes.len() as u64));
    assert_eq!(registry.blob(&blob.digest), Some(bytes));
    let ranges: Vec<_> = server.requests().iter().map(|seen| seen.header("content-range").to_owned()).collect();
    assert!(ranges.iter().any(|range| range.starts_with(&format!("{}-", 3 * MIB))), "{ranges:?}");
}

#[tokio::test]
async fn a_lost_answer_is_no_lost_blob() {
    for (bytes, blob) in [small(), large()] {
        let registry = Registry::default();
        let shared = registry.clone();
        let server = FaultServer::start(move |seen| {
            let reply = shared.answer(seen);
            if seen.method == "PUT" { Reply::hang_up() } else { reply }
        })
        .await;
        let app = app(&server).await;
        let mut put = app.put_blob(&blob, stream_of(&bytes)).await;
        if let Err(PutError::Interrupted(_)) = put {
            put = app.put_blob(&blob, stream_of(&bytes)).await;
        }
        put.unwrap();
        assert_eq!(registry.blob(&blob.digest), Some(bytes));
        assert_eq!(lines(&server, "PUT"), 1, "{:?}", server.lines());
    }
}

#[tokio::test]
async fn a_small_blob_begins_anew() {
    let registry = Registry::default();
    let shared = registry.clone();
    let server = FaultServer::start(move |seen| match (seen.method.as_str(), seen.target.contains("/0?")) {
        ("PUT", true) => {
            shared.answer_taking(seen, 5);
            Reply::hang_up()
        }
        _ => shared.answer(seen),
    })
    .await;
    let (bytes, blob) = small();
    app(&server).await.put_blob(&blob, stream_of(&bytes)).await.unwrap();
    assert_eq!(registry.blob(&blob.digest), Some(bytes));
    assert_eq!(lines(&server, "POST"), 2);
}

#[tokio::test]
async fn wrong_bytes_never_arrive_whole() {
    let server = {
        let registry = Registry::default();
        FaultServer::start(move |seen| registry.answer(seen)).await
    };
    let app = app(&server).await;
    let (bytes, blob) = large();
    let mut wrong = bytes.to_vec();
    wrong[0] ^= 1;
    let cut = stream_of(&bytes.slice(..MIB)).chain(stream::iter([Err(SourceError::Unsupported("cut".to_owned()))]));
    let faults: [(&str, ByteStream); 4] = [
        ("wrong", stream_of(&wrong.into())),
        ("short", stream_of(&bytes.slice(1..))),
        ("long", stream_of(&[&bytes[..], b"x"].concat().into())),
        ("cut", cut.boxed()),
    ];
    for (fault, bytes) in faults {
        let put = app.put_blob(&blob, bytes).await;
        match put {
            Err(PutError::Source(_)) if fault == "cut" => {}
            Err(PutError::Mismatch { .. }) if fault != "cut" => {}
            other => panic!("{fault}: {other:?}"),
        }
    }
    assert_eq!(lines(&server, "PUT"), 0, "no request came to its end: {:?}", server.lines());
}

#[tokio::test]
async fn the_size_of_parts() {
    let registry = Registry::default();
    let shared = registry.clone();
    let server = FaultServer::start(move |seen| {
        let reply = shared.answer(seen);
        if seen.method == "POST" { reply.header("oci-chunk-min-length", (9 * MIB).to_string()) } else { reply }
    })
    .await;
    let (bytes, blob) = large();
    app(&server).await.add_blob(Algorithm::Sha256, stream_of(&bytes)).await.unwrap();
    assert_eq!(registry.blob(&blob.digest), Some(bytes.clone()));
    let sizes: Vec<_> = server.requests().iter().filter(|s| s.method == "PATCH").map(|s| s.body.len()).collect();
    assert!(sizes.len() == 3 && sizes[..2].iter().all(|size| *size >= 9 * MIB), "{sizes:?}");

    let server = FaultServer::start(|_| {
        Reply::status(202).header("location", "/x").header("oci-chunk-min-length", "99999999999")
    })
    .await;
    let error = app(&server).await.add_blob(Algorithm::Sha256, stream_of(&bytes)).await.unwrap_err();
    assert!(chain(&error).contains("99999999999"), "{}", chain(&error));
}

#[tokio::test]
async fn a_forgotten_upload_is_an_error() {
    let registry = Registry::default();
    let shared = registry.clone();
    let server = FaultServer::start(move |seen| match (seen.method.as_str(), seen.nth) {
        ("PATCH", 1) => Reply::status(502),
        ("GET", _) => Reply::status(404).body(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#),
        _ => shared.answer(seen),
    })
    .await;
    let (bytes, _) = large();
    let error = app(&server).await.add_blob(Algorithm::Sha256, stream_of(&bytes)).await.unwrap_err();
    assert!(matches!(error, PutError::Sink(_)), "{error:?}");
    assert!(chain(&error).contains("502"), "{}", chain(&error));
}

/// A registry that wants a password, and whose uploads go to `location`.
fn guarded(location: String) -> impl Fn(&Seen) -> Reply + Send + Sync {
    move |seen| match (seen.method.as_str(), seen.header("authorization")) {
        (_, "") => Reply::challenge("Basic realm=\"x\""),
        ("POST", _) => Reply::status(202).header("location", location.clone()),
        _ => Reply::status(404),
    }
}

fn with_password() -> EndpointOptions {
    let credential = Credential::Password { username: "user".to_owned(), password: "secret".into() };
    EndpointOptions { credentials: Credentials::only(credential), plain_http: false }
}

#[tokio::test]
async fn another_host_sees_no_credentials() {
    for (bytes, blob) in [small(), large()] {
        for challenged in [false, true] {
            let storage =
                FaultServer::start(
                    move |_| {
                        if challenged { Reply::challenge("Basic realm=\"x\"") } else { Reply::status(201) }
                    },
                )
                .await;
            let server = FaultServer::start(guarded(storage.url("/bucket/key?signature=abc"))).await;
            let app = app_with(&sink(&server, with_password())).await;
            let put = app.put_blob(&blob, stream_of(&bytes)).await;
            assert_eq!(put.is_ok(), !challenged, "{put:?}");
            let requests = storage.requests();
            assert_eq!(requests[0].body, bytes, "the bytes came");
            assert!(requests[0].target.starts_with("/bucket/key?signature=abc&digest="), "{}", requests[0].target);
            assert!(requests.iter().all(|seen| seen.header("authorization").is_empty()), "{requests:?}");
        }
    }
}

#[tokio::test]
async fn places_where_nobody_goes() {
    for location in ["ftp://127.0.0.1/x", "http://169.254.169.254/latest", "http://user:pw@127.0.0.1/x", "http://["] {
        let server = FaultServer::start(move |_| Reply::status(202).header("location", location)).await;
        let (bytes, blob) = small();
        let error = app(&server).await.put_blob(&blob, stream_of(&bytes)).await.unwrap_err();
        assert!(chain(&error).contains("redirects"), "{location}: {}", chain(&error));
    }
    let server = FaultServer::start(|_| Reply::status(202)).await;
    let (bytes, blob) = small();
    let error = app(&server).await.put_blob(&blob, stream_of(&bytes)).await.unwrap_err();
    assert!(chain(&error).contains("does not say where"), "{}", chain(&error));
}

#[tokio::test]
async fn what_the_registry_says_is_told() {
    for (status, code) in [(403, "DENIED"), (400, "NAME_INVALID"), (405, "UNSUPPORTED"), (429, "TOOMANYREQUESTS")] {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"it says so"}}]}}"#);
        let server = FaultServer::start(move |seen| match seen.method.as_str() {
            "POST" | "PUT" => Reply::status(status).body(body.clone()),
            _ => Reply::status(404),
        })
        .await;
        let app = app(&server).await;
        for (bytes, blob) in [small(), large()] {
            let text = chain(&app.put_blob(&blob, stream_of(&bytes)).await.unwrap_err());
            let said = format!("{code}: it says so");
            assert!(text.contains(&said) && text.contains(&blob.digest.to_string()), "{text}");
        }
        let image = ImageBuilder::new().layer("x").build();
        let text = chain(&app.put_manifest(&image.manifest).await.unwrap_err());
        assert!(text.contains(code) && text.contains(&image.digest().to_string()), "{text}");
    }
}

#[tokio::test]
async fn a_blob_of_another_repository() {
    let registry = Registry::default();
    let shared = registry.clone();
    let server = FaultServer::start(move |seen| match seen.target.split_once("?mount=") {
        Some((_, wanted)) if wanted.ends_with("from=base") => Reply::status(201),
        _ => shared.answer(seen),
    })
    .await;
    let (bytes, blob) = small();
    let to_app = sink(&server, EndpointOptions::default());
    let app = app_with(&to_app.clone().mount_from("base".parse().unwrap())).await;
    assert_eq!(app.claim(&blob).await.unwrap(), Claim::Linked);

    // Whoever refuses offers a session, which is used.
    let app = app_with(&to_app.mount_from("other".parse().unwrap())).await;
    let posts = lines(&server, "POST");
    assert_eq!(app.claim(&blob).await.unwrap(), Claim::Missing);
    app.put_blob(&blob, stream_of(&bytes)).await.unwrap();
    assert_eq!(app.claim(&blob).await.unwrap(), Claim::Present);
    assert_eq!(registry.blob(&blob.digest), Some(bytes));
    assert_eq!(lines(&server, "POST"), posts + 1, "{:?}", server.lines());
}

#[tokio::test]
async fn tokens_are_for_pushing_and_are_renewed() {
    let registry = Registry::default();
    let shared = registry.clone();
    let address: Arc<Mutex<String>> = Arc::default();
    let realm = Arc::clone(&address);
    let server = FaultServer::start(move |seen| {
        if seen.path() == "/token" {
            return Reply::ok(format!(r#"{{"token":"t{}"}}"#, seen.nth));
        }
        let realm = realm.lock().expect("no test panics with it").clone();
        // From the second part on only the second token will do.
        let good = match seen.method.as_str() {
            "PATCH" if seen.nth > 0 => "Bearer t1",
            _ => "Bearer t",
        };
        if !seen.header("authorization").starts_with(good) {
            return Reply::challenge(format!("Bearer realm=\"{realm}/token\",service=\"s\""));
        }
        shared.answer(seen)
    })
    .await;
    *address.lock().unwrap() = server.url("");
    let to = sink(&server, with_password()).mount_from("base".parse().unwrap());
    let app = app_with(&to).await;
    let (bytes, blob) = large();
    app.add_blob(Algorithm::Sha256, stream_of(&bytes)).await.unwrap();
    assert_eq!(registry.blob(&blob.digest), Some(bytes));
    let tokens = |server: &FaultServer| -> Vec<String> {
        server.lines().into_iter().filter(|line| line.contains("/token?")).collect()
    };
    let asked = tokens(&server);
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked.iter().all(|line| line.contains("scope=repository%3Aapp%3Apull%2Cpush")), "{asked:?}");

    let (_, missing) = small();
    assert_eq!(app.claim(&missing).await.unwrap(), Claim::Missing);
    let asked = tokens(&server);
    let both = "scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Abase%3Apull";
    assert!(asked.last().unwrap().contains(both), "{asked:?}");
}

fn referrer(of: &Image) -> Image {
    ImageBuilder::new().artifact_type("application/x.y").subject(&of.descriptor()).blob("text/plain", "x").build()
}

#[tokio::test]
async fn a_registry_that_lists_referrers_needs_no_tag_for_them() {
    for lists in [true, false] {
        let registry = Registry::default();
        let shared = registry.clone();
        let server = FaultServer::start(move |seen| {
            let reply = shared.answer(seen);
            if lists && seen.method == "PUT" { reply.header("oci-subject", "sha256:0") } else { reply }
        })
        .await;
        let image = ImageBuilder::new().layer("x").build();
        let app = app(&server).await;
        app.put_manifest(&referrer(&image).manifest).await.unwrap();
        let tag = roadstead::oci::Tag::referrers_fallback(&image.digest()).to_string();
        assert_eq!(registry.content().manifests.contains_key(&tag), !lists);
    }
}

#[tokio::test]
async fn a_tag_that_is_right_is_left_alone() {
    let registry = Registry::default();
    let shared = registry.clone();
    let server = FaultServer::start(move |seen| shared.answer(seen)).await;
    let image = ImageBuilder::new().layer("x").build();
    let app = app(&server).await;
    app.put_manifest(&image.manifest).await.unwrap();
    let tag = "1".parse().unwrap();
    assert!(app.tag(&tag, &image.descriptor()).await.unwrap());
    let puts = lines(&server, "PUT");
    assert!(!app.tag(&tag, &image.descriptor()).await.unwrap());
    assert_eq!(lines(&server, "PUT"), puts);
}

#[tokio::test]
async fn a_blob_that_shows_late_is_waited_for() {
    let (registry, image) = (Registry::default(), ImageBuilder::new().layer("x").build());
    for bytes in image.blobs.values() {
        registry.put(bytes);
    }
    let server = FaultServer::start(move |seen| match (seen.method.as_str(), seen.nth) {
        ("PUT", 0) => Reply::status(404).body(r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#),
        _ => registry.answer(seen),
    })
    .await;
    app(&server).await.put_manifest(&image.manifest).await.unwrap();
}

//! Challenges, tokens, passwords, and who gets to see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use roadstead::http::EndpointOptions;
use roadstead::http::credentials::{Credential, Credentials};
use roadstead::image::{Source, SourceError};
use roadstead::medium::registry::RegistrySource;
use roadstead::oci::Reference;
use roadstead::testing::{FaultServer, Image, ImageBuilder, Reply, Seen, noise};

use crate::support::{Setup, chain, read, registry_of};

fn image() -> Image {
    ImageBuilder::new().layer(noise(1, 100_000)).layer(noise(2, 100_000)).build()
}

fn tag() -> Reference {
    Reference::Tag("1".parse().expect("a tag"))
}

fn password() -> Credentials {
    Credentials::only(Credential::Password { username: "ann".to_owned(), password: "hunter2".into() })
}

/// `ann:hunter2`
const BASIC: &str = "Basic YW5uOmh1bnRlcjI=";

/// A registry that wants tokens, and its own token service at `/token`. A token is `token-N`, the Nth given out.
async fn token_registry(expires_in: Option<u64>, wants_password: bool) -> (FaultServer, Arc<AtomicUsize>) {
    let image = image();
    let given = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&given);
    let server = FaultServer::start(move |seen| {
        if seen.path() == "/token" {
            if wants_password && seen.header("authorization") != BASIC {
                return Reply::status(401).body(r#"{"details":"incorrect username or password"}"#);
            }
            let n = count.fetch_add(1, Ordering::Relaxed) + 1;
            let expires = expires_in.map(|seconds| format!(r#","expires_in":{seconds}"#)).unwrap_or_default();
            return Reply::ok(format!(r#"{{"token":"token-{n}"{expires}}}"#));
        }
        let good = format!("Bearer token-{}", count.load(Ordering::Relaxed));
        if good == "Bearer token-0" || seen.header("authorization") != good {
            let realm = format!("http://{}/token", seen.header("host"));
            let challenge = format!(r#"Bearer realm="{realm}",service="the service",scope="repository:app:pull""#);
            return Reply::challenge(challenge);
        }
        registry_of(&image, seen)
    })
    .await;
    (server, given)
}

#[tokio::test]
async fn one_anonymous_token_for_everything() {
    let (server, given) = token_registry(None, false).await;
    let app = Setup::new().app(&server);
    let image = image();
    let descriptor = app.resolve(&tag()).await.unwrap();
    let blobs: Vec<_> = image.manifest.blobs().collect();
    let reads = blobs.iter().map(|blob| read(&*app, blob, 0));
    futures::future::try_join_all(reads).await.unwrap();
    assert_eq!(descriptor.digest, image.digest());
    assert_eq!(given.load(Ordering::Relaxed), 1);
    let asked: Vec<Seen> = server.requests().into_iter().filter(|seen| seen.path() == "/token").collect();
    assert_eq!(asked[0].target, "/token?service=the+service&scope=repository%3Aapp%3Apull");
    assert_eq!(asked[0].header("authorization"), "", "nobody has logged in");
    let refused =
        server.requests().into_iter().filter(|seen| seen.path() != "/token" && seen.header("authorization").is_empty());
    assert_eq!(refused.count(), 1, "after the first challenge every request brings the token");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let (server, given) = token_registry(Some(300), true).await;
    let setup = Setup::new();
    let app = setup.source_with(&server, password()).repository(&"app".parse().unwrap());
    app.resolve(&tag()).await.unwrap();
    setup.clock.advance(Duration::from_secs(200));
    app.resolve(&tag()).await.unwrap();
    assert_eq!(given.load(Ordering::Relaxed), 1);
    setup.clock.advance(Duration::from_secs(95));
    let before = server.requests().len();
    app.resolve(&tag()).await.unwrap();
    assert_eq!(given.load(Ordering::Relaxed), 2);
    assert_eq!(server.requests().len() - before, 2, "a token and the HEAD, no 401: {:?}", server.lines());
    let asked = server.requests().into_iter().rfind(|seen| seen.path() == "/token").unwrap();
    assert!(asked.target.ends_with("&account=ann"), "{}", asked.target);
}

#[tokio::test]
async fn a_token_that_is_refused_in_the_middle_of_a_download_is_replaced() {
    let blob = noise(7, 200_000);
    let image = ImageBuilder::new().layer(blob).build();
    let layer = image.manifest.layers()[0].clone();
    let served = image.clone();
    let given = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&given);
    let server = FaultServer::start(move |seen| {
        if seen.path() == "/token" {
            let n = count.fetch_add(1, Ordering::Relaxed) + 1;
            return Reply::ok(format!(r#"{{"access_token":"token-{n}","expires_in":3600}}"#));
        }
        // Each token is good for the beginning of one answer.
        let good = format!("Bearer token-{}", if seen.range_start().is_some() { 2 } else { 1 });
        if seen.header("authorization") != good {
            return Reply::challenge(format!("Bearer realm=\"http://{}/token\"", seen.header("host")));
        }
        let reply = registry_of(&served, seen);
        if seen.range_start().is_none() { reply.cut_after(50_000) } else { reply }
    })
    .await;
    let bytes = read(&*Setup::new().app(&server), &layer, 0).await.unwrap();
    assert_eq!(bytes, image.blobs[&layer.digest]);
    assert_eq!(given.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn basic_authentication() {
    let image = image();
    let server = FaultServer::start(move |seen| match seen.header("authorization") {
        BASIC => registry_of(&image, seen),
        _ => Reply::challenge("Basic realm=\"a, \\\"b\\\"\"")
            .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#),
    })
    .await;
    let setup = Setup::new();
    let app = setup.source_with(&server, password()).repository(&"app".parse().unwrap());
    app.resolve(&tag()).await.unwrap();
    app.resolve(&tag()).await.unwrap();
    assert_eq!(server.requests().len(), 3, "one 401 only: {:?}", server.lines());

    let error = setup.app(&server).resolve(&tag()).await.unwrap_err();
    assert!(matches!(error, SourceError::Unauthorized { .. }), "{error:?}");
    assert!(chain(&error).contains("UNAUTHORIZED: no"), "{}", chain(&error));

    let wrong = Credentials::only(Credential::Password { username: "ann".to_owned(), password: "hunter3".into() });
    let before = server.requests().len();
    let app = setup.source_with(&server, wrong).repository(&"app".parse().unwrap());
    let error = app.resolve(&tag()).await.unwrap_err();
    assert!(matches!(error, SourceError::Unauthorized { .. }), "{error:?}");
    assert!(!format!("{error:?} {}", chain(&error)).contains("hunter"), "{error:?}");
    assert!(setup.clock.slept().is_empty(), "a wrong password is not tried again");
    assert!(server.requests().len() - before <= 4, "{:?}", server.lines());
}

#[tokio::test]
async fn a_password_that_the_token_service_refuses() {
    let (server, _) = token_registry(None, true).await;
    let setup = Setup::new();
    let wrong = Credentials::only(Credential::Password { username: "ann".to_owned(), password: "hunter3".into() });
    let app = setup.source_with(&server, wrong).repository(&"app".parse().unwrap());
    let error = app.resolve(&tag()).await.unwrap_err();
    assert!(matches!(error, SourceError::Unauthorized { .. }), "{error:?}");
    let text = chain(&error);
    assert!(text.contains("incorrect username or password") && text.contains("no token for 127.0.0.1"), "{text}");
    assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
}

#[tokio::test]
async fn denied_is_not_unauthorized() {
    let server = FaultServer::start(|_| {
        Reply::status(403).body(r#"{"errors":[{"code":"DENIED","message":"requested access is denied"}]}"#)
    })
    .await;
    let error = Setup::new().app(&server).resolve(&tag()).await.unwrap_err();
    assert!(matches!(error, SourceError::Denied { .. }), "{error:?}");
    assert!(chain(&error).contains("DENIED: requested access is denied"), "{}", chain(&error));
}

#[tokio::test]
async fn identity_tokens_are_posted() {
    let image = image();
    let server = FaultServer::start(move |seen| {
        if seen.path() == "/token" {
            return Reply::ok(r#"{"access_token":"good","refresh_token":"other"}"#);
        }
        match seen.header("authorization") {
            "Bearer good" => registry_of(&image, seen),
            // The second challenge must win over the first, and the scheme that nobody knows must not matter.
            _ => Reply::challenge(format!(
                "Negotiate, Basic realm=\"x\", Bearer realm=\"http://{}/token\",service=\"s&t\"",
                seen.header("host")
            )),
        }
    })
    .await;
    let credentials = Credentials::only(Credential::IdentityToken("refresh me".into()));
    let app = Setup::new().source_with(&server, credentials).repository(&"app".parse().unwrap());
    app.resolve(&tag()).await.unwrap();
    let asked = server.requests().into_iter().find(|seen| seen.path() == "/token").unwrap();
    assert_eq!(asked.method, "POST");
    assert_eq!(asked.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(
        asked.body,
        "grant_type=refresh_token&client_id=roadstead&service=s%26t&scope=repository%3Aapp%3Apull&refresh_token=refresh+me"
    );
}

#[tokio::test]
async fn token_services_that_nobody_should_ask() {
    for (realm, problem) in [
        ("http://169.254.169.254/token", "link-local"),
        ("https://169.254.169.254/token", "link-local"),
        ("https://[fe80::1]/token", "link-local"),
        ("http://auth.example/token", "not reached over TLS"),
        ("file:///etc/passwd", "no HTTP URL"),
        ("nonsense", "no URL"),
    ] {
        let server = FaultServer::start(move |_| Reply::challenge(format!("Bearer realm=\"{realm}\""))).await;
        let app = Setup::new().source_with(&server, password()).repository(&"app".parse().unwrap());
        let error = chain(&app.resolve(&tag()).await.unwrap_err());
        assert!(error.contains(problem), "{realm}: {error}");
        assert!(server.requests().iter().all(|seen| seen.header("authorization").is_empty()));
    }
}

#[tokio::test]
async fn token_services_that_redirect() {
    let elsewhere = FaultServer::start(|_| Reply::ok(r#"{"token":"t"}"#)).await;
    let to_loopback = elsewhere.url("/token");
    for (to, problem) in [
        ("http://169.254.169.254/latest/meta-data".to_owned(), "link-local"),
        ("http://auth.example/token".to_owned(), "not reached over TLS"),
        (to_loopback, ""),
    ] {
        let location = to.clone();
        let server = FaultServer::start(move |seen| match (seen.path(), seen.header("authorization")) {
            ("/token", _) => Reply::redirect(&*location),
            (_, "Bearer t") => Reply::status(404),
            _ => Reply::challenge(format!("Bearer realm=\"http://{}/token\"", seen.header("host"))),
        })
        .await;
        let app = Setup::new().source_with(&server, password()).repository(&"app".parse().unwrap());
        let error = app.resolve(&tag()).await.unwrap_err();
        if problem.is_empty() {
            assert!(matches!(error, SourceError::NotFound { .. }), "{error:?}");
        } else {
            assert!(chain(&error).contains(problem), "{to}: {}", chain(&error));
        }
    }
    let seen = elsewhere.requests();
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.header("authorization").is_empty()), "{seen:?}");
}

#[tokio::test]
async fn a_redirect_to_another_host_brings_no_credentials() {
    let image = image();
    let layer = image.manifest.layers()[0].clone();
    let bytes = image.blobs[&layer.digest].clone();
    let storage = FaultServer::start(move |seen| Reply::ranged(seen, bytes.clone())).await;
    let location = storage.url("/blob?X-Amz-Signature=topsecret");
    let server = FaultServer::start(move |seen| match (seen.header("authorization"), seen.path()) {
        (BASIC, "/v2/app/blobs/inside") => Reply::redirect(&*location),
        // First to itself, where the credentials must come along.
        (BASIC, _) => Reply::redirect("/v2/app/blobs/inside"),
        _ => Reply::challenge("Basic realm=x"),
    })
    .await;
    let app = Setup::new().source_with(&server, password()).repository(&"app".parse().unwrap());
    let read = read(&*app, &layer, 0).await.unwrap();
    assert_eq!(read, image.blobs[&layer.digest]);
    assert_eq!(storage.requests().len(), 1);
    assert_eq!(storage.requests()[0].header("authorization"), "");
    assert_eq!(storage.requests()[0].header("cookie"), "");
}

#[tokio::test]
async fn another_host_is_not_told_who_asks_even_if_it_asks() {
    let nosy = FaultServer::start(|seen| {
        Reply::challenge(format!("Basic realm=x, Bearer realm=\"http://{}/token\"", seen.header("host")))
    })
    .await;
    let location = nosy.url("/blob?sig=topsecret");
    let server = FaultServer::start(move |seen| match seen.header("authorization") {
        BASIC => Reply::redirect(&*location),
        _ => Reply::challenge("Basic realm=x"),
    })
    .await;
    let app = Setup::new().source_with(&server, password()).repository(&"app".parse().unwrap());
    let error = read(&*app, &image().manifest.layers()[0], 0).await.unwrap_err();
    assert!(matches!(error, SourceError::Unauthorized { .. }), "{error:?}");
    assert!(!format!("{error:?} {}", chain(&error)).contains("topsecret"), "{error:?}");
    assert_eq!(nosy.lines(), ["GET /blob?sig=topsecret"]);
    assert_eq!(nosy.requests()[0].header("authorization"), "");
}

#[tokio::test]
async fn a_mirror_comes_first_with_its_own_credentials() {
    let image = image();
    let expected = image.clone();
    let without_layers = image.clone();
    let mirror = FaultServer::start(move |seen| {
        if seen.path().contains("/blobs/") {
            return Reply::status(404);
        }
        registry_of(&without_layers, seen)
    })
    .await;
    let upstream = FaultServer::start(move |seen| match seen.header("authorization") {
        BASIC => registry_of(&image, seen),
        _ => Reply::challenge("Basic realm=x"),
    })
    .await;
    let setup = Setup::new();
    let endpoint = |server: &FaultServer, credentials| {
        let options = EndpointOptions { credentials, plain_http: true };
        setup.client.endpoint(&server.authority().parse().unwrap(), options).unwrap()
    };
    let mirrors = vec![endpoint(&mirror, Credentials::default())];
    let source = RegistrySource::new(endpoint(&upstream, password()), mirrors);
    let app = source.repository(&"app".parse().unwrap());
    let descriptor = app.resolve(&tag()).await.unwrap();
    let manifest = app.manifest(&descriptor).await.unwrap();
    assert_eq!(upstream.lines(), Vec::<String>::new(), "the mirror has the manifest");
    let layer = &manifest.layers()[0];
    assert_eq!(read(&*app, layer, 0).await.unwrap(), expected.blobs[&layer.digest]);
    assert!(mirror.requests().iter().all(|seen| seen.header("authorization").is_empty()));
    assert!(app.describe(&tag()).starts_with(&upstream.authority()), "people name the registry, not its mirror");

    drop(mirror);
    app.resolve(&tag()).await.expect("a mirror that is down is passed over");
}

#[tokio::test]
async fn a_mirror_that_is_overrun_is_passed_over() {
    let image = image();
    let mirror = FaultServer::start(|_| Reply::status(503)).await;
    let upstream = FaultServer::start(move |seen| registry_of(&image, seen)).await;
    let setup = Setup::new();
    let endpoint = |server: &FaultServer| {
        setup.client.endpoint(&server.authority().parse().unwrap(), EndpointOptions::default()).unwrap()
    };
    let source = RegistrySource::new(endpoint(&upstream), vec![endpoint(&mirror)]);
    let app = source.repository(&"app".parse().unwrap());
    let tags: Vec<_> = futures::TryStreamExt::try_collect(app.tags()).await.unwrap();
    assert_eq!(tags, ["1".parse().unwrap()]);
    app.resolve(&tag()).await.unwrap();
}

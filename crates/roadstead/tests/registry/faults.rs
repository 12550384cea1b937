//! What a registry does wrong, and what comes of it.

use std::time::Duration;

use roadstead::http::{EndpointOptions, Proxies, RetryPolicy};
use roadstead::image::{Source, SourceError};
use roadstead::medium::registry::RegistrySource;
use roadstead::oci::{Algorithm, Descriptor, Reference};
use roadstead::testing::{FaultServer, Image, ImageBuilder, Reply, Seen, noise};

use crate::support::{Setup, chain, read, registry_of};

const SIZE: usize = 300_000;

fn image() -> Image {
    ImageBuilder::new().layer(noise(3, SIZE)).build()
}

fn layer(image: &Image) -> (Descriptor, Vec<u8>) {
    let layer = image.manifest.layers()[0].clone();
    let bytes = image.blobs[&layer.digest].to_vec();
    (layer, bytes)
}

fn tag() -> Reference {
    Reference::Tag("1".parse().expect("a tag"))
}

/// A server that answers one blob by a script, which gets the blob's bytes.
async fn blob_server(
    script: impl Fn(&Seen, Vec<u8>) -> Reply + Send + Sync + 'static,
) -> (FaultServer, Descriptor, Vec<u8>) {
    let (descriptor, bytes) = layer(&image());
    let served = bytes.clone();
    let server = FaultServer::start(move |seen| script(seen, served.clone())).await;
    (server, descriptor, bytes)
}

#[tokio::test]
async fn passing_failures_are_waited_out() {
    let image = image();
    let server = FaultServer::start(move |seen| match seen.nth {
        0 => Reply::status(500),
        1 => Reply::status(429).header("retry-after", "7"),
        2 => Reply::status(503).header("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT"),
        3 => Reply::hang_up(),
        _ => registry_of(&image, seen),
    })
    .await;
    let setup = Setup::new();
    setup.app(&server).resolve(&tag()).await.unwrap();
    let slept = setup.clock.slept();
    let seconds = |wait: Duration| wait.as_secs();
    assert_eq!(server.requests().len(), 5, "{:?}", server.lines());
    assert_eq!(slept.len(), 4, "{slept:?}");
    assert_eq!(seconds(slept[1]), 7, "what the server asked for: {slept:?}");
    // The date is a minute after the clock's start, and seven seconds and the rest have passed.
    assert!((50..54).contains(&seconds(slept[2])), "{slept:?}");
    assert!(slept[3] >= Duration::from_secs(2) && slept[3] <= Duration::from_secs(4), "{slept:?}");
}

#[tokio::test]
async fn lasting_failures_are_not() {
    let server = FaultServer::start(|_| {
        Reply::status(429)
            .header("retry-after", "86400")
            .body(r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}"#)
    })
    .await;
    let retry = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
    let setup = Setup::with(|options| options.retry = retry);
    let error = read(&*setup.app(&server), &layer(&image()).0, 0).await.unwrap_err();
    assert!(chain(&error).contains("429") && chain(&error).contains("pull rate limit"), "{}", chain(&error));
    assert_eq!(server.requests().len(), 3);
    assert!(setup.clock.slept().iter().all(|wait| *wait < Duration::from_secs(121)), "{:?}", setup.clock.slept());
    for status in [400, 404, 501] {
        let server = FaultServer::start(move |_| Reply::status(status)).await;
        read(&*setup.app(&server), &layer(&image()).0, 0).await.unwrap_err();
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_stopped() {
    for silent in [false, true] {
        let (server, descriptor, bytes) = blob_server(move |seen, bytes| {
            let reply = Reply::ranged(seen, bytes);
            match seen.nth {
                0..=2 if silent => reply.silent_after(70_000),
                0..=2 => reply.cut_after(70_000),
                _ => reply,
            }
        })
        .await;
        let read = read(&*Setup::new().app(&server), &descriptor, 0).await.unwrap();
        assert!(read == bytes, "other bytes came, silent: {silent}");
        let starts: Vec<_> = server.requests().iter().map(Seen::range_start).collect();
        assert_eq!(starts, [None, Some(70_000), Some(140_000), Some(210_000)]);
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_read_again_from_the_beginning() {
    let (server, descriptor, bytes) = blob_server(|seen, bytes| {
        let reply = Reply::ok(bytes);
        if seen.nth == 0 { reply.cut_after(70_000) } else { reply }
    })
    .await;
    let app = Setup::new().app(&server);
    assert!(read(&*app, &descriptor, 0).await.unwrap() == bytes, "other bytes came");
    assert!(read(&*app, &descriptor, 123_456).await.unwrap() == bytes[123_456..], "from the middle on");
}

#[tokio::test]
async fn a_download_starts_in_the_middle() {
    let (server, descriptor, bytes) = blob_server(Reply::ranged).await;
    let app = Setup::new().app(&server);
    assert!(read(&*app, &descriptor, 1).await.unwrap() == bytes[1..]);
    assert_eq!(read(&*app, &descriptor, bytes.len() as u64).await.unwrap(), b"");
    assert_eq!(server.requests().len(), 1, "there is nothing to ask for at the end");
}

#[tokio::test]
async fn another_range_than_the_one_asked_for() {
    for range in ["bytes 0-9/10", "bytes 70001-300000/300001", "items 70000-", ""] {
        let (server, descriptor, _) = blob_server(move |seen, bytes| match seen.range_start() {
            None => Reply::ok(bytes).cut_after(70_000),
            Some(_) => Reply::status(206).header("content-range", range).body("0123456789"),
        })
        .await;
        let error = chain(&read(&*Setup::new().app(&server), &descriptor, 0).await.unwrap_err());
        assert!(error.contains("asked for the bytes from 70000 on"), "{range}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_always_cuts_is_given_up() {
    let (server, descriptor, _) = blob_server(|seen, bytes| Reply::ranged(seen, bytes).cut_after(10)).await;
    let setup = Setup::new();
    let error = read(&*setup.app(&server), &descriptor, 0).await.unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 6, "{:?}", server.lines());
}

#[tokio::test]
async fn short_and_long_answers_are_passed_on_to_whoever_verifies() {
    for length in [10, SIZE * 2] {
        let (server, descriptor, _) = blob_server(move |_, _| Reply::ok(vec![7; length])).await;
        let read = read(&*Setup::new().app(&server), &descriptor, 0).await.unwrap();
        assert_eq!(read.len(), length);
    }
    let (server, descriptor, bytes) = blob_server(|seen, bytes| match seen.nth {
        0 => Reply::ok(bytes[..100].to_vec()).claiming(bytes.len() as u64),
        _ => Reply::ranged(seen, bytes),
    })
    .await;
    assert!(
        read(&*Setup::new().app(&server), &descriptor, 0).await.unwrap() == bytes,
        "a lie about the length is a cut"
    );
}

#[tokio::test]
async fn pages_for_people() {
    let html = "<!doctype html><title>Welcome</title>";
    let server = FaultServer::start(move |_| Reply::ok(html).header("content-type", "text/html; charset=utf-8")).await;
    let setup = Setup::new();
    let app = setup.app(&server);
    let error = app.resolve(&tag()).await.unwrap_err();
    assert!(matches!(error, SourceError::Manifest { .. }) && chain(&error).contains("HTML"), "{error:?}");
    let (descriptor, _) = layer(&image());
    let error = chain(&read(&*app, &descriptor, 0).await.unwrap_err());
    assert!(error.contains("HTML page") && error.contains(&descriptor.digest.to_string()), "{error}");
    let error = futures::TryStreamExt::try_collect::<Vec<_>>(app.tags()).await.unwrap_err();
    assert!(chain(&error).contains("HTML page"), "{error:?}");
    let error = app.referrers(&descriptor.digest).await.unwrap_err();
    assert!(chain(&error).contains("HTML"), "{error:?}");

    let server = FaultServer::start(move |_| Reply::status(404).body(html).header("content-type", "text/html")).await;
    let error = setup.app(&server).resolve(&tag()).await.unwrap_err();
    assert!(matches!(error, SourceError::NotFound { .. }), "{error:?}");
    assert!(chain(&error).contains("HTML page") && !chain(&error).contains("Welcome"), "{}", chain(&error));
}

#[tokio::test]
async fn a_blob_may_be_called_a_page() {
    let (server, descriptor, bytes) =
        blob_server(|seen, bytes| Reply::ranged(seen, bytes).header("content-type", "text/html")).await;
    assert!(read(&*Setup::new().app(&server), &descriptor, 0).await.unwrap() == bytes);
}

#[tokio::test]
async fn redirects_that_are_not_followed() {
    for (location, problem) in [
        ("/v2/app/manifests/1", "in a circle"),
        ("/a", "in a circle"),
        ("/longer", "more than 10 times"),
        ("file:///etc/passwd", "something other than http"),
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://user:secret@127.0.0.1/", "credentials in it"),
        ("http://[", "no URL"),
    ] {
        let server = FaultServer::start(move |seen| match seen.path() {
            "/a" => Reply::redirect("/b"),
            "/b" => Reply::redirect("/a"),
            path if path.starts_with("/longer") => Reply::redirect(format!("{path}x")),
            _ => Reply::redirect(location),
        })
        .await;
        let error = chain(&Setup::new().app(&server).resolve(&tag()).await.unwrap_err());
        assert!(error.contains(problem) && !error.contains("secret"), "{location}: {error}");
        assert!(server.requests().len() < 30, "{:?}", server.lines());
    }
}

#[tokio::test]
async fn bodies_without_end() {
    let server = FaultServer::start(|seen| match seen.method.as_str() {
        "HEAD" => Reply::status(405),
        _ => Reply::ok(vec![b' '; 100_000]).endless(),
    })
    .await;
    let error = chain(&Setup::new().app(&server).resolve(&tag()).await.unwrap_err());
    assert!(error.contains("more than 4194304 bytes"), "{error}");

    let server = FaultServer::start(|_| Reply::status(400).body(vec![b'x'; 100_000]).endless()).await;
    let error = chain(&Setup::new().app(&server).resolve(&tag()).await.unwrap_err());
    assert!(error.contains("400") && error.len() < 1000, "{error}");

    let server = FaultServer::start(|_| Reply::ok("").claiming(1 << 40)).await;
    let error = chain(&Setup::new().app(&server).resolve(&tag()).await.unwrap_err());
    assert!(error.contains("more than 4194304 bytes"), "{error}");
}

#[tokio::test]
async fn registries_whose_head_says_too_little() {
    type Break = fn(Reply) -> Reply;
    let breaks: [(&str, Break); 5] = [
        ("405", |_| Reply::status(405)),
        ("404 although it is there", |_| Reply::status(404)),
        ("no digest", |_| Reply::ok("x").header("content-type", "application/vnd.oci.image.manifest.v1+json")),
        ("no length", |reply| reply.header("content-length", "0")),
        ("another type", |_| Reply::ok("x").header("content-type", "text/plain")),
    ];
    for (name, broken) in breaks {
        let image = image();
        let expected = image.descriptor();
        let server = FaultServer::start(move |seen| {
            let reply = registry_of(&image, seen);
            if seen.method == "HEAD" { broken(reply) } else { reply }
        })
        .await;
        let app = Setup::new().app(&server);
        let descriptor = app.resolve(&tag()).await.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        assert_eq!(descriptor, expected, "{name}");
        app.manifest(&descriptor).await.unwrap();
        assert_eq!(server.requests().len(), 2, "the manifest came with the GET, {name}: {:?}", server.lines());
    }
}

#[tokio::test]
async fn wrong_manifests() {
    let (image, other) = (image(), ImageBuilder::new().layer("other").build());
    let expected = image.descriptor();
    let served = other.clone();
    let server = FaultServer::start(move |_| {
        Reply::ok(served.manifest.bytes().clone())
            .header("content-type", served.manifest.media_type().as_str())
            .header("docker-content-digest", served.digest().to_string())
    })
    .await;
    let app = Setup::new().app(&server);
    let error = app.manifest(&expected).await.unwrap_err();
    assert!(matches!(error, SourceError::Manifest { .. }), "{error:?}");
    let text = chain(&error);
    assert!(text.contains(&expected.digest.to_string()) && text.contains(&other.digest().to_string()), "{text}");
    let error = app.resolve(&Reference::Digest(expected.digest)).await.unwrap_err();
    assert!(chain(&error).contains(&other.digest().to_string()), "{}", chain(&error));

    let lied = Algorithm::Sha256.digest(b"lie");
    let server = FaultServer::start(move |seen| match seen.method.as_str() {
        "HEAD" => Reply::status(405),
        _ => Reply::ok(image.manifest.bytes().clone()).header("docker-content-digest", lied.to_string()),
    })
    .await;
    let error = Setup::new().app(&server).resolve(&tag()).await.unwrap_err();
    assert!(matches!(error, SourceError::Manifest { .. }), "a digest that is not the body's: {error:?}");
}

#[tokio::test]
async fn proxies_are_used_but_not_for_loopback() {
    let image = image();
    let proxy = FaultServer::start(move |seen| {
        let mut seen = seen.clone();
        seen.target = seen.target.trim_start_matches("http://registry.example").to_owned();
        registry_of(&image, &seen)
    })
    .await;
    let url = format!("http://us%65r:pw@{}", proxy.authority());
    let setup = Setup::with(|options| options.proxies = Proxies { all: Some(url.into()), ..Proxies::default() });
    let options = EndpointOptions { plain_http: true, ..EndpointOptions::default() };
    let endpoint = setup.client.endpoint(&"registry.example".parse().unwrap(), options).unwrap();
    let app = RegistrySource::new(endpoint, Vec::new()).repository(&"app".parse().unwrap());
    app.resolve(&tag()).await.unwrap();
    let seen = &proxy.requests()[0];
    assert_eq!(seen.target, "http://registry.example/v2/app/manifests/1");
    assert_eq!(seen.header("proxy-authorization"), "Basic dXNlcjpwdw==");

    let direct = FaultServer::start(|_| Reply::status(404)).await;
    let _ = setup.app(&direct).resolve(&tag()).await.unwrap_err();
    assert!(!direct.requests().is_empty(), "loopback is asked directly");
    assert_eq!(proxy.requests().len(), 1);
}

#[tokio::test]
async fn a_mirror_that_breaks_off_is_left_for_the_registry() {
    let (descriptor, bytes) = layer(&image());
    let (half, whole) = (bytes.clone(), bytes.clone());
    let mirror = FaultServer::start(move |seen| match seen.range_start() {
        None => Reply::ok(half.clone()).cut_after(70_000),
        Some(_) => Reply::status(404),
    })
    .await;
    let upstream = FaultServer::start(move |seen| Reply::ranged(seen, whole.clone())).await;
    let setup = Setup::new();
    let endpoint = |server: &FaultServer| {
        setup.client.endpoint(&server.authority().parse().unwrap(), EndpointOptions::default()).unwrap()
    };
    let source = RegistrySource::new(endpoint(&upstream), vec![endpoint(&mirror)]);
    let app = source.repository(&"app".parse().unwrap());
    assert!(read(&*app, &descriptor, 0).await.unwrap() == bytes, "other bytes came");
    let starts: Vec<_> = upstream.requests().iter().map(Seen::range_start).collect();
    assert_eq!(starts, [Some(70_000)], "the registry gives the rest");
}

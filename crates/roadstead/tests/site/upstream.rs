//! In front of hosts that are wrong, slow, hostile or down.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roadstead::http::{BaseUrl, Client, ClientOptions, Endpoint, EndpointOptions, Timeouts};
use roadstead::oci::Algorithm;
use roadstead::server::{Limits, ServeOptions};
use roadstead::testing::{FaultServer, Image, ImageBuilder, Layer, Reply, Seen, TestClock, noise};
use tokio::runtime::Runtime;

use crate::client::{Answer, exchange, get, read};
use crate::fixture::{Serving, serve};

/// What lies below a URL, asked by a client whose waits take no time.
pub(crate) fn at(url: &str) -> Endpoint {
    let url: BaseUrl = url.parse().unwrap();
    let timeouts = Timeouts { stall: Duration::from_millis(300), ..Timeouts::default() };
    let clock = Arc::new(TestClock::default());
    let client = Client::new(ClientOptions { clock, timeouts, ..ClientOptions::default() }).unwrap();
    let options = EndpointOptions { plain_http: url.plain_http(), ..EndpointOptions::default() };
    client.endpoint(url.registry(), options).unwrap().below(url.path())
}

/// An upstream that answers as a script says, and the server in front of it.
struct Scene {
    runtime: Runtime,
    upstream: FaultServer,
    serving: Serving,
}

impl Scene {
    fn new(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(Limits::default(), script)
    }

    fn with(limits: Limits, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let upstream = runtime.block_on(FaultServer::start(script));
        let options = ServeOptions { limits, ..ServeOptions::default() };
        let serving = serve(&runtime, at(&upstream.url("/site")), options);
        Self { runtime, upstream, serving }
    }

    fn get(&self, path: &str) -> Answer {
        get(&self.serving.address, path)
    }

    fn send(&self, method: &str, path: &str, lines: &str) -> Answer {
        exchange(&self.serving.address, &format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
    }
}

/// An image with a layer of `size` bytes that don't compress.
fn image(size: usize) -> Image {
    ImageBuilder::new().layer(Layer::new().file("data", noise(1, size), 0o644)).build()
}

fn largest(image: &Image) -> (String, Bytes) {
    let (digest, bytes) = image.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    (digest.to_string(), bytes.clone())
}

/// What a sound host below `/site` has, under the tag `1` of `app`.
fn sound(image: &Image, seen: &Seen) -> Reply {
    let Some(path) = seen.path().strip_prefix("/site/v2/app/") else { return Reply::status(404) };
    if let Some(reference) = path.strip_prefix("manifests/") {
        let is_it = reference == "1" || reference == image.digest().to_string();
        return if is_it { Reply::ok(image.manifest.bytes().clone()) } else { Reply::status(404) };
    }
    let blob = path.strip_prefix("blobs/").and_then(|digest| image.blobs.get(&digest.parse().ok()?));
    blob.map_or(Reply::status(404), |bytes| Reply::ok(bytes.clone()))
}

const UNREACHABLE: &str = r#"{"errors":[{"code":"UNKNOWN","message":"the registry can not read from its upstream"}]}"#;

#[test]
fn what_an_upstream_says_is_not_believed() {
    let image = image(100_000);
    let (blob, bytes) = largest(&image);
    let manifest = image.manifest.bytes().clone();
    // Every header is a lie that a host with an opinion of its own might tell.
    let scene = Scene::new({
        let image = image.clone();
        move |seen| {
            sound(&image, seen)
                .header("content-type", "text/html; charset=utf-8")
                .header("content-encoding", "gzip")
                .header("cache-control", "public, max-age=99999")
                .header("etag", "W/\"1\"")
                .header("set-cookie", "a=b")
        }
    });
    for (path, media_type, digest, body) in [
        ("/v2/app/manifests/1".to_owned(), image.manifest.media_type().as_str(), image.digest().to_string(), &manifest),
        (format!("/v2/app/blobs/{blob}"), "application/octet-stream", blob, &bytes),
    ] {
        let answer = scene.get(&path);
        assert_eq!((answer.status, answer.body == *body), (200, true), "{path}");
        assert_eq!(answer.header("content-type").as_deref(), Some(media_type), "{path}");
        assert_eq!(answer.header("docker-content-digest"), Some(digest.clone()), "{path}");
        assert_eq!(answer.header("etag"), Some(format!("\"{digest}\"")), "{path}");
        assert!(!answer.header("cache-control").unwrap().contains("99999"), "{path}");
        assert_eq!((answer.header("content-encoding"), answer.header("set-cookie")), (None, None), "{path}");
    }
}

#[test]
fn a_wrong_blob_has_no_end() {
    let image = image(300_000);
    let (blob, bytes) = largest(&image);
    for (fault, lines) in
        [("wrong", "Connection: close\r\n"), ("wrong", "Content-Length: 0\r\n"), ("short", "Connection: close\r\n")]
    {
        let served = bytes.clone();
        let scene = Scene::new(move |_| {
            let wrong = Reply::ok(served.clone()).edit(|bytes| *bytes.last_mut().unwrap() ^= 1);
            if fault == "wrong" {
                wrong
            } else {
                Reply::ok(served.clone()).header("content-length", (served.len() - 1).to_string())
            }
        });
        let mut stream = scene.serving.address.connect();
        let request = format!("GET /v2/app/blobs/{blob} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read(&mut *stream, true).unwrap();
        assert_eq!(answer.status, 200, "{fault}");
        let mut came = Vec::new();
        // An end or a reset: either comes before the last byte.
        let _ = stream.read_to_end(&mut came);
        let promised: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert!(came.len() < promised, "{fault}: all {promised} bytes came");
    }
}

#[test]
fn a_small_wrong_blob_is_an_error() {
    let image = image(10);
    let (blob, _) = largest(&image);
    let path = format!("/v2/app/blobs/{blob}");
    let scene = Scene::new(|_| Reply::ok("something else"));
    let answer = scene.get(&path);
    assert_eq!((answer.status, answer.text().as_str()), (502, UNREACHABLE));
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"));
    let scene = Scene::new(|_| Reply::ok(""));
    assert_eq!(scene.get(&path).status, 502);
    let empty = format!("/v2/app/blobs/{}", Algorithm::Sha256.digest(b""));
    assert_eq!((scene.get(&empty).status, scene.get(&empty).body.len()), (200, 0));
}

#[test]
fn manifests_are_whole_and_right_before_they_are_answered() {
    let image = image(10);
    let digest = image.digest();
    let other = ImageBuilder::new().greeting("other").build();
    let by_digest = format!("/v2/app/manifests/{digest}");
    for (fault, reply, path, status) in [
        ("another manifest", Reply::ok(other.manifest.bytes().clone()), &*by_digest, 502),
        ("no manifest", Reply::ok("{}"), "/v2/app/manifests/1", 502),
        ("too large", Reply::ok(vec![b' '; 5 << 20]), "/v2/app/manifests/1", 502),
        ("endless", Reply::ok(vec![b' '; 1 << 16]).endless(), "/v2/app/manifests/1", 502),
        ("cut", Reply::ok(image.manifest.bytes().clone()).cut_after(100), "/v2/app/manifests/1", 502),
        ("silent", Reply::ok(image.manifest.bytes().clone()).silent_after(100), "/v2/app/manifests/1", 502),
        (
            "another digest than it says",
            Reply::ok(image.manifest.bytes().clone()).header("docker-content-digest", other.digest().to_string()),
            "/v2/app/manifests/1",
            502,
        ),
        (
            "an index for a list",
            Reply::ok(image.manifest.bytes().clone()),
            &*format!("/v2/app/referrers/{digest}"),
            502,
        ),
        ("a list that is none", Reply::ok("[]"), "/v2/app/tags/list", 502),
        (
            "one page of a list",
            Reply::ok(r#"{"tags":["a"]}"#).header("link", "</v2/app/tags/list?n=1&last=a>; rel=\"next\""),
            "/v2/app/tags/list",
            502,
        ),
    ] {
        let scene = Scene::new(move |_| reply.clone());
        let answer = scene.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (status, UNREACHABLE), "{fault}");
    }
}

#[test]
fn what_is_missing_is_missing_whatever_the_upstream_calls_it() {
    let absent = format!("sha256:{}", "0".repeat(64));
    let page = "<!DOCTYPE html><p>a page for every path";
    for (upstream, reply) in [
        ("404", Reply::status(404)),
        ("404 and a page", Reply::status(404).body(page)),
        ("403", Reply::status(403).body("<Error><Code>AccessDenied</Code></Error>")),
        ("410", Reply::status(410)),
        ("200 and a page", Reply::ok(page)),
    ] {
        let scene = Scene::new(move |_| reply.clone());
        for (path, status, text) in [
            ("/v2/app/manifests/1", 404, "MANIFEST_UNKNOWN"),
            (&*format!("/v2/app/manifests/{absent}"), 404, "MANIFEST_UNKNOWN"),
            (&*format!("/v2/app/blobs/{absent}"), 404, "BLOB_UNKNOWN"),
            ("/v2/app/tags/list", 404, "NAME_UNKNOWN"),
            ("/v2/_catalog", 200, r#"{"repositories":[]}"#),
            (&*format!("/v2/app/referrers/{absent}"), 200, r#""manifests":[]"#),
            (&*format!("/v2/app/referrers/{absent}?artifactType=x"), 200, r#""manifests":[]"#),
            ("/v2/", 200, "{}"),
        ] {
            let answer = scene.get(path);
            assert_eq!(answer.status, status, "{upstream}: {path}: {}", answer.text());
            assert!(answer.text().contains(text), "{upstream}: {path}: {}", answer.text());
        }
    }
}

#[test]
fn an_upstream_that_fails() {
    let absent = format!("sha256:{}", "0".repeat(64));
    for (fault, reply) in [
        ("500", Reply::status(500)),
        ("503", Reply::status(503).header("retry-after", "1")),
        ("401", Reply::challenge("Basic realm=\"x\"")),
        ("429", Reply::status(429)),
        ("no answer", Reply::hang_up()),
        ("a circle", Reply::redirect("/site/v2/x")),
        ("the cloud's secrets", Reply::redirect("http://169.254.169.254/latest")),
    ] {
        let scene = Scene::new(move |_| reply.clone());
        for path in ["/v2/app/manifests/1", &*format!("/v2/app/blobs/{absent}"), "/v2/app/tags/list", "/v2/_catalog"] {
            let answer = scene.get(path);
            assert_eq!((answer.status, answer.text().as_str()), (502, UNREACHABLE), "{fault}: {path}");
        }
        assert_eq!(scene.send("HEAD", &format!("/v2/app/blobs/{absent}"), "").status, 502, "{fault}");
        assert_eq!(scene.get("/v2/").status, 200, "{fault}");
    }
    let scene = Scene::new(|_| Reply::status(404));
    let gone = serve(&scene.runtime, at("http://127.0.0.1:1"), ServeOptions::default());
    assert_eq!(get(&gone.address, "/v2/app/manifests/1").status, 502);
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let image = image(500_000);
    let (blob, bytes) = largest(&image);
    let served = bytes.clone();
    let scene = Scene::new(move |seen| {
        let reply = Reply::ranged(seen, served.clone());
        if seen.nth == 0 { reply.cut_after(200_000) } else { reply }
    });
    let answer = scene.get(&format!("/v2/app/blobs/{blob}"));
    assert_eq!((answer.status, answer.body == bytes), (200, true));
    assert_eq!(scene.upstream.requests().len(), 2);
}

#[test]
fn ranges_are_passed_on_or_cut_out() {
    let image = image(200_000);
    let (blob, bytes) = largest(&image);
    let path = format!("/v2/app/blobs/{blob}");
    for knows_ranges in [true, false] {
        let served = bytes.clone();
        let scene =
            Scene::new(
                move |seen| {
                    if knows_ranges { Reply::ranged(seen, served.clone()) } else { Reply::ok(served.clone()) }
                },
            );
        for (range, start, end) in [
            ("bytes=150000-", 150_000, bytes.len()),
            ("bytes=0-99", 0, 100),
            ("bytes=-7", bytes.len() - 7, bytes.len()),
            ("bytes=0-", 0, bytes.len()),
        ] {
            let answer = scene.send("GET", &path, &format!("Range: {range}\r\nConnection: close\r\n"));
            assert_eq!((answer.status, answer.body == bytes[start..end]), (206, true), "{range}, {knows_ranges}");
        }
        let asked = scene.upstream.requests().iter().any(|seen| seen.header("range") == "bytes=150000-");
        assert!(asked, "the whole was asked for, {knows_ranges}");
        assert_eq!(scene.send("GET", &path, "Range: bytes=99999999-\r\n").status, 416);
        let head = scene.send("HEAD", &path, "");
        assert_eq!((head.status, head.header("content-length")), (200, Some(bytes.len().to_string())));
    }
}

/// What is said of a blob before it comes is not what it is answered with. `Content-Length` leads to the second transport.
#[test]
fn a_length_that_was_wrong_before_the_blob_came() {
    for size in [10, 100_000] {
        let image = image(size);
        let (blob, bytes) = largest(&image);
        for (said, lines) in [Some(5_u64), Some(1 << 40), None]
            .into_iter()
            .flat_map(|said| [(said, ""), (said, "Content-Length: 0\r\n")])
        {
            let served = bytes.clone();
            let scene = Scene::new(move |seen| {
                let reply = Reply::ok(served.clone());
                match said {
                    _ if seen.method == "GET" => reply,
                    Some(length) => reply.claiming(length),
                    None => reply.without("content-length").header("connection", "close"),
                }
            });
            let answer = scene.send("GET", &format!("/v2/app/blobs/{blob}"), lines);
            let what = format!("{size} bytes, {said:?} said, {lines:?}");
            assert_eq!((answer.status, answer.body == bytes), (200, true), "{what}");
            assert_eq!(answer.header("content-length"), Some(bytes.len().to_string()), "{what}");
        }
    }
}

/// It says that a blob is small, and goes on.
#[test]
fn a_small_blob_that_is_longer_than_said() {
    let image = image(10);
    let (blob, bytes) = largest(&image);
    let more = [&bytes[..], &[0; 1 << 20]].concat();
    let scene = Scene::new(move |seen| {
        let length = if seen.method == "GET" { more.len() } else { 100 };
        Reply::ok(more.clone()).claiming(length as u64)
    });
    let mut stream = scene.serving.address.connect();
    stream
        .write_all(format!("GET /v2/app/blobs/{blob} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut came = Vec::new();
    let _ = stream.read_to_end(&mut came);
    assert!(came.len() < 1 << 20, "all of a wrong blob came");
}

#[test]
fn an_upstream_that_does_not_say_how_long_a_blob_is() {
    let image = image(100_000);
    let (blob, bytes) = largest(&image);
    let chunked = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n0\r\n\r\n"].concat();
    for (right, lines) in [(true, ""), (true, "Content-Length: 0\r\n"), (false, ""), (false, "Content-Length: 0\r\n")] {
        let mut served = bytes.to_vec();
        served[7] ^= u8::from(!right);
        let body = chunked(&served);
        // A length of the coded body is no length of the content, and is left out by whoever means the latter.
        let scene = Scene::new(move |_| Reply::ok(body.clone()).header("transfer-encoding", "chunked"));
        let mut stream = scene.serving.address.connect();
        let request = format!("GET /v2/app/blobs/{blob} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read(&mut *stream, false);
        match answer {
            Ok(answer) if right => assert_eq!((answer.status, answer.body == bytes), (200, true)),
            Err(_) if !right => {}
            other => panic!("right: {right}: {other:?}"),
        }
    }
}

#[test]
fn nothing_of_a_client_reaches_the_upstream() {
    let image = image(100);
    let scene = Scene::new(move |seen| sound(&image, seen));
    let secret = "Authorization: Basic c2VjcmV0\r\nCookie: secret\r\nX-Forwarded-For: secret\r\nProxy-Authorization: Basic c2VjcmV0\r\n";
    for path in ["/v2/app/manifests/1?token=secret", "/v2/app/tags/list?n=1&secret=secret", "/v2/_catalog?secret"] {
        scene.send("GET", path, secret);
        scene.send("HEAD", path, secret);
    }
    scene.send("PUT", "/v2/app/manifests/1", secret);
    for seen in scene.upstream.requests() {
        assert!(!format!("{seen:?}").to_lowercase().contains("secret"), "{seen:?}");
        assert!(!format!("{seen:?}").contains("c2VjcmV0"), "{seen:?}");
        assert!(matches!(&*seen.method, "GET" | "HEAD"), "{seen:?}");
        assert!(seen.target.starts_with("/site/v2/"), "{seen:?}");
    }
}

#[test]
fn redirects_are_followed() {
    let image = image(100_000);
    let (blob, bytes) = largest(&image);
    let scene = Scene::new({
        let image = image.clone();
        move |seen| match seen.target.strip_prefix("/site/v2/") {
            Some(path) => Reply::redirect(format!("/elsewhere/{path}")),
            None => {
                let mut moved = seen.clone();
                moved.target = seen.target.replace("/elsewhere/", "/site/v2/");
                sound(&image, &moved)
            }
        }
    });
    assert_eq!(scene.get("/v2/app/manifests/1").body, image.manifest.bytes()[..]);
    assert_eq!(scene.get(&format!("/v2/app/blobs/{blob}")).body, bytes);
}

#[test]
fn manifests_are_remembered_by_digest_and_within_bounds() {
    let image = image(100);
    let (digest, manifest) = (image.digest(), image.manifest.bytes().clone());
    let script = move |seen: &Seen| sound(&image, seen);
    let scene = Scene::new(script.clone());
    scene.get("/v2/app/manifests/1");
    let by_digest = format!("/v2/app/manifests/{digest}");
    for _ in 0..3 {
        assert_eq!(scene.get(&by_digest).body, manifest);
    }
    assert_eq!(scene.upstream.count(&format!("/site{by_digest}")), 0, "it came with the tag");
    // A tag may have moved, and another repository may not have it.
    scene.get("/v2/app/manifests/1");
    assert_eq!(scene.upstream.count("/site/v2/app/manifests/1"), 2);
    assert_eq!(scene.get(&format!("/v2/other/manifests/{digest}")).status, 404);
    // Where there is no room, nothing is remembered.
    let scene = Scene::with(Limits { memory: 0, ..Limits::default() }, script);
    for _ in 0..2 {
        assert_eq!(scene.get(&by_digest).body, manifest);
    }
    assert_eq!(scene.upstream.count(&format!("/site{by_digest}")), 2);
}

#[test]
fn lists_come_in_pages_though_the_upstream_has_none() {
    let scene = Scene::new(|seen| match seen.path() {
        "/site/v2/app/tags/list" => {
            Reply::ok("\n {\"name\":\"app\",\"tags\":[\"c\",\"a\",\"b\"]}").header("etag", "\"1\"")
        }
        "/site/v2/_catalog" => Reply::ok(r#"{"repositories":["app","z"]}"#),
        _ => Reply::status(404),
    });
    assert_eq!(scene.get("/v2/app/tags/list?n=2").text(), r#"{"name":"app","tags":["a","b"]}"#);
    let second = scene.get("/v2/app/tags/list?n=2&last=b");
    assert_eq!((second.text().as_str(), second.header("link")), (r#"{"name":"app","tags":["c"]}"#, None));
    assert_eq!(scene.get("/v2/_catalog?n=1").text(), r#"{"repositories":["app"]}"#);
    assert_eq!(scene.get("/v2/_catalog").text(), r#"{"repositories":["app","z"]}"#);
}

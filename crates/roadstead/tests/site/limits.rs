//! Clients that are slow, many, greedy, or up to something.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use roadstead::server::{Limits, MAX_HEAD, ServeOptions};

use crate::client::{Address, PATIENCE, exchange, get, read};
use crate::fixture::Fixture;

fn limited(limits: Limits) -> ServeOptions {
    ServeOptions { limits, ..ServeOptions::default() }
}

#[test]
fn what_is_not_http_is_answered_in_http() {
    let fixture = Fixture::new();
    let serving = fixture.serve(ServeOptions::default());
    // Docker 29 tries TLS first, and plain HTTP only if this is what it hears.
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\0\0\0\0\r\n\r\n", b"hello\r\n\r\n"] {
        let mut stream = serving.address.connect();
        stream.write_all(bytes).unwrap();
        let answer = read(&mut *stream, false).unwrap();
        assert_eq!(answer.status, 400, "{bytes:?}");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the connection stays open after {bytes:?}");
    }
}

#[test]
fn no_two_readings_of_one_request() {
    let fixture = Fixture::new();
    let serving = fixture.serve(ServeOptions::default());
    // Each hides a second request from one of two careless parsers. One answer comes, or two to two requests, but none
    // to the one that is hidden: it asks for a tag that is there, the others for what isn't.
    let hidden = "GET /v2/app/manifests/latest HTTP/1.1\r\nHost: a\r\n\r\n";
    for (lines, body) in [
        (format!("Content-Length: {}\r\n", hidden.len()), hidden.to_owned()),
        (format!("Content-Length: {0}\r\nContent-Length: {0}\r\n", hidden.len()), hidden.to_owned()),
        (format!("Content-Length: 0\r\nContent-Length: {}\r\n", hidden.len()), hidden.to_owned()),
        ("Transfer-Encoding: chunked\r\n".to_owned(), format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len())),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n".to_owned(), hidden.to_owned()),
        ("Transfer-Encoding: x\r\n".to_owned(), hidden.to_owned()),
        ("X: a\r\n Content-Length: 60\r\n".to_owned(), hidden.to_owned()),
        ("X : a\r\n".to_owned(), hidden.to_owned()),
        ("Host: b\r\n".to_owned(), hidden.to_owned()),
        ("Expect: 100-continue\r\nContent-Length: 60\r\n".to_owned(), hidden.to_owned()),
    ] {
        let mut stream = serving.address.connect();
        let request = format!("GET /v2/app/manifests/nope HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut statuses = Vec::new();
        // Asked to close behind it, so that there is an end to wait for.
        let _ = stream.write_all(b"GET /v2/app/manifests/none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        while let Ok(answer) = read(&mut *stream, false) {
            statuses.push(answer.status);
        }
        assert!(!statuses.is_empty() && !statuses.contains(&200), "{lines:?}: {statuses:?}");
    }
}

#[test]
fn requests_in_one_piece_and_in_many() {
    let fixture = Fixture::new();
    let serving = fixture.serve(ServeOptions::default());
    let (blob, bytes) = fixture.blob();
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let requests = [
        one("/v2/"),
        one("/v2/app/manifests/latest"),
        one(&format!("/v2/app/blobs/{blob}")),
        format!("HEAD /v2/app/blobs/{blob} HTTP/1.1\r\nHost: a\r\n\r\n"),
        one("/v2/nobody/tags/list"),
        // The last is for the other path, with everything before it answered.
        "GET /v2/app/manifests/latest HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
    ];
    for step in [1, 7, 100_000] {
        let mut stream = serving.address.connect();
        for piece in requests.concat().as_bytes().chunks(step) {
            stream.write_all(piece).unwrap();
        }
        for (index, status) in [200, 200, 200, 200, 404, 200].into_iter().enumerate() {
            let answer = read(&mut *stream, index == 3).unwrap();
            assert_eq!(answer.status, status, "request {index} in pieces of {step}");
            if index == 2 {
                assert_eq!(answer.body, bytes);
            }
        }
    }
}

#[test]
fn heads_have_a_limit() {
    let fixture = Fixture::new();
    let serving = fixture.serve(ServeOptions::default());
    let fits = format!("X: {}\r\n", "x".repeat(MAX_HEAD - 200));
    let large = format!("X: {}\r\n", "x".repeat(MAX_HEAD));
    let many = "X: y\r\n".repeat(200);
    for (lines, status) in [(fits, 200), (large, 431), (many, 431)] {
        let answer = exchange(&serving.address, &format!("GET /v2/ HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        assert_eq!(answer.status, status, "{} bytes of headers", lines.len());
        // By the other path, from the second request on.
        let two = "GET /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: a\r\n";
        let mut stream = serving.address.connect();
        stream.write_all(format!("{two}{lines}\r\n").as_bytes()).unwrap();
        for status in [200, status] {
            assert_eq!(read(&mut *stream, false).unwrap().status, status, "{} bytes of headers", lines.len());
        }
    }
}

/// Reads until the server ends the connection.
fn is_closed(address: &Address, begin: &[u8]) {
    let mut stream = address.connect();
    stream.write_all(begin).unwrap();
    let started = Instant::now();
    // An end, or a reset: either is one.
    let _ = stream.read_to_end(&mut Vec::new());
    assert!(started.elapsed() < PATIENCE, "{:?} is still waited for", String::from_utf8_lossy(begin));
}

#[test]
fn slow_clients_are_not_waited_for() {
    let fixture = Fixture::new();
    let short = Duration::from_millis(200);
    let serving =
        fixture.serve(limited(Limits { head_time: short, idle_time: short, stall_time: short, ..Limits::default() }));
    for begin in [
        &b""[..],
        b"GET /v2/ HTTP/1.1\r\nHo",
        b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HT",
        b"POST /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
    ] {
        is_closed(&serving.address, begin);
    }
}

#[test]
fn connections_have_a_limit_and_others_wait() {
    let fixture = Fixture::new();
    let serving = fixture.serve(limited(Limits { connections: 1, ..Limits::default() }));
    let mut first = serving.address.connect();
    first.write_all(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read(&mut *first, false).unwrap().status, 200);
    let mut second = serving.address.connect();
    second.write_all(b"GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    // The first is still served while the second waits for its place.
    first.write_all(b"GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(read(&mut *first, false).unwrap().status, 200);
    drop(first);
    assert_eq!(read(&mut *second, false).unwrap().status, 200);
}

#[test]
fn a_stop_closes_what_is_idle_and_finishes_what_runs() {
    let fixture = Fixture::new();
    let large = roadstead::testing::ImageBuilder::new().blob("application/octet-stream", vec![7; 32 << 20]).build();
    fixture.add("large", &["1"], &large);
    let serving = fixture.serve(ServeOptions::default());
    let blob = large.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let mut idle = serving.address.connect();
    idle.write_all(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read(&mut *idle, false).unwrap().status, 200);
    let mut running = serving.address.connect();
    running.write_all(format!("GET /v2/large/blobs/{} HTTP/1.1\r\nHost: a\r\n\r\n", blob.0).as_bytes()).unwrap();
    let mut first = [0; 15];
    running.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    serving.stop.send(()).unwrap();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "an idle connection stays open");
    let mut rest = Vec::new();
    running.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > blob.1.len(), "{} bytes of {}", rest.len(), blob.1.len());
    fixture.runtime.block_on(serving.running).unwrap();
    assert!(serving.address.try_connect().is_err(), "connections are still taken");
}

#[test]
fn a_stop_waits_only_so_long() {
    let fixture = Fixture::new();
    let large = roadstead::testing::ImageBuilder::new().blob("application/octet-stream", vec![7; 32 << 20]).build();
    fixture.add("large", &["1"], &large);
    let serving = fixture.serve(limited(Limits { stop_time: Duration::from_millis(100), ..Limits::default() }));
    let blob = large.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let mut stuck = serving.address.connect();
    stuck.write_all(format!("GET /v2/large/blobs/{} HTTP/1.1\r\nHost: a\r\n\r\n", blob.0).as_bytes()).unwrap();
    stuck.read_exact(&mut [0; 15]).unwrap();
    serving.stop.send(()).unwrap();
    fixture.runtime.block_on(serving.running).unwrap();
}

#[test]
fn a_damaged_tree_is_not_served() {
    let fixture = Fixture::new();
    let serving = fixture.serve(ServeOptions::default());
    let link = fixture.folder.path().join("v2/app/manifests/bad");
    std::os::unix::fs::symlink("../../../index.html", &link).unwrap();
    let answer = get(&serving.address, "/v2/app/manifests/bad");
    assert_eq!((answer.status, answer.text().contains("index.html")), (500, false));
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    assert_eq!(get(&serving.address, "/v2/app/manifests/bad").status, 500);
}

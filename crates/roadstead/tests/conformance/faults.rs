//! Bad input and clients that behave badly: bodies without end, slow bodies, cut connections, and paths that lead elsewhere.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use roadstead::oci::Algorithm;
use roadstead::server::PushOptions;
use roadstead::tree::PruneOptions;

use crate::support::{IMAGE, Registry};

const UPLOADS: &str = "/v2/app/blobs/uploads/";

/// Sends chunks until the server has had enough. Returns how many bytes it took, and what it said.
fn send_without_end(registry: &Registry, head: &str) -> (u64, String) {
    const PIECE: usize = 64 << 10;
    let mut stream = registry.connect();
    write!(stream, "{head}\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    let chunk = [format!("{PIECE:x}\r\n").as_bytes(), &[b' '; PIECE], b"\r\n"].concat();
    let mut sent = 0;
    // Whatever it takes without an end is far more than this.
    while sent < 256 << 20 && stream.write_all(&chunk).is_ok() {
        sent += PIECE as u64;
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    (sent, String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn a_body_without_end() {
    for registry in Registry::each() {
        for head in [
            "PUT /v2/app/manifests/1 HTTP/1.1\r\ncontent-type: application/json",
            "POST /v2/App/blobs/uploads/ HTTP/1.1",
            "PATCH /v2/app/blobs/uploads/00000000-0000-4000-8000-000000000000 HTTP/1.1",
            "PUT /v2/app/blobs/uploads/x HTTP/1.1",
            "GET /v2/app/tags/list HTTP/1.1",
            "DELETE /v2/app/manifests/1 HTTP/1.1",
        ] {
            let (sent, answer) = send_without_end(&registry, head);
            // A manifest, what is read so that the client sees the answer, and what the system holds on both sides.
            assert!(sent < 32 << 20, "{}: {head}: {sent} bytes were taken", registry.name);
            // A client that goes on sending may lose the answer with the connection.
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{}: {head}: {answer}", registry.name);
        }
        registry.get("/v2/", &[]).is(200);
    }
}

#[test]
fn headers_without_end() {
    for registry in Registry::each() {
        let many = "x: y\r\n".repeat(10_000);
        let long = format!("x: {}\r\n", "y".repeat(1 << 20));
        let name = format!("{}: y\r\n", "x".repeat(1 << 20));
        for (what, lines) in [("many", many), ("long", long), ("a long name", name)] {
            for first in ["GET /v2/", "POST /v2/app/blobs/uploads/", "PATCH /v2/app/blobs/uploads/x"] {
                let request = format!("{first} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n{lines}\r\n");
                let answer = registry.raw(request.as_bytes());
                let refused = ["HTTP/1.1 431", "HTTP/1.1 400"].iter().any(|status| answer.starts_with(status));
                assert!(refused || answer.is_empty(), "{}: {what}: {first}: {answer}", registry.name);
            }
        }
        let path = format!("/v2/{}/blobs/uploads/", "a/".repeat(1 << 20));
        let answer = registry.raw(format!("POST {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{}: {answer}", registry.name);
        registry.get("/v2/", &[]).is(200);
    }
}

/// Slow clients take the turns that there are and no more; whoever comes then is told when to come again, and pulls go on.
#[test]
fn slow_clients_take_their_turns_alone() {
    const TURNS: usize = 8;
    for registry in Registry::each_with(&PushOptions { max_running: TURNS, ..PushOptions::default() }) {
        let uploads: Vec<String> =
            (0..TURNS).map(|_| registry.ask("POST", UPLOADS, &[], b"").is(202).header("location").to_owned()).collect();
        let slow = |path: &String| {
            let mut stream = registry.connect();
            write!(
                stream,
                "PATCH {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\nexpect: 100-continue\r\n\r\n"
            )
            .unwrap();
            // It has its turn once it is told to go on, and then says nothing.
            let mut told = [0; 25];
            stream.read_exact(&mut told).unwrap();
            assert!(told.starts_with(b"HTTP/1.1 100 Continue"), "{}", String::from_utf8_lossy(&told));
            stream
        };
        let waiting: Vec<TcpStream> = uploads.iter().map(slow).collect();
        let busy = registry.ask("POST", UPLOADS, &[], b"").is(429);
        assert_eq!(busy.header("retry-after"), "1");
        busy.refused(429, "TOOMANYREQUESTS");
        registry.get("/v2/", &[]).is(200);
        drop(waiting);
        let freed = roadstead_parts::wait_until(Duration::from_secs(60), || {
            registry.ask("POST", UPLOADS, &[], b"").status == 202
        });
        assert!(freed, "{}: the turns of clients that are gone stay taken", registry.name);
        // None of the uploads is lost by that.
        for path in &uploads {
            registry.get(path, &[]).is(204);
        }
    }
}

/// Wherever a request is cut, nothing of it is there afterwards, and the same request does all of it.
#[test]
fn a_connection_that_is_cut() {
    for registry in Registry::each() {
        let manifest = registry.image("app", "");
        let digest = Algorithm::Sha256.digest(b"content");
        let (blob, tagged) = (format!("/v2/app/blobs/{digest}"), "/v2/app/manifests/1");
        let post = format!("POST {UPLOADS}?digest={digest} HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\ncontent");
        let put = format!(
            "PUT {tagged} HTTP/1.1\r\nhost: a\r\ncontent-type: {IMAGE}\r\ncontent-length: {}\r\n\r\n{manifest}",
            manifest.len()
        );
        let chunked = format!(
            "PUT {tagged} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{manifest}\r\n0\r\n\r\n",
            manifest.len()
        );
        for (request, path) in [(&post, &*blob), (&put, tagged), (&chunked, tagged)] {
            let head = request.find("\r\n\r\n").unwrap();
            let cuts = [1, 10, head, head + 2, head + 4, head + 5, request.len() - 2, request.len() - 1];
            for cut in cuts {
                // Half a close, after which an answer can still be read, and a whole one.
                for half in [true, false] {
                    let mut stream = registry.connect();
                    stream.write_all(&request.as_bytes()[..cut]).unwrap();
                    if half {
                        stream.shutdown(std::net::Shutdown::Write).unwrap();
                        let mut answer = String::new();
                        let _ = stream.read_to_string(&mut answer);
                        assert!(!answer.starts_with("HTTP/1.1 2"), "{}: {cut}: {answer}", registry.name);
                    }
                    drop(stream);
                    registry.get(path, &[]).is(404);
                }
            }
            let closing = request.replacen("host: a", "host: a\r\nconnection: close", 1);
            assert!(registry.raw(closing.as_bytes()).starts_with("HTTP/1.1 201"), "{}", registry.name);
            registry.get(path, &[]).is(200);
            registry.delete(path);
            // Half a close behind its last byte: it is done all the same.
            let mut stream = registry.connect();
            stream.write_all(request.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
            registry.comes(path);
            if path == tagged {
                registry.delete(path);
                registry.delete(&format!("/v2/app/manifests/{}", Algorithm::Sha256.digest(manifest.as_bytes())));
            }
        }
    }
}

/// Wherever the requests of an upload are cut, it goes on from what the server says that it has.
#[test]
fn an_upload_that_is_cut() {
    const CONTENT: &str = "content";
    const IN_CHUNKS: &str = "3\r\ncon\r\n4\r\ntent\r\n0\r\n\r\n";
    for registry in Registry::each() {
        let digest = Algorithm::Sha256.digest(CONTENT.as_bytes());
        let blob = format!("/v2/app/blobs/{digest}");
        let length = format!("content-length: {}", CONTENT.len());
        for (framing, body) in [(&*length, CONTENT), ("transfer-encoding: chunked", IN_CHUNKS)] {
            for (method, query) in [("PATCH", String::new()), ("PUT", format!("?digest={digest}"))] {
                for cut in 0..=body.len() {
                    // Half a close, after which the server is known to have seen the cut, and a whole one.
                    for half in [true, false] {
                        let whole = method == "PUT" && cut == body.len();
                        if whole && !half {
                            // Whoever leaves without waiting for the answer can't know whether it was finished.
                            continue;
                        }
                        let what = format!("{}: {method}, {framing}, {cut}, {half}", registry.name);
                        let at = registry.ask("POST", UPLOADS, &[], b"").is(202).header("location").to_owned();
                        let mut stream = registry.connect();
                        // One that is taken up late is then refused, rather than taken for more.
                        let range = format!("content-range: 0-{}", CONTENT.len() - 1);
                        let head = format!("{method} {at}{query} HTTP/1.1\r\nhost: a\r\n{range}\r\n{framing}\r\n\r\n");
                        stream.write_all(head.as_bytes()).unwrap();
                        stream.write_all(&body.as_bytes()[..cut]).unwrap();
                        if half {
                            stream.shutdown(std::net::Shutdown::Write).unwrap();
                            let _ = stream.read_to_end(&mut Vec::new());
                        }
                        drop(stream);
                        if whole {
                            registry.comes(&blob);
                            registry.get(&at, &[]).is(404);
                        } else {
                            go_on(&registry, &at, CONTENT, &what);
                            registry.get(&blob, &[]).is(404);
                            registry.ask("PUT", &format!("{at}?digest={digest}"), &[], b"").is(201);
                        }
                        assert_eq!(registry.get(&blob, &[]).is(200).body, CONTENT, "{what}");
                        registry.delete(&blob);
                    }
                }
            }
        }
    }
}

/// Sends the rest of an upload, as clients do: from where the server says that it is, also if it says so by a refusal.
fn go_on(registry: &Registry, at: &str, content: &str, what: &str) {
    let mut range = registry.get(at, &[]).is(204).header("range").to_owned();
    // What was on its way when the connection was cut may still arrive.
    for _ in 0..100 {
        // Of one byte and of none the specification says the same.
        let offset = match range.as_str() {
            "0-0" => 0,
            range => range.strip_prefix("0-").and_then(|last| last.parse::<usize>().ok()).unwrap() + 1,
        };
        if offset == content.len() {
            return;
        }
        assert!(offset < content.len(), "{what}: {range}");
        for offset in [offset, 1] {
            let chunk = format!("{offset}-{}", content.len() - 1);
            let headers = [("content-range", &*chunk)];
            let sent = registry.ask("PATCH", at, &headers, &content.as_bytes()[offset..]);
            match sent.status {
                202 => return,
                416 => range = sent.header("range").to_owned(),
                _ => panic!("{what}: {chunk}: {}", sent.status),
            }
        }
    }
    panic!("{what}: {range} again and again");
}

#[test]
fn paths_that_lead_elsewhere() {
    const NAMES: [&str; 22] = [
        "..",
        "../..",
        "a/../../b",
        "%2e%2e",
        "a/%2e%2e/%2e%2e/b",
        "%2E%2e%2f%2e%2E",
        "%252e%252e",
        "a%2f..%2f..",
        "a%00b",
        "a%00",
        "%c0%ae%c0%ae",
        "%c0%ae%c0%ae%c0%af",
        "%e0%80%ae",
        "%ff",
        "a\\..\\b",
        "a%5c..%5cb",
        "a//b",
        "/a",
        ".roadstead",
        "a/.roadstead/tmp",
        "%zz",
        "%",
    ];
    for registry in Registry::each() {
        let manifest = registry.image("app", "");
        let (digest, content) = (Algorithm::Sha256.digest(b"x"), Algorithm::Sha256.digest(b"layer"));
        let before = registry.files();
        for name in NAMES {
            for (method, path, body) in [
                ("POST", format!("/v2/{name}/blobs/uploads/?digest={digest}"), &b"x"[..]),
                ("POST", format!("/v2/app/blobs/uploads/?digest={name}"), b"x"),
                ("POST", format!("/v2/app/blobs/uploads/?digest=sha256:{name}"), b"x"),
                ("PATCH", format!("/v2/app/blobs/uploads/{name}"), b"x"),
                ("PUT", format!("/v2/app/blobs/uploads/{name}?digest={digest}"), b"x"),
                ("DELETE", format!("/v2/app/blobs/uploads/{name}"), b""),
                ("GET", format!("/v2/app/blobs/uploads/{name}"), b""),
                ("PUT", format!("/v2/app/manifests/{name}"), manifest.as_bytes()),
                ("PUT", format!("/v2/{name}/manifests/1"), manifest.as_bytes()),
                ("DELETE", format!("/v2/app/manifests/{name}"), b""),
                ("DELETE", format!("/v2/{name}/blobs/{content}"), b""),
            ] {
                let answer = registry.ask(method, &path, &[("content-type", IMAGE)], body);
                assert!((400..500).contains(&answer.status), "{}: {method} {path}: {}", registry.name, answer.status);
            }
            let by_tags = format!("/v2/app/manifests/{}?tag={name}", Algorithm::Sha256.digest(manifest.as_bytes()));
            let tagged = registry.ask("PUT", &by_tags, &[("content-type", IMAGE)], manifest.as_bytes());
            assert!((400..500).contains(&tagged.status), "{}: {by_tags}: {}", registry.name, tagged.status);
            // A name that can't be is as good as one that has nothing.
            let mount = format!("/v2/other/blobs/uploads/?mount={content}&from={name}");
            let mounted = registry.ask("POST", &mount, &[], b"").is(202);
            let location = mounted.header("location").to_owned();
            registry.ask("DELETE", &location, &[], b"").is(204);
        }
        assert_eq!(registry.files(), before, "{}", registry.name);
    }
}

/// Several who push different manifests under one tag all succeed; one of them is what it names, and all are there.
#[test]
fn writers_of_one_tag() {
    for registry in Registry::each() {
        let manifests: Vec<String> =
            (0..4).map(|number| registry.image("app", &format!(r#","annotations":{{"n":"{number}"}}"#))).collect();
        std::thread::scope(|scope| {
            for manifest in &manifests {
                let registry = &registry;
                scope.spawn(move || {
                    for _ in 0..10 {
                        registry.put("app", "contended", IMAGE, manifest).is(201);
                        let seen = registry.get("/v2/app/manifests/contended", &[]).is(200);
                        let digest = Algorithm::Sha256.digest(seen.body.as_bytes()).to_string();
                        assert_eq!(seen.header("docker-content-digest"), digest, "{}", registry.name);
                    }
                });
            }
        });
        let last = registry.get("/v2/app/manifests/contended", &[]).is(200);
        assert!(manifests.contains(&last.body), "{}: {}", registry.name, last.body);
        for manifest in &manifests {
            let digest = Algorithm::Sha256.digest(manifest.as_bytes());
            registry.get(&format!("/v2/app/manifests/{digest}"), &[]).is(200);
        }
        let list = registry.get("/v2/app/tags/list", &[]).is(200);
        assert_eq!(list.body, r#"{"name":"app","tags":["contended"]}"#, "{}", registry.name);
    }
}

/// A sweep that never pauses takes nothing from pushes that run beside it, and does take what was given up before.
#[test]
fn a_sweep_beside_pushes() {
    for registry in Registry::each() {
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sweeping = scope.spawn(|| {
                let mut sweeps = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) || sweeps == 0 {
                    let options = PruneOptions::new(SystemTime::now());
                    registry.runtime.block_on(registry.tree.prune(&options, &|_| {})).unwrap();
                    sweeps += 1;
                }
            });
            for number in 0..20 {
                let repository = format!("app/{}", number % 3);
                let manifest = registry.image(&repository, &format!(r#","annotations":{{"n":"{number}"}}"#));
                registry.put(&repository, &number.to_string(), IMAGE, &manifest).is(201);
                registry.get(&format!("/v2/{repository}/manifests/{number}"), &[]).is(200);
                for content in [&b"{}"[..], b"layer"] {
                    let blob = Algorithm::Sha256.digest(content);
                    registry.get(&format!("/v2/{repository}/blobs/{blob}"), &[]).is(200);
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            sweeping.join().unwrap();
        });
    }
}

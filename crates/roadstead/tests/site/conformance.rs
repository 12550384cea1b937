//! The table over every server.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use roadstead::server::{Sendfile, ServeOptions};
use roadstead::site::Form;

use crate::cases::{Case, cases};
use crate::client::{Address, Answer, exchange};
use crate::fixture::Fixture;
use crate::nginx::Nginx;

/// Everything that is wrong, so that one failure doesn't hide the others.
fn judge(server: &str, case: &Case, answer: &Answer, problems: &mut Vec<String>) {
    let mut wrong = |what: String| {
        let Case { method, path, send, .. } = case;
        problems.push(format!("{server}: {method} {path} {send:?}: {what}"));
    };
    if answer.status != case.status {
        wrong(format!("status {} instead of {}: {}", answer.status, case.status, answer.text()));
        return;
    }
    for (name, expected) in &case.headers {
        let came = answer.header(name);
        if came != *expected {
            wrong(format!("{name} is {came:?} instead of {expected:?}"));
        }
    }
    let Some(expected) = &case.body else { return };
    if case.method == "HEAD" {
        let length = answer.header("content-length");
        if length != Some(expected.len().to_string()) {
            wrong(format!("the length is {length:?} instead of {}", expected.len()));
        }
    } else if answer.body != *expected {
        let came = answer.text();
        wrong(format!("the body is {came:.200?} instead of {:.200?}", String::from_utf8_lossy(expected)));
    }
}

pub(crate) fn run(server: &str, cases: &[Case], ask: impl Fn(&Case) -> Answer) {
    let mut problems = Vec::new();
    for case in cases {
        judge(server, case, &ask(case), &mut problems);
    }
    assert!(problems.is_empty(), "{} of {} cases:\n{}", problems.len(), cases.len(), problems.join("\n"));
}

/// Asks in HTTP/1.1, with more headers if wanted.
pub(crate) fn ask(address: &Address, case: &Case, more: &str) -> Answer {
    let lines: String = case.send.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let Case { method, path, .. } = case;
    exchange(address, &format!("{method} {path} HTTP/1.1\r\nHost: registry\r\n{lines}{more}\r\n"))
}

fn nginx(form: Form) {
    let fixture = Fixture::new();
    let nginx = Nginx::start(fixture.folder.path(), form, None);
    let cases: Vec<_> = cases(&fixture).into_iter().filter(|case| case.everywhere || form != Form::Snippet).collect();
    run(&format!("nginx, {form:?}"), &cases, |case| {
        let answer = ask(&nginx.address, case, "Accept-Encoding: gzip\r\nConnection: close\r\n");
        let said = answer.header("server").unwrap_or_default();
        assert!(form == Form::Snippet || said == "nginx", "nginx says that it is {said}");
        answer
    });
    assert_eq!(nginx.log(), "", "nginx complained");
}

#[test]
fn nginx_as_a_site() {
    nginx(Form::Site);
}

#[test]
fn nginx_as_a_part_of_a_server() {
    nginx(Form::Snippet);
}

#[test]
fn nginx_alone() {
    nginx(Form::Standalone);
}

#[test]
fn the_path_that_pulls_take() {
    let fixture = Fixture::new();
    for sendfile in [Sendfile::Elsewhere, Sendfile::Everywhere] {
        let serving = fixture.serve(ServeOptions { sendfile, ..ServeOptions::default() });
        run(&format!("serve, sendfile {sendfile:?}"), &cases(&fixture), |case| ask(&serving.address, case, ""));
    }
}

#[test]
fn the_other_path_in_version_1() {
    let fixture = Fixture::new();
    let serving = fixture.serve(ServeOptions::default());
    run("serve, handed over", &cases(&fixture), |case| ask(&serving.address, case, "Content-Length: 0\r\n"));
}

#[test]
fn the_other_path_in_version_2() {
    let fixture = Fixture::new();
    let serving = fixture.serve(ServeOptions::default());
    let Address::Tcp(address) = serving.address else { unreachable!("it listens on a port") };
    let sender = fixture.runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    });
    let cases = cases(&fixture);
    run("serve, version 2", &cases, |case| {
        let mut request = http::Request::builder().method(case.method).uri(format!("http://registry{}", case.path));
        for (name, value) in &case.send {
            request = request.header(*name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        fixture.runtime.block_on(async {
            let response = sender.clone().send_request(request).await.unwrap();
            let (head, body) = response.into_parts();
            let headers = head.headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
            let body = body.collect().await.unwrap().to_bytes().to_vec();
            Answer { status: head.status.as_u16(), headers, body }
        })
    });
}

/// Under a prefix, lists say the names that clients use, and what lacks the prefix isn't there.
#[test]
fn a_prefix_in_front_of_every_name() {
    let fixture = Fixture::new();
    let prefix = Some("mirror.x/hub".parse().unwrap());
    let nginx = Nginx::start(fixture.folder.path(), Form::Site, prefix.clone());
    let serving = fixture.serve(ServeOptions { name_prefix: prefix, ..ServeOptions::default() });
    let (blob, bytes) = fixture.blob();
    let digest = fixture.image.digest().to_string();
    for (server, address) in [("nginx", &nginx.address), ("serve", &serving.address)] {
        let get = |path: String| crate::client::get(address, &path);
        for name in crate::fixture::REPOSITORIES {
            let manifest = get(format!("/v2/mirror.x/hub/{name}/manifests/latest"));
            assert_eq!(manifest.header("docker-content-digest"), Some(digest.clone()), "{server}: {name}");
            assert_eq!(get(format!("/v2/mirror.x/hub/{name}/blobs/{blob}")).body, bytes, "{server}: {name}");
            for (path, status, text) in [
                (format!("/v2/{name}/manifests/latest"), 404, "MANIFEST_UNKNOWN"),
                (format!("/v2/{name}/manifests/{digest}"), 404, "MANIFEST_UNKNOWN"),
                (format!("/v2/mirrorxx/hub/{name}/manifests/latest"), 404, "MANIFEST_UNKNOWN"),
                (format!("/v2/{name}/blobs/{blob}"), 404, "BLOB_UNKNOWN"),
                (format!("/v2/{name}/tags/list"), 404, "NAME_UNKNOWN"),
                (format!("/v2/{name}/referrers/{digest}"), 200, "\"manifests\":[]"),
            ] {
                let answer = get(path.clone());
                assert_eq!(answer.status, status, "{server}: {path}");
                assert!(answer.text().contains(text), "{server}: {path}: {}", answer.text());
            }
        }
        let tags = get("/v2/mirror.x/hub/blobs/tags/list".to_owned()).text();
        assert_eq!(tags, r#"{"name":"mirror.x/hub/blobs","tags":["1.0.html","latest"]}"#, "{server}");
        let catalog: serde_json::Value = serde_json::from_slice(&get("/v2/_catalog".to_owned()).body).unwrap();
        let mut names = crate::fixture::REPOSITORIES.map(|name| format!("mirror.x/hub/{name}"));
        names.sort_unstable();
        assert_eq!(catalog["repositories"], serde_json::json!(names), "{server}");
    }
    assert_eq!(nginx.log(), "", "nginx complained");
}

/// A tag that moves while it is asked for: body, type and digest always belong together.
#[test]
fn a_moving_tag_is_never_seen_halfway() {
    let fixture = Fixture::new();
    let nginx = Nginx::start(fixture.folder.path(), Form::Site, None);
    let serving = fixture.serve(ServeOptions::default());
    let images = [&fixture.image, &fixture.index];
    fixture.add("app", &["moving"], images[0]);
    std::thread::scope(|scope| {
        let watch = |address: &Address| {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..2000 {
                let answer = crate::client::get(address, "/v2/app/manifests/moving");
                let digest = answer.header("docker-content-digest").unwrap_or_else(|| panic!("{answer:?}"));
                let image = images.iter().find(|image| image.digest().to_string() == digest).expect("one of the two");
                assert_eq!(answer.body, image.manifest.bytes()[..], "{digest}");
                assert_eq!(answer.header("content-type").as_deref(), Some(image.manifest.media_type().as_str()));
                seen.insert(digest);
            }
            seen.len()
        };
        let watchers = [&nginx.address, &serving.address].map(|address| scope.spawn(move || watch(address)));
        let mut turn = 0;
        while !watchers.iter().all(|watcher| watcher.is_finished()) {
            turn += 1;
            fixture.add("app", &["moving"], images[turn % 2]);
        }
        for watcher in watchers {
            assert_eq!(watcher.join().unwrap(), 2, "the tag did not move");
        }
    });
}

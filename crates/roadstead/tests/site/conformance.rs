//! The table over every server.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use roadstead::server::{Sendfile, ServeOptions};
use roadstead::site::Form;
use roadstead_parts::{Extent, Kubo, PlainServer, Port, WebServer};

use crate::cases::{Case, cases};
use crate::client::{Address, Answer, exchange};
use crate::deviations;
use crate::fixture::Fixture;
use crate::servers::{Host, names};

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

fn host(name: &str, form: Form) {
    let fixture = Fixture::new();
    let host = Host::start(name, fixture.folder.path(), form, None, false).unwrap();
    judge_all(name, form, &fixture, &host);
}

fn judge_all(name: &str, form: Form, fixture: &Fixture, host: &Host) {
    let mut cases = cases(fixture);
    cases.retain(|case| case.everywhere || form != Form::Snippet);
    deviations::of(name, &mut cases);
    run(&format!("{name}, {form:?}"), &cases, |case| {
        let answer = ask(&host.address, case, "Accept-Encoding: gzip\r\nConnection: close\r\n");
        let said = answer.header("server").unwrap_or_default();
        assert!(form == Form::Snippet || name != "nginx" || said == "nginx", "nginx says that it is {said}");
        answer
    });
    assert_eq!(host.log(), "", "{name} complained");
}

#[test]
fn nginx_as_a_site() {
    host("nginx", Form::Site);
}

#[test]
fn nginx_as_a_part_of_a_server() {
    host("nginx", Form::Snippet);
}

#[test]
fn nginx_alone() {
    host("nginx", Form::Standalone);
}

#[test]
fn caddy_as_a_site() {
    host("caddy", Form::Site);
}

#[test]
fn caddy_as_a_part_of_a_server() {
    host("caddy", Form::Snippet);
}

#[test]
fn caddy_alone() {
    host("caddy", Form::Standalone);
}

#[test]
fn caddy_that_names_what_the_tree_holds() {
    for form in [Form::Site, Form::Snippet, Form::Standalone] {
        let fixture = Fixture::new();
        let host = Host::caddy("caddy", &fixture, form, None, true);
        judge_all(&format!("caddy{}", deviations::PINNED), form, &fixture, &host);
    }
}

/// What machines have that aren't Debian's.
#[test]
#[ignore = "needs a newer Caddy, which takes long to build"]
fn a_newer_caddy_in_every_form() {
    for form in [Form::Site, Form::Snippet, Form::Standalone] {
        for pinned in [false, true] {
            let fixture = Fixture::new();
            let host = Host::caddy(deviations::NEWER_CADDY, &fixture, form, None, pinned);
            let pinned = if pinned { deviations::PINNED } else { "" };
            judge_all(&format!("{}{pinned}", deviations::NEWER_CADDY), form, &fixture, &host);
        }
    }
}

#[test]
fn apache_as_a_site() {
    host("apache", Form::Site);
}

#[test]
fn apache_as_a_part_of_a_server() {
    host("apache", Form::Snippet);
}

#[test]
fn lighttpd_as_a_site() {
    host("lighttpd", Form::Site);
}

#[test]
fn lighttpd_as_a_part_of_a_server() {
    host("lighttpd", Form::Snippet);
}

#[test]
fn lighttpd_alone() {
    host("lighttpd", Form::Standalone);
}

/// A proxy in front, with what the page prints.
fn behind(proxy: &str) {
    let fixture = Fixture::new();
    let nginx = Host::start("nginx", fixture.folder.path(), Form::Site, None, false).unwrap();
    let Address::Unix(socket) = &nginx.address else { unreachable!("it listens on a socket") };
    let page = include_str!("../../../../docs/hosts/README.md");
    let printed = page.split(&format!("```{proxy}\n")).nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let port = Port::free();
    let listen = port.address();
    let text =
        printed.replace("127.0.0.1:8080", &listen.to_string()).replace("/run/registry.sock", socket.to_str().unwrap());
    let name = if proxy == "vcl" { "varnish" } else { "haproxy" };
    let _running = WebServer::start(name, &[("proxy.conf".to_owned(), text)], Extent::Standalone, port);
    let address = Address::Tcp(listen);
    let mut cases = cases(&fixture);
    deviations::of(name, &mut cases);
    run(name, &cases, |case| ask(&address, case, "Connection: close\r\n"));
    assert_eq!(nginx.log(), "", "nginx complained");
}

#[test]
fn behind_haproxy() {
    behind("haproxy");
}

#[test]
fn behind_varnish() {
    behind("vcl");
}

#[test]
fn the_path_that_pulls_take() {
    let fixture = Fixture::new();
    for sendfile in [Sendfile::Elsewhere, Sendfile::Everywhere] {
        let serving = fixture.serve(ServeOptions { sendfile, ..ServeOptions::default() });
        run(&format!("serve, sendfile {sendfile:?}"), &cases(&fixture), |case| ask(&serving.address, case, ""));
    }
}

/// In front of hosts that send no header that is true: they serve the same files, and we say what the rules say.
fn upstream(name: &str, fixture: &Fixture, url: &str) {
    let serving = crate::fixture::serve(&fixture.runtime, crate::upstream::at(url), ServeOptions::default());
    // Where no header says so, nobody knows that a tag stands for another digest than SHA-256's.
    let cases: Vec<_> = cases(fixture).into_iter().filter(|case| case.path != "/v2/app/manifests/long").collect();
    run(&format!("serve --upstream, {name}"), &cases, |case| ask(&serving.address, case, ""));
    run(&format!("serve --upstream, {name}, handed over"), &cases, |case| {
        ask(&serving.address, case, "Content-Length: 0\r\n")
    });
}

#[test]
fn before_a_plain_web_server() {
    let fixture = Fixture::new();
    let server = PlainServer::start(fixture.folder.path());
    upstream("python3 -m http.server", &fixture, &server.url());
}

#[test]
fn before_a_web_server_with_ranges() {
    let fixture = Fixture::new();
    let port = Port::free();
    let parent = fixture.folder.path().parent().unwrap().display();
    let nginx =
        roadstead_parts::Nginx::start_http(&format!("server {{ listen {}; root {parent}; }}", port.address()), port);
    let path = fixture.folder.path().file_name().unwrap().to_str().unwrap();
    upstream("nginx, below a path", &fixture, &format!("{}/{path}/", nginx.url()));
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn before_a_gateway_of_ipfs() {
    let fixture = Fixture::new();
    let site = fixture.plain_files();
    let kubo = Kubo::start();
    let cid = kubo.add(site.path());
    upstream("Kubo's gateway", &fixture, &kubo.url(&cid));
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
    let hosts: Vec<_> = names()
        .map(|name| Host::start(name, fixture.folder.path(), Form::Site, prefix.clone(), false).unwrap())
        .collect();
    let serving = fixture.serve(ServeOptions { name_prefix: prefix, ..ServeOptions::default() });
    let (blob, bytes) = fixture.blob();
    let digest = fixture.image.digest().to_string();
    let all = hosts.iter().map(|host| (host.name, &host.address)).chain([("serve", &serving.address)]);
    for (server, address) in all {
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
    for host in &hosts {
        assert_eq!(host.log(), "", "{} complained", host.name);
    }
}

/// A tag that moves while it is asked for: body, type and digest always belong together.
#[test]
fn a_moving_tag_is_never_seen_halfway() {
    let fixture = Fixture::new();
    let hosts: Vec<_> =
        names().map(|name| Host::start(name, fixture.folder.path(), Form::Site, None, false).unwrap()).collect();
    let serving = fixture.serve(ServeOptions::default());
    let images = [&fixture.image, &fixture.index];
    fixture.add("app", &["moving"], images[0]);
    std::thread::scope(|scope| {
        let watch = |address: &Address| {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..1000 {
                let answer = crate::client::get(address, "/v2/app/manifests/moving");
                let digest = answer.header("docker-content-digest").unwrap_or_else(|| panic!("{answer:?}"));
                let image = images.iter().find(|image| image.digest().to_string() == digest).expect("one of the two");
                assert_eq!(answer.body, image.manifest.bytes()[..], "{digest}");
                assert_eq!(answer.header("content-type").as_deref(), Some(image.manifest.media_type().as_str()));
                seen.insert(digest);
            }
            seen.len()
        };
        let addresses = hosts.iter().map(|host| &host.address).chain([&serving.address]);
        let watchers: Vec<_> = addresses.map(|address| scope.spawn(move || watch(address))).collect();
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

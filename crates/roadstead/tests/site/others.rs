//! What pages of other origins may read, and what nobody may.

use roadstead::server::ServeOptions;
use roadstead::site::Form;
use roadstead::testing::Image;
use roadstead_parts::wait_until;

use crate::client::{Address, PATIENCE, exchange, get};
use crate::fixture::Fixture;
use crate::servers::{Host, names};

/// Every server that is a host, and our own.
fn on_every_server(cors: bool, check: impl Fn(&str, &Address, &Fixture)) {
    let fixture = Fixture::new();
    for name in names() {
        let host = Host::start(name, fixture.folder.path(), Form::Site, None, cors).unwrap();
        check(name, &host.address, &fixture);
    }
    let serving = fixture.serve(ServeOptions { cors, ..ServeOptions::default() });
    check("serve", &serving.address, &fixture);
}

#[test]
fn pages_of_other_origins_may_read_what_the_site_lets_them() {
    on_every_server(true, |server, address, fixture| {
        let (blob, _) = fixture.blob();
        let digest = fixture.image.digest();
        for (path, status) in [
            ("/v2/".to_owned(), 200),
            ("/v2/_catalog".to_owned(), 200),
            ("/v2/app/tags/list".to_owned(), 200),
            ("/v2/app/manifests/latest".to_owned(), 200),
            (format!("/v2/app/manifests/{digest}"), 200),
            (format!("/v2/app/blobs/{blob}"), 200),
            (format!("/v2/app/referrers/{digest}"), 200),
            ("/v2/app/manifests/nope".to_owned(), 404),
            ("/v2/nobody/tags/list".to_owned(), 404),
        ] {
            let answer = get(address, &path);
            assert_eq!(answer.status, status, "{server}: {path}");
            assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some("*"), "{server}: {path}");
            let exposed = answer.header("access-control-expose-headers").unwrap_or_default();
            assert!(exposed.contains("Docker-Content-Digest"), "{server}: {path}: {exposed:?}");
        }
        let ask = |path: &str| {
            let preflight = "Origin: https://ui.example\r\nAccess-Control-Request-Method: GET\r\n\
                             Access-Control-Request-Headers: accept\r\nConnection: close\r\n";
            exchange(address, &format!("OPTIONS {path} HTTP/1.1\r\nHost: registry\r\n{preflight}\r\n"))
        };
        for path in ["/v2/", "/v2/app/manifests/latest", "/v2/nobody/manifests/1"] {
            let answer = ask(path);
            assert_eq!(answer.status, 204, "{server}: {path}: {answer:?}");
            assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some("*"), "{server}: {path}");
            assert_eq!(answer.header("access-control-allow-methods").as_deref(), Some("GET, HEAD"), "{server}: {path}");
            let allowed = answer.header("access-control-allow-headers").unwrap_or_default();
            assert!(allowed.contains("Accept") && allowed.contains("Range"), "{server}: {path}: {allowed:?}");
            assert_eq!(answer.text(), "", "{server}: {path}");
        }
    });
}

/// No server is told that images come and go.
#[test]
fn what_comes_shows_at_once_and_what_goes_is_gone() {
    on_every_server(false, |server, address, fixture| {
        let (digest, path) = (fixture.odd.digest(), |reference: &str| format!("/v2/coming/manifests/{reference}"));
        let status = |reference: &str| get(address, &path(reference)).status;
        let digest = digest.to_string();
        assert_eq!((status("new"), status(&digest)), (404, 404), "{server}");
        fixture.add("coming", &["new"], &fixture.odd);
        assert_eq!((status("new"), status(&digest)), (200, 200), "{server}");
        let (name, tag) = ("coming".parse().unwrap(), "new".parse().unwrap());
        fixture.runtime.block_on(fixture.tree.remove(&name, Some(&tag))).unwrap();
        assert_eq!(status("new"), 404, "{server}");
        // Servers may remember for a moment what a digest names.
        assert!(wait_until(PATIENCE, || status(&digest) == 404), "{server}");
    });
}

#[test]
fn what_is_not_for_everyone_is_got_by_no_spelling() {
    on_every_server(false, |server, address, fixture| {
        let (blob, bytes) = fixture.blob();
        let format = std::fs::read(fixture.folder.path().join(".roadstead/format")).unwrap();
        for path in [
            "/.roadstead",
            "/.roadstead/",
            "/.roadstead/format",
            "/%2eroadstead/format",
            "/%2Eroadstead%2Fformat",
            "//.roadstead/format",
            "/./.roadstead/format",
            "/v2/../.roadstead/format",
            "/v2/%2e%2e/.roadstead/format",
            "/v2/..%2f.roadstead/format",
            "/v2/app/manifests/..%2f..%2f..%2f..%2f.roadstead%2fformat",
            "/v2/app/blobs/../../../.roadstead/format",
            "/v2/app/tags/../../../.roadstead/format",
            "/index.html/../.roadstead/format",
            "/secret.key",
            "/secret.key/",
            "/secret%2ekey",
            "/secret.key%00.html",
            "/secret.key?.html",
            "/v2/../secret.key",
            "/v2/app/manifests/..%2f..%2f..%2f..%2fsecret.key",
            "/v2/app/manifests/../../../../secret.key",
            "/content",
            "/content/",
            "/content/blobs/",
            "/content/manifests/application/",
            &format!("/content/blobs/{blob}"),
            &format!("/content/blobs/{}", blob.replace(':', "%3a")),
            &format!("/%63ontent/blobs/{blob}"),
            &format!("//content/blobs/{blob}"),
            &format!("/./content/blobs/{blob}"),
            &format!("/v2/../content/blobs/{blob}"),
            &format!("/v2/%2e%2e/content/blobs/{blob}"),
            &format!("/v2/..%2fcontent/blobs/{blob}"),
            &format!("/v2/app/blobs/..%2f..%2f..%2f..%2fcontent%2fblobs%2f{blob}"),
            "/v2/app",
            "/v2/app/",
            "/v2/app/blobs/",
            "/v2/app/manifests/",
            "/v2/app/tags/",
            "/v2/index.html",
            "/empty",
            "/empty/",
            "/roadstead.lua",
        ] {
            let answer = get(address, path);
            assert!((400..=405).contains(&answer.status), "{server}: {path} is {}: {}", answer.status, answer.text());
            let has = |secret: &[u8]| answer.body.windows(secret.len()).any(|part| part == secret);
            for secret in [&b"secret"[..], bytes, &format] {
                assert!(secret.len() < 6 || !has(secret), "{server}: {path} tells");
            }
        }
    });
}

/// A configuration that names what a tree holds goes on as it was made: whole, if old, and right about what it doesn't name.
#[test]
fn what_is_pinned_stays_until_it_is_named_anew() {
    let fixture = Fixture::new();
    let host = Host::caddy("caddy", &fixture, Form::Site, None, true);
    fixture.add("app", &["latest", "later"], &fixture.index);
    fixture.add("new", &["latest"], &fixture.index);
    let is = |path: &str, image: &Image| {
        let answer = get(&host.address, path);
        assert_eq!(answer.header("docker-content-digest"), Some(image.digest().to_string()), "{path}: {answer:?}");
        assert_eq!(answer.header("content-type").as_deref(), Some(image.manifest.media_type().as_str()), "{path}");
        assert_eq!(answer.body, image.manifest.bytes()[..], "{path}");
    };
    is("/v2/app/manifests/latest", &fixture.image);
    is("/v2/app/manifests/later", &fixture.index);
    is("/v2/new/manifests/latest", &fixture.index);
    is(&format!("/v2/new/manifests/{}", fixture.index.digest()), &fixture.index);
    // What it names can go: then the tree has the word.
    let (media_type, digest) = (fixture.image.manifest.media_type(), fixture.image.digest());
    std::fs::remove_file(fixture.folder.path().join(format!("content/manifests/{media_type}/{digest}"))).unwrap();
    let answer = get(&host.address, "/v2/app/manifests/latest");
    assert_eq!(answer.body, fixture.index.manifest.bytes()[..], "{answer:?}");
    assert_eq!(answer.header("docker-content-digest"), None, "it would be that of the old one");
    assert_eq!(answer.header("etag"), None, "it would be that of the old one");
    assert_eq!(get(&host.address, &format!("/v2/app/manifests/{digest}")).status, 404);
    assert_eq!(host.log(), "", "it complained");
}

/// More names than one map has: each leads where it should, and none is looked up in the tree.
#[test]
fn a_thousand_tags_and_more_are_pinned() {
    let fixture = Fixture::new();
    let names: Vec<String> = (0..1100).map(|n| format!("v{n}")).collect();
    let mut tags: Vec<&str> = names.iter().map(String::as_str).collect();
    tags.extend(["V1", "V10.html", "_", "v1.", "v1-0"]);
    fixture.add("app", &tags, &fixture.index);
    let prefix = Some("mirror.x/hub".parse().unwrap());
    let host = Host::caddy("caddy", &fixture, Form::Site, prefix, true);
    for tag in ["v0", "v1", "v10", "v1099", "V1", "V10.html", "_", "v1.", "v1-0", "latest", "long"] {
        let answer = get(&host.address, &format!("/v2/mirror.x/hub/app/manifests/{tag}"));
        let image = match tag {
            "latest" => &fixture.image,
            "long" => &fixture.sha512,
            _ => &fixture.index,
        };
        assert_eq!(answer.header("docker-content-digest"), Some(image.digest().to_string()), "{tag}: {answer:?}");
        assert_eq!(answer.body, image.manifest.bytes()[..], "{tag}");
        // A template's answer has no ranges.
        assert!(answer.header("accept-ranges").is_some(), "{tag}: {answer:?}");
    }
    for missing in ["app/manifests/v1", "mirror.x/hub/app/manifests/v1100", "mirror.x/hub/app/manifests/v"] {
        assert_eq!(get(&host.address, &format!("/v2/{missing}")).status, 404, "{missing}");
    }
}

//! *Pull*: manifests, blobs, ranges, and whether something is there.

use roadstead::oci::Algorithm;

use crate::support::{IMAGE, INDEX, Registry};

/// What a registry that has seen a push holds: the manifest and its reference by digest.
fn pushed(registry: &Registry, algorithm: Algorithm) -> (String, String) {
    let manifest = registry.image("app", "");
    let digest = algorithm.digest(manifest.as_bytes()).to_string();
    registry.put("app", &digest, IMAGE, &manifest).is(201);
    (manifest, digest)
}

/// *Pulling manifests*: 200, the bytes, their type without parameters and their digest; by tag and by digest.
#[test]
fn pulling_manifests() {
    for registry in Registry::each() {
        for algorithm in Algorithm::ALL {
            let (manifest, digest) = pushed(&registry, algorithm);
            registry.put("app", "1", IMAGE, &manifest).is(201);
            let by_tag = Algorithm::Sha256.digest(manifest.as_bytes()).to_string();
            for (reference, expected) in [(&*digest, &digest), ("1", &by_tag)] {
                for accept in [&[][..], &[("accept", IMAGE)], &[("accept", "*/*")], &[("accept", INDEX)]] {
                    let got = registry.get(&format!("/v2/app/manifests/{reference}"), accept).is(200);
                    assert_eq!((got.body.as_str(), got.header("content-type")), (&*manifest, IMAGE));
                    assert_eq!(got.header("docker-content-digest"), *expected, "{}", registry.name);
                    assert_eq!(got.header("content-length"), manifest.len().to_string());
                }
            }
        }
        // As pushed, with the type of what it says it is.
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = registry.image("app", "").replace(IMAGE, docker);
        registry.put("app", "docker", docker, &manifest).is(201);
        let got = registry.get("/v2/app/manifests/docker", &[("accept", IMAGE)]).is(200);
        assert_eq!((got.body.as_str(), got.header("content-type")), (&*manifest, docker));
    }
}

/// *Pulling manifests*, *Pulling blobs*, *Checking if content exists*: 404 for what isn't there, also in no repository.
#[test]
fn what_is_missing() {
    for registry in Registry::each() {
        pushed(&registry, Algorithm::Sha256);
        let unknown = Algorithm::Sha256.digest(b"unknown");
        let long = Algorithm::Sha512.digest(b"unknown");
        for (repository, codes) in [("app", ["MANIFEST_UNKNOWN", "BLOB_UNKNOWN"]), ("nobody/has/it", ["", ""])] {
            for (path, code) in [
                (format!("manifests/{unknown}"), codes[0]),
                (format!("manifests/{long}"), codes[0]),
                ("manifests/nothing".to_owned(), codes[0]),
                (format!("manifests/{}", "t".repeat(128)), codes[0]),
                (format!("blobs/{unknown}"), codes[1]),
                (format!("blobs/{long}"), codes[1]),
            ] {
                let path = format!("/v2/{repository}/{path}");
                let code_of = registry.get(&path, &[]).is(404).code();
                assert!(code.is_empty() || code_of == code, "{}: {path}: {code_of}", registry.name);
                let head = registry.ask("HEAD", &path, &[], b"").is(404);
                assert_eq!(head.body, "", "{}: {path}", registry.name);
            }
        }
        // A manifest is no blob, and a blob no manifest.
        let layer = Algorithm::Sha256.digest(b"layer");
        registry.get(&format!("/v2/app/manifests/{layer}"), &[]).is(404);
        // Neither a digest nor a tag can be there.
        for path in ["manifests/sha256:baddigeststring", "manifests/-", "blobs/sha256:00", "blobs/md5:00", "blobs/x"] {
            let status = registry.get(&format!("/v2/app/{path}"), &[]).status;
            assert!([400, 404].contains(&status), "{}: {path}: {status}", registry.name);
        }
        registry.get(&format!("/v2/app/manifests/{}", "t".repeat(129)), &[]).is(404).code();
        registry.get("/v2/App/tags/list", &[]).is(404).code();
    }
}

/// *Pulling blobs*: 200, the bytes and their digest. *Checking if content exists*: the same without the bytes, with their number.
#[test]
fn pulling_blobs() {
    for registry in Registry::each() {
        let (manifest, digest) = pushed(&registry, Algorithm::Sha256);
        for algorithm in Algorithm::ALL {
            for content in ["", "layer", "a longer one"] {
                let blob = algorithm.digest(content.as_bytes());
                let path = format!("/v2/app/blobs/{blob}");
                registry.ask("POST", &format!("/v2/app/blobs/uploads/?digest={blob}"), &[], content.as_bytes()).is(201);
                for method in ["GET", "HEAD"] {
                    let got = registry.ask(method, &path, &[], b"").is(200);
                    assert_eq!(got.header("docker-content-digest"), blob.to_string(), "{}", registry.name);
                    assert_eq!(got.header("content-length"), content.len().to_string(), "{}", registry.name);
                    assert_eq!(got.body, if method == "GET" { content } else { "" }, "{}", registry.name);
                }
            }
        }
        let head = registry.ask("HEAD", &format!("/v2/app/manifests/{digest}"), &[], b"").is(200);
        assert_eq!(head.header("docker-content-digest"), digest);
        assert_eq!(head.header("content-length"), manifest.len().to_string());
        assert_eq!((head.header("content-type"), head.body.as_str()), (IMAGE, ""));
    }
}

/// *Checking if content exists* writes nothing: a `HEAD` of what another repository holds is 404, and stays that.
#[test]
fn a_head_never_writes() {
    for registry in Registry::each() {
        let blob = registry.blob("source", b"content");
        let manifest = registry.image("source", "");
        registry.put("source", "1", IMAGE, &manifest).is(201);
        let digest = Algorithm::Sha256.digest(manifest.as_bytes());
        let paths = [format!("/v2/app/blobs/{blob}"), format!("/v2/app/manifests/{digest}")];
        for path in paths.iter().chain(&paths) {
            registry.ask("HEAD", path, &[], b"").is(404);
            registry.ask("GET", path, &[], b"").is(404);
        }
        let listed = registry.get("/v2/_catalog", &[]).is(200);
        assert_eq!(listed.body, r#"{"repositories":["source"]}"#, "{}", registry.name);
    }
}

/// *Pulling blobs*: ranges as in RFC 9110, section 14.
#[test]
fn ranges_of_blobs() {
    for registry in Registry::each() {
        let blob = registry.blob("app", b"0123456789");
        let path = format!("/v2/app/blobs/{blob}");
        for (range, part, content) in [
            ("bytes=0-0", "bytes 0-0/10", "0"),
            ("bytes=2-5", "bytes 2-5/10", "2345"),
            ("bytes=7-", "bytes 7-9/10", "789"),
            ("bytes=7-1000", "bytes 7-9/10", "789"),
            ("bytes=-3", "bytes 7-9/10", "789"),
            ("bytes=-1000", "bytes 0-9/10", "0123456789"),
            ("bytes=0-", "bytes 0-9/10", "0123456789"),
        ] {
            let got = registry.get(&path, &[("range", range)]).is(206);
            assert_eq!((got.header("content-range"), &*got.body), (part, content), "{}: {range}", registry.name);
            assert_eq!(got.header("docker-content-digest"), blob.to_string());
        }
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999-"] {
            let got = registry.get(&path, &[("range", range)]).is(416);
            assert_eq!(got.header("content-range"), "bytes */10", "{}: {range}", registry.name);
        }
        // What isn't understood is ignored, and so is a range of anything but a GET.
        for range in ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes", "bytes=0-1,3-4"] {
            let got = registry.get(&path, &[("range", range)]);
            assert!([200, 416].contains(&got.status), "{}: {range}: {}", registry.name, got.status);
        }
        registry.ask("HEAD", &path, &[("range", "bytes=0-1")], b"").is(200);
        registry.get(&path, &[("range", "bytes=0-1"), ("if-range", "\"other\"")]).is(200);
        registry.get(&path, &[("range", "bytes=0-1"), ("if-range", &format!("\"{blob}\""))]).is(206);
        let empty = registry.blob("app", b"");
        registry.get(&format!("/v2/app/blobs/{empty}"), &[("range", "bytes=0-")]).is(416);
    }
}

/// *Determining Support*, and *Endpoints* of *Registry Proxying*: `ns` may be ignored.
#[test]
fn determining_support() {
    for registry in Registry::each() {
        registry.get("/v2/", &[]).is(200);
        registry.ask("HEAD", "/v2/", &[], b"").is(200);
        let (_, digest) = pushed(&registry, Algorithm::Sha256);
        registry.get(&format!("/v2/app/manifests/{digest}?ns=docker.io"), &[]).is(200);
    }
}

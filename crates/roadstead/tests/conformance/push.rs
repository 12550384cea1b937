use roadstead::oci::Algorithm;
use roadstead::server::PushOptions;

use crate::support::{IMAGE, INDEX, Registry};

const UPLOADS: &str = "/v2/app/blobs/uploads/";

#[test]
fn pushing_a_blob_monolithically() {
    for registry in Registry::each() {
        for algorithm in Algorithm::ALL {
            let digest = algorithm.digest(b"content");
            let begun = registry.ask("POST", UPLOADS, &[], b"").is(202);
            let put = format!("{}?digest={digest}", begun.header("location"));
            let created = registry.ask("PUT", &put, &[], b"content").is(201);
            assert_eq!(created.header("docker-content-digest"), digest.to_string());
            let got = registry.ask("GET", created.header("location"), &[], b"").is(200);
            assert_eq!(got.body, "content", "{}", registry.name);
            registry.ask("PUT", &put, &[], b"content").refused(404, "BLOB_UPLOAD_UNKNOWN");

            let other = algorithm.digest(b"other");
            registry.ask("POST", &format!("{UPLOADS}?digest={other}"), &[], b"other").is(201);
            let wrong = algorithm.digest(b"wrong");
            registry.ask("POST", &format!("{UPLOADS}?digest={wrong}"), &[], b"other").refused(400, "DIGEST_INVALID");
            registry.ask("HEAD", &format!("/v2/app/blobs/{wrong}"), &[], b"").is(404);
            let empty = algorithm.digest(b"");
            registry.ask("POST", &format!("{UPLOADS}?digest={empty}"), &[], b"").is(201);
            registry.ask("GET", &format!("/v2/app/blobs/{empty}"), &[], b"").is(200);
        }
        registry.ask("POST", &format!("{UPLOADS}?digest=md5:00"), &[], b"").refused(400, "DIGEST_INVALID");
        registry.ask("POST", &format!("{UPLOADS}?digest-algorithm=md5"), &[], b"").refused(400, "DIGEST_INVALID");
        registry.ask("POST", "/v2/App/blobs/uploads/", &[], b"").refused(400, "NAME_INVALID");
    }
}

#[test]
fn pushing_a_blob_in_chunks() {
    for registry in Registry::each() {
        let begun = registry.ask("POST", UPLOADS, &[], b"").is(202);
        let at = begun.header("location").to_owned();
        assert_eq!(registry.ask("GET", &at, &[], b"").is(204).header("range"), "0-0");
        let first = registry.ask("PATCH", &at, &[("content-range", "0-2")], b"abc").is(202);
        assert_eq!(first.header("range"), "0-2");
        let late = registry.ask("PATCH", &at, &[("content-range", "4-5")], b"ef").is(416);
        assert_eq!((late.header("range"), late.header("location")), ("0-2", &*at));
        registry.ask("PATCH", &at, &[("content-range", "0-2")], b"abc").is(416);
        registry.ask("PATCH", &at, &[("content-range", "3-9")], b"d").refused(400, "SIZE_INVALID");
        for nonsense in ["3", "-", "a-b", "5-3", "3-", "99999999999999999999999-3"] {
            registry.ask("PATCH", &at, &[("content-range", nonsense)], b"d").refused(400, "BLOB_UPLOAD_INVALID");
        }
        let status = registry.ask("GET", &at, &[], b"").is(204);
        assert_eq!((status.header("range"), status.header("location")), ("0-2", &*at));
        // Streamed, without saying how much.
        let chunked = [("transfer-encoding", "chunked")];
        let streamed = registry.ask("PATCH", &at, &chunked, b"1\r\nd\r\n2\r\nef\r\n0\r\n\r\n").is(202);
        assert_eq!(streamed.header("range"), "0-5");
        let digest = Algorithm::Sha512.digest(b"abcdefgh");
        let close = format!("{at}?digest={digest}");
        registry.ask("PUT", &close, &[("content-range", "7-8")], b"gh").is(416);
        registry.ask("PUT", &at, &[], b"").refused(400, "DIGEST_INVALID");
        registry.ask("PUT", &close, &[("content-range", "6-7")], b"gh").is(201);
        assert_eq!(registry.ask("GET", &format!("/v2/app/blobs/{digest}"), &[], b"").is(200).body, "abcdefgh");
    }
}

#[test]
fn cancelling_an_upload() {
    for registry in Registry::each() {
        let at = registry.ask("POST", UPLOADS, &[], b"").is(202).header("location").to_owned();
        // An upload belongs to its repository.
        registry.ask("GET", &at.replace("/app/", "/other/"), &[], b"").refused(404, "BLOB_UPLOAD_UNKNOWN");
        registry.ask("DELETE", &at, &[], b"").is(204);
        for method in ["GET", "PATCH", "DELETE"] {
            registry.ask(method, &at, &[], b"").refused(404, "BLOB_UPLOAD_UNKNOWN");
        }
    }
}

#[test]
fn an_upload_that_broke_off_goes_on_where_it_was() {
    for registry in Registry::each() {
        let at = registry.ask("POST", UPLOADS, &[], b"").is(202).header("location").to_owned();
        let cut = format!("PATCH {at} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nZZ\r\n");
        registry.raw(cut.as_bytes());
        let status = registry.ask("GET", &at, &[], b"").is(204);
        assert_eq!(status.header("range"), "0-2", "{}", registry.name);
        let digest = Algorithm::Sha256.digest(b"abcd");
        registry.ask("PUT", &format!("{at}?digest={digest}"), &[("content-range", "3-3")], b"d").is(201);
    }
}

#[test]
fn mounting_a_blob_from_another_repository() {
    for registry in Registry::each() {
        let digest = registry.blob("source", b"content");
        let mount = |from: &str| registry.ask("POST", &format!("{UPLOADS}?mount={digest}{from}"), &[], b"");
        let begun = mount("&from=nowhere").is(202);
        assert!(begun.header("location").contains("/blobs/uploads/"));
        mount("&from=NO%20NAME").is(202);
        registry.ask("HEAD", &format!("/v2/app/blobs/{digest}"), &[], b"").is(404);
        let mounted = mount("&from=source").is(201);
        assert_eq!(registry.ask("GET", mounted.header("location"), &[], b"").is(200).body, "content");
        // Who has a small one is not noted everywhere.
        let large = registry.blob("source", "content ".repeat((1 << 20) + 1).as_bytes());
        registry.ask("POST", &format!("/v2/third/blobs/uploads/?mount={large}"), &[], b"").is(201);
        let unknown = Algorithm::Sha256.digest(b"unknown");
        registry.ask("POST", &format!("{UPLOADS}?mount={unknown}"), &[], b"").is(202);
    }
}

#[test]
fn pushing_manifests() {
    for registry in Registry::each() {
        let manifest = registry.image("app", "  ,\n \"unknown\" : 1 ");
        let digest = Algorithm::Sha256.digest(manifest.as_bytes());
        let created = registry.put("app", "1", IMAGE, &manifest).is(201);
        assert_eq!(created.header("docker-content-digest"), digest.to_string());
        let got = registry.ask("GET", created.header("location"), &[], b"").is(200);
        assert_eq!((got.body.as_str(), got.header("content-type")), (manifest.as_str(), IMAGE));
        let list = registry.ask("GET", "/v2/app/tags/list", &[], b"").is(200);
        assert_eq!(list.body, r#"{"name":"app","tags":["1"]}"#, "{}", registry.name);
        for algorithm in Algorithm::ALL {
            let digest = algorithm.digest(manifest.as_bytes()).to_string();
            let reference = format!("{digest}?tag=2&tag=latest");
            let created = registry.put("app", &reference, &format!("{IMAGE}; charset=utf-8"), &manifest).is(201);
            assert_eq!(created.headers("oci-tag"), ["2", "latest"]);
            registry.ask("HEAD", "/v2/app/manifests/latest", &[], b"").is(200);
        }
        let wrong = Algorithm::Sha256.digest(b"wrong");
        registry.put("app", &wrong.to_string(), IMAGE, &manifest).refused(400, "DIGEST_INVALID");
        registry.put("app", "3", INDEX, &manifest).refused(400, "MANIFEST_INVALID");
        registry.put("app", "3", IMAGE, "{").refused(400, "MANIFEST_INVALID");
        registry.put("app", "-", IMAGE, &manifest).refused(400, "MANIFEST_INVALID");
        registry.put("other", "3", IMAGE, &manifest).refused(400, "MANIFEST_BLOB_UNKNOWN");
        let sized = manifest.replace(r#""size":5"#, r#""size":6"#);
        registry.put("app", "3", IMAGE, &sized).refused(400, "SIZE_INVALID");
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{IMAGE}","digest":"{digest}","size":{}}}]}}"#,
            manifest.len()
        );
        registry.put("app", "index", INDEX, &index).is(201);
        registry.put("other", "index", INDEX, &index).refused(400, "MANIFEST_BLOB_UNKNOWN");
        let large = registry.image("app", &format!(",\"annotations\":{{\"a\":\"{}\"}}", "x".repeat(4_000_000)));
        registry.put("app", "large", IMAGE, &large).is(201);
        registry.put("app", "3", IMAGE, &" ".repeat(5 << 20)).refused(413, "SIZE_INVALID");
        registry.ask("GET", "/v2/app/manifests/3", &[], b"").is(404);
    }
}

/// *Pushing Manifests*: at least ten tags at once, each said in `OCI-Tag`; too many are refused whole.
#[test]
fn pushing_a_manifest_with_tags() {
    for registry in Registry::each() {
        let manifest = registry.image("app", "");
        let digest = Algorithm::Sha512.digest(manifest.as_bytes());
        let query = |count: usize| (0..count).map(|n| format!("tag=v{n:02}")).collect::<Vec<_>>().join("&");
        registry.put("app", &format!("{digest}?{}", query(65)), IMAGE, &manifest).refused(414, "MANIFEST_INVALID");
        registry.put("app", &format!("{digest}?tag=good&tag=-"), IMAGE, &manifest).refused(400, "MANIFEST_INVALID");
        registry.get("/v2/app/tags/list", &[]).is(404);
        let created = registry.put("app", &format!("{digest}?{}", query(64)), IMAGE, &manifest).is(201);
        let said: Vec<&str> = created.headers("oci-tag").into_iter().flat_map(|line| line.split(", ")).collect();
        let expected: Vec<String> = (0..64).map(|n| format!("v{n:02}")).collect();
        assert_eq!(said, expected, "{}", registry.name);
        for tag in ["v00", "v63"] {
            let got = registry.get(&format!("/v2/app/manifests/{tag}"), &[]).is(200);
            assert_eq!((got.body, got.status), (manifest.clone(), 200), "{}", registry.name);
        }
    }
}

/// *Push*: what may not be passed on needs not be there, and of everything else what lacks is named.
#[test]
fn pushing_manifests_whose_content_is_absent() {
    for registry in Registry::each() {
        let absent = Algorithm::Sha256.digest(b"absent");
        let image = registry.image("app", "");
        let layer = |media_type: &str| {
            let more = format!(r#""layers":[{{"mediaType":"{media_type}","digest":"{absent}","size":6}},"#);
            image.replace(r#""layers":["#, &more)
        };
        for kept_back in [
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ] {
            registry.put("app", "foreign", IMAGE, &layer(kept_back)).is(201);
        }
        let lacking = registry.put("app", "1", IMAGE, &layer("application/vnd.oci.image.layer.v1.tar")).is(400);
        assert!(lacking.body.contains(&absent.to_string()), "{}: {}", registry.name, lacking.body);
        lacking.refused(400, "MANIFEST_BLOB_UNKNOWN");
        let entry = format!(r#"{{"mediaType":"{IMAGE}","digest":"{absent}","size":6}}"#);
        let index = |entries: &str| format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entries}]}}"#);
        registry.put("app", "1", INDEX, &index(&entry)).refused(400, "MANIFEST_BLOB_UNKNOWN");
        registry.get("/v2/app/manifests/1", &[]).is(404);
        let empty = index("");
        registry.put("app", "empty", INDEX, &empty).is(201);
        let digest = Algorithm::Sha256.digest(empty.as_bytes());
        let nested = format!(r#"{{"mediaType":"{INDEX}","digest":"{digest}","size":{}}}"#, empty.len());
        registry.put("app", "nested", INDEX, &index(&nested)).is(201);
    }
}

/// *POST then PUT*: the location holds a UUID, and is a new one each time. *Pushing a blob in chunks*: no least length is said,
/// and there is none.
#[test]
fn a_session_of_its_own() {
    for registry in Registry::each() {
        let ids: std::collections::BTreeSet<String> = (0..10)
            .map(|_| {
                let begun = registry.ask("POST", UPLOADS, &[], b"").is(202);
                let id = begun.header("location").rsplit_once('/').unwrap().1.to_owned();
                assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
                assert_eq!(begun.headers("oci-chunk-min-length"), [""; 0], "{}", registry.name);
                registry.ask("PATCH", begun.header("location"), &[("content-range", "0-0")], b"a").is(202);
                id
            })
            .collect();
        assert_eq!(ids.len(), 10, "{}", registry.name);
    }
}

#[test]
fn pushing_manifests_with_subject() {
    for registry in Registry::each() {
        let subject = Algorithm::Sha256.digest(b"nobody has pushed this");
        let more = format!(
            r#","subject":{{"mediaType":"{IMAGE}","digest":"{subject}","size":9}},"artifactType":"a/b","annotations":{{"k":"v"}}"#
        );
        let manifest = registry.image("app", &more);
        let digest = Algorithm::Sha256.digest(manifest.as_bytes());
        let created = registry.put("app", &digest.to_string(), IMAGE, &manifest).is(201);
        assert_eq!(created.header("oci-subject"), subject.to_string());
        let referrers = registry.ask("GET", &format!("/v2/app/referrers/{subject}?artifactType=a/b"), &[], b"").is(200);
        let listed: serde_json::Value = serde_json::from_str(&referrers.body).unwrap();
        assert_eq!(listed["manifests"][0]["digest"], digest.to_string(), "{}", registry.name);
        assert_eq!(listed["manifests"][0]["annotations"]["k"], "v");
        let fallback = subject.to_string().replace(':', "-");
        registry.ask("GET", &format!("/v2/app/manifests/{fallback}"), &[], b"").is(200);
        registry.put("app", &fallback, IMAGE, &manifest).refused(400, "UNSUPPORTED");
        registry.ask("DELETE", &format!("/v2/app/manifests/{digest}"), &[], b"").is(202);
        let left = registry.ask("GET", &format!("/v2/app/referrers/{subject}"), &[], b"").is(200);
        assert!(left.body.contains(r#""manifests":[]"#), "{}: {}", registry.name, left.body);
    }
}

#[test]
fn more_than_may_run_is_told_to_come_again() {
    for registry in Registry::each_with(&PushOptions { max_uploads: 1, ..PushOptions::default() }) {
        registry.ask("POST", UPLOADS, &[], b"").is(202);
        let busy = registry.ask("POST", UPLOADS, &[], b"").is(429);
        assert_eq!(busy.header("retry-after"), "1");
        busy.refused(429, "TOOMANYREQUESTS");
    }
}

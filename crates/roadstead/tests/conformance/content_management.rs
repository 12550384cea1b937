use std::time::SystemTime;

use roadstead::oci::Algorithm;
use roadstead::server::PushOptions;
use roadstead::tree::PruneOptions;

use crate::support::{IMAGE, Registry};

#[test]
fn deleting_tags_manifests_and_blobs() {
    for registry in Registry::each() {
        let manifest = registry.image("app", "");
        let (digest, layer) = (Algorithm::Sha256.digest(manifest.as_bytes()), Algorithm::Sha256.digest(b"layer"));
        registry.put("app", "1", IMAGE, &manifest).is(201);
        registry.put("app", "2", IMAGE, &manifest).is(201);
        let delete = |path: &str| registry.ask("DELETE", &format!("/v2/app/{path}"), &[], b"");
        let blob = format!("blobs/{layer}");
        delete(&blob).refused(405, "UNSUPPORTED");
        delete("manifests/1").is(202);
        delete("manifests/1").refused(404, "MANIFEST_UNKNOWN");
        assert_eq!(registry.ask("GET", "/v2/app/tags/list", &[], b"").is(200).body, r#"{"name":"app","tags":["2"]}"#);
        let by_digest = format!("manifests/{digest}");
        registry.ask("GET", &format!("/v2/app/{by_digest}"), &[], b"").is(200);
        delete(&by_digest).is(202);
        delete(&by_digest).refused(404, "MANIFEST_UNKNOWN");
        registry.ask("GET", "/v2/app/manifests/2", &[], b"").is(404);
        // Another repository that holds the blob is no reason to answer for this one.
        registry.blob("other", b"layer");
        delete(&blob).is(202);
        delete(&blob).refused(404, "BLOB_UNKNOWN");
        registry.ask("HEAD", &format!("/v2/app/{blob}"), &[], b"").is(404);
        registry.ask("GET", &format!("/v2/other/{blob}"), &[], b"").is(200);
    }
}

#[test]
fn nothing_is_deleted_unless_that_is_switched_on() {
    for registry in Registry::each_with(&PushOptions::default()) {
        let manifest = registry.image("app", "");
        registry.put("app", "1", IMAGE, &manifest).is(201);
        let layer = Algorithm::Sha256.digest(b"layer");
        for path in ["manifests/1".to_owned(), format!("blobs/{layer}")] {
            registry.ask("DELETE", &format!("/v2/app/{path}"), &[], b"").refused(405, "UNSUPPORTED");
            registry.ask("GET", &format!("/v2/app/{path}"), &[], b"").is(200);
        }
    }
}

/// A blob that was pushed once, and needed by nothing for days, outlives a sweep when it is pushed or mounted again.
#[test]
fn a_sweep_between_the_requests_of_a_push() {
    let registry = Registry::each().remove(0);
    let manifest = registry.image("app", "");
    let digests = [Algorithm::Sha256.digest(b"{}"), Algorithm::Sha256.digest(b"layer")];
    let grow_old = |digest| {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
        let path = registry.path().join(format!("v2/app/blobs/{digest}"));
        let then = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
        let times = Timestamps { last_access: then, last_modification: then };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    digests.iter().for_each(grow_old);
    let lost = registry.blob("app", b"lost");
    grow_old(&lost);
    registry.blob("app", b"{}");
    registry.ask("POST", &format!("/v2/app/blobs/uploads/?mount={}", digests[1]), &[], b"").is(201);
    let options = PruneOptions::new(SystemTime::now());
    registry.runtime.block_on(registry.tree.prune(&options, &|_| {})).unwrap();
    registry.ask("HEAD", &format!("/v2/app/blobs/{lost}"), &[], b"").is(404);
    registry.put("app", "1", IMAGE, &manifest).is(201);
}

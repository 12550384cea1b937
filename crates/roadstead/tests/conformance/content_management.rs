use std::time::{Duration, SystemTime};

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

/// A blob that was pushed once, needed by nothing for days, and is pushed again survives a sweep until its manifest comes.
#[test]
fn a_sweep_between_the_requests_of_a_push() {
    for registry in Registry::each() {
        let old = registry.blob("app", b"{}");
        let manifest = registry.image("app", "");
        // What would be old enough now isn't any more when it was pushed again.
        let before = SystemTime::now();
        registry.blob("app", b"{}");
        registry.ask("POST", &format!("/v2/app/blobs/uploads/?mount={old}"), &[], b"").is(201);
        registry.blob("app", b"layer");
        let options =
            PruneOptions { older_than: Duration::from_secs(1), ..PruneOptions::new(before + Duration::from_millis(999)) };
        registry.runtime.block_on(registry.tree.prune(&options, &|_| {})).unwrap();
        registry.put("app", "1", IMAGE, &manifest).is(201);
    }
}

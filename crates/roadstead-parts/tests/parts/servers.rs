//! The servers start, serve what they are told to, refuse what they are told to, and leave nothing behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::image::Image;
use roadstead_parts::{
    BucketServer, Certificates, Client, Crane, Folder, Generation, Invocation, Isolation, Kubo, Nginx, PlainServer,
    Port, Served, Skopeo, part,
};

fn curl(arguments: &[&str]) -> Invocation {
    Invocation::new(part::installed("curl")).args(["--silent", "--show-error", "--fail"]).args(arguments)
}

#[test]
fn a_registry_keeps_its_content_in_the_folder_that_it_is_given() {
    for generation in Generation::ALL {
        let (data, image) = (Folder::new(), Image::build());
        let push_to = generation.registry().data(data.path()).start();
        image.push(&format!("{}/a/b:1", push_to.authority()));
        assert!(push_to.log().contains("/v2/a/b/manifests/1"), "{generation:?}: {}", push_to.log());
        drop(push_to);

        let pull_from = generation.registry().data(data.path()).read_only().start();
        let reference = format!("{}/a/b:1", pull_from.authority());
        assert!(Crane.pull(&reference).unwrap().digests.contains(&image.digest), "{generation:?}");
        let refused = Crane.crane(&["tag", &reference, "2"]).unwrap_err();
        assert!(refused.output().stderr.contains("405"), "{generation:?}: {refused}");
    }
}

#[test]
fn a_registry_asks_for_credentials() {
    for generation in Generation::ALL {
        let registry = generation.registry().users(&[("anna", "secret"), ("bert", "other")]).start();
        let url = format!("{}/v2/", registry.url());
        let refused = curl(&[&url]).run().unwrap_err();
        assert!(refused.output().stderr.contains("401"), "{generation:?}: {refused}");
        curl(&["--user", "bert:other", &url]).run().unwrap();
        let refused = curl(&["--user", "bert:secret", &url]).run().unwrap_err();
        assert!(refused.output().stderr.contains("401"), "{generation:?}: {refused}");
    }
}

fn a_bucket_is_for_who_has_the_keys(server: BucketServer) {
    let buckets = server.start(&["one", "two"]);
    let refused = curl(&[&format!("{}/one?list-type=2", buckets.url())]).run().unwrap_err();
    assert!(refused.output().stderr.contains("403"), "{server:?}: {refused}");
    assert!(buckets.folder("two").is_dir(), "{server:?}");
}

#[test]
fn a_bucket_of_versitygw_is_for_who_has_the_keys() {
    a_bucket_is_for_who_has_the_keys(BucketServer::Versitygw);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn a_bucket_of_minio_is_for_who_has_the_keys() {
    a_bucket_is_for_who_has_the_keys(BucketServer::Minio);
}

/// What makes them hosts without headers: the type is none of a registry's.
fn hands_files_out(host: &str, url: &str, media_type: &str) {
    let said = curl(&["--write-out", "\n%{content_type}", &format!("{url}/v2/app/manifests/1")]).run().unwrap();
    assert_eq!(said.stdout, format!("{{\"schemaVersion\":2}}\n{media_type}"), "{host}");
}

fn a_manifest() -> Folder {
    let folder = Folder::new();
    fs::create_dir_all(folder.join("v2/app/manifests")).unwrap();
    folder.write("v2/app/manifests/1", "{\"schemaVersion\":2}");
    folder
}

#[test]
fn a_plain_server_knows_no_types() {
    let folder = a_manifest();
    let server = PlainServer::start(folder.path());
    hands_files_out("python3 -m http.server", &server.url(), "application/octet-stream");
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn a_gateway_of_ipfs_finds_types_in_the_bytes() {
    let (kubo, folder) = (Kubo::start(), a_manifest());
    let cid = kubo.add(folder.path());
    hands_files_out("Kubo", &kubo.url(&cid), "application/json");
    assert_eq!(kubo.add(folder.path()), cid, "the same files have the same name");
}

#[test]
fn a_registry_speaks_tls() {
    let certificates = Certificates::issue(&["IP:127.0.0.1", "DNS:localhost"]);
    for generation in Generation::ALL {
        let registry = generation.registry().tls(&certificates).start();
        let trusted = certificates.authority();
        curl(&["--cacert", &trusted.to_string_lossy(), &format!("{}/v2/", registry.url())]).run().unwrap();
        curl(&[&format!("{}/v2/", registry.url())]).run().unwrap_err();

        let image = Image::build();
        let reference = format!("docker://{}/tls:1", registry.authority());
        let trusted = certificates.trusted().to_string_lossy().into_owned();
        Skopeo
            .skopeo(&["copy", "--preserve-digests", "--dest-cert-dir", &trusted, &image.source(), &reference])
            .unwrap();
        let digest =
            Skopeo.skopeo(&["inspect", "--cert-dir", &trusted, "--format", "{{.Digest}}", &reference]).unwrap();
        assert_eq!(digest.stdout.trim(), image.digest, "{generation:?}");
    }
}

#[test]
fn nginx_runs_as_another_user_than_the_owner_of_the_files() {
    let files = Folder::new();
    let readable = files.write("readable", "content");
    let private = files.write("private", "content");
    fs::set_permissions(&readable, Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&private, Permissions::from_mode(0o600)).unwrap();

    let port = Port::free();
    let root = files.path().display();
    let nginx = Nginx::start_http(&format!("server {{ listen {}; root {root}; }}", port.address()), port);
    assert_eq!(curl(&[&format!("{}/readable", nginx.url())]).run().unwrap().stdout, "content");
    let refused = curl(&[&format!("{}/private", nginx.url())]).run().unwrap_err();
    assert!(refused.output().stderr.contains("403"), "{refused}");
    assert!(nginx.log().contains("Permission denied"), "{}", nginx.log());
}

#[test]
fn nginx_says_what_is_wrong_with_a_configuration() {
    let refused = Nginx::check(&roadstead_parts::within_http("nonsense;")).unwrap_err();
    assert!(refused.output().stderr.contains("unknown directive \"nonsense\""), "{refused}");
    Nginx::check(&roadstead_parts::within_http("server { listen 127.0.0.1:80; }")).unwrap();
}

#[test]
#[should_panic(expected = "unknown directive")]
fn a_server_that_does_not_start_shows_its_log() {
    Nginx::start_http("nonsense;", Port::free());
}

#[test]
fn a_program_that_is_stopped_can_end_in_its_own_way() {
    for isolation in [Isolation::None, Isolation::Namespaces] {
        let folder = Folder::new();
        let (path, ready) = (folder.path().to_owned(), folder.join("ready"));
        let script = "trap 'echo going; exit 7' TERM; echo here; : >\"$0\"; while :; do sleep 0.01; done";
        let program = Invocation::new("/bin/sh").args(["-c", script]).arg(&ready);
        let served = Served::start(&program, isolation, folder, || ready.exists());
        let (status, log) = served.stop();
        assert_eq!((status.code(), log.as_str()), (Some(7), "here\ngoing\n"), "{isolation:?}");
        assert!(!path.exists(), "{isolation:?}");
    }
}

#[test]
fn orphans_and_mounts_end_with_the_program_that_left_them() {
    let folder = Folder::new();
    let (orphan, mounted) = (folder.join("orphan"), folder.join("mounted"));
    // The child is nobody's, in a session of its own, ignores what can be ignored, and sits on a mount.
    let seconds = format!("98765{}", std::process::id());
    let script = "mkdir $1; mount -t tmpfs none $1; cd $1; trap '' TERM HUP; setsid sleep $2 & : >$0; wait";
    let program = Invocation::new("/bin/sh").args(["-c", script]).arg(&orphan).arg(&mounted).arg(&seconds);
    let served = Served::start(&program, Isolation::Namespaces, folder, || orphan.exists());
    let path = served.folder().to_owned();
    assert!(processes().any(|line| line.contains(&seconds)));
    drop(served);
    assert!(!path.exists());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&*path.to_string_lossy()), "{mounts}");
    assert!(!processes().any(|line| line.contains(&seconds)));
}

/// The command lines of all processes.
fn processes() -> impl Iterator<Item = String> {
    let processes = fs::read_dir(Path::new("/proc")).unwrap().flatten();
    processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok()).map(|line| {
        let line = String::from_utf8_lossy(&line);
        line.replace('\0', " ")
    })
}

#[test]
fn nginx_runs_wholly_as_an_ordinary_user() {
    let port = Port::free();
    let configuration = roadstead_parts::within_http(&format!("server {{ listen {}; }}", port.address()));
    let nginx = Nginx::start_unprivileged(&configuration.replace("user www-data;", ""), port);
    let written_by = |path: &Path| fs::metadata(path).unwrap().uid();
    assert_ne!(written_by(&nginx.folder().join("nginx.pid")), written_by(Path::new("/proc/1")));
}

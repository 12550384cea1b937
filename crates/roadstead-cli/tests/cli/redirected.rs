//! `serve --redirect-blobs`: clients fetch blobs from a bucket that is nobody's to read, by URLs that are good for a moment.

use std::fs;

use roadstead::testing::{Image, ImageBuilder, IndexBuilder, Layer, MemorySource, noise};
use roadstead_parts::{Azurite, BucketServer, Buckets, Folder, Invocation, Isolation, Port, Served, clients, part};

use crate::matrix::alone_in_the_engines;
use crate::published::{BUCKET, Scene};
use crate::support::{Place, Ran, write_tree};

const TEXT: &str = "0123456789";

fn image() -> Image {
    ImageBuilder::new().blob("text/plain", TEXT).build()
}

/// `serve` over a bucket, everything that it says going into a file; and the file of its access log.
fn serve(place: &Place, tree: &str, variables: &[(&'static str, String)], more: &[&str]) -> (Served, String) {
    let port = Port::free();
    let authority = port.address().to_string();
    let log = place.path().join("access.log");
    let serve = Invocation::new(env!("CARGO_BIN_EXE_roadstead"))
        .args(["--tree", tree, "serve", "--listen", &authority, "--access-log-format", "json", "--access-log"])
        .arg(&log)
        .args(more)
        .env("RUST_LOG", "trace");
    let serve = variables.iter().fold(serve, |serve, (name, value)| serve.env(name, value));
    (Served::start(&serve, Isolation::None, Folder::new(), || port.answers()), authority)
}

fn variables(buckets: &Buckets) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ENDPOINT_URL", buckets.url()),
        ("AWS_ACCESS_KEY_ID", Buckets::ID.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", Buckets::SECRET.to_owned()),
    ]
}

/// What an answer was: its status, where it leads, and its content.
struct Answer {
    status: String,
    location: String,
    body: String,
}

fn curl(arguments: &[&str]) -> Answer {
    let curl = Invocation::new(part::installed("curl")).args(["-s", "-w", "\n%{http_code} %header{location}"]);
    let stdout = curl.args(arguments).run().unwrap().stdout;
    let (body, last) = stdout.rsplit_once('\n').unwrap();
    let (status, location) = last.split_once(' ').unwrap();
    Answer { status: status.to_owned(), location: location.to_owned(), body: body.to_owned() }
}

#[test]
fn every_client_follows_into_a_bucket_that_is_nobodys_to_read() {
    let _alone = alone_in_the_engines();
    let platform = |platform: &'static str| ImageBuilder::new().platform(platform).layer(platform).build();
    let index = ["linux/amd64", "linux/arm64"].map(platform);
    let index = index.into_iter().fold(IndexBuilder::new(), IndexBuilder::image).build();
    // So large that clients fetch it in ranges, where they do that.
    let large = Layer::new().file("noise", noise(31, 20 << 20), 0o644);
    let large = ImageBuilder::new().layer(large).build();
    let scene = Scene::new(BucketServer::Versitygw, &[("redirected/base:1", &index), ("redirected/large:1", &large)]);
    scene.run(&["publish", BUCKET]).ok();
    let (served, authority) = serve(&scene.place, BUCKET, &variables(&scene.buckets), &["--redirect-blobs"]);
    for client in clients() {
        for (name, digest) in [("base", index.digest()), ("large", large.digest())] {
            let repository = format!("{authority}/redirected/{name}");
            let by_tag = client.pull(&format!("{repository}:1"));
            by_tag.unwrap_or_else(|failure| panic!("{} by tag: {failure}", client.name()));
            client.forget(&format!("{repository}:1")).unwrap();
            let by_digest = client.pull_by_digest(&repository, &digest.to_string());
            by_digest.unwrap_or_else(|failure| panic!("{} by digest: {failure}", client.name()));
        }
    }
    let said = served.log();
    drop(served);
    let log = fs::read_to_string(scene.place.path().join("access.log")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let blobs =
        lines.iter().filter(|line| line["method"] == "GET" && line["target"].as_str().unwrap().contains("/blobs/"));
    let mut followed = 0;
    for line in blobs {
        assert_eq!((line["status"].as_u64(), line["bytes"].as_u64()), (Some(307), Some(0)), "{line}");
        followed += 1;
    }
    assert!(followed > 20, "{log}");
    for (what, text) in [("the access log", &log), ("the log", &said)] {
        assert!(!text.contains("X-Amz-Signature"), "{what} lets anybody read: {text}");
    }
}

#[test]
fn who_may_not_see_a_blob_is_sent_nowhere() {
    let image = image();
    let scene = Scene::new(BucketServer::Versitygw, &[("app:1", &image), ("secret/app:1", &image)]);
    scene.run(&["publish", BUCKET]).ok();
    scene.run(&["--tree", BUCKET, "private", "secret/**"]).ok();
    let options = ["--redirect-blobs", "--without-private", "--cors"];
    let (_served, authority) = serve(&scene.place, BUCKET, &variables(&scene.buckets), &options);
    let digest = image.manifest.layers()[0].digest;
    let url = |name: &str, digest: &str| format!("http://{authority}/v2/{name}/blobs/{digest}");
    let blob = url("app", &digest.to_string());
    // By both transports.
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let sent = curl(&[version, &blob]);
        assert_eq!((&*sent.status, &*sent.body), ("307", ""), "{version}");
        let expected = format!("{}/images/tree/v2/app/blobs/sha256%3A{}?", scene.buckets.url(), digest.hex());
        assert!(sent.location.starts_with(&expected), "{version}: {}", sent.location);
        assert!(sent.location.contains("X-Amz-Expires=900&"), "{version}: {}", sent.location);
        assert_eq!(curl(&[&sent.location]).body, TEXT, "{version}");
        assert_eq!(curl(&["-H", "Range: bytes=2-4", &sent.location]).body, "234", "{version}");
        // For this object and for reading it, no more.
        let others = sent.location.replace("/app/blobs/", "/secret/app/blobs/");
        assert_eq!(curl(&[&others]).status, "403", "{version}");
        assert_eq!(curl(&["-X", "DELETE", &sent.location]).status, "403", "{version}");
        assert_eq!(curl(&[version, "-H", "Range: bytes=2-4", &blob]).status, "307", "{version}");
        // What leads nowhere is answered here.
        let etag = format!("If-None-Match: \"{digest}\"");
        for (arguments, status) in [
            (&["-I", &blob][..], "200"),
            (&["-H", &etag, &blob], "304"),
            (&["-H", "Range: bytes=10-", &blob], "416"),
            (&[&url("secret/app", &digest.to_string())], "404"),
            (&[&url("app", &format!("sha256:{}", "0".repeat(64)))], "404"),
            (&[&format!("http://{authority}/v2/app/manifests/1")], "200"),
        ] {
            let answer = curl(&[&[version][..], arguments].concat());
            assert_eq!((&*answer.status, &*answer.location), (status, ""), "{version} {arguments:?}");
        }
    }
    let head =
        Invocation::new(part::installed("curl")).args(["-s", "-D", "-", "-o", "/dev/null", &blob]).run().unwrap();
    let head = head.stdout.to_ascii_lowercase();
    for line in [
        "cache-control: no-store",
        &format!("docker-content-digest: {digest}"),
        "access-control-allow-origin: *",
        "content-length: 0",
    ] {
        assert!(head.contains(&format!("{line}\r\n")), "{line} is missing: {head}");
    }
}

/// Where clients reach the service elsewhere than the server does, as in a cluster.
#[test]
fn clients_are_sent_where_they_reach_the_service() {
    let image = image();
    let scene = Scene::new(BucketServer::Versitygw, &[("app:1", &image)]);
    scene.run(&["publish", BUCKET]).ok();
    let outside = scene.buckets.url().replace("127.0.0.1", "localhost");
    let lines = include_str!("../../../../docs/serve.md").lines();
    let lines: Vec<_> =
        lines.filter(|line| line.starts_with("roadstead ") && line.contains("--redirect-blobs")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, at) in lines.into_iter().zip([&scene.buckets.url(), &outside]) {
        let line = line.replace("s3://my-images", BUCKET).replace("http://minio:9000", &scene.buckets.url());
        let (port, line) = (Port::free(), line.replace("https://minio.example.com", &outside));
        let authority = port.address().to_string();
        let words = line.split(' ').skip(1).chain(["--listen", &authority]);
        let serve = Invocation::new(env!("CARGO_BIN_EXE_roadstead")).args(words);
        let serve = variables(&scene.buckets).into_iter().fold(serve, |serve, (name, value)| serve.env(name, value));
        let _served = Served::start(&serve, Isolation::None, Folder::new(), || port.answers());
        let sent = curl(&[&format!("http://{authority}/v2/app/blobs/{}", image.manifest.layers()[0].digest)]);
        assert!(sent.location.starts_with(at), "{}", sent.location);
        assert_eq!(curl(&[&sent.location]).body, TEXT);
    }

    for (tree, option, says) in [
        ("registry", "--redirect-blobs", "--redirect-blobs sends clients to a bucket, and registry is none"),
        (BUCKET, "--redirect-blobs=ftp://x", "\"ftp://x\" is no endpoint"),
    ] {
        let refused = scene.run(&["--tree", tree, "serve", "--listen", "127.0.0.1:0", option]);
        assert_ne!(refused.code(), 0, "{refused}");
        assert!(refused.stderr.contains(says), "{refused}");
    }
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn clients_are_sent_to_a_container_of_azure() {
    let (image, azurite, place) = (image(), Azurite::start(&["images"]), Place::new());
    let source = MemorySource::new();
    source.add("app:1", &image);
    write_tree(&place.tree(), &source);
    let mut variables = vec![
        ("AZURE_STORAGE_SERVICE_ENDPOINT", azurite.url()),
        ("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT.to_owned()),
        ("AZURE_STORAGE_KEY", Azurite::KEY.to_owned()),
    ];
    let tree = "az://images/tree";
    Ran::of(place.command(&["publish", tree]).envs(variables.iter().cloned())).ok();
    let (_served, authority) = serve(&place, tree, &variables, &["--redirect-blobs"]);
    let sent = curl(&[&format!("http://{authority}/v2/app/blobs/{}", image.manifest.layers()[0].digest)]);
    assert_eq!(sent.status, "307");
    assert!(sent.location.starts_with(&azurite.url()), "{}", sent.location);
    assert_eq!(curl(&[&sent.location]).body, TEXT);
    let (_, signature) = sent.location.split_once('?').unwrap();
    let catalog = format!("{}/images/tree/v2/_catalog?{signature}", azurite.url());
    assert_eq!(curl(&[&catalog]).status, "403");
    assert_eq!(curl(&["-X", "DELETE", &sent.location]).status, "403");

    // Who was handed a signature has nothing to make a narrower one of.
    variables.truncate(1);
    let connection = format!("BlobEndpoint={};SharedAccessSignature={}", azurite.url(), Azurite::SIGNATURE);
    variables.push(("AZURE_STORAGE_CONNECTION_STRING", connection));
    let mut command = place.command(&["--tree", tree, "serve", "--listen", "127.0.0.1:0", "--redirect-blobs"]);
    let refused = Ran::of(command.envs(variables.iter().cloned()));
    assert_eq!(refused.code(), 2, "{refused}");
    assert!(refused.stderr.contains("nobody can sign URLs for az://images/tree with these credentials"), "{refused}");
}

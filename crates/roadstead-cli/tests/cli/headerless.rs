//! Hosts of plain files that send no headers: who pulls from them, in which form, and what `config` says and writes.

mod pages;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use roadstead::testing::{Image, ImageBuilder, IndexBuilder, Layer, MemorySource};
use roadstead_parts::{
    Client, Containerd, Crane, Dockerd, Folder, Generation, Invocation, Kubo, Oras, PlainServer, Podman, Port, Skopeo,
    clients, part, wait_until,
};

use crate::support::{Place, peak_memory, write_tree};

/// What the machine runs.
fn native() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}

fn other() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" }
}

fn image(greeting: &str) -> ImageBuilder {
    ImageBuilder::new().platform(native()).greeting(greeting)
}

/// A tree with an image, an index of two platforms, one of another platform, and an artifact.
fn filled() -> (Place, Image) {
    let place = Place::new();
    let source = MemorySource::new();
    // Instructions that change no file are layers of their own in schema 1, wherever they stand.
    let single = ImageBuilder::new().platform(native()).instruction("ENV first").greeting("single\n");
    let single = single.instruction("ENV a").instruction("ENV a").layer("more").instruction("ENTRYPOINT").build();
    let index = IndexBuilder::new().attested_image(image("index\n").build());
    let index = index.image(ImageBuilder::new().platform(other()).greeting("no\n").build()).build();
    let foreign = IndexBuilder::new().image(ImageBuilder::new().platform(other()).greeting("no\n").build()).build();
    let artifact = ImageBuilder::new().artifact_type("application/x.y").blob("text/plain", "x").build();
    source.add("app:1", &single);
    source.add("org/team/index:2.0", &index);
    source.add("org/other:1", &foreign);
    source.add("org/artifact:1", &artifact);
    write_tree(&place.tree(), &source);
    (place, single)
}

/// Every file below a folder, but for what marks it as ours.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.is_symlink(), "{} is a link", path.display());
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found.remove(".roadstead-site");
    found
}

const SITE: [&str; 6] = ["config", "github-pages", "--flavour", "schema1", "-o", "site"];

#[test]
fn old_clients_pull_schema_1_from_a_host_with_wrong_headers() {
    let (place, _) = filled();
    let said = place.run(&SITE).ok();
    for line in [
        "podman, skopeo, CRI-O             with --flavour schema1",
        "Docker from 28.2",
        "serve --upstream URL",
        &format!("org/other:1 is left out: it has no image for {}", native()),
        "org/artifact:1 is left out: ",
        "site: 2 tags for ",
        "made site.key.json",
    ] {
        assert!(said.stderr.contains(line), "{line:?} is not said\n{said}");
    }
    let server = PlainServer::start(&place.path().join("site"));
    let authority = server.authority();
    let pulls: [&dyn Client; 3] = [Dockerd::shared(), Podman::shared(), &Skopeo];
    for (reference, greeting) in
        [(format!("{authority}/app:1"), "single\n"), (format!("{authority}/org/team/index:2.0"), "index\n")]
    {
        for client in pulls {
            client.pull(&reference).unwrap_or_else(|failure| panic!("{}: {failure}", client.name()));
            if let Some(engine) = client.engine() {
                assert_eq!(engine.run(&reference).unwrap(), greeting, "{}", client.name());
            }
            client.forget(&reference).unwrap();
            let (repository, tag) = reference.rsplit_once(':').unwrap();
            let path = place.path().join(format!("site/v2/{}/manifests", repository.split_once('/').unwrap().1));
            let mut names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let digest = names.find(|name| name != tag).unwrap();
            let pulled = client.pull_by_digest(repository, &digest);
            pulled.unwrap_or_else(|failure| panic!("{} by digest: {failure}", client.name()));
            client.forget(&format!("{repository}@{digest}")).unwrap();
        }
        // What is said of the others is true.
        let refuse: [&dyn Client; 3] = [Containerd::shared(), &Crane, &Oras];
        for client in refuse {
            assert!(client.pull(&reference).is_err(), "{} pulls {reference} after all", client.name());
        }
    }
}

#[test]
fn crane_pulls_images_of_one_platform_as_they_are() {
    let (place, single) = filled();
    let server = PlainServer::start(&place.tree());
    let pulled = Crane.pull(&format!("{}/app:1", server.authority())).unwrap();
    assert!(pulled.digests.contains(&single.digest().to_string()), "{pulled:?}");
    let others: [&dyn Client; 4] = [Dockerd::shared(), Containerd::shared(), Podman::shared(), &Oras];
    for client in others {
        assert!(client.pull(&format!("{}/app:1", server.authority())).is_err(), "{} pulls", client.name());
    }
    assert!(Crane.pull(&format!("{}/org/team/index:2.0", server.authority())).is_err());
}

/// The last registry that knows schema 1 verifies signatures as libtrust does before it takes a manifest.
#[test]
fn a_registry_takes_the_signature() {
    let (place, _) = filled();
    place.run(&SITE).ok();
    let server = PlainServer::start(&place.path().join("site"));
    let registry = Generation::V2.registry().start();
    for name in ["app:1", "org/team/index:2.0"] {
        let (from, to) =
            (format!("tree:{}//{name}", server.url()), format!("docker://{}/{name}", registry.authority()));
        place.run(&["copy", &from, &to]).ok();
        let reference = format!("{}/{name}", registry.authority());
        Skopeo.pull(&reference).unwrap();
    }
    // And it does verify: one digit more in the signed part, and it refuses.
    let path = place.path().join("site/v2/app/manifests/1");
    let manifest = fs::read_to_string(&path).unwrap().replacen("\"tag\": \"1\"", "\"tag\": \"2\"", 1);
    let file = place.path().join("changed");
    fs::write(&file, manifest).unwrap();
    let put = Invocation::new(part::installed("curl")).args(["-s", "-w", "%{http_code}", "-X", "PUT"]);
    let put =
        put.args(["-H", "Content-Type: application/vnd.docker.distribution.manifest.v1+prettyjws", "--data-binary"]);
    let put = put.arg(format!("@{}", file.display())).arg(format!("{}/v2/app/manifests/2", registry.url()));
    let said = put.run().unwrap().stdout;
    assert!(said.contains("MANIFEST_UNVERIFIED") && said.ends_with("400"), "{said}");
}

#[test]
fn the_same_key_makes_the_same_site() {
    let (place, _) = filled();
    place.run(&SITE).ok();
    let site = place.path().join("site");
    let first = files(&site);
    assert!(first.contains_key(".nojekyll") && first.contains_key("404.html"), "{:?}", first.keys());
    assert!(first.keys().all(|name| name.starts_with("v2/") || !name.contains('/')), "{:?}", first.keys());
    let again = place.run(&SITE).ok();
    assert!(again.stderr.contains(" 0 files written, ") && again.stderr.contains(", 0 removed"), "{again}");
    assert_eq!(files(&site), first);
    let elsewhere = [&SITE[..5], &["copy", "--signing-key", "site.key.json"]].concat();
    place.run(&elsewhere).ok();
    assert_eq!(files(&place.path().join("copy")), first);
    // Another key signs other bytes of the same digest, since that is the payload's.
    place.run(&[&SITE[..5], &["other"]].concat()).ok();
    let other = files(&place.path().join("other"));
    assert_eq!(other.keys().collect::<Vec<_>>(), first.keys().collect::<Vec<_>>());
    assert_ne!(other["v2/app/manifests/1"], first["v2/app/manifests/1"]);
    let key = fs::metadata(place.path().join("site.key.json")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
    // What the tree loses, the site loses.
    place.run(&["remove", "-q", "app:1"]).ok();
    place.run(&SITE).ok();
    let left = files(&site);
    assert!(left.keys().all(|name| !name.starts_with("v2/app/")), "{:?}", left.keys());
    assert_eq!(left["v2/_catalog"], br#"{"repositories":["org/team/index"]}"#);
}

#[test]
fn nothing_is_written_that_has_no_place() {
    let (place, _) = filled();
    fs::create_dir(place.path().join("mine")).unwrap();
    fs::write(place.path().join("mine/file"), "mine").unwrap();
    let foreign = place.run(&[&SITE[..5], &["mine"]].concat());
    assert_eq!((foreign.code(), files(&place.path().join("mine")).len()), (8, 1), "{foreign}");
    assert!(foreign.stderr.contains("mine is not empty, and was not made by roadstead"), "{foreign}");
    assert!(!place.path().join("mine.key.json").exists(), "a key of no site");
    for (arguments, code, text) in [
        (&["config", "github-pages", "--flavour", "schema1"][..], 2, "-o FOLDER"),
        (&["config", "nginx", "--flavour", "schema1", "-o", "x"], 1, "nginx sends the right headers"),
        (&["config", "ipfs", "--platform", "linux/amd64"], 2, "--flavour"),
        (&["config", "github-pages", "--name-prefix", "a"], 1, "can't take"),
        (&["--tree", "none", "config", "ipfs", "--flavour", "schema1", "-o", "x"], 3, "no registry tree"),
        (&["serve", "--upstream", "ftp://x"], 2, "http"),
        (&["serve", "--upstream", "https://user:secret@x"], 2, "credentials"),
    ] {
        let ran = place.run(arguments);
        assert_eq!(ran.code(), code, "{ran}");
        assert!(ran.stderr.contains(text) && !ran.stderr.contains("secret"), "{ran}");
    }
    fs::write(place.path().join("bad.json"), "{}").unwrap();
    let bad = place.run(&[&SITE[..], &["--signing-key", "bad.json"]].concat());
    assert!(bad.code() == 1 && bad.stderr.contains("bad.json can't be used"), "{bad}");

    let source = MemorySource::new();
    let large = ImageBuilder::new().uncompressed().layer(Layer::new().file("large", vec![0; 101 << 20], 0o644)).build();
    source.add("large:1", &large);
    let big = Place::new();
    write_tree(&big.tree(), &source);
    let refused = big.run(&SITE);
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains("github-pages takes files of 105 MB at most"), "{refused}");
    assert!(!big.path().join("site").exists() && !big.path().join("site.key.json").exists());
    big.run(&["config", "ipfs", "--flavour", "schema1", "-o", "site"]).ok();
}

#[test]
fn what_a_host_needs_is_written_once() {
    let (place, _) = filled();
    for (host, file, others) in [
        ("github-pages", ".github/workflows/registry.yml", &[".nojekyll", "404.html"][..]),
        ("gitlab-pages", ".gitlab-ci.yml", &["public/404.html"]),
    ] {
        place.run(&["config", host, "-o", host]).ok();
        let written = files(&place.path().join(host));
        assert!(written.contains_key(file), "{:?}", written.keys());
        assert!(others.iter().all(|other| written.contains_key(*other)), "{:?}", written.keys());
        assert_eq!(place.run(&["config", host, "-o", host]).code(), 1, "{host}: replaced");
        // One looks into the tree for what is to be redirected, the other nowhere.
        let tree: &[&str] = if host == "github-pages" { &["--tree", "s3://bucket"] } else { &[] };
        let printed = place.run(&[tree, &["config", host]].concat()).ok();
        assert_eq!(printed.text().trim_end().as_bytes(), written[file].trim_ascii_end(), "{host}");
    }
}

/// A gateway of IPFS in the place of a host: what lies in it pulls through `serve --upstream`, with every client.
#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn every_client_pulls_from_ipfs_through_serve() {
    let (place, _) = filled();
    let site = Folder::new();
    let copy = Invocation::new(part::installed("cp")).args(["-R", "-L"]).arg(place.tree().join("v2"));
    copy.arg(site.path()).run().unwrap();
    let kubo = Kubo::start();
    let url = kubo.url(&kubo.add(site.path()));
    let (_serve, authority) = place.serve_upstream(&url);
    for (reference, greeting) in
        [(format!("{authority}/app:1"), "single\n"), (format!("{authority}/org/team/index:2.0"), "index\n")]
    {
        for client in clients() {
            client.pull(&reference).unwrap_or_else(|failure| panic!("{}: {failure}", client.name()));
            if let Some(engine) = client.engine() {
                assert_eq!(engine.run(&reference).unwrap(), greeting, "{}", client.name());
            }
            client.forget(&reference).unwrap();
        }
    }
}

/// Blobs stream, whatever their size and however many want them.
#[test]
fn memory_does_not_grow_with_what_passes() {
    const LAYER: usize = 100 << 20;
    const LIMIT: u64 = 64 << 20;
    let image = ImageBuilder::new().blob("application/vnd.oci.image.layer.v1.tar", vec![1; LAYER]).build();
    let place = Place::new();
    let source = MemorySource::new();
    source.add("app:1", &image);
    write_tree(&place.tree(), &source);
    let (server, port) = (PlainServer::start(&place.tree()), Port::free());
    let listen = port.address().to_string();
    let mut serve = place.command(&["serve", "--upstream", &server.url(), "--listen", &listen]);
    let mut child = serve.spawn().unwrap();
    assert!(wait_until(Duration::from_secs(60), || port.answers()));
    let digest = image.manifest.layers()[0].digest;
    let request = format!("GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(port.address()).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                let came = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
                assert!(came > LAYER as u64, "{came} bytes");
            });
        }
    });
    let peak = peak_memory(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(peak.is_some_and(|peak| (1..=LIMIT).contains(&peak)), "{peak:?} bytes, {LIMIT} at most");
}

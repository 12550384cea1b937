//! Trees in buckets: every command over a real server, and real clients pulling from `serve` over it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use roadstead::http::{Client as HttpClient, ClientOptions};
use roadstead::store::bucket::{BucketOptions, Keys};
use roadstead::store::{BucketStore, Condition, Headers, Store as _};
use roadstead::testing::{ImageBuilder, IndexBuilder, Layer, MemorySource, noise};
use roadstead_parts::{
    Azurite, BucketServer, Buckets, Client, Crane, FakeGcs, Folder, Generation, Invocation, Isolation, Port, Served,
    Skopeo,
};

use crate::published::lines_of_the_page;
use crate::support::{Place, Ran, push, request, write_tree};

const TREE: &str = "s3://images/tree";

/// A registry with images, a bucket, and a place to work in.
struct Scene<B = Buckets> {
    place: Place,
    buckets: B,
    tree: &'static str,
    /// What says where the service is and who asks.
    variables: Vec<(&'static str, String)>,
    registry: String,
    _registry: (Place, Served),
}

impl Scene {
    fn new(server: BucketServer) -> Self {
        let buckets = server.start(&["images"]);
        let variables = vec![
            ("AWS_ENDPOINT_URL", buckets.url()),
            ("AWS_ACCESS_KEY_ID", Buckets::ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", Buckets::SECRET.to_owned()),
        ];
        Self::around(buckets, TREE, variables)
    }
}

impl<B> Scene<B> {
    fn around(buckets: B, tree: &'static str, variables: Vec<(&'static str, String)>) -> Self {
        let image = |platform: &'static str| ImageBuilder::new().platform(platform).layer(platform).build();
        let index = ["linux/amd64", "linux/arm64"].map(image);
        let index = index.into_iter().fold(IndexBuilder::new(), IndexBuilder::image).build();
        let source = MemorySource::new();
        source.add("base:1", &index);
        source.add("org/tool:1", &ImageBuilder::new().layer("shared").layer("one").greeting("ahoy").build());
        source.add("org/tool:2", &ImageBuilder::new().layer("shared").layer("two").build());
        let registry = Place::new();
        write_tree(&registry.tree(), &source);
        let (served, authority) = registry.serve(&registry.tree());
        Self { place: Place::new(), buckets, tree, variables, registry: authority, _registry: (registry, served) }
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = self.place.command(arguments);
        command.env("ROADSTEAD_TREE", self.tree).envs(self.variables.iter().cloned());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let arguments: Vec<_> = arguments.iter().map(|word| word.replace("REGISTRY", &self.registry)).collect();
        Ran::of(&mut self.command(&arguments))
    }
}

fn every_command<B>(scene: &Scene<B>) {
    let absent = scene.run(&["list"]);
    assert_eq!(absent.code(), 3, "{absent}");
    assert!(absent.stderr.contains(&format!("there is no registry tree at {}", scene.tree)), "{absent}");

    let add = ["add", "-q", "REGISTRY/base:1", "REGISTRY/org/tool:1", "REGISTRY/org/tool:2"];
    let added = scene.run(&add).ok();
    assert_eq!(added.text().lines().count(), 3, "{added}");
    let again = scene.run(&[&["--format=json"], &add[..]].concat()).ok();
    assert_eq!(again.text().matches("\"changed\": false").count(), 3, "{again}");
    let elsewhere = scene.run(&["add", "-q", "REGISTRY/org/tool:1", "-t", "copy/of:1"]).ok();
    assert!(elsewhere.text().starts_with("copy/of:1@sha256:"), "{elsewhere}");

    let listed = scene.run(&["list", "--flat"]).ok();
    assert_eq!(listed.text(), "base:1\ncopy/of:1\norg/tool:1\norg/tool:2\n", "{listed}");
    let inspected = scene.run(&["inspect", "base:1"]).ok();
    assert!(inspected.text().contains("linux/arm64"), "{inspected}");

    let port = Port::free();
    let authority = port.address().to_string();
    let serve =
        Invocation::new(env!("CARGO_BIN_EXE_roadstead")).args(["--tree", scene.tree, "serve", "--listen", &authority]);
    let serve = scene.variables.iter().fold(serve, |serve, (name, value)| serve.env(name, value));
    let served = Served::start(&serve, Isolation::None, Folder::new(), || port.answers());
    for client in [&Crane as &dyn Client, &Skopeo] {
        for image in ["base:1", "org/tool:1", "copy/of:1"] {
            client
                .pull(&format!("{authority}/{image}"))
                .unwrap_or_else(|failure| panic!("{}: {failure}", client.name()));
        }
    }
    drop(served);

    // Google has no requests that are refused when they come too late.
    if !scene.tree.starts_with("gs://") {
        scene.run(&["remove", "org/tool:1"]).ok();
    } else {
        let refused = scene.run(&["remove", "org/tool:1"]);
        assert_eq!(refused.code(), 8, "{refused}");
        assert!(refused.stderr.contains(scene.tree) && refused.stderr.contains("--exclusive"), "{refused}");
        scene.run(&["remove", "--exclusive", "org/tool:1"]).ok();
    }
    let listed = scene.run(&["list", "--flat"]).ok();
    assert_eq!(listed.text(), "base:1\ncopy/of:1\norg/tool:2\n", "{listed}");
    pushes(scene);
}

/// A server takes pushes into the bucket, moves what is there already within it, and deletes, where that can be done
/// beside others.
fn pushes<B>(scene: &Scene<B>) {
    let port = Port::free();
    let authority = port.address().to_string();
    let state = scene.place.path().join("state");
    let serve = ["serve", "--push", "--anonymous-push", "--allow-delete", "--listen", &authority, "--state"];
    let serve = Invocation::new(env!("CARGO_BIN_EXE_roadstead")).args(["--tree", scene.tree]).args(serve).arg(state);
    let serve = scene.variables.iter().fold(serve, |serve, (name, value)| serve.env(name, value));
    let served = Served::start(&serve, Isolation::None, Folder::new(), || port.answers());
    // More than one part, and more than is sent again without a look.
    let content = noise(9, 20 << 20);
    let image = ImageBuilder::new().layer(Layer::new().file("noise", content, 0o644)).build();
    for name in ["pushed/one", "pushed/two", "pushed/one"] {
        push(&authority, name, "1", &image).unwrap();
    }
    let layer = image.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0;
    let mount = format!("/v2/pushed/three/blobs/uploads/?mount={layer}&from=pushed/one");
    request(&authority, "POST", &mount, "", b"").unwrap().expect(201).unwrap();
    for client in [&Crane as &dyn Client, &Skopeo] {
        for name in ["pushed/one:1", "pushed/two:1"] {
            let pulled = client.pull(&format!("{authority}/{name}"));
            pulled.unwrap_or_else(|failure| panic!("{}: {failure}", client.name()));
        }
    }
    for (path, kind) in [("pushed/two/manifests/1".to_owned(), "tag"), (format!("pushed/three/blobs/{layer}"), "blob")]
    {
        let deleted = request(&authority, "DELETE", &format!("/v2/{path}"), "", b"").unwrap();
        // Google has no requests that are refused when they come too late.
        let expected = if scene.tree.starts_with("gs://") { 405 } else { 202 };
        let deleted = deleted.expect(expected).unwrap_or_else(|refused| panic!("{kind}: {refused}"));
        assert_eq!(expected == 405, deleted.body.contains("--exclusive"), "{kind}: {}", deleted.body);
    }
    drop(served);
    scene.run(&["verify"]).ok();
}

/// The lines about a service of the page about publishing, as they stand there but for the names of places.
fn the_page<B>(scene: &Scene<B>, scheme: &str, at: &str) {
    let blocks = lines_of_the_page(|lines| lines.contains(scheme));
    assert_eq!(blocks.len(), 1, "{blocks:#?}");
    let name = at.split('/').nth(2).unwrap();
    let lines = blocks[0].replace("images --account acme", "images").replace(&format!("{scheme}images"), at);
    let script = lines.replace(&format!("{scheme}my-{name}"), at);
    assert!(!script.contains("acme") && script.matches(at).count() == 3, "{script}");
    let program = Path::new(env!("CARGO_BIN_EXE_roadstead")).parent().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &script]).current_dir(scene.place.path()).env_clear().envs(scene.variables.iter().cloned());
    shell.env("PATH", format!("{}:/usr/bin:/bin", program.display())).env("HOME", scene.place.path());
    let ran = Ran::of(&mut shell).ok();
    assert!(ran.text().ends_with("org/large:1\norg/tool:1\norg/tool:2\n"), "{ran}");
}

/// A tree in a folder, published where a scene's is or beside it: what is the same is seen to be by the service's sums.
fn publish<B>(scene: &Scene<B>, at: &str) {
    // More than a part, so that it is sent in several.
    let large = Layer::new().file("noise", noise(7, 20 << 20), 0o644);
    let source = MemorySource::new();
    source.add("org/large:1", &ImageBuilder::new().layer("shared").layer(large).build());
    source.add("org/tool:1", &ImageBuilder::new().layer("shared").layer("one").build());
    source.add("org/tool:2", &ImageBuilder::new().layer("shared").layer("two").build());
    let tree = scene.place.tree();
    write_tree(&tree, &source);
    let publish = |more: &[&str]| scene.run(&[&["--tree", tree.to_str().unwrap(), "publish", at], more].concat());
    let scheme = &at[..5];
    the_page(scene, scheme, &format!("{scheme}images/page"));
    let planned = publish(&["--dry-run"]).ok();
    assert!(planned.text().contains("tag org/tool:1 sha256:"), "{planned}");
    publish(&[]).ok();
    for more in [&[] as &[&str], &["--checksum"]] {
        let again = publish(more).ok();
        assert!(again.stderr.contains("nothing has changed"), "{more:?}: {again}");
    }
    scene.run(&["diff", tree.to_str().unwrap(), at]).ok();
    scene.run(&["--tree", at, "verify"]).ok();

    scene.run(&["--tree", tree.to_str().unwrap(), "tag", "org/tool:2", "org/tool:1"]).ok();
    scene.run(&["--tree", tree.to_str().unwrap(), "remove", "org/tool:2"]).ok();
    publish(&["--delete", "--exclusive"]).ok();
    let listed = scene.run(&["--tree", at, "list", "--flat"]).ok();
    assert_eq!(listed.text(), "org/large:1\norg/tool:1\n", "{listed}");
    scene.run(&["--tree", at, "verify"]).ok();
}

#[test]
fn every_command_over_versitygw() {
    every_command(&Scene::new(BucketServer::Versitygw));
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn every_command_over_minio() {
    every_command(&Scene::new(BucketServer::Minio));
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn every_command_over_azurite() {
    let azurite = Azurite::start(&["images"]);
    let variables = vec![
        ("AZURE_STORAGE_SERVICE_ENDPOINT", azurite.url()),
        ("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT.to_owned()),
        ("AZURE_STORAGE_KEY", Azurite::KEY.to_owned()),
    ];
    let connection = format!("BlobEndpoint={};SharedAccessSignature={}", azurite.url(), Azurite::SIGNATURE);
    let scene = Scene::around(azurite, "az://images/tree", variables);
    every_command(&scene);
    scene.run(&["verify"]).ok();
    scene.run(&["prune"]).ok();
    publish(&scene, "az://images/published");
    scene.run(&["copy", "-q", "tree:base:1", "tree:az://images/other//copied:2"]).ok();

    // Whoever has a signature and no key.
    let list = ["--tree", "az://images/other", "list", "--flat"];
    let listed = Ran::of(scene.place.command(&list).env("AZURE_STORAGE_CONNECTION_STRING", &connection)).ok();
    assert_eq!(listed.text(), "copied:2\n", "{listed}");
    let mut wrong = scene.command(&["list"]);
    let wrong = Ran::of(wrong.env("AZURE_STORAGE_KEY", "YW5vdGhlci1zZWNyZXQ="));
    assert_eq!(wrong.code(), 8, "{wrong}");
    assert!(wrong.stderr.contains("the account's key or signature is wrong"), "{wrong}");
    assert!(!wrong.stderr.contains("YW5vdGhlci1zZWNyZXQ"), "{wrong}");

    // Another account's key is shown to nobody: there is nothing that says who asks.
    let mut other = scene.command(&["--account", "another", "--no-sign-request", "--region", "x", "list"]);
    let other = Ran::of(&mut other);
    assert!(other.stderr.contains("--region, --profile and --request-payer are for s3://"), "{other}");
    let nowhere = Ran::of(&mut scene.place.command(&["--tree", "az://images", "list"]));
    assert!(nowhere.stderr.contains("name the account"), "{nowhere}");
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn every_command_over_fake_gcs() {
    let server = FakeGcs::start(&["images"]);
    let variables = vec![("STORAGE_EMULATOR_HOST", server.url())];
    let scene = Scene::around(server, "gs://images/tree", variables);
    every_command(&scene);
    scene.run(&["verify"]).ok();
    scene.run(&["prune", "--exclusive"]).ok();
    publish(&scene, "gs://images/published");
    scene.run(&["copy", "-q", "tree:base:1", "tree:gs://images/other//copied:2"]).ok();
    let listed = scene.run(&["--tree", "gs://images/other", "list", "--flat"]).ok();
    assert_eq!(listed.text(), "copied:2\n", "{listed}");

    let nowhere = scene.run(&["--tree", "gs://no-such-bucket", "add", "-q", "REGISTRY/base:1"]);
    assert_eq!(nowhere.code(), 8, "{nowhere}");
    assert!(nowhere.stderr.contains("gs://no-such-bucket"), "{nowhere}");
    let region = scene.run(&["--region", "x", "list"]);
    assert!(region.stderr.contains("--region, --profile, --request-payer and --account are not for"), "{region}");
    let acl = scene.run(&["--acl", "public-read", "list"]);
    assert!(acl.stderr.contains("an ACL can't be said of each object here"), "{acl}");

    // Whoever has a file that is no use is told which, and is not taken for nobody in particular.
    let mut wrong = scene.place.command(&["--tree", "gs://images/tree", "list"]);
    let wrong = Ran::of(wrong.env("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/key.json"));
    assert_eq!(wrong.code(), 8, "{wrong}");
    assert!(wrong.stderr.contains("/nonexistent/key.json") && wrong.stderr.contains("gcloud auth"), "{wrong}");
}

#[test]
fn profiles_and_refusals() {
    let scene = Scene::new(BucketServer::Versitygw);
    let settings = format!("[profile test]\nendpoint_url = {}\nregion = us-east-1\n", scene.buckets.url());
    let keys = format!("[test]\naws_access_key_id = {}\naws_secret_access_key = {}\n", Buckets::ID, Buckets::SECRET);
    std::fs::create_dir(scene.place.path().join(".aws")).unwrap();
    std::fs::write(scene.place.path().join(".aws/config"), settings).unwrap();
    std::fs::write(scene.place.path().join(".aws/credentials"), keys).unwrap();
    let image = format!("{}/org/tool:1", scene.registry);
    scene.place.run(&["--tree", TREE, "--profile", "test", "add", "-q", &image]).ok();

    // Who has no keys at all is told so, and a machine outside of every cloud isn't waited for.
    let mut nobody = scene.place.command(&["--tree", TREE, "--endpoint-url", &scene.buckets.url(), "list"]);
    let nobody = Ran::of(nobody.env("HOME", "/nonexistent").env("AWS_EC2_METADATA_DISABLED", "true"));
    assert_eq!(nobody.code(), 8, "{nobody}");
    assert!(nobody.stderr.contains("there are no usable credentials"), "{nobody}");
    assert!(nobody.stderr.contains("--no-sign-request"), "{nobody}");

    let mut wrong = scene.command(&["list"]);
    let wrong = Ran::of(wrong.env("AWS_SECRET_ACCESS_KEY", "a-wrong-secret"));
    assert_eq!(wrong.code(), 8, "{wrong}");
    assert!(wrong.stderr.contains("s3://images/tree/.roadstead/format"), "{wrong}");
    assert!(wrong.stderr.contains("SignatureDoesNotMatch") && !wrong.stderr.contains("a-wrong-secret"), "{wrong}");

    let nowhere = scene.run(&["--tree", "s3://no-such-bucket", "add", "-q", &image]);
    assert_eq!(nowhere.code(), 8, "{nowhere}");
    assert!(nowhere.stderr.contains("s3://no-such-bucket"), "{nowhere}");
    assert_eq!(scene.run(&["--tree", "gs://", "list"]).code(), 2);
    assert_eq!(scene.run(&["config", "nginx"]).code(), 2, "a bucket is no folder");
}

/// Puts every file below a folder into a bucket, under its path.
fn upload(buckets: &Buckets, at: &str, root: &Path) {
    let keys = Keys { id: Buckets::ID.to_owned(), secret: Buckets::SECRET.into(), token: None };
    let options =
        BucketOptions { endpoint: Some(buckets.url()), credentials: Some(Arc::new(keys)), ..BucketOptions::default() };
    let client = HttpClient::new(ClientOptions::default()).unwrap();
    let store = BucketStore::open(at.parse().unwrap(), client, options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let key = path.strip_prefix(root).unwrap().to_str().unwrap().parse().unwrap();
            let bytes = std::fs::read(&path).unwrap().into();
            let headers = Headers::default();
            let _ = runtime.block_on(store.put(&key, bytes, &headers, Condition::Always)).unwrap();
        }
    }
}

#[test]
fn from_buckets_to_buckets() {
    let scene = Scene::new(BucketServer::Versitygw);
    let registry = Generation::V3.registry().start();
    let image = ImageBuilder::new().layer("kept by distribution").build();
    push(&registry.authority(), "kept/app", "1", &image).unwrap();
    upload(&scene.buckets, "s3://images/storage", registry.data());
    let added = scene.run(&["add", "-q", "distribution:s3://images/storage//kept/app:1"]).ok();
    assert_eq!(added.text(), format!("kept/app:1@{}\n", image.digest()), "{added}");
    scene.run(&["copy", "-q", "tree:kept/app:1", "tree:s3://images/other//copied:2"]).ok();
    let listed = scene.run(&["--tree", "s3://images/other", "list", "--flat"]).ok();
    assert_eq!(listed.text(), "copied:2\n", "{listed}");
}

//! Publishing into buckets: real servers, real clients, kills at any moment, and the page about it as it stands.

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use roadstead::http::{Client as HttpClient, ClientOptions};
use roadstead::store::BucketStore;
use roadstead::store::bucket::{BucketOptions, Keys};
use roadstead::testing::{Image, ImageBuilder, IndexBuilder, Layer, MemorySource, noise};
use roadstead_parts::{
    BucketServer, Buckets, Client, Crane, Folder, Invocation, Isolation, Port, Served, Skopeo, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Place, Ran, wait, write_tree};

pub(crate) const BUCKET: &str = "s3://images/tree";

/// A tree, and a bucket.
pub(crate) struct Scene {
    pub(crate) place: Place,
    pub(crate) buckets: Buckets,
}

pub(crate) fn image(text: &str) -> Image {
    ImageBuilder::new().layer("shared").layer(text.to_owned()).build()
}

impl Scene {
    pub(crate) fn new(server: BucketServer, images: &[(&str, &Image)]) -> Self {
        let place = Place::new();
        let source = MemorySource::new();
        images.iter().for_each(|(name, image)| source.add(name, image));
        write_tree(&place.tree(), &source);
        Self { place, buckets: server.start(&["images"]) }
    }

    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = self.place.command(arguments);
        command.env("AWS_ENDPOINT_URL", self.buckets.url());
        command.env("AWS_ACCESS_KEY_ID", Buckets::ID).env("AWS_SECRET_ACCESS_KEY", Buckets::SECRET);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// The bucket as the library has it.
    pub(crate) fn store(&self) -> BucketStore {
        let keys = Keys { id: Buckets::ID.to_owned(), secret: Buckets::SECRET.into(), token: None };
        let options = BucketOptions {
            endpoint: Some(self.buckets.url()),
            credentials: Some(Arc::new(keys)),
            ..BucketOptions::default()
        };
        let client = HttpClient::new(ClientOptions::default()).unwrap();
        BucketStore::open(BUCKET.parse().unwrap(), client, options).unwrap()
    }

    /// `serve` over the bucket.
    fn serve(&self) -> (Served, String) {
        let port = Port::free();
        let authority = port.address().to_string();
        let serve = Invocation::new(env!("CARGO_BIN_EXE_roadstead"))
            .args(["--tree", BUCKET, "--endpoint-url", &self.buckets.url(), "serve", "--listen", &authority])
            .env("AWS_ACCESS_KEY_ID", Buckets::ID)
            .env("AWS_SECRET_ACCESS_KEY", Buckets::SECRET);
        (Served::start(&serve, Isolation::None, Folder::new(), || port.answers()), authority)
    }
}

fn published_and_pulled(server: BucketServer) {
    let platform = |platform: &'static str| ImageBuilder::new().platform(platform).layer(platform).build();
    let index = ["linux/amd64", "linux/arm64"].map(platform);
    let index = index.into_iter().fold(IndexBuilder::new(), IndexBuilder::image).build();
    // More than a part, so that it is sent in several.
    let large = Layer::new().file("noise", noise(7, 20 << 20), 0o644);
    let large = ImageBuilder::new().layer("shared").layer(large).build();
    let scene = Scene::new(server, &[("base:1", &index), ("org/tool:1", &image("one")), ("org/large:1", &large)]);
    let planned = scene.run(&["publish", BUCKET, "--dry-run"]).ok();
    assert!(planned.text().contains(&format!("tag org/tool:1 {}", image("one").digest())), "{planned}");
    assert_eq!(scene.run(&["--tree", BUCKET, "list"]).code(), 3, "a dry run writes nothing");
    scene.run(&["publish", BUCKET]).ok();
    let before = scene.buckets.calls().len();
    let again = scene.run(&["publish", BUCKET]).ok();
    assert!(again.stderr.contains("nothing has changed"), "{again}");
    if server == BucketServer::Versitygw {
        // The format; and the names, and the records of what is left out.
        let calls: Vec<String> = scene.buckets.calls().split_off(before).into_iter().map(|(call, _)| call).collect();
        assert_eq!(calls, ["GetObject", "ListObjectsV2", "ListObjectsV2"]);
    }
    scene.run(&["diff", "registry", BUCKET]).ok();
    scene.run(&["--tree", BUCKET, "verify"]).ok();

    let (served, authority) = scene.serve();
    for client in [&Crane as &dyn Client, &Skopeo] {
        for image in ["base:1", "org/tool:1", "org/large:1"] {
            let pulled = client.pull(&format!("{authority}/{image}"));
            pulled.unwrap_or_else(|failure| panic!("{}: {failure}", client.name()));
        }
    }
    let url = format!("http://{authority}");
    let nothing = scene.run(&["publish", BUCKET, "--check", &url]).ok();
    assert!(nothing.stderr.contains("no tag changed"), "{nothing}");
    scene.run(&["tag", "base:1", "base:2"]).ok();
    let checked = scene.run(&["publish", BUCKET, "--check", &url]).ok();
    assert!(
        checked.stderr.contains(&format!("pulled through {url}/: 1 tag")) || checked.stderr.contains("1 tag"),
        "{checked}"
    );
    drop(served);
    scene.run(&["tag", "base:1", "base:3"]).ok();
    let unreachable = scene.run(&["publish", BUCKET, "--check", &url]);
    assert_eq!(unreachable.code(), 6, "{unreachable}");

    scene.run(&["remove", "org/tool:1"]).ok();
    scene.run(&["publish", BUCKET, "--delete", "--repository", "org/tool"]).ok();
    let listed = scene.run(&["--tree", BUCKET, "list", "--flat"]).ok();
    assert_eq!(listed.text(), "base:1\nbase:2\nbase:3\norg/large:1\n");
}

#[test]
fn published_and_pulled_from_versitygw() {
    published_and_pulled(BucketServer::Versitygw);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn published_and_pulled_from_minio() {
    published_and_pulled(BucketServer::Minio);
}

/// What is private doesn't get into a bucket, and goes from one on request.
#[test]
fn a_bucket_gets_nothing_that_is_private() {
    let (one, two) = (image("one"), image("two"));
    let scene = Scene::new(BucketServer::Versitygw, &[("base:1", &one), ("secret/app:1", &two)]);
    scene.run(&["private", "secret/**"]).ok();
    for more in [&[][..], &["--dry-run"], &["--delete"], &["--repository", "secret/app"]] {
        let refused = scene.run(&[&["publish", BUCKET], more].concat());
        assert_eq!(refused.code(), 1, "{refused}");
        assert!(refused.stderr.contains("secret/app, by .roadstead/private"), "{refused}");
        assert!(refused.stderr.contains("s3://images/tree would show them to anybody"), "{refused}");
    }
    assert_eq!(scene.run(&["--tree", BUCKET, "list"]).code(), 3, "something was written");

    let listed = || scene.run(&["--tree", BUCKET, "list", "--flat"]).ok().text().to_owned();
    scene.run(&["publish", BUCKET, "--without-private"]).ok();
    assert_eq!(listed(), "base:1\n");
    let keys = |text: &str| scene.buckets.calls().iter().filter(|(_, key)| key.contains(text)).count();
    assert!(keys("base") > 0 && keys("secret") == 0, "{:?}", scene.buckets.calls());
    let (served, authority) = scene.serve();
    Crane.pull(&format!("{authority}/base:1")).unwrap();
    assert!(Crane.pull(&format!("{authority}/secret/app:1")).is_err());
    drop(served);

    scene.run(&["publish", BUCKET, "--authenticated"]).ok();
    assert_eq!(listed(), "base:1\nsecret/app:1\n");
    // What the destination has and the tree doesn't show stays, unless that is said.
    scene.run(&["publish", BUCKET, "--without-private"]).ok();
    assert_eq!(listed(), "base:1\nsecret/app:1\n");
    let away = ["publish", BUCKET, "--without-private", "--delete", "--repository", "secret/**", "--exclusive"];
    scene.run(&away).ok();
    assert_eq!(listed(), "base:1\n");
}

/// Killed after so many calls, as the server's log counts them, and then once more.
#[test]
fn a_publication_that_is_killed_leaves_a_registry_and_goes_on() {
    let images: Vec<(String, Image)> = (0..8).map(|n| (format!("app{}:{n}", n % 3), image(&n.to_string()))).collect();
    let images: Vec<(&str, &Image)> = images.iter().map(|(name, image)| (name.as_str(), image)).collect();
    let scene = Scene::new(BucketServer::Versitygw, &images);
    let mut killed = 0;
    for calls in [3, 9, 17, 24, 31, 38, 45, 52] {
        let before = scene.buckets.calls().len();
        let mut command = scene.command(&["publish", BUCKET, "--jobs", "2"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let is_far_enough = || scene.buckets.calls().len() >= before + calls || child.try_wait().unwrap().is_some();
        assert!(wait_until(Duration::from_secs(60), is_far_enough));
        // It may have come to its end before.
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        killed += i32::from(!wait(&mut child).success());
        let verified = scene.run(&["--tree", BUCKET, "verify", "--repair"]);
        // There may be no tree yet; what a kill may leave behind are lists that lag.
        assert!([0, 3].contains(&verified.code()), "after {calls} calls: {verified}");
    }
    assert!(killed > 2, "{killed} of the runs were killed before they were done");
    scene.run(&["publish", BUCKET]).ok();
    scene.run(&["diff", "registry", BUCKET]).ok();
    scene.run(&["--tree", BUCKET, "verify"]).ok();
    let again = scene.run(&["publish", BUCKET]).ok();
    assert!(again.stderr.contains("nothing has changed"), "{again}");
}

/// The lines of the page about some destinations, as they stand there.
pub(crate) fn lines_of_the_page(about: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let document = include_str!("../../../../docs/publish.md");
    let blocks = document.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.filter(|lines| about(lines)).collect()
}

/// The lines of the page, as they stand there but for the names of places. (Those about Azure and Google are run beside other
/// things that are done there.)
#[test]
fn the_page_as_it_stands() {
    let scene = Scene::new(BucketServer::Versitygw, &[("team/app:1", &image("one")), ("tools:1", &image("two"))]);
    let blocks = lines_of_the_page(|lines| !lines.contains("az://") && !lines.contains("gs://"));
    assert_eq!(blocks.len(), 10, "{blocks:#?}");
    let keys = format!("[mirror]\naws_access_key_id = {}\naws_secret_access_key = {}\n", Buckets::ID, Buckets::SECRET);
    fs::create_dir(scene.place.path().join(".aws")).unwrap();
    fs::write(scene.place.path().join(".aws/credentials"), keys).unwrap();
    let share = scene.place.path().join("share");
    let mut served = None;
    for lines in blocks {
        // The bucket has its tree from the first lines on.
        let authority = served.as_ref().map_or("", |(_, authority): &(Served, String)| authority.as_str());
        let script = lines
            .replace("s3://my-images", BUCKET)
            .replace("/mnt/share/registry", share.to_str().unwrap())
            .replace("https://images.example.com", &format!("http://{authority}"))
            .replace("https://minio.example.com", &scene.buckets.url());
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_roadstead")).parent().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", &script]).current_dir(scene.place.path()).env_clear();
        shell.env("PATH", format!("{}:/usr/bin:/bin", program.display())).env("HOME", scene.place.path());
        shell.env("AWS_ENDPOINT_URL", scene.buckets.url());
        shell.env("AWS_ACCESS_KEY_ID", Buckets::ID).env("AWS_SECRET_ACCESS_KEY", Buckets::SECRET);
        Ran::of(&mut shell).ok();
        if served.is_none() {
            served = Some(scene.serve());
            // So that there is something to be pulled later on.
            scene.run(&["tag", "tools:1", "tools:2"]).ok();
            let late = scene.run(&["publish", BUCKET, "--check", &format!("http://{}", served.as_ref().unwrap().1)]);
            assert!(late.ok().stderr.contains(": 1 tag"));
        }
    }
    scene.run(&["diff", "registry", share.to_str().unwrap()]).ok();
    scene.run(&["diff", "registry", BUCKET]).ok();
}

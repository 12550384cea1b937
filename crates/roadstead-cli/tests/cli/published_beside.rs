//! Publishing and removing beside others: they change the tree meanwhile, don't let go, or take somebody for dead.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use roadstead::store::{Condition, Headers, Store as _};
use roadstead::testing::{ImageBuilder, Layer, Seen, noise};
use roadstead_parts::BucketServer;

use crate::published::{BUCKET, Scene, image};
use crate::support::{Faulty, Ran, refusal};

fn scene() -> Scene {
    Scene::new(BucketServer::Versitygw, &[("app:1", &image("one")), ("org/tool:1", &image("two"))])
}

/// Runs a command by way of a service that fails.
fn through(scene: &Scene, faulty: &Faulty, arguments: &[&str]) -> Ran {
    Ran::of(scene.command(arguments).env("AWS_ENDPOINT_URL", faulty.url()))
}

/// A writer is at work in a repository and stays: it is waited for, and then it is said who that is.
#[test]
fn a_writer_who_stays_keeps_removers_out_and_is_named() {
    let scene = scene();
    scene.run(&["publish", BUCKET]).ok();
    let (store, sign) = (scene.store(), ".roadstead/writers/0123456789abcdef".parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let said = r#"{"repositories":["app"],"fenced":true,"turn":0}"#;
    let _ = runtime.block_on(store.put(&sign, said.into(), &Headers::default(), Condition::Always)).unwrap();
    scene.run(&["remove", "-q", "app:1"]).ok();
    // Nobody is at work in that repository.
    scene.run(&["--tree", BUCKET, "remove", "org/tool:1"]).ok();
    // Both wait at the same time.
    let commands: [&[&str]; 2] =
        [&["--tree", BUCKET, "remove", "app:1"], &["publish", BUCKET, "--delete", "--repository", "app"]];
    let running = commands.map(|words| {
        let mut command = scene.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let ended = running.map(|child| child.wait_with_output().unwrap());
    for ran in ended {
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(8), "{said}");
        assert!(said.contains("somebody else is writing to app, or removing something from it"), "{said}");
        assert!(said.contains("hint: run it again when that is done"), "{said}");
    }
    let listed = scene.run(&["--tree", BUCKET, "list", "--flat"]).ok();
    assert_eq!(listed.text(), "app:1\n", "nothing of it was removed");

    // Others may write meanwhile; when the sign is gone, removers may go on.
    scene.run(&["publish", BUCKET, "--repository", "org/tool"]).ok();
    assert!(runtime.block_on(store.delete(&sign)).unwrap());
    scene.run(&["publish", BUCKET, "--delete", "--repository", "app"]).ok();
    let listed = scene.run(&["--tree", BUCKET, "list", "--flat"]).ok();
    assert_eq!(listed.text(), "org/tool:1\n");
    scene.run(&["--tree", BUCKET, "verify"]).ok();
}

/// What comes to the bucket too late is refused, and the writer's lease is gone when it wants to renew it.
fn taken_for_dead(always: bool) -> impl Fn(&Seen) -> Option<roadstead::testing::Reply> + Send + Sync + 'static {
    let done = AtomicBool::new(false);
    move |seen: &Seen| {
        let renews = seen.path().contains("/.roadstead/writers/") && seen.headers.contains_key("if-match");
        let tags = seen.path().ends_with("/manifests/1") && seen.method == "PUT";
        match () {
            () if renews => Some(refusal(412, "PreconditionFailed")),
            () if tags && (always || !done.swap(true, Ordering::SeqCst)) => Some(refusal(403, "RequestTimeTooSkewed")),
            () => None,
        }
    }
}

#[test]
fn whoever_was_taken_for_dead_writes_nothing_more_and_begins_again() {
    let scene = scene();
    scene.run(&["publish", BUCKET, "--repository", "none"]);
    let once = Faulty::start(&scene.buckets, taken_for_dead(false));
    through(&scene, &once, &["publish", BUCKET]).ok();
    scene.run(&["diff", "registry", BUCKET]).ok();
    scene.run(&["--tree", BUCKET, "verify"]).ok();

    let elsewhere = "s3://images/elsewhere";
    let always = Faulty::start(&scene.buckets, taken_for_dead(true));
    let add = ["--tree", elsewhere, "add", "-q", "tree:registry//app:1"];
    for words in [&["publish", elsewhere][..], &add] {
        let ran = through(&scene, &always, words);
        assert_eq!(ran.code(), 8, "{ran}");
        assert!(ran.stderr.contains("another writer took this one for dead"), "{ran}");
        assert!(ran.stderr.contains("hint: run it again: what has come is not sent twice"), "{ran}");
        let listed = scene.run(&["--tree", elsewhere, "list", "--flat"]).ok();
        assert_eq!(listed.text(), "", "{ran}");
    }
    scene.run(&["publish", elsewhere]).ok();
    scene.run(&["diff", "registry", elsewhere]).ok();
    scene.run(&["--tree", elsewhere, "verify"]).ok();
}

/// Somebody changes the tree when the first layer is on its way: what comes to the bucket is whole at any moment, and the run ends
/// with what the tree holds then.
#[test]
fn a_tree_that_changes_meanwhile_is_published_as_it_is_in_the_end() {
    let large = |seed| ImageBuilder::new().layer(Layer::new().file("noise", noise(seed, 3 << 20), 0o644)).build();
    let (one, two) = (large(1), large(2));
    for change in ["remove org/tool:1", "remove --all-tags org/tool", "tag app:1 org/tool:1", "tag app:1 new/one:1"] {
        let scene = Scene::new(BucketServer::Versitygw, &[("app:1", &one), ("org/tool:1", &two)]);
        let tree = scene.place.tree();
        let done = AtomicBool::new(false);
        let faulty = Faulty::start(&scene.buckets, move |seen| {
            if seen.method == "PUT" && seen.path().contains("/blobs/") && !done.swap(true, Ordering::SeqCst) {
                let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
                command.env_clear().arg("--tree").arg(&tree).arg("-q").args(change.split(' '));
                assert!(command.status().unwrap().success(), "{change}");
                if change.starts_with("remove") {
                    let mut prune = Command::new(env!("CARGO_BIN_EXE_roadstead"));
                    prune.env_clear().arg("--tree").arg(&tree).args(["-q", "prune"]);
                    assert!(prune.status().unwrap().success(), "{change}");
                }
            }
            None
        });
        through(&scene, &faulty, &["publish", BUCKET, "--jobs", "1"]).ok();
        scene.run(&["--tree", BUCKET, "verify"]).ok();
        // What was there when it was compared may have come whole: then that is what the next run changes.
        scene.run(&["publish", BUCKET, "--delete", "--repository", "**"]).ok();
        scene.run(&["diff", "registry", BUCKET]).ok();
        scene.run(&["--tree", BUCKET, "verify"]).ok();
    }
}

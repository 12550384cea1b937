//! Publishers and removers of one bucket that are killed at any moment, beside others who live: what lives is whole,
//! and the same command brings what was missing. `just soak-publish` does it hundreds of times.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use roadstead::oci::Algorithm;
use roadstead::testing::{Image, ImageBuilder, Layer, MemorySource, noise};
use roadstead_parts::{BucketServer, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::published::{BUCKET, Scene, image};
use crate::support::{Place, Ran, wait, write_tree};

/// How many rounds there are, unless `ROADSTEAD_ROUNDS` says so.
const ROUNDS: usize = 8;

/// How many of them a tree has, all of which each round looks at.
const ROUNDS_OF_A_TREE: usize = 10;

#[expect(clippy::disallowed_methods, reason = "how long it may take is known to whoever runs the tests")]
fn rounds() -> usize {
    std::env::var("ROADSTEAD_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"))
}

/// A moment within a time, another one whenever it is asked for.
fn moment(within: Duration) -> Duration {
    within.mul_f64(RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64)
}

/// The tree of somebody who publishes three images, of whose repositories one is everybody's.
fn tree(who: &str, large: bool) -> (Place, Vec<String>) {
    let (place, source, mut names) = (Place::new(), MemorySource::new(), Vec::new());
    let mut add = |name: String, image: &Image| {
        source.add(&name, image);
        names.push(name);
    };
    add(format!("app:{who}-1"), &image(who));
    add(format!("app:{who}-2"), &image(&format!("{who} too")));
    let mut own = ImageBuilder::new().layer("shared").layer(format!("{who} alone"));
    if large {
        // In parts.
        own = own.layer(Layer::new().file("noise", noise(who.len() as u64, 17 << 20), 0o644).file(
            "who",
            who.to_owned(),
            0o644,
        ));
    }
    add(format!("own/{who}:1"), &own.build());
    write_tree(&place.tree(), &source);
    (place, names)
}

/// Begins a command of which nobody hears.
fn begin(scene: &Scene, arguments: &[&str]) -> Child {
    let mut command: Command = scene.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Kills a process some time after its beginning, and says whether it was still at work.
fn kill_after(mut child: Child, time: Duration) -> bool {
    let from = Instant::now();
    wait_until(time, || from.elapsed() >= time || child.try_wait().unwrap().is_some());
    // It may have come to its end by itself.
    let _ = kill_process(Pid::from_child(&child), Signal::KILL);
    !wait(&mut child).success()
}

/// Every file below a folder, by its path there. The server keeps each object in one.
fn objects(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        // What a removal was about to take away when it was killed may go in between.
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let key = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            match fs::read(&path) {
                Ok(bytes) => drop(found.insert(key, bytes)),
                Err(_) if path.is_dir() => folders.push(path),
                Err(_) => {}
            }
        }
    }
    found
}

/// The names of a list: its only array.
fn listed(objects: &BTreeMap<String, Vec<u8>>, list: &str) -> BTreeSet<String> {
    let list: serde_json::Value = serde_json::from_slice(&objects[list]).unwrap();
    let names = list.as_object().unwrap().values().find_map(|value| value.as_array()).unwrap();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// The tags that the bucket offers, as a client would see it that asks for objects and nothing else: of each,
/// everything is there that it needs, with the right bytes. What was `acknowledged` stands in the lists as well.
fn offered(scene: &Scene, acknowledged: &BTreeSet<String>, after: &str) -> BTreeSet<String> {
    let objects = objects(&scene.buckets.folder("images").join("tree/v2"));
    let mut tags = BTreeSet::new();
    for (path, manifest) in &objects {
        let Some((repository, tag)) = path.rsplit_once("/manifests/") else { continue };
        let read: serde_json::Value = serde_json::from_slice(manifest).unwrap();
        let layers = read["layers"].as_array().unwrap().iter();
        let digests = layers.chain([&read["config"]]).map(|blob| blob["digest"].as_str().unwrap());
        let blobs = digests.map(|digest| (format!("{repository}/blobs/{digest}"), digest.to_owned()));
        let digest = Algorithm::Sha256.digest(manifest).to_string();
        for (needed, digest) in blobs.chain([(format!("{repository}/manifests/{digest}"), digest)]) {
            let bytes =
                objects.get(&needed).unwrap_or_else(|| panic!("{after}: {path} needs {needed}, which is absent"));
            assert_eq!(Algorithm::Sha256.digest(bytes).to_string(), digest, "{after}: {needed}");
        }
        if !tag.contains(':') {
            tags.insert(format!("{repository}:{tag}"));
        }
    }
    for name in acknowledged {
        let (repository, tag) = name.split_once(':').unwrap();
        assert!(listed(&objects, &format!("{repository}/tags/list")).contains(tag), "{after}: {name} is in no list");
        assert!(listed(&objects, "_catalog").contains(repository), "{after}: {repository} is not in the catalogue");
    }
    tags
}

#[test]
#[expect(clippy::print_stdout, reason = "how many were killed is for whoever runs it to see")]
fn publishers_that_are_killed_lose_nothing_and_go_on() {
    let (all, mut killed, mut removals_killed) = (rounds(), 0, 0);
    // How long it takes who isn't killed, which the first one tells.
    let mut takes = Duration::from_millis(300);
    for first in (0..all).step_by(ROUNDS_OF_A_TREE) {
        let scene = Scene::new(BucketServer::Versitygw, &[("app:base", &image("base"))]);
        scene.run(&["publish", BUCKET]).ok();
        let mut expected = BTreeSet::from(["app:base".to_owned()]);
        for round in first..all.min(first + ROUNDS_OF_A_TREE) {
            let what = format!("round {round}");
            let (lives, of_who_lives) = tree(&format!("lives-{round}"), false);
            let (dies, of_who_dies) = tree(&format!("dies-{round}"), round % 5 == 0);
            let [lives, dies] = [&lives, &dies].map(|place| place.tree().to_str().unwrap().to_owned());
            let publish = |tree: &str| scene.run(&["--tree", tree, "publish", BUCKET]);

            let from = Instant::now();
            let child = begin(&scene, &["--tree", &dies, "publish", BUCKET]);
            let alive = begin(&scene, &["--tree", &lives, "publish", BUCKET]);
            killed += usize::from(kill_after(child, moment(takes)));
            let ended = alive.wait_with_output().unwrap();
            takes = from.elapsed();
            assert!(ended.status.success(), "{what}: {}", String::from_utf8_lossy(&ended.stderr));
            expected.extend(of_who_lives);
            let there = offered(&scene, &expected, &what);
            let lost: Vec<_> = expected.difference(&there).collect();
            assert!(lost.is_empty(), "{what}: published and lost: {lost:?}");
            let unknown: Vec<_> = there.difference(&expected).filter(|name| !of_who_dies.contains(name)).collect();
            assert!(unknown.is_empty(), "{what}: {unknown:?}");

            publish(&dies).ok();
            expected.extend(of_who_dies.iter().cloned());
            assert_eq!(offered(&scene, &expected, &what), expected, "{what}");
            let again: Ran = publish(&dies).ok();
            assert!(again.stderr.contains("nothing has changed"), "{what}: {again}");

            // Whoever removes is killed as well, and does it again.
            let goes = &of_who_dies[round % 3];
            let remove = ["--tree", BUCKET, "remove", "--exclusive", goes];
            let child = begin(&scene, &remove);
            removals_killed += usize::from(kill_after(child, moment(takes / 2)));
            let kept: BTreeSet<_> = expected.iter().filter(|name| *name != goes).cloned().collect();
            let there = offered(&scene, &kept, &what);
            assert!(there == kept || there == expected, "{what}: {there:?}");
            let removed = scene.run(&remove);
            assert_eq!(removed.code(), if there == kept { 3 } else { 0 }, "{what}: {removed}");
            expected = kept;
            assert_eq!(offered(&scene, &expected, &what), expected, "{what}");
        }
        // Lists lag behind whoever was killed in front of writing them, until the next one writes there.
        scene.run(&["--tree", BUCKET, "verify", "--repair"]).ok();
        scene.run(&["--tree", BUCKET, "verify"]).ok();
        let left = scene.buckets.folder("images").join(".sgwtmp/multipart");
        assert_eq!(fs::read_dir(left).map_or(0, Iterator::count), 0, "parts that belong to nothing");
    }
    println!("{all} rounds: {killed} publishers and {removals_killed} removers were killed at work");
    assert!(killed >= all / 4, "{killed} of {all} publishers were killed before they were done");
}

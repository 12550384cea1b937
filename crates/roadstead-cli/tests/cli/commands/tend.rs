use std::fs;
use std::path::PathBuf;

use super::*;

impl Scene {
    /// Where the bytes of a layer of `org/tool:1` lie that no other image has.
    fn layer(&self) -> PathBuf {
        let inspected = self.run(&["inspect", "org/tool:1", "--format", "json"]).ok();
        let report: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
        self.place.tree().join("content/blobs").join(report["layers"][1]["digest"].as_str().unwrap())
    }

    /// Writes other bytes, as many, where a layer lies.
    fn damage(&self) {
        let layer = self.layer();
        let damaged = vec![b'x'; fs::metadata(&layer).unwrap().len() as usize];
        fs::remove_file(&layer).unwrap();
        fs::write(layer, damaged).unwrap();
    }
}

#[test]
fn prune_by_rules() {
    let scene = Scene::filled();
    let before = scene.state();
    scene.check(&["prune"], expect![[""]]);
    scene.check(&["prune", "--dry-run", "--keep-last", "1"], expect![[""]]);
    assert!(scene.state() == before);
    scene.check(&["prune", "--keep-last", "1", "--format", "json"], expect![[""]]);
    scene.check(&["prune", "--keep-last", "0", "--tags", "3.*", "--repository", "b*"], expect![[""]]);
    scene.check(&["list", "--flat"], expect![[""]]);
    scene.check(&["verify"], expect![[""]]);
    scene.state();
}

#[test]
fn prune_untagged() {
    let scene = Scene::filled();
    scene.run(&["add", "-q", "REGISTRY/org/tool:2", "--tag", "org/tool:1"]).ok();
    scene.check(&["prune", "--untagged"], expect![[""]]);
    scene.check(&["prune", "--untagged", "--older-than", "0", "-n"], expect![[""]]);
    scene.check(&["prune", "--untagged", "--older-than", "0"], expect![[""]]);
    scene.check(&["prune", "--tags", "x"], expect![[""]]);
    scene.check(&["prune", "--older-than", "yesterday"], expect![[""]]);
    scene.state();
}

#[test]
fn prune_spares_what_is_not_whole() {
    let scene = Scene::filled();
    let child = scene.index.children[0].digest();
    fs::remove_file(scene.place.tree().join(format!("v2/base/manifests/{child}"))).unwrap();
    scene.check(&["prune", "--keep-last", "0"], expect![[""]]);
}

#[test]
fn verify_finds_and_mends() {
    let scene = Scene::filled();
    scene.check(&["verify"], expect![[""]]);
    let before = scene.state();
    scene.damage();
    fs::remove_file(scene.place.tree().join("v2/base/tags/list")).unwrap();
    scene.check(&["verify"], expect![[""]]);
    scene.check(&["verify", "base:3.20"], expect![[""]]);
    scene.check(&["verify", "--repair", "org/tool:1", "--format", "json"], expect![[""]]);
    scene.check(&["verify", "--refetch", "REGISTRY/base", "org/tool"], expect![[""]]);
    scene.check(&["verify", "--repair", "--refetch", "REGISTRY/org/tool:1"], expect![[""]]);
    assert!(scene.state() == before);
    scene.check(&["verify", "-q"], expect![[""]]);
    scene.check(&["verify", "org/tool:9"], expect![[""]]);
}

#[test]
fn remove_by_force() {
    let scene = Scene::filled();
    let child = scene.index.children[0].digest();
    scene.check(&["remove", "--force", "base:3.20"], expect![[""]]);
    scene.check(&["remove", "--force", &format!("base@{}", scene.index.digest())], expect![[""]]);
    scene.check(&["remove", "--force", &format!("base@{child}")], expect![[""]]);
    scene.check(&["verify"], expect![[""]]);
    scene.check(&["list", "base"], expect![[""]]);
}

#[test]
fn trees_are_compared() {
    let (scene, other) = (Scene::filled(), Place::new());
    let folder = other.tree().display().to_string();
    let arguments = scene.arguments(&["add", "-q", "REGISTRY/org/tool:1", "REGISTRY/org/tool:2", "-t"]);
    other.run(&arguments[..3]).ok();
    other.run(&[&arguments[..2], &[arguments[3].clone(), "-t".into(), "org/tool:1".into()]].concat()).ok();
    other.run(&[&arguments[..2], &[arguments[2].clone(), "-t".into(), "new:1".into()]].concat()).ok();
    let mut words = scene.words.clone();
    words.say(&folder, "OTHER");
    snapshot(&words, &scene.run(&["diff", &folder]), expect![[""]]);
    snapshot(&words, &scene.run(&["diff", &folder, "registry", "--format", "json"]), expect![[""]]);
    snapshot(&words, &scene.run(&["diff", &folder, &folder]), expect![[""]]);
    snapshot(&words, &scene.run(&["diff", "nowhere"]), expect![[""]]);
}

#[test]
fn sizes() {
    let scene = Scene::filled();
    scene.run(&["add", "-q", "REGISTRY/org/tool:1", "--tag", "copy:1"]).ok();
    scene.check(&["du"], expect![[""]]);
    scene.check(&["du", "copy", "--format", "json"], expect![[""]]);
    scene.check(&["du", "nothing"], expect![[""]]);
}

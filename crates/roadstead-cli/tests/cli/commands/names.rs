//! New names for what is there, and one name for several images.

use roadstead_parts::{Crane, Generation};

use super::*;

#[test]
fn another_tag_and_another_repository() {
    let scene = Scene::filled();
    scene.check(
        &["tag", "org/tool:1", "org/tool:stable", "released/tool:1", "released/tool"],
        expect![[r#"
        $ roadstead tag org/tool:1 org/tool:stable released/tool:1 released/tool
        org/tool:stable@sha256:<one>
        released/tool:1@sha256:<one>
        released/tool:latest@sha256:<one>
        --- stderr
        tree:PLACE/registry//org/tool:1 is sha256:<one>
        tree:PLACE/registry//org/tool:1 is sha256:<one>
        0 blobs copied (0 B), 6 already there (1.22 kB), TIME s
    "#]],
    );
    scene.check(
        &["list", "--flat"],
        expect![[r#"
        $ roadstead list --flat
        base:3.20
        org/tool:1
        org/tool:2
        org/tool:stable
        released/tool:1
        released/tool:latest
    "#]],
    );
    // Nothing happens again, and a name that is there moves.
    let before = scene.state();
    scene.run(&["tag", "org/tool:1", "org/tool:stable", "released/tool:1", "released/tool", "-q"]).ok();
    assert_eq!(scene.state(), before);
    scene.check(
        &["tag", "org/tool:2", "org/tool:stable", "-q", "--format", "json"],
        expect![[r#"
        $ roadstead tag org/tool:2 org/tool:stable -q --format json
        [
          {
            "image": "tree:PLACE/registry//org/tool:2",
            "names": [
              "org/tool:stable"
            ],
            "digest": "sha256:<two>",
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "changed": true
          }
        ]
    "#]],
    );
}

#[test]
fn names_that_cannot_be_given() {
    let scene = Scene::filled();
    let before = scene.state();
    scene.check(
        &["tag", "org/tool:3", "org/tool:4"],
        expect![[r#"
        $ roadstead tag org/tool:3 org/tool:4
        --- stderr
        error: tree:PLACE/registry//org/tool:3 was not found
        --- exit code 3
    "#]],
    );
    scene.check(
        &["tag", "org/tool:1", "a@sha256:0000000000000000000000000000000000000000000000000000000000000000"],
        expect![[r#"
            $ roadstead tag org/tool:1 a@sha256:0000000000000000000000000000000000000000000000000000000000000000
            --- stderr
            error: a new name is a tag, and a has a digest behind it
            --- exit code 2
        "#]],
    );
    assert_eq!(scene.state(), before);
}

#[test]
fn images_of_two_platforms_become_one() {
    let scene = Scene::new();
    scene.run(&["add", "-q", "--platform", "linux/amd64", "REGISTRY/base:3.20", "-t", "app:1"]).ok();
    scene.run(&["add", "-q", "REGISTRY/org/tool:1"]).ok();
    let child = scene.index.manifest.manifests()[1].digest;
    let arm64 = format!("REGISTRY/base@{child}");
    scene.run(&["add", "-q", &arm64, "-t", "app:arm64"]).ok();
    scene.check(
        &["index", "create", "joined:1", "app:arm64", "app:1"],
        expect![[r#"
        $ roadstead index create joined:1 app:arm64 app:1
        tree:joined:1@sha256:3d41cd64a589e2062ef902b7bb6e332d0ff26f14cc8d025538f00ad6f0278f70
        --- stderr
        tree:PLACE/registry//app:arm64 is sha256:<index-child-1>
        tree:PLACE/registry//app:1 is sha256:<index>
        0 blobs copied (0 B), 6 already there (1.14 kB), TIME s
    "#]],
    );
    scene.check(
        &["list", "-l", "joined"],
        expect![[r#"
        $ roadstead list -l joined
        REPOSITORY   TAG   DIGEST         TYPE        PLATFORMS                  SIZE
        joined       1     3d41cd64a589   OCI index   linux/amd64, linux/arm64   2.05 kB
    "#]],
    );
    scene.check(
        &["index", "create", "joined:1", "app:1", "org/tool:1", "--annotation", "by=us"],
        expect![[r#"
        $ roadstead index create joined:1 app:1 org/tool:1 --annotation by=us
        --- stderr
        tree:PLACE/registry//app:1 is sha256:<index>
        tree:PLACE/registry//org/tool:1 is sha256:<one>
        error: no index can be made of the images
          because: tree:PLACE/registry//app:1 and tree:PLACE/registry//org/tool:1 are both for linux/amd64
        --- exit code 1
    "#]],
    );
    scene.check(
        &["index", "create", "--append", "joined:1", "org/tool:1", "-q"],
        expect![[r#"
        $ roadstead index create --append joined:1 org/tool:1 -q
        tree:joined:1@sha256:455f7954de32513f34cea195226fbd8d043dcceaacb8a63629afc10612ad4d30
    "#]],
    );
    scene.check(
        &["list", "-l", "joined"],
        expect![[r#"
        $ roadstead list -l joined
        REPOSITORY   TAG   DIGEST         TYPE        PLATFORMS                  SIZE
        joined       1     455f7954de32   OCI index   linux/amd64, linux/arm64   2.48 kB
    "#]],
    );
    scene.check(
        &["index", "create", "joined:1", "app:none"],
        expect![[r#"
        $ roadstead index create joined:1 app:none
        --- stderr
        error: tree:PLACE/registry//app:none was not found
        --- exit code 3
    "#]],
    );
    scene.check(
        &["index", "create", "dir:joined", "app:1"],
        expect![[r#"
        $ roadstead index create dir:joined app:1
        --- stderr
        error: dir:joined has no place for an index: name a tree or a registry
        --- exit code 2
    "#]],
    );
}

#[test]
fn an_index_in_a_registry() {
    let scene = Scene::filled();
    let registry = Generation::V3.registry().start();
    let target = format!("docker://{}/org/joined:1", registry.authority());
    let archive = scene.place.path().join("arm64.tar");
    let archive = format!("oci-archive:{}", archive.display());
    let child = scene.index.manifest.manifests()[1].digest;
    scene.run(&["copy", "-q", &format!("tree:base@{child}"), &archive]).ok();
    scene.run(&["index", "create", "-q", &target, "org/tool:1", &archive]).ok();
    scene.run(&["index", "create", "-q", "joined:1", "org/tool:1", &archive]).ok();
    let pulled = Crane.crane(&["manifest", "--insecure", target.strip_prefix("docker://").unwrap()]).unwrap();
    let own = scene.run(&["inspect", "joined:1", "--raw"]).ok();
    assert_eq!(pulled.stdout, own.text(), "the same images make the same index, wherever it is put");
    scene.run(&["index", "create", "-q", "--append", &target, "docker://REGISTRY/base:3.20"]).ok();
    let pulled = Crane.crane(&["manifest", "--insecure", target.strip_prefix("docker://").unwrap()]).unwrap();
    let index: serde_json::Value = serde_json::from_str(&pulled.stdout).unwrap();
    let digests: Vec<&str> =
        { index["manifests"].as_array().unwrap().iter() }.map(|entry| entry["digest"].as_str().unwrap()).collect();
    let expected: Vec<String> =
        { scene.index.manifest.manifests().iter() }.map(|entry| entry.digest.to_string()).collect();
    assert_eq!(digests, expected, "each platform once");
}

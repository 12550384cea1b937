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
    // One after the other: of what one command adds, nobody knows which comes last.
    let scene = Scene::new();
    for image in ["REGISTRY/base:3.20", "REGISTRY/org/tool:1", "REGISTRY/org/tool:2"] {
        scene.run(&["add", "-q", image]).ok();
    }
    let before = scene.state();
    scene.check(
        &["prune"],
        expect![[r#"
        $ roadstead prune
        --- stderr
        nothing to prune
    "#]],
    );
    scene.check(
        &["prune", "--dry-run", "--keep-last", "1"],
        expect![[r#"
        $ roadstead prune --dry-run --keep-last 1
        org/tool:1
        org/tool@sha256:<one>
        --- stderr
        would remove 1 tag, 1 manifest, 2 names of blobs, 3 contents that nothing names; would free 1.10 kB
    "#]],
    );
    assert!(scene.state() == before);
    scene.check(
        &["prune", "--keep-last", "1", "--format", "json"],
        expect![[r#"
        $ roadstead prune --keep-last 1 --format json
        {
          "dryRun": false,
          "repositories": [
            {
              "repository": "org/tool",
              "tags": [
                "1"
              ],
              "manifests": [
                "sha256:<one>"
              ],
              "blobs": [
                "sha256:<one-config>",
                "sha256:<one-layer-1>"
              ]
            }
          ],
          "contents": 3,
          "records": 0,
          "hints": 0,
          "temporary": 0,
          "folders": 0,
          "bytes": 1097,
          "skipped": 0,
          "skippedRepositories": []
        }
        --- stderr
        removed 1 tag, 1 manifest, 2 names of blobs, 3 contents that nothing names; freed 1.10 kB
    "#]],
    );
    scene.check(
        &["prune", "--keep-last", "0", "--tags", "3.*", "--repository", "b*"],
        expect![[r#"
        $ roadstead prune --keep-last 0 --tags 3.* --repository b*
        base:3.20
        base@sha256:<index-child-0>
        base@sha256:<index-child-1>
        base@sha256:<index-child-2>
        base@sha256:<index>
        --- stderr
        removed 1 tag, 4 manifests, 6 names of blobs, 10 contents that nothing names; freed 3.06 kB
    "#]],
    );
    scene.check(
        &["list", "--flat"],
        expect![[r#"
        $ roadstead list --flat
        org/tool:2
    "#]],
    );
    scene.check(
        &["verify"],
        expect![[r#"
        $ roadstead verify
        --- stderr
        1 repository, 1 manifest, 4 files read (1.19 kB)
    "#]],
    );
    scene.state();
}

#[test]
fn prune_untagged() {
    let scene = Scene::filled();
    scene.run(&["add", "-q", "REGISTRY/org/tool:2", "--tag", "org/tool:1"]).ok();
    scene.check(
        &["prune", "--untagged"],
        expect![[r#"
        $ roadstead prune --untagged
        --- stderr
        nothing to prune
    "#]],
    );
    scene.check(
        &["prune", "--untagged", "--older-than", "0", "-n"],
        expect![[r#"
        $ roadstead prune --untagged --older-than 0 -n
        org/tool@sha256:<one>
        --- stderr
        would remove 1 manifest, 2 names of blobs, 3 contents that nothing names; would free 1.10 kB
    "#]],
    );
    scene.check(
        &["prune", "--untagged", "--older-than", "0"],
        expect![[r#"
        $ roadstead prune --untagged --older-than 0
        org/tool@sha256:<one>
        --- stderr
        removed 1 manifest, 2 names of blobs, 3 contents that nothing names; freed 1.10 kB
    "#]],
    );
    scene.check(
        &["prune", "--tags", "x"],
        expect![[r#"
        $ roadstead prune --tags x
        --- stderr
        error: the following required arguments were not provided:
          <--keep-last <N>|--keep-days <D>>

        Usage: roadstead prune --tags <PATTERN> <--keep-last <N>|--keep-days <D>>

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
    scene.check(&["prune", "--older-than", "yesterday"], expect![[r#"
        $ roadstead prune --older-than yesterday
        --- stderr
        error: invalid value 'yesterday' for '--older-than <DURATION>': "yesterday" is no duration such as 90s, 30m, 12h, 7d or 2w

        For more information, try '--help'.
        --- exit code 2
    "#]]);
    scene.state();
}

#[test]
fn prune_spares_what_is_not_whole() {
    let scene = Scene::filled();
    let child = scene.index.children[0].digest();
    fs::remove_file(scene.place.tree().join(format!("v2/base/manifests/{child}"))).unwrap();
    scene.check(
        &["prune", "--untagged"],
        expect![[r#"
        $ roadstead prune --untagged
        --- stderr
        base is left as it is: base lacks manifest sha256:<index-child-0>, which index sha256:<index> needs
        nothing to prune
        error: a repository is not whole and was left as it is; `roadstead verify` says what is wrong
        --- exit code 7
    "#]],
    );
}

#[test]
fn verify_finds_and_mends() {
    let scene = Scene::filled();
    scene.check(
        &["verify"],
        expect![[r#"
        $ roadstead verify
        --- stderr
        2 repositories, 6 manifests, 17 files read (5.35 kB)
    "#]],
    );
    let before = scene.state();
    scene.damage();
    fs::remove_file(scene.place.tree().join("v2/base/tags/list")).unwrap();
    scene.check(&["verify"], expect![[r#"
        $ roadstead verify
        damaged blob: content/blobs/sha256:<one-layer-1>: its 98 bytes are sha256:9b4ebbf27e774709b0e27357b252b7e621d86e89fceb6b60c1913038bbf46aa8
        stale: v2/base/tags/list
        --- stderr
        2 repositories, 6 manifests, 17 files read (5.35 kB)
        error: 2 things are wrong with the tree; --repair makes again what is derived
        --- exit code 7
    "#]]);
    scene.check(
        &["verify", "base:3.20"],
        expect![[r#"
        $ roadstead verify base:3.20
        --- stderr
        1 repository, 4 manifests, 10 files read (3.06 kB)
    "#]],
    );
    scene.check(
        &["verify", "--repair", "org/tool:1", "--format", "json"],
        expect![[r#"
        $ roadstead verify --repair org/tool:1 --format json
        {
          "findings": [
            {
              "kind": "damagedBlob",
              "key": "content/blobs/sha256:<one-layer-1>",
              "digest": "sha256:<one-layer-1>",
              "problem": "its 98 bytes are sha256:9b4ebbf27e774709b0e27357b252b7e621d86e89fceb6b60c1913038bbf46aa8",
              "mended": false
            }
          ],
          "repositories": 1,
          "manifests": 1,
          "leftOut": 0,
          "files": 4,
          "bytes": 1193
        }
        --- stderr
        1 repository, 1 manifest, 4 files read (1.19 kB)
        error: 1 thing is wrong with the tree
        --- exit code 7
    "#]],
    );
    scene.check(&["verify", "--refetch", "REGISTRY/base", "org/tool"], expect![[r#"
        $ roadstead verify --refetch REGISTRY/base org/tool
        damaged blob: content/blobs/sha256:<one-layer-1>: its 98 bytes are sha256:9b4ebbf27e774709b0e27357b252b7e621d86e89fceb6b60c1913038bbf46aa8
        --- stderr
        REGISTRY/base has it not: damaged blob: content/blobs/sha256:<one-layer-1>: its 98 bytes are sha256:9b4ebbf27e774709b0e27357b252b7e621d86e89fceb6b60c1913038bbf46aa8
        1 repository, 2 manifests, 7 files read (2.29 kB)
        error: 1 thing is wrong with the tree
        --- exit code 7
    "#]]);
    scene.check(&["verify", "--repair", "--refetch", "REGISTRY/org/tool:1"], expect![[r#"
        $ roadstead verify --repair --refetch REGISTRY/org/tool:1
        damaged blob: content/blobs/sha256:<one-layer-1>: its 98 bytes are sha256:9b4ebbf27e774709b0e27357b252b7e621d86e89fceb6b60c1913038bbf46aa8
        stale: v2/base/tags/list
        --- stderr
        mended: damaged blob: content/blobs/sha256:<one-layer-1>: its 98 bytes are sha256:9b4ebbf27e774709b0e27357b252b7e621d86e89fceb6b60c1913038bbf46aa8
        mended: stale: v2/base/tags/list
        2 repositories, 6 manifests, 17 files read (5.35 kB)
    "#]]);
    assert!(scene.state() == before);
    scene.check(
        &["verify", "-q"],
        expect![[r#"
        $ roadstead verify -q
    "#]],
    );
    scene.check(
        &["verify", "org/tool:9"],
        expect![[r#"
        $ roadstead verify org/tool:9
        --- stderr
        error: org/tool:9 is not in the tree
          hint: `roadstead list` shows what there is
        --- exit code 3
    "#]],
    );
}

#[test]
fn remove_by_force() {
    let scene = Scene::filled();
    let child = scene.index.children[0].digest();
    scene.check(
        &["remove", "--force", "base:3.20"],
        expect![[r#"
        $ roadstead remove --force base:3.20
        --- stderr
        error: --force removes what an index needs, which is named by its digest, and base:3.20 is a tag
        --- exit code 2
    "#]],
    );
    scene.check(
        &["remove", "--force", &format!("base@{}", scene.index.digest())],
        expect![[r#"
        $ roadstead remove --force base@sha256:<index>
        --- stderr
        error: base@sha256:<index> can't be removed: tag 3.20 needs it
        --- exit code 1
    "#]],
    );
    scene.check(
        &["remove", "--force", &format!("base@{child}")],
        expect![[r#"
        $ roadstead remove --force base@sha256:<index-child-0>
        --- stderr
        base@sha256:<index-child-0>: removed
        781 B freed
    "#]],
    );
    scene.check(
        &["verify"],
        expect![[r#"
        $ roadstead verify
        --- stderr
        2 repositories, 5 manifests, 14 files read (4.57 kB); left out on purpose: 1 manifest
    "#]],
    );
    scene.check(
        &["list", "-l", "base"],
        expect![[r#"
        $ roadstead list -l base
        REPOSITORY   TAG    DIGEST         TYPE        PLATFORMS                   SIZE
        base         3.20   <index>   OCI index   linux/arm/v7, linux/arm64   2.28 kB
    "#]],
    );
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
    snapshot(
        &words,
        &scene.run(&["diff", &folder]),
        expect![[r#"
        $ roadstead diff OTHER
        - base:3.20 sha256:<index>
        - base@sha256:<index-child-0>
        - base@sha256:<index-child-1>
        - base@sha256:<index-child-2>
        + new:1 sha256:<one>
        ~ org/tool:1 sha256:<one> sha256:<two>
        - org/tool:2 sha256:<two>
        --- exit code 1
    "#]],
    );
    snapshot(
        &words,
        &scene.run(&["diff", &folder, "registry", "--format", "json"]),
        expect![[r#"
        $ roadstead diff OTHER registry --format json
        [
          {
            "kind": "tag",
            "only": "second",
            "repository": "base",
            "tag": "3.20",
            "digest": "sha256:<index>"
          },
          {
            "kind": "manifest",
            "only": "second",
            "repository": "base",
            "digest": "sha256:<index-child-0>"
          },
          {
            "kind": "manifest",
            "only": "second",
            "repository": "base",
            "digest": "sha256:<index-child-1>"
          },
          {
            "kind": "manifest",
            "only": "second",
            "repository": "base",
            "digest": "sha256:<index-child-2>"
          },
          {
            "kind": "tag",
            "only": "first",
            "repository": "new",
            "tag": "1",
            "digest": "sha256:<one>"
          },
          {
            "kind": "moved",
            "repository": "org/tool",
            "tag": "1",
            "first": "sha256:<two>",
            "second": "sha256:<one>"
          },
          {
            "kind": "tag",
            "only": "second",
            "repository": "org/tool",
            "tag": "2",
            "digest": "sha256:<two>"
          }
        ]
        --- exit code 1
    "#]],
    );
    snapshot(
        &words,
        &scene.run(&["diff", &folder, &folder]),
        expect![[r#"
        $ roadstead diff OTHER OTHER
    "#]],
    );
    snapshot(
        &words,
        &scene.run(&["diff", "nowhere"]),
        expect![[r#"
        $ roadstead diff nowhere
        --- stderr
        error: there is no registry tree at nowhere
          hint: make one with `roadstead add IMAGE`, or name another one with --tree DIR
        --- exit code 3
    "#]],
    );
}

#[test]
fn sizes() {
    let scene = Scene::filled();
    scene.run(&["add", "-q", "REGISTRY/org/tool:1", "--tag", "copy:1"]).ok();
    scene.check(
        &["du"],
        expect![[r#"
        $ roadstead du
        REPOSITORY       OWN       SHARED    TOTAL
        base             3.06 kB   0 B       3.06 kB
        org/tool         1.10 kB   1.19 kB   2.29 kB
        copy             0 B       1.19 kB   1.19 kB
        the whole tree                       5.35 kB
    "#]],
    );
    scene.check(
        &["du", "copy", "--format", "json"],
        expect![[r#"
        $ roadstead du copy --format json
        {
          "repositories": [
            {
              "repository": "copy",
              "own": 0,
              "shared": 1193,
              "total": 1193
            }
          ],
          "named": 5352,
          "unnamed": 0,
          "total": 5352
        }
    "#]],
    );
    scene.check(
        &["du", "nothing"],
        expect![[r#"
        $ roadstead du nothing
        --- stderr
        error: nothing is not in the tree
          hint: `roadstead list` shows what there is
        --- exit code 3
    "#]],
    );
}

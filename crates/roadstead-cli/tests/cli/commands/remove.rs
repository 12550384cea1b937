use super::*;

#[test]
fn a_tag_and_all_that_only_it_needs() {
    let scene = Scene::filled();
    scene.check(
        &["remove", "org/tool:1"],
        expect![[r#"
        $ roadstead remove org/tool:1
        --- stderr
        org/tool:1: removed
        1.10 kB freed
    "#]],
    );
    scene.check(
        &["list", "--flat"],
        expect![[r#"
        $ roadstead list --flat
        base:3.20
        org/tool:2
    "#]],
    );
    scene.check(
        &["rm", "base:3.20", "org/tool:2", "--format", "json", "-q"],
        expect![[r#"
        $ roadstead rm base:3.20 org/tool:2 --format json -q
        [
          {
            "repository": "base",
            "tags": [
              "3.20"
            ],
            "manifests": [
              "sha256:<index-child-0>",
              "sha256:<index-child-1>",
              "sha256:<index-child-2>",
              "sha256:<index>"
            ],
            "bytes": 3062
          },
          {
            "repository": "org/tool",
            "tags": [
              "2"
            ],
            "manifests": [
              "sha256:<two>"
            ],
            "bytes": 1193
          }
        ]
    "#]],
    );
    scene.check(
        &["list"],
        expect![[r#"
        $ roadstead list
        --- stderr
        the tree is empty; `roadstead add IMAGE` fills it
    "#]],
    );
    scene.state();
}

#[test]
fn manifests_and_repositories() {
    let scene = Scene::filled();
    let child = scene.index.children[0].digest();
    scene.check(
        &["remove", &format!("base@{child}")],
        expect![[r#"
        $ roadstead remove base@sha256:<index-child-0>
        --- stderr
        error: base@sha256:<index-child-0> can't be removed: index sha256:<index> needs it
        --- exit code 1
    "#]],
    );
    scene.check(
        &["remove", &format!("base@{}", scene.index.digest())],
        expect![[r#"
        $ roadstead remove base@sha256:<index>
        --- stderr
        error: base@sha256:<index> can't be removed: tag 3.20 needs it
        --- exit code 1
    "#]],
    );
    scene.check(
        &["remove", "org/tool"],
        expect![[r#"
        $ roadstead remove org/tool
        --- stderr
        error: org/tool names a whole repository: name a tag (org/tool:TAG), or remove all of it with --all-tags
        --- exit code 2
    "#]],
    );
    scene.check(
        &["remove", "--all-tags", "org/tool:1"],
        expect![[r#"
        $ roadstead remove --all-tags org/tool:1
        --- stderr
        error: --all-tags removes whole repositories, but 1 names a part of org/tool
        --- exit code 2
    "#]],
    );
    scene.check(
        &["remove", "--all-tags", "org/tool"],
        expect![[r#"
        $ roadstead remove --all-tags org/tool
        --- stderr
        org/tool:1: removed
        org/tool:2: removed
        2.29 kB freed
    "#]],
    );
    scene.check(
        &["list", "--flat"],
        expect![[r#"
        $ roadstead list --flat
        base:3.20
    "#]],
    );
    scene.state();
}

#[test]
fn what_is_not_there() {
    let scene = Scene::filled();
    let before = scene.state();
    scene.check(
        &["remove", "org/tool:9"],
        expect![[r#"
        $ roadstead remove org/tool:9
        --- stderr
        error: org/tool:9 is not in the tree
          hint: `roadstead list` shows what there is
        --- exit code 3
    "#]],
    );
    scene.check(
        &["remove", "--all-tags", "nothing"],
        expect![[r#"
        $ roadstead remove --all-tags nothing
        --- stderr
        error: nothing is not in the tree
          hint: `roadstead list` shows what there is
        --- exit code 3
    "#]],
    );
    assert!(scene.state() == before);
}

use super::*;

#[test]
fn a_registry_to_a_layout() {
    let scene = Scene::new();
    scene.check(
        &["copy", "REGISTRY/base:3.20", "oci:layout:3.20"],
        expect![[r#"
        $ roadstead copy REGISTRY/base:3.20 oci:layout:3.20
        oci:layout:3.20@sha256:<index>
        --- stderr
        REGISTRY/base:3.20 is sha256:<index>
          <index-child-0-config>    276 B
          <index-child-0-layer-0>    104 B
          <index-child-1-config>    276 B
          <index-child-1-layer-0>    104 B
          <index-child-2-config>    289 B
          <index-child-2-layer-0>    104 B
        6 blobs copied (1.15 kB), TIME s
    "#]],
    );
    scene.check(
        &["copy", "--all", "docker://REGISTRY/base:3.20", "oci:layout:again"],
        expect![[r#"
        $ roadstead copy --all docker://REGISTRY/base:3.20 oci:layout:again
        oci:layout:again@sha256:<index>
        --- stderr
        REGISTRY/base:3.20 is sha256:<index>
        0 blobs copied (0 B), 6 already there (1.15 kB), TIME s
    "#]],
    );
    scene.check(
        &["copy", "-q", "--format", "json", "--digestfile", "digest", "REGISTRY/org/tool:1", "oci:layout"],
        expect![[r#"
            $ roadstead copy -q --format json --digestfile digest REGISTRY/org/tool:1 oci:layout
            [
              {
                "image": "REGISTRY/org/tool:1",
                "names": [
                  "oci:layout:REGISTRY/org/tool:1"
                ],
                "digest": "sha256:<one>",
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "changed": true
              }
            ]
        "#]],
    );
    let digest = std::fs::read_to_string(scene.place.path().join("digest")).unwrap();
    let added = scene.run(&["add", "-q", "oci:layout:1"]).ok();
    assert_eq!(added.text(), format!("org/tool:1@{digest}\n"));
}

#[test]
fn into_trees() {
    let scene = Scene::new();
    scene.check(
        &["copy", "-q", "REGISTRY/org/tool:1", "tree:mine:7"],
        expect![[r#"
        $ roadstead copy -q REGISTRY/org/tool:1 tree:mine:7
        tree:mine:7@sha256:<one>
    "#]],
    );
    scene.check(
        &["copy", "-q", "REGISTRY/org/tool:1", "tree:mine"],
        expect![[r#"
        $ roadstead copy -q REGISTRY/org/tool:1 tree:mine
        tree:mine:1@sha256:<one>
    "#]],
    );
    scene.check(
        &["copy", "-q", "tree:mine:7", "tree:other//yours:8"],
        expect![[r#"
        $ roadstead copy -q tree:mine:7 tree:other//yours:8
        tree:other//yours:8@sha256:<one>
    "#]],
    );
    scene.check(&["copy", "-q", "tree:mine", "tree:other//yours:8"], expect![[r#"
        $ roadstead copy -q tree:mine tree:other//yours:8
        --- stderr
        error: tree:PLACE/registry//mine:1 and tree:PLACE/registry//mine:7 would both be tree:other//yours:8: choose one, as SOURCE:NAME
        --- exit code 1
    "#]]);
    scene.check(
        &["--tree", "other", "list", "--flat"],
        expect![[r#"
        $ roadstead --tree other list --flat
        yours:8
    "#]],
    );
}

#[test]
fn one_platform_where_there_is_room_for_one() {
    let scene = Scene::new();
    let arm = ["--platform", "linux/arm64"];
    scene.check(
        &[&["copy", "REGISTRY/base:3.20", "docker-archive:arm.tar:arm"], &arm[..]].concat(),
        expect![[r#"
        $ roadstead copy REGISTRY/base:3.20 docker-archive:arm.tar:arm --platform linux/arm64
        docker-archive:arm.tar:docker.io/library/arm:latest@sha256:<index-child-1>
        --- stderr
        REGISTRY/base@sha256:<index-child-1> is sha256:<index-child-1>
          <index-child-1-config>    276 B
          <index-child-1-layer-0>    104 B
        2 blobs copied (380 B), TIME s
    "#]],
    );
    scene.check(
        &[&["copy", "-q", "REGISTRY/base:3.20", "docker-archive:x.tar", "--platform", "linux/s390x"][..]].concat(),
        expect![[r#"
            $ roadstead copy -q REGISTRY/base:3.20 docker-archive:x.tar --platform linux/s390x
            --- stderr
            error: REGISTRY/base:3.20 has nothing for linux/s390x, only for linux/amd64, linux/arm/v7, linux/arm64
            --- exit code 3
        "#]],
    );
    scene.check(
        &["copy", "-a", "REGISTRY/base:3.20", "docker-archive:x.tar"],
        expect![[r#"
        $ roadstead copy -a REGISTRY/base:3.20 docker-archive:x.tar
        --- stderr
        error: docker-archive:x.tar holds one platform: choose it with --platform
        --- exit code 2
    "#]],
    );
    scene.check(
        &["copy", "REGISTRY/base:3.20", "docker-archive:x.tar", "--platform", "linux/arm64,linux/amd64"],
        expect![[r#"
            $ roadstead copy REGISTRY/base:3.20 docker-archive:x.tar --platform linux/arm64,linux/amd64
            --- stderr
            error: docker-archive:x.tar holds one platform: choose it with --platform
            --- exit code 2
        "#]],
    );
    assert!(!scene.place.path().join("x.tar").exists(), "what failed has left an archive");
    // A tree with one platform has nothing to choose from.
    scene.run(&[&["add", "-q", "REGISTRY/base:3.20"], &arm[..]].concat()).ok();
    scene.run(&["copy", "-q", "tree:base:3.20", "docker-archive:again.tar:arm"]).ok();
    let read = |name: &str| std::fs::read(scene.place.path().join(name)).unwrap();
    assert!(read("arm.tar") == read("again.tar"), "the same image makes the same archive");
    scene.check(&["copy", "-q", "tree:base:3.20", "oci:sparse"], expect![[r#"
        $ roadstead copy -q tree:base:3.20 oci:sparse
        --- stderr
        error: tree:PLACE/registry//base:3.20 is not whole at the source, which left 2 manifests of the index sha256:<index> out on purpose, and the destination can't record that
          hint: copy what is there with --platform OS/ARCH, or complete the source with `roadstead add`
        --- exit code 3
    "#]]);
}

#[test]
fn several_images() {
    let scene = Scene::filled();
    scene.run(&["save", "-q", "org/tool", "-o", "tools.tar"]).ok();
    scene.check(
        &["copy", "-q", "docker-archive:tools.tar", "oci:layout"],
        expect![[r#"
        $ roadstead copy -q docker-archive:tools.tar oci:layout
        oci:layout:docker.io/org/tool:1@sha256:<one>
        oci:layout:docker.io/org/tool:2@sha256:<two>
    "#]],
    );
    scene.check(&["copy", "-q", "docker-archive:tools.tar", "oci:layout:1"], expect![[r#"
        $ roadstead copy -q docker-archive:tools.tar oci:layout:1
        --- stderr
        error: docker-archive:tools.tar:docker.io/org/tool:1 and docker-archive:tools.tar:docker.io/org/tool:2 would both be oci:layout:1: choose one, as SOURCE:NAME
        --- exit code 1
    "#]]);
    scene.check(&["copy", "-q", "docker-archive:tools.tar", "dir:folder"], expect![[r#"
        $ roadstead copy -q docker-archive:tools.tar dir:folder
        --- stderr
        error: docker-archive:tools.tar:docker.io/org/tool:1 and docker-archive:tools.tar:docker.io/org/tool:2 would both be dir:folder: choose one, as SOURCE:NAME
        --- exit code 1
    "#]]);
    scene.check(
        &["copy", "-q", "docker-archive:tools.tar:org/tool:2", "dir:folder"],
        expect![[r#"
        $ roadstead copy -q docker-archive:tools.tar:org/tool:2 dir:folder
        dir:folder@sha256:<two>
    "#]],
    );
    scene.check(
        &["copy", "-q", "dir:folder", "docker-archive:one.tar:x.io/one"],
        expect![[r#"
        $ roadstead copy -q dir:folder docker-archive:one.tar:x.io/one
        docker-archive:one.tar:x.io/one:latest@sha256:<two>
    "#]],
    );
    scene.check(
        &["copy", "-q", "docker-archive:one.tar:x.io/one", "dir:folder"],
        expect![[r#"
        $ roadstead copy -q docker-archive:one.tar:x.io/one dir:folder
        --- stderr
        error: folder can't be written
          because: there is something in the folder
        --- exit code 8
    "#]],
    );
}

#[test]
fn what_is_no_destination() {
    let scene = Scene::filled();
    for destination in [
        "docker-daemon:",
        "tree:other//",
        "tree:https://example.com//app:1",
        "docker://example.com/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "containers-storage:app",
    ] {
        let ran = scene.run(&["copy", "tree:org/tool:1", destination]);
        assert_eq!(ran.code(), 2, "{ran}");
        assert!(ran.stderr.contains(destination), "{ran}");
    }
    scene.check(
        &["copy", "tree:old//", "oci:layout"],
        expect![[r#"
        $ roadstead copy tree:old// oci:layout
        --- stderr
        error: there is no registry tree at old
          hint: make one with `roadstead add IMAGE`, or name another one with --tree DIR
        --- exit code 3
    "#]],
    );
    scene.check(
        &["copy", "docker-daemon:", "oci:layout"],
        expect![[r#"
        $ roadstead copy docker-daemon: oci:layout
        --- stderr
        error: docker-daemon: names no image
        --- exit code 2
    "#]],
    );
    scene.check(
        &["copy", "--format=json", "tree:org/tool:1", "oci-archive:-"],
        expect![[r#"
        $ roadstead copy --format=json tree:org/tool:1 oci-archive:-
        --- stderr
        error: standard output can't hold both an archive and --format json
        --- exit code 2
    "#]],
    );
    scene.check(&["copy", "--creds=a:b", "docker://r.example/app:1", "docker://s.example/app:1"], expect![[r#"
        $ roadstead copy --creds=a:b docker://r.example/app:1 docker://s.example/app:1
        --- stderr
        error: --creds is for one registry, and this is about r.example and s.example: use --src-creds and --dest-creds, or `roadstead login`
        --- exit code 2
    "#]]);
    std::fs::write(scene.place.path().join("file"), "").unwrap();
    scene.check(
        &["copy", "-q", "tree:org/tool:1", "oci:file/layout"],
        expect![[r#"
        $ roadstead copy -q tree:org/tool:1 oci:file/layout
        --- stderr
        error: file/layout can't be written
          because: Not a directory (os error 20)
        --- exit code 8
    "#]],
    );
    // Which of the blobs is refused first is chance.
    let refused = scene.run(&["copy", "-q", "tree:org/tool:1", "docker://REGISTRY/pushed:1"]);
    assert_eq!(refused.code(), 8, "{refused}");
    assert!(refused.stderr.contains("/v2/pushed/blobs/uploads/ answers 405 Method Not Allowed"), "{refused}");
}

use super::*;

#[test]
fn an_image_and_the_same_again() {
    let scene = Scene::new();
    scene.check(
        &["add", "REGISTRY/org/tool:1"],
        expect![[r#"
        $ roadstead add REGISTRY/org/tool:1
        org/tool:1@sha256:<one>
        --- stderr
        REGISTRY/org/tool:1 is sha256:<one>
          <one-config>    418 B
          <one-layer-0>     96 B
          <one-layer-1>     98 B
        3 blobs copied (612 B), TIME s
    "#]],
    );
    scene.check(
        &["add", "REGISTRY/org/tool:1"],
        expect![[r#"
        $ roadstead add REGISTRY/org/tool:1
        org/tool:1@sha256:<one>
        --- stderr
        REGISTRY/org/tool:1 is sha256:<one>
        0 blobs copied (0 B), 3 already there (612 B), TIME s
    "#]],
    );
    // What the two share is not fetched again.
    scene.check(
        &["add", "docker://REGISTRY/org/tool:2"],
        expect![[r#"
        $ roadstead add docker://REGISTRY/org/tool:2
        org/tool:2@sha256:<two>
        --- stderr
        REGISTRY/org/tool:2 is sha256:<two>
          <two-config>    418 B
          <two-layer-1>     98 B
        2 blobs copied (516 B), 1 already there (96 B), TIME s
    "#]],
    );
}

#[test]
fn many_images() {
    let scene = Scene::new();
    scene.check(
        &["add", "-q", "REGISTRY/org/tool:1", "REGISTRY/org/tool:2", "REGISTRY/base:3.20"],
        expect![[r#"
        $ roadstead add -q REGISTRY/org/tool:1 REGISTRY/org/tool:2 REGISTRY/base:3.20
        base:3.20@sha256:<index>
        org/tool:1@sha256:<one>
        org/tool:2@sha256:<two>
    "#]],
    );
    scene.check(
        &["list", "--flat"],
        expect![[r#"
        $ roadstead list --flat
        base:3.20
        org/tool:1
        org/tool:2
    "#]],
    );
}

#[test]
fn one_that_fails_keeps_none_of_the_others_back() {
    let scene = Scene::new();
    scene.check(
        &["add", "-q", "REGISTRY/org/tool:1", "REGISTRY/org/tool:9", "REGISTRY/no/such"],
        expect![[r#"
        $ roadstead add -q REGISTRY/org/tool:1 REGISTRY/org/tool:9 REGISTRY/no/such
        org/tool:1@sha256:<one>
        --- stderr
        error: REGISTRY/no/such:latest was not found
          because: http://REGISTRY/v2/no/such/manifests/latest answers 404 Not Found
          because: MANIFEST_UNKNOWN: manifest unknown to registry
        error: REGISTRY/org/tool:9 was not found
          because: http://REGISTRY/v2/org/tool/manifests/9 answers 404 Not Found
          because: MANIFEST_UNKNOWN: manifest unknown to registry
        --- exit code 3
    "#]],
    );
    scene.check(
        &["list", "--flat"],
        expect![[r#"
        $ roadstead list --flat
        org/tool:1
    "#]],
    );
}

#[test]
fn a_list_on_standard_input() {
    let scene = Scene::new();
    let list = "# tools\n\nREGISTRY/org/tool:1\n  REGISTRY/org/tool:2  \n".replace("REGISTRY", &scene.authority);
    let ran = scene.place.run_with_input(&["add", "-q", "-"], &list);
    snapshot(
        &scene.words,
        &ran,
        expect![[r#"
        $ roadstead add -q -
        org/tool:1@sha256:<one>
        org/tool:2@sha256:<two>
    "#]],
    );
    let ran = scene.place.run_with_input(&["add", "-"], "not an image\n");
    snapshot(
        &scene.words,
        &ran,
        expect![[r#"
            $ roadstead add -
            --- stderr
            error: "not an image" on standard input names no image
              because: "not an image" is not a repository name: expected lower-case letters, digits and single separators (. _ __ -), in components joined by /, 255 characters at most
            --- exit code 1
        "#]],
    );
}

#[test]
fn names() {
    let scene = Scene::new();
    scene.check(
        &["add", "-q", "REGISTRY/org/tool:1", "-t", "mine", "-t", "mine:7", "-t", "a/b/c:x"],
        expect![[r#"
        $ roadstead add -q REGISTRY/org/tool:1 -t mine -t mine:7 -t a/b/c:x
        a/b/c:x@sha256:<one>
        mine:1@sha256:<one>
        mine:7@sha256:<one>
    "#]],
    );
    scene.check(
        &["add", "-q", "REGISTRY/org/tool:1", "--name-prefix", "mirror/eu"],
        expect![[r#"
        $ roadstead add -q REGISTRY/org/tool:1 --name-prefix mirror/eu
        mirror/eu/org/tool:1@sha256:<one>
    "#]],
    );
    scene.check(
        &["add", "-q", "REGISTRY/org/tool:1", "--keep-registry"],
        expect![[r#"
        $ roadstead add -q REGISTRY/org/tool:1 --keep-registry
        REGISTRY_PORT/org/tool:1@sha256:<one>
    "#]],
    );
    let digest = format!("REGISTRY/base@{}", scene.index.digest());
    scene.check(
        &["add", "-q", &digest],
        expect![[r#"
        $ roadstead add -q REGISTRY/base@sha256:<index>
        base@sha256:<index>
    "#]],
    );
    scene.check(
        &["add", "-q", &digest, "-t", "pinned:1"],
        expect![[r#"
        $ roadstead add -q REGISTRY/base@sha256:<index> -t pinned:1
        pinned:1@sha256:<index>
    "#]],
    );
    scene.check(
        &["list", "--flat", "--all"],
        expect![[r#"
        $ roadstead list --flat --all
        REGISTRY_PORT/org/tool:1
        a/b/c:x
        base@sha256:<index-child-0>
        base@sha256:<index-child-1>
        base@sha256:<index-child-2>
        base@sha256:<index>
        mine:1
        mine:7
        mirror/eu/org/tool:1
        pinned:1
        pinned@sha256:<index-child-0>
        pinned@sha256:<index-child-1>
        pinned@sha256:<index-child-2>
    "#]],
    );
}

#[test]
fn names_that_can_not_be() {
    let scene = Scene::new();
    scene.check(
        &["add", "REGISTRY/org/tool:1", "REGISTRY/org/tool:2", "-t", "one"],
        expect![[r#"
        $ roadstead add REGISTRY/org/tool:1 REGISTRY/org/tool:2 -t one
        --- stderr
        error: --tag names one image, and there are 2
        --- exit code 2
    "#]],
    );
    scene.check(&["add", "REGISTRY/Org/Tool"], expect![[r#"
        $ roadstead add REGISTRY/Org/Tool
        --- stderr
        error: invalid value 'REGISTRY/Org/Tool' for '<SOURCE>...': "Org/Tool" is not a repository name: expected lower-case letters, digits and single separators (. _ __ -), in components joined by /, 255 characters at most

        For more information, try '--help'.
        --- exit code 2
    "#]]);
    scene.check(&["add", "REGISTRY/org/tool:1", "-t", "Bad"], expect![[r#"
        $ roadstead add REGISTRY/org/tool:1 -t Bad
        --- stderr
        error: invalid value 'Bad' for '--tag <REPOSITORY[:TAG]>': "Bad" is not a repository name: expected lower-case letters, digits and single separators (. _ __ -), in components joined by /, 255 characters at most

        For more information, try '--help'.
        --- exit code 2
    "#]]);
    scene.check(
        &["add"],
        expect![[r#"
            $ roadstead add
            --- stderr
            error: the following required arguments were not provided:
              <SOURCE>...

            Usage: roadstead add <SOURCE>...

            For more information, try '--help'.
            --- exit code 2
        "#]],
    );
    assert!(!scene.place.tree().exists(), "nothing was added, and there is a tree");
}

#[test]
fn one_platform() {
    let scene = Scene::new();
    scene.check(
        &["add", "REGISTRY/base:3.20", "--platform", "linux/arm64"],
        expect![[r#"
        $ roadstead add REGISTRY/base:3.20 --platform linux/arm64
        base:3.20@sha256:<index>
        --- stderr
        REGISTRY/base:3.20 is sha256:<index>
          <index-child-1-config>    276 B
          <index-child-1-layer-0>    104 B
        2 blobs copied (380 B), TIME s
        left out, as asked: 2 manifests of other platforms
    "#]],
    );
    scene.check(
        &["list", "-l"],
        expect![[r#"
        $ roadstead list -l
        REPOSITORY   TAG    DIGEST         TYPE        PLATFORMS     SIZE
        base         3.20   <index>   OCI index   linux/arm64   1.49 kB
    "#]],
    );
    // What was left out comes with a later, full add.
    scene.check(
        &["add", "-q", "REGISTRY/base:3.20"],
        expect![[r#"
        $ roadstead add -q REGISTRY/base:3.20
        base:3.20@sha256:<index>
    "#]],
    );
    scene.check(
        &["list", "-l"],
        expect![[r#"
        $ roadstead list -l
        REPOSITORY   TAG    DIGEST         TYPE        PLATFORMS                                SIZE
        base         3.20   <index>   OCI index   linux/amd64, linux/arm/v7, linux/arm64   3.06 kB
    "#]],
    );
}

#[test]
fn an_index_of_fewer_platforms() {
    let scene = Scene::new();
    let strip = ["--strip-removed-platforms", "--platform", "linux/arm64,linux/arm/v7"];
    let ran = scene.run(&[&["add", "--format=json", "-q", "REGISTRY/base:3.20"], &strip[..]].concat()).ok();
    assert!(ran.text().contains("\"sourceDigest\""), "{ran}");
    scene.check(
        &["list", "--flat"],
        expect![[r#"
        $ roadstead list --flat
        base:3.20
    "#]],
    );
    let listed = scene.run(&["list", "--long"]).ok();
    assert!(listed.text().contains("linux/arm/v7, linux/arm64"), "{listed}");
    scene.check(
        &["add", "REGISTRY/base:3.20", "--strip-removed-platforms"],
        expect![[r#"
            $ roadstead add REGISTRY/base:3.20 --strip-removed-platforms
            --- stderr
            error: the following required arguments were not provided:
              --platform <OS/ARCH[/VARIANT]>

            Usage: roadstead add --platform <OS/ARCH[/VARIANT]> --strip-removed-platforms <SOURCE>...

            For more information, try '--help'.
            --- exit code 2
        "#]],
    );
}

#[test]
fn results_for_scripts() {
    let scene = Scene::new();
    scene.check(
        &["add", "-q", "--format", "json", "REGISTRY/org/tool:1"],
        expect![[r#"
        $ roadstead add -q --format json REGISTRY/org/tool:1
        [
          {
            "image": "REGISTRY/org/tool:1",
            "names": [
              "org/tool:1"
            ],
            "digest": "sha256:<one>",
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "changed": true
          }
        ]
    "#]],
    );
    scene.check(
        &["add", "-q", "--format", "json", "REGISTRY/org/tool:1"],
        expect![[r#"
        $ roadstead add -q --format json REGISTRY/org/tool:1
        [
          {
            "image": "REGISTRY/org/tool:1",
            "names": [
              "org/tool:1"
            ],
            "digest": "sha256:<one>",
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "changed": false
          }
        ]
    "#]],
    );
}

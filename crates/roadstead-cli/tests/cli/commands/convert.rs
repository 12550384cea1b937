use super::*;
use crate::support::save;

/// An archive `saved.tar`.
fn saved(place: &Place) {
    let image = ImageBuilder::new().uncompressed().layer("saved").build();
    save(&image, "saved:1", &place.path().join("saved.tar"));
}

#[test]
fn layers_are_compressed_where_no_digest_is_lost() {
    let scene = Scene::new();
    saved(&scene.place);
    scene.check(
        &["add", "docker-archive:saved.tar"],
        expect![[r#"
            $ roadstead add docker-archive:saved.tar
            saved:1@sha256:735e98a737da1df90d9853da49b72998842899b4acca5049ab5170915b15fb4f
            --- stderr
              e97705e7fb0e  2.05 kB, compressed
              f8d3d32fe32a    276 B
            2 blobs copied (2.32 kB), TIME s
        "#]],
    );
    scene.check(
        &["add", "docker-archive:saved.tar"],
        expect![[r#"
        $ roadstead add docker-archive:saved.tar
        saved:1@sha256:735e98a737da1df90d9853da49b72998842899b4acca5049ab5170915b15fb4f
        --- stderr
        0 blobs copied (0 B), 2 already there (362 B), TIME s
    "#]],
    );
    scene.check(
        &["add", "docker-archive:saved.tar", "--compress", "none", "-t", "saved:plain"],
        expect![[r#"
        $ roadstead add docker-archive:saved.tar --compress none -t saved:plain
        saved:plain@sha256:dc1461727d34715fe014af4974e0f70326e8424a7b743cd9f17bf2421605a670
        --- stderr
          e97705e7fb0e  2.05 kB
        1 blob copied (2.05 kB), 1 already there (276 B), TIME s
    "#]],
    );
    scene.check(
        &["add", "docker-archive:saved.tar", "--compress", "zstd:19", "-t", "saved:zstd"],
        expect![[r#"
        $ roadstead add docker-archive:saved.tar --compress zstd:19 -t saved:zstd
        saved:zstd@sha256:c40cb50741308e8d20ea90afa6a68e47eea1fddf0d43e743b60a2c7684aa97b9
        --- stderr
          e97705e7fb0e  2.05 kB, compressed
        1 blob copied (2.05 kB), 1 already there (276 B), TIME s
    "#]],
    );
    // What has a digest keeps it, until somebody says otherwise.
    scene.check(
        &["copy", "tree:saved:plain", "oci:layout:same"],
        expect![[r#"
            $ roadstead copy tree:saved:plain oci:layout:same
            oci:layout:same@sha256:dc1461727d34715fe014af4974e0f70326e8424a7b743cd9f17bf2421605a670
            --- stderr
            tree:PLACE/registry//saved:plain is sha256:dc1461727d34715fe014af4974e0f70326e8424a7b743cd9f17bf2421605a670
              e97705e7fb0e  2.05 kB
              f8d3d32fe32a    276 B
            2 blobs copied (2.32 kB), TIME s
        "#]],
    );
    scene.check(&["copy", "tree:saved:plain", "oci:layout:gzip", "--compress", "gzip:9"], expect![[r#"
        $ roadstead copy tree:saved:plain oci:layout:gzip --compress gzip:9
        oci:layout:gzip@sha256:d3eb0f451c4b653b4aadda2d0fad26b426d8ca7bab545d70dca9e88ce998350f
        --- stderr
        tree:PLACE/registry//saved:plain is sha256:dc1461727d34715fe014af4974e0f70326e8424a7b743cd9f17bf2421605a670
          e97705e7fb0e  2.05 kB, compressed
        1 blob copied (2.05 kB), 1 already there (276 B), TIME s
        tree:PLACE/registry//saved:plain has a new manifest: sha256:d3eb0f451c4b653b4aadda2d0fad26b426d8ca7bab545d70dca9e88ce998350f was sha256:dc1461727d34715fe014af4974e0f70326e8424a7b743cd9f17bf2421605a670; what refers to that one, such as a signature, stays behind
    "#]]);
    scene.check(
        &["copy", "-q", "docker-archive:saved.tar", "dir:folder"],
        expect![[r#"
        $ roadstead copy -q docker-archive:saved.tar dir:folder
        dir:folder@sha256:dc1461727d34715fe014af4974e0f70326e8424a7b743cd9f17bf2421605a670
    "#]],
    );
}

#[test]
fn manifests_become_another_specifications() {
    let scene = Scene::new();
    scene.check(&["copy", "--format", "oci", "REGISTRY/org/tool:1", "tree:oci:1"], expect![[r#"
        $ roadstead copy --format oci REGISTRY/org/tool:1 tree:oci:1
        tree:oci:1@sha256:f6841f84a9c83a8dd029114ad0fe44a34d91266fff7085335840d799672ef99d
        --- stderr
        REGISTRY/org/tool:1 is sha256:<one>
          <one-config>    418 B
          <one-layer-0>     96 B
          <one-layer-1>     98 B
        3 blobs copied (612 B), TIME s
        REGISTRY/org/tool:1 has a new manifest: sha256:f6841f84a9c83a8dd029114ad0fe44a34d91266fff7085335840d799672ef99d was sha256:<one>; what refers to that one, such as a signature, stays behind
    "#]]);
    let json = ["--format", "json", "copy", "-q", "--format", "v2s2", "REGISTRY/base:3.20", "tree:docker:1"];
    scene.check(
        &json,
        expect![[r#"
        $ roadstead --format json copy -q --format v2s2 REGISTRY/base:3.20 tree:docker:1
        [
          {
            "image": "REGISTRY/base:3.20",
            "names": [
              "tree:docker:1"
            ],
            "digest": "sha256:3d4cddc9df3b42ff8cb6a586b16cab3e44a945e715b8e0a73801e3db950ceae9",
            "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
            "sourceDigest": "sha256:<index>",
            "changed": true
          }
        ]
    "#]],
    );
    scene.check(
        &["list", "--format", "json", "docker"],
        expect![[r#"
        $ roadstead list --format json docker
        [
          {
            "repository": "docker",
            "tag": "1",
            "digest": "sha256:3d4cddc9df3b42ff8cb6a586b16cab3e44a945e715b8e0a73801e3db950ceae9",
            "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
            "platforms": [
              "linux/amd64",
              "linux/arm/v7",
              "linux/arm64"
            ],
            "size": 3176,
            "absent": 0
          }
        ]
    "#]],
    );
    scene.check(
        &["add", "-q", "--format=keep", "--format=json", "REGISTRY/org/tool:1"],
        expect![[r#"
        $ roadstead add -q --format=keep --format=json REGISTRY/org/tool:1
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
    saved(&scene.place);
    scene.run(&["add", "-q", "docker-archive:saved.tar", "--compress", "zstd"]).ok();
    scene.check(&["copy", "-q", "tree:saved:1", "dir:folder", "--format", "v2s2"], expect![[r#"
        $ roadstead copy -q tree:saved:1 dir:folder --format v2s2
        --- stderr
        error: tree:PLACE/registry//saved:1 can't be converted
          because: sha256:ccf54c26c67a68cd13e489f6395a1e9a5fa5d7e58c718638731aabc454016202 holds "application/vnd.oci.image.layer.v1.tar+zstd", which Docker's schema 2 has no name for
        --- exit code 1
    "#]]);
}

#[test]
fn what_does_not_go_together() {
    let scene = Scene::new();
    for arguments in [
        &["list", "--format", "oci"][..],
        &["--format", "v2s2", "list"],
        &["add", "--format", "oci", "--format", "v2s2", "REGISTRY/org/tool:1"],
        &["--format", "json", "list", "--format", "text"],
        &["add", "--format", "oci", "--compress", "bzip2", "REGISTRY/org/tool:1"],
        &["add", "--format", "yaml", "REGISTRY/org/tool:1"],
        &["add", "-q", "--format", "v2s2", "--compress", "zstd", "REGISTRY/org/tool:1"],
    ] {
        assert_eq!(scene.run(arguments).code(), 2, "{arguments:?}");
    }
    scene.check(
        &["list", "--format", "oci"],
        expect![[r#"
        $ roadstead list --format oci
        --- stderr
        error: this command copies no images: its --format is text or json

        Usage: roadstead [OPTIONS] <COMMAND>

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
    scene.check(
        &["add", "-q", "--format", "v2s2", "--compress", "zstd", "REGISTRY/org/tool:1"],
        expect![[r#"
        $ roadstead add -q --format v2s2 --compress zstd REGISTRY/org/tool:1
        --- stderr
        error: Docker's manifests have no name for layers in zstd: --compress zstd needs --format oci
        --- exit code 2
    "#]],
    );
}

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
    scene.check(&["add", "docker-archive:saved.tar"], expect![[""]]);
    scene.check(&["add", "docker-archive:saved.tar"], expect![[""]]);
    scene.check(&["add", "docker-archive:saved.tar", "--compress", "none", "-t", "saved:plain"], expect![[""]]);
    scene.check(&["add", "docker-archive:saved.tar", "--compress", "zstd:19", "-t", "saved:zstd"], expect![[""]]);
    // What has a digest keeps it, until somebody says otherwise.
    scene.check(&["copy", "tree:saved:plain", "oci:layout:same"], expect![[""]]);
    scene.check(&["copy", "tree:saved:plain", "oci:layout:gzip", "--compress", "gzip:9"], expect![[""]]);
    scene.check(&["copy", "-q", "docker-archive:saved.tar", "dir:folder"], expect![[""]]);
}

#[test]
fn manifests_become_another_specifications() {
    let scene = Scene::new();
    scene.check(&["copy", "--format", "oci", "REGISTRY/org/tool:1", "tree:oci:1"], expect![[""]]);
    let json = ["--format", "json", "copy", "-q", "--format", "v2s2", "REGISTRY/base:3.20", "tree:docker:1"];
    scene.check(&json, expect![[""]]);
    scene.check(&["list", "--format", "json", "docker"], expect![[""]]);
    scene.check(&["add", "-q", "--format=keep", "--format=json", "REGISTRY/org/tool:1"], expect![[""]]);
    saved(&scene.place);
    scene.run(&["add", "-q", "docker-archive:saved.tar", "--compress", "zstd"]).ok();
    scene.check(&["copy", "-q", "tree:saved:1", "dir:folder", "--format", "v2s2"], expect![[""]]);
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
    scene.check(&["list", "--format", "oci"], expect![[""]]);
    scene.check(&["add", "-q", "--format", "v2s2", "--compress", "zstd", "REGISTRY/org/tool:1"], expect![[""]]);
}

//! `add` from everything that is no registry.

use super::*;

/// A scene with what `copy` and `save` make of its images, and nothing in the tree.
fn made() -> Scene {
    let scene = Scene::filled();
    for arguments in [
        &["save", "org/tool:1", "org/tool:2", "-o", "tools.tar"][..],
        &["save", "--type", "oci-archive", "base:3.20", "-o", "base.tar"],
        &["copy", "tree:base:3.20", "oci:layout:edge"],
        &["copy", "tree:org/tool:1", "dir:folder"],
    ] {
        scene.run(&[&["-q"], arguments].concat()).ok();
    }
    std::fs::rename(scene.place.tree(), scene.place.path().join("old")).unwrap();
    scene
}

#[test]
fn all_images_of_an_archive_or_one() {
    let scene = made();
    scene.check(
        &["add", "-q", "docker-archive:tools.tar"],
        expect![[r#"
        $ roadstead add -q docker-archive:tools.tar
        org/tool:1@sha256:<one>
        org/tool:2@sha256:<two>
    "#]],
    );
    scene.check(
        &["add", "docker-archive:tools.tar:org/tool:2", "-t", "two"],
        expect![[r#"
        $ roadstead add docker-archive:tools.tar:org/tool:2 -t two
        two:2@sha256:<two>
        --- stderr
        docker-archive:tools.tar:docker.io/org/tool:2 is sha256:<two>
        0 blobs copied (0 B), 3 already there (612 B), TIME s
    "#]],
    );
    scene.check(&["add", "-q", "docker-archive:tools.tar", "-t", "two"], expect![[r#"
        $ roadstead add -q docker-archive:tools.tar -t two
        --- stderr
        error: --tag names one image, and there are 2: docker-archive:tools.tar:docker.io/org/tool:1, docker-archive:tools.tar:docker.io/org/tool:2
        --- exit code 2
    "#]]);
    scene.check(
        &["add", "docker-archive:tools.tar:org/tool:3"],
        expect![[r#"
        $ roadstead add docker-archive:tools.tar:org/tool:3
        --- stderr
        error: docker-archive:tools.tar:org/tool:3 was not found
          because: there are docker.io/org/tool:1, docker.io/org/tool:2
        --- exit code 3
    "#]],
    );
}

#[test]
fn names_that_a_place_gives() {
    let scene = made();
    scene.check(
        &["add", "-q", "oci-archive:base.tar", "--keep-registry"],
        expect![[r#"
        $ roadstead add -q oci-archive:base.tar --keep-registry
        docker.io/library/base:3.20@sha256:<index>
    "#]],
    );
    scene.check(
        &["add", "oci:layout"],
        expect![[r#"
        $ roadstead add oci:layout
        layout:edge@sha256:<index>
        --- stderr
        oci:layout:edge has no repository's name, and is layout:edge in the tree; --tag names it otherwise
        oci:layout:edge is sha256:<index>
        0 blobs copied (0 B), 6 already there (1.15 kB), TIME s
    "#]],
    );
    scene.check(
        &["add", "-q", "dir:folder", "--name-prefix", "x"],
        expect![[r#"
        $ roadstead add -q dir:folder --name-prefix x
        x/folder:latest@sha256:<one>
    "#]],
    );
    std::fs::rename(scene.place.path().join("folder"), scene.place.path().join("Folder")).unwrap();
    scene.check(
        &["add", "-q", "dir:Folder"],
        expect![[r#"
        $ roadstead add -q dir:Folder
        --- stderr
        error: dir:Folder has no repository's name: name it with --tag
        --- exit code 2
    "#]],
    );
    scene.check(
        &["add", "-q", "dir:Folder", "-t", "named"],
        expect![[r#"
        $ roadstead add -q dir:Folder -t named
        named:latest@sha256:<one>
    "#]],
    );
    scene.check(
        &["list", "--flat"],
        expect![[r#"
        $ roadstead list --flat
        docker.io/library/base:3.20
        layout:edge
        named:latest
        x/folder:latest
    "#]],
    );
}

#[test]
fn standard_input() {
    let scene = made();
    let from = |file: &str, arguments: &[&str]| {
        let file = std::fs::File::open(scene.place.path().join(file)).unwrap();
        Ran::of(scene.place.command(arguments).stdin(file))
    };
    snapshot(
        &scene.words,
        &from("tools.tar", &["add", "-q", "docker-archive:-"]),
        expect![[r#"
        $ roadstead add -q docker-archive:-
        org/tool:1@sha256:<one>
        org/tool:2@sha256:<two>
    "#]],
    );
    snapshot(
        &scene.words,
        &from("base.tar", &["add", "-q", "oci-archive:-:3.20", "-t", "piped"]),
        expect![[r#"
        $ roadstead add -q oci-archive:-:3.20 -t piped
        piped:3.20@sha256:<index>
    "#]],
    );
    scene.check(
        &["add", "-q", "docker-archive:-", "oci-archive:-"],
        expect![[r#"
        $ roadstead add -q docker-archive:- oci-archive:-
        --- stderr
        error: standard input can be read only once
        --- exit code 2
    "#]],
    );
    scene.check(
        &["add", "-q", "docker-archive:-", "--username", "me", "--password-stdin"],
        expect![[r#"
        $ roadstead add -q docker-archive:- --username me --password-stdin
        --- stderr
        error: standard input can't hold both what is added (-) and a password (--password-stdin)
        --- exit code 2
    "#]],
    );
    let ran = scene.place.run_with_input(&["add", "-q", "-"], "oci:layout\ndocker-archive:tools.tar:org/tool:1\n");
    snapshot(
        &scene.words,
        &ran,
        expect![[r#"
        $ roadstead add -q -
        layout:edge@sha256:<index>
        org/tool:1@sha256:<one>
    "#]],
    );
}

#[test]
fn a_folder_of_archives_and_a_pattern() {
    let scene = made();
    let at = |name: &str| scene.place.path().join(name);
    std::fs::create_dir(at("images")).unwrap();
    std::fs::copy(at("tools.tar"), at("images/a.tar")).unwrap();
    std::fs::copy(at("base.tar"), at("images/b.tar")).unwrap();
    let gzip = std::process::Command::new("gzip").arg("-q").arg(at("images/a.tar")).status().unwrap();
    assert!(gzip.success());
    std::fs::write(at("images/readme.txt"), "no archive").unwrap();
    // Both names of both archives; that of Docker is a layout, too.
    scene.check(
        &["add", "-q", "oci-archive:images"],
        expect![[r#"
        $ roadstead add -q oci-archive:images
        base:3.20@sha256:<index>
        org/tool:1@sha256:<one>
        org/tool:2@sha256:<two>
    "#]],
    );
    scene.check(
        &["add", "-q", "docker-archive:images/?.tar.*"],
        expect![[r#"
        $ roadstead add -q docker-archive:images/?.tar.*
        org/tool:1@sha256:<one>
        org/tool:2@sha256:<two>
    "#]],
    );
    scene.check(
        &["add", "-q", "docker-archive:images/*.zip"],
        expect![[r#"
        $ roadstead add -q docker-archive:images/*.zip
        --- stderr
        error: docker-archive:images/*.zip was not found
          because: no file has such a name
        --- exit code 3
    "#]],
    );
    // One that can't be read keeps none of the others back.
    std::fs::write(at("images/c.tar"), "no archive").unwrap();
    std::os::unix::fs::symlink(at("base.tar"), at("images/d.tar")).unwrap();
    scene.check(
        &["add", "-q", "oci-archive:images"],
        expect![[r#"
        $ roadstead add -q oci-archive:images
        base:3.20@sha256:<index>
        org/tool:1@sha256:<one>
        org/tool:2@sha256:<two>
        --- stderr
        error: images/d.tar: it is a symbolic link, and those are not followed
        error: oci-archive:images/c.tar: it is no tar archive
        --- exit code 7
    "#]],
    );
}

#[test]
fn trees() {
    let scene = made();
    scene.check(
        &["add", "-q", "tree:old//"],
        expect![[r#"
        $ roadstead add -q tree:old//
        base:3.20@sha256:<index>
        org/tool:1@sha256:<one>
        org/tool:2@sha256:<two>
    "#]],
    );
    scene.check(
        &["add", "-q", "tree:old//org/tool", "--name-prefix", "again"],
        expect![[r#"
        $ roadstead add -q tree:old//org/tool --name-prefix again
        again/org/tool:1@sha256:<one>
        again/org/tool:2@sha256:<two>
    "#]],
    );
    scene.check(
        &["add", "-q", "tree:base:3.20", "-t", "base:copy"],
        expect![[r#"
        $ roadstead add -q tree:base:3.20 -t base:copy
        base:copy@sha256:<index>
    "#]],
    );
    scene.check(
        &["add", "-q", "tree:old//none", "tree:old//base:9", "tree:nowhere//"],
        expect![[r#"
        $ roadstead add -q tree:old//none tree:old//base:9 tree:nowhere//
        --- stderr
        error: tree:old//none was not found
        error: there is no registry tree at nowhere
          hint: make one with `roadstead add IMAGE`, or name another one with --tree DIR
        error: tree:PLACE/old//base:9 was not found
        --- exit code 3
    "#]],
    );
    scene.check(
        &["add", "-q", "tree:old//", "-t", "one"],
        expect![[r#"
        $ roadstead add -q tree:old// -t one
        --- stderr
        error: --tag names one image, and a whole tree has many: write REPOSITORY:TAG behind it
        --- exit code 2
    "#]],
    );
    scene.check(
        &["add", "-q", "tree:http://REGISTRY//org/tool:2", "-t", "served"],
        expect![[r#"
        $ roadstead add -q tree:http://REGISTRY//org/tool:2 -t served
        served:2@sha256:<two>
    "#]],
    );
}

#[test]
fn two_places_with_one_name() {
    let scene = made();
    // The same image twice is no contradiction.
    std::fs::copy(scene.place.path().join("tools.tar"), scene.place.path().join("again.tar")).unwrap();
    scene.check(
        &["add", "-q", "docker-archive:again.tar", "docker-archive:tools.tar:org/tool:1"],
        expect![[r#"
        $ roadstead add -q docker-archive:again.tar docker-archive:tools.tar:org/tool:1
        org/tool:1@sha256:<one>
        org/tool:2@sha256:<two>
        org/tool:1@sha256:<one>
    "#]],
    );
    scene.check(
        &["add", "-q", "oci:layout", "dir:folder", "--name-prefix", "p"],
        expect![[r#"
        $ roadstead add -q oci:layout dir:folder --name-prefix p
        p/folder:latest@sha256:<one>
        p/layout:edge@sha256:<index>
    "#]],
    );
    scene.run(&["copy", "-q", "tree:old//org/tool:2", "oci:other/layout:edge"]).ok();
    scene.check(&["add", "-q", "oci:layout", "oci:other/layout"], expect![[r#"
        $ roadstead add -q oci:layout oci:other/layout
        layout:edge@sha256:<index>
        --- stderr
        error: oci:layout:edge and oci:other/layout:edge would both be layout:edge; use --keep-registry, or add them one by one with --tag
        --- exit code 1
    "#]]);
}

#[test]
fn what_is_no_place() {
    let scene = made();
    scene.check(&["add", "containers-storage:quay.io/org/app:1"], expect![[r#"
        $ roadstead add containers-storage:quay.io/org/app:1
        --- stderr
        error: invalid value 'containers-storage:quay.io/org/app:1' for '<SOURCE>...': podman's storage is read by podman alone: run `podman save --format oci-archive quay.io/org/app:1 | roadstead add oci-archive:-`, or `podman push quay.io/org/app:1 oci-archive:app.tar:quay.io/org/app:1` and take oci-archive:app.tar

        For more information, try '--help'.
        --- exit code 2
    "#]]);
    scene.check(
        &["add", "oci:"],
        expect![[r#"
        $ roadstead add oci:
        --- stderr
        error: invalid value 'oci:' for '<SOURCE>...': oci: expects FOLDER[:REFERENCE]

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
    scene.check(
        &["add", "docker-daemon:"],
        expect![[r#"
        $ roadstead add docker-daemon:
        --- stderr
        error: docker-daemon: names no image; with --all it is every image that has a name
        --- exit code 2
    "#]],
    );
    scene.check(
        &["add", "-q", "docker-archive:none.tar", "oci:none", "dir:none"],
        expect![[r#"
        $ roadstead add -q docker-archive:none.tar oci:none dir:none
        --- stderr
        error: docker-archive:none.tar was not found
        error: oci:none was not found
        error: dir:none was not found
        --- exit code 3
    "#]],
    );
}

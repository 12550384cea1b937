//! What other registries keep, and trees elsewhere: into a tree, in one command.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use expect_test::{Expect, expect};
use roadstead::testing::{Image, ImageBuilder, IndexBuilder, MemorySource};
use roadstead_parts::{Crane, Generation, Nginx, Oras, Port, Skopeo, part};

use crate::support::{Place, Ran, State, Words, push, snapshot, write_tree};

fn image(of: &'static str, platform: &str) -> Image {
    ImageBuilder::new().layer("shared").layer(of).platform(platform).build()
}

fn index() -> Image {
    IndexBuilder::new().image(image("amd", "linux/amd64")).image(image("arm", "linux/arm64")).build()
}

/// The names in a tree and their digests, as `list` says.
fn listed(place: &Place) -> BTreeSet<(String, String)> {
    let ran = place.run(&["list", "--format", "json"]).ok();
    let images: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let images = images.as_array().unwrap().iter().filter(|image| image["tag"].is_string());
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    images
        .map(|image| (format!("{}:{}", text(&image["repository"]), text(&image["tag"])), text(&image["digest"])))
        .collect()
}

/// Runs the binary where nothing of a folder can be written, whoever asks.
fn run_read_only(place: &Place, folder: &Path, arguments: &[&str]) -> Ran {
    let script = r#"
        mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 99
        touch "$1/written" 2>/dev/null && exit 98
        shift
        exec "$0" "$@"
    "#;
    let mut command = Command::new(part::installed("unshare"));
    command.args(["--mount", "--propagation=private", "sh", "-c", script, env!("CARGO_BIN_EXE_roadstead")]);
    command.arg(folder).args(arguments).current_dir(place.path()).env("HOME", place.path());
    Ran::of(command.stdin(Stdio::null()))
}

#[test]
fn a_registry_that_runs_becomes_a_tree_in_one_command() {
    for generation in Generation::ALL {
        let place = Place::new();
        let data = place.path().join("data");
        let registry = generation.registry().data(&data).start();
        let at = |name: &str| format!("{}/{name}", registry.authority());
        push(&registry.authority(), "first/app", "1", &index()).unwrap();
        push(&registry.authority(), "first/app", "gone", &image("gone", "linux/amd64")).unwrap();
        Crane.crane(&["copy", "--insecure", &at("first/app:1"), &at("second/deep/app:2")]).unwrap();
        let gone = image("gone", "linux/amd64").digest();
        Crane.crane(&["delete", "--insecure", &at(&format!("first/app@{gone}"))]).unwrap();
        fs::write(place.path().join("note"), "x").unwrap();
        let note = format!("{}:text/plain", place.path().join("note").display());
        let attach = ["attach", "--plain-http", "--disable-path-validation", "--artifact-type", "application/x.y"];
        Oras.oras(&[&attach[..], &[&at("first/app:1"), &note]].concat()).unwrap();

        let ran = run_read_only(&place, &data, &["add", "--referrers", "distribution:data"]);
        // The list of referrers is a tag there, which a tree makes by itself.
        assert_eq!(ran.code(), 0, "{generation:?}: {ran}");
        let digest = index().digest().to_string();
        let expected = ["first/app:1", "second/deep/app:2"].map(|name| (name.to_owned(), digest.clone()));
        assert_eq!(listed(&place), BTreeSet::from(expected), "{generation:?}");
        let shown = place.run(&["inspect", "first/app:1", "--format", "json"]).ok();
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(shown["referrers"][0]["artifactType"], "application/x.y", "{generation:?}: {shown}");

        // Again, and nothing changes; a part of it, under another name.
        let before = State::of(&place.tree());
        place.run(&["add", "-q", "--referrers", "distribution:data/docker/registry"]).ok();
        assert_eq!(State::of(&place.tree()), before, "{generation:?}");
        let chosen = ["add", "-q", "distribution:data//second/deep/app:2", "-t", "chosen:latest"];
        let ran = place.run(&chosen).ok();
        assert_eq!(ran.text(), format!("chosen:latest@{digest}\n"), "{generation:?}");
        let ran = place.run(&["add", "-q", "distribution:data//first/app", "--name-prefix", "all"]).ok();
        assert_eq!(ran.text(), format!("all/first/app:1@{digest}\n"), "{generation:?}");
    }
}

#[test]
fn folders_of_others_are_adopted() {
    let (place, index) = (Place::new(), index());
    let digest = index.digest().to_string();
    let registry = Generation::V3.registry().start();
    push(&registry.authority(), "app", "1", &index).unwrap();
    let from = format!("docker://{}/app:1", registry.authority());
    fs::create_dir_all(place.path().join("images/app")).unwrap();
    for tag in ["1", "2"] {
        let to = place.path().join("images/app").join(tag);
        Skopeo.copy(&from, &format!("dir:{}", to.display())).unwrap();
    }
    let expected = ["app:1", "app:2"].map(|name| (name.to_owned(), digest.clone()));
    for source in ["static-container-registry:.", "static-container-registry:images"] {
        let images = place.path().join("images");
        let ran = run_read_only(&place, &images, &["add", "-q", source]);
        assert_eq!(ran.code(), 0, "{source}: {ran}");
        assert_eq!(listed(&place), BTreeSet::from(expected.clone()), "{source}");
        fs::remove_dir_all(place.tree()).unwrap();
    }

    // As registrish's script moves those files.
    for folder in ["manifests", "blobs"] {
        fs::create_dir_all(place.path().join("site/v2/app").join(folder)).unwrap();
    }
    for entry in fs::read_dir(place.path().join("images/app/1")).unwrap() {
        let path = entry.unwrap().path();
        let (name, bytes) = (path.file_name().unwrap().to_str().unwrap(), fs::read(&path).unwrap());
        let home = place.path().join("site/v2/app");
        let digest = roadstead::oci::Algorithm::Sha256.digest(&bytes).to_string();
        if name == "manifest.json" {
            fs::write(home.join("manifests/latest"), &bytes).unwrap();
        }
        match name {
            "version" => {}
            name if name.ends_with("manifest.json") => fs::write(home.join("manifests").join(digest), bytes).unwrap(),
            _ => fs::write(home.join("blobs").join(digest), bytes).unwrap(),
        }
    }
    for source in ["registrish:site", "registrish:site/v2//app:latest"] {
        let ran = run_read_only(&place, &place.path().join("site"), &["add", "-q", source]);
        assert_eq!(ran.text(), format!("app:latest@{digest}\n"), "{source}: {ran}");
        fs::remove_dir_all(place.tree()).unwrap();
    }
}

#[test]
fn a_tree_below_a_url() {
    let (place, index) = (Place::new(), index());
    let source = MemorySource::new();
    source.add("org/app:1", &index);
    source.add("org/app:2", &image("two", "linux/amd64"));
    write_tree(&place.path().join("web/project"), &source);
    let port = Port::free();
    let http = format!("server {{ listen {}; root {}; }}", port.address(), place.path().join("web").display());
    let server = Nginx::start_http(&http, port);
    let url = format!("tree:{}/project//", server.url());
    let ran = place.run(&["add", "-q", &format!("{url}org/app:1"), "-t", "app"]).ok();
    assert_eq!(ran.text(), format!("app:1@{}\n", index.digest()));
    place.run(&["add", "-q", &url]).ok();
    let names: Vec<String> = listed(&place).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["app:1", "org/app:1", "org/app:2"]);
}

/// Runs that are compared with all that they print.
struct Scene {
    place: Place,
    words: Words,
}

impl Scene {
    #[track_caller]
    fn check(&self, arguments: &[&str], expected: Expect) {
        snapshot(&self.words, &self.place.run(arguments), expected);
    }
}

#[test]
fn what_a_tree_left_out() {
    let (place, index) = (Place::new(), index());
    let source = MemorySource::new();
    source.add("app:1", &index);
    write_tree(&place.path().join("whole"), &source);
    let words = Words::of(&place, &[("index", &index)]);
    let scene = Scene { place, words };
    scene.place.run(&["--tree", "thin", "add", "-q", "--platform", "linux/amd64", "tree:whole//"]).ok();
    // The record comes along, and the copy is completed as the original would be.
    scene.check(
        &["add", "tree:thin//app:1"],
        expect![[r#"
        $ roadstead add tree:thin//app:1
        app:1@sha256:<index>
        --- stderr
        tree:PLACE/thin//app:1 is sha256:<index>
          <index-child-0-config>    418 B
          <index-child-0-layer-0>     96 B
          <index-child-0-layer-1>     98 B
        3 blobs copied (612 B), TIME s
        left out, as at the source: 1 manifest
    "#]],
    );
    scene.check(
        &["list", "-l"],
        expect![[r#"
        $ roadstead list -l
        REPOSITORY   TAG   DIGEST         TYPE        PLATFORMS     SIZE
        app          1     <index>   OCI index   linux/amd64   1.66 kB
    "#]],
    );
    scene.check(&["copy", "tree:thin//app:1", "oci:layout"], expect![[r#"
        $ roadstead copy tree:thin//app:1 oci:layout
        --- stderr
        tree:PLACE/thin//app:1 is sha256:<index>
        error: tree:PLACE/thin//app:1 is not whole at the source, which left a part of the index sha256:<index> out on purpose, and the destination can't record that
          hint: copy what is there with --platform OS/ARCH (with --strip-removed-platforms, where the destination wants all of an index), or complete the source with `roadstead add`
        --- exit code 3
    "#]]);
    scene.place.run(&["copy", "-q", "--platform", "linux/amd64", "tree:thin//app:1", "oci:layout"]).ok();
    scene.check(
        &["add", "-q", &format!("tree:thin//app@{}", index.manifest.manifests()[1].digest)],
        expect![[r#"
        $ roadstead add -q tree:thin//app@sha256:<index-child-1>
        --- stderr
        error: tree:PLACE/thin//app@sha256:<index-child-1> was not found
          because: the tree keeps only some platforms of sha256:<index>, and left it out
        --- exit code 3
    "#]],
    );
    // Without its record it is not whole.
    fs::remove_dir_all(scene.place.path().join("thin/.roadstead/left-out")).unwrap();
    scene.check(&["--tree", "other", "add", "tree:thin//app:1"], expect![[r#"
        $ roadstead --tree other add tree:thin//app:1
        --- stderr
        tree:PLACE/thin//app:1 is sha256:<index>
          <index-child-0-config>    418 B
          <index-child-0-layer-0>     96 B
          <index-child-0-layer-1>     98 B
        3 blobs copied (612 B), TIME s
        error: tree:PLACE/thin//app:1 is not whole at the source: an index names sha256:<index-child-1> (linux/arm64), which isn't there
          because: tree:PLACE/thin//app@sha256:<index-child-1> was not found
          hint: copy what is there with --platform OS/ARCH
        --- exit code 3
    "#]]);
}

#[test]
fn what_others_keep_is_not_trusted() {
    let place = Place::new();
    fs::create_dir_all(place.path().join("empty")).unwrap();
    let home = place.path().join("data/docker/registry/v2/repositories/app/_manifests/tags");
    for tag in ["garbage", "link", "lost"] {
        fs::create_dir_all(home.join(tag).join("current")).unwrap();
    }
    fs::write(home.join("garbage/current/link"), "../../../../etc/passwd").unwrap();
    fs::write(home.join("lost/current/link"), index().digest().to_string()).unwrap();
    symlink("/etc/hostname", home.join("link/current/link")).unwrap();
    let words = Words::of(&place, &[("index", &index())]);
    let scene = Scene { place, words };
    scene.check(
        &["add", "distribution:nowhere"],
        expect![[r#"
        $ roadstead add distribution:nowhere
        --- stderr
        error: distribution:nowhere was not found
        --- exit code 3
    "#]],
    );
    scene.check(
        &["add", "distribution:empty"],
        expect![[r#"
        $ roadstead add distribution:empty
        --- stderr
        error: distribution:empty: no registry keeps its images there: name the folder that holds docker/registry/v2
        --- exit code 7
    "#]],
    );
    scene.check(
        &["add", "static-container-registry:empty"],
        expect![[r#"
        $ roadstead add static-container-registry:empty
        --- stderr
        error: static-container-registry:empty: it has no images, which would be NAME/TAG/manifest.json
        --- exit code 7
    "#]],
    );
    scene.check(
        &["add", "registrish:empty"],
        expect![[r#"
        $ roadstead add registrish:empty
        --- stderr
        error: registrish:empty: it has no images, which would be v2/NAME/manifests/TAG
        --- exit code 7
    "#]],
    );
    scene.check(&["add", "distribution:data//app:garbage"], expect![[r#"
        $ roadstead add distribution:data//app:garbage
        --- stderr
        error: the manifest of distribution:data//app:garbage can't be read from the source
          because: distribution:data: docker/registry/v2/repositories/app/_manifests/tags/garbage/current/link: it holds "../../../../etc/passwd", which is no digest
        --- exit code 7
    "#]]);
    scene.check(&["add", "distribution:data//app:link"], expect![[r#"
        $ roadstead add distribution:data//app:link
        --- stderr
        error: the manifest of distribution:data//app:link can't be read from the source
          because: PLACE/data/docker/registry/v2/repositories/app/_manifests/tags/link/current/link: it is a symbolic link, and those are not followed
        --- exit code 7
    "#]]);
    scene.check(
        &["add", "distribution:data//app:lost"],
        expect![[r#"
        $ roadstead add distribution:data//app:lost
        --- stderr
        error: distribution:data//app:lost was not found
        --- exit code 3
    "#]],
    );
    scene.check(
        &["add", "distribution:data//app:absent"],
        expect![[r#"
        $ roadstead add distribution:data//app:absent
        --- stderr
        error: distribution:data//app:absent was not found
        --- exit code 3
    "#]],
    );
    scene.check(&["copy", "tree:app:1", "distribution:data//app:1"], expect![[r#"
        $ roadstead copy tree:app:1 distribution:data//app:1
        --- stderr
        error: distribution:data//app:1 is no destination: what others keep is read and never written; for a tree write tree:FOLDER//REPOSITORY:TAG
        --- exit code 2
    "#]]);
    scene.check(
        &["list"],
        expect![[r#"
        $ roadstead list
        --- stderr
        the tree is empty; `roadstead add IMAGE` fills it
    "#]],
    );
}

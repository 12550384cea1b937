//! Archives and folders that lie, and places where nothing is: a named error, its exit code, and a tree as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use roadstead::testing::{ImageBuilder, Layer, MemorySource, noise};

use crate::support::{Place, Ran, State, write_tree};

/// A place whose tree has `app:1`, with what `save` and `copy` make of it.
struct Scene(Place);

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let source = MemorySource::new();
        source.add("app:1", &ImageBuilder::new().layer(Layer::new().file("noise", noise(7, 64 << 10), 0o644)).build());
        write_tree(&place.tree(), &source);
        place.run(&["save", "-q", "app:1", "-o", "good.tar"]).ok();
        place.run(&["copy", "-q", "tree:app:1", "oci:layout:1"]).ok();
        place.run(&["copy", "-q", "tree:app:1", "dir:dir"]).ok();
        Self(place)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Adds to another tree that has `app:1`, too, and checks that it stays as it was.
    #[track_caller]
    fn refused(&self, source: &str, code: i32, said: &str) -> Ran {
        let before = State::of(&self.0.tree()).without_blobs();
        let ran = self.0.run(&["add", "-q", source, "-t", "bad:1"]);
        assert_eq!(ran.code(), code, "{ran}");
        assert!(ran.stderr.contains(said), "{said:?} is missing\n{ran}");
        let after = State::of(&self.0.tree()).without_blobs();
        assert!(before == after, "{:?} became {:?}\n{ran}", before.paths(), after.paths());
        ran
    }

    /// Packs files with the real tar, under other names.
    fn pack(&self, archive: &str, arguments: &[&str]) {
        let mut tar = Command::new("tar");
        let packed = tar.arg("-cPf").arg(self.at(archive)).arg("-C").arg(self.at("layout")).args(arguments).status();
        assert!(packed.unwrap().success());
    }
}

#[test]
fn archives_that_are_cut_or_changed() {
    let scene = Scene::new();
    let good = fs::read(scene.at("good.tar")).unwrap();
    for cut in [0, 1, 511, 512, 1100, 1700, good.len() / 2] {
        fs::write(scene.at("cut.tar"), &good[..cut]).unwrap();
        for transport in ["docker-archive", "oci-archive"] {
            let ran = scene.0.run(&["add", "-q", &format!("{transport}:cut.tar"), "-t", "bad:1"]);
            assert_eq!(ran.code(), 7, "{cut} bytes\n{ran}");
        }
        scene.refused("docker-archive:cut.tar", 7, "docker-archive:cut.tar");
    }
    fs::write(scene.at("text.tar"), "no archive at all\n".repeat(100)).unwrap();
    scene.refused("docker-archive:text.tar", 7, "docker-archive:text.tar");
}

#[test]
fn blobs_with_other_bytes() {
    let scene = Scene::new();
    // The layer is the largest, and not in the tree.
    let blobs = scene.at("layout/blobs/sha256");
    let layer = fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| path.metadata().unwrap().len());
    let layer = layer.unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&layer, bytes).unwrap();
    fs::remove_dir_all(scene.0.tree()).unwrap();
    let other = MemorySource::new();
    other.add("other:1", &ImageBuilder::new().layer("other").build());
    write_tree(&scene.0.tree(), &other);
    scene.refused("oci:layout", 7, layer.file_name().unwrap().to_str().unwrap());
    scene.pack("changed.tar", &["."]);
    scene.refused("oci-archive:changed.tar", 7, "oci-archive:changed.tar");
    fs::remove_file(layer).unwrap();
    scene.pack("lacking.tar", &["."]);
    scene.refused("oci-archive:lacking.tar", 3, "blob sha256:");
}

#[test]
fn names_that_lead_elsewhere() {
    let scene = Scene::new();
    scene.pack("above.tar", &["--transform=s,^,../../,", "."]);
    scene.refused("oci-archive:above.tar", 7, "oci-archive:above.tar");
    let elsewhere = scene.at("elsewhere");
    scene.pack("absolute.tar", &[&format!("--transform=s,^,{}/,", elsewhere.display()), "."]);
    scene.refused("oci-archive:absolute.tar", 7, "oci-archive:absolute.tar");
    assert!(!elsewhere.exists(), "an archive was unpacked");

    // Out of a folder.
    let index = scene.at("layout/index.json");
    fs::rename(&index, scene.at("index.json")).unwrap();
    std::os::unix::fs::symlink("../index.json", &index).unwrap();
    scene.refused("oci:layout", 7, "symbolic link");
    let manifest = scene.at("dir/manifest.json");
    fs::rename(&manifest, scene.at("manifest.json")).unwrap();
    std::os::unix::fs::symlink("../manifest.json", &manifest).unwrap();
    scene.refused("dir:dir", 7, "symbolic link");
}

#[test]
fn places_where_nothing_is() {
    let scene = Scene::new();
    for source in ["docker-archive:none.tar", "oci-archive:none.tar:1", "oci:none:1", "dir:none", "tree:none//app:1"] {
        scene.refused(source, 3, "none");
    }
    scene.refused("tree:app:2", 3, "app:2");
    scene.refused("oci:layout:9", 3, "oci:layout:9 was not found");
    scene.refused("oci-archive:layout", 3, "oci-archive:layout was not found");
    scene.refused("oci:good.tar", 7, "it is no folder");
    scene.refused("docker-archive:-", 7, "docker-archive:-");
}

#[test]
fn engines_that_do_not_answer() {
    let scene = Scene::new();
    let ask = |host: &str, arguments: &[&str]| Ran::of(scene.0.command(arguments).env("DOCKER_HOST", host));
    let socket = scene.at("s");
    for stale in [false, true] {
        if stale {
            drop(UnixListener::bind(&socket).unwrap());
        }
        let host = format!("unix://{}", socket.display());
        for arguments in [&["add", "-q", "docker-daemon:app:1"], &["copy", "tree:app:1", "docker-daemon:app:1"][..]] {
            let ran = ask(&host, arguments);
            assert_eq!(ran.code(), 6, "{ran}");
            assert!(ran.stderr.contains(&host) && ran.stderr.contains("is the engine running?"), "{ran}");
        }
    }
    // A socket that is for others. Root may open all, unless it has given that up.
    fs::remove_file(&socket).unwrap();
    let _engine = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, PermissionsExt::from_mode(0o000)).unwrap();
    let roadstead = scene.0.command(&["add", "-q", "docker-daemon:app:1"]);
    let mut denied = if rustix::process::geteuid().is_root() {
        let mut without = Command::new("setpriv");
        without.args(["--bounding-set=-dac_override,-dac_read_search", "--"]);
        without.arg(roadstead.get_program()).args(roadstead.get_args()).current_dir(scene.0.path());
        without
    } else {
        roadstead
    };
    let ran = Ran::of(denied.env("DOCKER_HOST", format!("unix://{}", socket.display())));
    assert_eq!(ran.code(), 5, "{ran}");
    assert!(ran.stderr.contains("the group") && ran.stderr.contains("usermod --append --groups"), "{ran}");
    assert!(!ran.stderr.contains("hint:"), "the error says itself what to do\n{ran}");

    let ran = ask("ssh://engine", &["add", "-q", "docker-daemon:app:1"]);
    assert_eq!(ran.code(), 1, "{ran}");
    assert!(ran.stderr.contains("DOCKER_HOST") && ran.stderr.contains("ssh://engine"), "{ran}");
    // Whoever doesn't ask the engine isn't told about it.
    ask("ssh://engine", &["add", "-q", "oci:layout", "-t", "fine:1"]).ok();
}

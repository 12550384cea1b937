//! Every transport with real tools: what they make comes into a tree, goes from there to every destination unchanged, and is
//! taken by whoever reads such places, under its name.

mod hostile;

use std::path::Path;
use std::process::Stdio;

use roadstead::testing::{Format, Image, ImageBuilder, IndexBuilder};
use roadstead_parts::{
    Client as _, Containerd, Crane, Distribution, Dockerd, Engine as _, Folder, Generation, Invocation, Oras, Podman,
    Skopeo, part,
};

use crate::support::{Place, Ran, push};

/// An image of one platform whose layers are no other test's.
fn image(of: &'static str, format: Format) -> Image {
    ImageBuilder::new().layer(of).greeting("ahoy\n").format(format).build()
}

fn index(of: &'static str) -> Image {
    let arm = ImageBuilder::new().layer(of).greeting("ahoy\n").platform("linux/arm64").build();
    IndexBuilder::new().image(image(of, Format::Oci)).image(arm).build()
}

/// A registry with an index, an OCI image and one of Docker's.
struct Origin {
    registry: Distribution,
    index: Image,
    oci: Image,
    docker: Image,
}

impl Origin {
    fn start() -> Self {
        let registry = Generation::V3.registry().start();
        let (index, oci) = (index("transports"), image("transports OCI", Format::Oci));
        let docker = image("transports Docker", Format::Docker);
        for (name, image) in [("index", &index), ("oci", &oci), ("docker", &docker)] {
            push(&registry.authority(), &format!("origin/{name}"), "1", image).unwrap();
        }
        Self { registry, index, oci, docker }
    }

    fn of(&self, name: &str) -> String {
        format!("{}/origin/{name}:1", self.registry.authority())
    }
}

/// What a tool made.
struct Made<'a> {
    by: &'static str,
    source: String,
    image: &'a Image,
    /// Whether the tool keeps manifests. Others make a new one of what they unpacked, with the same config.
    keeps: bool,
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Lets every tool make something that can be read, in a folder.
fn made<'a>(origin: &'a Origin, folder: &Path) -> Vec<Made<'a>> {
    let at = |name: &str| text(&folder.join(name));
    let (index, oci, docker) = (origin.of("index"), origin.of("oci"), origin.of("docker"));
    let mut made =
        vec![Made { by: "registry", source: format!("docker://{index}"), image: &origin.index, keeps: true }];
    let mut add = |by, source: String, image: &'a Image, keeps| made.push(Made { by, source, image, keeps });

    for (by, place) in [
        ("skopeo-oci", format!("oci:{}:1", at("skopeo-oci"))),
        ("skopeo-oci-archive", format!("oci-archive:{}:example.com/skopeo:1", at("skopeo-oci.tar"))),
        ("skopeo-dir", format!("dir:{}", at("skopeo-dir"))),
    ] {
        Skopeo.copy(&format!("docker://{index}"), &place).unwrap();
        add(by, place, &origin.index, true);
    }
    let place = format!("docker-archive:{}:skopeo/docker:1", at("skopeo.tar"));
    Skopeo.skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{docker}"), &place]).unwrap();
    add("skopeo-docker-archive", place, &origin.docker, false);

    Crane.crane(&["pull", "--insecure", "--format=oci", &index, &at("crane")]).unwrap();
    add("crane-oci", format!("oci:{}", at("crane")), &origin.index, true);
    Crane.crane(&["pull", "--insecure", &docker, &at("crane.tar")]).unwrap();
    add("crane-tarball", format!("docker-archive:{}", at("crane.tar")), &origin.docker, false);
    Oras.oras(&["copy", "--no-tty", "--from-plain-http", &index, "--to-oci-layout", &format!("{}:tag", at("oras"))])
        .unwrap();
    add("oras", format!("oci:{}:tag", at("oras")), &origin.index, true);

    let podman = Podman::shared();
    podman.pull(&oci).unwrap();
    for (by, format) in [("podman-docker-archive", "docker-archive"), ("podman-oci-archive", "oci-archive")] {
        podman.podman(&["save", "--quiet", "--format", format, "--output", &at(by), &oci]).unwrap();
        add(by, format!("{format}:{}", at(by)), &origin.oci, false);
    }
    let buildah = |arguments: &[&str]| {
        let storage = ["--root", &at("buildah-root"), "--runroot", &at("buildah-run"), "--storage-driver", "vfs"];
        Invocation::new(part::installed("buildah")).args(storage).args(arguments).as_root().run().unwrap()
    };
    let id = buildah(&["pull", "--quiet", "--tls-verify=false", &oci]).stdout;
    buildah(&["push", "--quiet", id.trim(), &format!("oci:{}:1", at("buildah"))]);
    add("buildah", format!("oci:{}", at("buildah")), &origin.oci, false);

    let engine = Dockerd::shared();
    engine.pull(&docker).unwrap();
    engine.docker(&["save", "--output", &at("saved.tar"), &docker]).unwrap();
    add("docker-save", format!("docker-archive:{}", at("saved.tar")), &origin.docker, false);
    add("docker-daemon", format!("docker-daemon:{docker}"), &origin.docker, false);
    made
}

/// Runs the binary beside the shared engine.
fn run(place: &Place, arguments: &[&str]) -> Ran {
    Ran::of(place.command(arguments).env("DOCKER_HOST", format!("unix://{}", Dockerd::shared().socket().display())))
}

/// The digest in the JSON of a run that copied one image.
fn digest(ran: &Ran) -> String {
    let reports: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}\n{ran}"));
    assert_eq!(reports.as_array().map(Vec::len), Some(1), "{ran}");
    reports[0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn every_source_goes_to_every_destination_unchanged() {
    let (origin, place, folder) = (Origin::start(), Place::new(), Folder::new());
    let json = ["--quiet", "--format=json"];
    for Made { by, source, image, keeps } in made(&origin, folder.path()) {
        let name = format!("{by}:1");
        let added = run(&place, &[&["add"], &json[..], &[&source, "-t", &name]].concat()).ok();
        let held = digest(&added);
        if keeps {
            assert_eq!(held, image.digest().to_string(), "{by}");
        } else {
            let raw = place.run(&["inspect", "--raw", &name]).ok();
            let config = image.manifest.config().unwrap().digest;
            assert!(raw.text().contains(&config.to_string()), "{by} has another config\n{raw}");
        }

        let at = |kind: &str| text(&folder.join(format!("out-{by}.{kind}")));
        let from = format!("tree:{name}");
        for to in [
            format!("oci:{}:1", at("layout")),
            format!("oci-archive:{}:example.com/{by}:1", at("tar")),
            format!("dir:{}", at("dir")),
            format!("tree:{}//{by}:1", at("tree")),
            format!("docker://{}/copied/{by}:1", origin.registry.authority()),
        ] {
            let copied = run(&place, &[&["copy"], &json[..], &[&from, &to]].concat()).ok();
            assert_eq!(digest(&copied), held, "{by} to {to}");
            let back = text(&folder.join("back"));
            let read = run(&place, &[&["--tree", &back, "add"], &json[..], &[&to, "-t", "back"]].concat()).ok();
            assert_eq!(digest(&read), held, "{by} back from {to}");
        }
        // For one platform it is the image of that, or else the same.
        let child = image.children.first().map_or(held.clone(), |child| child.digest().to_string());
        let to = format!("docker-archive:{}:example.com/{by}:1", at("docker"));
        for (from, to) in [(&from, &to), (&to, &format!("docker-daemon:copied/{by}:1"))] {
            let copied = run(&place, &[&["copy", "--platform=linux/amd64"], &json[..], &[from, to]].concat()).ok();
            assert_eq!(digest(&copied), child, "{by} to {to}");
        }
        assert_eq!(Dockerd::shared().run(&format!("copied/{by}:1")).unwrap(), "ahoy\n", "{by}");
    }
}

#[test]
fn images_keep_their_names_in_engines() {
    let (origin, place, folder) = (Origin::start(), Place::new(), Folder::new());
    let [oci, docker] = ["oci", "docker"].map(|name| origin.of(name));
    place.run(&["add", "-q", &oci, "-t", "alone:1"]).ok();
    place.run(&["add", "-q", &docker, "-t", "org/named:2", "-t", "org/named:3"]).ok();
    let file = text(&folder.join("saved.tar"));
    place.run(&["save", "-q", "alone:1", "org/named", "-o", &file]).ok();

    let engine = Dockerd::shared();
    let loaded = engine.docker(&["load", "--input", &file]).unwrap().stdout;
    let podman = Podman::shared();
    let taken = podman.podman(&["load", "--quiet", "--input", &file]).unwrap().stdout;
    let containerd = Containerd::shared();
    containerd.ctr(&["images", "import", &file]).unwrap();
    let listed = containerd.ctr(&["images", "list", "--quiet"]).unwrap().stdout;
    for name in ["alone:1", "org/named:2", "org/named:3"] {
        assert!(loaded.contains(&format!("Loaded image: {name}\n")), "docker: {loaded}");
        assert_eq!(engine.run(name).unwrap(), "ahoy\n", "{name}");
        let full = if name.contains('/') { format!("docker.io/{name}") } else { format!("docker.io/library/{name}") };
        assert!(taken.contains(&full), "podman: {taken}");
        assert!(listed.lines().any(|line| line == full), "containerd: {listed}");
        let raw = Skopeo.skopeo(&["inspect", "--raw", &format!("docker-archive:{file}:{full}")]).unwrap();
        assert!(raw.stdout.contains("layers"), "skopeo: {}", raw.stdout);
    }

    // All that an engine has, and back.
    let tree = text(&folder.join("engine"));
    let refused = run(&place, &["--tree", &tree, "add", "-q", "docker-daemon:"]);
    assert_eq!(refused.code(), 2, "{refused}");
    let all = run(&place, &["--tree", &tree, "add", "-q", "--all", "docker-daemon:"]).ok();
    for name in ["alone:1", "org/named:2", "org/named:3"] {
        assert!(all.text().lines().any(|line| line.starts_with(&format!("{name}@sha256:"))), "{all}");
    }
    let none = run(&place, &["--tree", &tree, "add", "-q", "docker-daemon:none/such:1"]);
    assert_eq!(none.code(), 3, "{none}");
}

#[test]
fn tools_take_what_is_copied() {
    let (origin, place, folder) = (Origin::start(), Place::new(), Folder::new());
    let at = |name: &str| text(&folder.join(name));
    place.run(&["copy", "-q", &origin.of("oci"), &format!("oci:{}:edge", at("layout"))]).ok();
    let digest = origin.oci.digest().to_string();
    let raw = Skopeo.skopeo(&["inspect", "--format", "{{.Digest}}", &format!("oci:{}:edge", at("layout"))]).unwrap();
    assert_eq!(raw.stdout.trim(), digest);
    let umoci = Invocation::new(part::installed("umoci")).args(["stat", "--image", &format!("{}:edge", at("layout"))]);
    assert!(umoci.run().unwrap().stdout.contains("LAYER"));
    let pushed = format!("{}/crane/pushed:1", origin.registry.authority());
    Crane.crane(&["push", "--insecure", &at("layout"), &pushed]).unwrap();
    assert_eq!(Crane.crane(&["digest", "--insecure", &pushed]).unwrap().stdout.trim(), digest);

    // What was pushed by us is whole for others, and a second push moves nothing.
    let copied = format!("docker://{}/elsewhere/index:1", origin.registry.authority());
    let first = place.run(&["copy", &origin.of("index"), &copied]).ok();
    assert!(first.stderr.contains("0 blobs copied"), "blobs of the same registry are mounted\n{first}");
    Crane.crane(&["validate", "--insecure", "--remote", copied.trim_start_matches("docker://")]).unwrap();
    let again = place.run(&["copy", "--format=json", "-q", &origin.of("index"), &copied]).ok();
    assert!(again.text().contains("\"changed\": false"), "{again}");
}

/// The line that the refusal of podman's own storage names.
#[test]
fn podman_pipes_what_its_storage_has() {
    let (origin, place, folder) = (Origin::start(), Place::new(), Folder::new());
    let name = origin.of("oci");
    let refused = place.run(&["add", &format!("containers-storage:{name}")]);
    assert_eq!(refused.code(), 2);
    assert!(
        refused.stderr.contains(&format!("`podman save --format oci-archive {name} | roadstead add oci-archive:-`"))
    );
    let podman = Podman::shared();
    podman.pull(&name).unwrap();
    let file = folder.join("piped.tar");
    podman.podman(&["save", "--quiet", "--format", "oci-archive", "--output", &text(&file), &name]).unwrap();
    // A pipe, as a shell makes it.
    let mut cat = std::process::Command::new("cat").arg(&file).stdout(Stdio::piped()).spawn().unwrap();
    let pipe = cat.stdout.take().unwrap();
    let added = Ran::of(place.command(&["add", "-q", "oci-archive:-"]).stdin(pipe)).ok();
    assert!(cat.wait().unwrap().success());
    assert!(added.text().starts_with("origin/oci:1@sha256:"), "{added}");
    podman
        .podman(&["push", "--quiet", &name, &format!("oci-archive:{}:{name}", text(&folder.join("pushed.tar")))])
        .unwrap();
    let added = place.run(&["add", "-q", &format!("oci-archive:{}", text(&folder.join("pushed.tar")))]).ok();
    assert!(added.text().starts_with("origin/oci:1@sha256:"), "{added}");
}

/// A chart, which is no image: everything but engines takes it as it is.
#[test]
#[ignore = "needs helm, which takes long to build"]
fn charts_of_helm() {
    let (registry, place, folder) = (Generation::V3.registry().start(), Place::new(), Folder::new());
    let at = |name: &str| text(&folder.join(name));
    let helm = |arguments: &[&str]| {
        Invocation::new(part::built("bin/helm")).env("HOME", folder.path()).args(arguments).run().unwrap()
    };
    helm(&["create", &at("chart")]);
    helm(&["package", &at("chart"), "--destination", &at("packed")]);
    let charts = format!("oci://{}/charts", registry.authority());
    helm(&["push", "--plain-http", &at("packed/chart-0.1.0.tgz"), &charts]);

    let origin = format!("{}/charts/chart:0.1.0", registry.authority());
    let json = ["--quiet", "--format=json"];
    let held = digest(&place.run(&[&["add"], &json[..], &[&origin]].concat()).ok());
    let copied = format!("docker://{}/copied/chart:0.1.0", registry.authority());
    for to in [
        &format!("oci:{}:1", at("layout")),
        &format!("oci-archive:{}:1", at("tar")),
        &format!("dir:{}", at("dir")),
        &copied,
    ] {
        let ran = place.run(&[&["copy"], &json[..], &["tree:charts/chart:0.1.0", to]].concat()).ok();
        assert_eq!(digest(&ran), held, "{to}");
        let back = place.run(&[&["--tree", &at("back"), "add"], &json[..], &[to, "-t", "back"]].concat()).ok();
        assert_eq!(digest(&back), held, "back from {to}");
    }
    let pulled = copied.replace("docker://", "oci://").replace(":0.1.0", "");
    std::fs::create_dir(folder.join("pulled")).unwrap();
    helm(&["pull", "--plain-http", &pulled, "--version", "0.1.0", "--destination", &at("pulled")]);
    let packed = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert!(packed("pulled/chart-0.1.0.tgz") == packed("packed/chart-0.1.0.tgz"), "another chart came back");

    let refused =
        place.run(&["copy", "-q", "tree:charts/chart:0.1.0", &format!("docker-archive:{}", at("docker.tar"))]);
    assert_eq!(refused.code(), 8, "{refused}");
    assert!(refused.stderr.contains("it is no image that Docker can load"), "{refused}");
}

/// An engine with containerd's store keeps the manifests that it gets.
#[test]
#[ignore = "needs Docker 29, which takes long to build"]
fn an_engine_that_keeps_manifests() {
    let (origin, place, engine) = (Origin::start(), Place::new(), Dockerd::start_29());
    let run = |arguments: &[&str]| {
        Ran::of(place.command(arguments).env("DOCKER_HOST", format!("unix://{}", engine.socket().display())))
    };
    run(&["copy", "-q", &origin.of("oci"), "docker-daemon:kept:1"]).ok();
    assert_eq!(engine.run("kept:1").unwrap(), "ahoy\n");
    let added = run(&["add", "-q", "docker-daemon:kept:1"]).ok();
    assert_eq!(added.text(), format!("kept:1@{}\n", origin.oci.digest()));
}

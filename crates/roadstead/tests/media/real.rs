//! Media of real programs: what they write is read here, what is written here they read.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use roadstead::image::{Collection, Copier, CopyOptions, RepositorySink, Silent, Source as _};
use roadstead::medium::dir::{Dir, DirSink};
use roadstead::medium::docker_archive::{DockerArchive, DockerArchiveSink};
use roadstead::medium::image_layout::{ImageLayout, ImageLayoutSink};
use roadstead::oci::{Digest, ImageReference, Reference};
use roadstead::testing::{Format, Image, ImageBuilder, IndexBuilder, MemorySource};
use roadstead_parts::{
    Containerd, Crane, Dockerd, Engine as _, Folder, Generation, Invocation, Oras, Podman, Skopeo, part,
};

use crate::support::{dir, expect_whole, names, write_folder};

/// An image of one platform with two layers that are no other test's.
fn image(of: &'static str, format: Format) -> Image {
    ImageBuilder::new().layer(of).greeting("ahoy\n").label("for", of).format(format).build()
}

fn index(of: &'static str) -> Image {
    let arm = ImageBuilder::new().layer(of).greeting("ahoy\n").platform("linux/arm64").build();
    IndexBuilder::new().image(image(of, Format::Oci)).image(arm).build()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A folder with the image as skopeo's folder, `image`, which takes every format.
fn prepared(image: &Image) -> Folder {
    let folder = Folder::new();
    write_folder(&folder.join("image"), &dir(image));
    folder
}

/// The image of [`prepared`] as skopeo names it.
fn source(folder: &Folder) -> String {
    format!("dir:{}", text(&folder.join("image")))
}

/// The image of [`prepared`] as an archive that podman and buildah pull.
fn archived(folder: &Folder, name: &str) -> String {
    let archive = format!("oci-archive:{}", text(&folder.join("in.tar")));
    Skopeo.copy(&source(folder), &format!("{archive}:{name}")).unwrap();
    archive
}

/// Its names and the digest of its only image, whose content is whole.
async fn the_only(what: &str, collection: &dyn Collection) -> (Vec<String>, Digest) {
    let images = collection.images().await.unwrap();
    for image in &images {
        expect_whole(what, collection, image).await;
        assert_eq!(image.descriptor.digest, images[0].descriptor.digest, "{what}: {images:?}");
    }
    let mut names = names(collection).await;
    names.sort_unstable();
    (names, images.first().unwrap_or_else(|| panic!("{what}: no image")).descriptor.digest)
}

async fn config_of(collection: &dyn Collection) -> Digest {
    let images = collection.images().await.unwrap();
    let manifest = collection.content().manifest(&images[0].descriptor).await.unwrap();
    manifest.config().unwrap().digest
}

fn config(image: &Image) -> Digest {
    image.manifest.config().unwrap().digest
}

async fn copy(image: &Image, name: &str, sink: &dyn RepositorySink) {
    let source = MemorySource::new();
    source.add("x", image);
    let from = source.repository(&"x".parse().unwrap());
    let tags: Vec<_> = name.parse::<ImageReference>().unwrap().tag.into_iter().collect();
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    copier.copy(&*from, &Reference::Digest(image.digest()), sink, &tags).await.unwrap();
    sink.finish().await.unwrap();
}

/// Writes an image as an archive for Docker, an archive and a folder of OCI, and skopeo's folder.
async fn written(image: &Image, name: &str) -> Folder {
    let folder = Folder::new();
    let reference = name.parse().unwrap();
    let spool = folder.path();
    let docker = DockerArchiveSink::create(&*folder.join("docker.tar"), spool).unwrap();
    copy(image, name, &*docker.image(Some(&reference))).await;
    docker.close().await.unwrap();
    let oci = ImageLayoutSink::create_archive(&*folder.join("oci.tar"), spool).unwrap();
    copy(image, name, &*oci.image(Some(&reference))).await;
    oci.close().await.unwrap();
    let layout = ImageLayoutSink::create(&folder.join("layout")).unwrap();
    copy(image, name, &*layout.image(Some(&reference))).await;
    layout.close().await.unwrap();
    let dir = DirSink::create(&folder.join("dir")).unwrap();
    copy(image, name, &*dir.image(Some(&reference))).await;
    dir.close().await.unwrap();
    folder
}

/// Docker's old form, the same image under two names and another one, with a layer that both have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_save() {
    let docker = Dockerd::shared();
    let (one, other) = (image("docker save", Format::Docker), Folder::new());
    let folder = prepared(&one);
    let more = ImageBuilder::new().layer("docker save").layer("more").format(Format::Docker).build();
    let load = |file: &Path| docker.docker(&["load", "--input", &text(file)]).unwrap();
    for (image, name) in [(&one, "saved:1"), (&more, "saved:more")] {
        let folder = prepared(image);
        let file = folder.join("in.tar");
        Skopeo.copy(&source(&folder), &format!("docker-archive:{}:{name}", text(&file))).unwrap();
        load(&file);
    }
    docker.docker(&["tag", "saved:1", "example.com/other/name:2"]).unwrap();
    let saved = other.join("saved.tar");
    let save = ["save", "--output", &text(&saved), "saved:1", "example.com/other/name:2", "saved:more"];
    docker.docker(&save).unwrap();
    let archive = DockerArchive::open(&saved, folder.path()).await.unwrap();
    let mut found = Vec::new();
    for held in archive.images().await.unwrap() {
        expect_whole("docker save", &archive, &held).await;
        let manifest = archive.content().manifest(&held.descriptor).await.unwrap();
        found.push((held.name.unwrap(), manifest.config().unwrap().digest));
    }
    found.sort_unstable();
    let expected =
        [("example.com/other/name:2", config(&one)), ("saved:1", config(&one)), ("saved:more", config(&more))];
    assert_eq!(found, expected.map(|(name, config)| (name.to_owned(), config)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_save() {
    let image = image("podman save", Format::Oci);
    let (folder, podman) = (prepared(&image), Podman::shared());
    let name = "example.com/podman/save:1";
    podman.podman(&["pull", "--quiet", &archived(&folder, name)]).unwrap();
    let save = |format: &str, to: &str| {
        podman.podman(&["save", "--quiet", "--format", format, "--output", &text(&folder.join(to)), name]).unwrap();
    };
    save("docker-archive", "docker.tar");
    save("oci-archive", "oci.tar");
    save("docker-dir", "dir");
    save("oci-dir", "layout");
    let open = |name: &str| folder.join(name);
    let docker = DockerArchive::open(&open("docker.tar"), folder.path()).await.unwrap();
    assert_eq!(the_only("docker-archive", &docker).await.0, [name]);
    assert_eq!(config_of(&docker).await, config(&image));
    let oci = ImageLayout::open_archive(&open("oci.tar"), folder.path()).await.unwrap();
    assert_eq!(the_only("oci-archive", &oci).await.0, [name]);
    assert_eq!(config_of(&oci).await, config(&image));
    let dir = Dir::open(&open("dir")).await.unwrap();
    the_only("docker-dir", &dir).await;
    let layout = ImageLayout::open(&open("layout")).await.unwrap();
    the_only("oci-dir", &layout).await;
    assert_eq!(config_of(&layout).await, config(&image));

    // Several images with links for what they share.
    podman.podman(&["tag", name, "localhost/second:2"]).unwrap();
    let many = text(&open("many.tar"));
    podman
        .podman(&["save", "--quiet", "--multi-image-archive", "--output", &many, name, "localhost/second:2"])
        .unwrap();
    let many = DockerArchive::open(Path::new(&many), folder.path()).await.unwrap();
    assert_eq!(the_only("several", &many).await.0, [name, "localhost/second:2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_copy_and_buildah_push() {
    let folder = prepared(&index("skopeo"));
    let index = index("skopeo");
    let to = |name: &str| text(&folder.join(name));
    for (destination, name) in [("oci", "layout"), ("oci-archive", "oci.tar"), ("dir", "dir")] {
        Skopeo.copy(&source(&folder), &format!("{destination}:{}", to(name))).unwrap();
    }
    let layout = ImageLayout::open(&folder.join("layout")).await.unwrap();
    assert_eq!(the_only("oci", &layout).await.1, index.digest());
    let archive = ImageLayout::open_archive(&folder.join("oci.tar"), folder.path()).await.unwrap();
    assert_eq!(the_only("oci-archive", &archive).await.1, index.digest());
    let dir = Dir::open(&folder.join("dir")).await.unwrap();
    assert_eq!(the_only("dir", &dir).await.1, index.digest());

    let single = image("skopeo", Format::Oci);
    let one = prepared(&single);
    let docker = format!("docker-archive:{}:example.com/skopeo:1", to("docker.tar"));
    Skopeo.skopeo(&["copy", &source(&one), &docker]).unwrap();
    let archive = DockerArchive::open(&folder.join("docker.tar"), folder.path()).await.unwrap();
    assert_eq!(the_only("docker-archive", &archive).await.0, ["example.com/skopeo:1"]);
    assert_eq!(config_of(&archive).await, config(&single));

    let buildah = |arguments: &[&str]| {
        let storage = ["--root", &to("buildah"), "--runroot", &to("run"), "--storage-driver", "vfs"];
        Invocation::new(part::installed("buildah")).args(storage).args(arguments).as_root().run().unwrap()
    };
    let id = buildah(&["pull", "--quiet", &archived(&one, "example.com/buildah:1")]).stdout;
    for to in ["oci-archive:b-oci.tar:example.com/b:1", "docker-archive:b-docker.tar:example.com/b:1", "oci:b-layout:1"]
    {
        let (transport, rest) = to.split_once(':').unwrap();
        buildah(&["push", "--quiet", id.trim(), &format!("{transport}:{}/{rest}", folder.path().display())]);
    }
    let oci = ImageLayout::open_archive(&folder.join("b-oci.tar"), folder.path()).await.unwrap();
    assert_eq!(the_only("buildah oci-archive", &oci).await.0, ["example.com/b:1"]);
    let docker = DockerArchive::open(&folder.join("b-docker.tar"), folder.path()).await.unwrap();
    assert_eq!(the_only("buildah docker-archive", &docker).await.0, ["example.com/b:1"]);
    let layout = ImageLayout::open(&folder.join("b-layout")).await.unwrap();
    assert_eq!(the_only("buildah oci", &layout).await.0, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crane_pull_and_oras_copy() {
    let registry = Generation::V3.registry().start();
    let (index, single) = (index("crane"), image("crane", Format::Docker));
    let folder = prepared(&index);
    let of = |tag: &str| format!("{}/crane/pulled:{tag}", registry.authority());
    Skopeo.copy(&source(&folder), &format!("docker://{}", of("index"))).unwrap();
    Skopeo.copy(&source(&prepared(&single)), &format!("docker://{}", of("1"))).unwrap();

    let to = |name: &str| text(&folder.join(name));
    Crane.crane(&["pull", "--insecure", &of("1"), &to("crane.tar")]).unwrap();
    let archive = DockerArchive::open(&folder.join("crane.tar"), folder.path()).await.unwrap();
    let (names, digest) = the_only("crane tarball", &archive).await;
    assert_eq!(names, [of("1")]);
    // Its layers are the compressed ones, so the manifest has the same fields as the one that was pulled.
    let manifest = archive.content().manifest(&archive.images().await.unwrap()[0].descriptor).await.unwrap();
    assert_eq!((manifest.config(), manifest.layers()), (single.manifest.config(), single.manifest.layers()));
    assert_eq!(&digest, manifest.digest());

    Crane.crane(&["pull", "--insecure", "--format=oci", &of("index"), &to("crane")]).unwrap();
    let layout = ImageLayout::open(&folder.join("crane")).await.unwrap();
    assert_eq!(the_only("crane oci", &layout).await.1, index.digest());

    let to_oras = format!("{}:tagged", to("oras"));
    Oras.oras(&["copy", "--no-tty", "--from-plain-http", &of("index"), "--to-oci-layout", &to_oras]).unwrap();
    let layout = ImageLayout::open(&folder.join("oras")).await.unwrap();
    assert_eq!(the_only("oras", &layout).await, (vec!["tagged".to_owned()], index.digest()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_loaded_by_docker_and_runs() {
    let name = "docker.io/library/written-docker:1";
    let docker = Dockerd::shared();
    for (of, format) in [("load OCI", Format::Oci), ("load Docker", Format::Docker)] {
        let folder = written(&image(of, format), name).await;
        let loaded = docker.docker(&["load", "--input", &text(&folder.join("docker.tar"))]).unwrap();
        assert!(loaded.stdout.contains("written-docker:1"), "{}", loaded.stdout);
        assert_eq!(docker.run("written-docker:1").unwrap(), "ahoy\n");
        docker.docker(&["image", "rm", "--force", "written-docker:1"]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_loaded_by_podman_and_runs() {
    let name = "example.com/written/podman:1";
    let podman = Podman::shared();
    let folder = written(&image("load podman", Format::Oci), name).await;
    for file in ["docker.tar", "oci.tar"] {
        let loaded = podman.podman(&["load", "--quiet", "--input", &text(&folder.join(file))]).unwrap();
        assert!(loaded.stdout.contains(name), "{file}: {}", loaded.stdout);
        assert_eq!(podman.run(name).unwrap(), "ahoy\n", "{file}");
        podman.podman(&["image", "rm", "--force", name]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_imported_by_containerd_and_comes_back() {
    let name = "example.com/written/containerd:1";
    let containerd = Containerd::shared();
    let image = image("load containerd", Format::Oci);
    let folder = written(&image, name).await;
    for file in ["docker.tar", "oci.tar"] {
        containerd.ctr(&["images", "import", &text(&folder.join(file))]).unwrap();
        let listed = containerd.ctr(&["images", "list", &format!("name=={name}")]).unwrap().stdout;
        assert!(listed.contains(&image.digest().to_string()), "{file}: {listed}");
        let exported = folder.join("exported.tar");
        containerd.ctr(&["images", "export", &text(&exported), name]).unwrap();
        let archive = ImageLayout::open_archive(&exported, folder.path()).await.unwrap();
        assert_eq!(the_only("ctr export", &archive).await, (vec![name.to_owned()], image.digest()));
        let archive = DockerArchive::open(&exported, folder.path()).await.unwrap();
        assert_eq!(the_only("ctr export", &archive).await, (vec![name.to_owned()], image.digest()));
        containerd.ctr(&["images", "remove", name]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_by_skopeo_crane_and_umoci() {
    let name = "example.com/written/tools:1";
    let image = image("read", Format::Oci);
    let folder = written(&image, name).await;
    let at = |name: &str| text(&folder.join(name));
    for from in [
        format!("docker-archive:{}:{name}", at("docker.tar")),
        format!("oci-archive:{}:1", at("oci.tar")),
        format!("oci-archive:{}", at("docker.tar")),
        format!("oci:{}:1", at("layout")),
        format!("dir:{}", at("dir")),
    ] {
        let to = Folder::new();
        Skopeo.skopeo(&["copy", &from, &format!("dir:{}", text(&to.join("copied")))]).unwrap();
        let copied = Dir::open(&to.join("copied")).await.unwrap();
        assert_eq!(config_of(&copied).await, config(&image), "{from}");
        if !from.starts_with("docker-archive") {
            assert_eq!(the_only(&from, &copied).await.1, image.digest());
        }
    }
    let registry = Generation::V3.registry().start();
    for from in ["docker.tar", "layout"] {
        let to = format!("{}/pushed:1", registry.authority());
        let pushed = Crane.crane(&["push", "--insecure", &at(from), &to]).unwrap();
        if from == "layout" {
            assert!(pushed.stdout.contains(&image.digest().to_string()), "{}", pushed.stdout);
        }
    }
    let umoci = Invocation::new(part::installed("umoci")).args(["stat", "--json", "--image"]);
    let stat = umoci.arg(format!("{}:1", at("layout"))).run().unwrap();
    assert!(stat.stdout.contains("history"), "{}", stat.stdout);
}

/// Several platforms in a layout, as others see them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_written_is_copied_whole_by_others() {
    let (index, folder) = (index("whole"), Folder::new());
    let name = "example.com/written/index:1";
    let sink = ImageLayoutSink::create(&folder.join("layout")).unwrap();
    copy(&index, name, &*sink.image(Some(&name.parse().unwrap()))).await;
    sink.close().await.unwrap();
    let sink = DirSink::create(&folder.join("dir")).unwrap();
    copy(&index, name, &*sink.image(None)).await;
    sink.close().await.unwrap();
    for from in [format!("oci:{}:1", text(&folder.join("layout"))), format!("dir:{}", text(&folder.join("dir")))] {
        let to = folder.join("copied");
        let _ = fs::remove_dir_all(&to);
        Skopeo.copy(&from, &format!("oci:{}", text(&to))).unwrap();
        let copied = ImageLayout::open(&to).await.unwrap();
        assert_eq!(the_only(&from, &copied).await.1, index.digest());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn umoci_new() {
    let folder = Folder::new();
    let umoci = |arguments: &[&str]| Invocation::new(part::installed("umoci")).args(arguments).run().unwrap();
    let layout = text(&folder.join("layout"));
    umoci(&["init", "--layout", &layout]);
    for tag in ["one", "two"] {
        umoci(&["new", "--image", &format!("{layout}:{tag}")]);
    }
    let opened = ImageLayout::open(Path::new(&layout)).await.unwrap();
    let mut found = names(&opened).await;
    found.sort_unstable();
    assert_eq!(found, ["one", "two"]);
}

/// Of the layouts with lists of referrers under a tag.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs regctl, which takes long to build"]
async fn regctl_image_copy() {
    let registry = Generation::V3.registry().start();
    let (image, folder) = (index("regctl"), Folder::new());
    let from = format!("{}/regctl:1", registry.authority());
    Skopeo.copy(&source(&prepared(&image)), &format!("docker://{from}")).unwrap();
    let to = format!("ocidir://{}:1", text(&folder.join("layout")));
    let regctl = Invocation::new(part::built("bin/regctl")).env("HOME", folder.path());
    let host = format!("reg={},tls=disabled", registry.authority());
    regctl.args(["--host", &host, "image", "copy", &from, &to]).run().unwrap();
    let layout = ImageLayout::open(&folder.join("layout")).await.unwrap();
    assert_eq!(the_only("regctl", &layout).await, (vec!["1".to_owned()], image.digest()));
}

/// Docker with containerd's store: layouts with the digests that were pulled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Docker 29, which takes long to build"]
async fn docker_29() {
    let docker = Dockerd::start_29();
    let name = "docker.io/library/written-29:1";
    let image = image("docker 29", Format::Oci);
    let folder = written(&image, name).await;
    for file in ["docker.tar", "oci.tar"] {
        docker.docker(&["load", "--input", &text(&folder.join(file))]).unwrap();
        let saved = folder.join("saved.tar");
        docker.docker(&["save", "--output", &text(&saved), "written-29:1"]).unwrap();
        let archive = DockerArchive::open(&saved, folder.path()).await.unwrap();
        assert_eq!(the_only("docker 29", &archive).await, (vec![name.to_owned()], image.digest()));
        docker.docker(&["image", "rm", "--force", "written-29:1"]).unwrap();
    }
    // Of an index that was pulled, it has the image of one platform.
    let registry = Generation::V3.registry().start();
    let pulled = format!("{}/index:1", registry.authority());
    let index = index("docker 29 index");
    Skopeo.copy(&source(&prepared(&index)), &format!("docker://{pulled}")).unwrap();
    docker.docker(&["pull", &pulled]).unwrap();
    let saved = folder.join("index.tar");
    docker.docker(&["save", "--output", &text(&saved), &pulled]).unwrap();
    let archive = DockerArchive::open(&saved, folder.path()).await.unwrap();
    assert_eq!(the_only("docker 29", &archive).await, (vec![pulled], index.manifest.manifests()[0].digest));
}

/// Docker with the graph store: layouts whose manifests were made for the archive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Docker 29, which takes long to build"]
async fn docker_29_with_the_graph_store() {
    let docker = Dockerd::start_29_with_graph_store();
    let name = "docker.io/library/written-29:1";
    let image = image("docker 29, graph store", Format::Oci);
    let folder = written(&image, name).await;
    docker.docker(&["load", "--input", &text(&folder.join("docker.tar"))]).unwrap();
    let saved = folder.join("saved.tar");
    docker.docker(&["save", "--output", &text(&saved), "written-29:1"]).unwrap();
    let layout = ImageLayout::open_archive(&saved, folder.path()).await.unwrap();
    let made_up = layout.images().await.unwrap().remove(0).descriptor;
    assert!(!layout.content().is_made_here(&made_up.digest), "who asks for the layout gets what is in it");
    assert_ne!(made_up.digest, image.digest(), "nobody knows this digest");
    let archive = DockerArchive::open(&saved, folder.path()).await.unwrap();
    let (names, digest) = the_only("docker 29", &archive).await;
    assert_eq!(names, ["written-29:1"]);
    assert!(archive.content().is_made_here(&digest));
    assert_eq!(config_of(&archive).await, config(&image));
}

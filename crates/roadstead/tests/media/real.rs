//! Media of real programs.

use std::path::Path;

use roadstead::image::Collection;
use roadstead::medium::dir::Dir;
use roadstead::medium::docker_archive::DockerArchive;
use roadstead::medium::image_layout::ImageLayout;
use roadstead::oci::Digest;
use roadstead::testing::{Format, Image, ImageBuilder};
use roadstead_parts::{Containerd, Crane, Dockerd, Folder, Invocation, Podman, Skopeo, part};

use crate::support::{archive, entry, expect_whole, layout, names, write_folder};

const NAME: &str = "docker.io/library/media:1";

/// An image with two layers that are no other test's.
fn image(format: Format) -> Image {
    ImageBuilder::new().layer("base").greeting("ahoy\n").label("for", "media").format(format).build()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A folder with the image as a layout, `image`.
fn prepared(image: &Image) -> Folder {
    let folder = Folder::new();
    let entries = [entry(image, serde_json::json!({ "org.opencontainers.image.ref.name": "1" }))];
    write_folder(&folder.join("image"), &layout(&[image], &entries));
    folder
}

async fn the_only(what: &str, collection: &dyn Collection) -> Digest {
    let images = collection.images().await.unwrap();
    assert_eq!(images.len(), 1, "{what}: {images:?}");
    expect_whole(what, collection, &images[0]).await;
    images[0].descriptor.digest
}

/// Docker's old form, the same image under two names and another one, with a layer that both have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_save() {
    let docker = Dockerd::shared();
    let image = image(Format::Docker);
    let folder = prepared(&image);
    let file = folder.join("in.tar");
    Skopeo
        .copy(&format!("oci:{}", text(&folder.join("image"))), &format!("docker-archive:{}:media:1", text(&file)))
        .unwrap();
    docker.docker(&["load", "--input", &text(&file)]).unwrap();
    docker.docker(&["tag", "media:1", "example.com/other/name:2"]).unwrap();
    let saved = folder.join("saved.tar");
    docker.docker(&["save", "--output", &text(&saved), "media:1", "example.com/other/name:2"]).unwrap();
    let archive = DockerArchive::open(&saved, folder.path()).await.unwrap();
    let mut found = names(&archive).await;
    found.sort_unstable();
    assert_eq!(found, ["example.com/other/name:2", "media:1"]);
    for held in archive.images().await.unwrap() {
        expect_whole("docker save", &archive, &held).await;
        let manifest = archive.content().manifest(&held.descriptor).await.unwrap();
        assert_eq!(manifest.config().unwrap().digest, image.manifest.config().unwrap().digest);
    }
}

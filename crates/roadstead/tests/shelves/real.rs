//! Storage that real registries wrote, and folders that real programs filled: the digests come out as they went in.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use roadstead::image::Source as _;
use roadstead::medium::distribution_disk::DistributionDisk;
use roadstead::medium::registrish::Registrish;
use roadstead::medium::static_container_registry::StaticContainerRegistry;
use roadstead::oci::{Algorithm, Digest, Repository};
use roadstead::store::LocalStore;
use roadstead::testing::{Format, Image, ImageBuilder, IndexBuilder};
use roadstead::tree::Tree;
use roadstead_parts::{Crane, Folder, Generation, Oras, Skopeo};

use crate::support::{copy, distribution, folders, names, state, tree, write};

fn image(of: &str, platform: &str) -> Image {
    ImageBuilder::new().layer("shared").layer(of.to_owned()).platform(platform).build()
}

/// The image as skopeo takes it.
fn prepared(folder: &Folder, name: &str, image: &Image) -> String {
    write(&folder.join(name), &folders("x", &[("1".to_owned(), image)]));
    format!("dir:{}", folder.join(name).join("images/x/1").display())
}

fn digest(reference: &str) -> Digest {
    let said = Crane.crane(&["digest", "--insecure", reference]).expect("crane asks the registry");
    said.stdout.trim().parse().expect("a digest")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storage_of_a_registry_that_runs() {
    for generation in Generation::ALL {
        let (folder, data) = (Folder::new(), Folder::new());
        let registry = generation.registry().data(data.path()).start();
        let at = |name: &str| format!("{}/{name}", registry.authority());
        let index = IndexBuilder::new().image(image("amd", "linux/amd64")).image(image("arm", "linux/arm64")).build();
        let docker = ImageBuilder::new().layer("shared").layer("docker").format(Format::Docker).build();
        let gone = image("gone", "linux/amd64");
        for (name, image) in [("first/app:1", &index), ("first/app:docker", &docker), ("first/app:gone", &gone)] {
            let from = prepared(&folder, name.rsplit(':').next().expect("a tag"), image);
            Skopeo.copy(&from, &format!("docker://{}", at(name))).unwrap();
        }
        Crane.crane(&["copy", "--insecure", &at("first/app:1"), &at("second/deep/app:2")]).unwrap();
        Crane.crane(&["delete", "--insecure", &at(&format!("first/app@{}", gone.digest()))]).unwrap();
        let note = folder.write("note.txt", format!("{generation:?}"));
        let note = format!("{}:text/plain", note.display());
        let attach = ["attach", "--plain-http", "--disable-path-validation", "--artifact-type", "application/x.y"];
        Oras.oras(&[&attach[..], &[&at("first/app:1"), &note]].concat()).unwrap();

        let before = state(data.path());
        let source = DistributionDisk::open(data.path()).await.unwrap();
        let expected = ["first/app:1", "first/app:docker", "second/deep/app:2"];
        assert_eq!(names(&source).await, expected, "{generation:?}");
        let tree = tree().await;
        for name in expected {
            let copied = copy(&source, name, &tree).await.unwrap_or_else(|error| panic!("{generation:?}: {error:?}"));
            assert_eq!(copied.descriptor.digest, digest(&at(name)), "{generation:?}: {name}");
        }
        assert_eq!(digest(&at("first/app:1")), index.digest());
        let (first, second): (Repository, Repository) =
            ("first/app".parse().unwrap(), "second/deep/app".parse().unwrap());
        assert!(tree.referrers(&first, &index.digest()).await.unwrap().is_some(), "{generation:?}: oras attached it");
        assert!(tree.referrers(&second, &index.digest()).await.unwrap().is_none(), "{generation:?}");
        let deleted = source.repository(&first).resolve(&gone.digest().into()).await;
        assert!(deleted.is_err_and(|error| error.is_not_found()), "{generation:?}");
        assert_eq!(state(data.path()), before, "{generation:?}: something was written");

        // What is pushed meanwhile is there for whoever asks next.
        let late = image("late", "linux/amd64");
        Skopeo.copy(&prepared(&folder, "late", &late), &format!("docker://{}", at("first/app:late"))).unwrap();
        let copied = copy(&source, "first/app:late", &tree).await.unwrap();
        assert_eq!(copied.descriptor.digest, late.digest(), "{generation:?}");
    }
}

/// Today's registries take no other algorithm; their storage has a place for it.
#[tokio::test]
async fn digests_of_sha512() {
    let image = ImageBuilder::new().layer("long").algorithm(Algorithm::Sha512).build();
    let folder = Folder::new();
    write(folder.path(), &distribution("app", &[("1".to_owned(), &image)]));
    let source = DistributionDisk::open(folder.path()).await.unwrap();
    let app = source.repository(&"app".parse().unwrap());
    let resolved = app.resolve(&"1".parse::<roadstead::oci::Tag>().unwrap().into()).await.unwrap();
    assert_eq!(resolved.digest, image.digest());
    let copied = copy(&source, "app:1", &tree().await).await.unwrap();
    assert_eq!(copied.descriptor.digest, image.digest());
}

/// skopeo's folders, deduplicated by links as that program's manual recommends. What is adopted shares no file with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeos_folders_adopted() {
    let (folder, kept) = (Folder::new(), Folder::new());
    let index = IndexBuilder::new().image(image("amd", "linux/amd64")).image(image("arm", "linux/arm64")).build();
    let single = image("single", "linux/amd64");
    fs::create_dir_all(folder.join("images/app")).unwrap();
    for (tag, image) in [("1", &index), ("2", &single)] {
        let to = folder.join("images/app").join(tag);
        Skopeo.copy(&prepared(&kept, tag, image), &format!("dir:{}", to.display())).unwrap();
    }
    let shared = single.manifest.layers()[0].digest.hex();
    let [one, two] = ["1", "2"].map(|tag| folder.join("images/app").join(tag).join(&shared));
    fs::remove_file(&two).unwrap();
    fs::hard_link(&one, &two).unwrap();

    let before = state(folder.path());
    let source = StaticContainerRegistry::open(folder.path()).await.unwrap();
    assert_eq!(names(&source).await, ["app:1", "app:2"]);
    let store = LocalStore::create(&kept.join("tree")).unwrap();
    let tree = Tree::create(Arc::new(store)).await.unwrap();
    for (name, image) in [("app:1", &index), ("app:2", &single)] {
        assert_eq!(copy(&source, name, &tree).await.unwrap().descriptor.digest, image.digest());
    }
    let adopted = kept.join(format!("tree/content/blobs/sha256:{shared}"));
    assert_eq!((fs::metadata(&adopted).unwrap().nlink(), fs::metadata(&one).unwrap().nlink()), (1, 2));
    assert_eq!(state(folder.path()), before, "something was written");
}

/// What registrish's script makes of skopeo's folder: every file under the digest of its bytes, the index under its tag, too.
fn moved(from: &Path, to: &Path, tag: &str) {
    for folder in ["manifests", "blobs"] {
        fs::create_dir_all(to.join(folder)).expect("a folder");
    }
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
        let bytes = fs::read(&path).expect("a file");
        let digest = Algorithm::Sha256.digest(&bytes).to_string();
        let folder = match &*name {
            "version" => continue,
            "manifest.json" => {
                fs::write(to.join("manifests").join(tag), &bytes).expect("a file");
                "manifests"
            }
            name if name.ends_with(".manifest.json") => "manifests",
            _ => "blobs",
        };
        fs::write(to.join(folder).join(digest), bytes).expect("a file");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrishs_folder_adopted() {
    let folder = Folder::new();
    let index = IndexBuilder::new().image(image("amd", "linux/amd64")).image(image("arm", "linux/arm64")).build();
    let skopeos = folder.join("skopeo");
    Skopeo.copy(&prepared(&folder, "in", &index), &format!("dir:{}", skopeos.display())).unwrap();
    moved(&skopeos, &folder.join("site/v2/alpine"), "latest");
    fs::write(folder.join("site/v2/error.json"), "{}").unwrap();
    let source = Registrish::open(&folder.join("site")).await.unwrap();
    assert_eq!(names(&source).await, ["alpine:latest"]);
    let copied = copy(&source, "alpine:latest", &tree().await).await.unwrap();
    assert_eq!(copied.descriptor.digest, index.digest());
}

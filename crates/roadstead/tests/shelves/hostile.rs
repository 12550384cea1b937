//! Folders that nobody should have to trust: each is a named error, and the tree is as it was.

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use futures::TryStreamExt as _;
use roadstead::image::{CopyError, Source, SourceError};
use roadstead::medium::distribution_disk::DistributionDisk;
use roadstead::medium::registrish::Registrish;
use roadstead::medium::static_container_registry::StaticContainerRegistry;
use roadstead::oci::{Digest, Repository};
use roadstead::testing::{Image, ImageBuilder};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::{Files, copy, data, distribution, folders, home, names, registrish, tree, write};

fn image() -> Image {
    ImageBuilder::new().layer("hostile").build()
}

/// The error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

/// What a copy of `app:1` says, after which the tree has nothing.
async fn refused(source: &dyn Source) -> (CopyError, String) {
    let tree = tree().await;
    let error = copy(source, "app:1", &tree).await.expect_err("it is refused");
    let app: Repository = "app".parse().expect("a name");
    let names: Vec<_> = tree.names(&app).try_collect().await.expect("the tree can be read");
    assert!(names.is_empty(), "{names:?}");
    let text = chain(&error);
    (error, text)
}

fn layer(image: &Image) -> Digest {
    image.manifest.layers()[0].digest
}

fn fifo(path: &Path) {
    fs::remove_file(path).expect("a file");
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).expect("a pipe");
}

/// One layout with an image, where the tag, the manifest and a layer of it lie, and how it is opened.
struct Case {
    files: Files,
    tag: String,
    manifest: String,
    layer: String,
}

fn cases(image: &Image) -> [Case; 3] {
    let tagged = [("1".to_owned(), image)];
    [
        Case {
            files: distribution("app", &tagged),
            tag: format!("{}/_manifests/tags/1/current/link", home("app")),
            manifest: data(&image.digest()),
            layer: data(&layer(image)),
        },
        Case {
            files: registrish("app", &tagged),
            tag: "v2/app/manifests/1".to_owned(),
            manifest: format!("v2/app/manifests/{}", image.digest()),
            layer: format!("v2/app/blobs/{}", layer(image)),
        },
        Case {
            files: folders("app", &tagged),
            tag: "images/app/1/manifest.json".to_owned(),
            manifest: "images/app/1/manifest.json".to_owned(),
            layer: format!("images/app/1/{}", layer(image).hex()),
        },
    ]
}

async fn open(folder: &Path) -> Box<dyn Source> {
    if folder.join("docker").exists() {
        Box::new(DistributionDisk::open(folder).await.expect("a registry's storage"))
    } else if folder.join("v2").exists() {
        Box::new(Registrish::open(folder).await.expect("a folder for registrish"))
    } else {
        Box::new(StaticContainerRegistry::open(folder).await.expect("a folder for static-container-registry"))
    }
}

#[tokio::test]
async fn links_are_not_followed() {
    let image = image();
    for Case { files, tag, manifest, layer } in cases(&image) {
        for path in [&tag, &manifest, &layer] {
            // Out of the folder, and to a file in it that would do.
            for inside in [false, true] {
                let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
                write(folder.path(), &files);
                let path = folder.path().join(path);
                let moved = if inside { path.with_extension("moved") } else { outside.path().join("moved") };
                let source = open(folder.path()).await;
                fs::rename(&path, &moved).unwrap();
                symlink(&moved, &path).unwrap();
                let (_, said) = refused(&*source).await;
                assert!(said.contains("symbolic link"), "{}: {said}", path.display());
            }
        }
        // A folder that is a link is none.
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(folder.path(), &files);
        let source = open(folder.path()).await;
        let above = folder.path().join(&layer);
        let above = above.parent().unwrap();
        fs::rename(above, outside.path().join("moved")).unwrap();
        symlink(outside.path().join("moved"), above).unwrap();
        let (error, said) = refused(&*source).await;
        assert!(matches!(error, CopyError::Source { source: SourceError::NotFound { .. }, .. }), "{said}");
    }
}

#[tokio::test]
async fn pipes_absence_and_absurd_sizes() {
    let image = image();
    for Case { files, tag, manifest, layer } in cases(&image) {
        for path in [&tag, &manifest, &layer] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), &files);
            let source = open(folder.path()).await;
            let path = folder.path().join(path);
            fifo(&path);
            let (error, said) = refused(&*source).await;
            assert!(matches!(error, CopyError::Source { source: SourceError::NotFound { .. }, .. }), "{said}");

            fs::remove_file(&path).unwrap();
            let (error, said) = refused(&*source).await;
            assert!(matches!(error, CopyError::Source { source: SourceError::NotFound { .. }, .. }), "{said}");

            File::create(&path).unwrap().set_len(1 << 42).unwrap();
            let (error, said) = refused(&*source).await;
            let known = matches!(
                error,
                CopyError::Source { source: SourceError::Invalid { .. } | SourceError::Manifest { .. }, .. }
            );
            assert!(known && said.contains("4398046511104 bytes"), "{said}");
        }
    }
}

#[tokio::test]
async fn other_bytes() {
    let image = image();
    for Case { files, tag, layer, .. } in cases(&image) {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &files);
        let source = open(folder.path()).await;
        let path = folder.path().join(&layer);
        let mut bytes = fs::read(&path).unwrap();
        bytes[5] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (error, said) = refused(&*source).await;
        assert!(matches!(error, CopyError::Mismatch { .. }), "{said}");

        for garbage in ["", "../../../etc/passwd", "sha256:zz", "<html>", "\0\0\0"] {
            fs::write(folder.path().join(&tag), garbage).unwrap();
            let (error, said) = refused(&*source).await;
            let known = matches!(
                error,
                CopyError::Source { source: SourceError::Invalid { .. } | SourceError::Manifest { .. }, .. }
            );
            assert!(known, "{garbage:?}: {said}");
        }
    }
}

/// A link says what it lies under, or its storage is not what it seems.
#[tokio::test]
async fn links_of_a_registry_that_lie() {
    let (one, other) = (image(), ImageBuilder::new().layer("other").build());
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &distribution("app", &[("1".to_owned(), &one)]));
    write(folder.path(), &distribution("secret", &[("1".to_owned(), &other)]));
    let source = DistributionDisk::open(folder.path()).await.unwrap();
    let app = source.repository(&"app".parse().unwrap());

    // What another repository has is not this one's.
    assert!(app.resolve(&other.digest().into()).await.is_err_and(|error| error.is_not_found()));
    let layer = other.manifest.layers()[0].clone();
    assert!(app.blob(&layer, 0).await.is_err_and(|error| error.is_not_found()));
    let tag = folder.path().join(home("app")).join("_manifests/tags/1/current/link");
    fs::write(&tag, other.digest().to_string()).unwrap();
    let (error, said) = refused(&source).await;
    assert!(matches!(error, CopyError::Source { source: SourceError::NotFound { .. }, .. }), "{said}");

    let revision = format!("_manifests/revisions/sha256/{}/link", other.digest().hex());
    let revision = folder.path().join(home("app")).join(revision);
    fs::create_dir_all(revision.parent().unwrap()).unwrap();
    fs::write(&revision, one.digest().to_string()).unwrap();
    let (_, said) = refused(&source).await;
    assert!(said.contains("not the digest that it lies under"), "{said}");
}

/// Blobs that have no link of their own are the repository's if one of its manifests names them.
#[tokio::test]
async fn blobs_that_only_a_manifest_names() {
    let (image, folder) = (image(), tempfile::tempdir().unwrap());
    write(folder.path(), &distribution("app", &[("1".to_owned(), &image)]));
    fs::remove_dir_all(folder.path().join(home("app")).join("_layers")).unwrap();
    let source = DistributionDisk::open(folder.path()).await.unwrap();
    let tree = tree().await;
    let copied = copy(&source, "app:1", &tree).await.unwrap();
    assert_eq!(copied.descriptor.digest, image.digest());
}

#[tokio::test]
async fn names_that_are_none() {
    let image = image();
    let tagged = [("1".to_owned(), &image)];
    for (files, odd) in [
        (distribution("app", &tagged), home("App/_manifests/tags/1/current/link")),
        (registrish("app", &tagged), "v2/App/manifests/1".to_owned()),
        (folders("app", &tagged), "images/App/1/manifest.json".to_owned()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &files);
        write(folder.path(), &Files::from([(odd, "{}".into())]));
        let source = open(folder.path()).await;
        let listed: Result<Vec<_>, _> = source.repositories().await.unwrap().try_collect().await;
        let Err(SourceError::Invalid { what, .. }) = listed else { panic!("{listed:?}") };
        assert!(what.contains("App"), "{what}");
        copy(&*source, "app:1", &tree().await).await.expect("who names a repository gets it");
    }
    for (files, odd) in [
        (distribution("app", &tagged), home("app/_manifests/tags/-1/current/link")),
        (registrish("app", &tagged), "v2/app/manifests/-1".to_owned()),
        (folders("app", &tagged), "images/app/-1/manifest.json".to_owned()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &files);
        write(folder.path(), &Files::from([(odd, "{}".into())]));
        let source = open(folder.path()).await;
        let app = source.repository(&"app".parse().unwrap());
        let listed: Result<Vec<_>, _> = app.tags().try_collect().await;
        let Err(SourceError::Invalid { what, .. }) = listed else { panic!("{listed:?}") };
        assert!(what.contains("-1"), "{what}");
    }
}

/// Deeper than any name, which may take time but ends.
#[tokio::test]
async fn folders_without_end() {
    let (image, folder) = (image(), tempfile::tempdir().unwrap());
    write(folder.path(), &distribution("app", &[("1".to_owned(), &image)]));
    let mut deep = folder.path().join(home("a"));
    for _ in 0..300 {
        deep.push("a");
    }
    fs::create_dir_all(deep.join("_manifests")).unwrap();
    let source = DistributionDisk::open(folder.path()).await.unwrap();
    assert_eq!(names(&source).await, ["app:1"]);
}

#[tokio::test]
async fn what_is_none_of_them() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    fs::write(folder.path().join("file"), "x").unwrap();
    let (image, elsewhere) = (image(), tempfile::tempdir().unwrap());
    write(elsewhere.path(), &distribution("app", &[("1".to_owned(), &image)]));
    fs::create_dir(folder.path().join("linked")).unwrap();
    symlink(elsewhere.path().join("docker"), folder.path().join("linked/docker")).unwrap();
    for name in ["absent", "empty", "file", "linked"] {
        let path = folder.path().join(name);
        let errors = [
            DistributionDisk::open(&path).await.err(),
            Registrish::open(&path).await.err(),
            StaticContainerRegistry::open(&path).await.err(),
        ];
        for error in errors {
            let error = error.unwrap_or_else(|| panic!("{name} was opened"));
            let known = match error {
                SourceError::NotFound { .. } => name == "absent",
                SourceError::Invalid { .. } => name != "absent",
                _ => false,
            };
            assert!(known, "{name}: {error:?}");
        }
    }
    // Whoever names a link means what it leads to.
    symlink(elsewhere.path(), folder.path().join("named")).unwrap();
    let source: Arc<dyn Source> = Arc::new(DistributionDisk::open(&folder.path().join("named")).await.unwrap());
    assert_eq!(names(&*source).await, ["app:1"]);
}

//! What lies on the disk, against `docs/format.md`: every path, the text of every link, every mode, for every kind of image.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use roadstead::oci::Algorithm;
use roadstead::testing::{Compression, Format, Image, ImageBuilder, IndexBuilder, MemorySource};
use roadstead_parts::part;

use crate::support::{Place, Ran, write_tree};

/// Something of every kind that the builders make, by its repository.
fn images() -> Vec<(String, Image)> {
    let mut images = Vec::new();
    let formats = [
        Format::Oci,
        Format::OciWithoutMediaType,
        Format::OciArtifact,
        Format::Docker,
        Format::Schema1Signed,
        Format::Schema1Unsigned,
    ];
    for (number, format) in formats.into_iter().enumerate() {
        let image = ImageBuilder::new().format(format).layer("shared").layer(format!("{format:?}"));
        images.push((format!("format/{number}"), image.build()));
    }
    for (number, compression) in [Compression::None, Compression::Gzip, Compression::Zstd].into_iter().enumerate() {
        images.push((format!("compression/{number}"), ImageBuilder::new().layer("x").compression(compression).build()));
    }
    let long = ImageBuilder::new().algorithm(Algorithm::Sha512).layer("long");
    images.push(("a/b/c/d/e".to_owned(), long.clone().build()));
    let part = |platform| ImageBuilder::new().platform(platform).layer(platform).build();
    for (number, format) in [Format::Oci, Format::OciWithoutMediaType, Format::Docker].into_iter().enumerate() {
        let index = IndexBuilder::new().format(format).image(part("linux/amd64")).attested_image(part("linux/arm64"));
        images.push((format!("index/{number}"), index.build()));
    }
    let inner = IndexBuilder::new().image(part("linux/arm/v7")).image(long.build()).build();
    let outer = IndexBuilder::new().algorithm(Algorithm::Sha512).image(inner).blob("text/plain", "in an index");
    images.push(("manifests".to_owned(), outer.build()));
    let subject = images[0].1.descriptor();
    let signature = ImageBuilder::new().artifact_type("application/vnd.example.signature");
    images.push(("tags/x".to_owned(), signature.subject(&subject).blob("text/plain", "signed").build()));
    let about = IndexBuilder::new().artifact_type("application/vnd.example.index").subject(&subject);
    images.push(("referrers".to_owned(), about.annotation("a", "b").build()));
    images
}

/// What the tree must hold: each path with the text of its link, or nothing if it is a file.
fn expected(images: &[(String, Image)]) -> BTreeMap<String, Option<String>> {
    let mut paths = BTreeMap::new();
    let mut link = |path: String, target: String| {
        let up = "../".repeat(path.matches('/').count());
        paths.insert(path, Some(format!("{up}{target}")));
        paths.insert(target, None);
    };
    let mut files = vec!["v2/index.html".to_owned(), "v2/_catalog".to_owned(), ".roadstead/format".to_owned()];
    for (repository, image) in images {
        for manifest in image.manifests() {
            let content = format!("content/manifests/{}/{}", manifest.media_type(), manifest.digest());
            link(format!("v2/{repository}/manifests/{}", manifest.digest()), content.clone());
            if *manifest.digest() == image.digest() {
                link(format!("v2/{repository}/manifests/1.0"), content);
            }
        }
        for blob in image.blobs.keys() {
            link(format!("v2/{repository}/blobs/{blob}"), format!("content/blobs/{blob}"));
        }
        if let Some(subject) = image.manifest.subject() {
            let mut entry = serde_json::json!({
                "mediaType": image.manifest.media_type(),
                "digest": image.digest(),
                "size": image.manifest.bytes().len(),
                "artifactType": image.manifest.artifact_type(),
            });
            if !image.manifest.annotations().is_empty() {
                entry["annotations"] = serde_json::json!(image.manifest.annotations());
            }
            let index = "application/vnd.oci.image.index.v1+json";
            let list = serde_json::json!({ "schemaVersion": 2, "mediaType": index, "manifests": [entry] }).to_string();
            let content = format!("content/manifests/{index}/{}", Algorithm::Sha256.digest(list.as_bytes()));
            let digest = Algorithm::Sha256.digest(list.as_bytes());
            link(format!("v2/{repository}/manifests/{digest}"), content.clone());
            let fallback = format!("{}-{}", subject.digest.algorithm(), &subject.digest.hex()[..64]);
            link(format!("v2/{repository}/manifests/{fallback}"), content);
            files.push(format!("v2/{repository}/referrers/{}", subject.digest));
        }
        files.push(format!("v2/{repository}/tags/list"));
    }
    paths.extend(files.into_iter().map(|file| (file, None)));
    paths
}

/// Compares a folder with what it must hold, and every mode with what the umask leaves of it.
fn check(root: &Path, expected: &mut BTreeMap<String, Option<String>>, umask: u32) {
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let metadata = path.symlink_metadata().unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                let private = [".roadstead", ".roadstead/locks", ".roadstead/tmp"].contains(&name.as_str());
                assert_eq!(mode, if private { 0o700 } else { 0o777 & !umask }, "{name}: {mode:o}");
                open.push(path);
                continue;
            }
            if !name.starts_with(".roadstead/locks/") {
                let link = expected.remove(&name).unwrap_or_else(|| panic!("nothing belongs at {name}"));
                let text = metadata.is_symlink().then(|| fs::read_link(&path).unwrap().to_str().unwrap().to_owned());
                assert_eq!(text, link, "{name}");
            }
            if metadata.is_file() {
                let made = if name.starts_with("content/") { 0o444 } else { 0o666 };
                assert_eq!(mode, made & !umask, "{name}: {mode:o}");
            }
        }
    }
    assert!(expected.is_empty(), "absent: {:?}", expected.keys());
}

#[test]
fn every_kind_of_image_under_every_umask() {
    let images = images();
    let (registry, source) = (Place::new(), MemorySource::new());
    for (repository, image) in &images {
        source.add(&format!("{repository}:1.0"), image);
    }
    write_tree(&registry.tree(), &source);
    let (_serve, authority) = registry.serve(&registry.tree());
    for umask in [0o022, 0o077, 0o002] {
        let place = Place::new();
        let mut command = Command::new(part::installed("sh"));
        command.args(["-c", &format!("umask {umask:o}; exec \"$0\" add -q --no-sync \"$@\"")]);
        command.arg(env!("CARGO_BIN_EXE_roadstead"));
        command.args(images.iter().map(|(repository, _)| format!("{authority}/{repository}:1.0")));
        Ran::of(command.current_dir(place.path()).env_clear().stdin(Stdio::null())).ok();
        check(&place.tree(), &mut expected(&images), umask);
        for (path, content) in [
            ("v2/index.html", "{}".to_owned()),
            (".roadstead/format", r#"{"format":1}"#.to_owned()),
            ("v2/a/b/c/d/e/tags/list", r#"{"name":"a/b/c/d/e","tags":["1.0"]}"#.to_owned()),
            ("v2/_catalog", {
                let mut names: Vec<_> = images.iter().map(|(repository, _)| format!("\"{repository}\"")).collect();
                names.sort_unstable();
                format!("{{\"repositories\":[{}]}}", names.join(","))
            }),
        ] {
            assert_eq!(fs::read_to_string(place.tree().join(path)).unwrap(), content, "{path}");
        }
    }
}

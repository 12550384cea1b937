//! Archives and folders that no honest program writes: each is refused, and the message says what is wrong with what.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use roadstead::image::{Collection as _, Copier, CopyError, CopyOptions, Silent, Sink as _, SourceError};
use roadstead::medium::dir::Dir;
use roadstead::medium::docker_archive::DockerArchive;
use roadstead::medium::image_layout::ImageLayout;
use roadstead::store::{MemoryStore, Naming};
use roadstead::testing::{Format, Image, ImageBuilder};
use roadstead::tree::Tree;
use serde_json::json;
use tar::EntryType;

use crate::support::{Files, archive, blob_path, dir, entry, header, layout, saved, write_folder};

fn image() -> Image {
    ImageBuilder::new().layer("a").uncompressed().format(Format::Docker).build()
}

async fn open(bytes: Vec<u8>) -> Result<DockerArchive, SourceError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar");
    fs::write(&path, bytes).unwrap();
    DockerArchive::open(&path, folder.path()).await
}

async fn refused(bytes: Vec<u8>, expected: &str) {
    let error = open(bytes).await.map(drop).unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    assert!(text.contains("x.tar") && text.contains(expected), "{text:?} doesn't say {expected:?}");
}

/// A whole archive with one more entry before the others.
fn with(mut header: tar::Header, content: &[u8]) -> Vec<u8> {
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(archive(&saved(&image(), &["app:1"])));
    bytes
}

fn link(kind: EntryType, name: &str, target: &str) -> tar::Header {
    let mut header = header(name, kind, 0);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header
}

#[tokio::test]
async fn names_and_links_that_lead_out() {
    for (name, expected) in [
        ("/etc/passwd", "absolute path"),
        ("../x", "leads out"),
        ("a/../../x", "leads out"),
        ("a/../x", ".. in it"),
        ("a\x01b", "control characters"),
    ] {
        refused(with(header(name, EntryType::Regular, 0), b""), expected).await;
    }
    let mut latin = header("x", EntryType::Regular, 0);
    latin.as_old_mut().name[0] = 0xe4;
    refused(with(latin, b""), "not UTF-8").await;
    for (kind, target) in [
        (EntryType::Symlink, "/etc/passwd"),
        (EntryType::Symlink, "../../x"),
        (EntryType::Link, "../x"),
        (EntryType::Link, "/x"),
    ] {
        refused(with(link(kind, "a/link", target), b""), "out of the archive").await;
    }
}

#[tokio::test]
async fn links_in_a_circle() {
    let image = image();
    let mut files = saved(&image, &["app:1"]);
    let layer = files.remove(0).0;
    let mut bytes = Vec::new();
    for (name, target) in [(&*layer, "../x"), ("x", layer.as_str())] {
        let mut header = link(EntryType::Symlink, name, target);
        header.set_cksum();
        bytes.extend(header.as_bytes());
    }
    bytes.extend(archive(&files));
    refused(bytes, "in a circle").await;
}

#[tokio::test]
async fn entries_that_are_no_plain_files() {
    for (kind, expected) in [
        (EntryType::Char, "neither a file"),
        (EntryType::Block, "neither a file"),
        (EntryType::Fifo, "neither a file"),
        (EntryType::GNUSparse, "sparse"),
        (EntryType::new(b'V'), "neither a file"),
    ] {
        refused(with(header("x", kind, 0), b""), expected).await;
    }
    let record = b"25 GNU.sparse.major=1000\n";
    assert_eq!(record.len(), 25);
    refused(with(header("x", EntryType::XHeader, 25), record), "sparse").await;
}

#[tokio::test]
async fn what_is_there_twice() {
    let mut files = saved(&image(), &["app:1"]);
    files.push(files[0].clone());
    refused(archive(&files), "twice").await;
    // However it is written.
    files.last_mut().unwrap().0.insert_str(0, "./");
    refused(archive(&files), "twice").await;
}

#[tokio::test]
async fn sizes_that_lie() {
    refused(with(header("x", EntryType::Regular, 1 << 32), b""), "the archive ends").await;
    let mut huge = header("x", EntryType::Regular, 0);
    huge.set_size(u64::MAX - 511);
    refused(with(huge, b""), "the archive ends").await;
    let mut none = header("x", EntryType::Regular, 0);
    none.as_old_mut().size = *b"not a number";
    refused(with(none, b""), "no number").await;
    refused(with(header("x", EntryType::GNULongName, 1 << 20), &[b'a'; 1 << 20]), "at most").await;
    refused(with(header("x", EntryType::GNULongName, 2000), &[b'a'; 2000]), "too long").await;
    refused(with(header("x", EntryType::XHeader, 9), b"9 size=x\n"), "no number").await;
}

#[tokio::test]
async fn archives_that_are_cut() {
    let whole = archive(&saved(&image(), &["app:1"]));
    // The end mark may be missing; anything more may not.
    open(whole[..whole.len() - 1024].to_vec()).await.unwrap();
    refused(whole[..700].to_vec(), "the archive ends").await;
    refused(whole[..whole.len() - 1024 - 512].to_vec(), "the archive ends").await;
    let after_the_first_entry = 512 + 2048;
    refused(whole[..after_the_first_entry].to_vec(), "holds no images").await;
    refused(whole[..after_the_first_entry + 100].to_vec(), "middle of a header").await;
    let mut broken = whole;
    broken[after_the_first_entry] ^= 1;
    refused(broken, "header at byte 2560 is broken").await;
}

#[tokio::test]
async fn what_is_no_archive_of_images() {
    refused(Vec::new(), "no tar archive").await;
    refused(b"hello".to_vec(), "no tar archive").await;
    refused(vec![b'x'; 5000], "no tar archive").await;
    refused(archive(&vec![("etc/passwd".to_owned(), "root".into())]), "holds no images").await;
    refused(archive(&vec![("repositories".to_owned(), "{}".into())]), "Docker before 1.10").await;
    refused(b"\xfd7zXZ\0 and more".to_vec(), "compressed by xz").await;
    refused(b"BZh91AY&SY and more".to_vec(), "compressed by bzip2").await;
    let folder = tempfile::tempdir().unwrap();
    let absent = DockerArchive::open(&folder.path().join("absent"), folder.path()).await;
    assert!(matches!(absent, Err(SourceError::NotFound { .. })), "{absent:?}");
    let whole = DockerArchive::open(folder.path(), folder.path()).await;
    assert!(matches!(whole, Err(SourceError::Invalid { .. })), "{whole:?}");
}

#[tokio::test]
async fn tables_of_contents_that_lie() {
    let image = image();
    let edit = |edit: &dyn Fn(&mut Files)| {
        let mut files = saved(&image, &["app:1"]);
        edit(&mut files);
        archive(&files)
    };
    let table = |text: String| edit(&move |files| files[2].1 = text.clone().into());
    refused(edit(&|files| drop(files.remove(0))), "which is not in the archive").await;
    refused(edit(&|files| drop(files.remove(1))), "which is not in the archive").await;
    refused(edit(&|files| files[1].1 = "{}".into()), "its name says").await;
    let config = format!("{}.json", image.manifest.config().unwrap().digest.hex());
    let named =
        |config: &str, layers: serde_json::Value| table(json!([{ "Config": config, "Layers": layers }]).to_string());
    refused(named(&config, json!([])), "1 diff IDs").await;
    refused(named(&config, json!(["/etc/passwd"])), "not in the archive").await;
    refused(named("../../etc/passwd", json!([])), "not in the archive").await;
    refused(table("[".repeat(100_000)), "manifest.json").await;
    refused(table("{}".to_owned()), "manifest.json").await;
    refused(table(format!("[{}]", " ".repeat(17 << 20))), "at most").await;
    let config = "x".to_owned();
    refused(
        edit(&|files| {
            files[1] = (config.clone(), r#"{"rootfs":{"diff_ids":["md5:x"]}}"#.into());
            files[2].1 = json!([{ "Config": config, "Layers": ["a"] }]).to_string().into();
        }),
        "md5",
    )
    .await;
}

/// A layer whose bytes are others than its config says is found out when it is copied, and nothing of the image shows.
#[tokio::test]
async fn layers_with_other_bytes() {
    let image = image();
    let mut files = saved(&image, &["app:1"]);
    let mut layer = files[0].1.to_vec();
    layer[600] ^= 1;
    files[0].1 = layer.into();
    let archive = open(archive(&files)).await.unwrap();
    let held = archive.images().await.unwrap().remove(0);
    let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
    let repository = "app".parse().unwrap();
    let sink = tree.repository(&repository).await.unwrap();
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    let reference = held.descriptor.digest.into();
    let copied = copier.copy(&*archive.content(), &reference, &*sink, &["1".parse().unwrap()]).await;
    assert!(matches!(copied, Err(CopyError::Mismatch { .. })), "{copied:?}");
    assert!(tree.find(&repository, &reference).await.unwrap().is_none());
}

#[tokio::test]
async fn bombs() {
    let folder = tempfile::tempdir().unwrap();
    // Zeros beyond what any archive may unpack to; a thousand of them a byte.
    let path = folder.path().join("bomb.tar.gz");
    let mut bomb = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..400 {
        std::io::Write::write_all(&mut bomb, &zeros).unwrap();
    }
    bomb.finish().unwrap();
    let error = DockerArchive::open(&path, folder.path()).await.unwrap_err();
    assert!(error.to_string().contains("unpacks to more than"), "{error:?}");
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn compressed_archives_that_are_cut() {
    let whole = archive(&saved(&image(), &["app:1"]));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &whole).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&whole[..], 3).unwrap();
    for bytes in [gzip, zstd] {
        refused(bytes[..bytes.len() / 2].to_vec(), "x.tar").await;
        refused(bytes[..bytes.len() - 1].to_vec(), "x.tar").await;
    }
}

/// More entries than any image has are refused before they fill the memory.
#[tokio::test]
async fn a_million_entries() {
    let mut bytes = Vec::new();
    for number in 0..200_001 {
        bytes.extend(header(&format!("{number}"), EntryType::Regular, 0).as_bytes());
    }
    refused(bytes, "more than 200000 entries").await;
}

#[tokio::test]
async fn links_in_folders_are_not_followed() {
    let (image, folder) = (image(), tempfile::tempdir().unwrap());
    let layer = image.manifest.layers()[0].clone();
    let outside = folder.path().join("outside");
    fs::write(&outside, &image.blobs[&layer.digest]).unwrap();
    let root = folder.path().join("layout");
    write_folder(&root, &layout(&[&image], &[entry(&image, &json!({}))]));
    let blob = root.join(blob_path(&layer.digest));
    fs::remove_file(&blob).unwrap();
    symlink(&outside, &blob).unwrap();
    let opened = ImageLayout::open(&root).await.unwrap();
    let result = opened.content().blob(&layer, 0).await.map(drop);
    assert!(result.unwrap_err().to_string().contains("symbolic link"));
    // Neither a folder on the way that is one.
    fs::rename(root.join("blobs"), folder.path().join("elsewhere")).unwrap();
    symlink(folder.path().join("elsewhere"), root.join("blobs")).unwrap();
    let result = opened.content().manifest(&image.descriptor()).await.map(drop);
    assert!(matches!(result, Err(SourceError::NotFound { .. })), "{result:?}");

    let root = folder.path().join("dir");
    write_folder(&root, &dir(&image));
    fs::remove_file(root.join("manifest.json")).unwrap();
    symlink("/etc/passwd", root.join("manifest.json")).unwrap();
    assert!(Dir::open(&root).await.unwrap_err().to_string().contains("symbolic link"));
}

#[tokio::test]
async fn layouts_that_are_none() {
    let (image, folder) = (image(), tempfile::tempdir().unwrap());
    let files = layout(&[&image], &[entry(&image, &json!({}))]);
    let with = async |name: &str, content: Option<&str>, expected: &str| {
        let root = folder.path().join("layout");
        let _ = fs::remove_dir_all(&root);
        write_folder(&root, &files);
        match content {
            None => fs::remove_file(root.join(name)).unwrap(),
            Some(content) => fs::write(root.join(name), content).unwrap(),
        }
        let error = ImageLayout::open(&root).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error:?}");
    };
    with("oci-layout", None, "has no oci-layout").await;
    with("oci-layout", Some(r#"{"imageLayoutVersion":"2.0.0"}"#), "not known").await;
    with("index.json", None, "has no index.json").await;
    with("index.json", Some("[]"), "index.json").await;
    with("index.json", Some(&" ".repeat(17 << 20)), "index.json").await;
    let absent = ImageLayout::open(&folder.path().join("absent")).await;
    assert!(matches!(absent, Err(SourceError::NotFound { .. })), "{absent:?}");
}

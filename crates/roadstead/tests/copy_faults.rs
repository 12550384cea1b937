//! Every fault of a source, in every part of an image: it is named, nothing changes that a reader can name, and the same
//! copy again does what is missing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use roadstead::image::{Copied, Copier, CopyError, CopyOptions, Side, Silent, Sink as _, Source as _};
use roadstead::oci::{Algorithm, Digest, Reference, Repository, Tag};
use roadstead::store::LocalStore;
use roadstead::testing::{Fault, Image, ImageBuilder, IndexBuilder, MemorySource, noise};
use roadstead::tree::Tree;

/// A file's bytes or a link's text, with what shows whether it was written anew.
type Files = BTreeMap<String, (u64, i64, Vec<u8>)>;

fn files(root: &Path) -> Files {
    let (mut files, mut open) = (Files::new(), vec![root.to_owned()]);
    while let Some(path) = open.pop() {
        let metadata = path.symlink_metadata().expect("nobody else is there");
        let name = path.strip_prefix(root).expect("below the root").display().to_string();
        // Locks are made when they are taken for the first time.
        if name.starts_with(".roadstead/") && name != ".roadstead/format" && !name.starts_with(".roadstead/left-out") {
            continue;
        }
        if metadata.is_dir() {
            open.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let bytes = if metadata.is_symlink() {
            fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
        } else {
            fs::read(&path).expect("a file")
        };
        files.insert(name, (metadata.ino(), metadata.ctime_nsec(), bytes));
    }
    files
}

async fn copy(source: &MemorySource, tree: &Tree, tag: &str) -> Result<Copied, CopyError> {
    let repository: Repository = "app".parse().expect("a name");
    let tag: Tag = tag.parse().expect("a tag");
    let sink = tree.repository(&repository).await.expect("a sink");
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    let from = source.repository(&repository);
    let copied = copier.copy(&*from, &Reference::Tag(tag), &*sink, &[Tag::latest()]).await?;
    sink.finish().await.expect("lists");
    Ok(copied)
}

/// The tree with an image under the tag that the next copy moves.
async fn prepared(source: &MemorySource, folder: &Path) -> Tree {
    let store = LocalStore::create(folder).expect("a folder").without_sync();
    let tree = Tree::create(Arc::new(store)).await.expect("a tree");
    copy(source, &tree, "old").await.expect("there is no fault yet");
    tree
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(|error| format!("{error}\n")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_named_leaves_the_tree_as_it_was_and_can_be_tried_again() {
    let image =
        |seed| ImageBuilder::new().blob("text/plain", noise(seed, 100_000)).layer(format!("layer {seed}")).build();
    let old: Image = ImageBuilder::new().layer("old").build();
    let new = IndexBuilder::new().image(image(1)).attested_image(image(2)).build();
    let source = MemorySource::new();
    source.add("app:old", &old);
    source.add("app:new", &new);
    let folder = tempfile::tempdir().expect("a folder");
    copy(&source, &prepared(&source, &folder.path().join("whole")).await, "new").await.expect("there is no fault");
    let names = |files: Files| files.into_iter().map(|(name, (_, _, bytes))| (name, bytes)).collect::<BTreeMap<_, _>>();
    let whole = names(files(&folder.path().join("whole")));

    let parts: Vec<Digest> =
        new.manifests().map(|manifest| *manifest.digest()).chain(new.blobs.keys().copied()).collect();
    for (number, (part, fault)) in parts.iter().flat_map(|part| Fault::ALL.map(|fault| (part, fault))).enumerate() {
        let context = format!("{fault:?} of {part}");
        let root = folder.path().join(number.to_string());
        let tree = prepared(&source, &root).await;
        let before = files(&root);
        source.inject(*part, fault);
        let error = copy(&source, &tree, "new").await.expect_err(&context);
        let text = chain(&error);
        assert_eq!(error.side(), Side::Source, "{context}: {text}");
        assert!(text.contains(&part.to_string()) && text.contains("memory/app:new"), "{context}: {text}");
        drop(tree);
        // Another thread may still be about to drop what it was writing.
        let is_empty = || fs::read_dir(root.join(".roadstead/tmp")).expect("a folder").next().is_none();
        assert!(
            roadstead_parts::wait_until(std::time::Duration::from_secs(20), is_empty),
            "{context}: temporary files"
        );

        let mut after = files(&root);
        // What came whole waits there for the next attempt, and nothing names it.
        after.retain(|name, (_, _, bytes)| {
            let added = !before.contains_key(name) && name.starts_with("content/");
            if added {
                let digest: Digest = name.rsplit('/').next().and_then(|name| name.parse().ok()).expect("a digest");
                assert_eq!(Algorithm::Sha256.digest(bytes), digest, "{context}: {name} has other bytes");
            }
            !added
        });
        assert!(after == before, "{context}: {:?} became {:?}", before.keys(), after.keys());
        source.mend();
        let tree =
            Tree::open(Arc::new(LocalStore::open(&root).expect("a folder").without_sync())).await.expect("a tree");
        copy(&source, &tree, "new").await.expect(&context);
        assert!(names(files(&root)) == whole, "{context}: another tree than without the fault");
    }
}

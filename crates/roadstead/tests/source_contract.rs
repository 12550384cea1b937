//! Every source keeps every promise.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, Source as _};
use roadstead::oci::{Digest, Tag};
use roadstead::store::{LocalStore, MemoryStore, Naming, Store};
use roadstead::testing::contract::source::{self, Subject};
use roadstead::testing::{Fault, Image, ImageBuilder, IndexBuilder, Layer, MemorySource, noise};
use roadstead::tree::{Tree, TreeSource};

/// A source in memory with `org/app:1`, which has two platforms, and what refers to it.
fn original() -> (MemorySource, Image, Image) {
    let of = |platform| {
        let large = Layer::new().file("large", noise(1, 300_000), 0o644);
        ImageBuilder::new().layer(large).platform(platform).build()
    };
    let image = IndexBuilder::new().attested_image(of("linux/amd64")).image(of("linux/arm64")).build();
    let referrer = ImageBuilder::new()
        .artifact_type("application/x.y")
        .subject(&image.descriptor())
        .blob("text/plain", "x")
        .build();
    let memory = MemorySource::new();
    memory.add("org/app:1", &image);
    memory.add("org/app", &referrer);
    (memory, image, referrer)
}

fn subject<'a>(
    implementation: &'a str,
    source: &'a dyn roadstead::image::Source,
    image: &'a Image,
    referrer: &Image,
) -> Subject<'a> {
    Subject {
        implementation,
        source,
        repository: "org/app".parse().expect("a name"),
        tag: "1".parse().expect("a name"),
        image,
        referrers: Some(vec![referrer.digest()]),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let (memory, image, referrer) = original();
    let subject = subject("memory", &memory, &image, &referrer);
    source::run_all(&subject).await;
    source::faults_show(&subject, &|digest, fault| match fault {
        Some(fault) => memory.inject(digest, fault),
        None => memory.mend(),
    })
    .await;
}

/// A tree with everything that the original has.
async fn tree(store: Arc<dyn Store>, original: &MemorySource) -> Tree {
    let tree = Tree::create(store).await.expect("a tree");
    let (app, tag): (_, Tag) = ("org/app".parse().expect("a name"), "1".parse().expect("a tag"));
    let copier = Copier::new(CopyOptions { referrers: true, ..CopyOptions::default() }, Arc::new(Silent));
    let sink = tree.repository(&app).await.expect("a sink");
    copier.copy(&*original.repository(&app), &tag.clone().into(), &*sink, &[tag]).await.expect("a copy");
    sink.finish().await.expect("lists");
    tree
}

/// Every file below a folder whose name is a digest.
fn content(folder: &Path, found: &mut HashMap<Digest, PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.file_name().and_then(|name| name.to_str()).expect("names are text").parse() {
            Ok(digest) => drop(found.insert(digest, path)),
            Err(_) => content(&path, found),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_in_a_directory() {
    let (original, image, referrer) = original();
    let folder = tempfile::tempdir().unwrap();
    let tree = tree(Arc::new(LocalStore::create(folder.path()).unwrap()), &original).await;
    let source = TreeSource::new(tree);
    let subject = subject("a tree in a directory", &source, &image, &referrer);
    source::run_all(&subject).await;

    let mut files = HashMap::new();
    content(&folder.path().join("content"), &mut files);
    let whole: Mutex<HashMap<Digest, Vec<u8>>> = Mutex::default();
    source::faults_show(&subject, &|digest, fault| {
        let path = &files[&digest];
        let mut whole = whole.lock().unwrap();
        let right = whole.entry(digest).or_insert_with(|| fs::read(path).unwrap());
        let mut bytes = right.clone();
        // What is there is read-only, and replaced.
        let _ = fs::remove_file(path);
        match fault {
            None => {}
            Some(Fault::WrongBytes) => bytes[0] ^= 1,
            Some(Fault::Short) => bytes.truncate(bytes.len() - 1),
            Some(Fault::Cut) => bytes.truncate(bytes.len() / 2),
            Some(Fault::Long) => bytes.push(b' '),
            Some(Fault::Missing) => return,
            Some(Fault::NeverEnding) => return fs::File::create(path).unwrap().set_len(1 << 40).unwrap(),
        }
        fs::write(path, bytes).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_in_memory() {
    for naming in [Naming::Links, Naming::Copies] {
        let (original, image, referrer) = original();
        let source = TreeSource::new(tree(Arc::new(MemoryStore::new(naming)), &original).await);
        source::run_all(&subject(&format!("a tree in memory with {naming:?}"), &source, &image, &referrer)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn referrers_are_found_without_their_list() {
    let (original, image, referrer) = original();
    for list in [None, Some("no list")] {
        let folder = tempfile::tempdir().unwrap();
        let source = TreeSource::new(tree(Arc::new(LocalStore::create(folder.path()).unwrap()), &original).await);
        let path = folder.path().join(format!("v2/org/app/referrers/{}", image.digest()));
        match list {
            None => fs::remove_file(&path).unwrap(),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        let found = source.repository(&"org/app".parse().unwrap()).referrers(&image.digest()).await.unwrap();
        assert_eq!(found.len(), 1, "{list:?}: {found:?}");
        assert_eq!(found[0].digest, referrer.digest());
        assert_eq!(found[0].artifact_type.as_deref(), Some("application/x.y"));
    }
}

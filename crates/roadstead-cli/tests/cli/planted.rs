//! Trees come from elsewhere, too: whatever lies where a file, a link or a folder of a tree belongs, no command waits for
//! it, follows it out of the tree, or gives up without a word.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use roadstead::server::{self, Body, Pull, Request};
use roadstead::store::LocalStore;
use roadstead::testing::{Image, ImageBuilder, MemorySource};
use roadstead::tree::Tree;
use roadstead_parts::Folder;

use crate::support::{Hostile, Place, write_tree};

const SECRET: &str = "what lies outside of the tree";

/// What somebody may have put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    Pipe,
    Socket,
    Loop,
    /// Links to a file and to a folder outside.
    File,
    FolderOutside,
    /// A link of the right form to what is no content.
    Private,
    Folder,
    Text,
    Nowhere,
}

const INSTEAD_OF_A_FILE: [Thing; 8] =
    [Thing::Pipe, Thing::Socket, Thing::Loop, Thing::File, Thing::Private, Thing::Folder, Thing::Text, Thing::Nowhere];
const INSTEAD_OF_A_FOLDER: [Thing; 4] = [Thing::Pipe, Thing::Loop, Thing::FolderOutside, Thing::Text];

impl Thing {
    /// Puts it at `path`, which is `key` in the tree, in place of what is there.
    fn plant(self, path: &Path, key: &str, outside: &Path) {
        if path.symlink_metadata().is_ok_and(|there| there.is_dir()) {
            fs::remove_dir_all(path).unwrap();
        } else {
            let _ = fs::remove_file(path);
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let up = "../".repeat(key.matches('/').count());
        match self {
            Self::Pipe => {
                let mode = rustix::fs::Mode::from_raw_mode(0o666);
                rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            }
            // A socket's path is short; it can be moved anywhere.
            Self::Socket => {
                let short = Folder::new();
                drop(UnixListener::bind(short.join("s")).unwrap());
                fs::rename(short.join("s"), path).unwrap();
            }
            Self::Loop => symlink(path.file_name().unwrap(), path).unwrap(),
            // As good as a link to a device whose bytes never end.
            Self::File => symlink(outside.join("secret"), path).unwrap(),
            Self::FolderOutside => symlink(outside, path).unwrap(),
            Self::Private => symlink(format!("{up}.roadstead/format"), path).unwrap(),
            Self::Folder => {
                fs::create_dir(path).unwrap();
                fs::write(path.join("inside"), SECRET).unwrap();
            }
            Self::Text => fs::write(path, "neither JSON nor what a digest says").unwrap(),
            Self::Nowhere => symlink(format!("{up}content/blobs/sha256:{:064}", 0), path).unwrap(),
        }
    }
}

/// A place in a tree that holds `image` as `app:1.0`, and what may lie there.
fn places(image: &Image) -> Vec<(String, &'static [Thing])> {
    let (digest, layer) = (image.digest(), image.manifest.layers()[0].digest);
    let subject = image.manifest.subject().unwrap().digest;
    let fallback = subject.to_string().replace(':', "-");
    let files = [
        "v2/app/manifests/1.0".to_owned(),
        format!("v2/app/manifests/{digest}"),
        format!("v2/app/manifests/{fallback}"),
        format!("v2/app/blobs/{layer}"),
        "v2/app/tags/list".to_owned(),
        format!("v2/app/referrers/{subject}"),
        "v2/_catalog".to_owned(),
        "v2/index.html".to_owned(),
        format!("content/manifests/{}/{digest}", image.manifest.media_type()),
        format!("content/blobs/{layer}"),
        ".roadstead/format".to_owned(),
        ".roadstead/locks/writers".to_owned(),
        ".roadstead/locks/catalog".to_owned(),
        ".roadstead/tmp/dead.lock".to_owned(),
    ];
    let folders = [
        "v2/app",
        "v2/app/manifests",
        "v2/app/blobs",
        "v2/app/tags",
        "v2/app/referrers",
        "v2/other",
        "content/blobs",
        "content/manifests",
        "content",
        ".roadstead",
        ".roadstead/locks",
        ".roadstead/tmp",
    ];
    let files = files.into_iter().map(|file| (file, &INSTEAD_OF_A_FILE[..]));
    files.chain(folders.map(|folder| (folder.to_owned(), &INSTEAD_OF_A_FOLDER[..]))).collect()
}

/// What `serve` answers to each request: status and body.
fn answers(tree: &Path, image: &Image) -> Vec<(u16, String)> {
    let (digest, layer) = (image.digest(), image.manifest.layers()[0].digest);
    let subject = image.manifest.subject().unwrap().digest;
    let requests = [
        "/v2/app/manifests/1.0".to_owned(),
        format!("/v2/app/manifests/{digest}"),
        format!("/v2/app/blobs/{layer}"),
        "/v2/app/tags/list".to_owned(),
        "/v2/app/tags/list?n=1".to_owned(),
        format!("/v2/app/referrers/{subject}"),
        "/v2/_catalog".to_owned(),
        "/v2/_catalog?n=1".to_owned(),
        "/v2/".to_owned(),
    ];
    let (tree, (done, answered)) = (tree.to_owned(), mpsc::channel());
    // On a thread of its own, which may hang without the test.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answers = runtime.block_on(async {
            let Ok(tree) = Tree::open(Arc::new(LocalStore::open(&tree).unwrap())).await else { return Vec::new() };
            let pull = Pull::new(tree, None, false, 1 << 20);
            let mut answers = Vec::new();
            for path in &requests {
                let (path, query) = path.split_once('?').map_or((&**path, None), |(path, query)| (path, Some(query)));
                let headers = server::Headers::default();
                let response = pull.answer(&Request { method: &http::Method::GET, path, query, headers }).await;
                let body = match response.body {
                    Body::Bytes(bytes) => bytes.to_vec(),
                    Body::File { file, range } => {
                        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
                        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, range.start).unwrap();
                        bytes
                    }
                    _ => Vec::new(),
                };
                answers.push((response.status.as_u16(), String::from_utf8_lossy(&body).into_owned()));
            }
            answers
        });
        done.send(answers)
    });
    answered.recv_timeout(Duration::from_secs(60)).expect("the server hangs")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &target),
            kind if kind.is_symlink() => symlink(fs::read_link(entry.path()).unwrap(), target).unwrap(),
            _ => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Everything that is done to a tree in which one thing lies at one place. Says what is wrong.
fn check(whole: &Path, image: &Image, registry: &str, key: &str, thing: Thing) -> Result<(), String> {
    let (place, outside) = (Place::new(), Folder::new());
    outside.write("secret", SECRET);
    let tree = place.tree();
    copy(whole, &tree);
    thing.plant(&tree.join(key), key, outside.path());

    let commands: [&[&str]; 7] = [
        &["list", "--all"],
        &["inspect", "app:1.0"],
        &["verify", "--repair"],
        &["prune", "--older-than", "0"],
        &["du"],
        &["add", "-q", registry],
        &["remove", "app:1.0"],
    ];
    for command in commands {
        let served = answers(&tree, image);
        if let Some(leak) = served.iter().find(|(_, body)| body.contains(SECRET)) {
            return Err(format!("serve hands out {leak:?}"));
        }
        let ran = place.run(command);
        let said = ran.to_string();
        // What is as good as absent makes the image so, or the tree.
        let absent = ["app:1.0 is not in the tree".to_owned(), format!("no registry tree at {}", tree.display())];
        let named = said.contains(key) || ran.code() == 3 && absent.iter().any(|absent| said.contains(absent));
        match ran.code() {
            0 => {}
            1 | 3 | 7 | 8 if named => {}
            // What is lost and needed is named by its digest, and `verify` has just said why.
            7 if command[0] == "prune" && said.contains("`roadstead verify` says") => {}
            _ => return Err(said),
        }
        if said.contains(SECRET) || said.contains("panicked") {
            return Err(said);
        }
        let found: Vec<_> = fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        if found != ["secret"] || fs::read_to_string(outside.join("secret")).unwrap() != SECRET {
            return Err(format!("{found:?} lies outside\n{said}"));
        }
        // Whoever is told that the image is there can pull it.
        if command[0] == "add" && ran.code() == 0 {
            let served = answers(&tree, image);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (manifest, layer) =
                (text(image.manifest.bytes()), text(&image.blobs[&image.manifest.layers()[0].digest]));
            let expected = [(200, manifest.clone()), (200, manifest), (200, layer)];
            if served.get(..3) != Some(&expected) {
                return Err(format!("after an add that succeeded: {served:?}\n{said}"));
            }
        }
    }
    Ok(())
}

#[test]
fn nothing_that_was_planted_in_a_tree_is_followed_or_waited_for() {
    let subject = ImageBuilder::new().layer("subject").build();
    let image = ImageBuilder::new().layer("layer").subject(&subject.descriptor()).build();
    let (place, source) = (Place::new(), MemorySource::new());
    source.add("app:1.0", &image);
    write_tree(&place.tree(), &source);
    let registry = Hostile::honest(&image);
    let cases: Vec<(String, Thing)> = { places(&image).into_iter() }
        .flat_map(|(place, things)| things.iter().map(move |thing| (place.clone(), *thing)))
        .collect();
    let next = AtomicUsize::new(0);
    let wrong = thread::scope(|scope| {
        let work = || {
            let mut wrong = Vec::new();
            while let Some((key, thing)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                let checked = || check(&place.tree(), &image, &registry.image(), key, *thing);
                match std::panic::catch_unwind(std::panic::AssertUnwindSafe(checked)) {
                    Ok(Ok(())) => {}
                    Ok(Err(problem)) => wrong.push(format!("{thing:?} at {key}: {problem}")),
                    Err(_) => wrong.push(format!("{thing:?} at {key}: see above")),
                }
            }
            wrong
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

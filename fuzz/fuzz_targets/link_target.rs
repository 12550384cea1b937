//! Links that somebody else put into a directory: whatever a store takes for a key is that key's path, and nothing else.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Component, PathBuf};
use std::sync::LazyLock;

use futures::FutureExt as _;
use libfuzzer_sys::fuzz_target;
use roadstead::store::{Key, LocalStore, Store as _};

const LINK: &str = "v2/app/manifests/1";

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir_all(folder.path().join(LINK).parent().expect("it has one")).expect("a folder");
    folder
});

static STORE: LazyLock<LocalStore> = LazyLock::new(|| LocalStore::open(FOLDER.path()).expect("a folder"));

fuzz_target!(|text: &[u8]| {
    let link = STORE.root().join(LINK);
    let _ = std::fs::remove_file(&link);
    if symlink(OsStr::from_bytes(text), &link).is_err() {
        return;
    }
    let key: Key = LINK.parse().expect("a key");
    let target = STORE.target(&key).now_or_never().expect("reading a link does not wait");
    if let Ok(target) = target {
        let target = target.expect("a link leads somewhere or is refused");
        let mut path = PathBuf::from(link.parent().expect("it has one"));
        for component in PathBuf::from(OsStr::from_bytes(text)).components() {
            match component {
                Component::ParentDir => assert!(path.pop()),
                Component::Normal(name) => path.push(name),
                other => panic!("{other:?} in the target {target}"),
            }
        }
        assert_eq!(path, STORE.root().join(target.as_str()));
    }
    let _ = STORE.head(&key).now_or_never().expect("reading a link does not wait");
});

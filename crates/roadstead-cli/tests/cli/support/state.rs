//! What a tree holds, seen as a dumb web server sees it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use roadstead::oci::{Algorithm, Digest};

/// Every file and link that clients can reach, with its content or target.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct State(BTreeMap<String, Vec<u8>>);

impl State {
    /// Reads a tree, and checks that every byte is what its name says and every link leads somewhere.
    #[track_caller]
    pub(crate) fn of(tree: &Path) -> Self {
        let mut state = Self::default();
        if tree.exists() {
            state.read(tree, tree);
        }
        for (path, content) in &state.0 {
            let name = path.rsplit('/').next().unwrap();
            if let (true, Ok(digest)) = (path.starts_with("content/"), name.parse::<Digest>()) {
                let algorithm = if name.starts_with("sha512") { Algorithm::Sha512 } else { Algorithm::Sha256 };
                assert_eq!(algorithm.digest(content), digest, "{path} holds something else");
            }
        }
        state
    }

    fn read(&mut self, root: &Path, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if name == ".roadstead" {
                continue;
            }
            if path.is_symlink() {
                assert!(path.exists(), "{name} leads nowhere: {:?}", fs::read_link(&path));
                self.0.insert(name, fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes());
            } else if path.is_dir() {
                self.read(root, &path);
            } else {
                self.0.insert(name, fs::read(&path).unwrap());
            }
        }
    }

    /// What clients can name: all but blobs. One that arrived whole stays after a failure, so that the next attempt finds it.
    pub(crate) fn without_blobs(mut self) -> Self {
        self.0.retain(|path, _| !path.contains("/blobs/"));
        self
    }

    /// The paths, for messages.
    pub(crate) fn paths(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

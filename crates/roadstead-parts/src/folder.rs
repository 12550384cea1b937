use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder of one's own, removed when dropped.
///
/// It lies in `/tmp` whatever `TMPDIR` says, because daemons put sockets into it and a socket's path is at most 107
/// bytes long. Everyone may enter and read it, because a web server's workers run as another user.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// Makes an empty one.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("rsp-").tempdir_in("/tmp").expect("/tmp can be written to");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("the folder is ours");
        Self(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of something in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file into it, with the folders above, and returns its path.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder is ours");
        fs::write(&path, content).expect("the folder is ours");
        path
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

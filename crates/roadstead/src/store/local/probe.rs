//! Whether a file system can hold a tree.

use std::fs::{self, File};
use std::path::Path;

use super::{StoreError, failed};

/// Tries, in `folder`, what a tree needs: symbolic links, `:` in names, and names that differ in case alone.
pub(super) fn file_system(root: &Path, folder: &Path) -> Result<(), StoreError> {
    let unsuitable = |lacks: &str| {
        Err(StoreError::Unsuitable {
            what: root.display().to_string(),
            problem: format!(
                "its file system {lacks}, which a tree needs; keep the tree on a file system that does, such as ext4, \
                 xfs, btrfs, apfs (case-sensitive) or tmpfs"
            ),
        })
    };
    let link = folder.join("probe-link");
    if std::os::unix::fs::symlink("nowhere", &link).is_err() {
        // A folder that can't be written at all is another complaint.
        File::create(&link).map_err(|e| failed("writing", &link, e))?;
        let _ = fs::remove_file(&link);
        return unsuitable("has no symbolic links");
    }
    let _ = fs::remove_file(&link);

    let colon = folder.join("probe:colon");
    let read_back = File::create(&colon).is_ok()
        && fs::read_dir(folder)
            .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() == "probe:colon")));
    let _ = fs::remove_file(&colon);
    if !read_back {
        return unsuitable("does not allow : in names");
    }

    let upper = folder.join("probe-CASE");
    File::create(&upper).map_err(|e| failed("writing", &upper, e))?;
    let folded = folder.join("probe-case").exists();
    let _ = fs::remove_file(&upper);
    if folded {
        return unsuitable("takes names that differ in case for the same");
    }
    Ok(())
}

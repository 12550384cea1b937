//! What lies in a folder.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::open::{is_absent, leads_through_link};
use super::{StoreError, blocking, failed};

/// How many entries are read at first: many only ask whether there is anything.
const FIRST: usize = 32;
/// And how many then.
const BATCH: usize = 1024;

/// A folder being listed.
enum Folder {
    Unopened(PathBuf),
    Open(PathBuf, fs::ReadDir),
}

impl Folder {
    /// Its entries from here on, and how many to read; `None` if it isn't there.
    fn open(self) -> Result<Option<(PathBuf, fs::ReadDir, usize)>, StoreError> {
        match self {
            Self::Open(path, entries) => Ok(Some((path, entries, BATCH))),
            Self::Unopened(path) if leads_through_link(&path) => Ok(None),
            Self::Unopened(path) => match fs::read_dir(&path) {
                Ok(entries) => Ok(Some((path, entries, FIRST))),
                Err(e) if is_absent(&e) => Ok(None),
                Err(e) => Err(failed("listing", &path, e)),
            },
        }
    }
}

/// What `make` makes of the entries of a folder, given the name of each and whether it is a folder. They are read as they are
/// asked for.
pub(super) fn entries<T: Send + 'static>(
    folder: PathBuf,
    make: impl Fn(&str, bool) -> Option<T> + Send + Sync + 'static,
) -> BoxStream<'static, Result<T, StoreError>> {
    let make = Arc::new(make);
    stream::try_unfold(Folder::Unopened(folder), move |folder| {
        let make = make.clone();
        blocking(move || {
            let Some((path, mut entries, most)) = folder.open()? else { return Ok(None) };
            let mut batch = Vec::new();
            let mut more = false;
            for entry in entries.by_ref().take(most) {
                more = true;
                let failed = |e| failed("listing", &path, e);
                let entry = entry.map_err(failed)?;
                match entry.file_type() {
                    Ok(kind) => {
                        batch.extend(entry.file_name().to_str().and_then(|name| make(name, kind.is_dir())).map(Ok));
                    }
                    // Some file systems don't tell the kind with the name, and it went meanwhile.
                    Err(e) if is_absent(&e) => {}
                    Err(e) => return Err(failed(e)),
                }
            }
            Ok(more.then(|| (stream::iter(batch), Folder::Open(path, entries))))
        })
    })
    .try_flatten()
    .boxed()
}

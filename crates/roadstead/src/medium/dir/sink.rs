//! Writing skopeo's `dir:`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::MANIFEST;
use crate::image::{RepositorySink, SinkError};
use crate::medium::depot::{Depot, Form, Root};
use crate::medium::image_layout::closing;
use crate::oci::{Digest, ImageReference};

/// The layout of the folder, as skopeo knows it: `HEX.manifest.json` came with 1.1.
const VERSION: &str = "Directory Transport Version: 1.1\n";

/// Writes one image as skopeo's `dir:`. The folder gets its name when the image in it is whole.
pub struct DirSink {
    depot: Arc<Depot>,
    folder: PathBuf,
}

impl DirSink {
    /// An image in a folder, which must be empty or not there.
    ///
    /// # Errors
    ///
    /// If there is something in the folder, or what is above it can't be written.
    pub fn create(folder: &Path) -> Result<Self, SinkError> {
        let failed = |e: io::Error| SinkError::new(&folder.display(), e);
        match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Err(SinkError::new(&folder.display(), "there is something in the folder")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
        let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(above).map_err(failed)?;
        Ok(Self { depot: Arc::new(Depot::temporary(above, 0o777, Named)?), folder: folder.to_owned() })
    }

    /// Where the image goes. Names have no place in such a folder.
    #[must_use]
    pub fn image(&self, name: Option<&ImageReference>) -> Box<dyn RepositorySink> {
        self.depot.image(name)
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    ///
    /// If that can't be done, or there is not one image. Then there is no folder.
    pub async fn close(self) -> Result<(), SinkError> {
        let Self { depot, folder } = self;
        closing(move || {
            let failed = |e: io::Error| SinkError::new(&folder.display(), e);
            let refused = |problem: &str| SinkError::new(&folder.display(), problem);
            let mut roots: Vec<Digest> = depot.roots().into_iter().map(|root| root.digest).collect();
            roots.dedup();
            let [top] = roots[..] else {
                return Err(refused("such a folder holds one image, neither none nor several"));
            };
            let root = depot.root();
            fs::rename(root.join(Named.manifest(&top)), root.join(MANIFEST)).map_err(failed)?;
            fs::write(root.join("version"), VERSION).map_err(failed)?;
            // Over an empty folder, or nothing; never over another.
            fs::rename(root, &folder).map_err(failed)
        })
        .await
    }
}

/// Files by the digits of their digests.
struct Named;

impl Form for Named {
    fn blob(&self, digest: &Digest) -> String {
        digest.hex()
    }

    fn manifest(&self, digest: &Digest) -> String {
        format!("{}.{MANIFEST}", digest.hex())
    }

    fn show(&self, _: &Path, _: &[Root]) -> io::Result<bool> {
        Ok(true)
    }
}

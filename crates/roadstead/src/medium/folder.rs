//! A folder as a place of files, without a step outside of it: a symbolic link below it is never followed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::Files;
use super::section::{Section, failed};
use crate::image::SourceError;
use crate::store::open_regular;

/// A folder from elsewhere.
#[derive(Debug)]
pub(super) struct Folder {
    place: String,
    root: PathBuf,
}

impl Folder {
    /// The folder; `root` itself may be a link.
    pub(super) fn open(root: &Path, place: String) -> Result<Self, SourceError> {
        let root = fs::canonicalize(root).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => SourceError::NotFound { what: place.clone(), source: None },
            _ => failed(place.as_str(), e),
        })?;
        if !root.is_dir() {
            return Err(SourceError::Invalid { what: place, problem: "it is no folder".to_owned() });
        }
        Ok(Self { place, root })
    }
}

impl Files for Folder {
    fn place(&self) -> &str {
        &self.place
    }

    /// Here a name is one of ours, or made of a digest; none comes from the medium.
    fn section(&self, name: &str) -> Result<Option<Section>, SourceError> {
        let path = self.root.join(name);
        match open_regular(&path) {
            Ok(Some((file, metadata))) => Ok(Some(Section::File { file: Arc::new(file), range: 0..metadata.len() })),
            Ok(None) if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) => {
                let what = path.display().to_string();
                Err(SourceError::Invalid {
                    what,
                    problem: "it is a symbolic link, and those are not followed".to_owned(),
                })
            }
            Ok(None) => Ok(None),
            Err(e) => Err(failed(path.display().to_string(), e)),
        }
    }
}

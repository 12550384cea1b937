//! A folder of plain files, with a host's configuration.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::TryStreamExt as _;

use super::PublishError;
use crate::oci::{Digest, Reference, Repository};
use crate::store::{Body, Key, Object, StoreError};
use crate::tree::{Shown, Tree, TreeError};

/// What marks a folder as made here. It lies beside what is deployed.
const MARK: &str = ".roadstead-site";

/// The largest list.
pub(super) const MAX_LIST: u64 = 256 << 20;

/// What of a tree goes into a folder, and where.
#[derive(Clone, Copy)]
pub struct FolderOptions<'a> {
    /// The folder for the tree's files, below that of the configuration.
    pub public: &'a str,
    /// Put in front of every repository's name.
    pub name_prefix: Option<&'a Repository>,
    /// Whether blobs are in it; else they are elsewhere.
    pub blobs: bool,
    /// Whether manifests are in it; else they are elsewhere.
    pub manifests: bool,
    /// Names that are left out, since the host would answer them for others.
    pub leaves_out: &'a (dyn Fn(&Reference) -> bool + Sync),
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Published {
    /// Files that were written.
    pub written: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were as they should be.
    pub unchanged: u64,
    /// Files that were removed, since the tree no longer has them.
    pub removed: u64,
}

impl Published {
    /// This, and what was done afterwards.
    #[must_use]
    pub const fn and(self, then: Self) -> Self {
        Self {
            written: self.written + then.written,
            bytes: self.bytes + then.bytes,
            unchanged: then.unchanged,
            removed: self.removed + then.removed,
        }
    }
}

/// A folder that holds a tree as plain files.
///
/// It is made by one writer at a time. A file appears whole, and replaces another in one instant.
pub struct PlainFolder(PathBuf);

impl PlainFolder {
    /// The folder at a path, which is made if it isn't there.
    ///
    /// # Errors
    ///
    /// [`PublishError::Foreign`] if there are things in it that somebody else put there.
    pub fn create(path: &Path) -> Result<Self, PublishError> {
        let folder = Self(path.to_owned());
        let mark = path.join(MARK);
        fs::create_dir_all(path).map_err(unwritable(path))?;
        if mark.symlink_metadata().is_err() {
            let mut entries = fs::read_dir(path).map_err(unwritable(path))?;
            if entries.next().is_some() {
                return Err(PublishError::Foreign(path.to_owned()));
            }
            fs::write(&mark, "made by roadstead publish\n").map_err(unwritable(&mark))?;
        }
        Ok(folder)
    }

    /// Makes the folder hold what the tree holds, and these files (name and text) of the host's. What is named by a digest and
    /// has the right size is not written again. Other files beside the tree's own are left alone.
    ///
    /// # Errors
    ///
    /// If the tree can't be read, or the folder not be written. The same call again does what is missing.
    pub async fn write(
        &self,
        tree: &Tree,
        options: FolderOptions<'_>,
        files: &[(&str, &str)],
    ) -> Result<Published, PublishError> {
        let mut published = Published::default();
        let within =
            |(name, _): &(&str, &str)| Path::new(name).strip_prefix(options.public).ok()?.to_str().map(str::to_owned);
        let mut held: HashSet<String> = files.iter().filter_map(within).collect();
        let mut last = Vec::new();
        let mut copied = HashMap::new();
        let mut shown = tree.shown();
        while let Some((file, size)) = shown.try_next().await? {
            let wanted = match &file {
                Shown::Manifest(_, reference, _) => options.manifests && !(options.leaves_out)(reference),
                Shown::Blob(..) => options.blobs,
                _ => true,
            };
            if !wanted {
                continue;
            }
            held.insert(place(&file, options.name_prefix));
            match &file {
                Shown::Blob(repository, digest) => {
                    let path = Path::new(options.public).join(place(&file, options.name_prefix));
                    if self.has(&path, size) {
                        published.unchanged += 1;
                    } else if !self.has_linked(copied.get(digest), &path, size, &mut published) {
                        self.put_blob(tree, repository, digest, &path, &mut published).await?;
                        copied.insert(*digest, path);
                    }
                }
                Shown::Manifest(_, Reference::Digest(_), _) | Shown::Referrers(..) => {
                    self.put(tree, &file, size, options, &mut published).await?;
                }
                // What names others comes after them, and lists after tags.
                _ => last.push((file, size)),
            }
        }
        last.sort_by_key(|(file, _)| !matches!(file, Shown::Manifest(..)));
        for (file, size) in &last {
            self.put(tree, file, *size, options, &mut published).await?;
        }
        self.remove_others(options, &held, &mut published)?;
        for (name, text) in files {
            self.put_bytes(Path::new(name), text.as_bytes(), &mut published)?;
        }
        Ok(published)
    }

    async fn put(
        &self,
        tree: &Tree,
        file: &Shown,
        size: u64,
        options: FolderOptions<'_>,
        published: &mut Published,
    ) -> Result<(), PublishError> {
        let path = Path::new(options.public).join(place(file, options.name_prefix));
        match file {
            // Written before, since its bytes may be shared.
            Shown::Blob(..) => Ok(()),
            Shown::Manifest(_, reference, pointer) => {
                if matches!(reference, Reference::Digest(_)) && self.has(&path, size) {
                    published.unchanged += 1;
                    return Ok(());
                }
                let Some(manifest) = tree.manifest(pointer).await? else { return Ok(()) };
                self.put_bytes(&path, manifest.bytes(), published)
            }
            Shown::Ping => self.put_bytes(&path, b"{}", published),
            Shown::Referrers(..) | Shown::TagsList(_) | Shown::Catalog => {
                let key = file.key(tree);
                let Some(object) = tree.store().get(&key, None).await.map_err(TreeError::from)? else { return Ok(()) };
                let bytes = object.body.into_bytes(MAX_LIST, &key).await.map_err(TreeError::from)?;
                let bytes = match options.name_prefix {
                    Some(prefix) => {
                        prefixed(file, &bytes, prefix).map_err(|source| TreeError::DamagedList { key, source })?
                    }
                    None => bytes,
                };
                self.put_bytes(&path, &bytes, published)
            }
        }
    }

    /// Writes a blob, whose bytes are hashed first.
    async fn put_blob(
        &self,
        tree: &Tree,
        repository: &Repository,
        digest: &Digest,
        path: &Path,
        published: &mut Published,
    ) -> Result<(), PublishError> {
        let key = crate::tree::keys::blob(repository, digest);
        // Read once to be hashed and once to be copied, so that a file system can share the bytes: contents never change.
        let Some(object) = tree.blob(repository, digest, None).await? else { return Ok(()) };
        if object.body.digest(digest.algorithm().hasher(), &key, |_| {}).await? != *digest {
            return Err(PublishError::Damaged { digest: *digest });
        }
        let Some(object) = tree.blob(repository, digest, None).await? else { return Ok(()) };
        self.put_object(path, object, &key, digest, published).await
    }

    /// Gives a blob that another repository has as well a second name here; says whether that could be done.
    fn has_linked(&self, first: Option<&PathBuf>, path: &Path, size: u64, published: &mut Published) -> bool {
        let (Some(first), at) = (first, self.0.join(path)) else { return false };
        // What is there has another size.
        let made = at.parent().is_some_and(|folder| fs::create_dir_all(folder).is_ok());
        let linked =
            made && (fs::remove_file(&at).is_ok() || !at.exists()) && fs::hard_link(self.0.join(first), &at).is_ok();
        if linked {
            published.written += 1;
            published.bytes += size;
        }
        linked
    }

    /// Whether a file of this size is there.
    fn has(&self, path: &Path, size: u64) -> bool {
        fs::symlink_metadata(self.0.join(path)).is_ok_and(|there| there.is_file() && there.len() == size)
    }

    fn put_bytes(&self, path: &Path, bytes: &[u8], published: &mut Published) -> Result<(), PublishError> {
        let at = self.0.join(path);
        if self.has(path, bytes.len() as u64) && fs::read(&at).is_ok_and(|there| there == *bytes) {
            published.unchanged += 1;
            return Ok(());
        }
        let mut temporary = self.temporary(&at)?;
        temporary.write_all(bytes).map_err(unwritable(&at))?;
        persist(temporary, &at)?;
        published.written += 1;
        published.bytes += bytes.len() as u64;
        Ok(())
    }

    async fn put_object(
        &self,
        path: &Path,
        object: Object,
        key: &Key,
        digest: &Digest,
        published: &mut Published,
    ) -> Result<(), PublishError> {
        let at = self.0.join(path);
        let size = object.entry.size;
        let mut temporary = self.temporary(&at)?;
        let copied = match object.body {
            // The kernel copies, and shares the bytes where the file system can.
            Body::File { mut file, .. } => {
                let copy = move || io::copy(&mut file, temporary.as_file_mut()).map(|copied| (temporary, copied));
                let copied = tokio::task::spawn_blocking(copy).await.map_err(io::Error::other);
                let (back, copied) = copied.flatten().map_err(unwritable(&at))?;
                temporary = back;
                copied
            }
            body => {
                let mut copied = 0;
                let mut bytes = body.into_stream(key);
                while let Some(piece) = bytes.try_next().await.map_err(TreeError::from)? {
                    temporary.write_all(&piece).map_err(unwritable(&at))?;
                    copied += piece.len() as u64;
                }
                copied
            }
        };
        if copied != size {
            return Err(PublishError::Damaged { digest: *digest });
        }
        persist(temporary, &at)?;
        published.written += 1;
        published.bytes += size;
        Ok(())
    }

    /// A file that gets its name later, beside the mark: the folder that is deployed never has half a file.
    fn temporary(&self, at: &Path) -> Result<tempfile::NamedTempFile, PublishError> {
        let folder = at.parent().unwrap_or(&self.0);
        fs::create_dir_all(folder).map_err(unwritable(at))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(MARK).permissions(Permissions::from_mode(0o666));
        builder.tempfile_in(&self.0).map_err(unwritable(at))
    }

    /// Removes what the tree doesn't have, tags and lists first.
    fn remove_others(
        &self,
        options: FolderOptions<'_>,
        held: &HashSet<String>,
        published: &mut Published,
    ) -> Result<(), PublishError> {
        let public = self.0.join(options.public);
        let mut others = Vec::new();
        let mut folders = vec![public.join("v2")];
        let mut index = 0;
        while let Some(folder) = folders.get(index).cloned() {
            index += 1;
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(unwritable(&folder))?,
            };
            for entry in entries {
                let entry = entry.map_err(unwritable(&folder))?;
                let path = entry.path();
                if entry.file_type().map_err(unwritable(&path))?.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(&public).ok().and_then(Path::to_str);
                if !name.is_some_and(|name| held.contains(name)) {
                    others.push((rank(&path), path));
                }
            }
        }
        others.sort_unstable();
        for (_, path) in &others {
            fs::remove_file(path).map_err(unwritable(path))?;
            published.removed += 1;
        }
        // Those that are not empty stay.
        folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
        Ok(())
    }
}

/// When a file is removed: what others are named by goes before these.
pub(super) fn rank(path: &Path) -> usize {
    let parts = || path.iter().rev().map(|part| part.to_str().unwrap_or_default());
    match (parts().next(), parts().nth(1)) {
        (_, Some("blobs")) => 2,
        (Some(name), Some("manifests")) if name.contains(':') => 1,
        _ => 0,
    }
}

fn persist(temporary: tempfile::NamedTempFile, at: &Path) -> Result<(), PublishError> {
    temporary.persist(at).map(drop).map_err(|error| unwritable(at)(error.error))
}

/// Where a file lies in the folder.
pub(super) fn place(file: &Shown, name_prefix: Option<&Repository>) -> String {
    let name = |repository: &Repository| match name_prefix {
        Some(prefix) => format!("{prefix}/{repository}"),
        None => repository.to_string(),
    };
    match file {
        Shown::Ping => "v2/index.html".to_owned(),
        Shown::Catalog => "v2/_catalog".to_owned(),
        Shown::TagsList(repository) => format!("v2/{}/tags/list", name(repository)),
        Shown::Manifest(repository, reference, _) => format!("v2/{}/manifests/{reference}", name(repository)),
        Shown::Blob(repository, digest) => format!("v2/{}/blobs/{digest}", name(repository)),
        Shown::Referrers(repository, subject) => format!("v2/{}/referrers/{subject}", name(repository)),
    }
}

/// A list that says the names that clients use.
pub(super) fn prefixed(file: &Shown, bytes: &Bytes, prefix: &Repository) -> Result<Bytes, serde_json::Error> {
    let mut list: serde_json::Value = match file {
        Shown::TagsList(_) | Shown::Catalog => serde_json::from_slice(bytes)?,
        _ => return Ok(bytes.clone()),
    };
    let put = |name: &mut serde_json::Value| {
        if let Some(text) = name.as_str() {
            *name = format!("{prefix}/{text}").into();
        }
    };
    match file {
        Shown::Catalog => list["repositories"].as_array_mut().into_iter().flatten().for_each(put),
        _ => put(&mut list["name"]),
    }
    serde_json::to_vec(&list).map(Bytes::from)
}

fn unwritable(path: &Path) -> impl Fn(io::Error) -> PublishError {
    let path = path.to_owned();
    move |source| PublishError::Unwritable { path: path.clone(), source }
}

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> Self {
        Self::Tree(error.into())
    }
}

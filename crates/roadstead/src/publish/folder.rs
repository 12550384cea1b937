//! A folder of plain files, with a host's configuration.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::TryStreamExt as _;

use super::PublishError;
use super::site_folder::{SiteFolder, Written, unwritable};
use crate::oci::{Digest, Kind, Manifest, Reference, Repository};
use crate::store::{Body, Key, Object, StoreError};
use crate::tree::{Private, Shown, Tree, TreeError};

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
    /// Repositories that are left out, also from the catalogue.
    pub without: &'a Private,
    /// Whether files of the host's configuration are replaced that somebody changed.
    pub force: bool,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Published {
    /// Files that were written.
    pub written: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were as they should be.
    pub unchanged: u64,
    /// Files that were removed, since the tree no longer has them, or the host's configuration.
    pub removed: u64,
    /// Files of a host's configuration that somebody changed since they were written: they stay as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
}

impl Published {
    /// This, and what was done afterwards.
    #[must_use]
    pub fn and(self, then: Self) -> Self {
        Self {
            written: self.written + then.written,
            bytes: self.bytes + then.bytes,
            unchanged: then.unchanged,
            removed: self.removed + then.removed,
            kept: then.kept,
        }
    }
}

/// A folder that holds a tree as plain files.
///
/// It is made by one writer at a time. A file appears whole, and replaces another in one instant.
pub struct PlainFolder(SiteFolder);

/// An index that waits for what it names: what it is in the tree, its children.
struct Waiting(Shown, Manifest);

impl PlainFolder {
    /// The folder at a path, which is made if it isn't there. What a writer left that was killed is removed.
    ///
    /// # Errors
    ///
    /// [`PublishError::Foreign`] if there are things in it that somebody else put there.
    pub fn create(path: &Path) -> Result<Self, PublishError> {
        Ok(Self(SiteFolder::open(path)?))
    }

    /// Makes the folder hold what the tree holds, and these files (name and text) of the host's; such files that were written
    /// for another host, or another form, go. What is named by a digest and has the right size is not written again. Other files
    /// beside the tree's own are left alone.
    ///
    /// # Errors
    ///
    /// [`PublishError::Changed`] if a file of the host's is there that somebody changed, or put there, and that would have to say
    /// something else than when it was written: then nothing was written. If the tree can't be read, or the folder not be
    /// written. The same call again does what is missing.
    pub async fn write(
        &self,
        tree: &Tree,
        options: FolderOptions<'_>,
        files: &[(&str, &str)],
    ) -> Result<Published, PublishError> {
        let beside = self.0.compare(options.public, files, options.force)?;
        let mut published = Published::default();
        let within =
            |(name, _): &(&str, &str)| Path::new(name).strip_prefix(options.public).ok()?.to_str().map(str::to_owned);
        let mut held: HashSet<String> = files.iter().filter_map(within).collect();
        let mut last = Vec::new();
        let mut indexes = Vec::new();
        let mut copied = HashMap::new();
        let mut shown = tree.shown_without(options.without);
        while let Some((file, size)) = shown.try_next().await? {
            let wanted = match &file {
                Shown::Manifest(_, reference, _) => options.manifests && !(options.leaves_out)(reference),
                Shown::Blob(..) => options.blobs,
                _ => true,
            };
            if !matches!(file, Shown::Manifest(..)) {
                self.put_indexes(&mut indexes, options, &mut published)?;
            }
            if !wanted {
                continue;
            }
            held.insert(place(&file, options.name_prefix));
            let path = Path::new(options.public).join(place(&file, options.name_prefix));
            match &file {
                Shown::Blob(repository, digest) => {
                    if self.0.has(&path, Some(size)) {
                        published.unchanged += 1;
                    } else if !self.has_linked(copied.get(digest), &path, size, &mut published) {
                        self.put_blob(tree, repository, digest, &path, &mut published).await?;
                        copied.insert(*digest, path);
                    }
                }
                Shown::Manifest(_, Reference::Digest(_), pointer) => {
                    if self.0.has(&path, Some(size)) {
                        published.unchanged += 1;
                        continue;
                    }
                    let Some(manifest) = tree.manifest(pointer).await? else { continue };
                    if manifest.kind() == Kind::Index {
                        indexes.push(Waiting(file, manifest));
                    } else {
                        self.put_bytes(&path, manifest.bytes(), &mut published)?;
                    }
                }
                Shown::Referrers(..) => self.put(tree, &file, options, &mut published).await?,
                // What names others comes after them, and lists after tags.
                _ => last.push(file),
            }
        }
        self.put_indexes(&mut indexes, options, &mut published)?;
        last.sort_by_key(|file| !matches!(file, Shown::Manifest(..)));
        for file in &last {
            self.put(tree, file, options, &mut published).await?;
        }
        published.removed += self.0.remove_others(options.public, &held)?;
        let Written { written, bytes, unchanged, removed, kept } = self.0.write_beside(beside)?;
        let beside = Published { written, bytes, unchanged: published.unchanged + unchanged, removed, kept };
        Ok(published.and(beside))
    }

    /// Writes indexes that wait, each after those that it names.
    fn put_indexes(
        &self,
        indexes: &mut Vec<Waiting>,
        options: FolderOptions<'_>,
        published: &mut Published,
    ) -> Result<(), PublishError> {
        while !indexes.is_empty() {
            let waiting: HashSet<Digest> = indexes.iter().map(|Waiting(_, manifest)| *manifest.digest()).collect();
            // No digest can be in what it is the digest of, so there is always one that names none of the others.
            let ready =
                |Waiting(_, index): &mut Waiting| !index.children().any(|child| waiting.contains(&child.digest));
            let mut ready: Vec<Waiting> = indexes.extract_if(.., ready).collect();
            if ready.is_empty() {
                ready.append(indexes);
            }
            for Waiting(file, manifest) in &ready {
                let path = Path::new(options.public).join(place(file, options.name_prefix));
                self.put_bytes(&path, manifest.bytes(), published)?;
            }
        }
        Ok(())
    }

    async fn put(
        &self,
        tree: &Tree,
        file: &Shown,
        options: FolderOptions<'_>,
        published: &mut Published,
    ) -> Result<(), PublishError> {
        let path = Path::new(options.public).join(place(file, options.name_prefix));
        match file {
            // Written before, since its bytes may be shared.
            Shown::Blob(..) => Ok(()),
            Shown::Manifest(_, _, pointer) => {
                let Some(manifest) = tree.manifest(pointer).await? else { return Ok(()) };
                self.put_bytes(&path, manifest.bytes(), published)
            }
            Shown::Ping => self.put_bytes(&path, b"{}", published),
            Shown::Referrers(..) | Shown::TagsList(_) | Shown::Catalog => {
                let key = file.key(tree);
                let object = match file {
                    Shown::Catalog => tree.catalog_without(options.without).await?,
                    _ => tree.store().get(&key, None).await.map_err(TreeError::from)?,
                };
                let Some(object) = object else { return Ok(()) };
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
        let linked = first.is_some_and(|first| self.0.link(first, path));
        if linked {
            published.written += 1;
            published.bytes += size;
        }
        linked
    }

    fn put_bytes(&self, path: &Path, bytes: &[u8], published: &mut Published) -> Result<(), PublishError> {
        if self.0.put(path, bytes)? {
            published.written += 1;
            published.bytes += bytes.len() as u64;
        } else {
            published.unchanged += 1;
        }
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
        let at = self.0.at(path);
        let size = object.entry.size;
        let mut temporary = self.0.begin(path)?;
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
        self.0.finish(temporary, path)?;
        published.written += 1;
        published.bytes += size;
        Ok(())
    }
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

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> Self {
        Self::Tree(error.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::image::{Copier, CopyOptions, Silent, Sink as _, Source as _};
    use crate::store::{MemoryStore, Naming};
    use crate::testing::{ImageBuilder, IndexBuilder, MemorySource};

    #[tokio::test]
    async fn no_index_is_there_before_what_it_names() {
        let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
        let (source, name): (_, Repository) = (MemorySource::new(), "app".parse().unwrap());
        let child = ImageBuilder::new().layer("child").build();
        // Names come in the order of digests, so some of these would come before the child.
        let indexes: Vec<_> = (0..16)
            .map(|n| {
                let other = ImageBuilder::new().layer(format!("{n}")).platform("linux/arm64").build();
                IndexBuilder::new().image(child.clone()).image(other).build()
            })
            .collect();
        let sink = tree.repository(&name).await.unwrap();
        let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
        for (n, index) in indexes.iter().enumerate() {
            let tag = format!("t{n}").parse().unwrap();
            source.add(&format!("app:t{n}"), index);
            copier.copy(&*source.repository(&name), &Reference::Tag(tag), &*sink, &[]).await.unwrap();
        }
        sink.finish().await.unwrap();
        assert!(indexes.iter().any(|index| index.digest() < child.digest()), "none would come first anyway");

        let folder = tempfile::tempdir().unwrap();
        let site = PlainFolder::create(folder.path()).unwrap();
        let manifests = folder.path().join("v2/app/manifests");
        // Something that no file can replace stands where the child belongs.
        let in_the_way = manifests.join(child.digest().to_string());
        std::fs::create_dir_all(in_the_way.join("x")).unwrap();
        let options = FolderOptions {
            public: "",
            name_prefix: None,
            blobs: true,
            manifests: true,
            leaves_out: &|_| false,
            without: &Private::default(),
            force: false,
        };
        site.write(&tree, options, &[]).await.unwrap_err();
        let there = |digest: &Digest| manifests.join(digest.to_string()).is_file();
        assert!(!indexes.iter().any(|index| there(&index.digest())), "an index without its child");
        std::fs::remove_dir_all(&in_the_way).unwrap();
        site.write(&tree, options, &[]).await.unwrap();
        assert!(there(&child.digest()) && indexes.iter().all(|index| there(&index.digest())));
    }
}

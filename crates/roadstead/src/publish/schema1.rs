//! A folder of plain files whose tags are signed manifests of schema 1, for hosts that send no headers.
//!
//! It has the paths of a registry and nothing else, so any host of files will do. Tags are written after what they need, lists after
//! tags, and what is no longer wanted goes last.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write as _;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;

use super::PublishError;
use super::site_folder::{SiteFolder, Written, unwritable};
use crate::image::{EMPTY_LAYER, RepositorySource, SigningKey, Source, SourceError, schema1};
use crate::oci::{
    Algorithm, Descriptor, Digest, Kind, MAX_CONFIG_SIZE, Manifest, MediaType, Platform, Reference, Repository, Tag,
};

/// What such a site would hold.
pub struct Schema1Site<'a> {
    source: &'a dyn Source,
    platform: &'a Platform,
    key: &'a SigningKey,
    tags: BTreeMap<Repository, BTreeSet<Tag>>,
    blobs: BTreeMap<(Repository, Digest), u64>,
    manifests: u64,
    left_out: Vec<LeftOut>,
}

/// A tag that has no form in schema 1, and so isn't there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The repository.
    pub repository: Repository,
    /// The tag.
    pub tag: Tag,
    /// Why.
    pub reason: String,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Schema1Published {
    /// Tags that are there.
    pub tags: u64,
    /// Files that were written.
    pub written: u64,
    /// Files that were as they should be.
    pub unchanged: u64,
    /// Files that were removed, since nothing needs them any more.
    pub removed: u64,
}

/// An image of today with its config, or a manifest of schema 1 that can stay as it is.
enum Found {
    Image(Manifest, Bytes),
    Schema1(Manifest),
}

impl<'a> Schema1Site<'a> {
    /// Looks at every tag of a source that names its repositories: of indexes the image for `platform` is taken. Nothing is
    /// written, and of blobs only the configs are read.
    ///
    /// # Errors
    ///
    /// If the source can't be read.
    pub async fn plan(
        source: &'a dyn Source,
        platform: &'a Platform,
        key: &'a SigningKey,
    ) -> Result<Self, PublishError> {
        let (tags, blobs) = (BTreeMap::new(), BTreeMap::new());
        let mut site = Self { source, platform, key, tags, blobs, manifests: 0, left_out: Vec::new() };
        let repositories: Vec<Repository> = source.repositories().await?.try_collect().await?;
        for repository in repositories {
            let from = source.repository(&repository);
            let tags: Vec<Tag> = from.tags().try_collect().await?;
            for tag in tags {
                match site.made(&*from, &repository, &tag).await? {
                    Ok((made, sizes)) => {
                        site.manifests += 2 * made.bytes().len() as u64;
                        site.tags.entry(repository.clone()).or_default().insert(tag);
                        let sized = sizes.into_iter().map(|(digest, size)| ((repository.clone(), digest), size));
                        site.blobs.extend(sized);
                    }
                    Err(reason) => site.left_out.push(LeftOut { repository: repository.clone(), tag, reason }),
                }
            }
        }
        Ok(site)
    }

    /// The tags that have no place in it.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// How many bytes it takes in all, lists aside.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.blobs.values().sum::<u64>() + self.manifests
    }

    /// The largest file, where it lies, and its size.
    #[must_use]
    pub fn largest(&self) -> Option<(String, u64)> {
        let ((repository, digest), size) = self.blobs.iter().max_by_key(|(_, size)| **size)?;
        Some((format!("v2/{repository}/blobs/{digest}"), *size))
    }

    /// Makes a folder hold it, and these files (name and text) of the host's. What is named by a digest and has the right size is
    /// not written again. Other files beside `v2` are left alone; with `force` those of the host's are replaced that somebody changed.
    ///
    /// # Errors
    ///
    /// [`PublishError::Foreign`] if there are things in the folder that somebody else put there; if the source can't be read, or
    /// the folder not be written. The same call again does what is missing.
    pub async fn write(
        &self,
        to: &Path,
        files: &[(&str, &str)],
        force: bool,
    ) -> Result<Schema1Published, PublishError> {
        let (site, wanted, done) = (SiteFolder::open(to)?, HashSet::new(), Schema1Published::default());
        let beside = site.compare("", files, force)?;
        let mut folder = Folder { site, wanted, done };
        for ((repository, digest), size) in &self.blobs {
            self.put_blob(&mut folder, repository, digest, *size).await?;
        }
        for (repository, tags) in &self.tags {
            let from = self.source.repository(repository);
            let mut listed = Vec::with_capacity(tags.len());
            for tag in tags {
                // It may have moved meanwhile, and need other blobs, or have no form any more.
                let Ok((made, blobs)) = self.made(&*from, repository, tag).await? else { continue };
                for (digest, size) in blobs {
                    self.put_blob(&mut folder, repository, &digest, size).await?;
                }
                let name = |reference: Reference| format!("v2/{repository}/manifests/{reference}");
                folder.put(&name((*made.digest()).into()), made.bytes())?;
                folder.put(&name(tag.clone().into()), made.bytes())?;
                folder.done.tags += 1;
                listed.push(tag);
            }
            let list = serde_json::json!({ "name": repository, "tags": listed });
            folder.put(&format!("v2/{repository}/tags/list"), list.to_string().as_bytes())?;
        }
        let catalog = serde_json::json!({ "repositories": self.tags.keys().collect::<Vec<_>>() });
        folder.put("v2/_catalog", catalog.to_string().as_bytes())?;
        folder.put("v2/index.html", b"{}")?;
        let Folder { site, wanted, mut done } = folder;
        done.removed += site.remove_others("", &wanted)?;
        let Written { written, unchanged, removed, .. } = site.write_beside(beside)?;
        done.written += written;
        done.unchanged += unchanged;
        done.removed += removed;
        Ok(done)
    }

    /// What a tag becomes, and the blobs that it needs, with their sizes; or why it becomes nothing.
    async fn made(
        &self,
        from: &dyn RepositorySource,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Result<(Manifest, Vec<(Digest, u64)>), String>, PublishError> {
        let (image, config) = match self.find(from, tag).await? {
            Ok(Found::Image(image, config)) => (image, config),
            // It names no sizes: they show when the blobs are there.
            Ok(Found::Schema1(made)) => {
                let blobs = made.layers().iter().map(|layer| (layer.digest, 0)).collect();
                return Ok(Ok((made, blobs)));
            }
            Err(reason) => return Ok(Err(reason)),
        };
        let made = match schema1(repository, tag, &image, &config, self.key) {
            Ok(made) => made,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let size = |digest: &Digest| {
            let layer = image.layers().iter().find(|layer| layer.digest == *digest);
            layer.and_then(|layer| layer.size).unwrap_or(EMPTY_LAYER.len() as u64)
        };
        let blobs = made.layers().iter().map(|layer| (layer.digest, size(&layer.digest))).collect();
        Ok(Ok((made, blobs)))
    }

    async fn find(&self, from: &dyn RepositorySource, tag: &Tag) -> Result<Result<Found, String>, PublishError> {
        let mut manifest = from.manifest(&from.resolve(&tag.clone().into()).await?).await?;
        if manifest.kind() == Kind::Index {
            let fits = |child: &&Descriptor| {
                child.attests().is_none() && child.platform.as_ref().is_some_and(|own| own.satisfies(self.platform))
            };
            let Some(child) = manifest.children().find(fits) else {
                return Ok(Err(format!("it has no image for {}", self.platform)));
            };
            manifest = match from.manifest(child).await {
                Err(SourceError::NotFound { .. }) => {
                    return Ok(Err(format!("its image for {} is not in the tree", self.platform)));
                }
                other => other?,
            };
        }
        if *manifest.media_type() == MediaType::DOCKER_SCHEMA1 {
            return Ok(Ok(Found::Schema1(manifest)));
        }
        let Some(config) = manifest.config().filter(|config| config.size.is_some_and(|size| size <= MAX_CONFIG_SIZE))
        else {
            return Ok(Err("it is not an image that runs".to_owned()));
        };
        let mut bytes = BytesMut::new();
        let mut stream = from.blob(config, 0).await?;
        while let Some(piece) = stream.try_next().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > MAX_CONFIG_SIZE {
                break;
            }
        }
        if config.digest.algorithm().digest(&bytes) != config.digest {
            return Err(PublishError::Damaged { digest: config.digest });
        }
        Ok(Ok(Found::Image(manifest, bytes.freeze())))
    }

    async fn put_blob(
        &self,
        folder: &mut Folder,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<(), PublishError> {
        let name = format!("v2/{repository}/blobs/{digest}");
        if folder.keep(&name, Some(size).filter(|size| *size > 0)) {
            return Ok(());
        }
        if *digest == Algorithm::Sha256.digest(&EMPTY_LAYER) {
            return folder.put(&name, &EMPTY_LAYER);
        }
        let expected = Descriptor { size: None, ..Descriptor::new("", *digest, 0) };
        let mut bytes = self.source.repository(repository).blob(&expected, 0).await?;
        let mut file = folder.site.begin(&name)?;
        let mut hasher = digest.algorithm().hasher();
        while let Some(piece) = bytes.try_next().await? {
            hasher.update(&piece);
            file.write_all(&piece).map_err(unwritable(&folder.site.at(&name)))?;
        }
        if hasher.finish() != *digest {
            return Err(PublishError::Damaged { digest: *digest });
        }
        folder.site.finish(file, &name)?;
        folder.wanted.insert(name);
        folder.done.written += 1;
        Ok(())
    }
}

/// The folder, and what of it is wanted.
struct Folder {
    site: SiteFolder,
    wanted: HashSet<String>,
    done: Schema1Published,
}

impl Folder {
    /// Whether a file is there that its name vouches for, of this size if it is known.
    fn keep(&mut self, name: &str, size: Option<u64>) -> bool {
        let kept = self.site.has(name, size);
        if kept && self.wanted.insert(name.to_owned()) {
            self.done.unchanged += 1;
        }
        kept
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), PublishError> {
        let written = self.site.put(name, bytes)?;
        let is_new = self.wanted.insert(name.to_owned());
        if written {
            self.done.written += 1;
        } else if is_new {
            self.done.unchanged += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::{Format, Image, ImageBuilder, MemorySource};

    fn key() -> SigningKey {
        SigningKey::from_secret(&[0x52; 32]).unwrap()
    }

    fn source(images: &[(&str, &Image)]) -> MemorySource {
        let source = MemorySource::new();
        images.iter().for_each(|(name, image)| source.add(name, image));
        source
    }

    #[tokio::test]
    async fn what_has_no_form_in_schema_1_is_left_out_with_the_reason() {
        let old = ImageBuilder::new().layer("old").format(Format::Schema1Signed).name("old").build();
        let unsigned = ImageBuilder::new().layer("old").format(Format::Schema1Unsigned).build();
        let artifact = ImageBuilder::new().artifact_type("application/x.y").blob("text/plain", "x").build();
        // cosign gives its signatures the config of an image.
        let signature = ImageBuilder::new().blob("application/vnd.dev.cosign.simplesigning.v1+json", "{}").build();
        let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar";
        let foreign = ImageBuilder::new().layer("own").blob(foreign, "elsewhere").build();
        let source = source(&[
            ("a:old", &old),
            ("a:unsigned", &unsigned),
            ("a:artifact", &artifact),
            ("a:signature", &signature),
            ("a:foreign", &foreign),
        ]);
        let (platform, key) = ("linux/amd64".parse().unwrap(), key());
        let site = Schema1Site::plan(&source, &platform, &key).await.unwrap();
        let left_out: Vec<_> = site.left_out().iter().map(|left_out| left_out.tag.as_str()).collect();
        assert_eq!(left_out, ["artifact", "foreign", "signature", "unsigned"]);
        let folder = tempfile::tempdir().unwrap();
        let done = site.write(&folder.path().join("site"), &[], false).await.unwrap();
        assert_eq!(done.tags, 1);
        // What is of schema 1 already stays as it is.
        let written = fs::read(folder.path().join("site/v2/a/manifests/old")).unwrap();
        assert_eq!(written, old.manifest.bytes()[..]);
        for layer in old.manifest.layers() {
            let bytes = fs::read(folder.path().join(format!("site/v2/a/blobs/{}", layer.digest))).unwrap();
            assert_eq!(bytes, old.blobs[&layer.digest][..]);
        }
    }

    #[tokio::test]
    async fn what_a_killed_writer_left_goes() {
        let image = ImageBuilder::new().layer("one").build();
        let source = source(&[("a:1", &image)]);
        let (platform, key) = ("linux/amd64".parse().unwrap(), key());
        let site = Schema1Site::plan(&source, &platform, &key).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let first = site.write(folder.path(), &[("404.html", "none")], false).await.unwrap();
        let left = folder.path().join(".roadstead-sitex7Zb");
        let stray = folder.path().join("v2/a/blobs/stray");
        fs::write(&left, "half").unwrap();
        fs::write(&stray, "stray").unwrap();
        fs::write(folder.path().join("mine.html"), "mine").unwrap();
        let again = site.write(folder.path(), &[("404.html", "none")], false).await.unwrap();
        assert_eq!((again.written, again.unchanged, again.removed), (0, first.written, 1));
        assert!(!left.exists() && !stray.exists() && folder.path().join("mine.html").exists());
    }

    #[tokio::test]
    async fn a_damaged_blob_is_not_published() {
        let mut image = ImageBuilder::new().layer("one").build();
        let layer = image.manifest.layers()[0].digest;
        image.blobs.insert(layer, Bytes::from_static(b"other bytes"));
        let source = source(&[("a:1", &image)]);
        let (platform, key) = ("linux/amd64".parse().unwrap(), key());
        let site = Schema1Site::plan(&source, &platform, &key).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let failed = site.write(folder.path(), &[], false).await;
        assert!(matches!(failed, Err(PublishError::Damaged { digest }) if digest == layer), "{failed:?}");
        assert!(!folder.path().join(format!("v2/a/blobs/{layer}")).exists());
        assert!(!folder.path().join("v2/a/manifests/1").exists());
    }
}

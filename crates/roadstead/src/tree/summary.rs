//! What a list says about an image.

use std::collections::{BTreeMap, BTreeSet};

use super::{Pointer, Tree, TreeError, keys};
use crate::image::MAX_DEPTH;
use crate::oci::{Digest, Kind, Manifest, MediaType, Platform, Reference, Repository};

/// What a name leads to, in short.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: MediaType,
    /// What the tree holds it for, sorted; empty if nothing says.
    pub platforms: Vec<Platform>,
    /// The bytes of its manifests and blobs, each counted once.
    pub size: u64,
    /// How many manifests an index names that the tree doesn't hold.
    pub absent: usize,
}

#[derive(Default)]
struct Sum {
    platforms: BTreeSet<Platform>,
    seen: BTreeSet<Digest>,
    size: u64,
    absent: usize,
}

impl Sum {
    /// Sizes are what manifests claim, and a few of the largest are more than a number holds.
    const fn add(&mut self, size: u64) {
        self.size = self.size.saturating_add(size);
    }
}

impl Tree {
    /// What a pointer leads to, in short. Reads its manifests, and for an image that stands alone its config.
    ///
    /// # Errors
    ///
    /// [`TreeError::Damaged`] if a manifest is; [`TreeError::Unknown`] if its bytes are gone.
    pub async fn summary(&self, repository: &Repository, pointer: &Pointer) -> Result<Summary, TreeError> {
        let Some(manifest) = self.manifest(pointer).await? else {
            return Err(TreeError::Unknown(pointer.at.to_string()));
        };
        let mut sum = Sum::default();
        if manifest.kind() != Kind::Index
            && let Some(platform) = self.config_platform(repository, &manifest).await?
        {
            sum.platforms.insert(platform);
        }
        self.add_up(repository, &manifest, &mut sum, 0).await?;
        Ok(Summary {
            digest: pointer.digest,
            media_type: pointer.media_type.clone(),
            platforms: sum.platforms.into_iter().collect(),
            size: sum.size,
            absent: sum.absent,
        })
    }

    /// What many pointers lead to, in short, by digest: on all threads of the runtime.
    ///
    /// # Errors
    ///
    /// As [`summary`](Self::summary).
    pub async fn summaries(
        &self,
        repository: &Repository,
        pointers: Vec<Pointer>,
    ) -> Result<BTreeMap<Digest, Summary>, TreeError> {
        let (tree, repository) = (self.clone(), repository.clone());
        let summaries = self.spread(pointers, move |pointer: Pointer| {
            let (tree, repository) = (tree.clone(), repository.clone());
            async move { Ok((pointer.digest, tree.summary(&repository, &pointer).await?)) }
        });
        Ok(summaries.await?.into_iter().collect())
    }

    async fn add_up(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        sum: &mut Sum,
        depth: usize,
    ) -> Result<(), TreeError> {
        if !sum.seen.insert(*manifest.digest()) || depth > MAX_DEPTH {
            return Ok(());
        }
        sum.add(manifest.bytes().len() as u64);
        for blob in manifest.blobs().filter(|blob| !blob.is_nondistributable()) {
            if sum.seen.insert(blob.digest) {
                // Schema 1 names no sizes.
                let size = match blob.size {
                    Some(size) => size,
                    None => {
                        let entry = self.0.store.head(&keys::blob(repository, &blob.digest)).await?;
                        entry.map_or(0, |entry| entry.size)
                    }
                };
                sum.add(size);
            }
        }
        for child in manifest.children() {
            match self.find(repository, &Reference::Digest(child.digest)).await? {
                Some(found) => {
                    sum.platforms.extend(child.platform.clone().filter(|platform| !platform.is_unknown()));
                    Box::pin(self.add_up(repository, &found, sum, depth + 1)).await?;
                }
                None => sum.absent += 1,
            }
        }
        Ok(())
    }

    async fn config_platform(
        &self,
        repository: &Repository,
        manifest: &Manifest,
    ) -> Result<Option<Platform>, TreeError> {
        let Some(config) = manifest.config() else { return Ok(None) };
        let bytes = self.small_blob(repository, config).await?;
        Ok(bytes.and_then(|bytes| Platform::of_config(&bytes)))
    }
}

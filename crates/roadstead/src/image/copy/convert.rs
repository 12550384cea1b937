//! Images whose layers are compressed on the way, or whose manifests become another specification's.
//!
//! What a layer's compressed bytes are called is known when the last of them is written, so the manifest comes after them and
//! names what has become of each. What came uncompressed is hashed before it is compressed: those bytes are never seen again,
//! and are what the config's diff IDs promise.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{Compress, Copy, CopyError};
use crate::image::checked::Checked;
use crate::image::compress::Compressor;
use crate::image::convert::{Compressed, Rewriting};
use crate::image::events::{BlobOutcome, Event};
use crate::image::sink::{Claim, PutError};
use crate::image::source::{ByteStream, SourceError};
use crate::oci::{Descriptor, Digest, Kind, Manifest};

/// How many images below an index that a tag names are looked at, so that their layers need not be compressed again.
const MAX_CANDIDATES: usize = 64;

/// A blob to move, and its diff ID if it is a layer to be compressed.
type Moving = (Descriptor, Option<Digest>);

/// What of a config says how its layers are made.
#[derive(serde::Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(serde::Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

impl Copy<'_> {
    /// Copies the blobs of an image, and returns the manifest that it is to have.
    pub(super) async fn image(&self, manifest: Manifest) -> Result<Manifest, CopyError> {
        let compressor = self.compressor(manifest.digest());
        let method = compressor.map(|compressor| compressor.compression().method());
        let rewriting = Rewriting::plan(&manifest, self.format, method).map_err(|e| self.convert_failed(e))?;
        let Some(rewriting) = rewriting else {
            self.blobs(blobs(&manifest), None).await?;
            return Ok(manifest);
        };
        let mut moving = blobs(&manifest);
        if rewriting.plain_layers().next().is_some() {
            if let Some(there) = self.find_again(&rewriting).await? {
                self.blobs(blobs(&there), None).await?;
                return Ok(there);
            }
            let diff_ids = self.diff_ids(&manifest).await?;
            for (position, layer) in rewriting.plain_layers() {
                let diff_id = diff_ids.get(position).copied();
                moving.iter_mut().filter(|(blob, _)| blob.digest == layer.digest).for_each(|(_, id)| *id = diff_id);
            }
        }
        let compressed = self.blobs(moving, compressor).await?;
        rewriting.write(&compressed).map_err(|e| self.convert_failed(e))
    }

    /// What compresses the layers of that image, if they are to be compressed.
    fn compressor(&self, manifest: &Digest) -> Option<&Compressor> {
        let wanted = match self.compress {
            Compress::Never => false,
            Compress::Made(_) => self.from.is_made_here(manifest),
            Compress::All(_) => true,
        };
        self.copier.compressor.as_ref().filter(|_| wanted)
    }

    /// The image as it is to be, if a tag that it gets leads to it already: nothing has to be compressed again.
    async fn find_again(&self, rewriting: &Rewriting<'_>) -> Result<Option<Manifest>, CopyError> {
        for candidate in self.candidates.get_or_try_init(|| self.find_candidates()).await? {
            let mut compressed = Compressed::new();
            for (position, layer) in rewriting.plain_layers() {
                let Some(now) = candidate.layers().get(position) else { break };
                compressed.insert(layer.digest, (now.digest, now.size.unwrap_or_default()));
            }
            let written = rewriting.write(&compressed);
            if written.is_ok_and(|written| written.digest() == candidate.digest()) && self.holds(candidate).await? {
                return Ok(Some(candidate.clone()));
            }
        }
        Ok(None)
    }

    /// The images that the tags lead to.
    async fn find_candidates(&self) -> Result<Vec<Manifest>, CopyError> {
        let mut found = Vec::new();
        for tag in self.tags {
            let named = self.to.look_up(tag).await.map_err(|e| self.sink_failed(&format!("tag {tag}"), e))?;
            let Some(named) = named else { continue };
            let mut next = vec![named.digest];
            while let Some(digest) = next.pop().filter(|_| found.len() < MAX_CANDIDATES) {
                let held = self.to.manifest(&digest).await;
                let Some(manifest) = held.map_err(|e| self.sink_failed(&format!("manifest {digest}"), e))? else {
                    continue;
                };
                match manifest.kind() {
                    Kind::Image => found.push(manifest),
                    Kind::Index if digest == named.digest => next.extend(manifest.children().map(|child| child.digest)),
                    Kind::Index | Kind::Schema1 => {}
                }
            }
        }
        Ok(found)
    }

    /// Whether the sink has every layer of an image.
    async fn holds(&self, image: &Manifest) -> Result<bool, CopyError> {
        for layer in image.layers().iter().filter(|layer| !layer.is_nondistributable()) {
            let claim = self.to.claim(layer).await;
            if claim.map_err(|e| self.sink_failed(&format!("blob {}", layer.digest), e))? == Claim::Missing {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The digests that an image's config gives for its layers before they were compressed. One that isn't compressed must be
    /// named by it.
    async fn diff_ids(&self, manifest: &Manifest) -> Result<Vec<Digest>, CopyError> {
        let mismatch = |problem| CopyError::Mismatch { image: self.image.clone(), problem };
        let digest = manifest.config().map(|config| config.digest.to_string()).unwrap_or_default();
        let Some(config) = self.config(manifest).await? else {
            return Err(mismatch(format!("config {digest} is too large to be one")));
        };
        let config: Config = serde_json::from_slice(&config)
            .map_err(|e| mismatch(format!("config {digest} doesn't say what its layers are made of: {e}")))?;
        let (diff_ids, layers) = (config.rootfs.diff_ids, manifest.layers());
        if diff_ids.len() != layers.len() {
            let (ids, layers) = (diff_ids.len(), layers.len());
            return Err(mismatch(format!("config {digest} has {ids} diff IDs, and the manifest {layers} layers")));
        }
        Ok(diff_ids)
    }

    /// Copies blobs: all at once as far as the jobs allow, the largest first, so that none is left to run alone. Returns what
    /// has become of those that were compressed.
    async fn blobs(&self, mut blobs: Vec<Moving>, compressor: Option<&Compressor>) -> Result<Compressed, CopyError> {
        blobs.sort_by_key(|(blob, _)| (Reverse(blob.size), blob.digest));
        blobs.dedup_by_key(|(blob, _)| blob.digest);
        let jobs = self.copier.options.jobs.max(1);
        let compressed = Mutex::new(Compressed::new());
        let moves = stream::iter(blobs.into_iter().map(Ok));
        moves
            .try_for_each_concurrent(jobs, |(blob, diff_id)| {
                let compressed = &compressed;
                async move {
                    let (Some(compressor), Some(diff_id)) = (compressor, diff_id) else {
                        return self.blob(blob).await;
                    };
                    let now = self.compress(&blob, &diff_id, compressor).await?;
                    let mut compressed = compressed.lock().unwrap_or_else(PoisonError::into_inner);
                    compressed.insert(blob.digest, (now.digest, now.size.unwrap_or_default()));
                    Ok(())
                }
            })
            .await?;
        Ok(compressed.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Copies a layer compressed. Returns what names it now.
    async fn compress(
        &self,
        layer: &Descriptor,
        diff_id: &Digest,
        compressor: &Compressor,
    ) -> Result<Descriptor, CopyError> {
        let mismatch = |problem| CopyError::Mismatch { image: self.image.clone(), problem };
        if layer.digest.algorithm() == diff_id.algorithm() && layer.digest != *diff_id {
            return Err(mismatch(format!("layer {} isn't compressed, and its diff ID is {diff_id}", layer.digest)));
        }
        let done = |outcome| self.event(Event::BlobDone { blob: layer, outcome });
        let key = (layer.digest, *diff_id);
        let moving = self.copier.moving(&layer.digest);
        let _alone = moving.lock().await;
        let known = self.copier.compressed.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            let claim = self.to.claim(&known).await;
            match claim.map_err(|e| self.sink_failed(&format!("blob {}", known.digest), e))? {
                Claim::Present => done(BlobOutcome::Present),
                Claim::Linked => done(BlobOutcome::Linked),
                Claim::Missing => return self.move_compressed(layer, diff_id, compressor).await,
            }
            return Ok(known);
        }
        let compressed = self.move_compressed(layer, diff_id, compressor).await?;
        let mut all = self.copier.compressed.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key, compressed.clone());
        Ok(compressed)
    }

    async fn move_compressed(
        &self,
        layer: &Descriptor,
        diff_id: &Digest,
        compressor: &Compressor,
    ) -> Result<Descriptor, CopyError> {
        let _job = self.copier.transfers.acquire().await;
        self.event(Event::BlobStarted { blob: layer });
        let what = format!("blob {}", layer.digest);
        let moved = async {
            let bytes = self.from.blob(layer, 0).await.map_err(|e| self.source_failed(&what, e))?;
            let verdict = Arc::new(OnceLock::new());
            let mut bytes = judged(layer, self.counted(layer, bytes), &verdict);
            if layer.digest != *diff_id {
                let unnamed = Descriptor { size: layer.size, ..Descriptor::new("", *diff_id, 0) };
                bytes = judged(&unnamed, bytes, &verdict);
            }
            let added = self.to.add_blob(layer.digest.algorithm(), compressor.compress(bytes)).await;
            let (digest, size) = added.map_err(|error| {
                let mismatch = |problem| CopyError::Mismatch { image: self.image.clone(), problem };
                match (verdict.get(), error) {
                    (Some(problem), _) => mismatch(problem.clone()),
                    (None, PutError::Mismatch { problem }) => mismatch(problem),
                    (None, PutError::Source(e)) => self.source_failed(&what, e),
                    (None, PutError::Sink(e) | PutError::Interrupted(e)) => self.sink_failed(&what, e),
                }
            })?;
            Ok(Descriptor::new("", digest, size))
        };
        let moved = moved.await;
        match &moved {
            Ok(_) => self.event(Event::BlobDone { blob: layer, outcome: BlobOutcome::Compressed }),
            Err(_) => self.event(Event::BlobFailed { blob: &layer.digest }),
        }
        moved
    }
}

fn blobs(manifest: &Manifest) -> Vec<Moving> {
    manifest.blobs().map(|blob| (blob.clone(), None)).collect()
}

/// `bytes`, which end with an error if they are not what was expected; `verdict` says then what is wrong with them.
fn judged(expected: &Descriptor, bytes: ByteStream, verdict: &Arc<OnceLock<String>>) -> ByteStream {
    let (what, verdict) = (format!("blob {}", expected.digest), verdict.clone());
    let checked = Checked::expecting(expected, bytes);
    stream::try_unfold(checked, move |mut checked| {
        let (what, verdict) = (what.clone(), verdict.clone());
        async move {
            match checked.next().await {
                Ok(piece) => Ok(piece.map(|piece| (piece, checked))),
                Err(PutError::Source(error)) => Err(error),
                Err(other) => {
                    let problem = other.to_string();
                    let _ = verdict.set(problem.clone());
                    Err(SourceError::Invalid { what, problem })
                }
            }
        }
    })
    .boxed()
}

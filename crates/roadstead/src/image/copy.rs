//! The one copy: from any source to any sink.
//!
//! Depth first, children before parents, tags last. What the sink already holds is asked of the sink, so copying again what
//! is complete costs one question about the tag and no other byte. How many blobs move at once is bounded for all images
//! together; memory is bounded by that number, never by the size of a layer.

mod convert;
mod error;
mod join;
mod referrers;
mod sparse;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::{OnceCell, Semaphore};

use super::compress::{Compression, Compressor};
use super::convert::{self as converted, ConvertError, ManifestFormat};
use super::events::{BlobOutcome, Event, Events};
use super::pace::{Bandwidth, Pace};
use super::sink::{Claim, PutError, RepositorySink, SinkError};
use super::source::{ByteStream, RepositorySource, SourceError};
use crate::oci::{Descriptor, Digest, Kind, MAX_CONFIG_SIZE, Manifest, Platform, Reference, Tag};
pub use error::{CopyError, Side};
pub use join::Joined;
pub use referrers::MAX_REFERRERS;

/// How deep indexes may lie within indexes. Two levels occur; no end of them would be an attack.
pub const MAX_DEPTH: usize = 8;

/// How many manifests of one index are worked on at once. Their blobs wait for the [jobs](CopyOptions::jobs) anyway.
const CHILDREN_AT_ONCE: usize = 8;

/// Which platforms of an index are copied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Platforms {
    /// All.
    #[default]
    All,
    /// Only these. The index stays as it is, and the sink records what was left out.
    Keep(Vec<Platform>),
    /// Only these, under a new index that names no others and so has another digest.
    Strip(Vec<Platform>),
}

impl Platforms {
    fn wanted(&self) -> Option<&[Platform]> {
        match self {
            Self::All => None,
            Self::Keep(wanted) | Self::Strip(wanted) => Some(wanted),
        }
    }
}

/// Which layers are compressed on the way. Those that arrive compressed stay as they are, byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compress {
    /// None.
    #[default]
    Never,
    /// Those of images without a digest to keep, since the source [made](RepositorySource::is_made_here) their manifests.
    Made(Compression),
    /// All that aren't. Their manifests are written anew, and have other digests.
    All(Compression),
}

/// How to copy.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// How many blobs move at once, at least one.
    pub jobs: usize,
    /// Which platforms.
    pub platforms: Platforms,
    /// Whether what refers to an image comes with it: signatures, attestations, SBOMs, and what refers to those.
    ///
    /// Whether a source has more of them than the sink can only be asked: at every copy, for each manifest of the image, the
    /// list of its referrers, and for the tags that cosign derives from its digest.
    pub referrers: bool,
    /// Which layers are compressed. Docker's manifests have no name for Zstandard, so that makes them OCI's.
    pub compress: Compress,
    /// The specification that manifests are written by; what changes has another digest. What refers to a manifest under its
    /// old digest stays behind; referrers themselves are never changed.
    pub format: ManifestFormat,
    /// How fast blobs are copied at most. What a service copies by itself, and manifests, don't count.
    pub bandwidth: Option<Bandwidth>,
}

impl Default for CopyOptions {
    /// Four blobs at once: fewer leave a processor idle even on a fast network, more gain nothing and cost memory.
    fn default() -> Self {
        Self {
            jobs: 4,
            platforms: Platforms::All,
            referrers: false,
            compress: Compress::Never,
            format: ManifestFormat::Keep,
            bandwidth: None,
        }
    }
}

/// What was copied.
#[derive(Debug, Clone)]
pub struct Copied {
    /// What the reference named at the source; if that had no manifest for it, what the tags name now.
    pub resolved: Descriptor,
    /// What the tags name now: another digest if a manifest was written anew.
    pub descriptor: Descriptor,
    /// Whether a tag names something else than before.
    pub changed: bool,
}

/// Copies images. One copier serves many copies at once, which then share its jobs and copy no blob twice.
pub struct Copier {
    options: CopyOptions,
    events: Arc<dyn Events>,
    transfers: Semaphore,
    moving: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    compressor: Option<Compressor>,
    pace: Option<Arc<Pace>>,
    /// What layers have become: digest and diff ID before, what names the bytes now.
    compressed: Mutex<HashMap<(Digest, Digest), Descriptor>>,
}

impl Copier {
    /// A copier that tells `events` what happens.
    #[must_use]
    pub fn new(options: CopyOptions, events: Arc<dyn Events>) -> Self {
        let transfers = Semaphore::new(options.jobs.max(1));
        let compressor = match options.compress {
            Compress::Never => None,
            Compress::Made(compression) | Compress::All(compression) => {
                let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
                Some(Compressor::new(compression, threads, options.jobs.max(1)))
            }
        };
        let pace = options.bandwidth.map(|bandwidth| Arc::new(Pace::new(bandwidth)));
        let (moving, compressed) = Default::default();
        Self { options, events, transfers, moving, compressor, pace, compressed }
    }

    /// Copies what `reference` names, and lets `tags` name it there. The sink's lists are brought up to date by its
    /// [`finish`](RepositorySink::finish), once for all images of a repository.
    ///
    /// # Errors
    ///
    /// [`CopyError`]. Nothing names what is not whole; what was whole when it failed stays, and is used by the next attempt.
    pub async fn copy(
        &self,
        from: &dyn RepositorySource,
        reference: &Reference,
        to: &dyn RepositorySink,
        tags: &[Tag],
    ) -> Result<Copied, CopyError> {
        to.admit(tags).await.map_err(|e| CopyError::Sink {
            image: from.describe(reference),
            what: "a tag".to_owned(),
            source: e,
        })?;
        let copy = self.begin(from, reference, to, tags);
        let resolved = copy.resolve(reference).await?;
        let Some(descriptor) = copy.manifest(resolved.clone(), 0).await? else {
            return Err(copy.no_platform());
        };
        let signatures = if self.options.referrers { copy.referrers().await? } else { Vec::new() };
        let mut changed = false;
        copy.to.commit().await.map_err(|e| copy.sink_failed("the content", e))?;
        // The image's own tags come last: whoever sees one finds the signatures.
        let signatures = signatures.iter().map(|(tag, descriptor)| (tag, descriptor));
        for (tag, descriptor) in signatures.chain(tags.iter().map(|tag| (tag, &descriptor))) {
            let tagged = copy.to.tag(tag, descriptor).await;
            changed |= tagged.map_err(|e| copy.sink_failed(&format!("tag {tag}"), e))?;
        }
        self.events.event(Event::ImageDone { image: &copy.image, descriptor: &descriptor });
        let resolved = if from.is_made_here(&resolved.digest) { descriptor.clone() } else { resolved };
        Ok(Copied { resolved, descriptor, changed })
    }

    fn begin<'a>(
        &'a self,
        from: &'a dyn RepositorySource,
        reference: &Reference,
        to: &'a dyn RepositorySink,
        tags: &'a [Tag],
    ) -> Copy<'a> {
        Copy {
            copier: self,
            image: from.describe(reference),
            from,
            to,
            tags,
            platforms: &self.options.platforms,
            compress: self.options.compress,
            format: self.options.format,
            seen: Mutex::default(),
            available: Mutex::default(),
            candidates: OnceCell::new(),
        }
    }

    /// What keeps others from moving the same blob at the same time.
    fn moving(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        moving.retain(|_, lock| Arc::strong_count(lock) > 1);
        moving.entry(*digest).or_default().clone()
    }
}

/// The copy of one image.
struct Copy<'a> {
    copier: &'a Copier,
    image: String,
    from: &'a dyn RepositorySource,
    to: &'a dyn RepositorySink,
    /// What it is to be called.
    tags: &'a [Tag],
    platforms: &'a Platforms,
    compress: Compress,
    format: ManifestFormat,
    /// What became of each manifest. Indexes may name the same ones on every level: without this, a few kilobytes could ask
    /// for more work than there is time.
    seen: Mutex<HashMap<Digest, Outcome>>,
    /// The platforms that its indexes name, or its config.
    available: Mutex<BTreeSet<Platform>>,
    /// Images that the tags name in the sink so far.
    candidates: OnceCell<Vec<Manifest>>,
}

/// What names a manifest after it was copied; `None` if it has nothing for the platforms that were asked for.
type Outcome = Arc<OnceCell<Option<Descriptor>>>;

impl Copy<'_> {
    fn source_failed(&self, what: &str, source: SourceError) -> CopyError {
        CopyError::Source { image: self.image.clone(), what: what.to_owned(), source }
    }

    fn sink_failed(&self, what: &str, source: SinkError) -> CopyError {
        CopyError::Sink { image: self.image.clone(), what: what.to_owned(), source }
    }

    fn convert_failed(&self, source: ConvertError) -> CopyError {
        CopyError::Convert { image: self.image.clone(), source: Box::new(source) }
    }

    fn event(&self, event: Event<'_>) {
        self.copier.events.event(event);
    }

    /// What a reference names at the source.
    async fn resolve(&self, reference: &Reference) -> Result<Descriptor, CopyError> {
        let resolved = self.from.resolve(reference).await.map_err(|e| self.source_failed("the manifest", e))?;
        if let Reference::Digest(wanted) = reference
            && *wanted != resolved.digest
        {
            let problem = format!("manifest {wanted} was asked for, and {} came", resolved.digest);
            return Err(CopyError::Mismatch { image: self.image.clone(), problem });
        }
        // What was made here has a digest that nobody knows.
        if !self.from.is_made_here(&resolved.digest) {
            self.event(Event::Resolved { image: &self.image, descriptor: &resolved });
        }
        Ok(resolved)
    }

    /// The manifest from the sink, if it has it, else from the source.
    async fn read(&self, descriptor: &Descriptor) -> Result<Manifest, CopyError> {
        let what = || format!("manifest {}", descriptor.digest);
        let held = self.to.manifest(&descriptor.digest).await.map_err(|e| self.sink_failed(&what(), e))?;
        if let Some(manifest) = held {
            return Ok(manifest);
        }
        // A manifest is a request as a blob is: a source sees no more at once than the jobs.
        let _job = self.copier.transfers.acquire().await;
        self.from.manifest(descriptor).await.map_err(|e| self.source_failed(&what(), e))
    }

    /// Copies a manifest and everything below it. Returns what names it now, or `None` if it has nothing for the
    /// platforms that were asked for.
    fn manifest(&self, descriptor: Descriptor, depth: usize) -> BoxFuture<'_, Result<Option<Descriptor>, CopyError>> {
        Box::pin(async move {
            if depth > MAX_DEPTH {
                return Err(CopyError::TooDeep { image: self.image.clone() });
            }
            let copied = async {
                let manifest = match self.read(&descriptor).await {
                    Err(CopyError::Source { source, .. }) if depth > 0 && source.is_not_found() => {
                        return Err(self.no_child(&descriptor, source));
                    }
                    other => other?,
                };
                self.with_content(&descriptor, manifest, depth).await
            };
            self.outcome(&descriptor.digest).get_or_try_init(|| copied).await.cloned()
        })
    }

    fn outcome(&self, digest: &Digest) -> Outcome {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).entry(*digest).or_default().clone()
    }

    /// Copies what is below a manifest, and then the manifest.
    fn with_content<'a>(
        &'a self,
        descriptor: &'a Descriptor,
        manifest: Manifest,
        depth: usize,
    ) -> BoxFuture<'a, Result<Option<Descriptor>, CopyError>> {
        Box::pin(async move {
            let manifest = match manifest.kind() {
                Kind::Index => self.index(manifest, depth).await?,
                // The platform of an entry that says one was compared when it was chosen.
                Kind::Image
                    if (depth == 0 || descriptor.platform.is_none()) && !self.config_satisfies(&manifest).await? =>
                {
                    None
                }
                Kind::Image | Kind::Schema1 => Some(self.image(manifest).await?),
            };
            let Some(manifest) = manifest else { return Ok(None) };
            let put = self.to.put_manifest(&manifest).await;
            put.map_err(|e| self.sink_failed(&format!("manifest {}", manifest.digest()), e))?;
            self.event(Event::ManifestDone {
                digest: manifest.digest(),
                media_type: manifest.media_type(),
                platform: descriptor.platform.as_ref(),
            });
            Ok(Some(manifest.descriptor()))
        })
    }

    /// Copies the entries of an index that were asked for.
    async fn index(&self, manifest: Manifest, depth: usize) -> Result<Option<Manifest>, CopyError> {
        let wanted = self.platforms.wanted();
        let lacking = self.lacking(&manifest).await?;
        if wanted.is_some() {
            let there = manifest.manifests().iter().filter(|entry| !lacking.contains(&entry.digest));
            self.note(there.filter_map(|entry| entry.platform.as_ref()));
        }
        let (chosen, mut left_out) = choose(&manifest, wanted);
        let (absent, chosen): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|entry| lacking.contains(&entry.digest));
        let chosen: Vec<Descriptor> = chosen.into_iter().cloned().collect();
        converted::check_index(&manifest, &chosen, self.format).map_err(|e| self.convert_failed(e))?;
        let copies = stream::iter(chosen).map(|entry| self.entry(entry, depth));
        // An index within this one may turn out to have nothing that was asked for.
        let copied: Vec<(Descriptor, Option<Descriptor>)> = copies.buffered(CHILDREN_AT_ONCE).try_collect().await?;
        if wanted.is_some() && copied.iter().all(|(entry, copy)| copy.is_none() || !entry.is_manifest()) {
            return Ok(None);
        }
        left_out.extend(copied.iter().filter(|(_, copy)| copy.is_none()).map(|(entry, _)| entry));
        for child in &left_out {
            self.event(Event::ChildLeftOut { child });
        }
        for child in absent {
            self.event(Event::ChildAbsent { child });
            left_out.push(child);
        }
        let only = matches!(self.platforms, Platforms::Strip(_));
        let kept = copied.iter().filter_map(|(entry, copy)| Some((entry.digest, copy.clone()?))).collect();
        let written = converted::index(&manifest, &kept, self.format, only).map_err(|e| self.convert_failed(e))?;
        if written.digest() == manifest.digest() {
            self.record(&manifest, &left_out).await?;
        }
        Ok(Some(written))
    }

    /// Copies one entry of an index.
    fn entry(
        &self,
        entry: Descriptor,
        depth: usize,
    ) -> BoxFuture<'_, Result<(Descriptor, Option<Descriptor>), CopyError>> {
        Box::pin(async move {
            if entry.is_manifest() {
                let copied = self.manifest(entry.clone(), depth + 1).await?;
                return Ok((entry, copied));
            }
            self.blob(entry.clone()).await?;
            Ok((entry.clone(), Some(entry)))
        })
    }

    /// Whether an image that stands alone is for a platform that was asked for. One that doesn't say (an artifact) is.
    async fn config_satisfies(&self, manifest: &Manifest) -> Result<bool, CopyError> {
        let Some(wanted) = self.platforms.wanted() else { return Ok(true) };
        let platform = self.platform(manifest).await?;
        self.note(platform.iter());
        Ok(platform.is_none_or(|platform| wanted.iter().any(|wanted| platform.satisfies(wanted))))
    }

    /// The platform that an image's config says.
    async fn platform(&self, manifest: &Manifest) -> Result<Option<Platform>, CopyError> {
        Ok(self.config(manifest).await?.and_then(|config| Platform::of_config(&config)))
    }

    /// An image's config, from the sink if it has it, else from the source; `None` if there is none, or one that is too large.
    async fn config(&self, manifest: &Manifest) -> Result<Option<Bytes>, CopyError> {
        let Some(config) = manifest.config().filter(|config| config.size.is_some_and(|size| size <= MAX_CONFIG_SIZE))
        else {
            return Ok(None);
        };
        let what = || format!("config {}", config.digest);
        let held = self.to.small_blob(config).await.map_err(|e| self.sink_failed(&what(), e))?;
        match held {
            Some(bytes) => Ok(Some(bytes)),
            None => self.read_config(config).await.map(Some),
        }
    }

    /// A config from the source, whole and verified: what is copied depends on it.
    async fn read_config(&self, config: &Descriptor) -> Result<Bytes, CopyError> {
        let failed = |e| self.source_failed(&format!("config {}", config.digest), e);
        let limit = config.size.unwrap_or(MAX_CONFIG_SIZE);
        let mut stream = self.from.blob(config, 0).await.map_err(failed)?;
        let mut bytes = BytesMut::new();
        while let Some(piece) = stream.try_next().await.map_err(failed)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > limit {
                break;
            }
        }
        let actual = config.digest.algorithm().digest(&bytes);
        if actual != config.digest {
            let problem = format!("blob {} has other bytes than its digest says: they are {actual}", config.digest);
            return Err(CopyError::Mismatch { image: self.image.clone(), problem });
        }
        Ok(bytes.freeze())
    }

    fn no_platform(&self) -> CopyError {
        let available = std::mem::take(&mut *self.available.lock().unwrap_or_else(PoisonError::into_inner));
        let wanted = self.platforms.wanted().unwrap_or_default().to_vec();
        CopyError::NoPlatform { image: self.image.clone(), wanted, available: available.into_iter().collect() }
    }

    /// Notes for which platforms there is something, in case that none of them was asked for.
    fn note<'a>(&self, platforms: impl Iterator<Item = &'a Platform>) {
        let mut available = self.available.lock().unwrap_or_else(PoisonError::into_inner);
        available.extend(platforms.filter(|platform| !platform.is_unknown()).cloned());
    }

    async fn blob(&self, blob: Descriptor) -> Result<(), CopyError> {
        let blob = &blob;
        let done = |outcome| self.event(Event::BlobDone { blob, outcome });
        let what = || format!("blob {}", blob.digest);
        if blob.is_nondistributable() {
            done(BlobOutcome::Nondistributable);
            return Ok(());
        }
        let moving = self.copier.moving(&blob.digest);
        let _alone = moving.lock().await;
        match self.to.claim(blob).await.map_err(|e| self.sink_failed(&what(), e))? {
            Claim::Present => done(BlobOutcome::Present),
            Claim::Linked => done(BlobOutcome::Linked),
            Claim::Missing => {
                let _job = self.copier.transfers.acquire().await;
                self.event(Event::BlobStarted { blob });
                let moved = match self.adopt(blob).await {
                    Ok(true) => Ok(BlobOutcome::Adopted),
                    Ok(false) => self.move_blob(blob).await.map(|()| BlobOutcome::Copied),
                    Err(e) => Err(e),
                };
                if moved.is_err() {
                    self.event(Event::BlobFailed { blob: &blob.digest });
                }
                done(moved?);
            }
        }
        Ok(())
    }

    /// The bytes of a blob as fast as they may come, each piece told of when it is taken.
    fn counted(&self, blob: &Descriptor, bytes: ByteStream) -> ByteStream {
        let (events, digest) = (self.copier.events.clone(), blob.digest);
        let tell = move |piece: &Bytes| events.event(Event::BlobProgress { blob: &digest, bytes: piece.len() as u64 });
        let bytes = match &self.copier.pace {
            Some(pace) => pace.slow(bytes),
            None => bytes,
        };
        bytes.inspect_ok(tell).boxed()
    }

    /// Whether the sink took a blob from where it lies.
    async fn adopt(&self, blob: &Descriptor) -> Result<bool, CopyError> {
        let what = format!("blob {}", blob.digest);
        match self.from.location(blob).await.map_err(|e| self.source_failed(&what, e))? {
            Some(location) => self.to.adopt(blob, &location).await.map_err(|e| self.sink_failed(&what, e)),
            None => Ok(false),
        }
    }

    async fn move_blob(&self, blob: &Descriptor) -> Result<(), CopyError> {
        let what = format!("blob {}", blob.digest);
        let mut interrupted = false;
        loop {
            let bytes = self.from.blob(blob, 0).await.map_err(|e| self.source_failed(&what, e))?;
            return match self.to.put_blob(blob, self.counted(blob, bytes)).await {
                Ok(()) => Ok(()),
                Err(PutError::Interrupted(error)) if !interrupted => {
                    tracing::debug!(%error, blob = %blob.digest, "reading it again");
                    interrupted = true;
                    self.event(Event::BlobFailed { blob: &blob.digest });
                    self.event(Event::BlobStarted { blob });
                    continue;
                }
                Err(PutError::Source(e)) => Err(self.source_failed(&what, e)),
                Err(PutError::Sink(e) | PutError::Interrupted(e)) => Err(self.sink_failed(&what, e)),
                Err(PutError::Mismatch { problem }) => Err(CopyError::Mismatch { image: self.image.clone(), problem }),
            };
        }
    }
}

/// The entries of an index that may be for one of the platforms wanted, and the others. An index within the index is looked
/// into, and so is an image whose entry says no platform: its config does, as containerd takes it, too. What attests a chosen image goes with it; entries that are blobs belong to the index itself.
fn choose<'a>(index: &'a Manifest, wanted: Option<&[Platform]>) -> (Vec<&'a Descriptor>, Vec<&'a Descriptor>) {
    let entries = index.manifests().iter();
    let Some(wanted) = wanted else { return (entries.collect(), Vec::new()) };
    let direct = |entry: &Descriptor| {
        let known = entry.platform.as_ref().filter(|platform| !platform.is_unknown());
        match known {
            Some(platform) => wanted.iter().any(|wanted| platform.satisfies(wanted)),
            None if entry.platform.is_none() => entry.attests().is_none(),
            None => !entry.is_manifest() || is_index(entry),
        }
    };
    let chosen: HashSet<Digest> = { entries.clone() }.filter(|entry| direct(entry)).map(|entry| entry.digest).collect();
    entries.partition(|entry| {
        chosen.contains(&entry.digest) || entry.attests().is_some_and(|subject| chosen.contains(&subject))
    })
}

fn is_index(entry: &Descriptor) -> bool {
    use crate::oci::MediaType;
    [MediaType::OCI_INDEX, MediaType::DOCKER_LIST].iter().any(|t| t.as_str() == entry.media_type)
}

//! What a plan says is carried out.
//!
//! A bucket far away answers late, whatever it is asked, so what is small is sent many at a time: that costs no memory. What is
//! large fills the line by itself, and is sent a few at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use futures::stream;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::super::PublishError;
use super::super::plan::{Step, Work};
use super::TransferOptions;
use crate::image::{BlobOutcome, Event, Pace, PutError, RepositorySource, Source as _};
use crate::oci::{Descriptor, Digest, Manifest, Tag};
use crate::tree::{Publishing, Tree, TreeSource};

/// How many repositories send manifests and tags at once.
const REPOSITORIES: usize = 64;

/// How many manifests or tags of one repository wait for their turn at once.
const OF_A_REPOSITORY: usize = 64;

/// How many small things are under way at once for each large blob.
const SMALL_FOR_ONE: usize = 16;

/// How many blobs of middling size.
const MIDDLING_FOR_ONE: usize = 4;

/// The size up to which a blob is small, and that up to which it is of middling size.
const SMALL: u64 = 64 << 10;
const MIDDLING: u64 = 1 << 20;

/// Sends what a tree has to a place that lacks it.
pub(super) struct Transfer<'a> {
    source: TreeSource,
    to: &'a Tree,
    options: &'a TransferOptions,
    /// What is small, over all repositories.
    small: Semaphore,
    pace: Option<Arc<Pace>>,
}

/// A repository on its way.
struct Sending<'a> {
    work: &'a Work,
    from: Box<dyn RepositorySource>,
    to: Publishing,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(tree: &Tree, to: &'a Tree, options: &'a TransferOptions) -> Self {
        let small = Semaphore::new(options.jobs.max(1) * SMALL_FOR_ONE);
        let pace = options.bandwidth.map(|bandwidth| Arc::new(Pace::new(bandwidth)));
        Self { source: TreeSource::new(tree.clone()), to, options, small, pace }
    }

    /// Waits until there is room for something small.
    async fn turn(&self) -> SemaphorePermit<'_> {
        self.small.acquire().await.expect("nobody closes it")
    }

    /// Sends what some repositories lack, while nothing is removed from them. What fails in one keeps none of the others back.
    pub(super) async fn send(&self, works: &[Work], removals: Option<u64>) -> Vec<PublishError> {
        let works: Vec<&Work> = works.iter().filter(|work| work.adds()).collect();
        if works.is_empty() {
            return Vec::new();
        }
        let to = self.to.beside(works.iter().map(|work| work.repository.clone()).collect());
        match to.announce().await {
            // What was there when it was compared may be gone.
            Ok(Some(now)) if removals.is_some_and(|removals| removals != now) => {
                let mut errors = vec![PublishError::Overtaken { place: to.store().describe() }];
                errors.extend(to.withdraw().await.err().map(Into::into));
                errors
            }
            Ok(_) => {
                let mut errors = self.send_to(&to, works).await;
                errors.extend(to.withdraw().await.err().map(Into::into));
                errors
            }
            Err(error) => vec![error.into()],
        }
    }

    async fn send_to(&self, to: &Tree, works: Vec<&Work>) -> Vec<PublishError> {
        let (mut sending, mut errors) = (Vec::new(), Vec::new());
        for work in works {
            match to.publishing(&work.repository).await {
                Ok(to) => {
                    let from = self.source.repository(&work.repository);
                    sending.push(Some(Sending { work, from, to }));
                }
                Err(error) => errors.push(error.into()),
            }
        }
        // All that is sent comes before what is copied of it.
        for phase in [0, 1] {
            let mut blobs: Vec<(usize, &Step)> = Vec::new();
            for (number, of) in sending.iter().enumerate() {
                let steps = of.iter().flat_map(|of| &of.work.steps).filter(|step| step.phase() == phase);
                blobs.extend(steps.map(|step| (number, step)));
            }
            blobs.sort_by_key(|(_, step)| std::cmp::Reverse(step.bytes()));
            let move_one = |(number, step): (usize, _)| {
                let of: Option<&Sending<'_>> = sending[number].as_ref();
                async move {
                    match of {
                        Some(of) => (number, self.blob(of, step).await),
                        None => (number, Ok(())),
                    }
                }
            };
            let jobs = self.options.jobs.max(1);
            let large = blobs.partition_point(|(_, step)| step.bytes() > MIDDLING);
            let middling = blobs.partition_point(|(_, step)| step.bytes() > SMALL);
            let classes = [
                (&blobs[..large], jobs),
                (&blobs[large..middling], jobs * MIDDLING_FOR_ONE),
                (&blobs[middling..], jobs * SMALL_FOR_ONE),
            ];
            let moved = classes.map(|(blobs, at_once)| {
                stream::iter(blobs.iter().copied()).map(move_one).buffer_unordered(at_once).collect::<Vec<_>>()
            });
            let moved: Vec<(usize, Result<(), PublishError>)> = join_all(moved).await.into_iter().flatten().collect();
            for (number, result) in moved {
                if let Err(error) = result {
                    errors.push(error);
                    sending[number] = None;
                }
            }
        }
        let sent = stream::iter(sending.into_iter().flatten()).map(|of| self.rest(of));
        let sent: Vec<_> = sent.buffer_unordered(REPOSITORIES).collect().await;
        let mut listed = BTreeSet::new();
        let mut open = Vec::new();
        for result in sent {
            match result {
                Ok(of) => {
                    if of.work.steps.iter().any(|step| matches!(step, Step::TagsList { .. } | Step::Catalog)) {
                        listed.insert(of.work.repository.clone());
                    }
                    // Nobody removes what is there as long as it is open.
                    open.push(of);
                }
                Err(error) => errors.push(error),
            }
        }
        match to.bring_lists_up_to_date(&listed).await {
            Ok(()) => open.iter().for_each(|of| of.to.listed()),
            Err(error) => errors.push(error.into()),
        }
        errors
    }

    async fn blob(&self, of: &Sending<'_>, step: &Step) -> Result<(), PublishError> {
        let (digest, size) = match step {
            Step::PutBlob { digest, size } => (digest, *size),
            Step::CopyBlob { digest, size, from } => {
                if of.to.take_blob(digest, *size, from).await? {
                    return Ok(());
                }
                (digest, *size)
            }
            _ => return Ok(()),
        };
        let (blob, events) = (Descriptor::new("application/octet-stream", *digest, size), &self.options.events);
        events.event(Event::BlobStarted { blob: &blob });
        let sent = async {
            if let Some(location) = of.from.location(&blob).await?
                && of.to.sink().adopt(&blob, &location).await?
            {
                return Ok(BlobOutcome::Adopted);
            }
            let (bytes, heard, digest) = (of.from.blob(&blob, 0).await?, events.clone(), *digest);
            let counted = bytes.inspect_ok(move |piece| {
                heard.event(Event::BlobProgress { blob: &digest, bytes: piece.len() as u64 });
            });
            let bytes = counted.boxed();
            let bytes = match &self.pace {
                Some(pace) => pace.slow(bytes),
                None => bytes,
            };
            match of.to.sink().put_blob(&blob, bytes).await {
                Ok(()) => Ok(BlobOutcome::Copied),
                Err(PutError::Source(error)) => Err(error.into()),
                Err(PutError::Mismatch { .. }) => Err(PublishError::Damaged { digest }),
                Err(PutError::Sink(error) | PutError::Interrupted(error)) => Err(error.into()),
            }
        };
        match sent.await {
            Ok(outcome) => {
                events.event(Event::BlobDone { blob: &blob, outcome });
                Ok(())
            }
            Err(error) => {
                events.event(Event::BlobFailed { blob: digest });
                Err(error)
            }
        }
    }

    /// Everything but blobs and lists.
    async fn rest<'w>(&self, of: Sending<'w>) -> Result<Sending<'w>, PublishError> {
        let steps = &of.work.steps;
        let records = |wanted: bool| {
            steps.iter().filter_map(move |step| match step {
                Step::LeaveOut { index, children, before } if *before == wanted => Some((index, children)),
                _ => None,
            })
        };
        for (index, children) in records(true) {
            of.to.record(index, children).await?;
        }
        let mut levels: BTreeMap<usize, Vec<&Digest>> = BTreeMap::new();
        for step in steps {
            if let Step::PutManifest { digest, height, .. } = step {
                levels.entry(*height).or_default().push(digest);
            }
        }
        // What names others comes when they are there.
        for level in levels.into_values() {
            let put = async |digest| {
                let _turn = self.turn().await;
                of.to.put_manifest(&self.manifest(&of, digest).await?).await.map_err(PublishError::from)
            };
            stream::iter(level).map(put).buffer_unordered(OF_A_REPOSITORY).try_collect::<()>().await?;
        }
        for step in steps {
            if let Step::Referrers { subject } = step {
                let referrers = of.from.referrers(subject).await?;
                of.to.refer(subject, referrers.into_iter().map(|referrer| referrer.digest));
            }
        }
        of.to.sink().commit().await?;
        for (index, children) in records(false) {
            of.to.record(index, children).await?;
        }
        let tags = steps.iter().filter_map(|step| match step {
            Step::Tag { tag, digest, before } => Some((tag, digest, before.is_none())),
            _ => None,
        });
        let (signatures, images): (Vec<_>, Vec<_>) = tags.partition(|(tag, ..)| tag.cosign_subject().is_some());
        for tags in [signatures, images] {
            let named = stream::iter(tags).map(|(tag, digest, new)| self.tag(&of, tag, digest, new));
            named.buffer_unordered(OF_A_REPOSITORY).try_collect::<()>().await?;
        }
        Ok(of)
    }

    async fn tag(&self, of: &Sending<'_>, tag: &Tag, digest: &Digest, new: bool) -> Result<(), PublishError> {
        let _turn = self.turn().await;
        let manifest = self.manifest(of, digest).await?;
        if of.to.tag(tag, &manifest, !self.options.clobber && new).await? {
            return Ok(());
        }
        Err(PublishError::Clobber(vec![format!("{}:{tag}", of.work.repository)]))
    }

    async fn manifest(&self, of: &Sending<'_>, digest: &Digest) -> Result<Manifest, PublishError> {
        let expected = Descriptor { size: None, ..Descriptor::new("", *digest, 0) };
        Ok(of.from.manifest(&expected).await?)
    }
}

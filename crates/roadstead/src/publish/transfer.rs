//! Another tree is made to offer what a tree has: both are compared, and what the comparison says is carried out.
//!
//! The destination is written by the sink that every copy uses. That sink asks before it writes; here a list has told already, so
//! it is told what is there, and a tag that moved costs one request.
//!
//! # Memory
//!
//! The two listings are read side by side, a repository at a time, with those that its name goes on behind. Kept are the names of
//! repositories, some twenty bytes for each blob of the destination, the records of what is left out, and what has to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, BoxStream, Peekable};
use futures::{StreamExt as _, TryStreamExt as _};

use super::PublishError;
use super::plan::{self, Facts, Needs, Shares, Step, Work};
use crate::image::{BlobOutcome, Event, Events, PutError, RepositorySource, Source as _};
use crate::oci::{Descriptor, Digest, Manifest, Repository, Tag};
use crate::store::{Md5, Reach};
use crate::tree::{
    Holding, Pattern, Private, Publishing, Surveyed, Tree, TreeError, TreeSource, list_of_repositories, place,
};

/// How many repositories are written together.
const REPOSITORIES_AT_ONCE: usize = 256;

/// How many of them send manifests at once.
const SENDING_AT_ONCE: usize = 16;

/// The size up to which a blob is small: several of these are sent in place of a large one.
const SMALL: u64 = 1 << 20;

/// How many.
const SMALL_FOR_ONE: usize = 4;

/// How many manifests are read at once to learn what they need.
const READ_AT_ONCE: usize = 16;

/// The size up to which a blob is one request.
const PART: u64 = 8 << 20;

/// How many keys a list has in one answer.
const KEYS_IN_A_LIST: u64 = 1000;

/// What is published.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// Only repositories that match one of these; all if there are none.
    pub repositories: Vec<Pattern>,
    /// Repositories of which nothing is published, as if the tree didn't have them. What the destination has of them stays, unless
    /// `delete` and a pattern say otherwise.
    pub without: Private,
    /// Whether what the tree doesn't have is deleted: in repositories that the tree has and, if there are patterns, in all that
    /// match.
    pub delete: bool,
    /// Whether what has a digest for a name and the right size is looked at, too: by the MD5 that a list says of it, else by
    /// reading all of it.
    pub checksum: bool,
}

/// What has to be done.
#[derive(Debug, Default)]
pub struct Plan {
    works: Vec<Work>,
    /// Repositories that can't be published, each with the reason. The others can.
    pub problems: Vec<PublishError>,
    /// How many repositories of the tree were compared.
    pub compared: u64,
    /// How many removals the destination had seen before it was compared, if writers announce themselves there.
    removals: Option<u64>,
    /// Whether they do.
    announced: bool,
}

/// How many requests a bucket is asked, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Requests {
    /// `PUT`, `COPY` and `POST`.
    pub writes: u64,
    /// `GET` and `HEAD`.
    pub reads: u64,
    /// `LIST`.
    pub lists: u64,
    /// `DELETE`.
    pub deletes: u64,
}

/// What a plan comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Totals {
    /// Blobs that are sent.
    pub blobs: u64,
    /// Blobs that the destination copies.
    pub copied: u64,
    /// Manifests that are sent.
    pub manifests: u64,
    /// Tags that are made or moved.
    pub tags: u64,
    /// Lists that are written: of tags, of referrers, and of repositories.
    pub lists: u64,
    /// Names that are deleted.
    pub deleted: u64,
    /// Bytes that are sent.
    pub bytes: u64,
}

/// How a plan is carried out.
#[derive(Clone)]
pub struct TransferOptions {
    /// How many blobs are sent at once.
    pub jobs: usize,
    /// Whether tags that are there may move. If not, none is touched that somebody else has made since.
    pub clobber: bool,
    /// Hears of blobs.
    pub events: Arc<dyn Events>,
}

/// A survey that can be looked at before something is taken from it.
type Survey<'a> = Peekable<BoxStream<'a, Result<Surveyed, TreeError>>>;

impl Plan {
    /// Compares a tree with a destination, which may not be there yet. Nothing is written.
    ///
    /// # Errors
    ///
    /// If either can't be read. What is wrong with a repository of the tree is one of the [problems](Self::problems).
    pub async fn compare(tree: &Tree, to: Option<&Tree>, options: &PlanOptions) -> Result<Self, PublishError> {
        let chosen = |repository: &Repository| {
            let named = |pattern: &Pattern| pattern.matches(repository.as_str());
            options.repositories.is_empty() || options.repositories.iter().any(named)
        };
        let announced = to.is_none_or(|to| to.store().reach() == Reach::Process);
        let removals = to.filter(|_| announced).map(Tree::removals);
        let mut plan = Self { removals, announced, ..Self::default() };
        let (mut shares, mut catalog) = (Shares::default(), None);
        let (mut named, mut ours) = (BTreeSet::new(), BTreeSet::new());
        let mut from: Survey<'_> = tree.survey().peekable();
        let survey = to.map_or_else(|| stream::empty().boxed(), Tree::survey);
        let mut there: Survey<'_> = survey.peekable();
        loop {
            let (mine, theirs) = (next_place(&mut from).await, next_place(&mut there).await);
            let first = match (mine, theirs) {
                (None, None) => break,
                (Some(place), None) | (None, Some(place)) => place,
                (Some(mine), Some(theirs)) => mine.min(theirs),
            };
            let mine = take_at(&mut from, &first).await?;
            let theirs = take_at(&mut there, &first).await?;
            if let Some(Surveyed::Catalog(sum)) = &theirs {
                catalog = *sum;
            }
            let (mine, theirs) = (repository_of(mine), repository_of(theirs));
            let mine = mine.filter(|keys| !options.without.contains(&keys.repository));
            if let Some(keys) = &theirs {
                shares.note(&keys.repository, keys.blobs());
                if keys.has_manifests() {
                    named.insert(keys.repository.to_string());
                }
            }
            let Some(name) = mine.as_ref().or(theirs.as_ref()).map(|keys| keys.repository.clone()) else { continue };
            let ends = options.delete && !options.repositories.is_empty();
            if !chosen(&name) || (mine.is_none() && !ends) {
                continue;
            }
            let held = match (theirs, to) {
                (Some(keys), Some(to)) => {
                    let wrong = match &mine {
                        Some(own) if options.checksum => to.differing(&keys, tree, own).await?,
                        _ => BTreeSet::new(),
                    };
                    if let Some(own) = &mine {
                        own.sizes_differ(&keys).chain(wrong.iter().copied()).for_each(|blob| shares.spoil(&name, blob));
                    }
                    let mut held = to.holding(*keys, false).await?;
                    held.blobs.retain(|digest, _| !wrong.contains(digest));
                    held.manifests.retain(|digest, _| !wrong.contains(digest));
                    // Copies of what is wrong.
                    held.tags.retain(|_, digest| !wrong.contains(digest));
                    held
                }
                _ => Holding::of(name.clone()),
            };
            let worked = match mine {
                None => plan::repository(&Holding::of(name.clone()), &Facts::default(), &held, true)
                    .map_err(|lack| PublishError::Incomplete { repository: name.clone(), lack: Box::new(lack) }),
                Some(keys) => {
                    plan.compared += 1;
                    if keys.has_manifests() {
                        ours.insert(name.clone());
                    }
                    match tree.holding(*keys, true).await {
                        Ok(own) => compare_one(tree, &own, &held, options.delete).await,
                        Err(error) => Err(error.into()),
                    }
                }
            };
            match worked {
                Ok(work) => plan.works.extend(work),
                Err(error) => {
                    ours.remove(&name);
                    plan.problems.push(error);
                }
            }
        }
        plan::share(&mut plan.works, shares);
        let is_right = catalog == Some(Md5::of(&list_of_repositories(named.iter().cloned().collect())));
        let listed = match to {
            Some(to) if !is_right => to.listed_repositories().await?,
            _ => named,
        };
        plan::catalog(&mut plan.works, &ours, &listed);
        Ok(plan)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.works.is_empty()
    }

    /// The steps in their order, each with its repository.
    pub fn steps(&self) -> Vec<(&Repository, &Step)> {
        let mut steps: Vec<_> =
            { self.works.iter() }.flat_map(|work| work.steps.iter().map(|step| (&work.repository, step))).collect();
        steps.sort_by_key(|(_, step)| step.phase());
        steps
    }

    /// Tags that name something else at the destination, as `repository:tag`.
    #[must_use]
    pub fn moved(&self) -> Vec<String> {
        let moved = self.steps().into_iter().filter_map(|(repository, step)| match step {
            Step::Tag { tag, before: Some(_), .. } => Some(format!("{repository}:{tag}")),
            _ => None,
        });
        moved.collect()
    }

    /// What it comes to.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        let mut catalog = 0;
        for (_, step) in self.steps() {
            totals.bytes += step.bytes();
            match step {
                Step::PutBlob { .. } => totals.blobs += 1,
                Step::CopyBlob { .. } => totals.copied += 1,
                Step::PutManifest { .. } => totals.manifests += 1,
                Step::Tag { .. } => totals.tags += 1,
                Step::TagsList { .. } | Step::Referrers { .. } => totals.lists += 1,
                Step::Catalog => catalog = 1,
                Step::LeaveOut { .. } => {}
                _ => totals.deleted += 1,
            }
        }
        totals.lists += catalog;
        totals
    }

    /// What a bucket is asked to carry the plan out: exactly, but for lists of referrers (which are counted as if they had to be
    /// written), what is above 8 MiB, and deletions, for which manifests are read.
    #[must_use]
    pub fn requests(&self) -> Requests {
        let mut sum = Requests::default();
        let mut add = |writes: u64, reads: u64, lists: u64, deletes: u64| {
            sum.writes += writes;
            sum.reads += reads;
            sum.lists += lists;
            sum.deletes += deletes;
        };
        for works in self.works.chunks(REPOSITORIES_AT_ONCE) {
            let steps = || works.iter().flat_map(|work| &work.steps);
            for step in steps() {
                match step {
                    Step::PutBlob { size, .. } if *size <= PART => add(2, 0, 0, 0),
                    Step::PutBlob { size, .. } => add(3 + size.div_ceil(PART), 0, 0, 0),
                    Step::CopyBlob { .. } => add(2, 1, 0, 0),
                    Step::LeaveOut { children, .. } if children.is_empty() => add(0, 1, 0, 1),
                    Step::LeaveOut { .. } => add(1, 1, 0, 0),
                    Step::PutManifest { .. } | Step::Tag { .. } => add(1, 0, 0, 0),
                    Step::Referrers { .. } => add(3, 5, 0, 0),
                    Step::TagsList { names } => add(1, 1, names.div_ceil(KEYS_IN_A_LIST).max(1), 0),
                    Step::Catalog => {}
                    Step::DeleteTag { .. } | Step::DeleteManifest { .. } => add(0, 1, 0, 1),
                    Step::DeleteBlob { .. } => add(0, 2, 0, 2),
                }
            }
            if self.announced && works.iter().any(Work::adds) {
                // The announcement, a look at the gate, and that it is over.
                add(1, 2, 0, 1);
            }
            let writes = u64::from(steps().any(|step| matches!(step, Step::Catalog)));
            let reads = u64::from(steps().any(|step| matches!(step, Step::Catalog | Step::TagsList { .. })));
            add(writes, reads, 0, 0);
        }
        sum
    }

    /// Does what has to be done, some repositories at a time. What fails in one keeps none of the others back; it is what the
    /// result has. The same comparison again gives what is left.
    pub async fn carry_out(&self, tree: &Tree, to: &Tree, options: &TransferOptions) -> Vec<PublishError> {
        let transfer = Transfer { source: TreeSource::new(tree.clone()), to, options };
        let mut errors = Vec::new();
        for works in self.works.chunks(REPOSITORIES_AT_ONCE) {
            errors.extend(transfer.send(works, self.removals).await);
        }
        // Nothing goes before everything has come.
        if errors.is_empty() {
            for work in &self.works {
                if let Err(error) = delete(to, work).await {
                    errors.push(error);
                }
            }
        }
        errors
    }
}

/// The place of what comes next. A catalogue stands in front of everything.
async fn next_place(survey: &mut Survey<'_>) -> Option<Vec<u8>> {
    match std::pin::Pin::new(survey).peek().await? {
        Ok(Surveyed::Repository(keys)) => Some(place(&keys.repository)),
        // An error is taken at once.
        Ok(Surveyed::Catalog(_)) | Err(_) => Some(Vec::new()),
    }
}

/// What comes next, if it is at that place.
async fn take_at(survey: &mut Survey<'_>, at: &[u8]) -> Result<Option<Surveyed>, TreeError> {
    match next_place(survey).await {
        Some(place) if place == at => survey.try_next().await,
        _ => Ok(None),
    }
}

fn repository_of(surveyed: Option<Surveyed>) -> Option<Box<crate::tree::Keys>> {
    match surveyed {
        Some(Surveyed::Repository(keys)) => Some(keys),
        _ => None,
    }
}

/// Reads of the tree what names don't tell, and plans.
async fn compare_one(tree: &Tree, own: &Holding, held: &Holding, delete: bool) -> Result<Option<Work>, PublishError> {
    let mut facts = Facts::default();
    let needs = stream::iter(plan::missing(own, held)).map(|digest| async move {
        Ok::<_, PublishError>((*digest, Needs::of(&read(tree, &own.repository, digest).await?)))
    });
    facts.manifests = needs.buffer_unordered(READ_AT_ONCE).try_collect().await?;
    for index in own.records.keys().filter(|index| own.manifests.contains_key(index)) {
        facts.left_out.insert(*index, tree.left_out(&own.repository, index).await?);
    }
    let work = plan::repository(own, &facts, held, delete);
    work.map_err(|lack| PublishError::Incomplete { repository: own.repository.clone(), lack: Box::new(lack) })
}

/// A manifest of the tree, verified.
async fn read(tree: &Tree, repository: &Repository, digest: &Digest) -> Result<Manifest, PublishError> {
    let manifest = tree.find(repository, &(*digest).into()).await?;
    manifest.ok_or_else(|| TreeError::Unknown(format!("{repository}@{digest}")).into())
}

/// Deletes what a plan says, in the order of removals.
async fn delete(to: &Tree, work: &Work) -> Result<(), PublishError> {
    let (mut tags, mut manifests, mut blobs) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for step in &work.steps {
        match step {
            Step::DeleteTag { tag } => drop(tags.insert(tag.clone())),
            Step::DeleteManifest { digest } => drop(manifests.insert(*digest)),
            Step::DeleteBlob { digest } => drop(blobs.insert(*digest)),
            _ => {}
        }
    }
    if tags.is_empty() && manifests.is_empty() && blobs.is_empty() {
        return Ok(());
    }
    to.remove_named(&work.repository, tags, manifests, blobs).await?;
    Ok(())
}

struct Transfer<'a> {
    source: TreeSource,
    to: &'a Tree,
    options: &'a TransferOptions,
}

/// A repository on its way.
struct Sending<'a> {
    work: &'a Work,
    from: Box<dyn RepositorySource>,
    to: Publishing,
}

impl Transfer<'_> {
    /// Sends what some repositories lack, while nothing is removed from them.
    async fn send(&self, works: &[Work], removals: Option<u64>) -> Vec<PublishError> {
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
            // Small ones wait for answers, and not for the network.
            let (large, small): (Vec<_>, Vec<_>) = blobs.into_iter().partition(|(_, step)| step.bytes() > SMALL);
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
            let large = stream::iter(large).map(move_one).buffer_unordered(jobs).collect::<Vec<_>>();
            let small = stream::iter(small).map(move_one).buffer_unordered(jobs * SMALL_FOR_ONE).collect::<Vec<_>>();
            let (large, small) = futures::join!(large, small);
            let moved: Vec<(usize, Result<(), PublishError>)> = large.into_iter().chain(small).collect();
            for (number, result) in moved {
                if let Err(error) = result {
                    errors.push(error);
                    sending[number] = None;
                }
            }
        }
        let sent = stream::iter(sending.into_iter().flatten()).map(|of| self.rest(of));
        let sent: Vec<_> = sent.buffer_unordered(SENDING_AT_ONCE).collect().await;
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
        if let Err(error) = to.bring_lists_up_to_date(&listed).await {
            errors.push(error.into());
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
            match of.to.sink().put_blob(&blob, counted.boxed()).await {
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
            let put =
                async |digest| of.to.put_manifest(&self.manifest(&of, digest).await?).await.map_err(PublishError::from);
            stream::iter(level).map(put).buffer_unordered(self.options.jobs.max(1)).try_collect::<()>().await?;
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
            named.buffer_unordered(self.options.jobs.max(1)).try_collect::<()>().await?;
        }
        Ok(of)
    }

    async fn tag(&self, of: &Sending<'_>, tag: &Tag, digest: &Digest, new: bool) -> Result<(), PublishError> {
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

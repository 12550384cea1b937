//! Another tree is made to offer what a tree has: both are compared, and what the comparison says is carried out.
//!
//! The destination is written by the sink that every copy uses. That sink asks before it writes; here a list has told already, so
//! it is told what is there, and a tag that moved costs one request.
//!
//! # Memory
//!
//! The two listings are read side by side, a repository at a time, with those that its name goes on behind. Kept are the names of
//! repositories, some twenty bytes for each blob of the destination, the records of what is left out, and what has to be done.

mod sending;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{self, BoxStream, Peekable};
use futures::{StreamExt as _, TryStreamExt as _};

use super::PublishError;
use super::plan::{self, Facts, Needs, Shares, Step, Work};
use crate::image::{Bandwidth, Events};
use crate::oci::{Digest, Manifest, Repository, Tag};
use crate::store::{Key, Md5, Reach};
use crate::tree::{Holding, Pattern, Private, Surveyed, Tree, TreeError, WORTH_A_HINT, list_of_repositories, place};
use sending::Transfer;

/// How many repositories are written together.
const REPOSITORIES_AT_ONCE: usize = 256;

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
    /// Whether the headers of everything that a bucket has are looked at, and set where they are others. Without that they are
    /// where rules have changed since they were written.
    pub headers: bool,
}

/// What has to be done.
#[derive(Debug, Default)]
pub struct Plan {
    works: Vec<Work>,
    /// Repositories that can't be published, each with the reason. The others can.
    pub problems: Vec<PublishError>,
    /// How many repositories of the tree were compared.
    pub compared: u64,
    /// How many things lie among the destination's names that no tree puts there. They stay.
    pub strangers: u64,
    /// One of them.
    pub stranger: Option<Key>,
    /// Whether the headers of what is there are looked at, with a request for each object, and renewed.
    pub renews: bool,
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
    /// How many large blobs are sent at once; of what is small, many more.
    pub jobs: usize,
    /// How fast blobs are sent at most. What the destination copies by itself, and manifests, don't count.
    pub bandwidth: Option<Bandwidth>,
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
        let renews = to.is_some_and(|to| options.headers || to.has_old_headers());
        let mut plan = Self { removals, announced, renews, ..Self::default() };
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
            match &theirs {
                Some(Surveyed::Catalog(sum)) => catalog = *sum,
                Some(Surveyed::Stranger(key)) => {
                    plan.strangers += 1;
                    plan.stranger.get_or_insert_with(|| key.clone());
                }
                _ => {}
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
        self.works.is_empty() && !self.renews
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

    /// The paths of answers that caches may hold and that are others afterwards, sorted: of tags, lists, and what is deleted.
    #[must_use]
    pub fn changed(&self) -> Vec<String> {
        let mut paths = BTreeSet::new();
        for (repository, step) in self.steps() {
            let mut add = |rest: &dyn std::fmt::Display| paths.extend([format!("/v2/{repository}/{rest}")]);
            match step {
                Step::Tag { tag, .. } => add(&format_args!("manifests/{tag}")),
                Step::TagsList { .. } => add(&"tags/list"),
                Step::Referrers { subject } => {
                    add(&format_args!("referrers/{subject}"));
                    add(&format_args!("manifests/{}", Tag::referrers_fallback(subject)));
                }
                Step::DeleteTag { tag } => {
                    add(&format_args!("manifests/{tag}"));
                    add(&"tags/list");
                }
                Step::DeleteManifest { digest } => add(&format_args!("manifests/{digest}")),
                Step::DeleteBlob { digest } => add(&format_args!("blobs/{digest}")),
                _ => {}
            }
            // A repository that loses all that it has leaves the catalogue.
            if matches!(step, Step::Catalog | Step::DeleteTag { .. } | Step::DeleteManifest { .. }) {
                paths.insert("/v2/_catalog".to_owned());
            }
        }
        paths.into_iter().collect()
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
        let hint = |size: u64| u64::from(size >= WORTH_A_HINT);
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
                    Step::PutBlob { size, .. } if *size <= PART => add(1, 0, 0, 0),
                    Step::PutBlob { size, .. } => add(2 + hint(*size) + size.div_ceil(PART), 0, 1, 0),
                    Step::CopyBlob { size, .. } => add(1 + hint(*size), 1, 0, 0),
                    Step::LeaveOut { children, .. } if children.is_empty() => add(0, 0, 0, 1),
                    Step::LeaveOut { .. } => add(1, 1, 0, 0),
                    Step::PutManifest { .. } | Step::Tag { .. } => add(1, 0, 0, 0),
                    Step::Referrers { .. } => add(3, 5, 0, 0),
                    Step::TagsList { names } => add(1, 1, names.div_ceil(KEYS_IN_A_LIST).max(1), 0),
                    Step::Catalog => {}
                    Step::DeleteTag { .. } => add(0, 0, 0, 1),
                    Step::DeleteManifest { .. } => add(0, 0, 0, 2),
                    Step::DeleteBlob { .. } => add(0, 1, 0, 2),
                }
            }
            if self.announced && works.iter().any(Work::adds) {
                // The announcement, a look at the gate, and that it is over.
                add(1, 1, 0, 1);
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
        let transfer = Transfer::new(tree, to, options);
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
        if errors.is_empty() && self.renews {
            match to.renew_headers().await {
                Ok(renewed) => tracing::debug!(renewed, "objects have other headers"),
                Err(error) => errors.push(error.into()),
            }
        }
        errors
    }
}

/// The place of what comes next. A catalogue stands in front of everything.
async fn next_place(survey: &mut Survey<'_>) -> Option<Vec<u8>> {
    match std::pin::Pin::new(survey).peek().await? {
        Ok(Surveyed::Repository(keys)) => Some(place(&keys.repository)),
        // An error is taken at once, and what belongs to no repository.
        Ok(Surveyed::Catalog(_) | Surveyed::Stranger(_)) | Err(_) => Some(Vec::new()),
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

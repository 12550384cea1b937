//! Pruning: removes what nothing reaches, and the tags that a rule lets go.
//!
//! Roots are tags, and manifests that nothing in their repository names; from them reach children, blobs, and what refers to
//! any of these. What is decided is pure ([`rules`]); it is read without a lock, and only where something would go, read again
//! and done while the lock `writers` is held alone: once for each repository, and for each batch of bytes. So a writer waits for one
//! batch, never for the whole.
//!
//! A writer may be between two locks, as a push is between its requests: what no manifest needs yet is protected by its age.

mod content;
mod rules;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::graph::Graph;
use super::keys::Content;
use super::pattern::Pattern;
use super::remove::{Doomed, Released};
use super::{Tree, TreeError, keys};
use crate::oci::{Digest, Reference, Repository, Tag};
use crate::store::{Key, LeftOvers, Naming};

/// How long what no manifest needs stays, unless it is said otherwise: longer than a push takes.
pub const GRACE: Duration = Duration::from_hours(24);

/// How many times are asked for at once.
const QUESTIONS_AT_ONCE: usize = 16;
/// How many records and hints are removed while the lock is held once.
const BATCH: usize = 1024;

/// What goes.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// Only in repositories that match one of these; in all, and what belongs to none, if there is no pattern.
    pub repositories: Vec<Pattern>,
    /// The rules are about tags that match one of these; about all, if there is no pattern.
    pub tags: Vec<Pattern>,
    /// And that match none of these.
    pub except: Vec<Pattern>,
    /// Of each repository's tags that the rules are about, this many stay: those that were written last.
    pub keep_last: Option<usize>,
    /// And those that were written within this time.
    pub keep_within: Option<Duration>,
    /// Whether manifests that nothing names go, too.
    pub untagged: bool,
    /// Untagged manifests and left-overs go only if they were written longer ago than this.
    pub older_than: Duration,
    /// Whether nothing is removed, and only said what would be.
    pub dry_run: bool,
    /// What ages are measured from.
    pub now: SystemTime,
}

impl PruneOptions {
    /// No rules: only what nothing reaches goes.
    #[must_use]
    pub const fn new(now: SystemTime) -> Self {
        Self {
            repositories: Vec::new(),
            tags: Vec::new(),
            except: Vec::new(),
            keep_last: None,
            keep_within: None,
            untagged: false,
            older_than: GRACE,
            dry_run: false,
            now,
        }
    }

    /// Whether something that was written then is old enough to go. What nobody knows the age of is young.
    fn is_old(&self, written: Option<SystemTime>) -> bool {
        self.older_than.is_zero()
            || written.is_some_and(|written| self.now.duration_since(written).unwrap_or_default() > self.older_than)
    }

    fn chooses(&self, repository: &Repository) -> bool {
        self.repositories.is_empty() || self.repositories.iter().any(|pattern| pattern.matches(repository.as_str()))
    }
}

/// What went of a repository, or would.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Thinned {
    /// The repository.
    pub repository: Repository,
    /// Tags.
    pub tags: Vec<Tag>,
    /// Manifests.
    pub manifests: Vec<Digest>,
    /// Blobs that the repository names no more. Others may.
    pub blobs: Vec<Digest>,
}

/// Something that happens while a tree is pruned.
#[derive(Debug)]
#[non_exhaustive]
pub enum Pruning<'a> {
    /// Something of a repository went, or would.
    Thinned(&'a Thinned),
    /// A repository was left as it is.
    Skipped {
        /// The repository.
        repository: &'a Repository,
        /// Why.
        error: &'a TreeError,
    },
}

/// What went beside the [names](Thinned), or would.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// How many contents that no repository names, in a store with links.
    pub contents: u64,
    /// Records of what was left out of indexes that are gone.
    pub records: u64,
    /// Hints that led to nothing.
    pub hints: u64,
    /// Temporary files of writers that are dead.
    pub temporary: u64,
    /// Empty folders.
    pub folders: u64,
    /// The bytes of all of it.
    pub bytes: u64,
    /// How many repositories were left as they are, since they are not whole.
    pub skipped: u64,
}

/// What the repositories name no more.
#[derive(Default)]
struct Ledger {
    released: BTreeMap<Content, Key>,
    /// What would go, if nothing does.
    hidden: HashMap<Repository, Doomed>,
}

impl Tree {
    /// Removes what nothing reaches, and what the options let go; tells `events` of each repository of which something goes.
    ///
    /// A repository that is not whole (a manifest is damaged, or something is lost) is left as it is: nobody can say what it
    /// needs. May be stopped at any time; what went is gone, and the next run goes on.
    ///
    /// # Errors
    ///
    /// If the store can't be read or written.
    pub async fn prune(
        &self,
        options: &PruneOptions,
        events: &(dyn Fn(Pruning<'_>) + Send + Sync),
    ) -> Result<Pruned, TreeError> {
        let mut pruned = Pruned::default();
        let mut ledger = Ledger::default();
        let mut repositories = self.holders();
        while let Some(repository) = repositories.try_next().await? {
            if !options.chooses(&repository) {
                continue;
            }
            match self.thin(&repository, options, &mut ledger, &mut pruned).await {
                Ok(None) => {}
                Ok(Some(thinned)) => events(Pruning::Thinned(&thinned)),
                Err(
                    error @ (TreeError::Damaged { .. }
                    | TreeError::DamagedList { .. }
                    | TreeError::Incomplete { .. }
                    | TreeError::Busy { .. }),
                ) => {
                    pruned.skipped += 1;
                    events(Pruning::Skipped { repository: &repository, error: &error });
                }
                Err(error) => return Err(error),
            }
        }
        drop(repositories);
        pruned.records = self.sweep(keys::records(), options).await?;
        if self.0.store.naming() == Naming::Links {
            self.sweep_content(options, &ledger, &mut pruned).await?;
        } else {
            pruned.hints = self.sweep(keys::all_hints(), options).await?;
            if !options.dry_run {
                self.forget_the_dead().await?;
            }
        }
        if options.repositories.is_empty() {
            let LeftOvers { files, bytes, folders } = self.0.store.left_overs(!options.dry_run).await?;
            pruned.temporary = files;
            pruned.folders = folders;
            pruned.bytes += bytes;
        }
        if !options.dry_run {
            self.0.store.sync().await?;
        }
        Ok(pruned)
    }

    /// Removes what goes of one repository.
    async fn thin(
        &self,
        repository: &Repository,
        options: &PruneOptions,
        ledger: &mut Ledger,
        pruned: &mut Pruned,
    ) -> Result<Option<Thinned>, TreeError> {
        let (mut graph, mut doomed) = self.doomed(repository, options).await?;
        if doomed.is_empty() {
            return Ok(None);
        }
        if options.dry_run {
            pruned.bytes += self.bytes_of_copies(repository, &graph, &doomed).await?;
        } else {
            // What was read without the lock is only a reason to take it.
            let thin = |tree: Self| async move {
                let (graph, doomed) = tree.doomed(repository, options).await?;
                if doomed.is_empty() {
                    return Ok((graph, doomed, Released::default()));
                }
                let released = tree.remove_names(repository, &graph, &doomed).await?;
                Ok((graph, doomed, released))
            };
            let released;
            (graph, doomed, released) = self.alone(repository, thin).await?;
            let Released { contents, bytes } = released;
            if doomed.is_empty() {
                return Ok(None);
            }
            ledger.released.extend(contents);
            pruned.bytes += bytes;
        }
        let thinned = Thinned {
            repository: repository.clone(),
            tags: doomed.tags.iter().cloned().collect(),
            manifests: doomed.manifests.iter().copied().collect(),
            blobs: doomed.blobs.iter().copied().collect(),
        };
        if options.dry_run {
            for (digest, node) in &graph.manifests {
                if doomed.manifests.contains(digest) {
                    let content = Content::Manifest(node.pointer.media_type.clone(), *digest);
                    ledger.released.insert(content, node.pointer.at.clone());
                }
            }
            let blobs = doomed.blobs.iter().map(|digest| (Content::Blob(*digest), keys::blob_content(digest)));
            ledger.released.extend(blobs);
            ledger.hidden.insert(repository.clone(), doomed);
        }
        Ok(Some(thinned))
    }

    /// What goes of a repository.
    async fn doomed(&self, repository: &Repository, options: &PruneOptions) -> Result<(Graph, Doomed), TreeError> {
        let mut graph = self.graph(repository).await?;
        if let Some((_, error)) = graph.damage.pop() {
            return Err(error);
        }
        let tags = self.outdated(repository, &graph, options).await?;
        let mut roots = graph.untagged_roots();
        if options.untagged {
            let names = roots.iter().map(|digest| keys::manifest(repository, &(*digest).into())).collect();
            let written = self.written(names).await?;
            let ages: Vec<Digest> = roots.iter().copied().collect();
            for (digest, written) in ages.iter().zip(written) {
                if options.is_old(written) {
                    roots.remove(digest);
                }
            }
        }
        let mut doomed = graph.unreached(tags, &roots);
        self.refuse_incomplete(repository, &graph, &doomed).await?;
        doomed.blobs = self.unneeded(repository, &graph, &doomed, options).await?;
        Ok((graph, doomed))
    }

    /// The tags that the rules let go.
    async fn outdated(
        &self,
        repository: &Repository,
        graph: &Graph,
        options: &PruneOptions,
    ) -> Result<BTreeSet<Tag>, TreeError> {
        if options.keep_last.is_none() && options.keep_within.is_none() {
            return Ok(BTreeSet::new());
        }
        let mut ruled: Vec<Tag> = graph.tags.keys().cloned().collect();
        ruled.retain(|tag| rules::rule_is_about(options, tag));
        let names = ruled.iter().map(|tag| keys::manifest(repository, &Reference::Tag(tag.clone()))).collect();
        let written = self.written(names).await?;
        Ok(rules::outdated(options, ruled.into_iter().zip(written).collect()))
    }

    /// When keys were written, in their order.
    async fn written(&self, keys: Vec<Key>) -> Result<Vec<Option<SystemTime>>, TreeError> {
        let asked = stream::iter(keys).map(|key| async move { self.0.store.modified(&key).await });
        Ok(asked.buffered(QUESTIONS_AT_ONCE).try_collect().await?)
    }

    /// Refuses a repository of which something is lost that stays: what that needs can't be known.
    async fn refuse_incomplete(
        &self,
        repository: &Repository,
        graph: &Graph,
        doomed: &Doomed,
    ) -> Result<(), TreeError> {
        let incomplete = |lacks: String| Err(TreeError::Incomplete { repository: repository.clone(), lacks });
        if let Some((tag, digest)) = graph.unnamed_of_tags(doomed) {
            return incomplete(format!("manifest {digest}, which tag {tag} needs"));
        }
        for (index, absent) in graph.absent(doomed) {
            let Some(absent) = absent else { return incomplete(format!("the bytes of manifest {index}")) };
            let left_out = self.left_out(repository, &index).await?;
            if let Some(lost) = absent.iter().find(|child| !left_out.contains(child)) {
                return incomplete(format!("manifest {lost}, which index {index} needs"));
            }
        }
        Ok(())
    }

    /// The names of blobs that go: those that only manifests need which go, and others that no manifest needs, if they are old.
    async fn unneeded(
        &self,
        repository: &Repository,
        graph: &Graph,
        doomed: &Doomed,
        options: &PruneOptions,
    ) -> Result<BTreeSet<Digest>, TreeError> {
        let mut names = self.blob_names(repository).await?;
        for (_, node) in graph.manifests.iter().filter(|(digest, _)| !doomed.manifests.contains(*digest)) {
            node.needs.iter().flat_map(|needs| &needs.blobs).for_each(|blob| {
                names.remove(blob);
            });
        }
        let with_manifests = graph.blobs_only_of(&doomed.manifests);
        let mut unneeded = &names & &with_manifests;
        let others: Vec<Digest> = names.difference(&with_manifests).copied().collect();
        let written = self.written(others.iter().map(|digest| keys::blob(repository, digest)).collect()).await?;
        let old = others.into_iter().zip(written).filter(|(_, written)| options.is_old(*written));
        unneeded.extend(old.map(|(digest, _)| digest));
        Ok(unneeded)
    }

    /// The bytes that go with names, in a store with copies.
    async fn bytes_of_copies(&self, repository: &Repository, graph: &Graph, doomed: &Doomed) -> Result<u64, TreeError> {
        if self.0.store.naming() == Naming::Links {
            return Ok(0);
        }
        let needs = doomed.manifests.iter().filter_map(|digest| graph.needs(digest));
        let mut bytes = needs.map(|needs| needs.size).sum();
        for digest in &doomed.blobs {
            bytes += self.0.store.head(&keys::blob(repository, digest)).await?.map_or(0, |entry| entry.size);
        }
        Ok(bytes)
    }

    /// Whether a record is about an index that is gone, or a hint leads to nothing.
    async fn is_dead(&self, key: &Key, options: &PruneOptions) -> Result<bool, TreeError> {
        let about = match keys::recorded(key) {
            Some((repository, index)) => Some((keys::manifest(&repository, &index.into()), repository)),
            None => keys::hint_of(key).map(|(repository, blob)| (keys::blob(&repository, &blob), repository)),
        };
        match about {
            Some((name, repository)) if options.chooses(&repository) => self.is_nothing(&name).await,
            _ => Ok(false),
        }
    }

    /// Whether no name lies under a key, not even one that leads nowhere.
    pub(super) async fn is_nothing(&self, name: &Key) -> Result<bool, TreeError> {
        let store = &self.0.store;
        match store.target(name).await {
            Ok(None) => Ok(store.head(name).await?.is_none()),
            Ok(Some(_)) | Err(crate::store::StoreError::Escape { .. }) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Removes the records or hints below `top` that are dead: judged without the lock, and again under it.
    async fn sweep(&self, top: Key, options: &PruneOptions) -> Result<u64, TreeError> {
        let mut count = 0;
        let mut objects = self.below(top).ready_chunks(BATCH);
        while let Some(chunk) = objects.next().await {
            let mut dead = Vec::new();
            for key in chunk {
                let key = key?;
                if self.is_dead(&key, options).await? {
                    dead.push(key);
                }
            }
            if options.dry_run || dead.is_empty() {
                count += dead.len() as u64;
                continue;
            }
            let mut of: BTreeMap<Repository, Vec<Key>> = BTreeMap::new();
            for key in dead {
                if let Some(repository) = about(&key) {
                    of.entry(repository).or_default().push(key);
                }
            }
            for (repository, keys) in of {
                let sweep = |tree: Self| async move {
                    let mut count = 0;
                    for key in keys {
                        if tree.is_dead(&key, options).await? && tree.0.store.delete(&key).await? {
                            count += 1;
                        }
                    }
                    Ok(count)
                };
                match self.alone(&repository, sweep).await {
                    Ok(swept) => count += swept,
                    // The next run finds them.
                    Err(TreeError::Busy { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(count)
    }
}

/// The repository that a record or a hint is about.
fn about(key: &Key) -> Option<Repository> {
    let recorded = keys::recorded(key).map(|(repository, _)| repository);
    recorded.or_else(|| Some(keys::hint_of(key)?.0))
}

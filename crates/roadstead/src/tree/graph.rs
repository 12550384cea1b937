//! What a repository's names lead to, and what each manifest needs: read once, and then asked by whoever removes or checks.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::JoinSet;

use super::{Pointer, Tree, TreeError, keys};
use crate::image::MAX_DEPTH;
use crate::oci::{Digest, Kind, Manifest, Reference, Repository, Tag};
use crate::store::{Listed, StoreError};

/// How many manifests one task reads.
const CHUNK: usize = 256;
/// How many such tasks there are at once; the runtime has as many threads for them as the machine has processors.
const CHUNKS_AT_ONCE: usize = 8;
/// How many questions each task asks at once, for stores that are far away.
const QUESTIONS_AT_ONCE: usize = 16;

/// A repository's manifests: what its tags and digests lead to, and what each needs. A few hundred bytes for each manifest.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) tags: BTreeMap<Tag, Digest>,
    /// Without those that are [lists](Self::lists) and nothing else.
    pub(super) manifests: BTreeMap<Digest, Node>,
    /// What the fallback tags name: lists of referrers, which go with their subjects and need nothing.
    pub(super) lists: BTreeMap<Digest, Pointer>,
    /// Of the manifests, earlier lists of referrers, whose writers were killed before they took the names away.
    pub(super) superseded: BTreeSet<Digest>,
    /// Manifests whose bytes are others than their name says. They may need what can't be known.
    pub(super) damage: Vec<(Digest, TreeError)>,
    parents: BTreeMap<Digest, Vec<Digest>>,
    referrers: BTreeMap<Digest, Vec<Digest>>,
    tagged: BTreeMap<Digest, Vec<Tag>>,
}

/// A manifest by its digest.
pub(super) struct Node {
    pub(super) pointer: Pointer,
    /// Nothing is known where the bytes are gone or damaged.
    pub(super) needs: Option<Needs>,
}

/// What a manifest names.
pub(super) struct Needs {
    pub(super) children: Box<[Digest]>,
    /// Those that may be passed on.
    pub(super) blobs: Box<[Digest]>,
    pub(super) subject: Option<Digest>,
    pub(super) size: u64,
    /// An index that says nothing of its own, as lists of referrers do.
    bare_index: bool,
}

impl Needs {
    fn of(manifest: &Manifest) -> Self {
        let bare_index = manifest.kind() == Kind::Index
            && manifest.subject().is_none()
            && manifest.artifact_type().is_none()
            && manifest.annotations().is_empty();
        Self {
            children: manifest.children().map(|child| child.digest).collect(),
            blobs: { manifest.blobs() }.filter(|blob| !blob.is_nondistributable()).map(|blob| blob.digest).collect(),
            subject: manifest.subject().map(|subject| subject.digest),
            size: manifest.bytes().len() as u64,
            bare_index,
        }
    }
}

impl Tree {
    /// Everything that a repository names. A name that leads nowhere, or astray, is left out.
    pub(super) async fn graph(&self, repository: &Repository) -> Result<Graph, TreeError> {
        let mut graph = Graph::default();
        let mut digests = Vec::new();
        let mut names = self.0.store.list(&keys::folder(repository, keys::MANIFESTS));
        while let Some(listed) = names.try_next().await? {
            let Listed::Object(key) = listed else { continue };
            match key.name().parse::<Reference>() {
                Ok(Reference::Digest(digest)) => digests.push(digest),
                Ok(Reference::Tag(tag)) => {
                    let Some(pointer) = self.resolve_sound(repository, &Reference::Tag(tag.clone())).await? else {
                        continue;
                    };
                    if tag.is_referrers_fallback() {
                        graph.lists.insert(pointer.digest, pointer);
                    } else {
                        graph.tags.insert(tag, pointer.digest);
                    }
                }
                Err(_) => {}
            }
        }
        let (tree, repository) = (self.clone(), repository.clone());
        let read = spread(digests, move |digest| {
            let (tree, repository) = (tree.clone(), repository.clone());
            async move { tree.node(&repository, digest).await }
        });
        for (digest, node, damage) in read.await?.into_iter().flatten() {
            graph.damage.extend(damage.map(|damage| (digest, damage)));
            graph.manifests.insert(digest, node);
        }
        graph.connect();
        Ok(graph)
    }

    async fn node(
        &self,
        repository: &Repository,
        digest: Digest,
    ) -> Result<Option<(Digest, Node, Option<TreeError>)>, TreeError> {
        let Some(pointer) = self.resolve_sound(repository, &Reference::Digest(digest)).await? else { return Ok(None) };
        let (needs, damage) = match self.manifest(&pointer).await {
            Err(error @ TreeError::Damaged { .. }) => (None, Some(error)),
            other => (other?.as_ref().map(Needs::of), None),
        };
        Ok(Some((digest, Node { pointer, needs }, damage)))
    }

    /// What a reference leads to; `None` also where it leads astray.
    pub(super) async fn resolve_sound(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Pointer>, TreeError> {
        match self.resolve(repository, reference).await {
            Err(TreeError::Misled { .. } | TreeError::Store(StoreError::Escape { .. })) => Ok(None),
            other => other,
        }
    }
}

impl Graph {
    fn connect(&mut self) {
        let tagged: BTreeSet<Digest> = self.tags.values().copied().collect();
        // A list that a tag names as well is an image.
        self.lists.retain(|digest, _| !tagged.contains(digest));
        self.manifests.retain(|digest, _| !self.lists.contains_key(digest));
        for (tag, digest) in &self.tags {
            self.tagged.entry(*digest).or_default().push(tag.clone());
        }
        let superseded = self.manifests.iter().filter(|(digest, node)| {
            node.needs.as_ref().is_some_and(|needs| self.is_superseded_list(digest, needs))
        });
        self.superseded = superseded.map(|(digest, _)| *digest).collect();
        for (digest, node) in &self.manifests {
            let Some(needs) = node.needs.as_ref().filter(|_| !self.superseded.contains(digest)) else { continue };
            for child in &needs.children {
                self.parents.entry(*child).or_default().push(*digest);
            }
            if let Some(subject) = needs.subject {
                self.referrers.entry(subject).or_default().push(*digest);
            }
        }
    }

    /// Whether a digest names something here: a manifest, or a list of referrers.
    pub(super) fn is_named(&self, digest: &Digest) -> bool {
        self.manifests.contains_key(digest) || self.lists.contains_key(digest)
    }

    pub(super) fn needs(&self, digest: &Digest) -> Option<&Needs> {
        self.manifests.get(digest)?.needs.as_ref()
    }

    /// The indexes that name a manifest.
    pub(super) fn parents(&self, digest: &Digest) -> &[Digest] {
        self.parents.get(digest).map_or(&[], Vec::as_slice)
    }

    /// What refers to a manifest.
    pub(super) fn referrers(&self, digest: &Digest) -> &[Digest] {
        self.referrers.get(digest).map_or(&[], Vec::as_slice)
    }

    /// By subject, what refers to it.
    pub(super) fn subjects(&self) -> &BTreeMap<Digest, Vec<Digest>> {
        &self.referrers
    }

    /// The tags that name a manifest.
    pub(super) fn tagged(&self, digest: &Digest) -> &[Tag] {
        self.tagged.get(digest).map_or(&[], Vec::as_slice)
    }

    /// Everything that is needed by some manifests: themselves, their children, and what refers to any of these.
    pub(super) fn reach(&self, roots: impl IntoIterator<Item = Digest>) -> BTreeSet<Digest> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<Digest> = roots.into_iter().collect();
        while let Some(digest) = next.pop() {
            if self.manifests.contains_key(&digest) && reached.insert(digest) {
                next.extend(self.needs(&digest).into_iter().flat_map(|needs| needs.children.iter()));
                next.extend(self.referrers(&digest));
            }
        }
        reached
    }

    /// Whether a manifest is an earlier list of referrers, whose writer was killed before it took the name away: an index
    /// by digest alone that says nothing of its own, and whose entries, as far as they are there, all refer to one subject.
    fn is_superseded_list(&self, digest: &Digest, needs: &Needs) -> bool {
        if !needs.bare_index || !self.tagged(digest).is_empty() {
            return false;
        }
        let mut subjects = { needs.children.iter() }.filter_map(|child| Some(self.needs(child)?.subject));
        let first = subjects.next().flatten();
        first.is_some() && subjects.all(|subject| subject == first)
    }

    /// How many levels of manifests are below one; a digest can't be part of itself, but a limit costs nothing.
    pub(super) fn height(&self, digest: &Digest, depth: usize) -> usize {
        let Some(needs) = self.needs(digest).filter(|_| depth <= MAX_DEPTH) else { return 0 };
        let below = needs.children.iter().filter(|child| self.manifests.contains_key(child));
        below.map(|child| 1 + self.height(child, depth + 1)).max().unwrap_or(0)
    }
}

/// Does `work` on each item, on all threads of the runtime: questions to a directory are answered where they are asked, so
/// one task alone would do them one by one.
pub(super) async fn spread<T, R, F>(
    items: Vec<T>,
    work: impl Fn(T) -> F + Clone + Send + 'static,
) -> Result<Vec<R>, TreeError>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Future<Output = Result<R, TreeError>> + Send + 'static,
{
    let mut results = Vec::with_capacity(items.len());
    let mut items = items.into_iter().peekable();
    // Who stops waiting stops the tasks.
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < CHUNKS_AT_ONCE && items.peek().is_some() {
            let chunk: Vec<T> = items.by_ref().take(CHUNK).collect();
            let work = work.clone();
            tasks.spawn(async move {
                stream::iter(chunk).map(work).buffer_unordered(QUESTIONS_AT_ONCE).try_collect::<Vec<R>>().await
            });
        }
        match tasks.join_next().await {
            None => return Ok(results),
            Some(Ok(done)) => results.extend(done?),
            Some(Err(e)) => match e.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(e) => {
                    let (operation, what) = ("running", "a task".to_owned());
                    return Err(StoreError::Io { operation, what, source: e.into() }.into());
                }
            },
        }
    }
}

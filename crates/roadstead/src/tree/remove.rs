//! Removing names, and with them what nothing else needs: lists first, then tags, manifests, blobs, and last the bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream;
use futures::{StreamExt as _, TryStreamExt as _, future};
use tokio_util::task::AbortOnDropHandle;

use super::graph::{About, Graph, Node};
use super::keys::Content;
use super::lists::{Change, Walked};
use super::needs::Known;
use super::{Pointer, Tree, TreeError, keys, spread};
use crate::oci::{Digest, Reference, Repository, Tag};
use crate::store::{Key, Listed, Naming};

/// What a removal took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Tags.
    pub tags: Vec<Tag>,
    /// Manifests that no name of the repository leads to any more.
    pub manifests: Vec<Digest>,
    /// Bytes that no repository names any more.
    pub bytes: u64,
}

/// The repositories beside one, in a store where they share bytes.
type Others = Option<AbortOnDropHandle<Result<Vec<Repository>, TreeError>>>;

/// What goes of a repository.
#[derive(Default)]
pub(super) struct Doomed {
    pub(super) tags: BTreeSet<Tag>,
    pub(super) manifests: BTreeSet<Digest>,
    /// Names of blobs that no manifest needs which stays.
    pub(super) blobs: BTreeSet<Digest>,
}

impl Doomed {
    pub(super) fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.manifests.is_empty() && self.blobs.is_empty()
    }
}

/// What a repository named and names no more.
#[derive(Default)]
pub(super) struct Released {
    /// Bytes that other repositories may name, in a store with links.
    pub(super) contents: BTreeMap<Content, Key>,
    /// How many bytes are gone, in a store with copies.
    pub(super) bytes: u64,
}

impl Tree {
    /// Removes a tag, a manifest, or a whole repository, and what nothing in the repository needs then: a tag's manifest, if no
    /// other tag and no index names it; an index's children and what refers to a manifest alike; their blobs; and of the bytes, those that no repository
    /// names. What was added by digest alone, and isn't part of what is removed, stays.
    ///
    /// Waits until nobody writes to the tree, since a writer may rely on bytes that nothing names yet; in a store whose locks
    /// don't reach everybody, until nobody writes to the repository.
    ///
    /// # Errors
    ///
    /// [`TreeError::Unknown`] if there is no such thing, [`TreeError::Needed`] if a tag or an index needs the manifest,
    /// [`TreeError::Busy`] if writers don't let go of it.
    pub async fn remove(&self, repository: &Repository, what: Option<&Reference>) -> Result<Removed, TreeError> {
        self.alone(repository, |tree| async move { tree.remove_now(repository, what).await }).await
    }

    async fn remove_now(&self, repository: &Repository, what: Option<&Reference>) -> Result<Removed, TreeError> {
        let others = self.others(repository);
        let Some(reference) = what else {
            let graph = self.graph(repository).await?;
            if graph.manifests.is_empty() && graph.tags.is_empty() {
                return Err(TreeError::Unknown(display(repository, None)));
            }
            let tags = graph.tags.keys().cloned().collect();
            let manifests = graph.manifests.keys().copied().collect();
            let doomed = Doomed { tags, manifests, ..Doomed::default() };
            return self.take_away(repository, graph, doomed, others, &Known::default()).await;
        };
        let (graph, doomed, known) = self.doom(repository, reference, false).await?;
        self.take_away(repository, graph, doomed, others, &known).await
    }

    /// The other repositories, which a directory is asked for while the manifests of this one are read. Whoever calls is
    /// [alone](Self::alone), so that no other comes meanwhile.
    fn others(&self, repository: &Repository) -> Others {
        let (tree, repository) = (self.clone(), repository.clone());
        let others = async move {
            let others = tree.holders().try_filter(|other| future::ready(*other != repository));
            others.try_collect().await
        };
        (self.0.store.naming() == Naming::Links).then(|| AbortOnDropHandle::new(tokio::spawn(others)))
    }

    /// Removes a manifest as [`remove`](Self::remove) does, also if indexes name it: each then lacks it on purpose, and has a
    /// record of that.
    ///
    /// # Errors
    ///
    /// As [`remove`](Self::remove); [`TreeError::Needed`] only if a tag names the manifest.
    pub async fn leave_out(&self, repository: &Repository, digest: &Digest) -> Result<Removed, TreeError> {
        self.alone(repository, |tree| async move { tree.leave_out_now(repository, digest).await }).await
    }

    async fn leave_out_now(&self, repository: &Repository, digest: &Digest) -> Result<Removed, TreeError> {
        let others = self.others(repository);
        let (graph, doomed, known) = self.doom(repository, &Reference::Digest(*digest), true).await?;
        // Nobody may find an index whose child is absent without a word.
        for index in graph.parents(digest) {
            let mut absent = self.left_out(repository, index).await?;
            if absent.insert(*digest) {
                self.put_left_out(&keys::left_out(repository, index), &absent).await?;
            }
        }
        self.take_away(repository, graph, doomed, others, &known).await
    }

    /// Removes names of a repository that somebody has chosen, but no manifest that something needs which stays, and no blob that
    /// such a manifest needs.
    ///
    /// # Errors
    ///
    /// [`TreeError::Busy`] if writers don't let go of it; [`TreeError::Damaged`] if a manifest that stays can't be read,
    /// so that nobody knows what it needs.
    pub(crate) async fn remove_named(
        &self,
        repository: &Repository,
        tags: BTreeSet<Tag>,
        manifests: BTreeSet<Digest>,
        blobs: BTreeSet<Digest>,
    ) -> Result<(), TreeError> {
        self.alone(repository, |tree| async move { tree.remove_named_now(repository, tags, manifests, blobs).await })
            .await
    }

    async fn remove_named_now(
        &self,
        repository: &Repository,
        tags: BTreeSet<Tag>,
        manifests: BTreeSet<Digest>,
        mut blobs: BTreeSet<Digest>,
    ) -> Result<(), TreeError> {
        let mut graph = self.graph(repository).await?;
        if let Some((_, error)) =
            { std::mem::take(&mut graph.damage).into_iter() }.find(|(at, _)| !manifests.contains(at))
        {
            return Err(error);
        }
        let mut doomed = Doomed { tags, manifests, blobs: BTreeSet::new() };
        doomed.tags.retain(|tag| graph.tags.contains_key(tag));
        doomed.manifests.retain(|digest| graph.manifests.contains_key(digest));
        // What is needed stays, and so does what that needs in turn.
        loop {
            let needed: BTreeSet<Digest> = { doomed.manifests.iter() }
                .filter(|digest| graph.needed_by(digest, &doomed).is_some())
                .copied()
                .collect();
            if needed.is_empty() {
                break;
            }
            doomed.manifests.retain(|digest| !needed.contains(digest));
        }
        doomed.manifests.extend(graph.superseded_by(&doomed));
        let stays = |digest: &&Digest| !doomed.manifests.contains(*digest);
        for needs in graph.manifests.keys().filter(stays).filter_map(|digest| graph.needs(digest)) {
            blobs.retain(|blob| !needs.blobs.contains(blob));
        }
        doomed.blobs = blobs;
        let Released { mut contents, .. } = self.remove_names(repository, &graph, &doomed).await?;
        if self.0.store.naming() == Naming::Links {
            let others = self.holders().try_filter(|other| future::ready(other != repository)).boxed();
            self.retain_unnamed(others, &mut contents).await?;
            for content in contents.values() {
                self.0.store.discard(content).await?;
            }
        }
        Ok(())
    }

    /// What goes with a tag or a manifest, and the repository that it goes from; with `force` a manifest goes that indexes name.
    ///
    /// Of a large repository next to all manifests have nothing to do with what goes. What they name is [known](Known), or
    /// they are read, since one may need a blob of it, but not parsed. What goes may bring what refers to it, about which they have to be asked again.
    async fn doom(
        &self,
        repository: &Repository,
        reference: &Reference,
        force: bool,
    ) -> Result<(Graph, Doomed, Arc<Known>), TreeError> {
        let unknown = || TreeError::Unknown(display(repository, Some(reference)));
        let root = self.resolve_sound(repository, reference).await?.ok_or_else(unknown)?.digest;
        let mut about = Arc::new(self.about(repository, root).await?);
        Arc::make_mut(&mut about).known = Arc::new(self.known_needs(repository).await);
        loop {
            let mut graph = self.graph_about(repository, Some(&about)).await?;
            let unclear = graph.unclear();
            if !unclear.is_empty() {
                let about = Arc::make_mut(&mut about);
                about.known = Arc::new(about.known.with(graph.news, |_| true));
                unclear.iter().for_each(|digest| _ = about.add_manifest(digest));
                continue;
            }
            // A manifest whose bytes are damaged may need what can't be known, so nothing is removed beside one; but itself it
            // can go.
            if let Some((_, error)) = std::mem::take(&mut graph.damage).into_iter().find(|(digest, _)| *digest != root)
            {
                return Err(error);
            }
            let mut doomed = Doomed::default();
            match reference {
                Reference::Tag(tag) => {
                    if !graph.tags.contains_key(tag) {
                        return Err(unknown());
                    }
                    doomed.tags.insert(tag.clone());
                    if graph.needed_by(&root, &doomed).is_none() {
                        graph.doom_below(root, &mut doomed);
                    }
                }
                Reference::Digest(digest) => {
                    if !graph.manifests.contains_key(digest) {
                        return Err(unknown());
                    }
                    let by_tag = graph.tagged(digest).first().map(|tag| format!("tag {tag}"));
                    let needed_by = if force { by_tag } else { graph.needed_by(digest, &doomed) };
                    if let Some(needed_by) = needed_by {
                        return Err(TreeError::Needed { what: display(repository, Some(reference)), needed_by });
                    }
                    graph.doom_below(*digest, &mut doomed);
                }
            }
            let mut more = About::clone(&about);
            let news = doomed.manifests.iter().filter(|digest| more.add(digest, graph.needs(digest))).count();
            if news == 0 {
                return Ok((graph, doomed, more.known));
            }
            more.known = Arc::new(more.known.with(graph.news, |_| true));
            about = Arc::new(more);
        }
    }

    /// Removes names, the names of the blobs that only they need, and the bytes that no repository names then.
    async fn take_away(
        &self,
        repository: &Repository,
        mut graph: Graph,
        mut doomed: Doomed,
        others: Others,
        known: &Known,
    ) -> Result<Removed, TreeError> {
        doomed.manifests.extend(graph.superseded_by(&doomed));
        doomed.blobs = if graph.is_all(&doomed) {
            // What an interrupted copy left, and what somebody else put there, goes with its repository.
            self.blob_names(repository).await?
        } else {
            graph.blobs_only_of(&doomed.manifests)
        };
        let released = self.remove_names(repository, &graph, &doomed).await?;
        let bytes = self.remove_bytes(released, others).await?;
        let news = std::mem::take(&mut graph.news);
        self.keep_needs(repository, known, news, |image| graph.others.contains(image)).await;
        let Doomed { tags, manifests, .. } = doomed;
        Ok(Removed { tags: tags.into_iter().collect(), manifests: manifests.into_iter().collect(), bytes })
    }

    /// Removes of what a repository named the bytes that none of the others names. Whoever calls is [alone](Self::alone).
    async fn remove_bytes(&self, released: Released, others: Others) -> Result<u64, TreeError> {
        let Released { mut contents, mut bytes } = released;
        if let Some(others) = others {
            let others: Vec<Repository> = spread::done(others.await)?;
            self.retain_unnamed(stream::iter(others).map(Ok).boxed(), &mut contents).await?;
            for content in contents.values() {
                bytes += self.0.store.head(content).await?.map_or(0, |entry| entry.size);
                self.0.store.discard(content).await?;
            }
        }
        Ok(bytes)
    }

    /// Removes a tag and nothing else, as the distribution API does it: the manifest stays under its digest.
    ///
    /// # Errors
    ///
    /// [`TreeError::Unknown`] if there is no such tag, [`TreeError::Busy`] if writers don't let go of it.
    pub async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), TreeError> {
        self.alone(repository, |tree| async move { tree.delete_tag_now(repository, tag).await }).await
    }

    async fn delete_tag_now(&self, repository: &Repository, tag: &Tag) -> Result<(), TreeError> {
        let store = &self.0.store;
        let unlisted = self.unlist(repository, tag).await?;
        if unlisted.is_none() {
            let mut tags = self.read_tags(repository).await?;
            if !tags.remove(tag) {
                return Err(TreeError::Unknown(display(repository, Some(&Reference::Tag(tag.clone())))));
            }
            self.write_list(repository, &tags).await?;
        }
        store.sync().await?;
        store.discard(&keys::manifest(repository, &Reference::Tag(tag.clone()))).await?;
        if let Some(casualties) = unlisted {
            self.note_list(repository, casualties).await?;
        }
        Ok(store.sync().await?)
    }

    /// Removes a manifest and the tags that name it, as the distribution API does it: what it needs stays, for
    /// [`prune`](Self::prune) to find. Indexes that name it have a record then that they lack it on purpose.
    ///
    /// # Errors
    ///
    /// [`TreeError::Unknown`] if there is no such manifest, [`TreeError::Busy`] if writers don't let go of it.
    pub async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<(), TreeError> {
        self.alone(repository, |tree| async move { tree.delete_manifest_now(repository, digest).await }).await
    }

    async fn delete_manifest_now(&self, repository: &Repository, digest: &Digest) -> Result<(), TreeError> {
        let others = self.others(repository);
        let mut graph = self.graph(repository).await?;
        if !graph.manifests.contains_key(digest) {
            return Err(TreeError::Unknown(display(repository, Some(&Reference::Digest(*digest)))));
        }
        let damage = std::mem::take(&mut graph.damage);
        if let Some((_, error)) = damage.into_iter().find(|(damaged, _)| damaged != digest) {
            return Err(error);
        }
        for index in graph.parents(digest) {
            let mut absent = self.left_out(repository, index).await?;
            if absent.insert(*digest) {
                self.put_left_out(&keys::left_out(repository, index), &absent).await?;
            }
        }
        let tags = graph.tagged(digest).iter().cloned().collect();
        let mut doomed = Doomed { tags, manifests: BTreeSet::from([*digest]), ..Doomed::default() };
        doomed.manifests.extend(graph.superseded_by(&doomed));
        let released = self.remove_names(repository, &graph, &doomed).await?;
        self.remove_bytes(released, others).await?;
        Ok(self.0.store.sync().await?)
    }

    /// Removes a blob of a repository that none of its manifests needs.
    ///
    /// # Errors
    ///
    /// [`TreeError::Unknown`] if there is no such blob, [`TreeError::Needed`] if a manifest needs it, [`TreeError::Busy`] if
    /// writers don't let go of it.
    pub async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), TreeError> {
        self.alone(repository, |tree| async move { tree.delete_blob_now(repository, digest).await }).await
    }

    async fn delete_blob_now(&self, repository: &Repository, digest: &Digest) -> Result<(), TreeError> {
        if self.0.store.head(&keys::blob(repository, digest)).await?.is_none() {
            return Err(TreeError::Unknown(display(repository, Some(&Reference::Digest(*digest)))));
        }
        let others = self.others(repository);
        let mut graph = self.graph(repository).await?;
        // What is damaged may need anything.
        if let Some((_, error)) = graph.damage.pop() {
            return Err(error);
        }
        let needs = |manifest: &&Digest| graph.needs(manifest).is_some_and(|needs| needs.blobs.contains(digest));
        if let Some(manifest) = graph.manifests.keys().find(needs) {
            let what = display(repository, Some(&Reference::Digest(*digest)));
            return Err(TreeError::Needed { what, needed_by: format!("manifest {manifest}") });
        }
        let mut released = Released::default();
        self.remove_blob_names(repository, &BTreeSet::from([*digest]), &mut released).await?;
        self.remove_bytes(released, others).await?;
        Ok(self.0.store.sync().await?)
    }

    /// The blobs that a repository names.
    pub(super) async fn blob_names(&self, repository: &Repository) -> Result<BTreeSet<Digest>, TreeError> {
        let names = self.0.store.list(&keys::folder(repository, keys::BLOBS)).map_err(TreeError::from);
        let digests = names.try_filter_map(async |listed| match listed {
            Listed::Object(key) => Ok(key.name().parse::<Digest>().ok()),
            Listed::Prefix(_) => Ok(None),
        });
        digests.try_collect().await
    }

    /// Removes names of a repository in the order of removals. Whoever calls is [alone](Self::alone).
    pub(super) async fn remove_names(
        &self,
        repository: &Repository,
        graph: &Graph,
        doomed: &Doomed,
    ) -> Result<Released, TreeError> {
        let store = &self.0.store;
        let mut released = Released::default();
        let last = graph.is_all(doomed);
        if last {
            self.delete_lists(repository).await?;
        } else if !doomed.tags.is_empty() {
            self.write_list(repository, &(&graph.listed - &doomed.tags)).await?;
        }
        if last || !doomed.tags.is_empty() {
            store.sync().await?;
        }
        for tag in &doomed.tags {
            store.discard(&keys::manifest(repository, &Reference::Tag(tag.clone()))).await?;
        }
        if !doomed.tags.is_empty() {
            store.sync().await?;
        }

        let nodes = || doomed.manifests.iter().filter_map(|digest| Some((digest, graph.manifests.get(digest)?)));
        let mut referrers: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        for (digest, node) in nodes() {
            if let Some(subject) = node.needs.as_ref().and_then(|needs| needs.subject) {
                referrers.entry(subject).or_default().insert(*digest);
            }
        }
        let walked = Walked::default();
        for (subject, referrers) in &referrers {
            let orphan = self.change_referrers(repository, subject, Change::Remove(referrers), &walked).await?;
            orphan.iter().for_each(|pointer| released.manifest(pointer));
        }
        // A parent goes before its children: the order in which they are named, turned round, a level at a time.
        let mut levels: BTreeMap<Reverse<usize>, Vec<&Node>> = BTreeMap::new();
        for (digest, node) in nodes() {
            levels.entry(Reverse(graph.height(digest, 0))).or_default().push(node);
        }
        for level in levels.values() {
            for Node { pointer, needs } in level {
                store.discard(&keys::manifest(repository, &pointer.digest.into())).await?;
                store.discard(&keys::left_out(repository, &pointer.digest)).await?;
                match store.naming() {
                    Naming::Links => released.manifest(pointer),
                    Naming::Copies => released.bytes += needs.as_ref().map_or(0, |needs| needs.size),
                }
            }
            store.sync().await?;
        }
        if last {
            store.discard(&keys::needs(repository)).await?;
            graph.lists.values().for_each(|pointer| released.manifest(pointer));
            for folder in [keys::MANIFESTS, keys::REFERRERS] {
                let names: Vec<Listed> = store.list(&keys::folder(repository, folder)).try_collect().await?;
                for name in names {
                    if let Listed::Object(key) = name
                        && key.name().parse::<Reference>().is_ok()
                    {
                        store.discard(&key).await?;
                    }
                }
            }
        }
        self.remove_blob_names(repository, &doomed.blobs, &mut released).await?;
        Ok(released)
    }

    /// Removes names of blobs. Whoever calls is [alone](Self::alone).
    pub(super) async fn remove_blob_names(
        &self,
        repository: &Repository,
        blobs: &BTreeSet<Digest>,
        released: &mut Released,
    ) -> Result<(), TreeError> {
        let store = &self.0.store;
        for digest in blobs {
            let name = keys::blob(repository, digest);
            match store.naming() {
                Naming::Links => {
                    released.contents.insert(Content::Blob(*digest), keys::blob_content(digest));
                }
                Naming::Copies => {
                    released.bytes += store.head(&name).await?.map_or(0, |entry| entry.size);
                    store.discard(&keys::hint(repository, digest)).await?;
                }
            }
            store.discard(&name).await?;
        }
        if !blobs.is_empty() {
            store.sync().await?;
        }
        Ok(())
    }
}

impl Released {
    fn manifest(&mut self, pointer: &Pointer) {
        self.contents.insert(Content::Manifest(pointer.media_type.clone(), pointer.digest), pointer.at.clone());
    }
}

impl Graph {
    /// Whether no manifest of the repository stays, and no tag.
    pub(super) fn is_all(&self, doomed: &Doomed) -> bool {
        self.others.is_empty()
            && self.other_tags == 0
            && self.manifests.keys().all(|digest| doomed.manifests.contains(digest))
            && self.tags.keys().all(|tag| doomed.tags.contains(tag))
    }

    /// The tag or index that needs a manifest, among those that stay.
    fn needed_by(&self, digest: &Digest, doomed: &Doomed) -> Option<String> {
        let tag = self.tagged(digest).iter().find(|tag| !doomed.tags.contains(*tag));
        let index = || self.parents(digest).iter().find(|parent| !doomed.manifests.contains(parent));
        tag.map(|tag| format!("tag {tag}")).or_else(|| index().map(|digest| format!("index {digest}")))
    }

    /// Dooms a manifest, and of its children and of what refers to it those that nothing else needs.
    fn doom_below(&self, root: Digest, doomed: &mut Doomed) {
        let mut next = vec![root];
        while let Some(digest) = next.pop() {
            if !self.manifests.contains_key(&digest) || !doomed.manifests.insert(digest) {
                continue;
            }
            let children = self.needs(&digest).into_iter().flat_map(|needs| needs.children.iter());
            for below in children.chain(self.referrers(&digest)) {
                if self.needed_by(below, doomed).is_none() {
                    next.push(*below);
                }
            }
        }
    }

    /// Earlier lists of referrers that name what goes.
    fn superseded_by(&self, doomed: &Doomed) -> Vec<Digest> {
        let names_doomed = |list: &&Digest| {
            self.needs(list).is_some_and(|needs| needs.children.iter().any(|child| doomed.manifests.contains(child)))
        };
        self.superseded.iter().filter(names_doomed).copied().collect()
    }

    /// The blobs that some manifests need, and none of the others.
    pub(super) fn blobs_only_of(&self, manifests: &BTreeSet<Digest>) -> BTreeSet<Digest> {
        let needed = |digest: &Digest| self.needs(digest).into_iter().flat_map(|needs| needs.blobs.iter().copied());
        let mut blobs: BTreeSet<Digest> = manifests.iter().flat_map(needed).collect();
        for kept in self.manifests.keys().filter(|digest| !manifests.contains(digest)) {
            for blob in needed(kept) {
                blobs.remove(&blob);
            }
        }
        &blobs - &self.needed_by_others
    }
}

/// A name as people write it.
pub(super) fn display(repository: &Repository, what: Option<&Reference>) -> String {
    match what {
        None => repository.to_string(),
        Some(Reference::Tag(tag)) => format!("{repository}:{tag}"),
        Some(Reference::Digest(digest)) => format!("{repository}@{digest}"),
    }
}

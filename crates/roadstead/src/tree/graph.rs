//! What a repository's names lead to, and what each manifest needs: read once, and then asked by whoever removes or checks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _, future};

use super::needs::{Image, Known};
use super::spread::{CHUNK, chunks};
use super::{Pointer, Tree, TreeError, keys};
use crate::image::MAX_DEPTH;
use crate::oci::{Digest, Kind, MAX_MANIFEST_SIZE, Manifest, MediaType, Reference, Repository, Tag};
use crate::store::{Key, Listed, Naming, StoreError};

/// A repository's manifests: what its tags and digests lead to, and what each needs. A few hundred bytes for each manifest.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) tags: BTreeMap<Tag, Digest>,
    /// All tags that are listed, wherever they lead.
    pub(super) listed: BTreeSet<Tag>,
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
    /// If only some manifests were [asked about](About): the images that have nothing to do with them,
    pub(super) others: HashSet<Digest>,
    /// how many tags name such an image,
    pub(super) other_tags: usize,
    /// and what of the blobs that were asked about these need.
    pub(super) needed_by_others: BTreeSet<Digest>,
    /// Of the others, what was [not known](Known) yet.
    pub(super) news: Vec<Image>,
}

/// A manifest by its digest.
pub(super) struct Node {
    pub(super) pointer: Pointer,
    /// Nothing is known where the bytes are gone or damaged.
    pub(super) needs: Option<Needs>,
}

/// What is known of a manifest.
enum Read {
    /// What it needs, and what is wrong with its bytes.
    Node(Box<(Node, Option<TreeError>)>),
    /// Only that it is none of those that were asked about and refers to none.
    Other(Digest, Other),
}

/// An image that has nothing to do with the manifests that were asked about.
struct Other {
    /// Which of the blobs that were asked about it needs.
    blobs: Vec<Digest>,
    /// What it names, if that is worth to be known.
    news: Option<Image>,
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

/// What somebody wants to know who needs it.
#[derive(Default, Clone)]
pub(super) struct About {
    manifests: BTreeSet<Digest>,
    blobs: BTreeSet<Digest>,
    /// How their digits begin: next to all digests of other images are told from these without being parsed.
    beginnings: HashSet<[u8; BEGINNING]>,
    /// What was known of the repository's images before.
    pub(super) known: Arc<Known>,
}

/// How many digits of a digest tell it from nearly all others.
const BEGINNING: usize = 8;

impl About {
    /// Adds what a manifest is and names. Returns whether that was new.
    pub(super) fn add(&mut self, digest: &Digest, needs: Option<&Needs>) -> bool {
        let mut new = self.add_manifest(digest);
        if let Some(needs) = needs {
            needs.children.iter().for_each(|child| new |= self.add_manifest(child));
            needs.blobs.iter().for_each(|blob| new |= self.add_blob(blob));
        }
        new
    }

    /// Adds a manifest, whatever it names. Returns whether that was new.
    pub(super) fn add_manifest(&mut self, digest: &Digest) -> bool {
        self.beginnings.extend(digest.hex().as_bytes().first_chunk());
        self.manifests.insert(*digest)
    }

    fn add_blob(&mut self, digest: &Digest) -> bool {
        self.beginnings.extend(digest.hex().as_bytes().first_chunk());
        self.blobs.insert(*digest)
    }

    /// Everything in a text that is a digest and may be one of those.
    fn digests_in(&self, text: &[u8]) -> impl Iterator<Item = Digest> {
        digests_in(text, |digits| self.beginnings.contains(digits))
    }

    /// What a manifest needs of the blobs, without parsing it, if it has nothing to do with the manifests: an image whose text
    /// has none of their digests refers to none of them, and what it needs of the blobs is among the digests that it has. `None`
    /// if that can't be said.
    fn other(&self, pointer: &Pointer, bytes: &Bytes) -> Option<Other> {
        let is_image = IMAGES.contains(&pointer.media_type) && !self.manifests.contains(&pointer.digest);
        // What is escaped may be a digest.
        if !is_image || bytes.contains(&b'\\') || pointer.digest.algorithm().digest(bytes) != pointer.digest {
            return None;
        }
        let mut blobs = Vec::new();
        for digest in self.digests_in(bytes) {
            if self.manifests.contains(&digest) {
                return None;
            }
            blobs.extend(self.blobs.contains(&digest).then_some(digest));
        }
        Some(Other { blobs, news: Image::new(&pointer.digest, digests_in(bytes, |_| true)) })
    }
}

/// Everything in a text that is a digest whose first digits `may` be of interest.
pub(super) fn digests_in(text: &[u8], may: impl Fn(&[u8; BEGINNING]) -> bool) -> impl Iterator<Item = Digest> {
    memchr::memchr_iter(b':', text).filter_map(move |colon| {
        let (before, after) = (&text[..colon], &text[colon + 1..]);
        if !after.first_chunk().is_some_and(&may) {
            return None;
        }
        let begin = colon.checked_sub(6).filter(|begin| before[*begin..].starts_with(b"sha"))?;
        let digits = after.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        std::str::from_utf8(&text[begin..=colon + digits]).ok()?.parse().ok()
    })
}

/// The types of what has no children.
pub(super) const IMAGES: [MediaType; 2] = [MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST];

impl Tree {
    /// Everything that a repository names. A name that leads nowhere, or astray, is left out.
    pub(super) async fn graph(&self, repository: &Repository) -> Result<Graph, TreeError> {
        self.graph_about(repository, None).await
    }

    /// Everything that a repository names, or of it what has to do with some manifests and blobs: of the others most are not
    /// parsed, and only counted.
    pub(super) async fn graph_about(
        &self,
        repository: &Repository,
        about: Option<&Arc<About>>,
    ) -> Result<Graph, TreeError> {
        let mut graph = Graph::default();
        let mut digests = Vec::new();
        let asked = about.map(|about| about.known.ask(&about.manifests, &about.blobs));
        // What is listed first is asked about while the folder is read on.
        let names = self.0.store.list(&keys::folder(repository, keys::MANIFESTS)).map_err(TreeError::from);
        let tags = names.try_filter_map(|listed| {
            let Listed::Object(key) = listed else { return future::ok(None) };
            future::ok(match key.name().parse() {
                Ok(Reference::Tag(tag)) => Some(tag),
                Ok(Reference::Digest(digest)) => {
                    digests.push(digest);
                    None
                }
                Err(_) => None,
            })
        });
        let tags = self.resolve_all(repository, tags.try_chunks(CHUNK).map_err(|e| e.1).boxed()).await?;
        let (fallbacks, tags): (Vec<_>, Vec<_>) = tags.into_iter().partition(|(tag, _)| tag.is_referrers_fallback());
        graph.lists.extend(fallbacks.into_iter().filter_map(|(_, pointer)| pointer.map(|at| (at.digest, at))));
        graph.listed = tags.iter().map(|(tag, _)| tag.clone()).collect();
        let mut tagged = HashMap::with_capacity(tags.len());
        for (tag, pointer) in tags {
            let Some(pointer) = pointer else { continue };
            let digest = pointer.digest;
            // An index that has a tag is no list that a killed writer left, whatever it is about.
            let is_other = about.is_some_and(|about| !about.manifests.contains(&digest))
                && IMAGES.contains(&pointer.media_type)
                && !graph.lists.contains_key(&digest);
            if is_other {
                graph.other_tags += 1;
            } else {
                graph.tags.insert(tag, digest);
            }
            if self.0.store.naming() == Naming::Links {
                // Names of one manifest lead to the same bytes, so that the one by digest need not be asked.
                tagged.insert(digest, pointer);
            }
        }
        if let Some((about, asked)) = about.zip(asked) {
            // A list of referrers is an index, and never known.
            digests.retain(|digest| match about.known.blobs_of_other(&asked, digest) {
                Some(blobs) if !about.manifests.contains(digest) => {
                    graph.other(*digest, Other { blobs, news: None });
                    false
                }
                _ => true,
            });
        }
        let (tree, repository, about, tagged) = (self.clone(), repository.clone(), about.cloned(), Arc::new(tagged));
        let read = self.spread_chunks(chunks(digests), move |digests: Vec<Digest>| {
            let (tree, repository, about, tagged) = (tree.clone(), repository.clone(), about.clone(), tagged.clone());
            async move {
                let (mut pointers, mut unknown) = (Vec::with_capacity(digests.len()), Vec::new());
                for digest in digests {
                    match tagged.get(&digest) {
                        Some(pointer) => pointers.push(pointer.clone()),
                        None => unknown.push(Reference::Digest(digest)),
                    }
                }
                pointers.extend(tree.resolve_each_sound(&repository, &unknown).await?.into_iter().flatten());
                tree.read_each(&repository, pointers, about.as_deref()).await
            }
        });
        for read in read.await? {
            match read {
                Read::Node(read) => {
                    let (node, damage) = *read;
                    let digest = node.pointer.digest;
                    graph.damage.extend(damage.map(|damage| (digest, damage)));
                    graph.manifests.insert(digest, node);
                }
                Read::Other(digest, other) => graph.other(digest, other),
            }
        }
        graph.connect();
        Ok(graph)
    }

    /// What some tags of a repository lead to; `None` where one leads nowhere, or astray.
    async fn resolve_all(
        &self,
        repository: &Repository,
        tags: BoxStream<'_, Result<Vec<Tag>, TreeError>>,
    ) -> Result<Vec<(Tag, Option<Pointer>)>, TreeError> {
        let (tree, repository) = (self.clone(), repository.clone());
        self.spread_chunks(tags, move |tags: Vec<Tag>| {
            let (tree, repository) = (tree.clone(), repository.clone());
            async move {
                let references: Vec<Reference> = tags.into_iter().map(Reference::Tag).collect();
                let pointers = tree.resolve_each_sound(&repository, &references).await?;
                let named = references.into_iter().zip(pointers).filter_map(|(reference, pointer)| match reference {
                    Reference::Tag(tag) => Some((tag, pointer)),
                    Reference::Digest(_) => None,
                });
                Ok(named.collect())
            }
        })
        .await
    }

    /// Reads manifests, in no promised order.
    async fn read_each(
        &self,
        repository: &Repository,
        pointers: Vec<Pointer>,
        about: Option<&About>,
    ) -> Result<Vec<Read>, TreeError> {
        let mut read = Vec::with_capacity(pointers.len());
        let mut relevant = Vec::new();
        match about {
            None => relevant = pointers,
            Some(about) => {
                let keys: Vec<Key> = pointers.iter().map(|pointer| pointer.at.clone()).collect();
                let texts = self.0.store.beginnings(&keys, MAX_MANIFEST_SIZE).await?;
                for (pointer, bytes) in pointers.into_iter().zip(texts) {
                    match bytes.and_then(|bytes| about.other(&pointer, &bytes)) {
                        Some(other) => read.push(Read::Other(pointer.digest, other)),
                        None => relevant.push(pointer),
                    }
                }
            }
        }
        let nodes = stream::iter(relevant).map(async |pointer| {
            let (needs, damage) = match self.manifest(&pointer).await {
                Err(error @ TreeError::Damaged { .. }) => (None, Some(error)),
                other => {
                    let manifest = other?;
                    manifest.iter().for_each(|manifest| self.note_needs(repository, manifest));
                    (manifest.as_ref().map(Needs::of), None)
                }
            };
            Ok::<_, TreeError>(Read::Node(Box::new((Node { pointer, needs }, damage))))
        });
        let mut nodes = nodes.buffer_unordered(self.questions_at_once());
        while let Some(node) = nodes.try_next().await? {
            read.push(node);
        }
        Ok(read)
    }

    /// What manifests below and including one name.
    pub(super) async fn about(&self, repository: &Repository, root: Digest) -> Result<About, TreeError> {
        let mut about = About::default();
        let mut next = vec![root];
        while let Some(digest) = next.pop() {
            let manifest = self.find_sound(repository, &digest).await?;
            let needs = manifest.as_ref().map(Needs::of);
            if about.add(&digest, needs.as_ref()) {
                next.extend(needs.iter().flat_map(|needs| needs.children.iter()));
            }
        }
        Ok(about)
    }

    /// What a reference leads to; `None` also where it leads astray.
    pub(super) async fn resolve_sound(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Pointer>, TreeError> {
        sound(self.resolve(repository, reference).await)
    }

    /// What each of several references leads to; `None` also where one leads astray.
    async fn resolve_each_sound(
        &self,
        repository: &Repository,
        references: &[Reference],
    ) -> Result<Vec<Option<Pointer>>, TreeError> {
        self.resolve_each(repository, references).await.into_iter().map(sound).collect()
    }
}

/// Nothing, where a name leads astray.
fn sound(resolved: Result<Option<Pointer>, TreeError>) -> Result<Option<Pointer>, TreeError> {
    match resolved {
        Err(TreeError::Misled { .. } | TreeError::Store(StoreError::Escape { .. })) => Ok(None),
        other => other,
    }
}

impl Graph {
    fn other(&mut self, digest: Digest, other: Other) {
        self.others.insert(digest);
        self.needed_by_others.extend(other.blobs);
        self.news.extend(other.news);
    }

    fn connect(&mut self) {
        let tagged: BTreeSet<Digest> = self.tags.values().copied().collect();
        // A list that a tag names as well is an image.
        self.lists.retain(|digest, _| !tagged.contains(digest));
        self.manifests.retain(|digest, _| !self.lists.contains_key(digest));
        for (tag, digest) in &self.tags {
            self.tagged.entry(*digest).or_default().push(tag.clone());
        }
        let superseded = self
            .manifests
            .iter()
            .filter(|(digest, node)| node.needs.as_ref().is_some_and(|needs| self.is_superseded_list(digest, needs)));
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

    /// Those of the [others](Self::others) about which more has to be known, to tell whether an index that names them is an
    /// earlier list of referrers.
    pub(super) fn unclear(&self) -> BTreeSet<Digest> {
        let bare = { self.manifests.iter() }.filter(|(digest, _)| self.tagged(digest).is_empty());
        let named = bare.filter_map(|(_, node)| node.needs.as_ref().filter(|needs| needs.bare_index));
        named.flat_map(|needs| needs.children.iter().copied()).filter(|child| self.others.contains(child)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn asked_digests_are_found_in_any_text() {
        let [short, long] = Algorithm::ALL.map(|algorithm| algorithm.digest(b"x"));
        let text =
            format!(r#"{{"a":"{short}","b":["{long}"],"c":"sha256:0","d":"md5:{}","e":"{short}f"}}:"#, short.hex());
        let mut about = About::default();
        about.add_manifest(&short);
        assert_eq!(about.digests_in(text.as_bytes()).collect::<Vec<_>>(), [short]);
        about.add_blob(&long);
        assert_eq!(about.digests_in(text.as_bytes()).collect::<Vec<_>>(), [short, long]);
        assert_eq!(about.digests_in(b":").count(), 0);
        assert_eq!(about.digests_in(short.to_string().as_bytes()).collect::<Vec<_>>(), [short]);
    }

    #[test]
    fn what_is_not_parsed_still_tells_what_it_needs() {
        use crate::testing::{ImageBuilder, Layer};
        let base = Layer::new().file("base", "base", 0o644);
        let image = ImageBuilder::new().layer(base.clone()).layer("other").build();
        let subject = ImageBuilder::new().layer("subject").build();
        let referrer = ImageBuilder::new().layer(base).subject(&subject.descriptor()).build();
        let pointer = |image: &crate::testing::Image| Pointer {
            media_type: image.manifest.media_type().clone(),
            digest: image.digest(),
            at: "content".parse().unwrap(),
        };
        let shared = image.manifest.layers()[0].digest;
        let mut about = About::default();
        about.add_blob(&shared);
        about.add_blob(&Algorithm::Sha256.digest(b"another"));
        let other = |about: &About, image, bytes| about.other(&pointer(image), bytes).map(|other| other.blobs);
        assert_eq!(other(&about, &image, image.manifest.bytes()), Some(vec![shared]));
        // Other bytes than those of its digest are looked at closely, and so is what names a manifest that is asked for.
        assert_eq!(other(&about, &image, referrer.manifest.bytes()), None);
        about.add_manifest(&subject.digest());
        assert_eq!(other(&about, &referrer, referrer.manifest.bytes()), None);
        assert!(other(&about, &image, image.manifest.bytes()).is_some());
    }
}

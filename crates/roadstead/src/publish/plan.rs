//! What has to be done so that another tree offers what a tree has: a function of what both hold.
//!
//! # Order
//!
//! Blobs, then what is said to be absent on purpose, manifests (children before the indexes that name them), lists of
//! referrers, tags, lists of tags, the catalogue. What is deleted comes last and in the order of removals. So whatever part of
//! the steps was carried out, from the first one on, nothing that shows lacks what it needs; and another comparison gives the
//! rest of the steps.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::oci::{Digest, Manifest, Repository, Tag};
use crate::store::Md5;
use crate::tree::{Holding, ListOfReferrers, list_of_tags, record};

/// A single thing to be done in a repository.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "step", rename_all = "camelCase")]
pub enum Step {
    /// A blob is sent.
    PutBlob {
        /// The blob.
        digest: Digest,
        /// Its bytes.
        size: u64,
    },
    /// A blob that another repository of the destination has is copied there.
    CopyBlob {
        /// The blob.
        digest: Digest,
        /// Its bytes.
        size: u64,
        /// The repository that has it, or has it by then.
        from: Repository,
    },
    /// It is recorded what an index lacks on purpose.
    LeaveOut {
        /// The index.
        index: Digest,
        /// What it lacks; nothing takes the record away.
        children: BTreeSet<Digest>,
        /// Whether the index isn't there yet, and must not show before its record.
        before: bool,
    },
    /// A manifest is sent.
    PutManifest {
        /// The manifest.
        digest: Digest,
        /// Its bytes.
        size: u64,
        /// How many levels of manifests that are sent lie below it.
        height: usize,
    },
    /// The list of what refers to a subject is made to name what the tree has.
    Referrers {
        /// The subject.
        subject: Digest,
    },
    /// A tag is made or moved.
    Tag {
        /// The tag.
        tag: Tag,
        /// What it names then.
        digest: Digest,
        /// What it named.
        before: Option<Digest>,
    },
    /// The list of tags is written.
    TagsList {
        /// How many names the repository has then, which are listed before.
        names: u64,
    },
    /// The list of repositories is written, with this one in it.
    Catalog,
    /// A tag is deleted, and before that it leaves the list.
    DeleteTag {
        /// The tag.
        tag: Tag,
    },
    /// A manifest is deleted.
    DeleteManifest {
        /// The manifest.
        digest: Digest,
    },
    /// A blob is deleted.
    DeleteBlob {
        /// The blob.
        digest: Digest,
    },
}

impl Step {
    /// When it comes: all steps of a phase before those of the next.
    #[must_use]
    pub const fn phase(&self) -> u8 {
        match self {
            Self::PutBlob { .. } => 0,
            Self::CopyBlob { .. } => 1,
            Self::LeaveOut { before: true, .. } => 2,
            Self::PutManifest { .. } => 3,
            Self::LeaveOut { .. } | Self::Referrers { .. } => 4,
            Self::Tag { .. } => 5,
            Self::TagsList { .. } => 6,
            Self::Catalog => 7,
            Self::DeleteTag { .. } => 8,
            Self::DeleteManifest { .. } => 9,
            Self::DeleteBlob { .. } => 10,
        }
    }

    /// Whether it deletes something.
    #[must_use]
    pub const fn deletes(&self) -> bool {
        self.phase() >= 8
    }

    /// How many bytes are sent.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        match self {
            Self::PutBlob { size, .. } | Self::PutManifest { size, .. } => *size,
            _ => 0,
        }
    }
}

/// What is to be done in one repository, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The repository.
    pub repository: Repository,
    /// The steps, by [phase](Step::phase).
    pub steps: Vec<Step>,
}

impl Work {
    /// Whether something is to come, and not only to go.
    #[must_use]
    pub fn adds(&self) -> bool {
        self.steps.iter().any(|step| !step.deletes())
    }
}

/// What a manifest needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// The manifests that an index names.
    pub children: Vec<Digest>,
    /// Blobs that may be passed on, and their sizes where they are stated.
    pub blobs: Vec<(Digest, Option<u64>)>,
    /// What it refers to.
    pub subject: Option<Digest>,
}

impl Needs {
    /// Those of a manifest.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        let blobs = manifest.blobs().filter(|blob| !blob.is_nondistributable());
        Self {
            children: manifest.children().map(|child| child.digest).collect(),
            blobs: blobs.map(|blob| (blob.digest, blob.size)).collect(),
            subject: manifest.subject().map(|subject| subject.digest),
        }
    }
}

/// What names don't tell, and the tree's own files do.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What those manifests need that are [missing] at the destination.
    pub manifests: BTreeMap<Digest, Needs>,
    /// What indexes of the tree lack on purpose.
    pub left_out: BTreeMap<Digest, BTreeSet<Digest>>,
}

/// Something that a manifest needs, and neither side has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// A blob.
    #[error("manifest {manifest} needs the blob {blob}, which the tree does not have")]
    Blob {
        /// Who needs it.
        manifest: Digest,
        /// The blob.
        blob: Digest,
    },
    /// A blob of another size.
    #[error("manifest {manifest} needs {expected} bytes of the blob {blob}, which has {actual} in the tree")]
    Size {
        /// Who needs it.
        manifest: Digest,
        /// The blob.
        blob: Digest,
        /// How many it says.
        expected: u64,
        /// How many there are.
        actual: u64,
    },
    /// A manifest.
    #[error("index {index} needs the manifest {child}, which the tree does not have")]
    Child {
        /// Who needs it.
        index: Digest,
        /// The manifest.
        child: Digest,
    },
    /// What a tag leads to.
    #[error("the tag {tag} leads to the manifest {digest}, which the tree does not have")]
    Tagged {
        /// The tag.
        tag: Tag,
        /// The manifest.
        digest: Digest,
    },
}

/// The manifests that the destination lacks, or has with another size.
pub fn missing<'a>(tree: &'a Holding, held: &'a Holding) -> impl Iterator<Item = &'a Digest> {
    tree.manifests.iter().filter(|(digest, size)| held.manifests.get(*digest) != Some(*size)).map(|(digest, _)| digest)
}

/// What is to be done in a repository. Every blob is [sent](Step::PutBlob) so far: [`share`] tells which need not be. `None` if
/// there is nothing to do.
///
/// # Errors
///
/// [`Lack`] if what a tag or a manifest needs is nowhere: then nothing of the repository may be published.
pub fn repository(tree: &Holding, facts: &Facts, held: &Holding, delete: bool) -> Result<Option<Work>, Lack> {
    check(tree, facts, held)?;
    let mut steps = Vec::new();
    for (digest, size) in tree.blobs.iter().filter(|(digest, size)| held.blobs.get(*digest) != Some(*size)) {
        steps.push(Step::PutBlob { digest: *digest, size: *size });
    }

    let there = |digest: &Digest| tree.manifests.contains_key(digest) || held.manifests.contains_key(digest);
    let none = BTreeSet::new();
    let recorded =
        { facts.left_out.keys() }.chain(held.records.keys().filter(|index| tree.manifests.contains_key(index)));
    for index in recorded.collect::<BTreeSet<_>>() {
        let absent = facts.left_out.get(index).unwrap_or(&none);
        let children: BTreeSet<Digest> = absent.iter().filter(|child| !there(child)).copied().collect();
        let expected = (!children.is_empty()).then(|| Md5::of(&record(&children)));
        if expected.as_ref() != held.records.get(index) {
            let before = !held.manifests.contains_key(index);
            steps.push(Step::LeaveOut { index: *index, children, before });
        }
    }

    let mut heights = HashMap::new();
    let mut manifests: Vec<(usize, &Digest)> =
        missing(tree, held).map(|digest| (height(digest, facts, &mut heights, 0), digest)).collect();
    manifests.sort_unstable();
    for (height, digest) in &manifests {
        let size = tree.manifests.get(*digest).copied().unwrap_or_default();
        steps.push(Step::PutManifest { digest: **digest, size, height: *height });
    }

    let referring = manifests.iter().filter_map(|(_, digest)| facts.manifests.get(*digest)?.subject);
    let mut subjects: BTreeSet<Digest> = referring.collect();
    for (subject, list) in &tree.referrers {
        let ListOfReferrers { list: Some(wanted), .. } = list else { continue };
        let right = held
            .referrers
            .get(subject)
            .is_some_and(|there| there.list == Some(*wanted) && there.fallback == Some(*wanted));
        if !right {
            subjects.insert(*subject);
        }
    }
    steps.extend(subjects.into_iter().map(|subject| Step::Referrers { subject }));

    let mut tags: Vec<(&Tag, &Digest)> =
        tree.tags.iter().filter(|(tag, digest)| held.tags.get(*tag) != Some(*digest)).collect();
    // Whoever sees an image finds its signatures.
    tags.sort_by_key(|(tag, _)| tag.cosign_subject().is_none());
    for (tag, digest) in tags {
        steps.push(Step::Tag { tag: tag.clone(), digest: *digest, before: held.tags.get(tag).copied() });
    }

    let all: BTreeSet<Tag> = tree.tags.keys().chain(held.tags.keys()).chain(&held.astray).cloned().collect();
    let names =
        all.len() + tree.manifests.len() + held.manifests.keys().filter(|d| !tree.manifests.contains_key(d)).count();
    if !tree.manifests.is_empty() && held.tags_list != Some(Md5::of(&list_of_tags(&tree.repository, all))) {
        steps.push(Step::TagsList { names: names as u64 });
    }

    if delete {
        for tag in held.tags.keys().filter(|tag| !tree.tags.contains_key(tag)) {
            steps.push(Step::DeleteTag { tag: tag.clone() });
        }
        // What an index of the tree has left out belongs to it all the same.
        let kept: BTreeSet<&Digest> = facts.left_out.values().flatten().collect();
        for digest in
            held.manifests.keys().filter(|digest| !tree.manifests.contains_key(digest) && !kept.contains(digest))
        {
            steps.push(Step::DeleteManifest { digest: *digest });
        }
        for digest in held.blobs.keys().filter(|digest| !tree.blobs.contains_key(digest)) {
            steps.push(Step::DeleteBlob { digest: *digest });
        }
    }
    steps.sort_by_key(Step::phase);
    Ok((!steps.is_empty()).then(|| Work { repository: tree.repository.clone(), steps }))
}

/// Looks whether everything that would show has what it needs.
fn check(tree: &Holding, facts: &Facts, held: &Holding) -> Result<(), Lack> {
    for (tag, digest) in &tree.tags {
        if !tree.manifests.contains_key(digest) {
            return Err(Lack::Tagged { tag: tag.clone(), digest: *digest });
        }
    }
    for (manifest, needs) in &facts.manifests {
        for (blob, expected) in &needs.blobs {
            let Some(actual) = tree.blobs.get(blob).or_else(|| held.blobs.get(blob)) else {
                return Err(Lack::Blob { manifest: *manifest, blob: *blob });
            };
            if let Some(expected) = expected.filter(|expected| expected != actual) {
                return Err(Lack::Size { manifest: *manifest, blob: *blob, expected, actual: *actual });
            }
        }
        let left_out = facts.left_out.get(manifest);
        for child in &needs.children {
            let known = tree.manifests.contains_key(child) || held.manifests.contains_key(child);
            if !known && !left_out.is_some_and(|left_out| left_out.contains(child)) {
                return Err(Lack::Child { index: *manifest, child: *child });
            }
        }
    }
    Ok(())
}

/// How many manifests that are missing lie below one.
fn height(digest: &Digest, facts: &Facts, known: &mut HashMap<Digest, usize>, depth: usize) -> usize {
    if let Some(height) = known.get(digest) {
        return *height;
    }
    let Some(needs) = facts.manifests.get(digest).filter(|_| depth <= crate::image::MAX_DEPTH) else { return 0 };
    let below = needs.children.iter().map(|child| 1 + height(child, facts, known, depth + 1)).max();
    let height = below.unwrap_or(0);
    known.insert(*digest, height);
    height
}

/// Where the destination has which blobs: some twenty bytes for each. A digest may be taken for another one, which whoever
/// copies the blob finds out.
#[derive(Debug, Default)]
pub struct Shares {
    repositories: Vec<Repository>,
    by_digest: HashMap<u64, (u32, u32)>,
    spoilt: BTreeSet<(Repository, Digest)>,
}

impl Shares {
    /// Notes that a repository has blobs of these sizes.
    pub fn note(&mut self, repository: &Repository, blobs: impl Iterator<Item = (Digest, u64)>) {
        let Ok(number) = u32::try_from(self.repositories.len()) else { return };
        let before = self.by_digest.len();
        for (digest, size) in blobs {
            self.by_digest.entry(short(&digest)).or_insert((number, size as u32));
        }
        if self.by_digest.len() > before {
            self.repositories.push(repository.clone());
        }
    }

    /// Notes that what a repository has under the name of a blob is something else: it has to be sent, since a copy would be
    /// taken for made.
    pub fn spoil(&mut self, repository: &Repository, blob: Digest) {
        self.spoilt.insert((repository.clone(), blob));
    }

    /// A repository that has a blob of that size, as far as some of its digits tell.
    fn holder(&self, digest: &Digest, size: u64) -> Option<&Repository> {
        let (number, there) = self.by_digest.get(&short(digest))?;
        self.repositories.get(*number as usize).filter(|_| *there == size as u32)
    }
}

/// A part of a digest that tells it apart from most.
fn short(digest: &Digest) -> u64 {
    digest.as_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Lets blobs be copied that another repository of the destination has, or has by then: none is sent twice.
pub fn share(works: &mut [Work], mut shares: Shares) {
    for work in works {
        let mut sent = Vec::new();
        for step in &mut work.steps {
            let Step::PutBlob { digest, size } = *step else { continue };
            match shares.holder(&digest, size) {
                Some(from)
                    if *from != work.repository && !shares.spoilt.contains(&(work.repository.clone(), digest)) =>
                {
                    *step = Step::CopyBlob { digest, size, from: from.clone() };
                }
                _ => sent.push((digest, size)),
            }
        }
        shares.note(&work.repository, sent.into_iter());
        work.steps.sort_by_key(Step::phase);
    }
}

/// Lets the catalogue be written for those repositories of the tree that it does not name.
pub fn catalog(works: &mut Vec<Work>, repositories: &BTreeSet<Repository>, named: &BTreeSet<String>) {
    let mut unnamed: BTreeSet<&Repository> =
        repositories.iter().filter(|repository| !named.contains(repository.as_str())).collect();
    for work in works.iter_mut() {
        if unnamed.remove(&work.repository) {
            work.steps.push(Step::Catalog);
            work.steps.sort_by_key(Step::phase);
        }
    }
    works.extend(
        unnamed.into_iter().map(|repository| Work { repository: repository.clone(), steps: vec![Step::Catalog] }),
    );
}

#[cfg(test)]
mod tests;

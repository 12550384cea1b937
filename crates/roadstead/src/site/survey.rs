//! What of a tree a host has to be told that can't look at it.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use futures::stream::BoxStream;

use crate::oci::{Digest, MediaType, Reference, Repository};
use crate::tree::{Pointer, Private, Shown, Tree, TreeError};

/// How many files there are of a kind, and how large they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extent {
    /// How many.
    pub files: u64,
    /// All their bytes; the same content under two names counts twice, as it does on a host without links.
    pub bytes: u64,
    /// The bytes of the largest, and its path.
    pub largest: Option<(u64, String)>,
}

impl Extent {
    fn add(&mut self, size: u64, path: impl FnOnce() -> String) {
        self.files += 1;
        self.bytes += size;
        if self.largest.as_ref().is_none_or(|(largest, _)| size >= *largest) {
            // Of equals the last by name, so that no order of a folder shows.
            self.largest = self.largest.take().max(Some((size, path())));
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            files: self.files + other.files,
            bytes: self.bytes + other.bytes,
            largest: self.largest.clone().max(other.largest.clone()),
        }
    }
}

/// A name of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// The tag or digest.
    pub reference: Reference,
    /// The media type under which it must be served.
    pub media_type: MediaType,
    /// The digest of what it names.
    pub digest: Digest,
}

/// The names and sizes in a tree, for hosts that serve plain files and know no more than their configuration says. Some two
/// hundred bytes for each name of a manifest; blobs are only counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// The manifests' names by repository, sorted.
    pub repositories: BTreeMap<Repository, Vec<Named>>,
    /// The files of the manifests' names.
    pub manifests: Extent,
    /// The files of the blobs' names.
    pub blobs: Extent,
    /// All other files: lists.
    pub lists: Extent,
}

impl Survey {
    /// Walks over a tree.
    ///
    /// # Errors
    ///
    /// If it can't be read, or a name in it leads astray.
    pub async fn of(tree: &Tree) -> Result<Self, TreeError> {
        Self::without(tree, &Private::default()).await
    }

    /// Walks over a tree, as if private repositories weren't there.
    ///
    /// # Errors
    ///
    /// As [`Survey::of`].
    pub async fn without(tree: &Tree, private: &Private) -> Result<Self, TreeError> {
        Self::gathered(tree.shown_as(private, part(tree))).await
    }

    /// The same of the manifests alone, as if there were no blobs and lists: for hosts that don't limit files, whose
    /// configurations depend on nothing else.
    ///
    /// # Errors
    ///
    /// As [`Survey::of`].
    pub async fn of_manifests(tree: &Tree, private: &Private) -> Result<Self, TreeError> {
        Self::gathered(tree.manifests_as(private, part(tree))).await
    }

    async fn gathered(mut parts: BoxStream<'_, Result<Part, TreeError>>) -> Result<Self, TreeError> {
        let mut survey = Self::default();
        while let Some(Part { named, manifests, blobs, lists }) = parts.try_next().await? {
            for (all, some) in
                [(&mut survey.manifests, manifests), (&mut survey.blobs, blobs), (&mut survey.lists, lists)]
            {
                *all = all.and(&some);
            }
            if let Some((repository, mut names)) = named {
                survey.repositories.entry(repository).or_default().append(&mut names);
            }
        }
        survey.repositories.values_mut().for_each(|names| names.sort_unstable());
        Ok(survey)
    }

    /// All names of manifests, in order.
    pub fn names(&self) -> impl Iterator<Item = (&Repository, &Named)> {
        self.repositories.iter().flat_map(|(repository, names)| names.iter().map(move |named| (repository, named)))
    }
}

/// A few files, of one repository or none.
#[derive(Default)]
struct Part {
    named: Option<(Repository, Vec<Named>)>,
    manifests: Extent,
    blobs: Extent,
    lists: Extent,
}

/// Makes a part of a survey of some files. All but the names is dropped where it was made: most of what a walk costs that isn't
/// the kernel's is memory that goes from one thread to another.
fn part(tree: &Tree) -> impl Fn(Vec<(Shown, u64)>) -> Part + Clone + Send + Sync + 'static {
    let tree = tree.clone();
    move |files| {
        let mut part = Part::default();
        for (file, size) in files {
            let path = || file.key(&tree).to_string();
            match &file {
                Shown::Manifest(..) => part.manifests.add(size, path),
                Shown::Blob(..) => part.blobs.add(size, path),
                Shown::Ping | Shown::Catalog | Shown::TagsList(_) | Shown::Referrers(..) => part.lists.add(size, path),
            }
            if let Shown::Manifest(repository, reference, Pointer { media_type, digest, .. }) = file {
                let (_, names) = part.named.get_or_insert_with(|| (repository, Vec::new()));
                names.push(Named { reference, media_type, digest });
            }
        }
        part
    }
}

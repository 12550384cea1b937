//! What media without repositories hold: manifests and blobs by digest, and tags by the names that the medium gives.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::OnceCell;

use super::section::{Section, blocking};
use crate::image::{ByteStream, Held, RepositorySource, SourceError};
use crate::oci::{Descriptor, Digest, ImageReference, MAX_MANIFEST_SIZE, Manifest, Reference, Tag, excerpt};

/// Files under names.
pub(super) trait Files: Send + Sync {
    /// The whole, as people write it: `oci:FOLDER`.
    fn place(&self) -> &str;

    /// The bytes of a file; `None` if there is none of that name.
    fn section(&self, name: &str) -> Result<Option<Section>, SourceError>;
}

/// Where the bytes of a digest lie.
pub(super) trait Locate: Send + Sync {
    fn manifest(&self, digest: &Digest) -> Result<Option<Section>, SourceError>;
    fn blob(&self, digest: &Digest) -> Result<Option<Section>, SourceError>;
}

/// The content of a medium. Clones share it.
#[derive(Clone)]
pub(super) struct Content(Arc<Inner>);

struct Inner {
    place: String,
    entries: Vec<Held>,
    tags: BTreeMap<Tag, Option<Descriptor>>,
    locate: Box<dyn Locate>,
    survey: OnceCell<Survey>,
}

/// How the entries of a table of contents belong together.
#[derive(Default)]
struct Survey {
    images: Vec<Held>,
    referrers: HashMap<Digest, Vec<Descriptor>>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content").field("place", &self.0.place).field("entries", &self.0.entries).finish()
    }
}

impl Content {
    /// `entries` are what the table of contents names, in its order.
    pub(super) fn new(place: &str, entries: Vec<Held>, locate: impl Locate + 'static) -> Self {
        let mut tags: BTreeMap<Tag, Option<Descriptor>> = BTreeMap::new();
        for entry in &entries {
            let Some(tag) = entry.name.as_deref().and_then(tag_of) else { continue };
            let named = tags.entry(tag).or_insert_with(|| Some(entry.descriptor.clone()));
            // Several repositories may have a `latest`: then nobody can say which one it is.
            named.take_if(|named| named.digest != entry.descriptor.digest);
        }
        let (place, locate) = (place.to_owned(), Box::new(locate));
        Self(Arc::new(Inner { place, entries, tags, locate, survey: OnceCell::new() }))
    }

    /// What the table of contents names, in its order.
    pub(super) fn entries(&self) -> &[Held] {
        &self.0.entries
    }

    /// The images: every entry that has a name, and those without that no other one contains or is referred to by.
    pub(super) async fn images(&self) -> Result<Vec<Held>, SourceError> {
        Ok(self.survey().await?.images.clone())
    }

    async fn survey(&self) -> Result<&Survey, SourceError> {
        let content = self.clone();
        self.0.survey.get_or_try_init(|| blocking(move || Ok(content.survey_now()))).await
    }

    /// Looks at every manifest that the table of contents names. One that can't be read is left to whoever copies it.
    fn survey_now(&self) -> Survey {
        let mut survey = Survey::default();
        let mut below = HashSet::new();
        let mut referring = HashSet::new();
        let there: HashSet<Digest> = self.0.entries.iter().map(|entry| entry.descriptor.digest).collect();
        for entry in &self.0.entries {
            let Ok(manifest) = self.manifest_now(&entry.descriptor) else { continue };
            below.extend(manifest.children().map(|child| child.digest).filter(|child| child != manifest.digest()));
            if let Some(subject) = manifest.subject() {
                if there.contains(&subject.digest) {
                    referring.insert(entry.descriptor.digest);
                }
                let referrer = Descriptor {
                    artifact_type: manifest.artifact_type().map(str::to_owned),
                    annotations: manifest.annotations().clone(),
                    ..manifest.descriptor()
                };
                let referrers = survey.referrers.entry(subject.digest).or_default();
                if referrers.iter().all(|known| known.digest != referrer.digest) {
                    referrers.push(referrer);
                }
            }
        }
        let is_image = |entry: &&Held| match entry.name.as_deref() {
            Some(name) => !tag_of(name).is_some_and(|tag| tag.is_referrers_fallback()),
            None => !below.contains(&entry.descriptor.digest) && !referring.contains(&entry.descriptor.digest),
        };
        survey.images = self.0.entries.iter().filter(is_image).cloned().collect();
        survey
    }

    /// The manifest that `expected` names. Blocks.
    pub(super) fn manifest_now(&self, expected: &Descriptor) -> Result<Manifest, SourceError> {
        let what = format!("{}: manifest {}", self.0.place, expected.digest);
        let Some(section) = self.0.locate.manifest(&expected.digest)? else {
            return Err(SourceError::NotFound { what, source: None });
        };
        let bytes = section.read(MAX_MANIFEST_SIZE, &what)?;
        Manifest::verify(bytes, expected).map_err(|source| SourceError::Manifest { what, source: Box::new(source) })
    }

    /// Looks whether a blob is there, without reading it.
    pub(super) fn expect_blob(&self, digest: &Digest) -> Result<(), SourceError> {
        self.locate_blob(digest).map(drop)
    }

    fn locate_blob(&self, digest: &Digest) -> Result<Section, SourceError> {
        let not_found = || SourceError::NotFound { what: format!("{}: blob {digest}", self.0.place), source: None };
        self.0.locate.blob(digest)?.ok_or_else(not_found)
    }
}

/// The tag in a name as media write it: a tag alone, or that of an image reference.
fn tag_of(name: &str) -> Option<Tag> {
    name.parse().ok().or_else(|| name.parse::<ImageReference>().ok()?.tag)
}

#[async_trait]
impl RepositorySource for Content {
    fn describe(&self, reference: &Reference) -> String {
        match reference {
            Reference::Tag(tag) => format!("{}:{tag}", self.0.place),
            Reference::Digest(digest) => {
                let mut entries = self.0.entries.iter().filter(|entry| entry.descriptor.digest == *digest);
                match entries.find_map(|entry| entry.name.as_deref()) {
                    // As people know it.
                    Some(name) => format!("{}:{}", self.0.place, excerpt(name).escape_debug()),
                    None => format!("{}@{digest}", self.0.place),
                }
            }
        }
    }

    async fn resolve(&self, reference: &Reference) -> Result<Descriptor, SourceError> {
        let named = match reference {
            Reference::Tag(tag) => self.0.tags.get(tag).cloned().flatten(),
            Reference::Digest(digest) => {
                let known = self.0.entries.iter().find(|entry| entry.descriptor.digest == *digest);
                let unknown = Descriptor { size: None, ..Descriptor::new("", *digest, 0) };
                Some(known.map_or(unknown, |entry| entry.descriptor.clone()))
            }
        };
        let named = named.ok_or_else(|| SourceError::NotFound { what: self.describe(reference), source: None })?;
        Ok(self.manifest(&named).await?.descriptor())
    }

    async fn manifest(&self, expected: &Descriptor) -> Result<Manifest, SourceError> {
        let (content, expected) = (self.clone(), expected.clone());
        blocking(move || content.manifest_now(&expected)).await
    }

    async fn blob(&self, expected: &Descriptor, from: u64) -> Result<ByteStream, SourceError> {
        let what = format!("{}: blob {}", self.0.place, expected.digest);
        let section = self.locate_blob(&expected.digest)?;
        match expected.size.filter(|size| *size != section.size()) {
            None => Ok(section.stream(from, what)),
            Some(size) => {
                let problem = format!("it has {} bytes, expected {size}", section.size());
                Err(SourceError::Invalid { what, problem })
            }
        }
    }

    fn tags(&self) -> BoxStream<'_, Result<Tag, SourceError>> {
        let unambiguous = self.0.tags.iter().filter(|(_, named)| named.is_some());
        stream::iter(unambiguous.map(|(tag, _)| Ok(tag.clone()))).boxed()
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, SourceError> {
        let mut referrers = self.survey().await?.referrers.get(subject).cloned().unwrap_or_default();
        // Some writers keep the list under the tag that clients of registries without the API look for.
        if let Some(Some(fallback)) = self.0.tags.get(&Tag::referrers_fallback(subject)) {
            for listed in self.manifest(fallback).await?.manifests() {
                if referrers.iter().all(|known| known.digest != listed.digest) {
                    referrers.push(listed.clone());
                }
            }
        }
        Ok(referrers)
    }
}

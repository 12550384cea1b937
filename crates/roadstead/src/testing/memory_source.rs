//! A source in memory that misbehaves on demand.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::Image;
use crate::image::{ByteStream, RepositorySource, Source, SourceError};
use crate::oci::{Descriptor, Digest, MAX_MANIFEST_SIZE, Manifest, Reference, Repository, Tag};

/// What goes wrong when content is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// As many bytes, one of them another.
    WrongBytes,
    /// The last byte is missing, without an error.
    Short,
    /// One byte too many.
    Long,
    /// An error after half of the bytes.
    Cut,
    /// It isn't there.
    Missing,
    /// More and more bytes.
    NeverEnding,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 6] = [Self::WrongBytes, Self::Short, Self::Long, Self::Cut, Self::Missing, Self::NeverEnding];
}

/// How often each method was called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls {
    /// [`RepositorySource::resolve`].
    pub resolves: usize,
    /// [`RepositorySource::manifest`], by digest.
    pub manifests: Vec<Digest>,
    /// [`RepositorySource::blob`], by digest and offset.
    pub blobs: Vec<(Digest, u64)>,
    /// [`RepositorySource::tags`].
    pub tags: usize,
    /// [`RepositorySource::referrers`].
    pub referrers: usize,
}

/// A [`Source`] over [`Image`]s. Clones share what they hold.
///
/// Blobs arrive in pieces of 64 KiB.
#[derive(Debug, Clone, Default)]
pub struct MemorySource(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    repositories: BTreeMap<Repository, Content>,
    faults: HashMap<Digest, Fault>,
    lies: Vec<(Digest, Descriptor)>,
    calls: Calls,
}

#[derive(Debug, Default)]
struct Content {
    tags: BTreeMap<Tag, Digest>,
    manifests: BTreeMap<Digest, Manifest>,
    blobs: BTreeMap<Digest, Bytes>,
}

const PIECE: usize = 64 << 10;

impl MemorySource {
    /// A source without repositories.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }

    /// Adds an image under `name`, such as `org/app:1`, or by its digest alone if that has no tag.
    ///
    /// # Panics
    ///
    /// If `name` is no repository, or repository and tag.
    pub fn add(&self, name: &str, image: &Image) {
        let (repository, tag) = match name.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (name, None),
        };
        let repository = repository.parse().unwrap_or_else(|error| panic!("{error}"));
        let mut state = self.state();
        let content = state.repositories.entry(repository).or_default();
        for manifest in image.manifests() {
            content.manifests.insert(*manifest.digest(), manifest.clone());
        }
        content.blobs.extend(image.blobs.iter().map(|(digest, bytes)| (*digest, bytes.clone())));
        if let Some(tag) = tag {
            content.tags.insert(tag.parse().unwrap_or_else(|error| panic!("{error}")), image.digest());
        }
    }

    /// Makes every later request for that blob or manifest go wrong.
    pub fn inject(&self, digest: Digest, fault: Fault) {
        self.state().faults.insert(digest, fault);
    }

    /// Lists something as a referrer of `subject`, whatever it refers to, and whether it is there or not.
    pub fn lie(&self, subject: Digest, referrer: &Descriptor) {
        self.state().lies.push((subject, referrer.clone()));
    }

    /// Makes everything right again.
    pub fn mend(&self) {
        self.state().faults.clear();
        self.state().lies.clear();
    }

    /// What was asked for since this was called last.
    #[must_use]
    pub fn take_calls(&self) -> Calls {
        std::mem::take(&mut self.state().calls)
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn repositories(&self) -> Result<BoxStream<'_, Result<Repository, SourceError>>, SourceError> {
        let names: Vec<_> = self.state().repositories.keys().cloned().map(Ok).collect();
        Ok(stream::iter(names).boxed())
    }

    fn repository(&self, name: &Repository) -> Box<dyn RepositorySource> {
        Box::new(MemoryRepository { source: self.clone(), name: name.clone() })
    }
}

struct MemoryRepository {
    source: MemorySource,
    name: Repository,
}

impl MemoryRepository {
    fn not_found(&self, reference: &Reference) -> SourceError {
        SourceError::NotFound { what: self.describe(reference), source: None }
    }

    /// What `find` finds in this repository, and the fault that lies on `digest`.
    fn find<T>(
        &self,
        digest: Digest,
        find: impl FnOnce(&Content) -> Option<T>,
    ) -> Result<(T, Option<Fault>), SourceError> {
        let state = self.source.state();
        let fault = state.faults.get(&digest).copied();
        let found = state.repositories.get(&self.name).and_then(find);
        match (found, fault) {
            (None, _) | (_, Some(Fault::Missing)) => Err(self.not_found(&Reference::Digest(digest))),
            (Some(found), fault) => Ok((found, fault)),
        }
    }

    /// The bytes as they arrive, with the fault.
    fn pieces(&self, what: Digest, bytes: &Bytes, fault: Option<Fault>, from: u64) -> ByteStream {
        let mut content = bytes.to_vec();
        let mut end = None;
        match fault {
            None | Some(Fault::Missing | Fault::NeverEnding) => {}
            Some(Fault::WrongBytes) => match content.last_mut() {
                Some(last) => *last ^= 1,
                None => content.push(0),
            },
            Some(Fault::Short) => {
                content.pop();
            }
            Some(Fault::Long) => content.push(b' '),
            Some(Fault::Cut) => {
                content.truncate(content.len() / 2);
                end = Some(SourceError::Failed {
                    what: what.to_string(),
                    source: std::io::Error::from(std::io::ErrorKind::ConnectionReset).into(),
                });
            }
        }
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(content.len());
        let pieces: Vec<_> = content[from..].chunks(PIECE).map(Bytes::copy_from_slice).map(Ok).collect();
        let pieces = stream::iter(pieces).chain(stream::iter(end.map(Err)));
        if fault == Some(Fault::NeverEnding) {
            pieces.chain(stream::repeat_with(|| Ok(Bytes::from_static(&[b' '; PIECE])))).boxed()
        } else {
            pieces.boxed()
        }
    }
}

#[async_trait]
impl RepositorySource for MemoryRepository {
    fn describe(&self, reference: &Reference) -> String {
        match reference {
            Reference::Tag(tag) => format!("memory/{}:{tag}", self.name),
            Reference::Digest(digest) => format!("memory/{}@{digest}", self.name),
        }
    }

    async fn resolve(&self, reference: &Reference) -> Result<Descriptor, SourceError> {
        let mut state = self.source.state();
        state.calls.resolves += 1;
        let content = state.repositories.get(&self.name);
        let digest = match reference {
            Reference::Tag(tag) => content.and_then(|content| content.tags.get(tag)),
            Reference::Digest(digest) => Some(digest),
        };
        let manifest = digest.and_then(|digest| content?.manifests.get(digest));
        manifest.map(Manifest::descriptor).ok_or_else(|| self.not_found(reference))
    }

    async fn manifest(&self, expected: &Descriptor) -> Result<Manifest, SourceError> {
        self.source.state().calls.manifests.push(expected.digest);
        let (manifest, fault) =
            self.find(expected.digest, |content| content.manifests.get(&expected.digest).cloned())?;
        let mut bytes = Vec::new();
        let mut pieces = self.pieces(expected.digest, manifest.bytes(), fault, 0);
        while let Some(piece) = pieces.try_next().await? {
            bytes.extend(piece);
            if bytes.len() as u64 > MAX_MANIFEST_SIZE {
                break;
            }
        }
        Manifest::verify(bytes.into(), expected).map_err(|source| SourceError::Manifest {
            what: self.describe(&Reference::Digest(expected.digest)),
            source: Box::new(source),
        })
    }

    async fn blob(&self, expected: &Descriptor, from: u64) -> Result<ByteStream, SourceError> {
        self.source.state().calls.blobs.push((expected.digest, from));
        let (bytes, fault) = self.find(expected.digest, |content| content.blobs.get(&expected.digest).cloned())?;
        Ok(self.pieces(expected.digest, &bytes, fault, from))
    }

    fn tags(&self) -> BoxStream<'_, Result<Tag, SourceError>> {
        let mut state = self.source.state();
        state.calls.tags += 1;
        let tags: Vec<_> = state
            .repositories
            .get(&self.name)
            .into_iter()
            .flat_map(|content| content.tags.keys().cloned())
            .map(Ok)
            .collect();
        stream::iter(tags).boxed()
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, SourceError> {
        let mut state = self.source.state();
        state.calls.referrers += 1;
        let manifests = state.repositories.get(&self.name).into_iter().flat_map(|content| content.manifests.values());
        let lies = state.lies.iter().filter(|(about, _)| about == subject).map(|(_, listed)| listed.clone());
        let true_ones = manifests
            .filter(|manifest| manifest.subject().is_some_and(|named| named.digest == *subject))
            .map(|manifest| Descriptor {
                artifact_type: manifest.artifact_type().map(str::to_owned),
                annotations: manifest.annotations().clone(),
                ..manifest.descriptor()
            });
        // Lies come first, so that they are what is believed.
        Ok(lies.chain(true_ones).collect())
    }
}

//! Reading a tree as any other source of images.
//!
//! What a tree lacks on purpose is told by its record, so that a copy can carry the record on; whoever asks for it by digest
//! learns that it was left out.

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::lists::Walked;
use super::{Private, Tree, TreeError, keys};
use crate::image::{ByteStream, RepositorySource, Source, SourceError};
use crate::oci::{
    Algorithm, Descriptor, Digest, Kind, MAX_MANIFEST_SIZE, Manifest, ManifestError, Reference, Repository, Tag,
};
use crate::store::Listed;

/// A tree to read from. It is a type of its own, since a [`Tree`] is a [`Sink`](crate::image::Sink), and both have repositories.
#[derive(Clone)]
pub struct TreeSource {
    tree: Tree,
    /// What it doesn't tell of.
    without: Private,
}

impl TreeSource {
    /// The images of a tree.
    #[must_use]
    pub fn new(tree: Tree) -> Self {
        Self { tree, without: Private::default() }
    }

    /// Tells of no private repository any more. Who asks for one by its name still gets it.
    #[must_use]
    pub fn without(self, private: Private) -> Self {
        Self { without: private, ..self }
    }
}

#[async_trait]
impl Source for TreeSource {
    async fn repositories(&self) -> Result<BoxStream<'_, Result<Repository, SourceError>>, SourceError> {
        let place = format!("the repositories of {}", self.tree.store().describe());
        let told = |name: &Repository| std::future::ready(!self.without.contains(name));
        Ok(self.tree.repositories().try_filter(told).map_err(move |error| failed(place.clone(), error)).boxed())
    }

    fn repository(&self, name: &Repository) -> Box<dyn RepositorySource> {
        Box::new(TreeRepository { tree: self.tree.clone(), repository: name.clone(), walked: Walked::default() })
    }
}

/// One repository of a tree, to read from.
struct TreeRepository {
    tree: Tree,
    repository: Repository,
    /// Read once: who adds a referrer later also writes the list that is looked at first.
    walked: Walked,
}

impl TreeRepository {
    fn not_found(&self, reference: &Reference) -> SourceError {
        SourceError::NotFound { what: self.describe(reference), source: None }
    }

    /// The error for a manifest that isn't there, which says so if that is on purpose.
    async fn absent(&self, digest: &Digest) -> SourceError {
        let what = self.describe(&(*digest).into());
        match self.tree.left_out_of(&self.repository, digest).await {
            Ok(Some(index)) => {
                let reason = format!("the tree keeps only some platforms of {index}, and left it out");
                SourceError::NotFound { what, source: Some(reason.into()) }
            }
            Ok(None) => SourceError::NotFound { what, source: None },
            Err(error) => failed(what, error),
        }
    }

    async fn find(&self, digest: &Digest) -> Result<Manifest, SourceError> {
        let reference = Reference::Digest(*digest);
        match self.tree.find(&self.repository, &reference).await {
            Ok(Some(manifest)) => Ok(manifest),
            Ok(None) => Err(self.absent(digest).await),
            Err(error) => Err(failed(self.describe(&reference), error)),
        }
    }

    /// What the list says; `None` if there is none that can be read. Others may have written to it.
    async fn listed(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>, TreeError> {
        let Some(object) = self.tree.referrers(&self.repository, subject).await? else { return Ok(None) };
        if object.entry.size > MAX_MANIFEST_SIZE {
            return Ok(None);
        }
        let bytes = object.body.into_bytes(MAX_MANIFEST_SIZE, &keys::referrers(&self.repository, subject)).await?;
        let list = Manifest::parse(bytes, Algorithm::Sha256).ok().filter(|list| list.kind() == Kind::Index);
        Ok(list.map(|list| list.manifests().to_vec()))
    }

    /// What refers to `subject` as the manifests say.
    async fn walked(&self, subject: &Digest) -> Result<Vec<Descriptor>, TreeError> {
        let walked = self.walked.get_or_try_init(|| self.tree.walk_referrers(&self.repository)).await?;
        let mut found = Vec::new();
        for digest in walked.get(subject).into_iter().flatten() {
            found.extend(self.tree.find_sound(&self.repository, digest).await?.map(|manifest| Descriptor {
                artifact_type: manifest.artifact_type().map(str::to_owned),
                annotations: manifest.annotations().clone(),
                ..manifest.descriptor()
            }));
        }
        Ok(found)
    }
}

#[async_trait]
impl RepositorySource for TreeRepository {
    fn describe(&self, reference: &Reference) -> String {
        let (place, repository) = (self.tree.0.store.describe(), &self.repository);
        match reference {
            Reference::Tag(tag) => format!("tree:{place}//{repository}:{tag}"),
            Reference::Digest(digest) => format!("tree:{place}//{repository}@{digest}"),
        }
    }

    async fn resolve(&self, reference: &Reference) -> Result<Descriptor, SourceError> {
        let wrong = |error| failed(self.describe(reference), error);
        let Some(pointer) = self.tree.resolve(&self.repository, reference).await.map_err(wrong)? else {
            return Err(match reference {
                Reference::Tag(_) => self.not_found(reference),
                Reference::Digest(digest) => self.absent(digest).await,
            });
        };
        // A name may lead to bytes that are gone.
        let entry = self.tree.0.store.head(&pointer.at).await.map_err(|error| wrong(error.into()))?;
        let size = entry.ok_or_else(|| self.not_found(reference))?.size;
        Ok(Descriptor::new(pointer.media_type.as_str(), pointer.digest, size))
    }

    async fn manifest(&self, expected: &Descriptor) -> Result<Manifest, SourceError> {
        let manifest = self.find(&expected.digest).await?;
        let actual = manifest.bytes().len() as u64;
        match expected.size.filter(|expected| *expected != actual) {
            None => Ok(manifest),
            Some(size) => Err(SourceError::Manifest {
                what: self.describe(&expected.digest.into()),
                source: Box::new(ManifestError::WrongSize { expected: size, actual }),
            }),
        }
    }

    async fn blob(&self, expected: &Descriptor, from: u64) -> Result<ByteStream, SourceError> {
        let digest = &expected.digest;
        let what = format!("tree:{}//{}: blob {digest}", self.tree.0.store.describe(), self.repository);
        let object = self.tree.blob(&self.repository, digest, Some(from..u64::MAX)).await;
        let Some(object) = object.map_err(|error| failed(what.clone(), error))? else {
            return Err(SourceError::NotFound { what, source: None });
        };
        match expected.size.filter(|size| *size != object.entry.size) {
            None => {
                let bytes = object.body.into_stream(&keys::blob(&self.repository, digest));
                Ok(bytes.map_err(move |error| failed(what.clone(), error.into())).boxed())
            }
            Some(size) => {
                let problem = format!("it has {} bytes, expected {size}", object.entry.size);
                Err(SourceError::Invalid { what, problem })
            }
        }
    }

    async fn location(&self, expected: &Descriptor) -> Result<Option<String>, SourceError> {
        Ok(self.tree.0.store.location(&keys::blob(&self.repository, &expected.digest)))
    }

    fn tags(&self) -> BoxStream<'_, Result<Tag, SourceError>> {
        let what = format!("the tags of tree:{}//{}", self.tree.0.store.describe(), self.repository);
        let folder = keys::folder(&self.repository, keys::MANIFESTS);
        let names = stream::once(async move { folder }).flat_map(|folder| self.tree.0.store.list(&folder));
        names
            .try_filter_map(async |listed| match listed {
                Listed::Object(key) => Ok(key.name().parse().ok().filter(|tag: &Tag| !tag.is_referrers_fallback())),
                Listed::Prefix(_) => Ok(None),
            })
            .map_err(move |error| failed(what.clone(), error.into()))
            .boxed()
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, SourceError> {
        let found = async {
            match self.listed(subject).await? {
                Some(listed) => Ok(listed),
                None => self.walked(subject).await,
            }
        };
        found.await.map_err(|error| failed(format!("what refers to {}", self.describe(&(*subject).into())), error))
    }

    async fn left_out(&self, index: &Digest) -> Result<Vec<Digest>, SourceError> {
        let left_out = self.tree.lacking(&self.repository, index).await;
        let left_out = left_out.map_err(|error| failed(self.describe(&(*index).into()), error))?;
        Ok(left_out.into_iter().collect())
    }
}

/// What a tree's error means for whoever wanted an image.
fn failed(what: String, error: TreeError) -> SourceError {
    match error {
        TreeError::Damaged { source, .. } => SourceError::Manifest { what, source },
        error => SourceError::Failed { what, source: error.into() },
    }
}

//! Opens places to read from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use roadstead::image::{Collection, RepositorySource, Source, SourceError};
use roadstead::medium::daemon::Daemon;
use roadstead::medium::dir::Dir;
use roadstead::medium::distribution_disk::DistributionDisk;
use roadstead::medium::docker_archive::DockerArchive;
use roadstead::medium::image_layout::ImageLayout;
use roadstead::medium::registrish::Registrish;
use roadstead::medium::static_container_registry::StaticContainerRegistry;
use roadstead::oci::{Reference, Repository, Tag};
use roadstead::tree::TreeSource;

use super::offer::held;
use super::{Archive, Called, InEngine, Keeper, Medium, Offer, Place, Within, files};
use crate::args::Global;
use crate::bucket_args::TreePlace;
use crate::environment::Environment;
use crate::registry_args::Registries;
use crate::{commands, exit};

/// How many repositories are asked for their tags at once.
const LISTS_AT_ONCE: usize = 8;

/// Opens places to read from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    /// `None` where no registry can be meant.
    pub(crate) registries: Option<&'a Registries>,
    /// For the tree of `--tree`, and for those in buckets.
    pub(crate) global: &'a Global,
}

/// A place that was opened.
pub(crate) enum Readable {
    /// A few images.
    Images(Vec<Offer>),
    /// All images of a medium with repositories, more perhaps than memory has room for.
    All(Arc<dyn Source>),
}

impl Readable {
    /// Its images. One that can't be read keeps none of the others back.
    pub(crate) fn offers(&self) -> BoxStream<'_, anyhow::Result<Offer>> {
        match self {
            Self::Images(images) => stream::iter(images).map(|offer| Ok(offer.clone())).boxed(),
            Self::All(source) => {
                let repositories = stream::once(source.repositories()).try_flatten();
                let listed = repositories.map(move |repository| async move {
                    let tags = async { tagged(&**source, &repository?).await };
                    tags.await.map_or_else(|e| vec![Err(e.into())], |offers| offers.into_iter().map(Ok).collect())
                });
                listed.buffered(LISTS_AT_ONCE).flat_map(stream::iter).boxed()
            }
        }
    }
}

impl Reader<'_> {
    /// The places that a place stands for: archives in a folder, or those that fit a pattern, are one each.
    pub(crate) fn expand(place: Place) -> Vec<Result<Place, SourceError>> {
        let (archive, make): (&Archive, fn(Archive) -> Place) = match &place {
            Place::DockerArchive(archive) => (archive, Place::DockerArchive),
            Place::OciArchive(archive) => (archive, Place::OciArchive),
            _ => return vec![Ok(place)],
        };
        let Some(path) = &archive.path else { return vec![Ok(place)] };
        let found = match files::archives(path, &place.to_string()) {
            Ok(found) => found,
            Err(e) => return vec![Err(e)],
        };
        let places = found.into_iter().map(|path| {
            let path = path?;
            Ok(make(Archive { path: Some(path), reference: archive.reference.clone() }))
        });
        places.collect()
    }

    /// Opens a place.
    pub(crate) async fn open(&self, place: &Place) -> anyhow::Result<Readable> {
        let spool = Environment::of_this_process().spool();
        let shown = place.to_string();
        let images = match place {
            Place::Registry(image) => {
                let source = self.registries()?.source(&image.registry, false)?;
                let from = Arc::from(source.repository(&image.repository));
                vec![Offer {
                    from,
                    reference: image.reference(),
                    called: Called::Image(image.clone()),
                    shown: image.to_string(),
                }]
            }
            Place::Engine(what) => {
                let archive = export(what, &spool).await?;
                collected(&archive, None, &shown, None).await?
            }
            Place::DockerArchive(Archive { path, reference }) => {
                let archive = match path {
                    Some(path) => DockerArchive::open(path, &spool).await?,
                    None => DockerArchive::read(tokio::io::stdin(), "docker-archive:-", &spool).await?,
                };
                collected(&archive, reference.as_deref(), &without_reference(place), path.as_deref()).await?
            }
            Place::OciArchive(Archive { path, reference }) => {
                let archive = match path {
                    Some(path) => ImageLayout::open_archive(path, &spool).await?,
                    None => ImageLayout::read_archive(tokio::io::stdin(), "oci-archive:-", &spool).await?,
                };
                collected(&archive, reference.as_deref(), &without_reference(place), path.as_deref()).await?
            }
            Place::Layout { folder, reference } => {
                let layout = ImageLayout::open(folder).await?;
                collected(&layout, reference.as_deref(), &without_reference(place), Some(folder)).await?
            }
            Place::Dir(folder) => collected(&Dir::open(folder).await?, None, &shown, Some(folder)).await?,
            Place::Repositories(Within { medium, repository, reference }) => {
                let source = self.source(medium).await?;
                match (repository, reference) {
                    (Some(repository), Some(reference)) => {
                        vec![within(&Arc::from(source.repository(repository)), repository, reference.clone())]
                    }
                    (Some(repository), None) => match tagged(&*source, repository).await? {
                        tags if tags.is_empty() => {
                            return Err(SourceError::NotFound { what: shown, source: None }.into());
                        }
                        tags => tags,
                    },
                    (None, _) => return Ok(Readable::All(source)),
                }
            }
        };
        Ok(Readable::Images(images))
    }

    /// The images of a place that is not a whole medium with repositories.
    ///
    /// # Errors
    ///
    /// If it is one, or can't be opened.
    pub(crate) async fn images(&self, place: &Place) -> anyhow::Result<Vec<Offer>> {
        match self.open(place).await? {
            Readable::Images(images) => Ok(images),
            Readable::All(_) => Err(exit::usage(format!("{place} names no image; `roadstead add` takes all of them"))),
        }
    }

    fn registries(&self) -> anyhow::Result<&Registries> {
        self.registries.ok_or_else(|| exit::usage("no registry can be asked here"))
    }

    /// A medium with repositories.
    async fn source(&self, medium: &Medium) -> anyhow::Result<Arc<dyn Source>> {
        Ok(match medium {
            Medium::OwnTree => {
                Arc::new(TreeSource::new(commands::open_tree(&self.global.tree, &self.global.bucket).await?))
            }
            Medium::Tree(at) => Arc::new(TreeSource::new(commands::open_tree(at, &self.global.bucket).await?)),
            Medium::Served(url) => Arc::new(self.registries()?.source(url.registry(), url.plain_http())?.below(url)),
            Medium::Kept(keeper, TreePlace::Folder(folder)) => match keeper {
                Keeper::Distribution => Arc::new(DistributionDisk::open(folder).await?),
                Keeper::StaticContainerRegistry => Arc::new(StaticContainerRegistry::open(folder).await?),
                Keeper::Registrish => Arc::new(Registrish::open(folder).await?),
            },
            // The others keep links and settings, which no bucket has.
            Medium::Kept(_, TreePlace::Bucket(at)) => {
                let store = Arc::new(self.global.bucket.open(at)?);
                Arc::new(DistributionDisk::in_store(store, format!("distribution:{at}")).await?)
            }
        })
    }
}

/// What an engine hands out. Layers that several images share come once.
async fn export(what: &InEngine, spool: &Path) -> anyhow::Result<DockerArchive> {
    let host = Environment::of_this_process().engine()?;
    let engine = Daemon::connect(&host).await?;
    let names = match what {
        InEngine::All => engine.names().await?,
        InEngine::Image(image) => vec![image.to_string()],
        InEngine::Id(id) => vec![id.to_string()],
    };
    if names.is_empty() {
        let problem = "it has no images with names".to_owned();
        return Err(SourceError::Invalid { what: host.to_string(), problem }.into());
    }
    Ok(engine.export(&names, spool).await?)
}

/// The images of a collection that lies at `path`.
async fn collected(
    collection: &dyn Collection,
    reference: Option<&str>,
    shown: &str,
    path: Option<&Path>,
) -> Result<Vec<Offer>, SourceError> {
    let from = Arc::from(collection.content());
    held(&from, collection.images().await?, reference, shown, path.and_then(files::repository).as_ref())
}

/// The images of a repository that have a tag.
async fn tagged(source: &dyn Source, repository: &Repository) -> Result<Vec<Offer>, SourceError> {
    let from: Arc<dyn RepositorySource> = Arc::from(source.repository(repository));
    let mut tags: Vec<Tag> = from.tags().try_collect().await?;
    tags.sort_unstable();
    Ok(tags.into_iter().map(|tag| within(&from, repository, tag.into())).collect())
}

fn within(from: &Arc<dyn RepositorySource>, repository: &Repository, reference: Reference) -> Offer {
    let tag = match &reference {
        Reference::Tag(tag) => Some(tag.clone()),
        Reference::Digest(_) => None,
    };
    let shown = from.describe(&reference);
    Offer { from: from.clone(), called: Called::Within(repository.clone(), tag), reference, shown }
}

/// The place as a whole, as people write it.
fn without_reference(place: &Place) -> String {
    let whole = |path: &Option<PathBuf>| Archive { path: path.clone(), reference: None };
    match place {
        Place::DockerArchive(archive) => Place::DockerArchive(whole(&archive.path)).to_string(),
        Place::OciArchive(archive) => Place::OciArchive(whole(&archive.path)).to_string(),
        Place::Layout { folder, .. } => Place::Layout { folder: folder.clone(), reference: None }.to_string(),
        other => other.to_string(),
    }
}

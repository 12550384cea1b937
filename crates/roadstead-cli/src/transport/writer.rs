//! Opens places to write to.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use roadstead::image::{Compress, Compression, RepositorySink, Sink as _, SinkError};
use roadstead::medium::Output;
use roadstead::medium::daemon::{Daemon, DaemonSink};
use roadstead::medium::dir::DirSink;
use roadstead::medium::docker_archive::DockerArchiveSink;
use roadstead::medium::image_layout::ImageLayoutSink;
use roadstead::medium::registry::RegistrySink;
use roadstead::oci::{ImageReference, Reference, Repository, Tag};
use roadstead::tree::Tree;

use super::{Archive, Called, InEngine, Medium, Offer, Place, Within};
use crate::args::Global;
use crate::environment::Environment;
use crate::registry_args::Registries;
use crate::{commands, exit};

/// Opens places to write to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer<'a> {
    /// `None` where no registry can be meant.
    pub(crate) registries: Option<&'a Registries>,
    /// For the tree of `--tree`, and for those in buckets.
    pub(crate) global: &'a Global,
    pub(crate) no_sync: bool,
}

/// A place that was opened to be written.
pub(crate) enum Opened {
    Registry(RegistrySink),
    Engine(DaemonSink),
    DockerArchive(DockerArchiveSink),
    Layout(ImageLayoutSink),
    Dir(DirSink),
    Tree(Tree),
}

/// What an image is called where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Destined {
    pub(crate) at: At,
    pub(crate) tag: Option<Tag>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum At {
    /// In a place with repositories.
    Repository(Repository),
    /// In a place without: the name that says registry and repository, if there is one.
    Name(Option<ImageReference>),
}

impl Place {
    /// Refuses what only can be read.
    pub(crate) fn expect_writable(&self) -> anyhow::Result<()> {
        let refused = |problem: &str| Err(exit::usage(format!("{self} is no destination: {problem}")));
        match self {
            Self::Registry(image) if image.digest.is_some() => {
                refused("an image is put under a tag, not under a digest")
            }
            Self::Engine(InEngine::All | InEngine::Id(_)) => refused("an image needs a name there"),
            Self::Repositories(Within { medium: Medium::Served(url), .. }) => refused(&format!(
                "a tree is written in its folder; for a registry write docker://{}/REPOSITORY:TAG",
                url.registry()
            )),
            Self::Repositories(Within { medium: Medium::Kept(..), .. }) => {
                refused("what others keep is read and never written; for a tree write tree:FOLDER//REPOSITORY:TAG")
            }
            Self::Repositories(Within { repository: None, .. }) => refused("the repository is missing"),
            Self::Repositories(Within { reference: Some(Reference::Digest(_)), .. }) => {
                refused("an image is put under a tag, not under a digest")
            }
            Self::DockerArchive(Archive { reference: Some(name), .. }) if name.parse::<ImageReference>().is_err() => {
                refused("engines want names such as REPOSITORY:TAG")
            }
            Self::DockerArchive(Archive { path: None, .. }) | Self::OciArchive(Archive { path: None, .. })
                if std::io::stdout().is_terminal() =>
            {
                refused("standard output is a terminal")
            }
            _ => Ok(()),
        }
    }

    /// Whether writing it takes standard output.
    pub(crate) fn writes_stdout(&self) -> bool {
        self.reads_stdin()
    }

    /// Whether it holds images for one platform alone.
    pub(crate) const fn holds_one_platform(&self) -> bool {
        matches!(self, Self::DockerArchive(_) | Self::Engine(_))
    }

    /// Which layers are compressed on the way here, if nobody says. Who loads an archive unpacks it at once, and a folder is for
    /// a look at what there is.
    pub(crate) const fn compress(&self) -> Compress {
        match self {
            Self::DockerArchive(_) | Self::Engine(_) | Self::Dir(_) => Compress::Never,
            _ => Compress::Made(Compression::GZIP),
        }
    }

    /// What an image is called here: as was typed, else as it is called where it comes from.
    ///
    /// # Errors
    ///
    /// If it can't be called so here.
    pub(crate) fn name(&self, offer: &Offer) -> anyhow::Result<Destined> {
        let latest = |tag: Option<&Tag>| tag.cloned().or_else(|| Some(Tag::latest()));
        Ok(match self {
            Self::Registry(image) => {
                Destined { at: At::Repository(image.repository.clone()), tag: latest(image.tag.as_ref()) }
            }
            Self::Engine(InEngine::Image(image)) => {
                Destined { at: At::Name(Some(image.clone())), tag: latest(image.tag.as_ref()) }
            }
            Self::Repositories(Within { repository: Some(repository), reference, .. }) => {
                let typed = match reference {
                    Some(Reference::Tag(tag)) => Some(tag),
                    _ => offer.called.tag(),
                };
                Destined { at: At::Repository(repository.clone()), tag: latest(typed) }
            }
            Self::DockerArchive(Archive { reference: Some(name), .. }) => {
                let image: ImageReference = name.parse()?;
                let tag = latest(image.tag.as_ref());
                Destined { at: At::Name(Some(image)), tag }
            }
            Self::OciArchive(Archive { reference: Some(name), .. }) | Self::Layout { reference: Some(name), .. } => {
                match name.parse::<Tag>() {
                    Ok(tag) => Destined { at: At::Name(None), tag: Some(tag) },
                    Err(_) => {
                        let image: ImageReference = name.parse()?;
                        let tag = latest(image.tag.as_ref());
                        Destined { at: At::Name(Some(image)), tag }
                    }
                }
            }
            Self::Dir(_) => Destined { at: At::Name(None), tag: None },
            _ => own_name(&offer.called)?,
        })
    }

    /// An image here, as people write it.
    pub(crate) fn show(&self, destined: &Destined) -> String {
        let name = match (&destined.at, &destined.tag) {
            (At::Repository(repository), Some(tag)) => format!("{repository}:{tag}"),
            (At::Repository(repository), None) => repository.to_string(),
            (At::Name(Some(image)), Some(tag)) => format!("{}/{}:{tag}", image.registry, image.repository),
            (At::Name(None), Some(tag)) => tag.to_string(),
            (At::Name(_), None) => return self.to_string(),
        };
        let path = |transport: &str, path: &Option<PathBuf>| {
            format!("{transport}:{}:{name}", path.as_deref().map_or("-".into(), |path| path.display().to_string()))
        };
        match self {
            Self::Registry(image) => format!("docker://{}/{name}", image.registry),
            Self::Engine(_) => format!("docker-daemon:{name}"),
            Self::DockerArchive(archive) => path("docker-archive", &archive.path),
            Self::OciArchive(archive) => path("oci-archive", &archive.path),
            Self::Layout { folder, .. } => format!("oci:{}:{name}", folder.display()),
            Self::Dir(folder) => format!("dir:{}", folder.display()),
            Self::Repositories(within) => format!("{}{name}", within.medium),
        }
    }
}

/// The name that an image has where it comes from, as archives and layouts keep it.
fn own_name(called: &Called) -> anyhow::Result<Destined> {
    Ok(match called {
        Called::Image(image) => Destined { at: At::Name(Some(image.clone())), tag: image.tag.clone() },
        Called::Within(repository, Some(tag)) => {
            // As docker reads it: a first component that names a registry is one.
            let image: ImageReference = format!("{repository}:{tag}").parse()?;
            Destined { at: At::Name(Some(image)), tag: Some(tag.clone()) }
        }
        Called::Bare { tag, .. } => Destined { at: At::Name(None), tag: tag.clone() },
        Called::Within(_, None) | Called::Other(_) => Destined { at: At::Name(None), tag: None },
    })
}

impl Writer<'_> {
    /// Opens a place.
    pub(crate) async fn open(&self, place: &Place) -> anyhow::Result<Opened> {
        let environment = Environment::of_this_process();
        let spool = environment.spool();
        Ok(match place {
            Place::Registry(image) => {
                let registries = self.registries.context("no registry can be asked here")?;
                Opened::Registry(registries.sink(&image.registry)?)
            }
            Place::Engine(_) => Opened::Engine(Daemon::connect(&environment.engine()?).await?.sink(&spool)?),
            Place::DockerArchive(archive) => Opened::DockerArchive(DockerArchiveSink::create(output(archive), &spool)?),
            Place::OciArchive(archive) => Opened::Layout(ImageLayoutSink::create_archive(output(archive), &spool)?),
            Place::Layout { folder, .. } => Opened::Layout(ImageLayoutSink::create(folder)?),
            Place::Dir(folder) => Opened::Dir(DirSink::create(folder)?),
            Place::Repositories(Within { medium, .. }) => {
                let at = match medium {
                    Medium::OwnTree => &self.global.tree,
                    Medium::Tree(at) => at,
                    Medium::Served(_) | Medium::Kept(..) => {
                        return Err(exit::usage(format!("{place} is no destination")));
                    }
                };
                Opened::Tree(commands::create_tree(at, &self.global.bucket, self.no_sync).await?)
            }
        })
    }
}

fn output(archive: &Archive) -> Output {
    match &archive.path {
        Some(path) => path.as_path().into(),
        None => Output::Stream(Box::new(std::io::stdout())),
    }
}

impl Opened {
    /// The same, asking a registry first for what that repository of it has.
    pub(crate) fn mount_from(self, repository: &Repository) -> Self {
        match self {
            Self::Registry(sink) => Self::Registry(sink.mount_from(repository.clone())),
            other => other,
        }
    }

    /// Where an image goes.
    pub(crate) async fn image(&self, at: &At) -> anyhow::Result<Box<dyn RepositorySink>> {
        let name = match at {
            At::Name(name) => name.as_ref(),
            At::Repository(_) => None,
        };
        Ok(match (self, at) {
            (Self::Registry(sink), At::Repository(repository)) => sink.repository(repository).await?,
            (Self::Tree(tree), At::Repository(repository)) => tree.repository(repository).await?,
            (Self::Engine(sink), _) => sink.image(name),
            (Self::DockerArchive(sink), _) => sink.image(name),
            (Self::Layout(sink), _) => sink.image(name),
            (Self::Dir(sink), _) => sink.image(name),
            (Self::Registry(_) | Self::Tree(_), At::Name(_)) => bail!("an image needs a repository there"),
        })
    }

    /// Writes what is still to be written.
    pub(crate) async fn close(self) -> Result<(), SinkError> {
        match self {
            Self::Registry(_) | Self::Tree(_) => Ok(()),
            Self::Engine(sink) => sink.close().await,
            Self::DockerArchive(sink) => sink.close().await,
            Self::Layout(sink) => sink.close().await,
            Self::Dir(sink) => sink.close().await,
        }
    }
}

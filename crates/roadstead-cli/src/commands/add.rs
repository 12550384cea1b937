//! `roadstead add`

mod list;
mod names;
mod plan;

use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use roadstead::image::{Compress, Compression, Copier, RepositorySink, Sink as _};
use roadstead::oci::{Repository, Tag};
use roadstead::tree::Tree;

use crate::args::Global;
use crate::copy_args::CopyArgs;
use crate::exit;
use crate::output::Output;
use crate::output::copied::Report;
use crate::output::progress::Progress;
use crate::registry_args::RegistryArgs;
use crate::transport::{InEngine, Place, Readable, Reader};
use names::{Naming, Target};
use plan::{Plan, Planned, Planner};

/// How many images are worked on at once; their blobs wait for `--jobs`.
const IMAGES_AT_ONCE: usize = 16;

/// How many repositories get their lists at once: they are written together, and the catalogue once for them all.
const REPOSITORIES_AT_ONCE: usize = 256;

/// How many archives, layouts and the like are open at once. Compressed ones take room on the disk as long as they are.
const PLACES_AT_ONCE: usize = 4;

/// How many images of such places are named before they are copied.
const IMAGES_IN_A_BATCH: usize = 1024;

/// Copy images into the tree: from registries, archives, layouts, engines, other trees
///
/// All platforms come unless --platform says otherwise. What the tree has is not fetched again: adding an image that has not
/// changed costs one request.
#[derive(Debug, clap::Args)]
#[command(after_help = "Sources:
  [docker://][REGISTRY/]REPOSITORY[:TAG][@DIGEST]
  docker-daemon:IMAGE                  an image of the Docker engine; with --all, `docker-daemon:` is every one that has a name
  docker-archive:FILE[:IMAGE]          what `docker save` wrote; all images in it, or one
  oci-archive:FILE[:IMAGE]             an OCI layout in a tar archive
  oci:FOLDER[:IMAGE]                   an OCI layout
  dir:FOLDER                           skopeo's folder
  tree:FOLDER-OR-URL//[REPOSITORY[:TAG]]   another tree, all of it or a part
  distribution:FOLDER[//REPOSITORY[:TAG]]  what a registry:2 or registry:3 keeps, such as /var/lib/registry
  static-container-registry:FOLDER, registrish:FOLDER    folders of these programs, likewise
FILE may be compressed, a folder of archives, a pattern such as 'images/*.tar', or - for standard input.

Examples:
  roadstead add alpine:3.20 ghcr.io/org/app:1.2
  roadstead add localhost:5000/app:dev -t app:dev -t app:latest
  roadstead add --platform linux/amd64,linux/arm64 debian:12
  roadstead add --referrers ghcr.io/org/signed:1
  docker save app:1 | roadstead add docker-archive:-
  roadstead add distribution:/var/lib/registry
  roadstead add tree:https://user.github.io/images//org/app:1
  roadstead add docker-daemon:app:1 oci:build/layout:edge 'oci-archive:images/*.tar.gz'
  roadstead add - < images.txt")]
pub(crate) struct Add {
    /// Where images come from; `-` reads more of these from standard input, one a line
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<Typed>,

    /// What one image is called in the tree, instead of its own name
    #[arg(short, long = "tag", value_name = "REPOSITORY[:TAG]")]
    tags: Vec<Target>,

    #[command(flatten)]
    naming: Naming,

    /// With docker-daemon: every image of the engine that has a name
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    copy: CopyArgs,

    /// Don't wait until the disk has everything: faster, but a power cut may lose what was added
    #[arg(long)]
    no_sync: bool,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// What is typed for a source.
#[derive(Debug, Clone)]
enum Typed {
    Place(Place),
    StandardInput,
}

impl std::str::FromStr for Typed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::StandardInput);
        }
        // In one line, since the parser of the command line shows no causes.
        text.parse().map(Self::Place).map_err(|e| format!("{:#}", anyhow::Error::new(e)))
    }
}

pub(crate) async fn run(args: Add, global: &Global, output: &Output) -> anyhow::Result<()> {
    let places = places(&args).await?;
    let registries = args.registry.registries()?;
    let reader = Reader { registries: Some(&registries), global };
    let mut planner = Planner::new(&args.naming, &args.tags, output);

    // Images of registries have the names that were typed: whether they go together shows before anything is asked.
    let (images, places): (Vec<Place>, Vec<Place>) =
        places.into_iter().partition(|place| matches!(place, Place::Registry(_)));
    let mut plan = Plan::new();
    for image in &images {
        let opened = reader.open(image).await?;
        let mut offers = opened.offers();
        while let Some(offer) = offers.next().await {
            planner.add(&mut plan, &offer?)?;
        }
    }

    let mut errors = Vec::new();
    let mut waiting = Vec::new();
    for place in places.into_iter().flat_map(Reader::expand) {
        match place {
            Ok(place) => waiting.push(place),
            Err(e) => errors.push(e.into()),
        }
    }
    let progress = Arc::new(Progress::new(output));
    let mut adding = Adding {
        tree: super::create_tree(&global.tree, &global.bucket, args.no_sync).await?,
        copier: Copier::new(args.copy.options(global, Compress::Made(Compression::GZIP))?, progress.clone()),
        slots: tokio::sync::Semaphore::new(IMAGES_AT_ONCE),
        reports: Vec::new(),
        errors,
    };
    adding.copy(plan).await;
    for some in waiting.chunks(PLACES_AT_ONCE) {
        let opened: Vec<_> =
            stream::iter(some).map(|place| reader.open(place)).buffered(PLACES_AT_ONCE).collect().await;
        let mut readable = Vec::new();
        for place in opened {
            match place {
                Ok(place) => readable.push(place),
                Err(e) => adding.errors.push(e),
            }
        }
        if !args.tags.is_empty() {
            expect_one(&readable)?;
        }
        let mut batches = stream::iter(&readable).flat_map(Readable::offers).chunks(IMAGES_IN_A_BATCH);
        while let Some(offers) = batches.next().await {
            let mut plan = Plan::new();
            for offer in offers {
                let planned = offer.and_then(|offer| planner.add(&mut plan, &offer));
                adding.errors.extend(planned.err());
            }
            adding.copy(plan).await;
        }
    }
    progress.finish();

    output.note_new_digests(&adding.reports);
    output.copied(&adding.reports)?;
    // The last one decides the exit code, and is printed by whoever turns it into one.
    let last = adding.errors.pop();
    adding.errors.iter().for_each(|error| output.error(error));
    last.map_or(Ok(()), Err)
}

/// What was typed, also on standard input.
async fn places(args: &Add) -> anyhow::Result<Vec<Place>> {
    let takers = args.sources.iter().filter(|typed| match typed {
        Typed::Place(place) => place.reads_stdin(),
        Typed::StandardInput => true,
    });
    match (takers.count(), args.registry.takes_stdin()) {
        (0, _) | (1, false) => {}
        (1, true) => {
            return Err(exit::usage(
                "standard input can't hold both what is added (-) and a password (--password-stdin)",
            ));
        }
        _ => return Err(exit::usage("standard input can be read only once")),
    }
    let mut places = Vec::new();
    for typed in &args.sources {
        match typed {
            Typed::Place(place) => places.push(place.clone()),
            Typed::StandardInput => {
                let typed = places.len();
                list::read(&mut places).await?;
                if places[typed..].iter().any(Place::reads_stdin) {
                    return Err(exit::usage("standard input can't hold both a list of images and one of them"));
                }
            }
        }
    }
    if !args.tags.is_empty() && places.len() != 1 {
        return Err(exit::usage(format!("--tag names one image, and there are {}", places.len())));
    }
    if !args.all && places.contains(&Place::Engine(InEngine::All)) {
        return Err(exit::usage("docker-daemon: names no image; with --all it is every image that has a name"));
    }
    Ok(places)
}

/// Refuses to give several images one name.
fn expect_one(places: &[Readable]) -> anyhow::Result<()> {
    let mut images = Vec::new();
    for place in places {
        let Readable::Images(offers) = place else {
            return Err(exit::usage(
                "--tag names one image, and a whole tree has many: write REPOSITORY:TAG behind it",
            ));
        };
        images.extend(offers.iter().map(|offer| (offer.identity(), &offer.shown)));
    }
    images.sort_unstable();
    images.dedup_by(|a, b| a.0 == b.0);
    match &*images {
        [] | [_] => Ok(()),
        [(_, first), (_, second), more @ ..] => {
            let others = if more.is_empty() { "" } else { ", …" };
            let number = images.len();
            Err(exit::usage(format!("--tag names one image, and there are {number}: {first}, {second}{others}")))
        }
    }
}

/// Images on their way into the tree, and what became of those before.
struct Adding {
    tree: Tree,
    copier: Copier,
    slots: tokio::sync::Semaphore,
    reports: Vec<Report>,
    errors: Vec<anyhow::Error>,
}

/// What became of the images of one repository.
#[derive(Default)]
struct Added {
    reports: Vec<Report>,
    errors: Vec<anyhow::Error>,
    /// Where they are, if there is anything that the lists don't say yet.
    unfinished: Option<(Repository, Box<dyn RepositorySink>)>,
}

impl Adding {
    /// Copies images, and brings the lists up to date.
    async fn copy(&mut self, plan: Plan) {
        let (mut reports, mut errors) = (Vec::new(), Vec::new());
        let mut added = stream::iter(plan)
            .map(|(repository, images)| self.add(repository, images))
            .buffered(IMAGES_AT_ONCE)
            .chunks(REPOSITORIES_AT_ONCE);
        while let Some(repositories) = added.next().await {
            for repository in futures::future::join_all(repositories.into_iter().map(finish)).await {
                reports.extend(repository.reports);
                errors.extend(repository.errors);
            }
        }
        drop(added);
        self.reports.extend(reports);
        self.errors.extend(errors);
    }

    /// Copies the images of one repository. One that fails keeps none of the others back.
    async fn add(&self, repository: Repository, images: Vec<Planned>) -> Added {
        let mut added = Added::default();
        let opened = match self.tree.repository(&repository).await {
            Ok(sink) => sink,
            Err(e) => {
                added.errors.push(e.into());
                return added;
            }
        };
        let (sink, name) = (&*opened, &repository);
        let copies = images.into_iter().map(|Planned { offer, tags, .. }| async move {
            let _slot = self.slots.acquire().await;
            let tags: Vec<Tag> = tags.into_iter().collect();
            let copied = self.copier.copy(&*offer.from, &offer.reference, sink, &tags).await?;
            let names = match &*tags {
                [] => vec![format!("{name}@{}", copied.descriptor.digest)],
                tags => tags.iter().map(|tag| format!("{name}:{tag}")).collect(),
            };
            Ok(Report::new(offer.shown.clone(), names, &copied))
        });
        let copied: Vec<anyhow::Result<Report>> = stream::iter(copies).buffered(IMAGES_AT_ONCE).collect().await;
        for result in copied {
            match result {
                Ok(report) => added.reports.push(report),
                Err(e) => added.errors.push(e),
            }
        }
        if !added.reports.is_empty() {
            added.unfinished = Some((repository, opened));
        }
        added
    }
}

/// Brings the lists of a repository up to date.
async fn finish(mut added: Added) -> Added {
    if let Some((repository, sink)) = added.unfinished.take()
        && let Err(e) = sink.finish().await
    {
        added.errors.push(anyhow::Error::new(e).context(format!("the lists of {repository} are not up to date")));
    }
    added
}

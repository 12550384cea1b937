//! `roadstead add`

mod names;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use futures::stream::{StreamExt as _, TryStreamExt as _};
use roadstead::image::{
    Copied, Copier, CopyOptions, Platforms, RepositorySink, RepositorySource, Sink as _, Source as _,
};
use roadstead::medium::registry::RegistrySource;
use roadstead::oci::{ImageReference, Platform, Registry, Repository, Tag};
use roadstead::tree::Tree;
use tokio::io::AsyncBufReadExt as _;

use crate::args::{Format, Global};
use crate::exit;
use crate::output::Output;
use crate::output::progress::Progress;
use crate::registry_args::RegistryArgs;
use names::{Naming, Target};

/// How many images are worked on at once; their blobs wait for `--jobs`.
const IMAGES_AT_ONCE: usize = 16;

/// How many repositories get their lists at once: they are written together, and the catalogue once for them all.
const REPOSITORIES_AT_ONCE: usize = 256;

/// The longest line of a list of images on standard input.
const MAX_LINE: usize = 4096;

/// Copy images from registries into the tree
///
/// All platforms come unless --platform says otherwise. What the tree has is not fetched again: adding an image that has not
/// changed costs one request.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  roadstead add alpine:3.20 ghcr.io/org/app:1.2
  roadstead add localhost:5000/app:dev -t app:dev -t app:latest
  roadstead add --platform linux/amd64,linux/arm64 debian:12
  roadstead add --referrers ghcr.io/org/signed:1
  roadstead add - < images.txt")]
pub(crate) struct Add {
    /// Images as docker names them, [docker://][REGISTRY/]REPOSITORY[:TAG][@DIGEST]; `-` reads more from standard input, one
    /// a line
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Typed>,

    /// What one image is called in the tree, instead of its own name
    #[arg(short, long = "tag", value_name = "REPOSITORY[:TAG]")]
    tags: Vec<Target>,

    #[command(flatten)]
    naming: Naming,

    /// Copy only these platforms; the index stays as it is, and the tree records what was left out
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    platforms: Vec<Platform>,

    /// With --platform: write a new index that names only them (it has another digest)
    #[arg(long, requires = "platforms")]
    strip_removed_platforms: bool,

    /// Copy also what refers to the images: signatures, attestations, SBOMs
    #[arg(long)]
    referrers: bool,

    /// How many blobs are copied at once
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,

    /// Don't wait until the disk has everything: faster, but a power cut may lose what was added
    #[arg(long)]
    no_sync: bool,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// What is typed for an image.
#[derive(Debug, Clone)]
enum Typed {
    Image(ImageReference),
    StandardInput,
}

impl std::str::FromStr for Typed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // In one line, since the parser of the command line shows no causes.
        if text == "-" { Ok(Self::StandardInput) } else { image(text).map(Self::Image).map_err(|e| format!("{e:#}")) }
    }
}

/// One image to copy, and the names that it gets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Planned {
    image: ImageReference,
    tags: BTreeSet<Tag>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    image: String,
    /// What names it in the tree.
    names: Vec<String>,
    digest: String,
    media_type: String,
    /// Another digest than at its source, since platforms were stripped.
    #[serde(skip_serializing_if = "Option::is_none")]
    source_digest: Option<String>,
    /// Whether a name leads to something else than before.
    changed: bool,
}

pub(crate) async fn run(args: Add, global: &Global, output: &Output) -> anyhow::Result<()> {
    if args.registry.takes_stdin() && args.images.iter().any(|typed| matches!(typed, Typed::StandardInput)) {
        return Err(exit::usage(
            "standard input can't hold both a list of images (-) and a password (--password-stdin)",
        ));
    }
    let plan = plan(&args).await?;
    let registries = args.registry.registries()?;
    let mut sources: HashMap<Registry, RegistrySource> = HashMap::new();
    for image in plan.values().flatten().map(|planned| &planned.image) {
        if !sources.contains_key(&image.registry) {
            sources.insert(image.registry.clone(), registries.source(&image.registry)?);
        }
    }

    let tree = super::create(global, args.no_sync).await?;
    let progress = Arc::new(Progress::new(output));
    let platforms = match (args.platforms.is_empty(), args.strip_removed_platforms) {
        (true, _) => Platforms::All,
        (false, false) => Platforms::Keep(args.platforms),
        (false, true) => Platforms::Strip(args.platforms),
    };
    let options = CopyOptions { jobs: usize::from(args.jobs), platforms, referrers: args.referrers };
    let copier = Copier::new(options, progress.clone());
    let slots = tokio::sync::Semaphore::new(IMAGES_AT_ONCE);

    let mut added = futures::stream::iter(plan)
        .map(|(repository, images)| add(&tree, repository, images, &sources, &copier, &slots))
        .buffered(IMAGES_AT_ONCE)
        .chunks(REPOSITORIES_AT_ONCE);
    let (mut reports, mut errors) = (Vec::new(), Vec::new());
    while let Some(repositories) = added.next().await {
        for repository in futures::future::join_all(repositories.into_iter().map(finish)).await {
            reports.extend(repository.reports);
            errors.extend(repository.errors);
        }
    }
    progress.finish();

    for report in &reports {
        if let Some(source) = &report.source_digest {
            output.note(&format!("{} has a new index: {} was {source}", report.image, report.digest));
        }
    }
    match output.format {
        Format::Json => output.json(&reports)?,
        Format::Text => {
            let names = reports.iter().flat_map(|report| report.names.iter().map(move |name| (name, &report.digest)));
            for (name, digest) in names {
                let tagged = if name.contains('@') { name.clone() } else { format!("{name}@{digest}") };
                output.result(&tagged)?;
            }
        }
    }
    // The last one decides the exit code, and is printed by whoever turns it into one.
    let last = errors.pop();
    errors.iter().for_each(|error| output.error(error));
    last.map_or(Ok(()), Err)
}

/// What became of the images of one repository.
#[derive(Default)]
struct Added {
    reports: Vec<Report>,
    errors: Vec<anyhow::Error>,
    /// Where they are, if there is anything that the lists don't say yet.
    unfinished: Option<(Repository, Box<dyn RepositorySink>)>,
}

/// Copies the images of one repository. One that fails keeps none of the others back.
async fn add(
    tree: &Tree,
    repository: Repository,
    images: Vec<Planned>,
    sources: &HashMap<Registry, RegistrySource>,
    copier: &Copier,
    slots: &tokio::sync::Semaphore,
) -> Added {
    let mut added = Added::default();
    let opened = match tree.repository(&repository).await {
        Ok(sink) => sink,
        Err(e) => {
            added.errors.push(e.into());
            return added;
        }
    };
    let (sink, name) = (&*opened, &repository);
    let copies = images.into_iter().map(|Planned { image, tags }| {
        let source: Option<Box<dyn RepositorySource>> =
            sources.get(&image.registry).map(|source| source.repository(&image.repository));
        async move {
            let _slot = slots.acquire().await;
            let source = source.context("the registry is not known")?;
            let tags: Vec<Tag> = tags.into_iter().collect();
            let copied = copier.copy(&*source, &image.reference(), sink, &tags).await?;
            Ok(report(&image, name, &tags, &copied))
        }
    });
    let copied: Vec<anyhow::Result<Report>> = futures::stream::iter(copies).buffered(IMAGES_AT_ONCE).collect().await;
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

/// Brings the lists of a repository up to date.
async fn finish(mut added: Added) -> Added {
    if let Some((repository, sink)) = added.unfinished.take()
        && let Err(e) = sink.finish().await
    {
        added.errors.push(anyhow::Error::new(e).context(format!("the lists of {repository} are not up to date")));
    }
    added
}

fn report(image: &ImageReference, repository: &Repository, tags: &[Tag], copied: &Copied) -> Report {
    let digest = copied.descriptor.digest;
    let names = match tags {
        [] => vec![format!("{repository}@{digest}")],
        tags => tags.iter().map(|tag| format!("{repository}:{tag}")).collect(),
    };
    Report {
        image: image.to_string(),
        names,
        digest: digest.to_string(),
        media_type: copied.descriptor.media_type.clone(),
        source_digest: (copied.resolved.digest != digest).then(|| copied.resolved.digest.to_string()),
        changed: copied.changed,
    }
}

/// What to copy, by repository of the tree.
async fn plan(args: &Add) -> anyhow::Result<BTreeMap<Repository, Vec<Planned>>> {
    let mut images = Vec::new();
    for typed in &args.images {
        match typed {
            Typed::Image(image) => images.push(image.clone()),
            Typed::StandardInput => read_list(&mut images).await?,
        }
    }
    if !args.tags.is_empty() && images.len() != 1 {
        return Err(exit::usage(format!("--tag names one image, and there are {}", images.len())));
    }
    let mut plan: BTreeMap<Repository, Vec<Planned>> = BTreeMap::new();
    for image in images {
        let targets = match args.tags.as_slice() {
            [] => vec![args.naming.target(&image)?],
            targets => { targets.iter().map(|target| args.naming.below_prefix(target)) }.collect::<Result<_, _>>()?,
        };
        for Target { repository, tag } in targets {
            let tag = tag.or_else(|| image.tag.clone()).or_else(|| (!args.tags.is_empty()).then(Tag::latest));
            let planned = plan.entry(repository).or_default();
            // The same image under several tags is copied once, and the same word twice is one word.
            match planned.iter_mut().find(|planned| planned.image == image) {
                Some(planned) => planned.tags.extend(tag),
                None => planned.push(Planned { image: image.clone(), tags: tag.into_iter().collect() }),
            }
        }
    }
    for (repository, images) in &plan {
        let mut seen: HashMap<&Tag, &ImageReference> = HashMap::new();
        for planned in images {
            for tag in &planned.tags {
                if tag.is_referrers_fallback() {
                    bail!(
                        "{repository}:{tag} is where clients look for referrers, which the tree lists by itself; name the image \
                         otherwise with --tag"
                    );
                }
                if let Some(other) = seen.insert(tag, &planned.image) {
                    bail!(
                        "{other} and {} would both be {repository}:{tag}; use --keep-registry, or add them one by one with --tag",
                        planned.image
                    );
                }
            }
        }
    }
    Ok(plan)
}

/// An image as people type it.
fn image(typed: &str) -> anyhow::Result<ImageReference> {
    let name = typed.strip_prefix("docker://").unwrap_or(typed);
    const OTHERS: [&str; 7] =
        ["docker-daemon:", "docker-archive:", "oci:", "oci-archive:", "dir:", "containers-storage:", "tree:"];
    if let Some(transport) = OTHERS.iter().find(|transport| name.starts_with(*transport)) {
        bail!("images come from registries (docker://), not from {transport}");
    }
    Ok(name.parse()?)
}

/// Images from standard input, one a line; empty lines and those that begin with # don't count.
async fn read_list(images: &mut Vec<ImageReference>) -> anyhow::Result<()> {
    let mut lines = tokio_lines();
    while let Some(line) = lines.try_next().await? {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            images.push(image(line).with_context(|| format!("{line:?} on standard input names no image"))?);
        }
    }
    Ok(())
}

/// The lines of standard input, each bounded.
fn tokio_lines() -> futures::stream::BoxStream<'static, anyhow::Result<String>> {
    let stdin = tokio::io::BufReader::new(tokio::io::stdin());
    futures::stream::try_unfold(stdin, |mut stdin| async move {
        let mut line = Vec::new();
        loop {
            let buffer = stdin.fill_buf().await.context("standard input can't be read")?;
            if buffer.is_empty() {
                break;
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(buffer.len(), |end| end + 1);
            line.extend_from_slice(&buffer[..taken]);
            stdin.consume(taken);
            if line.len() > MAX_LINE {
                bail!("standard input has a line of more than {MAX_LINE} bytes, which names no image");
            }
            if end.is_some() {
                break;
            }
        }
        let text = String::from_utf8(line).context("standard input is not text")?;
        Ok((!text.is_empty()).then_some((text, stdin)))
    })
    .boxed()
}

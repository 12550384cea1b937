//! `roadstead inspect`

mod report;
mod text;

use std::io::Write as _;

use anyhow::{Context as _, bail};
use roadstead::image::MAX_DEPTH;
use roadstead::oci::{Kind, Manifest, Platform, Reference, Repository, Tag};
use roadstead::tree::{Tree, TreeError};

use super::Name;
use crate::args::{Global, Printed};
use crate::output::Output;
use report::Reporter;

/// Show what a name in the tree leads to
///
/// Of an index its platforms, of an image what it runs, its layers and how they came to be, of both what refers to them:
/// signatures, attestations, SBOMs. --format json has all of it at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// REPOSITORY[:TAG] or REPOSITORY@DIGEST; without either, the tag latest
    name: Name,

    /// Of an index, the image for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,

    /// Print the manifest as it is, byte for byte
    #[arg(long, conflicts_with = "config")]
    raw: bool,

    /// Print the config as it is, byte for byte
    #[arg(long)]
    config: bool,
}

pub(crate) async fn run(args: Inspect, global: &Global, output: &Output) -> anyhow::Result<()> {
    let tree = super::open(global).await?;
    let Name { repository, reference } = &args.name;
    let reference = reference.clone().unwrap_or(Reference::Tag(Tag::latest()));
    let separator = if matches!(reference, Reference::Tag(_)) { ':' } else { '@' };
    let name = format!("{repository}{separator}{reference}");
    let manifest = tree.find(repository, &reference).await?;
    let mut manifest = manifest.ok_or_else(|| TreeError::Unknown(name.clone()))?;
    if let Some(platform) = &args.platform {
        let chosen = choose(&tree, repository, manifest, platform, 0).await?;
        manifest = chosen.ok_or_else(|| TreeError::Unknown(format!("{name} for {platform}")))?;
    }
    if args.raw {
        return print(manifest.bytes());
    }
    if args.config {
        let Some(config) = manifest.config() else {
            bail!("{name} has no config; of an index, --platform OS/ARCH chooses an image that has one");
        };
        let bytes = report::config(&tree, repository, config).await?;
        let bytes = bytes.ok_or_else(|| TreeError::Unknown(format!("the config {} of {name}", config.digest)))?;
        let actual = config.digest.algorithm().digest(&bytes);
        if actual != config.digest {
            bail!("the config {} of {name} is damaged: its bytes are {actual}", config.digest);
        }
        return print(&bytes);
    }
    let report = Reporter::new(&tree, repository).report(name, &manifest).await?;
    match output.format {
        Printed::Json => output.json(&report),
        Printed::Text => output.result(&text::render(&report)),
    }
}

fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        // Whoever reads has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output is closed"),
    }
}

/// The first image for a platform: in an index, or in one of the indexes within it; of an image, itself.
async fn choose(
    tree: &Tree,
    repository: &Repository,
    manifest: Manifest,
    wanted: &Platform,
    depth: usize,
) -> anyhow::Result<Option<Manifest>> {
    if manifest.kind() != Kind::Index {
        let image = report::image(tree, repository, &manifest).await?;
        let platform = image.and_then(|image| serde_json::from_value::<Platform>(image).ok());
        return Ok(platform.is_some_and(|platform| platform.satisfies(wanted)).then_some(manifest));
    }
    for child in manifest.children().filter(|_| depth < MAX_DEPTH) {
        let known = child.platform.as_ref().filter(|platform| !platform.is_unknown());
        if known.is_some_and(|platform| !platform.satisfies(wanted)) || child.attests().is_some() {
            continue;
        }
        let Some(found) = tree.find(repository, &Reference::Digest(child.digest)).await? else { continue };
        if known.is_some() {
            return Ok(Some(found));
        }
        if let Some(found) = Box::pin(choose(tree, repository, found, wanted, depth + 1)).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

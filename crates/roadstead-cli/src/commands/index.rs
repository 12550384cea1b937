//! `roadstead index`

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use roadstead::image::{Copier, CopyOptions, Joined, SourceError};
use roadstead::oci::Tag;
use roadstead::tree::TreeError;

use crate::args::Global;
use crate::exit;
use crate::output::Output;
use crate::output::copied::Report;
use crate::output::progress::Progress;
use crate::registry_args::RegistryArgs;
use crate::transport::{Called, Offer, Place, Reader, Within, Writer};

/// Make one image of several platforms out of images for one each
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Index {
    Create(Create),
}

/// Join images into an index, as `docker buildx imagetools create` does
///
/// The images may come from anywhere: from machines that built one platform each, as archives, layouts or names in a registry.
/// Of an image that is an index itself its entries are taken. The same images make the same index.
#[derive(Debug, clap::Args)]
#[command(after_help = "Names without a transport are those of the tree; docker:// says that a registry is meant.

Examples:
  roadstead index create app:1 app:1-amd64 app:1-arm64
  roadstead index create app:1 oci-archive:amd64.tar oci-archive:arm64.tar
  roadstead index create docker://ghcr.io/org/app:1 docker://ghcr.io/org/app:1-amd64 docker://ghcr.io/org/app:1-arm64
  roadstead index create --append app:1 app:1-riscv64")]
pub(crate) struct Create {
    /// What the index is called: REPOSITORY[:TAG] in the tree, or docker://REGISTRY/REPOSITORY[:TAG]
    #[arg(value_name = "TAG", value_parser = in_tree)]
    tag: Place,

    /// What it is made of, in this order
    #[arg(required = true, value_name = "IMAGE", value_parser = in_tree)]
    images: Vec<Place>,

    /// Keep what the index of that name has, but for the platforms of these images
    #[arg(long)]
    append: bool,

    /// Annotate the index
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = annotation)]
    annotations: Vec<(String, String)>,

    /// Copy also what refers to the images: signatures, attestations, SBOMs
    #[arg(long)]
    referrers: bool,

    /// How many blobs are copied at once
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// One image, `latest` where no tag is given.
fn in_tree(text: &str) -> Result<Place, String> {
    // In one line, since the parser of the command line shows no causes.
    let mut place = Place::in_tree(text).map_err(|e| format!("{:#}", anyhow::Error::new(e)))?;
    if let Place::Repositories(Within { repository: Some(_), reference, .. }) = &mut place {
        reference.get_or_insert_with(|| Tag::latest().into());
    }
    Ok(place)
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no annotation: expected KEY=VALUE")),
    }
}

pub(crate) async fn run(args: Index, global: &Global, output: &Output) -> anyhow::Result<()> {
    let Index::Create(args) = args;
    let destination = &args.tag;
    destination.expect_writable()?;
    if !matches!(destination, Place::Registry(_) | Place::Repositories(_)) {
        return Err(exit::usage(format!("{destination} has no place for an index: name a tree or a registry")));
    }
    let registries = args.registry.registries()?;
    let reader = Reader { registries: Some(&registries), global };
    let mut images: Vec<Offer> = Vec::new();
    for place in &args.images {
        let mut offers = reader.images(place).await?;
        if offers.len() > 1 && offers.iter().any(|offer| offer.reference != offers[0].reference) {
            bail!("{place} holds {} images: choose one", offers.len());
        }
        offers.truncate(1);
        images.append(&mut offers);
    }
    let joined = |offer: &Offer| Joined { from: offer.from.clone(), reference: offer.reference.clone() };
    let onto = if args.append { existing(&reader, destination).await? } else { None };

    let writer = Writer { registries: Some(&registries), global, no_sync: false };
    let mut opened = writer.open(destination).await?;
    for offer in &images {
        if let (Called::Image(image), Some(registry)) = (&offer.called, destination.registry())
            && image.registry == *registry
        {
            opened = opened.mount_from(&image.repository);
        }
    }
    let first = images.first().context("there is nothing to make an index of")?;
    let destined = destination.name(first)?;
    let sink = opened.image(&destined.at).await?;
    let progress = Arc::new(Progress::new(output));
    let options = CopyOptions {
        jobs: usize::from(args.jobs),
        referrers: args.referrers,
        compress: destination.compress(),
        ..CopyOptions::default()
    };
    let copier = Copier::new(options, progress.clone());
    let parts: Vec<Joined> = images.iter().map(joined).collect();
    let annotations: BTreeMap<String, String> = args.annotations.into_iter().collect();
    let tags: Vec<_> = destined.tag.iter().cloned().collect();
    let copied = copier.join(&parts, onto.as_ref().map(joined).as_ref(), &annotations, &*sink, &tags).await?;
    sink.finish().await?;
    drop(sink);
    opened.close().await?;
    progress.finish();
    let shown: Vec<&str> = images.iter().map(|offer| offer.shown.as_str()).collect();
    output.copied(&[Report::new(shown.join(", "), vec![destination.show(&destined)], &copied)])
}

/// What has the name of the index now, if anything has.
async fn existing(reader: &Reader<'_>, place: &Place) -> anyhow::Result<Option<Offer>> {
    let offers = match reader.images(place).await {
        Err(e) if matches!(e.downcast_ref(), Some(TreeError::Absent(_))) => return Ok(None),
        other => other?,
    };
    let Some(offer) = offers.into_iter().next() else { return Ok(None) };
    match offer.from.resolve(&offer.reference).await {
        Ok(_) => Ok(Some(offer)),
        Err(SourceError::NotFound { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

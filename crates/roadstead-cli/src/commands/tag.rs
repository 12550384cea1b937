//! `roadstead tag`

use std::collections::BTreeMap;
use std::sync::Arc;

use roadstead::image::{Copier, CopyOptions, Sink as _, Source as _};
use roadstead::oci::{Reference, Repository, Tag as ImageTag};
use roadstead::tree::TreeSource;

use super::Name;
use crate::args::Global;
use crate::exit;
use crate::output::Output;
use crate::output::copied::Report;
use crate::output::progress::Progress;

/// Give an image of the tree another name
///
/// In another repository the image is there as a whole: its manifests and layers are linked, not copied. A name that is there
/// already moves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  roadstead tag app:1.2 app:1 app:latest
  roadstead tag app:1.2 released/app:1.2
  roadstead tag app@sha256:… app:known-good")]
pub(crate) struct Tag {
    /// The image; without a tag, its `latest`
    #[arg(value_name = "REPOSITORY[:TAG|@DIGEST]")]
    source: Name,

    /// The new names; without a tag, `latest`
    #[arg(required = true, value_name = "REPOSITORY[:TAG]")]
    targets: Vec<Name>,
}

pub(crate) async fn run(args: Tag, global: &Global, output: &Output) -> anyhow::Result<()> {
    let mut targets: BTreeMap<Repository, Vec<ImageTag>> = BTreeMap::new();
    for Name { repository, reference } in args.targets {
        let tag = match reference {
            None => ImageTag::latest(),
            Some(Reference::Tag(tag)) => tag,
            Some(Reference::Digest(_)) => {
                return Err(exit::usage(format!("a new name is a tag, and {repository} has a digest behind it")));
            }
        };
        if tag.is_referrers_fallback() {
            return Err(exit::usage(format!(
                "{repository}:{tag} is where clients look for referrers, which the tree lists by itself"
            )));
        }
        targets.entry(repository).or_default().push(tag);
    }
    let tree = super::open(global).await?;
    let from = TreeSource::new(tree.clone()).repository(&args.source.repository);
    let reference = args.source.reference.unwrap_or_else(|| ImageTag::latest().into());
    let progress = Arc::new(Progress::new(output));
    let copier = Copier::new(CopyOptions::default(), progress.clone());
    let mut reports = Vec::new();
    for (repository, tags) in targets {
        let sink = tree.repository(&repository).await?;
        let copied = copier.copy(&*from, &reference, &*sink, &tags).await?;
        sink.finish().await?;
        let names = tags.iter().map(|tag| format!("{repository}:{tag}")).collect();
        reports.push(Report::new(from.describe(&reference), names, &copied));
    }
    progress.finish();
    output.copied(&reports)
}

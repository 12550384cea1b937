//! `roadstead diff`

use roadstead::tree::{Difference, Side};

use crate::args::{Global, Printed};
use crate::bucket_args::TreePlace;
use crate::exit;
use crate::output::Output;

/// Compare what two trees name
///
/// Tags and manifests that only one of them has, and tags that lead elsewhere. Bytes are not read: equal digests are equal
/// content, and `verify` says whether that is sound. Exits with 1 if the trees differ.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  roadstead diff /srv/registry /mnt/copy
  roadstead --tree /srv/registry diff /mnt/copy

Lines begin with - for what only the first tree has, + for what only the second has, ~ for tags that lead elsewhere.")]
pub(crate) struct Diff {
    /// Two trees, or one to compare the tree of --tree with
    #[arg(required = true, num_args = 1..=2, value_name = "DIR", value_parser = TreePlace::parser())]
    trees: Vec<TreePlace>,
}

pub(crate) async fn run(args: Diff, global: &Global, output: &Output) -> anyhow::Result<()> {
    let open = |tree| super::open_tree(tree, &global.bucket);
    let (first, second) = match args.trees.as_slice() {
        [first, second] => (open(first).await?, open(second).await?),
        [second] => (open(&global.tree).await?, open(second).await?),
        _ => return Err(exit::usage("one tree or two can be compared")),
    };
    let mut differences = Vec::new();
    let mut differ = false;
    first
        .diff(&second, |difference| {
            differ = true;
            match output.format {
                Printed::Text => output.result(&line(&difference)),
                Printed::Json => {
                    differences.push(difference);
                    Ok(())
                }
            }
        })
        .await?;
    if output.format == Printed::Json {
        output.json(&differences)?;
    }
    if differ { Err(exit::different()) } else { Ok(()) }
}

fn line(difference: &Difference) -> String {
    let sign = |side: &Side| match side {
        Side::First => '-',
        Side::Second => '+',
    };
    match difference {
        Difference::Tag { only, repository, tag, digest } => format!("{} {repository}:{tag} {digest}", sign(only)),
        Difference::Moved { repository, tag, first, second } => format!("~ {repository}:{tag} {first} {second}"),
        Difference::Manifest { only, repository, digest } => format!("{} {repository}@{digest}", sign(only)),
    }
}

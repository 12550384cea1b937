//! `roadstead publish`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use roadstead::host;
use roadstead::oci::Repository;
use roadstead::publish::{FolderOptions, PlainFolder, Published};
use roadstead::site::{Form, Survey};

use crate::args::{Global, Printed};
use crate::output::{Output, size};
use crate::site_args::{PrivateArgs, SiteArgs};

/// Write the tree as a folder of plain files, with the configuration of a host that takes one
///
/// What the folder has already is not written again, and what the tree no longer has is removed. The host's own command deploys
/// it: see docs/hosts.
#[derive(Debug, clap::Args)]
pub(crate) struct Publish {
    /// Where to: site:DIR, a folder of its own
    #[arg(value_name = "site:DIR", value_parser = destination)]
    to: PathBuf,

    /// The host
    #[arg(long, value_name = "HOST", value_parser = PossibleValuesParser::new(hosts()))]
    host: String,

    /// With a script that the host runs for each request, and that says what rules can't
    #[arg(long)]
    edge: bool,

    /// Put this in front of every repository's name
    #[arg(long, value_name = "PREFIX")]
    name_prefix: Option<Repository>,

    /// Replace files of the host's configuration that were changed since they were written
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    site: SiteArgs,

    #[command(flatten)]
    private: PrivateArgs,
}

/// How often a tree may change while it is written.
const ATTEMPTS: u32 = 5;

/// The hosts that take a folder.
fn hosts() -> impl Iterator<Item = &'static str> {
    host::HOSTS.iter().filter(|host| host.public().is_some()).map(|host| host.name())
}

fn destination(text: &str) -> Result<PathBuf, &'static str> {
    match text.strip_prefix("site:") {
        Some(folder) if !folder.is_empty() => Ok(folder.into()),
        _ => Err("expected site:DIR, the folder that becomes the site"),
    }
}

pub(crate) async fn run(args: Publish, global: &Global, output: &Output) -> anyhow::Result<()> {
    let host = host::find(&args.host).context("no such host")?;
    let public = host.public().context("this host takes no folder")?;
    let tree = super::open(global).await?;
    let without = args.private.check(&tree, &args.host).await?;
    let mut site = args.site.survey(&tree, &without, args.name_prefix).await?;
    if args.edge {
        site.form = Form::Edge;
    }
    let mut published = Published::default();
    for attempt in 1.. {
        // Whatever the host can't take is said before anything is written.
        let files = host.render(&site)?;
        let folder = PlainFolder::create(&args.to)?;
        let files: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.text.as_str())).collect();
        let options = FolderOptions {
            public,
            name_prefix: site.name_prefix.as_ref(),
            blobs: site.blobs_at.is_none(),
            manifests: site.manifests_at.is_none(),
            leaves_out: &|reference| host.serves_as_page(site.form, reference),
            without: &without,
            force: args.force,
        };
        published = published.and(folder.write(&tree, options, &files).await?);
        // The configuration is about what the tree held before: what came meanwhile would have the wrong type.
        let now = Survey::without(&tree, &without).await?;
        if now == site.survey {
            break;
        }
        anyhow::ensure!(attempt < ATTEMPTS, "{} changes again and again: try it when nobody adds to it", global.tree);
        site.survey = now;
    }
    for kept in &published.kept {
        output.note(&format!("{}: changed by hand, and left as it is", args.to.join(kept).display()));
    }
    match output.format {
        Printed::Json => output.json(&published),
        Printed::Text => {
            output.note(&format!(
                "{}: {} files written ({}), {} unchanged, {} removed",
                args.to.display(),
                published.written,
                size(published.bytes),
                published.unchanged,
                published.removed
            ));
            Ok(())
        }
    }
}

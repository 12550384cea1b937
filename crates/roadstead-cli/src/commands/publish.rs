//! `roadstead publish`

mod ipfs;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use roadstead::host;
use roadstead::oci::Repository;
use roadstead::publish::ipfs::ApiAddress;
use roadstead::publish::{FolderOptions, PlainFolder, Published};
use roadstead::site::{Form, Survey};

use crate::args::{Global, Printed};
use crate::exit;
use crate::output::{Output, size};
use crate::registry_args::TlsArgs;
use crate::site_args::SiteArgs;

/// Write the tree as a folder of plain files, with the configuration of a host that takes one; or add it to IPFS
///
/// What is there already is not written or sent again. What the tree no longer has is removed from a folder; the host's own command
/// deploys it: see docs/hosts. In IPFS every state of the tree has a name of its own, its CID, which is printed.
#[derive(Debug, clap::Args)]
pub(crate) struct Publish {
    /// Where to: site:DIR, a folder of its own; ipfs:[ADDRESS], a node of Kubo by the address of its API, such as
    /// //127.0.0.1:5001; car:FILE, an archive for any node
    #[arg(value_name = "DESTINATION", value_parser = destination)]
    to: Destination,

    /// The host, for a folder
    #[arg(long, value_name = "HOST", value_parser = PossibleValuesParser::new(hosts()))]
    host: Option<String>,

    /// With a script that the host runs for each request, and that says what rules can't
    #[arg(long)]
    edge: bool,

    /// Put this in front of every repository's name
    #[arg(long, value_name = "PREFIX")]
    name_prefix: Option<Repository>,

    #[command(flatten)]
    site: SiteArgs,

    #[command(flatten)]
    ipfs: ipfs::IpfsArgs,

    #[command(flatten)]
    tls: TlsArgs,
}

/// Where a tree goes.
#[derive(Debug, Clone)]
enum Destination {
    Site(PathBuf),
    /// A node, at an address or where it listens by itself.
    Ipfs(Option<ApiAddress>),
    Car(PathBuf),
}

/// How often a tree may change while it is written.
const ATTEMPTS: u32 = 5;

/// The hosts that take a folder.
fn hosts() -> impl Iterator<Item = &'static str> {
    host::HOSTS.iter().filter(|host| host.public().is_some()).map(|host| host.name())
}

fn destination(text: &str) -> Result<Destination, String> {
    match text.split_once(':') {
        Some(("site", folder)) if !folder.is_empty() => Ok(Destination::Site(folder.into())),
        Some(("ipfs", "")) => Ok(Destination::Ipfs(None)),
        Some(("ipfs", address)) => Ok(Destination::Ipfs(Some(address.parse().map_err(|e| format!("{e}"))?))),
        Some(("car", "-")) => {
            Err("the name of an archive's root comes first in it and is known last: name a file".into())
        }
        Some(("car", file)) if !file.is_empty() => Ok(Destination::Car(file.into())),
        _ => Err("expected site:DIR, the folder that becomes the site, ipfs:[ADDRESS] or car:FILE".into()),
    }
}

pub(crate) async fn run(args: Publish, global: &Global, output: &Output) -> anyhow::Result<()> {
    let place = match &args.to {
        Destination::Site(folder) => return write_site(folder, &args, global, output).await,
        Destination::Ipfs(address) => ipfs::Place::Node(address.as_ref()),
        Destination::Car(file) => ipfs::Place::Car(file),
    };
    if args.host.is_some() || args.edge {
        return Err(exit::usage("--host and --edge are for site:DIR"));
    }
    args.site.refuse_for("IPFS")?;
    ipfs::run(&args.ipfs, &args.tls, args.name_prefix.clone(), place, global, output).await
}

async fn write_site(to: &Path, args: &Publish, global: &Global, output: &Output) -> anyhow::Result<()> {
    if let Some(option) = args.ipfs.given() {
        return Err(exit::usage(format!("{option} is for ipfs: and car:")));
    }
    let host = args.host.as_deref().ok_or_else(|| exit::usage("--host says what host the folder is for"))?;
    let host = host::find(host).context("no such host")?;
    let public = host.public().context("this host takes no folder")?;
    let tree = super::open(global).await?;
    let mut site = args.site.clone().survey(&tree, args.name_prefix.clone()).await?;
    if args.edge {
        site.form = Form::Edge;
    }
    let mut published = Published::default();
    for attempt in 1.. {
        // Whatever the host can't take is said before anything is written.
        let files = host.render(&site)?;
        let folder = PlainFolder::create(to)?;
        let files: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.text.as_str())).collect();
        let options = FolderOptions {
            public,
            name_prefix: site.name_prefix.as_ref(),
            blobs: site.blobs_at.is_none(),
            manifests: site.manifests_at.is_none(),
            leaves_out: &|reference| host.serves_as_page(site.form, reference),
        };
        published = published.and(folder.write(&tree, options, &files).await?);
        // The configuration is about what the tree held before: what came meanwhile would have the wrong type.
        let now = Survey::of(&tree).await?;
        if now == site.survey {
            break;
        }
        anyhow::ensure!(attempt < ATTEMPTS, "{} changes again and again: try it when nobody adds to it", global.tree);
        site.survey = now;
    }
    match output.format {
        Printed::Json => output.json(&published),
        Printed::Text => {
            output.note(&format!(
                "{}: {} files written ({}), {} unchanged, {} removed",
                to.display(),
                published.written,
                size(published.bytes),
                published.unchanged,
                published.removed
            ));
            Ok(())
        }
    }
}

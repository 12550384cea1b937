//! `roadstead publish`

<<<<<<< HEAD
mod check;
mod site;
mod tree;

use std::ffi::OsString;
use std::path::PathBuf;
=======
mod ipfs;

use std::path::{Path, PathBuf};
>>>>>>> ipfs

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use roadstead::host;
use roadstead::http::BaseUrl;
use roadstead::oci::Repository;
<<<<<<< HEAD
use roadstead::tree::Pattern;

use crate::args::Global;
use crate::bucket_args::TreePlace;
use crate::exit;
use crate::output::Output;
use crate::registry_args::RegistryArgs;
use crate::site_args::SiteArgs;

/// Make a bucket, another folder, or a host's site offer what the tree has
///
/// Only what the destination lacks is sent, tags and lists last: at no moment does it offer an image that isn't whole, and a run
/// that was interrupted goes on where it stopped. What the tree doesn't have stays there, unless --delete says otherwise.
=======
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
>>>>>>> ipfs
#[derive(Debug, clap::Args)]
#[command(after_help = "Destinations:
  s3://BUCKET[/PREFIX]    a bucket, whose objects are a registry; see the bucket options
  DIR                     a tree in another folder: another disk, an NFS share, a web root
  site:DIR --host HOST    a folder of plain files of its own, with the configuration of a host that takes one. What the tree no
                          longer has is removed from it. The host's own command deploys it: see docs/hosts

Examples:
  roadstead publish s3://images
  roadstead publish s3://images --dry-run --bandwidth 10M
  roadstead publish s3://images --repository 'team/**' --check https://images.example.com
  roadstead publish /mnt/share/registry --delete --max-delete 100
  roadstead publish site:site --host cloudflare-pages")]
pub(crate) struct Publish {
<<<<<<< HEAD
    /// Where to: s3://BUCKET[/PREFIX], a folder, or site:DIR
    #[arg(value_name = "DESTINATION", value_parser = OsStringValueParser::new().try_map(Destination::try_from))]
    to: Destination,

    /// Only repositories that match
    #[arg(long = "repository", value_name = "PATTERN")]
    repositories: Vec<Pattern>,

    /// Only say what would be done
    #[arg(short = 'n', long, visible_alias = "dryrun")]
    dry_run: bool,

    /// With --dry-run: how many bytes a second there are, such as 500k or 12.5M, to say how long it takes
    #[arg(long, value_name = "BYTES", value_parser = bandwidth, requires = "dry_run")]
    bandwidth: Option<f64>,

    /// Delete what the tree doesn't have, last: in repositories that it has, and with --repository in all that match
    #[arg(long)]
    delete: bool,

    /// With --delete: do nothing at all if more names than this would go
    #[arg(long, value_name = "N", requires = "delete")]
    max_delete: Option<u64>,

    /// Move no tag: do nothing at all if one names something else there
    #[arg(long)]
    no_clobber: bool,

    /// Look also at what is there with the right digest for a name and the right size: by the MD5 that the bucket says, else by
    /// reading it
    #[arg(short, long)]
    checksum: bool,

    /// Pull every tag that changed through the URL that clients know, and fail if that can't be done
    #[arg(long, value_name = "URL")]
    check: Option<BaseUrl>,

    /// How many blobs are sent at once
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,

    /// With site:DIR: the host
=======
    /// Where to: site:DIR, a folder of its own; ipfs:[ADDRESS], a node of Kubo by the address of its API, such as
    /// //127.0.0.1:5001; car:FILE, an archive for any node
    #[arg(value_name = "DESTINATION", value_parser = destination)]
    to: Destination,

    /// The host, for a folder
>>>>>>> ipfs
    #[arg(long, value_name = "HOST", value_parser = PossibleValuesParser::new(hosts()))]
    host: Option<String>,

    /// With site:DIR: with a script that the host runs for each request, and that says what rules can't
    #[arg(long)]
    edge: bool,

    /// With site:DIR: put this in front of every repository's name
    #[arg(long, value_name = "PREFIX")]
    name_prefix: Option<Repository>,

    #[command(flatten)]
    site: SiteArgs,

    #[command(flatten)]
<<<<<<< HEAD
    registry: RegistryArgs,
=======
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
>>>>>>> ipfs
}

/// How often a tree may change while it is published.
const ATTEMPTS: u32 = 5;

/// The hosts that take a folder.
fn hosts() -> impl Iterator<Item = &'static str> {
    host::HOSTS.iter().filter(|host| host.public().is_some()).map(|host| host.name())
}

<<<<<<< HEAD
/// Where to.
#[derive(Debug, Clone)]
enum Destination {
    Site(PathBuf),
    Tree(TreePlace),
}

impl TryFrom<OsString> for Destination {
    type Error = String;

    fn try_from(typed: OsString) -> Result<Self, String> {
        match typed.to_str() {
            Some("" | "site:") => Err("expected s3://BUCKET[/PREFIX], a folder, or site:DIR".to_owned()),
            Some(text) if text.starts_with("site:") => Ok(Self::Site(text["site:".len()..].into())),
            Some(text) if ["ipfs:", "car:", "docker:", "oci:"].iter().any(|other| text.starts_with(other)) => {
                Err("expected s3://BUCKET[/PREFIX], a folder, or site:DIR".to_owned())
            }
            _ => TreePlace::try_from(typed).map(Self::Tree),
        }
=======
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
>>>>>>> ipfs
    }
}

/// Bytes a second.
fn bandwidth(text: &str) -> Result<f64, String> {
    let problem = || format!("{text:?} is no number of bytes a second such as 500k, 12.5M or 1G");
    let units = [("k", 1e3), ("K", 1e3), ("M", 1e6), ("G", 1e9)];
    let (number, unit) =
        units.into_iter().find_map(|(letter, unit)| Some((text.strip_suffix(letter)?, unit))).unwrap_or((text, 1.0));
    let number: f64 = number.parse().map_err(|_| problem())?;
    Some(number * unit).filter(|bytes| bytes.is_finite() && *bytes >= 1.0).ok_or_else(problem)
}

pub(crate) async fn run(args: Publish, global: &Global, output: &Output) -> anyhow::Result<()> {
<<<<<<< HEAD
    match args.to.clone() {
        Destination::Site(folder) => {
            let only_for_trees = [
                ("--repository", !args.repositories.is_empty()),
                ("--dry-run", args.dry_run),
                ("--delete", args.delete),
                ("--no-clobber", args.no_clobber),
                ("--checksum", args.checksum),
                ("--check", args.check.is_some()),
            ];
            if let Some((option, _)) = only_for_trees.into_iter().find(|(_, given)| *given) {
                return Err(exit::usage(format!(
                    "{option} has no meaning for site:DIR, which is made to hold the tree"
                )));
            }
            site::write(args, &folder, global, output).await
        }
        Destination::Tree(place) => {
            let only_for_sites =
                [("--host", args.host.is_some()), ("--edge", args.edge), ("--name-prefix", args.name_prefix.is_some())];
            if let Some((option, _)) = only_for_sites.into_iter().find(|(_, given)| *given) {
                return Err(exit::usage(format!("{option} is for folders of plain files: write site:{place}")));
            }
            args.site.refuse_for(&place.to_string())?;
            tree::publish(&args, &place, global, output).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidths() {
        for (text, bytes) in [("1000", 1e3), ("500k", 5e5), ("12.5M", 1.25e7), ("1G", 1e9)] {
            assert_eq!(bandwidth(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "0", "-1M", "nan", "infG", "1T"] {
            assert!(bandwidth(text).is_err(), "{text}");
        }
    }

    #[test]
    fn destinations() {
        let read = |text: &str| Destination::try_from(OsString::from(text));
        assert!(matches!(read("site:x"), Ok(Destination::Site(_))));
        assert!(matches!(read("s3://bucket"), Ok(Destination::Tree(TreePlace::Bucket(_)))));
        assert!(matches!(read("./ipfs:x"), Ok(Destination::Tree(TreePlace::Folder(_)))));
        for bad in ["", "site:", "ipfs:", "car:file", "gs://bucket"] {
            assert!(read(bad).is_err(), "{bad}");
=======
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
>>>>>>> ipfs
        }
    }
}

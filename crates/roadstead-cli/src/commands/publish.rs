//! `roadstead publish`

mod check;
mod ipfs;
mod purge;
mod site;
mod tree;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use roadstead::host;
use roadstead::http::BaseUrl;
use roadstead::image::Bandwidth;
use roadstead::oci::Repository;
use roadstead::publish::ipfs::ApiAddress;
use roadstead::tree::Pattern;

use crate::args::Global;
use crate::bucket_args::TreePlace;
use crate::exit;
use crate::output::Output;
use crate::registry_args::RegistryArgs;
use crate::site_args::{PrivateArgs, SiteArgs};

/// Make a bucket, another folder, a host's site or IPFS offer what the tree has
///
/// Only what the destination lacks is sent, tags and lists last: at no moment does it offer an image that isn't whole, and a run
/// that was interrupted goes on where it stopped. What the tree doesn't have stays there, unless --delete says otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "Destinations:
  s3://BUCKET[/PREFIX]    a bucket, whose objects are a registry; see the bucket options
  az://CONTAINER[/PREFIX] a container of Azure Blob Storage
  gs://BUCKET[/PREFIX]    a bucket of Google Cloud Storage
  DIR                     a tree in another folder: another disk, an NFS share, a web root
  site:DIR --host HOST    a folder of plain files of its own, with the configuration of a host that takes one. What the tree no
                          longer has is removed from it. The host's own command deploys it: see docs/hosts
  ipfs:[ADDRESS]          a node of Kubo, by the address of its API, such as //127.0.0.1:5001. In IPFS every state of the tree
                          has a name of its own, its CID, which is printed
  car:FILE                an archive for any node

Examples:
  roadstead publish s3://images
  roadstead publish s3://images --dry-run --max-bandwidth 10M
  roadstead publish s3://images --repository 'team/**' --check https://images.example.com
  roadstead publish /mnt/share/registry --delete --max-delete 100
  roadstead publish site:site --host cloudflare-pages
  roadstead publish ipfs: --dnslink registry.example.com")]
pub(crate) struct Publish {
    /// Where to: s3://BUCKET[/PREFIX], az://CONTAINER[/PREFIX], gs://BUCKET[/PREFIX], a folder, site:DIR, ipfs:[ADDRESS] or car:FILE
    #[arg(value_name = "DESTINATION", value_parser = OsStringValueParser::new().try_map(Destination::try_from))]
    to: Destination,

    /// Only repositories that match
    #[arg(long = "repository", value_name = "PATTERN")]
    repositories: Vec<Pattern>,

    /// Only say what would be done
    #[arg(short = 'n', long, visible_alias = "dryrun")]
    dry_run: bool,

    /// Send no more bytes a second than this, all blobs together: 500kB/s, 10M, 1MiB/s. With --dry-run: say how long that takes
    #[arg(long, value_name = "RATE", visible_alias = "bandwidth")]
    max_bandwidth: Option<Bandwidth>,

    /// With s3://BUCKET: below this prefix, as in s3://BUCKET/PREFIX
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,

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

    /// Look also at the headers of everything that a bucket has, and set those that should be others: once, where something else
    /// has put objects there
    #[arg(long)]
    headers: bool,

    /// Pull every tag that changed through the URL that clients know, and fail if that can't be done
    #[arg(long, value_name = "URL")]
    check: Option<BaseUrl>,

    /// What to run when answers have changed that caches may hold, by `sh -c`, before --check: it reads their paths, one a line,
    /// such as /v2/app/tags/list
    #[arg(long, value_name = "COMMAND")]
    purge: Option<String>,

    /// How many large blobs are sent at once, and for each of them 16 things that are small
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,

    /// With site:DIR: the host
    #[arg(long, value_name = "HOST", value_parser = PossibleValuesParser::new(hosts()))]
    host: Option<String>,

    /// With site:DIR: with a script that the host runs for each request, and that says what rules can't
    #[arg(long)]
    edge: bool,

    /// With site:DIR: let pages of other origins, such as a registry's user interface, read the answers
    #[arg(long)]
    cors: bool,

    /// With site:DIR, ipfs: and car: put this in front of every repository's name
    #[arg(long, value_name = "PREFIX")]
    name_prefix: Option<Repository>,

    /// With site:DIR and --blobs-at: first make this bucket or folder have the blobs, as `publish` of the tree to it does
    #[arg(long, value_name = "PLACE", value_parser = TreePlace::parser(), requires = "blobs_at", conflicts_with = "name_prefix")]
    blobs_to: Option<TreePlace>,

    /// With site:DIR: replace files of the host's configuration that were changed since they were written
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    site: SiteArgs,

    #[command(flatten)]
    registry: RegistryArgs,

    #[command(flatten)]
    ipfs: ipfs::IpfsArgs,

    #[command(flatten)]
    private: PrivateArgs,
}

/// How often a tree may change while it is published.
const ATTEMPTS: u32 = 5;

/// The hosts that take a folder.
fn hosts() -> impl Iterator<Item = &'static str> {
    host::HOSTS.iter().filter(|host| host.public().is_some()).map(|host| host.name())
}

/// Where to.
#[derive(Debug, Clone)]
enum Destination {
    Site(PathBuf),
    Tree(TreePlace),
    /// A node, at an address or where it listens by itself.
    Ipfs(Option<ApiAddress>),
    Car(PathBuf),
}

impl TryFrom<OsString> for Destination {
    type Error = String;

    fn try_from(typed: OsString) -> Result<Self, String> {
        const EXPECTED: &str = "expected s3://BUCKET[/PREFIX], az://CONTAINER[/PREFIX], gs://BUCKET[/PREFIX], a \
                                folder, site:DIR, ipfs:[ADDRESS] or car:FILE";
        match typed.to_str().map(|text| (text, text.split_once(':'))) {
            Some(("", _) | (_, Some(("site" | "car", "") | ("docker" | "oci", _)))) => Err(EXPECTED.to_owned()),
            Some((_, Some(("site", folder)))) => Ok(Self::Site(folder.into())),
            Some((_, Some(("ipfs", "")))) => Ok(Self::Ipfs(None)),
            Some((_, Some(("ipfs", address)))) => Ok(Self::Ipfs(Some(address.parse().map_err(|e| format!("{e}"))?))),
            Some((_, Some(("car", "-")))) => {
                Err("the name of an archive's root comes first in it and is known last: name a file".to_owned())
            }
            Some((_, Some(("car", file)))) => Ok(Self::Car(file.into())),
            _ => TreePlace::try_from(typed).map(Self::Tree),
        }
    }
}

pub(crate) async fn run(args: Publish, global: &Global, output: &Output) -> anyhow::Result<()> {
    let only_for_trees = [
        ("--repository", !args.repositories.is_empty()),
        ("--delete", args.delete),
        ("--no-clobber", args.no_clobber),
        ("--checksum", args.checksum),
        ("--headers", args.headers),
        ("--check", args.check.is_some()),
        ("--purge", args.purge.is_some()),
        ("--prefix", args.prefix.is_some()),
        ("--max-bandwidth", args.max_bandwidth.is_some()),
    ];
    let only_for_trees = || only_for_trees.into_iter().find_map(|(option, given)| given.then_some(option));
    match args.to.clone() {
        Destination::Site(folder) => {
            if let Some(option) = args.ipfs.given() {
                return Err(exit::usage(format!("{option} is for ipfs: and car:")));
            }
            // What is sent to --blobs-to may be slow.
            let bandwidth = args.blobs_to.is_some().then_some("--max-bandwidth");
            if let Some(option) =
                only_for_trees().filter(|option| Some(*option) != bandwidth).or(args.dry_run.then_some("--dry-run"))
            {
                return Err(exit::usage(format!(
                    "{option} has no meaning for site:DIR, which is made to hold the tree"
                )));
            }
            site::write(args, &folder, global, output).await
        }
        Destination::Tree(place) => {
            let only_for_sites = [
                ("--host", args.host.is_some()),
                ("--edge", args.edge),
                ("--cors", args.cors),
                ("--blobs-to", args.blobs_to.is_some()),
                ("--name-prefix", args.name_prefix.is_some()),
                ("--force", args.force),
            ];
            if let Some((option, _)) = only_for_sites.into_iter().find(|(_, given)| *given) {
                return Err(exit::usage(format!("{option} is for folders of plain files: write site:{place}")));
            }
            if let Some(option) = args.ipfs.given() {
                return Err(exit::usage(format!("{option} is for ipfs: and car:")));
            }
            args.site.refuse_for(&place.to_string())?;
            let place = match &args.prefix {
                Some(prefix) => below(&place, prefix)?,
                None => place,
            };
            tree::publish(&args, &place, global, output).await
        }
        Destination::Ipfs(_) | Destination::Car(_) if only_for_trees().is_some() => {
            let option = only_for_trees().unwrap_or_default();
            Err(exit::usage(format!(
                "{option} has no meaning for IPFS, where each state of the tree has a name of its own"
            )))
        }
        Destination::Ipfs(address) => to_ipfs(&args, ipfs::Place::Node(address.as_ref()), global, output).await,
        Destination::Car(file) => to_ipfs(&args, ipfs::Place::Car(&file), global, output).await,
    }
}

/// A place in a bucket, as people type it who are used to an option for it.
fn below(place: &TreePlace, prefix: &str) -> anyhow::Result<TreePlace> {
    let TreePlace::Bucket(bucket) = place else {
        return Err(exit::usage(format!("--prefix is for buckets: name the folder {place}/{prefix} itself")));
    };
    let below = format!("{bucket}/{}", prefix.trim_start_matches('/'));
    below.parse().map(TreePlace::Bucket).map_err(|error| exit::usage(format!("{error}")))
}

async fn to_ipfs(args: &Publish, to: ipfs::Place<'_>, global: &Global, output: &Output) -> anyhow::Result<()> {
    if args.host.is_some() || args.edge || args.cors || args.force || args.blobs_to.is_some() {
        return Err(exit::usage("--host, --edge, --cors, --blobs-to and --force are for site:DIR"));
    }
    args.site.refuse_for("IPFS")?;
    ipfs::run(args, to, global, output).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let below = |place: &str, prefix| below(&TreePlace::try_from(OsString::from(place)).unwrap(), prefix);
        assert_eq!(below("s3://bucket", "a/b/").unwrap().to_string(), "s3://bucket/a/b");
        assert_eq!(below("s3://bucket/a", "/b").unwrap().to_string(), "s3://bucket/a/b");
        for (place, prefix) in [("folder", "a"), ("s3://bucket", "../a")] {
            assert!(below(place, prefix).is_err(), "{place} {prefix}");
        }
    }

    #[test]
    fn destinations() {
        let read = |text: &str| Destination::try_from(OsString::from(text));
        assert!(matches!(read("site:x"), Ok(Destination::Site(_))));
        for bucket in ["s3://bucket", "az://container/prefix", "gs://bucket"] {
            assert!(matches!(read(bucket), Ok(Destination::Tree(TreePlace::Bucket(_)))), "{bucket}");
        }
        assert!(matches!(read("./ipfs:x"), Ok(Destination::Tree(TreePlace::Folder(_)))));
        assert!(matches!(read("ipfs:"), Ok(Destination::Ipfs(None))));
        assert!(matches!(read("ipfs://127.0.0.1:5001"), Ok(Destination::Ipfs(Some(_)))));
        assert!(matches!(read("car:x"), Ok(Destination::Car(_))));
        for bad in ["", "site:", "car:", "car:-", "oci:x", "gs://"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

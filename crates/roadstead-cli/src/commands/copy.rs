//! `roadstead copy`

use std::path::PathBuf;

use anyhow::Context as _;

use crate::args::Global;
use crate::copy_args::CopyArgs;
use crate::exit;
use crate::output::Output;
use crate::registry_args::{Registries, RegistryArgs};
use crate::transfer::Transfer;
use crate::transport::{InEngine, Place, Reader, Writer};

/// Copy images from anywhere to anywhere
///
/// Source and destination are written as for skopeo. Manifests stay as they are, byte for byte. All platforms come unless
/// --platform says otherwise; docker-archive: and docker-daemon: hold one, and get that of this machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Places:
  [docker://][REGISTRY/]REPOSITORY[:TAG][@DIGEST]
  docker-daemon:IMAGE                  the Docker engine at DOCKER_HOST
  docker-archive:FILE[:IMAGE]          for `docker load`
  oci-archive:FILE[:IMAGE]             an OCI layout in a tar archive
  oci:FOLDER[:IMAGE]                   an OCI layout
  dir:FOLDER                           skopeo's folder
  tree:REPOSITORY[:TAG]                in the tree of --tree
  tree:FOLDER//REPOSITORY[:TAG]        in another one; to read from, it may be a URL
FILE may be - for standard input or output.

Examples:
  roadstead copy tree:app:1 docker://ghcr.io/org/app:1
  roadstead copy docker://debian:12 oci:layout:12
  roadstead copy --platform linux/arm64 tree:app:1 docker-archive:app.tar
  roadstead copy docker-daemon:app:1 tree:/srv/registry//app:1
  roadstead copy tree:app:1 oci-archive:- | ssh host podman load")]
pub(crate) struct Copy {
    /// Where the image is; archives and layouts may hold several
    #[arg(value_name = "SOURCE", value_parser = place)]
    source: Place,

    /// Where it goes; without a name there, it keeps its own
    #[arg(value_name = "DESTINATION", value_parser = place)]
    destination: Place,

    /// Copy all platforms, as is done anyway
    #[arg(short, long, conflicts_with = "platforms")]
    all: bool,

    #[command(flatten)]
    copy: CopyArgs,

    /// Write the digest of what was copied to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,

    /// Don't wait until the disk has everything that goes into a tree
    #[arg(long)]
    no_sync: bool,

    #[command(flatten)]
    registry: RegistryArgs,

    #[command(flatten)]
    sides: Sides,
}

/// What holds for one of two registries.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Registry options")]
struct Sides {
    /// Name and password for the source
    #[arg(long, value_name = "USER[:PASSWORD]")]
    src_creds: Option<String>,

    /// Name and password for the destination
    #[arg(long, value_name = "USER[:PASSWORD]", visible_alias = "dst-creds")]
    dest_creds: Option<String>,

    /// Whether certificates of the source are checked
    #[arg(long, value_name = "BOOL")]
    src_tls_verify: Option<bool>,

    /// Whether certificates of the destination are checked
    #[arg(long, value_name = "BOOL", visible_alias = "dst-tls-verify")]
    dest_tls_verify: Option<bool>,
}

fn place(text: &str) -> Result<Place, String> {
    // In one line, since the parser of the command line shows no causes.
    text.parse().map_err(|e| format!("{:#}", anyhow::Error::new::<crate::transport::PlaceError>(e)))
}

pub(crate) async fn run(args: &Copy, global: &Global, output: &Output) -> anyhow::Result<()> {
    let Copy { source, destination, .. } = args;
    destination.expect_writable()?;
    if *source == Place::Engine(InEngine::All) {
        return Err(exit::usage("docker-daemon: names no image"));
    }
    if source.reads_stdin() && args.registry.takes_stdin() {
        return Err(exit::usage("standard input can't hold both an archive and a password (--password-stdin)"));
    }
    if args.all && destination.holds_one_platform() {
        return Err(exit::usage(format!("{destination} holds one platform: choose it with --platform")));
    }
    let (from, to) = registries(args)?;
    let to = to.as_ref().unwrap_or(&from);
    let reader = Reader { registries: Some(&from), global };
    let writer = Writer { registries: Some(to), global, no_sync: args.no_sync };
    let images = reader.images(source).await?;
    let transfer = Transfer { copy: &args.copy, global, destination, output };
    let reports = transfer.run(&images, writer).await?;
    if let Some(file) = &args.digestfile {
        let digests: Vec<&str> = reports.iter().map(|report| report.digest()).collect();
        std::fs::write(file, digests.join("\n")).with_context(|| format!("{} can't be written", file.display()))?;
    }
    transfer.conclude(&reports)
}

/// How each side is reached; one way for both, if nothing tells them apart.
fn registries(args: &Copy) -> anyhow::Result<(Registries, Option<Registries>)> {
    let Sides { src_creds, dest_creds, src_tls_verify, dest_tls_verify } = &args.sides;
    let (source, destination) = (args.source.registry(), args.destination.registry());
    if let (Some(source), Some(destination)) = (source, destination)
        && source != destination
        && args.registry.has_credential()
        && (src_creds.is_none() || dest_creds.is_none())
    {
        // Whoever types one password for two registries tells one of them the other's.
        return Err(exit::usage(format!(
            "--creds is for one registry, and this is about {source} and {destination}: use --src-creds and --dest-creds, or \
             `roadstead login`"
        )));
    }
    let alike = src_creds.is_none() && dest_creds.is_none() && src_tls_verify.is_none() && dest_tls_verify.is_none();
    if alike {
        return Ok((args.registry.registries()?, None));
    }
    let from = args.registry.for_side(source.is_some(), src_creds.as_deref(), *src_tls_verify).registries()?;
    let to = args.registry.for_side(destination.is_some(), dest_creds.as_deref(), *dest_tls_verify).registries()?;
    Ok((from, Some(to)))
}

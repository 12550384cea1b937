//! `roadstead save`

use std::path::PathBuf;

use clap::ValueEnum;

use super::Name;
use crate::args::Global;
use crate::copy_args::CopyArgs;
use crate::output::Output;
use crate::transfer::Transfer;
use crate::transport::{Archive, Medium, Place, Reader, Within, Writer};

/// Write images of the tree into an archive, for `docker load`
///
/// The images are called in the archive as in the tree. One without a tag means all tags of the repository, as for `docker
/// save`. The same images make the same archive, byte for byte.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  roadstead save alpine:3.20 org/app:1 -o images.tar
  roadstead save org/app:1 | docker load
  roadstead save --type oci-archive org/app:1 -o app.tar       # all platforms")]
pub(crate) struct Save {
    /// Images of the tree
    #[arg(required = true, value_name = "REPOSITORY[:TAG|@DIGEST]")]
    images: Vec<Name>,

    /// The file to write, instead of standard output
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    file: Option<PathBuf>,

    /// What kind of archive; that for Docker holds one platform of each image
    #[arg(long = "type", value_enum, default_value_t = Kind::DockerArchive)]
    kind: Kind,

    #[command(flatten)]
    copy: CopyArgs,
}

/// A kind of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// What `docker load` takes
    DockerArchive,
    /// An OCI layout, with all platforms
    OciArchive,
}

pub(crate) async fn run(args: Save, global: &Global, output: &Output) -> anyhow::Result<()> {
    let path = args.file.filter(|file| file.as_os_str() != "-");
    let archive = Archive { path, reference: None };
    let destination = match args.kind {
        Kind::DockerArchive => Place::DockerArchive(archive),
        Kind::OciArchive => Place::OciArchive(archive),
    };
    destination.expect_writable()?;
    let reader = Reader { registries: None, global };
    let mut images = Vec::new();
    for Name { repository, reference } in args.images {
        let within = Within { medium: Medium::OwnTree, repository: Some(repository), reference };
        images.extend(reader.images(&Place::Repositories(within)).await?);
    }
    let writer = Writer { registries: None, global, no_sync: false };
    let transfer = Transfer { copy: &args.copy, global, destination: &destination, output };
    let reports = transfer.run(&images, writer).await?;
    transfer.conclude(&reports)
}

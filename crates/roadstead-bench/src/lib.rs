//! Measures Roadstead beside its peers: the same work, alternating in one run, on one machine.
//!
//! It knows Roadstead only as a program, as it knows the peers, so no figure can owe anything to a shortcut through the
//! library.
//!
//! ```text
//!  corpus     the images that are moved: made once, the same bytes everywhere
//!  contest    several programs that do the same work by turns
//!  registry   nginx over those files, whose access log counts the requests
//!  measure    one run of a program: time, processor, memory; and what many runs say together
//!  import     from the registry into files, beside crane and skopeo
//!  archive    a docker archive into files, beside skopeo and a bare hash
//!  many       many small images at once, beside skopeo sync and regsync
//!  made       trees that are written file by file
//!  tend       verifying a tree, and small changes of a large one
//!  config     what each host's configuration of a large tree takes
//!  push       into a server over files, beside distribution 3
//!  publish    the tree into a bucket, beside s5cmd, rclone and aws, also through a slow line
//!  ipfs       the tree into an archive for IPFS, beside ipfs add and the disk
//!  serving    the tree over HTTP, beside nginx and distribution 3
//!  slow       a proxy that stands for distance, and counts requests
//!  hosts      web servers with our configurations, beside themselves with a plain root
//!  report     the table for people and the file for scripts
//! ```

mod archive;
mod config;
mod contest;
mod corpus;
mod hosts;
mod import;
mod ipfs;
mod machine;
mod made;
mod many;
mod measure;
mod publish;
mod push;
mod registry;
mod report;
mod serving;
mod slow;
mod tend;

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use corpus::{Corpus, Scale};
pub use report::{Report, Row};

/// What to measure, and how thoroughly.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The program to measure
    #[arg(long, value_name = "FILE", default_value = "target/release/roadstead")]
    pub roadstead: PathBuf,

    /// Where images and their copies are kept: the file system that is measured
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub work: PathBuf,

    /// How often each side does its work
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub runs: usize,

    /// How long each server is asked at a time
    #[arg(long, value_name = "SECONDS", default_value_t = 4)]
    pub seconds: u64,

    /// Only see whether everything can be measured: tiny images, one run of each; the figures say nothing
    #[arg(long)]
    pub quick: bool,

    /// Measure only this; may be repeated
    #[arg(long, value_enum)]
    pub only: Vec<Part>,
}

/// A part of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// From a registry into files
    Import,
    /// A docker archive into files
    Archive,
    /// Many small images from a registry into files
    Many,
    /// Verifying files, and small changes among many
    Tend,
    /// Configurations for a large tree
    Config,
    /// Small files into a bucket
    PublishSmall,
    /// Large files into a bucket
    PublishLarge,
    /// Files into a bucket that has them
    PublishUnchanged,
    /// Files into an archive for IPFS
    Ipfs,
    /// Files over HTTP
    Serve,
    /// Files over HTTP by other web servers
    Hosts,
    /// The same by servers that are newer than Debian's
    NewerHosts,
    /// From clients into a server
    Push,
}

/// Measures what the options ask for. The report is also left as `report.json` among the files of the work.
///
/// # Errors
///
/// When a program fails, or answers something that can't be read. Slowness is no error: the report says what it is.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let (runs, seconds) = if options.quick { (1, 1) } else { (options.runs.max(1), options.seconds.max(1)) };
    let roadstead = fs::canonicalize(&options.roadstead).with_context(|| {
        format!("{} is not there: cargo build --release --package roadstead-cli", options.roadstead.display())
    })?;
    fs::create_dir_all(&options.work)?;
    let work = fs::canonicalize(&options.work)?;
    let scale = if options.quick { Scale::Tiny } else { Scale::Full };
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    // The others make a tree of their own.
    let from_registry =
        [Part::Import, Part::Archive, Part::Many, Part::Serve, Part::Hosts, Part::NewerHosts, Part::Push];
    let of_images = from_registry.into_iter().any(wanted);
    let images = of_images.then(|| {
        let corpus = Corpus::prepare(&work, scale)?;
        let registry = registry::Registry::start(&corpus);
        anyhow::Ok((corpus, registry))
    });
    let images = images.transpose()?;

    let mut rows = Vec::new();
    if let Some((corpus, registry)) = &images {
        if wanted(Part::Import) {
            rows.extend(import::measure(&roadstead, &work, registry, runs)?);
        }
        if wanted(Part::Archive) {
            rows.extend(archive::measure(&roadstead, &work, &corpus.archive, runs)?);
        }
        if wanted(Part::Many) {
            rows.extend(many::measure(&roadstead, &work, registry, runs)?);
        }
    }
    if wanted(Part::Tend) {
        rows.extend(tend::measure(&roadstead, &work, runs, scale)?);
    }
    for (part, what) in [
        (Part::PublishSmall, publish::What::Small),
        (Part::PublishLarge, publish::What::Large),
        (Part::PublishUnchanged, publish::What::Unchanged),
    ] {
        if wanted(part) {
            rows.extend(publish::measure(&roadstead, &work, runs, scale, what)?);
        }
    }
    if wanted(Part::Ipfs) {
        rows.extend(ipfs::measure(&roadstead, &work, runs, scale)?);
    }
    if wanted(Part::Config) {
        rows.extend(config::measure(&roadstead, &work, runs, scale)?);
    }
    if let Some((corpus, registry)) = &images {
        if wanted(Part::Serve) {
            rows.extend(serving::measure(&roadstead, registry, corpus, runs, seconds)?);
        }
        if wanted(Part::Hosts) {
            rows.extend(hosts::measure(&roadstead, registry, runs, seconds, hosts::FORMS)?);
        }
        if wanted(Part::NewerHosts) {
            rows.extend(hosts::measure(&roadstead, registry, runs, seconds, hosts::NEWER)?);
        }
        if wanted(Part::Push) {
            rows.extend(push::measure(&roadstead, &work, registry, runs, seconds, scale)?);
        }
    }
    let report = Report { machine: machine::describe(&roadstead, &work)?, runs, seconds, quick: options.quick, rows };
    fs::write(work.join("report.json"), report.json()?)?;
    Ok(report)
}

//! `roadstead verify`

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use roadstead::image::{Copier, CopyOptions, Silent, Source as _};
use roadstead::oci::ImageReference;
use roadstead::tree::{Derived, Finding, Tree, Verified, VerifyOptions, Verifying};

use super::Name;
use crate::args::{Global, Printed};
use crate::exit;
use crate::output::progress::Meter;
use crate::output::{Output, size};
use crate::registry_args::RegistryArgs;

/// Check every byte, name and list of the tree
///
/// Bytes against their digests, manifests and what they need, links, lists, the catalogue. What was left out with
/// `--platform` is not missed. Exits with 7 if anything is wrong; left-overs of interrupted commands are told, but not wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  roadstead verify
  roadstead verify --repair
  roadstead verify alpine:3.20 --refetch docker.io/library/alpine:3.20")]
pub(crate) struct Verify {
    /// Only these, and what they need: REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST
    #[arg(value_name = "NAME")]
    names: Vec<Name>,

    /// How many files are read at once [default: the number of processors]
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,

    /// Make again what is derived: lists, the catalogue, referrers
    #[arg(long)]
    repair: bool,

    /// Fetch what is damaged or lost again, by its digest, from where this image is; any number of times
    #[arg(long, value_name = "IMAGE", value_parser = image)]
    refetch: Vec<ImageReference>,

    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(serde::Serialize)]
struct Report {
    findings: Vec<Reported>,
    #[serde(flatten)]
    verified: Verified,
}

#[derive(serde::Serialize)]
struct Reported {
    #[serde(flatten)]
    finding: Finding,
    /// Whether it was mended.
    mended: bool,
}

pub(crate) async fn run(args: Verify, global: &Global, output: &Output) -> anyhow::Result<()> {
    let tree = super::open(global).await?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let options = VerifyOptions {
        jobs: args.jobs.map_or(processors, usize::from),
        only: args.names.iter().map(|name| (name.repository.clone(), name.reference.clone())).collect(),
    };
    let findings: Arc<Mutex<Vec<Finding>>> = Arc::default();
    let meter = Arc::new(Meter::new(output));
    let watch = {
        let (findings, meter, output) = (findings.clone(), meter.clone(), output.clone());
        Arc::new(move |event: Verifying<'_>| match event {
            Verifying::Read(bytes) => meter.add(bytes),
            Verifying::Found(finding) => {
                if output.format == Printed::Text {
                    // Whoever reads has seen enough; the code says the rest.
                    let _ = output.result(&finding.to_string());
                }
                findings.lock().unwrap_or_else(PoisonError::into_inner).push(finding.clone());
            }
            _ => {}
        })
    };
    let verified = tree.verify(&options, watch).await?;
    meter.finish();
    let findings = std::mem::take(&mut *findings.lock().unwrap_or_else(PoisonError::into_inner));
    let mut findings: Vec<Reported> = findings.into_iter().map(|finding| Reported { finding, mended: false }).collect();

    if !args.refetch.is_empty() {
        refetch(&tree, &args, &mut findings, output).await?;
    }
    if args.repair {
        repair(&tree, &mut findings).await?;
    }
    for mended in findings.iter().filter(|reported| reported.mended) {
        output.note(&format!("mended: {}", mended.finding));
    }
    output.note(&summary(&verified));
    let wrong = findings.iter().filter(|reported| reported.finding.is_wrong() && !reported.mended).count();
    let derived = findings.iter().any(|reported| reported.finding.derived().is_some() && !reported.mended);
    if output.format == Printed::Json {
        output.json(&Report { findings, verified })?;
    }
    match wrong {
        0 => Ok(()),
        _ => {
            let things = if wrong == 1 { "1 thing is".to_owned() } else { format!("{wrong} things are") };
            let way_out = if derived { "; --repair makes again what is derived" } else { "" };
            Err(exit::invalid(format!("{things} wrong with the tree{way_out}")))
        }
    }
}

/// Makes again what is derived.
async fn repair(tree: &Tree, findings: &mut [Reported]) -> anyhow::Result<()> {
    let derived: BTreeSet<Derived> =
        findings.iter().filter_map(|reported| reported.finding.derived()).cloned().collect();
    tree.repair(&derived).await?;
    for reported in findings.iter_mut() {
        reported.mended |= reported.finding.derived().is_some();
    }
    Ok(())
}

/// Asks each of the places for what is broken, until one has it.
async fn refetch(tree: &Tree, args: &Verify, findings: &mut [Reported], output: &Output) -> anyhow::Result<()> {
    let registries = args.registry.registries()?;
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    for image in &args.refetch {
        let source = registries.source(&image.registry, false)?.repository(&image.repository);
        for reported in findings.iter_mut().filter(|reported| !reported.mended && reported.finding.can_be_fetched()) {
            match tree.refetch(&reported.finding, &*source, &copier).await {
                Ok(mended) => reported.mended = mended,
                Err(error) if error.is_absence() => {
                    output.note(&format!("{}/{} has it not: {}", image.registry, image.repository, reported.finding));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn summary(verified: &Verified) -> String {
    let Verified { repositories, manifests, left_out, files, bytes } = verified;
    let mut line = format!(
        "{}, {}, {} read ({})",
        count(*repositories, "repository", "repositories"),
        count(*manifests, "manifest", "manifests"),
        count(*files, "file", "files"),
        size(*bytes)
    );
    if *left_out > 0 {
        line.push_str(&format!("; left out on purpose: {}", count(*left_out, "manifest", "manifests")));
    }
    line
}

fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// An image as people type it.
fn image(typed: &str) -> Result<ImageReference, String> {
    typed.strip_prefix("docker://").unwrap_or(typed).parse().map_err(|e: roadstead::oci::NameError| e.to_string())
}

//! `just bench`

use std::io::Write as _;

use clap::Parser as _;

/// Measure Roadstead beside its peers, and print a table
#[derive(Debug, clap::Parser)]
struct Args {
    #[command(flatten)]
    options: roadstead_bench::Options,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let report = roadstead_bench::run(&args.options)?;
    write!(std::io::stdout().lock(), "{report}")?;
    Ok(())
}

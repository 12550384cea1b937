//! What can be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::commands;

/// A container registry made of plain files.
#[derive(Debug, Parser)]
#[command(name = "roadstead", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// The registry tree
    #[arg(long, global = true, value_name = "DIR", env = "ROADSTEAD_TREE", default_value = "registry")]
    pub(crate) tree: PathBuf,

    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Say more; twice, everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For scripts
    Json,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Add(commands::add::Add),
    #[command(visible_alias = "ls")]
    List(commands::list::List),
    Inspect(commands::inspect::Inspect),
    #[command(visible_alias = "rm")]
    Remove(commands::remove::Remove),
    Config(commands::config::Config),
    Serve(commands::serve::Serve),
    Quickstart(commands::quickstart::Quickstart),
    Login(commands::login::Login),
    Logout(commands::logout::Logout),
}

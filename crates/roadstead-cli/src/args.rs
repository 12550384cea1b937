//! What can be typed.

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Parser, Subcommand, ValueEnum};

use crate::bucket_args::{BucketArgs, TreePlace};
use crate::commands;

/// What `exit` says, for people.
const EXIT_CODES: &str = "Exit codes:
    0  done
    1  failed in a way that has no code of its own
    2  the command line can't be read
    3  an image, tag, platform, tree or file isn't there
    4  the registry wants a login, or refuses the one it got
    5  the registry or the engine denies access
    6  the registry or the engine can't be reached, or its certificate isn't trusted
    7  content is not what its digest says, or no manifest, or no archive
    8  the tree can't be read or written, or another destination can't
  130  interrupted";

/// A container registry made of plain files.
#[derive(Debug, Parser)]
#[command(name = "roadstead", version, propagate_version = true, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The registry tree: a folder, or s3://BUCKET[/PREFIX]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "ROADSTEAD_TREE",
        default_value = "registry",
        value_parser = OsStringValueParser::new().try_map(TreePlace::try_from)
    )]
    pub(crate) tree: TreePlace,

    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Say more; twice, everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,

    #[command(flatten)]
    pub(crate) bucket: BucketArgs,
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
    #[command(visible_alias = "cp")]
    Copy(Box<commands::copy::Copy>),
    Save(commands::save::Save),
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

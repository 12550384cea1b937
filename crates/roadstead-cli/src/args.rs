//! What can be typed.

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use roadstead::image::ManifestFormat;

use crate::bucket_args::{BucketArgs, TreePlace};
use crate::commands;

/// What `exit` says, for people.
const EXIT_CODES: &str = "Exit codes:
    0  done
    1  failed in a way that has no code of its own; of `diff`: the trees differ
    2  the command line can't be read
    3  an image, tag, platform, tree or file isn't there
    4  the registry wants a login, or refuses the one it got
    5  the registry or the engine denies access
    6  the registry or the engine can't be reached, or its certificate isn't trusted
    7  content is not what its digest says, or no manifest, or no archive
    8  the tree can't be read or written, or another destination can't
    9  of `doctor`: a client that was asked about can't pull
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
    /// The registry tree: a folder, or a bucket: s3://BUCKET[/PREFIX], az://CONTAINER[/PREFIX], gs://BUCKET[/PREFIX]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "ROADSTEAD_TREE",
        default_value = "registry",
        value_parser = TreePlace::parser()
    )]
    pub(crate) tree: TreePlace,

    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Say more; twice, everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// How results are printed: text or json; and for commands that copy, perhaps beside it, what manifests are converted to:
    /// oci or v2s2 (Docker's version 2, schema 2), or keep for none
    #[arg(long = "format", value_enum, value_name = "FORMAT", hide_possible_values = true)]
    formats: Vec<Format>,

    #[command(flatten)]
    pub(crate) bucket: BucketArgs,
}

/// What `--format` says: how results are printed, as everywhere, or what manifests are converted to, as in skopeo. No word means
/// both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Keep,
    Oci,
    V2s2,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Printed {
    /// For people
    #[default]
    Text,
    /// For scripts
    Json,
}

impl Global {
    /// How results are printed.
    pub(crate) fn printed(&self) -> Printed {
        if self.formats.contains(&Format::Json) { Printed::Json } else { Printed::Text }
    }

    /// What manifests are converted to, if that was said.
    pub(crate) fn manifests(&self) -> Option<ManifestFormat> {
        self.formats.iter().find_map(|format| match format {
            Format::Text | Format::Json => None,
            Format::Keep => Some(ManifestFormat::Keep),
            Format::Oci => Some(ManifestFormat::Oci),
            Format::V2s2 => Some(ManifestFormat::V2s2),
        })
    }

    /// Refuses what `--format` can't mean: two things of a kind, or a conversion where nothing is copied.
    fn check_formats(&self, copies: bool) -> Result<(), &'static str> {
        let prints = |format: &&Format| matches!(format, Format::Text | Format::Json);
        let printed = self.formats.iter().filter(prints).count();
        match (printed, self.formats.len() - printed) {
            (2.., _) => Err("--format says more than once how results are printed"),
            (_, 2..) => Err("--format says more than once what manifests are converted to"),
            (_, 1) if !copies => Err("this command copies no images: its --format is text or json"),
            _ => Ok(()),
        }
    }
}

impl Args {
    /// The arguments of this process. Prints help, or what is wrong with them, and ends it.
    ///
    /// Options for every command may stand before and behind its name. What clap calls a global option forgets what stood
    /// before, if it is said again; `--format` may be said twice, so it is one option here and another there.
    pub(crate) fn read() -> Self {
        let command = Self::command();
        let format = command.get_arguments().find(|option| option.get_id() == "formats").cloned();
        let mut command = below(command, format.as_ref());
        let matches = command.get_matches_mut();
        let read = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command)).and_then(|mut args| {
            let mut level = &matches;
            while let Some((_, behind)) = level.subcommand() {
                args.global.formats.extend(behind.get_many::<Format>("formats").into_iter().flatten());
                level = behind;
            }
            let checked = args.global.check_formats(args.command.copies());
            checked.map_err(|problem| command.error(ErrorKind::ArgumentConflict, problem)).map(|()| args)
        });
        read.unwrap_or_else(|error| error.exit())
    }
}

/// A command with an option more for each command below it.
fn below(command: clap::Command, option: Option<&clap::Arg>) -> clap::Command {
    command.mut_subcommands(|subcommand| below(subcommand, option).args(option))
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
    Tag(commands::tag::Tag),
    #[command(subcommand)]
    Index(commands::index::Index),
    #[command(visible_alias = "rm")]
    Remove(commands::remove::Remove),
    Prune(commands::prune::Prune),
    Verify(commands::verify::Verify),
    Diff(commands::diff::Diff),
    Du(commands::du::Du),
    Private(commands::private::Private),
    Config(Box<commands::config::Config>),
    Publish(Box<commands::publish::Publish>),
    Serve(commands::serve::Serve),
    Doctor(Box<commands::doctor::Doctor>),
    Quickstart(commands::quickstart::Quickstart),
    #[command(subcommand)]
    User(commands::user::User),
    Login(commands::login::Login),
    Logout(commands::logout::Logout),
}

impl Command {
    /// Whether it copies images from somewhere to somewhere.
    fn copies(&self) -> bool {
        matches!(self, Self::Add(_) | Self::Copy(_) | Self::Save(_))
    }
}

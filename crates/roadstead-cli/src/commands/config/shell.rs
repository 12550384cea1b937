//! What a shell is around, on the command line.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use roadstead::host::{Group, Host};
use roadstead::site::{Around, Shell};

use crate::exit;

/// Shells: what they start, and how it is to be had.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options for shells around a server")]
pub(super) struct ShellArgs {
    /// What answers; serve if left out
    #[arg(long, value_name = "SERVER", value_parser = PossibleValuesParser::new(Around::ALL.map(Around::name)).map(|name| around(&name)))]
    around: Option<Around>,

    /// The program, if it isn't where it usually is
    #[arg(long, value_name = "PATH")]
    program: Option<String>,

    /// The container image that has the program; of roadstead none is published
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,

    /// The PersistentVolumeClaim that holds the tree, in place of a folder of the node
    #[arg(long, value_name = "NAME", conflicts_with = "server_root")]
    claim: Option<String>,
}

fn around(name: &str) -> Around {
    Around::ALL.into_iter().find(|around| around.name() == name).unwrap_or_default()
}

impl ShellArgs {
    /// What a host shall start; refused for one that starts nothing.
    pub(super) fn within(self, host: &dyn Host) -> anyhow::Result<Shell> {
        let Self { around, program, image, claim } = self;
        let given = [
            ("--around", around.is_some()),
            ("--program", program.is_some()),
            ("--image", image.is_some()),
            ("--claim", claim.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((option, _)) if host.group() != Group::Shell => {
                Err(exit::usage(format!("{option} is for shells around a server, which {} is not", host.name())))
            }
            _ => Ok(Shell { around: around.unwrap_or_default(), program, image, claim, ..Shell::default() }),
        }
    }
}

//! `roadstead user`

use std::io::IsTerminal as _;

use roadstead::server::UserFile;

use crate::access_args::StateArgs;
use crate::args::{Global, Printed};
use crate::exit;
use crate::output::Output;
use crate::registry_args::password_for;

/// Say who may log in to `roadstead serve`
///
/// Users lie in an htpasswd file beside the tree, and count at once in a server that runs. What they may do is for the file of
/// grants to say; without one, every user may do everything.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum User {
    Add(Add),
    #[command(visible_alias = "rm")]
    Remove(Remove),
    #[command(visible_alias = "ls")]
    List(List),
}

/// Add a user, or give one another password
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  roadstead user add ann
  pass show registry/ci | roadstead user add ci --password-stdin")]
pub(crate) struct Add {
    /// The name: letters, digits and punctuation, but none of : # * ? / \" \\
    #[arg(value_name = "NAME")]
    name: String,

    /// Read the password from standard input, and don't ask for it
    #[arg(long)]
    password_stdin: bool,

    #[command(flatten)]
    state: StateArgs,
}

/// Remove users; whoever is logged in as one of them is so no more
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,

    #[command(flatten)]
    state: StateArgs,
}

/// List the users
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    state: StateArgs,
}

pub(crate) fn run(args: User, global: &Global, output: &Output) -> anyhow::Result<()> {
    match args {
        User::Add(Add { name, password_stdin, state }) => {
            let users = UserFile::new(state.get(&global.tree)?);
            let password = password_for(&name, password_stdin)?;
            if !password_stdin && std::io::stdin().is_terminal() && password_for(&name, false)? != password {
                return Err(exit::usage("the two passwords differ; nothing was changed"));
            }
            let new = users.set(&name, &password)?;
            output.note(&if new { format!("added {name}") } else { format!("{name} has another password") });
            Ok(())
        }
        User::Remove(Remove { names, state }) => {
            let users = UserFile::new(state.get(&global.tree)?);
            for name in names {
                if !users.remove(&name)? {
                    return Err(exit::failure(exit::NOT_FOUND, format!("there is no user {name}")));
                }
                output.note(&format!("removed {name}"));
            }
            Ok(())
        }
        User::List(List { state }) => {
            let names = UserFile::new(state.get(&global.tree)?).names()?;
            if output.format == Printed::Json {
                return output.json(&names);
            }
            if names.is_empty() {
                output.note("there are no users");
                return Ok(());
            }
            output.result(&names.join("\n"))
        }
    }
}

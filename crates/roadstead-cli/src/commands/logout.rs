//! `roadstead logout`

use super::login::Place;
use crate::output::Output;
use crate::registry_args::ConnectionArgs;

/// Log out of a registry
///
/// Every file of docker's and podman's forgets it, and so do the credential helpers that they name for it.
#[derive(Debug, clap::Args)]
pub(crate) struct Logout {
    /// The registry, or a part of it that has credentials of its own
    #[arg(value_name = "REGISTRY[/PATH]", default_value = "docker.io")]
    place: Place,

    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(crate) async fn run(args: Logout, output: &Output) -> anyhow::Result<()> {
    let Place { registry, part } = &args.place;
    let mut erased = Vec::new();
    for file in args.connection.files()? {
        // All of them: a file that is read later would let in again whoever has just logged out.
        if file.erase(registry, part.as_ref()).await? {
            erased.push(file.path().display().to_string());
        }
    }
    if erased.is_empty() {
        output.note(&format!("nobody is logged in to {}", args.place));
        return Ok(());
    }
    output.note(&format!("logged out of {}; forgotten by {}", args.place, erased.join(", ")));
    Ok(())
}

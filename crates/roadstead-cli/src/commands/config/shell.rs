//! What a shell is around, on the command line.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use roadstead::host::{Group, Host};
use roadstead::server::Access;
use roadstead::site::{Around, Shell, Users};

use crate::access_args::StateArgs;
use crate::bucket_args::TreePlace;
use crate::exit;
use crate::listen_args::public_url;

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

    /// Let systemd listen for `roadstead serve`, by a .socket unit beside the service; --listen also takes
    /// unix:PATH[,mode=660] then
    #[arg(long)]
    socket: bool,

    /// The folder with the users, the grants and the key of `roadstead serve`, which then runs as the folder's owner
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// How clients reach `roadstead serve` with users, as its own option says
    #[arg(long, value_name = "URL", requires = "state", value_parser = public_url)]
    public_url: Option<String>,

    /// A proxy whose word counts for `roadstead serve` with users, as its own option says; may be repeated
    #[arg(long = "trust-proxy", value_name = "NETWORK", requires = "state")]
    trusted_proxies: Vec<roadstead::server::Proxy>,
}

fn around(name: &str) -> Around {
    Around::ALL.into_iter().find(|around| around.name() == name).unwrap_or_default()
}

impl ShellArgs {
    /// What a host shall start; refused for one that starts nothing.
    pub(super) fn within(self, host: &dyn Host, tree: &TreePlace) -> anyhow::Result<Shell> {
        let given = [
            ("--around", self.around.is_some()),
            ("--program", self.program.is_some()),
            ("--image", self.image.is_some()),
            ("--claim", self.claim.is_some()),
            ("--state", self.state.is_some()),
            ("--socket", self.socket),
        ];
        if host.group() != Group::Shell {
            return match given.into_iter().find(|(_, given)| *given) {
                Some((option, _)) => {
                    Err(exit::usage(format!("{option} is for shells around a server, which {} is not", host.name())))
                }
                None => Ok(Shell::default()),
            };
        }
        let users = self.users(host, tree)?;
        let url = self.public_url.into_iter().flat_map(|url| ["--public-url".to_owned(), url]);
        let proxies = self.trusted_proxies.iter().flat_map(|network| ["--trust-proxy".to_owned(), network.to_string()]);
        Ok(Shell {
            around: self.around.unwrap_or_default(),
            program: self.program,
            image: self.image,
            claim: self.claim,
            socket: self.socket,
            serve_with: url.chain(proxies).collect(),
            users,
        })
    }

    /// The users that were named. Some that are there and weren't are not left out in silence: what they may not do would be
    /// everybody's.
    fn users(&self, host: &dyn Host, tree: &TreePlace) -> anyhow::Result<Option<Users>> {
        if self.state.is_none() && self.around.unwrap_or_default() != Around::Serve {
            return Ok(None);
        }
        let Some(state) = StateArgs::of(self.state.clone()).find(tree)? else { return Ok(None) };
        let at = state.folder().display();
        let arranged = Access::is_arranged(&state)?;
        if self.state.is_none() {
            return if arranged {
                Err(exit::usage(format!(
                    "there are users in {at}, whom {} would not know: name the folder with --state, or move it away",
                    host.name()
                )))
            } else {
                Ok(None)
            };
        }
        if !arranged {
            return Err(exit::usage(format!(
                "there are no users in {at}: make one with `roadstead user add NAME --state {at}`"
            )));
        }
        let folder = std::path::absolute(state.folder()).with_context(|| format!("the place of {at} can't be told"))?;
        let owner = folder.metadata().with_context(|| format!("{at} can't be read"))?;
        let text = folder.to_str().with_context(|| format!("{at} is not UTF-8"))?;
        Ok(Some(Users { folder: text.to_owned(), user: owner.uid(), group: owner.gid() }))
    }
}

//! `roadstead login`

use std::io::{IsTerminal as _, Write as _};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use roadstead::http::credentials::{Credential, Credentials, Kept};
use roadstead::http::{HttpError, Secret};
use roadstead::oci::{Registry, Repository};

use crate::output::Output;
use crate::registry_args::{ConnectionArgs, password_for};

/// Log in to a registry
///
/// The registry is asked whether it accepts the password before anything is stored. Credentials go where docker and podman
/// look for them: into the first of their files that exists, or to the credential helper that it names.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  roadstead login ghcr.io -u NAME
  echo $TOKEN | roadstead login registry.example:5000 -u NAME --password-stdin
  roadstead login --get-login quay.io")]
pub(crate) struct Login {
    /// The registry, or a part of it that has credentials of its own
    #[arg(value_name = "REGISTRY[/PATH]", default_value = "docker.io")]
    place: Place,

    /// Name; asked for if it is left out
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,

    /// Password, which everybody on this machine may see while this runs; better use --password-stdin
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,

    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,

    /// Print who is logged in, and do nothing else
    #[arg(long, conflicts_with_all = ["username", "password", "password_stdin"])]
    get_login: bool,

    #[command(flatten)]
    connection: ConnectionArgs,
}

/// A registry, or the repositories below a path on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) registry: Registry,
    pub(crate) part: Option<Repository>,
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // As docker's own documentation has it: `docker login https://index.docker.io/v1/`.
        let after_scheme = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let (registry, part) = match (after_scheme, text.split_once('/')) {
            (Some(rest), _) => (rest.split('/').next().unwrap_or(rest), None),
            (None, Some((registry, part))) => (registry, Some(part).filter(|part| !part.is_empty())),
            (None, None) => (text, None),
        };
        let registry: Registry = registry.parse()?;
        let registry = if registry.is_docker_hub() { Registry::docker_hub() } else { registry };
        Ok(Self { registry, part: part.map(str::parse).transpose()? })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.registry.fmt(f)?;
        match &self.part {
            Some(part) => write!(f, "/{part}"),
            None => Ok(()),
        }
    }
}

pub(crate) async fn run(args: Login, output: &Output) -> anyhow::Result<()> {
    let Place { registry, part } = &args.place;
    if args.get_login {
        for file in args.connection.files()? {
            if let Some(username) = file.username(registry, part.as_ref()).await? {
                return output.result(&username);
            }
        }
        bail!("nobody is logged in to {}", args.place);
    }

    let username = match &args.username {
        Some(username) => username.clone(),
        None => ask_name(&args.place)?,
    };
    if username.is_empty() || username.contains(':') {
        bail!("a name can't be empty nor hold a colon");
    }
    let password = match &args.password {
        Some(password) => Secret::from(password.as_str()),
        None => password_for(&username, args.password_stdin)?,
    };
    let credential = Credential::Password { username: username.clone(), password };

    let client = args.connection.client()?;
    let endpoint = args.connection.endpoint(&client, registry, Credentials::only(credential.clone()))?;
    let asked = endpoint.ping().await.map_err(|error| refused(error, &args.place, &username))?;
    let kept = args.connection.login_file()?.store(registry, part.as_ref(), &credential).await?;
    if !asked {
        output.note(&format!("{registry} lets anybody in, so the password could not be checked"));
    }
    output.note(&match kept {
        Kept::File(path) => format!("logged in to {} as {username}; kept in {}", args.place, path.display()),
        Kept::Helper(name) => format!("logged in to {} as {username}; kept by docker-credential-{name}", args.place),
    });
    Ok(())
}

/// Says what a failure means for somebody who has just typed a password.
fn refused(error: HttpError, place: &Place, username: &str) -> anyhow::Error {
    let what = match error.status().map(|status| status.as_u16()) {
        Some(401) => format!("{place} does not accept this name and password for {username}"),
        Some(403) => format!("{place} does not let {username} in"),
        _ => format!("the password can't be checked with {place}"),
    };
    anyhow::Error::new(error).context(format!("{what}; nothing was stored"))
}

fn ask_name(place: &Place) -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask for a name: pass --username USER and --password-stdin");
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "Name at {place}: ").and_then(|()| stderr.flush()).context("the name can't be asked for")?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("the name can't be read")?;
    Ok(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (typed, meant) in [
            ("docker.io", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("quay.io/org", "quay.io/org"),
            ("quay.io/", "quay.io"),
            ("http://localhost:5000", "localhost:5000"),
        ] {
            assert_eq!(typed.parse::<Place>().unwrap().to_string(), meant);
        }
        for bad in ["", "/", "a b", "quay.io/ORG"] {
            assert!(bad.parse::<Place>().is_err(), "{bad:?} was accepted");
        }
    }
}

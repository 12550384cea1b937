//! How registries are reached: what can be typed, and what the environment says where nothing was typed.
//!
//! The variables, files and folders are those of docker and podman, so that whoever can pull with them needs to set up
//! nothing. The library reads none of this: it gets the values.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail};
use roadstead::http::credentials::{Credential, CredentialFile, Credentials, Helpers};
use roadstead::http::{Client, ClientOptions, Endpoint, EndpointOptions, Secret, Timeouts, TlsOptions};
use roadstead::medium::registry::{RegistrySink, RegistrySource};
use roadstead::oci::Registry;

use crate::environment::Environment;

/// The longest password that is read from standard input. Some are tokens of a few kilobytes.
const MAX_PASSWORD: u64 = 64 << 10;

/// How connections are made, for every command that talks to registries.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Registry options")]
pub(crate) struct ConnectionArgs {
    /// File of credentials, instead of podman's and docker's own
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE")]
    authfile: Option<PathBuf>,

    /// Ask registries without TLS; those on loopback are understood without it
    #[arg(long)]
    plain_http: bool,

    #[command(flatten)]
    tls: TlsArgs,
}

/// Whom to trust.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TlsArgs {
    /// Whether certificates are checked
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_default_value = true
    )]
    tls_verify: bool,

    /// Folder with *.crt to trust, and *.cert with *.key to show
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
}

impl TlsArgs {
    /// An option that was given and says something.
    pub(crate) fn given(&self) -> Option<&'static str> {
        match self {
            Self { tls_verify: false, .. } => Some("--tls-verify"),
            Self { cert_dir: Some(_), .. } => Some("--cert-dir"),
            _ => None,
        }
    }
}

/// How registries are read.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Registry options")]
pub(crate) struct RegistryArgs {
    /// Name and password; the password is asked for if it is left out
    #[arg(long, value_name = "USER[:PASSWORD]", conflicts_with = "username")]
    creds: Option<String>,

    /// Name, with the password asked for or read with --password-stdin
    #[arg(long, value_name = "USER")]
    username: Option<String>,

    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,

    /// Ask this host before the registry itself: [REGISTRY=][http://]HOST[:PORT]
    #[arg(long = "mirror", value_name = "HOST")]
    mirrors: Vec<Mirror>,

    #[command(flatten)]
    connection: ConnectionArgs,
}

/// A host that has what a registry has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    /// The registry that it stands in front of; without it, the only one of the run.
    of: Option<Registry>,
    host: Registry,
    plain_http: bool,
}

impl FromStr for Mirror {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (of, host) = match text.split_once('=') {
            Some((of, host)) => (Some(of.parse()?), host),
            None => (None, text),
        };
        let (plain_http, host) = match host.strip_prefix("http://") {
            Some(host) => (true, host),
            None => (false, host.strip_prefix("https://").unwrap_or(host)),
        };
        Ok(Self { of, host: host.strip_suffix('/').unwrap_or(host).parse()?, plain_http })
    }
}

impl TlsArgs {
    /// A client with these settings, and `options` otherwise.
    pub(crate) fn client(&self, options: ClientOptions) -> anyhow::Result<Client> {
        Ok(Client::new(self.options(options)?)?)
    }

    /// These settings, and `options` otherwise.
    pub(crate) fn options(&self, options: ClientOptions) -> anyhow::Result<ClientOptions> {
        let environment = Environment::of_this_process();
        if let Some(folder) = &self.cert_dir
            && !folder.is_dir()
        {
            bail!("--cert-dir {}: there is no such folder", folder.display());
        }
        let tls = TlsOptions {
            verify: self.tls_verify,
            roots: environment.roots(),
            hosts: environment.certificate_folders(),
            directory: self.cert_dir.clone(),
        };
        Ok(ClientOptions { tls, proxies: environment.proxies(), ..options })
    }
}

impl ConnectionArgs {
    /// A client with these settings.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        self.tls.client(ClientOptions::default())
    }

    /// A registry, asked with `credentials`.
    pub(crate) fn endpoint(
        &self,
        client: &Client,
        registry: &Registry,
        credentials: Credentials,
    ) -> anyhow::Result<Endpoint> {
        Ok(client.endpoint(registry, EndpointOptions { credentials, plain_http: self.plain_http })?)
    }

    /// The credentials that were stored earlier.
    fn stored_credentials(&self) -> anyhow::Result<Credentials> {
        let environment = Environment::of_this_process();
        let files = match &self.authfile {
            // A file that was named must be there; one that nobody made is no mistake.
            Some(file) if !file.exists() => bail!("--authfile {}: there is no such file", file.display()),
            Some(file) => vec![file.clone()],
            None => environment.credential_files(),
        };
        Ok(Credentials::in_files(files, Helpers::new(environment.folders("PATH"))))
    }

    /// The files that login and logout look at, in the order in which they are read.
    pub(crate) fn files(&self) -> anyhow::Result<Vec<CredentialFile>> {
        let environment = Environment::of_this_process();
        let helpers = Helpers::new(environment.folders("PATH"));
        let paths = match &self.authfile {
            Some(file) => vec![file.clone()],
            None => environment.credential_files(),
        };
        if paths.is_empty() {
            bail!("there is no home folder to keep credentials in: name a file with --authfile");
        }
        Ok(paths.into_iter().map(|path| CredentialFile::new(path, helpers.clone())).collect())
    }

    /// The file that login writes: the first that is there, so that what is written is what is read; else docker's.
    pub(crate) fn login_file(&self) -> anyhow::Result<CredentialFile> {
        let mut files = self.files()?;
        let at = files.iter().position(|file| file.path().exists()).unwrap_or(files.len() - 1);
        Ok(files.swap_remove(at))
    }
}

/// Registries, each reached in one way for the whole run.
#[derive(Debug)]
pub(crate) struct Registries {
    client: Client,
    args: ConnectionArgs,
    stored: Credentials,
    given: Option<Credential>,
    mirrors: Vec<Mirror>,
    /// What has been handed out, so that nobody asks twice how a registry wants to be asked.
    sources: Mutex<BTreeMap<Registry, RegistrySource>>,
}

impl RegistryArgs {
    /// Whom to trust.
    pub(crate) const fn tls(&self) -> &TlsArgs {
        &self.connection.tls
    }

    /// What the arguments and the environment say together. May ask for a password.
    pub(crate) fn registries(&self) -> anyhow::Result<Registries> {
        Ok(Registries {
            client: self.connection.client()?,
            args: self.connection.clone(),
            stored: self.connection.stored_credentials()?,
            given: self.given()?,
            mirrors: self.mirrors.clone(),
            sources: Mutex::default(),
        })
    }

    /// One registry, asked by itself: a mirror would answer for it.
    pub(crate) fn lone_endpoint(
        &self,
        registry: &Registry,
        plain_http: bool,
        timeouts: Timeouts,
    ) -> anyhow::Result<Endpoint> {
        if !self.mirrors.is_empty() {
            return Err(crate::exit::usage("--mirror has no meaning here: name the mirror itself"));
        }
        let client = self.connection.tls.client(ClientOptions { timeouts, ..ClientOptions::default() })?;
        let credentials = match self.given()? {
            Some(given) => Credentials::only(given),
            None => self.connection.stored_credentials()?,
        };
        let plain_http = plain_http || self.connection.plain_http;
        Ok(client.endpoint(registry, EndpointOptions { credentials, plain_http })?)
    }

    /// The same for one side of a copy, for which other words may have been typed. A side that is no registry needs no
    /// credential, which may have to be asked for.
    #[must_use]
    pub(crate) fn for_side(&self, is_registry: bool, creds: Option<&str>, tls_verify: Option<bool>) -> Self {
        let mut side = self.clone();
        if creds.is_some() || !is_registry {
            (side.creds, side.username, side.password_stdin) = (creds.map(str::to_owned), None, false);
        }
        if let Some(verify) = tls_verify {
            side.connection.tls.tls_verify = verify;
        }
        side
    }

    /// Whether a credential was typed.
    pub(crate) const fn has_credential(&self) -> bool {
        self.creds.is_some() || self.username.is_some()
    }

    /// Whether standard input holds the password, and so nothing else.
    pub(crate) const fn takes_stdin(&self) -> bool {
        self.password_stdin
    }

    /// The credential that was typed, if one was.
    fn given(&self) -> anyhow::Result<Option<Credential>> {
        let typed = self.creds.as_deref().or(self.username.as_deref());
        let Some(typed) = typed else {
            if self.password_stdin {
                bail!("--password-stdin needs a name: --username USER");
            }
            return Ok(None);
        };
        let (username, password) = match typed.split_once(':') {
            Some((username, password)) if self.creds.is_some() => (username, Some(Secret::from(password))),
            _ => (typed, None),
        };
        let password = match password {
            Some(_) if self.password_stdin => bail!("--creds has a password, and so has standard input"),
            Some(password) => password,
            None => password_for(username, self.password_stdin)?,
        };
        Ok(Some(Credential::Password { username: username.to_owned(), password }))
    }
}

impl Registries {
    /// A registry as a source of images, the same one every time; without TLS if either the arguments or `plain_http` say so.
    pub(crate) fn source(&self, registry: &Registry, plain_http: bool) -> anyhow::Result<RegistrySource> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = sources.get(registry) {
            return Ok(source.clone());
        }
        if let Some(other) = sources.keys().next() {
            // Whoever types one password for two registries tells one of them the other's.
            if self.given.is_some() {
                bail!("--creds is for one registry, and this is about {other} and {registry}: use `roadstead login`");
            }
            if self.mirrors.iter().any(|mirror| mirror.of.is_none()) {
                bail!(
                    "--mirror HOST is for one registry, and this is about {other} and {registry}: write REGISTRY=HOST"
                );
            }
        }
        let mirrors = self.mirrors.iter().filter(|mirror| mirror.of.as_ref().is_none_or(|of| of == registry));
        let mirrors = mirrors.map(|mirror| {
            let options = EndpointOptions { credentials: self.stored.clone(), plain_http: mirror.plain_http };
            self.client.endpoint(&mirror.host, options)
        });
        let mirrors: Vec<Endpoint> = mirrors.collect::<Result<_, _>>()?;
        let source = RegistrySource::new(self.endpoint(registry, plain_http)?, mirrors);
        sources.insert(registry.clone(), source.clone());
        Ok(source)
    }

    /// A registry to push to. Mirrors have no part in that.
    pub(crate) fn sink(&self, registry: &Registry) -> anyhow::Result<RegistrySink> {
        Ok(RegistrySink::new(self.endpoint(registry, false)?))
    }

    fn endpoint(&self, registry: &Registry, plain_http: bool) -> anyhow::Result<Endpoint> {
        let credentials = self.given.clone().map_or_else(|| self.stored.clone(), Credentials::only);
        let plain_http = plain_http || self.args.plain_http;
        Ok(self.client.endpoint(registry, EndpointOptions { credentials, plain_http })?)
    }
}

/// The password of a user, from standard input or from whoever sits at the terminal.
pub(crate) fn password_for(username: &str, from_stdin: bool) -> anyhow::Result<Secret> {
    if from_stdin {
        let mut text = String::new();
        std::io::stdin().take(MAX_PASSWORD + 1).read_to_string(&mut text).context("the password can't be read")?;
        if text.len() as u64 > MAX_PASSWORD {
            bail!("standard input is too long for a password");
        }
        let password = text.strip_suffix('\n').unwrap_or(&text);
        let password = password.strip_suffix('\r').unwrap_or(password);
        if password.is_empty() {
            bail!("there is no password on standard input");
        }
        return Ok(password.into());
    }
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask for the password of {username}: pipe it in with --password-stdin");
    }
    let password = rpassword::prompt_password(format!("Password for {username}: "));
    let password = password.context("the password can't be read")?;
    if password.is_empty() {
        bail!("no password was typed");
    }
    Ok(password.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors() {
        let of = |text: &str| text.parse::<Mirror>();
        let host = |text: &str| text.parse::<Registry>().unwrap();
        assert_eq!(of("m.io:5000").unwrap(), Mirror { of: None, host: host("m.io:5000"), plain_http: false });
        let scoped = Mirror { of: Some(host("docker.io")), host: host("m.lan"), plain_http: true };
        assert_eq!(of("docker.io=http://m.lan/").unwrap(), scoped);
        assert!(of("https://m.io").is_ok_and(|mirror| !mirror.plain_http));
        for bad in ["", "=", "m.io/path", "ftp://m.io", "a b=c"] {
            assert!(of(bad).is_err(), "{bad:?} was accepted");
        }
    }
}

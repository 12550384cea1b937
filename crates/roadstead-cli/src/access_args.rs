//! Who is let in by a server: where its users are, and what stands in front of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use roadstead::http::{ClientOptions, RetryPolicy, Timeouts};
use roadstead::server::{Access, AccessOptions, State};

use crate::bucket_args::TreePlace;
use crate::exit;
use crate::registry_args::TlsArgs;

/// Where a server's users are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StateArgs {
    /// Folder with the users, the grants and the key of the server, outside of the tree; TREE.state if it is left out
    #[arg(long, value_name = "DIR", env = "ROADSTEAD_STATE")]
    state: Option<PathBuf>,
}

impl StateArgs {
    /// A folder that another option names, or the usual one.
    pub(crate) fn of(state: Option<PathBuf>) -> Self {
        Self { state }
    }

    /// The folder; `None` for a tree beside which there can be none, if none was named.
    pub(crate) fn find(&self, tree: &TreePlace) -> anyhow::Result<Option<State>> {
        let folder = match (&self.state, tree) {
            (Some(folder), _) => folder.clone(),
            (None, TreePlace::Bucket(_)) => return Ok(None),
            (None, TreePlace::Folder(tree)) => {
                // `.` and `x/..` have no name of their own.
                let named = tree.file_name().is_some().then(|| tree.clone());
                let Some(mut name) = named.or_else(|| tree.canonicalize().ok()).map(PathBuf::into_os_string) else {
                    return Ok(None);
                };
                name.push(".state");
                name.into()
            }
        };
        if let TreePlace::Folder(tree) = tree
            && lies_in(&folder, tree)
        {
            return Err(exit::usage(format!(
                "--state {} lies in the tree {}, where a web server would hand out what it keeps: name a folder outside",
                folder.display(),
                tree.display()
            )));
        }
        Ok(Some(State::new(folder)))
    }

    /// The folder.
    pub(crate) fn get(&self, tree: &TreePlace) -> anyhow::Result<State> {
        self.find(tree)?
            .ok_or_else(|| exit::usage(format!("{tree} has no folder beside it: name one with --state DIR")))
    }

    /// What was typed, for a line that is to be typed next.
    pub(crate) fn typed(&self) -> String {
        self.state.as_ref().map(|folder| format!(" --state {}", folder.display())).unwrap_or_default()
    }
}

/// Clients wait while an issuer is asked for its keys, and ask again themselves.
const RETRY: RetryPolicy = RetryPolicy {
    attempts: 2,
    first_delay: Duration::from_millis(200),
    max_delay: Duration::from_secs(1),
    max_retry_after: Duration::from_secs(1),
};
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(5), answer: Duration::from_secs(10), stall: Duration::from_secs(10) };

/// Whether a folder, which need not be there, is another one or lies below it.
fn lies_in(folder: &Path, tree: &Path) -> bool {
    let Ok(tree) = std::path::absolute(tree).map(|path| path.canonicalize().unwrap_or(path)) else { return false };
    let Ok(folder) = std::path::absolute(folder) else { return false };
    let mut there = folder.as_path();
    // As far as it is there, without links.
    while !there.exists() {
        let Some(above) = there.parent() else { break };
        there = above;
    }
    let rest = folder.strip_prefix(there).unwrap_or(Path::new(""));
    there.canonicalize().is_ok_and(|there| there.join(rest).starts_with(tree))
}

/// How a server learns who asks.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options for users")]
pub(crate) struct AccessArgs {
    #[command(flatten)]
    pub(crate) state: StateArgs,

    /// How clients reach this server, such as https://registry.example, where that isn't the name that they ask for
    #[arg(long, value_name = "URL", value_parser = public_url)]
    public_url: Option<String>,

    /// A proxy whose word counts on who asks and whether by TLS (Forwarded, X-Forwarded-*): an address, or a network such as
    /// 10.0.0.0/8; may be repeated
    #[arg(long = "trust-proxy", value_name = "NETWORK", value_parser = network)]
    trusted_proxies: Vec<ipnet::IpNet>,
}

impl AccessArgs {
    /// What lets clients in, if the folder of users has any, or grants. Without a tree it has to be named.
    pub(crate) fn open(
        &self,
        tree: Option<&TreePlace>,
        tls: &TlsArgs,
        insecure: bool,
    ) -> anyhow::Result<Option<(Access, State)>> {
        let found = match tree {
            Some(tree) => self.state.find(tree)?,
            None => self.state.state.clone().map(State::new),
        };
        let Some(state) = found else { return Ok(None) };
        if !Access::is_arranged(&state)? {
            return Ok(None);
        }
        let options = ClientOptions { retry: RETRY, timeouts: TIMEOUTS, ..ClientOptions::default() };
        let client = tls.client(options).context("issuers can't be asked")?;
        let access = Access::new(AccessOptions {
            state: state.clone(),
            public_url: self.public_url.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
            insecure_passwords: insecure,
            client: Some(client),
        })?;
        Ok(Some((access, state)))
    }

    /// Whether somebody in front was named who speaks TLS for us.
    pub(crate) fn trusts_proxies(&self) -> bool {
        !self.trusted_proxies.is_empty()
    }
}

/// Scheme and authority of a URL.
pub(crate) fn public_url(text: &str) -> Result<String, String> {
    let bare = text.strip_suffix('/').unwrap_or(text);
    let authority = bare.strip_prefix("https://").or_else(|| bare.strip_prefix("http://")).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if authority.is_empty() || !authority.chars().all(plain) {
        return Err("expected http(s)://HOST[:PORT], without a path".to_owned());
    }
    Ok(bare.to_owned())
}

/// A network, or an address as one of its own.
pub(crate) fn network(text: &str) -> Result<ipnet::IpNet, String> {
    let address = || text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| "expected an address, or a network such as 10.0.0.0/8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_networks() {
        assert_eq!(public_url("https://r.example/").unwrap(), "https://r.example");
        assert_eq!(public_url("http://[::1]:5000").unwrap(), "http://[::1]:5000");
        for bad in ["", "r.example", "https://", "https://r/x", "https://u:p@r", "ftp://r", "https://r\""] {
            assert!(public_url(bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(network("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
        assert!(network("localhost").is_err());
    }

    #[test]
    fn state_lies_outside() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("registry");
        std::fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(&tree, folder.path().join("link")).unwrap();
        let place = TreePlace::Folder(tree.clone());
        let find = |state: Option<PathBuf>| StateArgs { state }.find(&place);
        assert_eq!(find(None).unwrap().unwrap().folder(), folder.path().join("registry.state"));
        for inside in [tree.clone(), tree.join("a/b"), folder.path().join("link/state"), tree.join(".roadstead")] {
            assert!(find(Some(inside.clone())).is_err(), "{}", inside.display());
        }
        assert!(find(Some(folder.path().join("registry-state"))).unwrap().is_some());
    }
}

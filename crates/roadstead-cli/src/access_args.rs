//! Who is let in by a server: where its users are.

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
    /// Folder with the users, the grants and the key of the server, and with uploads on their way into a bucket,
    /// outside of the tree; TREE.state if it is left out
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

    /// Where uploads wait that go into a bucket.
    pub(crate) fn spool(&self, tree: &TreePlace) -> anyhow::Result<PathBuf> {
        let found = self.find(tree)?.ok_or_else(|| {
            exit::usage(format!(
                "what is pushed into {tree} has to wait on this machine: name a folder with --state DIR"
            ))
        });
        Ok(found?.folder().join("uploads"))
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
        let access =
            Access::new(AccessOptions { state: state.clone(), insecure_passwords: insecure, client: Some(client) })?;
        Ok(Some((access, state)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

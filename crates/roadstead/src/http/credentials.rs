//! Where credentials come from: the files and helpers that docker and podman share, or the command line.
//!
//! The formats are docker's `config.json` and podman's `auth.json`, which is the same with more kinds of keys:
//!
//! ```json
//! { "auths": { "quay.io/org": { "auth": "<base64 of USER:PASSWORD>" },
//!              "https://index.docker.io/v1/": { "identitytoken": "…" } },
//!   "credHelpers": { "registry.example:5000": "pass" },
//!   "credsStore": "secretservice" }
//! ```
//!
//! A helper `NAME` is a program `docker-credential-NAME`. Which files are read, and where programs are looked for, is
//! passed in.

mod edit;
mod file;
mod helper;

use std::path::PathBuf;
use std::sync::Arc;

use super::secret::Secret;
use crate::oci::{Registry, Repository};
use file::AuthFile;

pub use edit::{CredentialFile, Kept};
pub use helper::{HelperError, Helpers};

/// What proves to a registry who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user's name and password, or an access token in a password's place.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token that is exchanged for access tokens, in place of a password.
    IdentityToken(Secret),
}

/// Why credentials can't be read or written. No variant holds what was read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// A file can't be read.
    #[error("{path} can't be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what docker or podman write.
    #[error("{path} is no file of credentials: {problem}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        problem: String,
    },
    /// One entry of a file can't be used.
    #[error("{path}: the entry {key:?} is not the base64 of USER:PASSWORD")]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: String,
    },
    /// A credential helper failed.
    #[error("the credential helper docker-credential-{name} failed")]
    Helper {
        /// Its name.
        name: String,
        /// Why.
        source: HelperError,
    },
    /// A file can't be written.
    #[error("{path} can't be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What to tell a registry that asks who is there.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    given: Option<Credential>,
    files: Arc<[PathBuf]>,
    helpers: Helpers,
}

impl Credentials {
    /// This one and no other, as typed on the command line.
    #[must_use]
    pub fn only(credential: Credential) -> Self {
        Self { given: Some(credential), ..Self::default() }
    }

    /// Those of files, the first that has one for a registry counts. A file that does not exist holds none.
    #[must_use]
    pub fn in_files(files: Vec<PathBuf>, helpers: Helpers) -> Self {
        Self { given: None, files: files.into(), helpers }
    }

    /// The credential for a repository, or for the registry as a whole. Nearer names win: `HOST/a/b` before `HOST/a`
    /// before `HOST`.
    ///
    /// In each file a helper that is named for the registry comes first, then the entries, then the helper for all
    /// registries: the order in which podman and docker look.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if a file is broken or a helper fails. A helper for all registries that is not installed counts
    /// as one that knows nothing: configurations are copied to machines that lack it, and most images need no login.
    pub async fn find(
        &self,
        registry: &Registry,
        repository: Option<&Repository>,
    ) -> Result<Option<Credential>, CredentialError> {
        if let Some(given) = &self.given {
            return Ok(Some(given.clone()));
        }
        for path in &*self.files {
            let Some(file) = AuthFile::read(path).await? else {
                continue;
            };
            let failed = |name: &str| {
                let name = name.to_owned();
                move |source| CredentialError::Helper { name, source }
            };
            if let Some(name) = file.helper(registry) {
                let found = self.helpers.get(name, file::server(registry)).await.map_err(failed(name))?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            if let Some(found) = file.entry(path, registry, repository)? {
                return Ok(Some(found));
            }
            if let Some(name) = file.store() {
                match self.helpers.get(name, file::server(registry)).await {
                    Ok(None) => {}
                    Ok(found) => return Ok(found),
                    Err(HelperError::Missing) => {
                        tracing::warn!("docker-credential-{name} is not installed: its credentials are not used");
                    }
                    Err(error) => return Err(failed(name)(error)),
                }
            }
        }
        Ok(None)
    }
}

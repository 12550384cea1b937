//! Writing a file of credentials: login and logout.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize as _;
use serde_json::{Map, Value};

use super::file::{self, AuthFile};
use super::{Credential, CredentialError, Helpers};
use crate::oci::{Registry, Repository};

/// Where a credential went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Into the file, readable to its owner only.
    File(PathBuf),
    /// To a credential helper of this name.
    Helper(String),
}

/// A file of credentials that is written to.
///
/// Fields that are not known here stay as they are. The file is replaced in one step, so that a reader sees the old one or
/// the new one; two logins at the same instant may lose one of the two, as with docker.
#[derive(Debug, Clone)]
pub struct CredentialFile {
    path: PathBuf,
    helpers: Helpers,
}

impl CredentialFile {
    /// A file, which need not exist yet.
    #[must_use]
    pub fn new(path: PathBuf, helpers: Helpers) -> Self {
        Self { path, helpers }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose credential there is for a registry or a part of it, if there is one with a name.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if the file is broken or a helper fails.
    pub async fn username(
        &self,
        registry: &Registry,
        part: Option<&Repository>,
    ) -> Result<Option<String>, CredentialError> {
        let credentials = super::Credentials::in_files(vec![self.path.clone()], self.helpers.clone());
        Ok(credentials.find(registry, part).await?.and_then(|found| match found {
            Credential::Password { username, .. } => Some(username),
            Credential::IdentityToken(_) => None,
        }))
    }

    /// Keeps a credential for a registry, or for the repositories below `part`.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if the file is broken or can't be written, or a helper fails. Then nothing has changed.
    pub async fn store(
        &self,
        registry: &Registry,
        part: Option<&Repository>,
        credential: &Credential,
    ) -> Result<Kept, CredentialError> {
        let (mut document, known) = self.read().await?;
        // Helpers know registries, not parts of them.
        let helper = known.helper(registry).or(known.store()).filter(|_| part.is_none()).map(str::to_owned);
        if let Some(name) = &helper {
            let stored = self.helpers.store(name, file::server(registry), credential).await;
            stored.map_err(|source| CredentialError::Helper { name: name.clone(), source })?;
        }
        let entries = object(&mut document, "auths");
        let key = key(registry, part);
        if part.is_none() {
            // The same registry under another spelling would win over what is written now.
            entries.retain(|known, _| *known == key || !file::is_key_of(known, registry));
        }
        if helper.is_some() {
            // An empty entry is how docker remembers that its helper has something.
            entries.insert(key, Value::Object(Map::new()));
        } else {
            let entry = object(entries, &key);
            for field in ["auth", "username", "password", "identitytoken"] {
                entry.shift_remove(field);
            }
            let (field, value) = match credential {
                Credential::Password { username, password } => ("auth", file::encode(username, password)),
                Credential::IdentityToken(token) => ("identitytoken", token.reveal().to_owned()),
            };
            entry.insert(field.to_owned(), Value::String(value));
        }
        self.write(&document)?;
        Ok(helper.map_or_else(|| Kept::File(self.path.clone()), Kept::Helper))
    }

    /// Forgets the credential for a registry, or for the repositories below `part`. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// As [`store`](Self::store).
    pub async fn erase(&self, registry: &Registry, part: Option<&Repository>) -> Result<bool, CredentialError> {
        let (mut document, known) = self.read().await?;
        let mut erased = false;
        if part.is_none() {
            let helpers: Vec<String> =
                [known.helper(registry), known.store()].into_iter().flatten().map(str::to_owned).collect();
            for name in helpers {
                let forgotten = self.helpers.erase(&name, file::server(registry)).await;
                erased |= forgotten.map_err(|source| CredentialError::Helper { name, source })?;
            }
        }
        if let Some(Value::Object(entries)) = document.get_mut("auths") {
            let before = entries.len();
            let gone = key(registry, part);
            entries.retain(|known, _| *known != gone && (part.is_some() || !file::is_key_of(known, registry)));
            if entries.len() < before {
                erased = true;
                self.write(&document)?;
            }
        }
        Ok(erased)
    }

    /// The whole document, and what of it is understood: a file that can't be read for credentials is not written over.
    async fn read(&self) -> Result<(Map<String, Value>, AuthFile), CredentialError> {
        let text = file::read_text(&self.path).await?.unwrap_or_default();
        if text.trim_ascii().is_empty() {
            return Ok((Map::new(), AuthFile::default()));
        }
        let document = serde_json::from_slice(&text).map_err(|error| file::syntax(&self.path, &error))?;
        Ok((document, AuthFile::parse(&self.path, &text)?))
    }

    fn write(&self, document: &Map<String, Value>) -> Result<(), CredentialError> {
        let failed = |source| CredentialError::Write { path: self.path.clone(), source };
        let mut text = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, tabs);
        document.serialize(&mut serializer).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        replace(&self.path, &text).map_err(failed)
    }
}

/// Docker's spelling for its own registry, which podman reads as well.
fn key(registry: &Registry, part: Option<&Repository>) -> String {
    match part {
        Some(part) => format!("{registry}/{part}"),
        None => file::server(registry).to_owned(),
    }
}

/// The object in a field, made if there is none.
fn object<'a>(within: &'a mut Map<String, Value>, field: &str) -> &'a mut Map<String, Value> {
    let value = within.entry(field).or_insert(Value::Null);
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it has just been made one")
}

/// Replaces a file in one step, by one that only its owner can read. A link is kept, and what it names is replaced.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    create_private(folder)?;
    // Made with mode 0600.
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text)?;
    new.as_file().sync_all()?;
    new.persist(&path).map_err(|error| error.error)?;
    Ok(())
}

fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

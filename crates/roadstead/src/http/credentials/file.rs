//! Reading a file of credentials.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{Credential, CredentialError};
use crate::http::secret::Secret;
use crate::oci::{Registry, Repository};

/// The key of Docker Hub in docker's files, and what its helpers are asked for.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// The largest file that is read.
const MAX_FILE: u64 = 4 << 20;

/// Some writers leave the padding off.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What helpers call a registry.
pub(super) fn server(registry: &Registry) -> &str {
    if registry.is_docker_hub() { DOCKER_HUB_KEY } else { registry.as_str() }
}

/// The fields that are read.
#[derive(Default, serde::Deserialize)]
pub(super) struct AuthFile {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(default, rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, serde::Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default, rename = "identitytoken")]
    identity_token: Option<String>,
}

/// The whole text of a file, `None` if there is none.
pub(super) async fn read_text(path: &Path) -> Result<Option<Vec<u8>>, CredentialError> {
    let failed = |source| CredentialError::Read { path: path.to_owned(), source };
    match tokio::fs::metadata(path).await {
        Ok(metadata) if metadata.len() > MAX_FILE => {
            let problem = format!("it is larger than {MAX_FILE} bytes");
            return Err(CredentialError::Syntax { path: path.to_owned(), problem });
        }
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    }
    tokio::fs::read(path).await.map(Some).map_err(failed)
}

/// Says where a file goes wrong. The parser's own words would quote the value there, which may be a password.
pub(super) fn syntax(path: &Path, error: &serde_json::Error) -> CredentialError {
    let what = if error.is_data() { "an unexpected kind of value" } else { "no JSON" };
    let problem = format!("{what} at line {}, column {}", error.line(), error.column());
    CredentialError::Syntax { path: path.to_owned(), problem }
}

impl AuthFile {
    /// Reads a file; `None` if there is none.
    pub(super) async fn read(path: &Path) -> Result<Option<Self>, CredentialError> {
        read_text(path).await?.map(|text| Self::parse(path, &text)).transpose()
    }

    pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Self, CredentialError> {
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(text).map_err(|error| syntax(path, &error))
    }

    /// The helper that is named for a registry.
    pub(super) fn helper(&self, registry: &Registry) -> Option<&str> {
        let helpers = self.helpers.as_ref()?;
        let name = helpers.iter().find(|(key, _)| is_key_of(key, registry)).map(|(_, name)| name.as_str());
        name.filter(|name| !name.is_empty())
    }

    /// The helper for all registries.
    pub(super) fn store(&self) -> Option<&str> {
        self.store.as_deref().filter(|name| !name.is_empty())
    }

    /// The credential of the entry that is nearest to a repository.
    pub(super) fn entry(
        &self,
        path: &Path,
        registry: &Registry,
        repository: Option<&Repository>,
    ) -> Result<Option<Credential>, CredentialError> {
        let Some(auths) = &self.auths else {
            return Ok(None);
        };
        let mut scope = repository.map(|repository| format!("{registry}/{repository}"));
        while let Some(key) = scope {
            if let Some((key, entry)) = auths.get_key_value(&key)
                && let Some(found) = credential(path, key, entry)?
            {
                return Ok(Some(found));
            }
            let shorter = key.rsplit_once('/').map(|(shorter, _)| shorter.to_owned());
            scope = shorter.filter(|shorter| shorter.contains('/'));
        }
        // The registry's own spelling wins over what docker of old wrote.
        let exact = auths.get_key_value(registry.as_str()).into_iter();
        let others = auths.iter().filter(|(key, _)| is_key_of(key, registry));
        for (key, entry) in exact.chain(others) {
            if let Some(found) = credential(path, key, entry)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Whether a key means a registry as a whole: its name, or a URL on it as docker of old wrote them.
pub(super) fn is_key_of(key: &str, registry: &Registry) -> bool {
    let after_scheme = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let host = match after_scheme {
        Some(rest) => rest.split('/').next().unwrap_or(rest),
        // Without a scheme, a path makes it the key of a part of the registry.
        None => key,
    };
    if registry.is_docker_hub() {
        return matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    }
    host == registry.as_str()
}

fn credential(path: &Path, key: &str, entry: &Entry) -> Result<Option<Credential>, CredentialError> {
    let broken = || CredentialError::Entry { path: path.to_owned(), key: key.to_owned() };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(token) = given(&entry.identity_token) {
        return Ok(Some(Credential::IdentityToken(token.into())));
    }
    if let Some(encoded) = given(&entry.auth) {
        let decoded = BASE64.decode(encoded.trim()).map_err(|_| broken())?;
        let decoded = String::from_utf8(decoded).map_err(|_| broken())?;
        let (username, password) = decoded.split_once(':').ok_or_else(broken)?;
        // Docker pads with zero bytes.
        let password = Secret::from(password.trim_end_matches('\0'));
        return Ok(Some(Credential::Password { username: username.to_owned(), password }));
    }
    Ok(given(&entry.username)
        .zip(entry.password.clone())
        .map(|(username, password)| Credential::Password { username, password: password.into() }))
}

/// The `auth` field for a name and password.
pub(super) fn encode(username: &str, password: &Secret) -> String {
    BASE64.encode(format!("{username}:{}", password.reveal()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, image: &str) -> Result<Option<String>, CredentialError> {
        let path = Path::new("auth.json");
        let image: crate::oci::ImageReference = image.parse().unwrap();
        let found = AuthFile::parse(path, text.as_bytes())?.entry(path, &image.registry, Some(&image.repository))?;
        Ok(found.map(|found| match found {
            Credential::Password { username, password } => format!("{username}:{}", password.reveal()),
            Credential::IdentityToken(token) => format!("token {}", token.reveal()),
        }))
    }

    fn auths(entries: &[(&str, &str)]) -> String {
        let entries: Vec<_> =
            entries.iter().map(|(key, who)| format!(r#""{key}":{{"auth":"{}"}}"#, BASE64.encode(who))).collect();
        format!(r#"{{"auths":{{{}}}}}"#, entries.join(","))
    }

    #[test]
    fn the_nearest_entry_counts() {
        let file =
            auths(&[("q.io", "h:1"), ("q.io/a", "a:2"), ("q.io/a/b", "b:3"), ("q.io/x", "x:4"), ("q.io:80", "p:5")]);
        for (image, who) in [
            ("q.io/a/b", "b:3"),
            ("q.io/a/b/c", "b:3"),
            ("q.io/a/bc", "a:2"),
            ("q.io/a", "a:2"),
            ("q.io/ab", "h:1"),
            ("q.io:80/a/b", "p:5"),
        ] {
            assert_eq!(find(&file, image).unwrap().as_deref(), Some(who), "{image}");
        }
        assert_eq!(find(&file, "other.io/a").unwrap(), None);
        assert_eq!(find(&auths(&[("q.io/a", "a:2")]), "q.io/b").unwrap(), None);
    }

    #[test]
    fn docker_hub_and_old_spellings() {
        for key in ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "https://docker.io"] {
            assert_eq!(find(&auths(&[(key, "u:p")]), "alpine").unwrap().as_deref(), Some("u:p"), "{key}");
            assert_eq!(find(&auths(&[(key, "u:p")]), "q.io/a").unwrap(), None, "{key}");
        }
        let file = auths(&[("docker.io/org", "org:1"), ("docker.io", "u:p")]);
        assert_eq!(find(&file, "org/app").unwrap().as_deref(), Some("org:1"));
        for key in ["https://q.io", "https://q.io/v2/", "http://q.io/"] {
            assert_eq!(find(&auths(&[(key, "u:p")]), "q.io/a").unwrap().as_deref(), Some("u:p"), "{key}");
        }
    }

    #[test]
    fn forms_of_entries() {
        let one = |entry: &str| find(&format!(r#"{{"auths":{{"q.io":{entry}}}}}"#), "q.io/a");
        let is = |entry: &str, who: &str| assert_eq!(one(entry).unwrap().as_deref(), Some(who), "{entry}");
        is(r#"{"auth":"dTpw"}"#, "u:p");
        is(r#"{"auth":"dTpwOnE="}"#, "u:p:q");
        is(r#"{"auth":"dTpwOnE"}"#, "u:p:q");
        is(r#"{"auth":"dTpwAAA="}"#, "u:p");
        is(r#"{"username":"u","password":"p","email":"x"}"#, "u:p");
        is(r#"{"auth":"dTo=","identitytoken":"t"}"#, "token t");
        for nothing in ["{}", r#"{"auth":""}"#, r#"{"auth":null,"username":"u"}"#] {
            assert_eq!(one(nothing).unwrap(), None, "{nothing}");
        }
        for broken in [r#"{"auth":"!"}"#, r#"{"auth":"dXA="}"#, r#"{"auth":"/w=="}"#] {
            let error = one(broken).unwrap_err().to_string();
            assert!(error.contains("q.io") && !error.contains("dXA"), "{error}");
        }
    }

    #[test]
    fn broken_files_are_named_and_not_quoted() {
        for text in ["{", r#"{"auths":"hunter2"}"#, r#"{"auths":{"q.io":{"auth":["hunter2"]}}}"#, "hunter2"] {
            let error = find(text, "q.io/a").unwrap_err().to_string();
            assert!(error.contains("auth.json") && !error.contains("hunter2"), "{error}");
        }
        for empty in ["", " \n", "{}", r#"{"auths":null,"credHelpers":null,"credsStore":null}"#] {
            assert_eq!(find(empty, "q.io/a").unwrap(), None, "{empty:?}");
        }
    }
}

//! The URL that something lies below.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

use crate::oci::Registry;

/// A URL of a host and a path on it, such as `https://user.github.io/project`. What lies below it has the paths of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    registry: Registry,
    plain_http: bool,
    /// Begins with a slash and does not end with one, or is empty.
    path: String,
}

/// A text is no such URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is no URL that a registry can lie below: {problem}")]
pub struct BaseUrlError {
    url: String,
    problem: &'static str,
}

impl BaseUrl {
    /// The host, and its port if one was written.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Whether it says `http`.
    #[must_use]
    pub fn plain_http(&self) -> bool {
        self.plain_http
    }

    /// The path: `/project`, or nothing.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let parsed = text.parse::<Url>();
        // Whatever is wrong with it, a password in it is shown to nobody.
        let refused = |problem| {
            let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
            BaseUrlError { url: crate::oci::excerpt(shown), problem }
        };
        let url = parsed.map_err(|_| refused("it can't be read"))?;
        let plain_http = match url.scheme() {
            "https" => false,
            "http" => true,
            _ => return Err(refused("it has to begin with https:// or http://")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("it has credentials in it, which the login knows"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("it has a query or a fragment"));
        }
        let host = url.host_str().unwrap_or_default();
        let registry = match url.port() {
            Some(port) => format!("{host}:{port}").parse(),
            None => host.parse(),
        };
        let registry = registry.map_err(|_| refused("it names no host that can be asked"))?;
        Ok(Self { registry, plain_http, path: url.path().trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.plain_http { "http" } else { "https" };
        write!(f, "{scheme}://{}{}", self.registry, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_a_url() {
        for (text, shown, path) in [
            ("https://user.github.io/project/", "https://user.github.io/project", "/project"),
            ("http://localhost:8000", "http://localhost:8000", ""),
            ("HTTPS://Example.com:443/a/../b/./c//", "https://example.com/b/c", "/b/c"),
            ("http://[::1]:80/x", "http://[::1]/x", "/x"),
        ] {
            let url: BaseUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.path()), (shown, path), "{text}");
        }
        for bad in
            ["", "x", "ftp://x/", "file:///etc", "https://", "https://u:secret@x/", "https://x/?q", "https://x/#f"]
        {
            let error = bad.parse::<BaseUrl>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}

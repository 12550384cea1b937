//! Where a node's API is.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

use crate::oci::excerpt;

/// The address of a node's API: a URL, or what nodes themselves write, such as `/ip4/127.0.0.1/tcp/5001`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiAddress(String);

/// A text is no such address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of an API: expected //HOST:PORT, http://HOST:PORT, https://HOST or /ip4/ADDRESS/tcp/PORT")]
pub struct ApiAddressError(String);

impl Default for ApiAddress {
    /// Where a node listens unless told otherwise.
    fn default() -> Self {
        Self("http://127.0.0.1:5001".to_owned())
    }
}

impl fmt::Display for ApiAddress {
    /// As a URL, without a slash at its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ApiAddress {
    type Err = ApiAddressError;

    fn from_str(text: &str) -> Result<Self, ApiAddressError> {
        let url = if text.starts_with("//") {
            Some(format!("http:{text}"))
        } else if text.starts_with('/') {
            of_multiaddr(text)
        } else {
            Some(text.to_owned())
        };
        let url = url.and_then(|url| url.parse::<Url>().ok());
        let usable = url.filter(|url| {
            // A password would be seen by whoever lists processes.
            let named = url.host_str().is_some_and(|host| !host.is_empty());
            let bare = url.username().is_empty() && url.password().is_none();
            named
                && bare
                && url.query().is_none()
                && url.fragment().is_none()
                && matches!(url.scheme(), "http" | "https")
        });
        match usable {
            Some(url) => Ok(Self(url.as_str().trim_end_matches('/').to_owned())),
            // Whatever is wrong with it, a password in it is shown to nobody.
            None => Err(ApiAddressError(excerpt(text.rsplit_once('@').map_or(text, |(_, rest)| rest)))),
        }
    }
}

/// The URL that a multiaddr means.
fn of_multiaddr(text: &str) -> Option<String> {
    let parts: Vec<_> = text.trim_end_matches('/').split('/').skip(1).collect();
    let (["ip4" | "ip6" | "dns" | "dns4" | "dns6", host, "tcp", port], rest) = parts.split_at_checked(4)? else {
        return None;
    };
    let scheme = match rest {
        [] | ["http"] => "http",
        ["https"] | ["tls", "http"] => "https",
        _ => return None,
    };
    let host = host.parse().map_or_else(|_| Host::Domain((*host).to_owned()), Host::Ipv6);
    let port: u16 = port.parse().ok()?;
    Some(format!("{scheme}://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, url) in [
            ("//node:5001", Some("http://node:5001")),
            ("https://node.example/ipfs/", Some("https://node.example/ipfs")),
            ("/ip4/127.0.0.1/tcp/5001", Some("http://127.0.0.1:5001")),
            ("/ip6/::1/tcp/5001", Some("http://[::1]:5001")),
            ("/dns4/node.example/tcp/443/https", Some("https://node.example")),
            ("/ip4/127.0.0.1/udp/5001", None),
            ("/ip4/127.0.0.1/tcp/5001/p2p/x", None),
            ("/ip4/127.0.0.1", None),
            ("//", None),
            ("node:5001", None),
            ("ftp://node", None),
            ("http://node/?a=b", None),
        ] {
            let parsed = text.parse::<ApiAddress>();
            assert_eq!(parsed.as_ref().ok().map(ToString::to_string).as_deref(), url, "{text}");
        }
        let refused = "http://me:secret@node".parse::<ApiAddress>().unwrap_err().to_string();
        assert!(refused.contains("node") && !refused.contains("secret"), "{refused}");
    }
}

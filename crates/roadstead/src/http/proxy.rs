//! Proxies, as the usual variables name them.

use reqwest::{NoProxy, Proxy};

use super::error::HttpError;
use super::secret::Secret;

/// Which proxies stand between this machine and registries. They may hold credentials, so they are never shown.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// For `http://`: `HTTP_PROXY`.
    pub http: Option<Secret>,
    /// For `https://`: `HTTPS_PROXY`.
    pub https: Option<Secret>,
    /// For whichever of them has none: `ALL_PROXY`.
    pub all: Option<Secret>,
    /// What is reached directly, separated by commas: `NO_PROXY`. Loopback always is.
    pub except: String,
}

impl Proxies {
    /// The proxies for a client.
    ///
    /// # Errors
    ///
    /// [`HttpError::Setting`] if one is no URL of a proxy.
    pub(crate) fn build(&self) -> Result<Vec<Proxy>, HttpError> {
        let except = format!("localhost,127.0.0.0/8,::1,{}", self.except);
        let named = [("http", &self.http), ("https", &self.https)];
        let mut proxies = Vec::new();
        for (scheme, proxy) in named {
            let Some(url) = proxy.as_ref().or(self.all.as_ref()).map(Secret::reveal).filter(|url| !url.is_empty())
            else {
                continue;
            };
            let proxy = if scheme == "http" { Proxy::http(url) } else { Proxy::https(url) };
            let proxy = proxy.map_err(|_| {
                HttpError::Setting(format!("the proxy for {scheme} is no URL, such as http://HOST:PORT"))
            })?;
            proxies.push(proxy.no_proxy(NoProxy::from_string(&except)));
        }
        Ok(proxies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_checked_and_not_shown() {
        let bad = Proxies { https: Some("http://user:pw@[".into()), ..Proxies::default() };
        let error = bad.build().unwrap_err().to_string();
        assert!(error.contains("https") && !error.contains("pw"), "{error}");
        assert!(!format!("{bad:?}").contains("pw"));
        let both = Proxies { all: Some("socks5h://127.0.0.1:1".into()), http: Some("".into()), ..Proxies::default() };
        assert_eq!(both.build().unwrap().len(), 1, "an empty variable switches the proxy off");
    }
}

//! Connections: one pool for everything that shares its TLS settings.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::client::ClientOptions;
use super::error::HttpError;
use super::redirect::is_link_local_address;
use super::tls::{Tls, TlsError};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// The registry itself: it may ask for a client certificate.
    Registry,
    /// Where the registry redirects to.
    Elsewhere,
    /// A token service, which may not turn out to be a link-local address.
    Token,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Pool {
    Plain { token: bool },
    Tls { folder: Option<PathBuf>, token: bool },
}

#[derive(Debug)]
pub(crate) struct Transport {
    tls: Tls,
    proxies: Vec<reqwest::Proxy>,
    pools: Mutex<HashMap<Pool, reqwest::Client>>,
}

impl Transport {
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, HttpError> {
        Ok(Self { tls: Tls::new(options.tls.clone()), proxies: options.proxies.build()?, pools: Mutex::default() })
    }

    /// The client for a URL. Made when first needed, since a run over plain HTTP should not read certificates.
    pub(crate) fn client(
        &self,
        url: &Url,
        purpose: Purpose,
        options: &ClientOptions,
    ) -> Result<reqwest::Client, HttpError> {
        let token = purpose == Purpose::Token;
        let pool = if url.scheme() == "http" {
            Pool::Plain { token }
        } else {
            let folder = self.tls.folder(&authority(url), purpose == Purpose::Registry);
            Pool::Tls { folder, token }
        };
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = pools.get(&pool) {
            return Ok(client.clone());
        }
        let host = || url.host_str().unwrap_or_default().to_owned();
        let config = match &pool {
            Pool::Plain { .. } => self.tls.trusting_nobody(),
            Pool::Tls { folder, .. } => self.tls.config(folder.as_deref()),
        };
        let config = config.map_err(|source| HttpError::Tls { host: host(), source })?;
        let client = self.build(config, token, options).map_err(|error| HttpError::Tls {
            host: host(),
            source: TlsError::Rustls(rustls::Error::General(error.without_url().to_string())),
        })?;
        pools.insert(pool, client.clone());
        Ok(client)
    }

    fn build(
        &self,
        config: rustls::ClientConfig,
        token: bool,
        options: &ClientOptions,
    ) -> Result<reqwest::Client, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .user_agent(&options.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(options.timeouts.connect)
            .tcp_nodelay(true)
            // Several blobs share one connection over HTTP/2. The windows are what may be under way at once: large enough
            // for a fast link with a long round trip, small enough to be the memory that a slow disk costs.
            .http2_initial_stream_window_size(4 << 20)
            .http2_initial_connection_window_size(16 << 20)
            .http2_max_frame_size(256 << 10);
        for proxy in &self.proxies {
            builder = builder.proxy(proxy.clone());
        }
        if let Some(socket) = &options.socket {
            builder = builder.unix_socket(socket.as_path());
        }
        if token {
            builder = builder.dns_resolver(RoutableOnly);
        }
        builder.build()
    }
}

/// Host and port, as folders of certificates are named: the port only if it is not the scheme's own.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Resolves names, but not to link-local addresses: a name that an attacker owns could point there, and then the check of
/// the URL alone would be worth nothing.
#[derive(Debug, Clone, Copy)]
struct RoutableOnly;

impl Resolve for RoutableOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.filter(|address| !is_link_local_address(address.ip())).collect();
            if found.is_empty() {
                return Err(format!("{} has no address that may be asked for a token", name.as_str()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

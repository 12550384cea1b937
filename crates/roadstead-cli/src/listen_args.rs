//! Where a server listens, whether by TLS, and what stands in front of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use listenfd::ListenFd;
use roadstead::server::{Listen, Proxy, TlsFiles};

use crate::exit;

/// Where a server listens.
#[derive(Debug, clap::Args)]
pub(crate) struct ListenArgs {
    /// Where to listen: ADDRESS:PORT ([::]:PORT takes connections from everywhere), unix:PATH[,mode=660] for a Unix
    /// socket, or `systemd` for the sockets that systemd passes; may be repeated
    #[arg(long, value_name = "PLACE", default_value = "127.0.0.1:5000")]
    listen: Vec<ListenPlace>,

    /// File with the certificate to show (PEM, with those between it and its authority): speak TLS, except on Unix
    /// sockets. Read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "Options for TLS")]
    tls_cert: Option<PathBuf>,

    /// File with the key of --tls-cert (PEM, without a password)
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Options for TLS")]
    tls_key: Option<PathBuf>,

    /// Let nobody in whose certificate none of the authorities in this file (PEM) has signed
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Options for TLS")]
    tls_client_ca: Option<PathBuf>,

    /// How clients reach this server, such as https://registry.example, where that isn't the name that they ask for
    #[arg(long, value_name = "URL", value_parser = public_url, help_heading = "Options behind proxies")]
    pub(crate) public_url: Option<String>,

    /// A proxy whose word counts on who asks and whether by TLS (Forwarded, X-Forwarded-*): an address, a network such
    /// as 10.0.0.0/8, or `unix` for whoever comes by a Unix socket; may be repeated
    #[arg(long = "trust-proxy", value_name = "NETWORK", help_heading = "Options behind proxies")]
    pub(crate) trusted_proxies: Vec<Proxy>,
}

/// What can be typed behind `--listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ListenPlace {
    Tcp(SocketAddr),
    Unix { path: PathBuf, mode: u32 },
    Systemd,
}

/// Who may connect to a Unix socket, if nothing was said: the server's user and group.
const MODE: u32 = 0o660;

impl FromStr for ListenPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "systemd" {
            return Ok(Self::Systemd);
        }
        let Some(path) = text.strip_prefix("unix:") else {
            let wrong = "expected ADDRESS:PORT, such as 0.0.0.0:5000 or [::]:5000, unix:PATH or systemd";
            return address(text).map(Self::Tcp).map_err(|_| wrong.to_owned());
        };
        let (path, mode) = match path.rsplit_once(",mode=") {
            Some((path, mode)) => {
                let read = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o777);
                (path, read.ok_or_else(|| format!("{mode} is no mode: expected one such as 660"))?)
            }
            None => (path, MODE),
        };
        if path.is_empty() {
            return Err("expected a path behind unix:".to_owned());
        }
        Ok(Self::Unix { path: path.into(), mode })
    }
}

/// An address and a port. A host's name would be looked up, and what it means can change; `localhost` can't.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let numeric = numeric.as_deref().unwrap_or(text);
    numeric.parse().map_err(|_| "expected ADDRESS:PORT, such as 0.0.0.0:5000 or [::]:5000".to_owned())
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

/// Where is listened, and how.
pub(crate) struct Listening {
    pub(crate) places: Vec<Listen>,
    pub(crate) tls: Option<TlsFiles>,
}

impl ListenArgs {
    /// Takes what was passed to this process, if it is wanted.
    pub(crate) fn open(&self) -> anyhow::Result<Listening> {
        let mut places = Vec::new();
        for place in &self.listen {
            match place {
                ListenPlace::Tcp(address) => places.push((*address).into()),
                ListenPlace::Unix { path, mode } => places.push(Listen::Unix { path: path.clone(), mode: *mode }),
                ListenPlace::Systemd => places.extend(passed()?),
            }
        }
        let pair = self.tls_cert.clone().zip(self.tls_key.clone());
        let tls = pair.map(|(certificate, key)| TlsFiles { certificate, key, client_ca: self.tls_client_ca.clone() });
        Ok(Listening { places, tls })
    }
}

impl Listening {
    /// The first of its places that others than this machine may reach.
    pub(crate) fn far(&self) -> Option<SocketAddr> {
        let addresses = self.places.iter().filter_map(|place| match place {
            Listen::Tcp(address) => Some(*address),
            Listen::OpenTcp(listener) => listener.local_addr().ok(),
            Listen::Unix { .. } | Listen::OpenUnix(_) => None,
        });
        { addresses }.find(|address| !address.ip().to_canonical().is_loopback())
    }

    /// Whether nobody comes but with a certificate, or from this machine.
    pub(crate) fn knows_clients(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }
}

/// The sockets that systemd passed.
fn passed() -> anyhow::Result<Vec<Listen>> {
    let mut passed = ListenFd::from_env();
    let mut places = Vec::new();
    for index in 0..passed.len() {
        let place = match passed.take_tcp_listener(index) {
            Ok(listener) => listener.map(Listen::OpenTcp),
            Err(_) => passed
                .take_unix_listener(index)
                .map_err(|_| {
                    exit::usage(format!(
                        "--listen systemd: socket {} of those that were passed is neither TCP nor a Unix stream socket",
                        index + 1
                    ))
                })?
                .map(Listen::OpenUnix),
        };
        places.extend(place);
    }
    if places.is_empty() {
        return Err(exit::usage(
            "--listen systemd: no socket was passed to this process (LISTEN_FDS, LISTEN_PID): start it by a .socket unit",
        ));
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert_eq!(public_url("https://r.example/").unwrap(), "https://r.example");
        assert_eq!(public_url("http://[::1]:5000").unwrap(), "http://[::1]:5000");
        for bad in ["", "r.example", "https://", "https://r/x", "https://u:p@r", "ftp://r", "https://r\""] {
            assert!(public_url(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn places() {
        let unix = |path: &str, mode| Ok(ListenPlace::Unix { path: path.into(), mode });
        for (text, expected) in [
            ("127.0.0.1:5000", Ok(ListenPlace::Tcp(([127, 0, 0, 1], 5000).into()))),
            ("localhost:1", Ok(ListenPlace::Tcp(([127, 0, 0, 1], 1).into()))),
            ("systemd", Ok(ListenPlace::Systemd)),
            ("unix:/run/x,y", unix("/run/x,y", 0o660)),
            ("unix:/run/x,mode=600", unix("/run/x", 0o600)),
            ("unix:x,mode=0666", unix("x", 0o666)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
        for bad in [
            "",
            "5000",
            "host:5000",
            "unix:",
            "unix:,mode=600",
            "unix:/x,mode=",
            "unix:/x,mode=999",
            "unix:/x,mode=1777",
        ] {
            assert!(bad.parse::<ListenPlace>().is_err(), "{bad:?} was accepted");
        }
    }
}

//! How a request came: from whom, by which name of ours, and whether the network could read it.
//!
//! What proxies say of that counts only if it comes from one of those that are trusted: everybody can send such headers.
//!
//! Source: RFC 7239 (`Forwarded`), and the habit that came before it (`X-Forwarded-*`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use ipnet::IpNet;

use super::certificate::Certificate;

/// Who may say in a request how it came to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxy {
    /// Whoever connects from an address of this network.
    Network(IpNet),
    /// Whoever connects by a Unix socket.
    Socket,
}

impl FromStr for Proxy {
    type Err = NoProxy;

    /// Reads an address, a network such as `10.0.0.0/8`, or `unix`.
    fn from_str(text: &str) -> Result<Self, NoProxy> {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        match text {
            "unix" => Ok(Self::Socket),
            _ => text.parse().or_else(|_| address()).map(Self::Network).map_err(|_| NoProxy),
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Socket => f.write_str("unix"),
        }
    }
}

/// What was to be a [`Proxy`] is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoProxy;

impl fmt::Display for NoProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an address, a network such as 10.0.0.0/8, or unix")
    }
}

impl std::error::Error for NoProxy {}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Its address. Whoever comes by a Unix socket is on this machine, and has that of its loopback.
    pub(super) address: IpAddr,
    /// Whether it came by a Unix socket.
    pub(super) socket: bool,
    /// Whether it speaks TLS with us.
    pub(super) tls: bool,
    /// What it has shown there.
    pub(super) certificate: Option<Arc<Certificate>>,
}

impl Peer {
    pub(super) fn by_tcp(address: IpAddr) -> Self {
        Self { address: address.to_canonical(), socket: false, tls: false, certificate: None }
    }

    pub(super) fn by_socket() -> Self {
        Self { socket: true, ..Self::by_tcp(Ipv4Addr::LOCALHOST.into()) }
    }

    /// Whether nobody on the way can read what it sends.
    pub(super) fn is_private(&self) -> bool {
        self.tls || self.address.is_loopback()
    }
}

/// The headers of a request that say who sends it, and how it came.
#[derive(Default, Clone, Copy)]
pub(super) struct Presented<'a> {
    pub(super) authorization: Option<&'a [u8]>,
    /// More than one `Authorization`: nobody can say which one counts.
    pub(super) unclear: bool,
    pub(super) host: Option<&'a [u8]>,
    pub(super) user_agent: Option<&'a [u8]>,
    pub(super) referer: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    forwarded: Option<&'a [u8]>,
    forwarded_for: Option<&'a [u8]>,
    forwarded_proto: Option<&'a [u8]>,
    forwarded_host: Option<&'a [u8]>,
}

impl<'a> Presented<'a> {
    /// Takes note of one of a request's header lines, if it counts. Of several lines the last one is that of whoever is
    /// nearest.
    pub(super) fn note(&mut self, name: &str, value: &'a [u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let field = match name.len() {
            4 if is("host") => &mut self.host,
            6 if is("origin") => &mut self.origin,
            7 if is("referer") => &mut self.referer,
            10 if is("user-agent") => &mut self.user_agent,
            9 if is("forwarded") => &mut self.forwarded,
            13 if is("authorization") => {
                self.unclear |= self.authorization.is_some();
                &mut self.authorization
            }
            15 if is("x-forwarded-for") => &mut self.forwarded_for,
            17 if is("x-forwarded-proto") => &mut self.forwarded_proto,
            16 if is("x-forwarded-host") => &mut self.forwarded_host,
            _ => return,
        };
        *field = Some(value);
    }
}

/// How a request came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Front {
    /// Whose it is: the address from which it came to us, or to the proxies that are trusted.
    pub(super) client: IpAddr,
    /// Whether nobody on the way could read a password in it.
    pub(super) private: bool,
    /// How the client reaches us: scheme and authority.
    pub(super) base: String,
    /// What the client itself has shown. Nothing where a proxy speaks for it, nor where a page does, which the client's
    /// browser shows its certificate for unasked.
    pub(super) certificate: Option<Arc<Certificate>>,
    /// Who it is, once they have proved that.
    pub(super) user: OnceLock<String>,
}

/// What is known about what stands in front.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    pub(super) public_url: Option<String>,
    pub(super) proxies: Vec<Proxy>,
}

impl Trust {
    pub(super) fn front(&self, peer: &Peer, presented: &Presented<'_>) -> Front {
        let host = text(presented.host).filter(|host| is_authority(host)).unwrap_or("localhost");
        let scheme = if peer.tls { "https" } else { "http" };
        let base = format!("{scheme}://{host}");
        let (client, private) = (peer.address, peer.is_private());
        let certificate = peer.certificate.clone().filter(|_| presented.origin.is_none());
        let mut front = Front { client, private, base, certificate, user: OnceLock::new() };
        if self.trusts_peer(peer) {
            front.certificate = None;
            let forwarded = text(presented.forwarded).and_then(|text| text.rsplit(',').next());
            let said = |key: &str| forwarded.and_then(|element| parameter(element, key));
            let schemes = || text(presented.forwarded_proto).into_iter().flat_map(|t| t.split(',')).map(str::trim);
            // Every one of them, so that a proxy that only adds its own to what a client made up is no harm.
            let secure = |scheme: &str| scheme.eq_ignore_ascii_case("https");
            let told = schemes().next().is_some() || said("proto").is_some();
            front.private = told && schemes().all(secure) && said("proto").is_none_or(|scheme| secure(&scheme));
            let by_name =
                text(presented.forwarded_host).and_then(|t| t.rsplit(',').next()).map(|t| t.trim().to_owned());
            let host = by_name.or_else(|| said("host")).filter(|host| is_authority(host));
            let host = host.as_deref().unwrap_or(&front.base[scheme.len() + "://".len()..]);
            let asked_by = match (told, front.private) {
                (true, true) => "https",
                (true, false) => "http",
                (false, _) => scheme,
            };
            front.base = format!("{asked_by}://{host}");
            let client = match presented.forwarded_for {
                Some(_) => {
                    self.nearest(text(presented.forwarded_for).unwrap_or_default().split(',').map(str::to_owned))
                }
                None => {
                    let elements = text(presented.forwarded).unwrap_or_default().split(',');
                    self.nearest(elements.filter_map(|element| parameter(element, "for")))
                }
            };
            front.client = client.unwrap_or(front.client);
            // Who says nothing of how it was asked passes on what it got itself.
            if !told && front.client == peer.address {
                front.private = peer.is_private();
            }
        }
        if let Some(url) = &self.public_url {
            front.base.clone_from(url);
        }
        front
    }

    fn trusts_peer(&self, peer: &Peer) -> bool {
        if peer.socket { self.proxies.contains(&Proxy::Socket) } else { self.trusts(peer.address) }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|proxy| matches!(proxy, Proxy::Network(network) if network.contains(&address)))
    }

    /// Of the addresses through which a request went, the last that is no proxy of ours.
    fn nearest(&self, addresses: impl DoubleEndedIterator<Item = String>) -> Option<IpAddr> {
        let mut nearest = None;
        for text in addresses.rev() {
            let text = text.trim();
            let bare =
                text.strip_prefix('[').and_then(|text| text.split_once(']')).map_or(text, |(address, _)| address);
            let without_port = || bare.rsplit_once(':').map_or(bare, |(address, _)| address);
            let Ok(address) = bare.parse::<IpAddr>().or_else(|_| without_port().parse()) else { break };
            let address = address.to_canonical();
            nearest = Some(address);
            if !self.trusts(address) {
                break;
            }
        }
        nearest
    }
}

fn text(value: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(value?).ok()
}

/// A parameter of an element of `Forwarded`.
fn parameter(element: &str, key: &str) -> Option<String> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let found = { pairs }.find(|(name, _)| name.trim().eq_ignore_ascii_case(key));
    found.map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

/// Whether something can stand in a URL as host and port, and in a quoted string.
fn is_authority(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !text.is_empty() && text.len() <= 300 && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(trust: &Trust, peer: &str, lines: &[(&str, &str)]) -> (String, bool, String) {
        let mut presented = Presented::default();
        for (name, value) in lines {
            presented.note(name, value.as_bytes());
        }
        let peer = match peer {
            "unix" => Peer::by_socket(),
            peer => match peer.strip_prefix("tls ") {
                Some(peer) => Peer { tls: true, ..Peer::by_tcp(peer.parse().unwrap()) },
                None => Peer::by_tcp(peer.parse().unwrap()),
            },
        };
        let Front { client, private, base, .. } = trust.front(&peer, &presented);
        (client.to_string(), private, base)
    }

    #[test]
    fn what_strangers_say_of_themselves_counts_for_nothing() {
        let trust = Trust { public_url: None, proxies: vec!["10.0.0.0/8".parse().unwrap()] };
        let lies = [
            ("host", "r.example"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-For", "127.0.0.1"),
            ("X-Forwarded-Host", "evil.example"),
            ("Forwarded", "for=127.0.0.1;proto=https;host=evil.example"),
        ];
        let seen = |peer| front(&trust, peer, &lies);
        assert_eq!(seen("192.0.2.1"), ("192.0.2.1".into(), false, "http://r.example".into()));
        assert_eq!(seen("::ffff:127.0.0.1"), ("127.0.0.1".into(), true, "http://r.example".into()));
        assert_eq!(seen("10.1.2.3"), ("127.0.0.1".into(), true, "https://evil.example".into()));
        assert_eq!(seen("tls 192.0.2.1"), ("192.0.2.1".into(), true, "https://r.example".into()));
        assert_eq!(seen("unix"), ("127.0.0.1".into(), true, "http://r.example".into()));
    }

    #[test]
    fn a_certificate_is_the_clients_own() {
        let certificate = Certificate { name: Some("ann".to_owned()), print: String::new() };
        let peer = Peer { certificate: Some(Arc::new(certificate)), ..Peer::by_tcp([10, 0, 0, 1].into()) };
        let [none, proxy] = [vec![], vec!["10.0.0.0/8".parse().unwrap()]];
        for (proxies, header, counts) in
            [(&none, "accept", true), (&none, "Origin", false), (&proxy, "accept", false), (&proxy, "origin", false)]
        {
            let trust = Trust { public_url: None, proxies: proxies.clone() };
            let mut presented = Presented::default();
            presented.note(header, b"https://page.example");
            assert_eq!(trust.front(&peer, &presented).certificate.is_some(), counts, "{proxies:?} {header}");
        }
    }

    #[test]
    fn by_what_it_came_counts_where_a_proxy_says_nothing() {
        let trust = |proxy: &str| Trust { public_url: None, proxies: vec![proxy.parse().unwrap()] };
        let host = ("host", "r");
        for (proxy, peer, lines, expected) in [
            ("10.0.0.0/8", "tls 10.0.0.1", &[host][..], ("10.0.0.1", true, "https://r")),
            ("10.0.0.0/8", "tls 10.0.0.1", &[host, ("x-forwarded-proto", "http")], ("10.0.0.1", false, "http://r")),
            ("10.0.0.0/8", "tls 10.0.0.1", &[host, ("x-forwarded-for", "1.1.1.1")], ("1.1.1.1", false, "https://r")),
            ("unix", "unix", &[host, ("x-forwarded-proto", "https")], ("127.0.0.1", true, "https://r")),
            ("unix", "unix", &[host, ("x-forwarded-proto", "http")], ("127.0.0.1", false, "http://r")),
            ("unix", "unix", &[host, ("x-forwarded-for", "1.1.1.1")], ("1.1.1.1", false, "http://r")),
            // The loopback's addresses are others than a socket.
            ("127.0.0.1", "unix", &[host, ("x-forwarded-for", "1.1.1.1")], ("127.0.0.1", true, "http://r")),
            ("unix", "127.0.0.1", &[host, ("x-forwarded-for", "1.1.1.1")], ("127.0.0.1", true, "http://r")),
        ] {
            let (client, private, base) = expected;
            let seen = front(&trust(proxy), peer, lines);
            assert_eq!(seen, (client.to_owned(), private, base.to_owned()), "{proxy} {peer} {lines:?}");
        }
        assert_eq!("::1".parse(), Ok(Proxy::Network("::1/128".parse().unwrap())));
        assert_eq!("localhost".parse::<Proxy>(), Err(NoProxy));
    }

    #[test]
    fn what_proxies_say() {
        let trust = Trust { public_url: None, proxies: vec!["10.0.0.0/8".parse().unwrap()] };
        let seen = |lines: &[(&str, &str)]| front(&trust, "10.0.0.1", lines);
        for (lines, expected) in [
            (&[][..], ("10.0.0.1", false, "http://localhost")),
            (&[("host", "r:1")], ("10.0.0.1", false, "http://r:1")),
            (&[("host", "r"), ("x-forwarded-proto", "https")], ("10.0.0.1", true, "https://r")),
            (&[("x-forwarded-proto", "https, http"), ("host", "r")], ("10.0.0.1", false, "http://r")),
            (
                &[
                    ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.0.0.9"),
                    ("forwarded", "for=3.3.3.3;proto=https;host=\"h:1\""),
                ],
                ("2.2.2.2", true, "https://h:1"),
            ),
            (&[("forwarded", "for=\"[2001:db8::1]:99\";proto=http")], ("2001:db8::1", false, "http://localhost")),
            (&[("x-forwarded-proto", "https"), ("forwarded", "proto=http")], ("10.0.0.1", false, "http://localhost")),
            (&[("x-forwarded-for", "junk, 2.2.2.2")], ("2.2.2.2", false, "http://localhost")),
            (&[("x-forwarded-host", "a\"b"), ("host", "r")], ("10.0.0.1", false, "http://r")),
            (&[("host", "a b")], ("10.0.0.1", false, "http://localhost")),
        ] {
            let (client, private, base) = expected;
            assert_eq!(seen(lines), (client.to_owned(), private, base.to_owned()), "{lines:?}");
        }
        let told = Trust { public_url: Some("https://r.example".to_owned()), ..trust };
        assert_eq!(front(&told, "127.0.0.1", &[("host", "x")]), ("127.0.0.1".into(), true, "https://r.example".into()));
    }
}

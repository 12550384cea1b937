//! Where a redirect may lead.

use std::net::IpAddr;

use ::http::StatusCode;
use reqwest::Url;
use url::Host;

/// The most redirects that are followed for one request.
pub(crate) const MAX_REDIRECTS: usize = 10;

/// Whether a status asks for the same request at another place.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The place that `location` names, seen from `current`.
///
/// Link-local addresses are where clouds keep the credentials of a machine, so nothing may send a client there. Private
/// addresses are allowed: registries inside a company redirect to storage inside it.
pub(crate) fn next(current: &Url, location: &str, plain_http: bool) -> Result<Url, String> {
    let mut next = current.join(location).map_err(|_| "to something that is no URL".to_owned())?;
    next.set_fragment(None);
    match next.scheme() {
        "https" => {}
        "http" if current.scheme() == "http" || plain_http => {}
        "http" => return Err("from https to http".to_owned()),
        _ => return Err("to something other than http and https".to_owned()),
    }
    if !next.username().is_empty() || next.password().is_some() {
        return Err("to a URL with credentials in it".to_owned());
    }
    if is_link_local(&next) {
        return Err("to a link-local address".to_owned());
    }
    Ok(next)
}

/// Whether two URLs are of one scheme, host and port, so that what is secret to one may be told to the other.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host_str() == b.host_str() && a.port_or_known_default() == b.port_or_known_default()
}

/// Whether the host is written as a link-local address.
pub(crate) fn is_link_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_link_local_address(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => is_link_local_address(IpAddr::V6(address)),
        _ => false,
    }
}

/// 169.254.0.0/16 and fe80::/10, also when IPv4 hides in IPv6.
pub(crate) fn is_link_local_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local() || address.to_ipv4().is_some_and(|v4| v4.is_link_local())
        }
    }
}

/// Whether the host is this machine: `localhost`, a name below it, 127.0.0.0/8 or ::1.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn where_a_redirect_may_lead() {
        let secure = url("https://r.example/v2/a/blobs/x");
        assert_eq!(next(&secure, "/other?x=1#y", false), Ok(url("https://r.example/other?x=1")));
        assert_eq!(next(&secure, "//cdn.example/x", false), Ok(url("https://cdn.example/x")));
        assert!(next(&secure, "http://cdn.example/x", false).is_err(), "a downgrade");
        assert!(next(&secure, "http://cdn.example/x", true).is_ok(), "plain HTTP is asked for");
        assert!(next(&url("http://127.0.0.1:5000/a"), "http://127.0.0.1:5001/b", false).is_ok());
        for bad in [
            "file:///etc/passwd",
            "ftp://x/",
            "https://user@x/",
            "https://:pw@x/",
            "https://169.254.169.254/latest",
            "https://[fe80::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://2852039166/",
            "https://0xa9.0xfe.0xa9.0xfe/",
            "http://",
            "https://[::1",
        ] {
            assert!(next(&secure, bad, true).is_err(), "{bad} was followed");
        }
    }

    #[test]
    fn origins() {
        assert!(same_origin(&url("https://a/x"), &url("https://A:443/y")));
        for other in ["http://a/", "https://a:444/", "https://b/", "https://a.b/"] {
            assert!(!same_origin(&url("https://a/"), &url(other)), "{other}");
        }
    }

    #[test]
    fn loopback() {
        for host in ["localhost", "a.localhost:1", "127.0.0.1", "127.255.0.1:9", "[::1]", "2130706433"] {
            assert!(is_loopback(&url(&format!("http://{host}/"))), "{host}");
        }
        for host in ["localhost.example", "128.0.0.1", "[::2]", "0.0.0.0"] {
            assert!(!is_loopback(&url(&format!("http://{host}/"))), "{host}");
        }
    }
}

//! Everything in here that reads what somebody hostile may have written, for fuzzers.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use rustls::pki_types::CertificateDer;

use super::grants::Grants;
use super::issuers::{claimed_issuer, read_set};
use super::scope::Scope;
use super::tokens::{Purpose, Tokens};
use super::users::Listed;
use super::{Authorization, challenge};
use crate::server::certificate::{Certificate, common_names};
use crate::server::front::{Peer, Presented, Trust};

/// Has these bytes read as everything that clients, proxies and issuers send, as a certificate, and as the files of a
/// state folder.
///
/// # Panics
///
/// If a token is taken that nobody signed, or what a client sends gets into a header where it could be taken for more.
pub fn feed(bytes: &[u8]) {
    let trust = Trust { public_url: None, proxies: vec!["127.0.0.0/8".parse().expect("a network")] };
    let mut presented = Presented::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let Ok(name) = std::str::from_utf8(&line[..colon]) else { continue };
        presented.note(name, line[colon + 1..].trim_ascii());
    }
    for peer in [[127, 0, 0, 1], [192, 0, 2, 1]] {
        let front = trust.front(&Peer::by_tcp(IpAddr::V4(Ipv4Addr::from(peer))), &presented);
        let challenge = challenge(&front, None, None);
        assert_eq!(challenge.matches('"').count(), 4, "{challenge}");
        assert!(http::HeaderValue::try_from(&*challenge).is_ok(), "{challenge}");
        assert!(peer[0] == 127 || !front.private, "nobody believes a stranger");
    }
    let _ = Authorization::read(&presented);
    Certificate::read(&CertificateDer::from(bytes));
    common_names(bytes);
    Listed::parse(bytes);
    let _ = Grants::parse(bytes, Path::new("state"));
    read_set(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let tokens = Tokens::new(&[0x52; 32]);
        assert!(tokens.read(text, Purpose::Access).is_err() && tokens.read(text, Purpose::Login).is_err());
        claimed_issuer(text);
        if let Some(scope) = Scope::parse(text) {
            assert!(scope.name.len() < text.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_the_fuzzer() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/access");
        let mut fed = 0;
        for seed in std::fs::read_dir(seeds).unwrap() {
            feed(&std::fs::read(seed.unwrap().path()).unwrap());
            fed += 1;
        }
        assert!(fed > 5);
    }
}

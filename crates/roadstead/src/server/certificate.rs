//! Who a client's certificate says it is.
//!
//! Whether that is true was found out by TLS: one of the authorities that are trusted has signed it, and whoever shows
//! it has its key. What is read here is only the name, and a mark by which this one is known again.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use webpki::EndEntityCert;

/// The most bytes of a name.
const MAX_NAME: usize = 256;

/// A certificate that a client has shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    /// Whom it names; `None` if that isn't clear.
    pub(super) name: Option<String>,
    /// Its SHA-256, as RFC 8705 writes it.
    pub(super) print: String,
}

impl Certificate {
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Self {
        let name = EndEntityCert::try_from(certificate).ok().and_then(|certificate| {
            let mut names = common_names(certificate.subject())?;
            match names.len() {
                0 => certificate.valid_dns_names().next().map(str::to_owned),
                1 => names.pop(),
                // Nobody can say which one counts.
                _ => None,
            }
        });
        let name = name.filter(|name| !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control));
        Self { name, print: BASE64.encode(Sha256::digest(certificate)) }
    }
}

/// The common names of a subject, as it stands in a certificate; `None` if it can't be read.
///
/// Source: RFC 5280, section 4.1.2.4.
pub(super) fn common_names(mut subject: &[u8]) -> Option<Vec<String>> {
    const SET: u8 = 0x31;
    const SEQUENCE: u8 = 0x30;
    const IDENTIFIER: u8 = 0x06;
    const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    let mut names = Vec::new();
    while !subject.is_empty() {
        let mut set = take(&mut subject, SET)?;
        while !set.is_empty() {
            let mut attribute = take(&mut set, SEQUENCE)?;
            let identifier = take(&mut attribute, IDENTIFIER)?;
            if identifier == COMMON_NAME {
                // UTF8String, PrintableString and IA5String: the others are written in alphabets that nobody agrees on.
                let text = [0x0c, 0x13, 0x16].into_iter().find_map(|tag| take(&mut attribute, tag))?;
                names.push(std::str::from_utf8(text).ok()?.to_owned());
            }
        }
    }
    Some(names)
}

/// Takes a value of DER off the beginning of some, if it has this tag.
fn take<'a>(from: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (length, rest) = match from.strip_prefix(&[tag])? {
        [length @ 0..=0x7f, rest @ ..] => (usize::from(*length), rest),
        [0x81, length, rest @ ..] => (usize::from(*length), rest),
        [0x82, high, low, rest @ ..] => (usize::from(*high) << 8 | usize::from(*low), rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    *from = rest;
    Some(value)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::*;

    fn name(common_names: &[DnValue], sans: &[&str]) -> Option<String> {
        let mut params = CertificateParams::new(sans.iter().map(|san| (*san).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "An organization");
        for name in common_names {
            params.distinguished_name.push(DnType::CommonName, name.clone());
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let read = Certificate::read(certificate.der());
        assert_eq!(read.print.len(), 43);
        read.name
    }

    #[test]
    fn whom_a_certificate_names() {
        let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
        for (common, sans, expected) in [
            (&[utf8("ann")][..], &["a.example"][..], Some("ann")),
            (&[DnValue::PrintableString("Ann B".try_into().unwrap())], &[], Some("Ann B")),
            (&[utf8(&"é".repeat(100))], &[], Some(&*"é".repeat(100))),
            (&[], &["192.0.2.1", "a.example", "b.example"], Some("a.example")),
            (&[], &["192.0.2.1"], None),
            (&[], &[], None),
            // What there is counts, and what can't be read is not made good for by something else.
            (&[utf8("")], &["a.example"], None),
            (&[utf8("a\nb")], &["a.example"], None),
            (&[utf8(&"x".repeat(257))], &["a.example"], None),
            (&[DnValue::BmpString("ann".try_into().unwrap())], &["a.example"], None),
        ] {
            assert_eq!(name(common, sans).as_deref(), expected, "{common:?} {sans:?}");
        }
        assert_eq!(Certificate::read(&CertificateDer::from(&b"none"[..])).name, None);
    }

    #[test]
    fn several_common_names_are_seen() {
        let one = |text: &str| {
            let name = [&[6, 3, 0x55, 4, 3, 12, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            let attribute = [&[0x30, u8::try_from(name.len()).unwrap()], &name[..]].concat();
            [&[0x31, u8::try_from(attribute.len()).unwrap()], &attribute[..]].concat()
        };
        assert_eq!(common_names(&[one("ann"), one("bob")].concat()).unwrap(), ["ann", "bob"]);
        assert_eq!(common_names(&one("ann")[1..]), None);
        let short = one("ann");
        assert!((1..short.len()).all(|length| common_names(&short[..length]).is_none()));
        for odd in [&[0x31, 0x80][..], &[0x31, 0x83, 0, 0, 0], &[0x31, 0x82, 0], &[0x31, 0xff]] {
            assert_eq!(common_names(odd), None, "{odd:?}");
        }
    }
}

//! Signature Version 4: what proves to a bucket who asks, and what was asked.
//!
//! Written here and not taken from a crate: it is a page, and the encoding of the path has to be that of the URL that is
//! sent, byte for byte. The signature covers the SHA-256 of the body, so that every server that checks signatures checks what
//! arrived, too.
//!
//! Source: AWS, "Create a signed AWS API request".

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Url;
use sha2::{Digest as _, Sha256};

use super::Keys;

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Text in the form of RFC 3986 in which only unreserved characters stand for themselves, and slashes in a path.
pub(super) fn encode(text: &str, path: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            b'/' if path => encoded.push('/'),
            _ => write!(encoded, "%{byte:02X}").expect("a string takes everything"),
        }
    }
    encoded
}

/// A query in the one spelling that is signed: encoded, and sorted by name.
pub(super) fn query(parameters: &[(&str, &str)]) -> String {
    let mut pairs: Vec<_> =
        parameters.iter().map(|(name, value)| (encode(name, false), encode(value, false))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// The SHA-256 of bytes, in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// `YYYYMMDDTHHMMSSZ`.
pub(super) fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // The civil calendar, in eras of 400 years that begin in March: then a leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hours, minutes, seconds) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{date:02}T{hours:02}{minutes:02}{seconds:02}Z")
}

/// The host as requests name it.
fn host(url: &Url) -> String {
    match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    }
}

/// What a signature of that time is for.
fn scope(time: &str, region: &str) -> String {
    format!("{}/{region}/s3/aws4_request", &time[..8])
}

/// The signature of a request in its one spelling.
fn signature(keys: &Keys, time: &str, region: &str, request: &str) -> String {
    let text = format!("{ALGORITHM}\n{time}\n{}\n{}", scope(time, region), sha256(request.as_bytes()));
    let mut key = format!("AWS4{}", keys.secret.reveal()).into_bytes();
    for part in [&time[..8], region, "s3", "aws4_request", &text] {
        key = hmac(&key, part);
    }
    hex(&key)
}

/// Makes a URL one by which whoever has it may `GET` what is there, for a time. What it says beside that is signed,
/// too.
pub(super) fn presign(
    mut url: Url,
    beside: &[(&str, &str)],
    keys: &Keys,
    region: &str,
    now: SystemTime,
    time: Duration,
) -> Url {
    let (date, seconds) = (timestamp(now), time.as_secs().to_string());
    let credential = format!("{}/{}", keys.id, scope(&date, region));
    let mut parameters = vec![
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", credential.as_str()),
        ("X-Amz-Date", date.as_str()),
        ("X-Amz-Expires", seconds.as_str()),
        ("X-Amz-SignedHeaders", "host"),
    ];
    parameters.extend(keys.token.as_ref().map(|token| ("X-Amz-Security-Token", token.reveal())));
    parameters.extend_from_slice(beside);
    let signed = query(&parameters);
    let request = format!("GET\n{}\n{signed}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD", url.path(), host(&url));
    let proof = signature(keys, &date, region, &request);
    url.set_query(Some(&format!("{signed}&X-Amz-Signature={proof}")));
    url
}

/// Signs a request: adds the headers that say when, with what content and by whom. `content` is the [`sha256`] of the body.
///
/// # Errors
///
/// If the keys can't stand in a header.
pub(super) fn sign(
    method: &Method,
    url: &Url,
    headers: &mut HeaderMap,
    content: &str,
    keys: &Keys,
    region: &str,
    now: SystemTime,
) -> Result<(), ::http::header::InvalidHeaderValue> {
    let time = timestamp(now);
    headers.insert(DATE, HeaderValue::try_from(&time)?);
    headers.insert(CONTENT, HeaderValue::try_from(content)?);
    if let Some(token) = &keys.token {
        let mut token = HeaderValue::try_from(token.reveal())?;
        token.set_sensitive(true);
        headers.insert(TOKEN, token);
    }
    // What proxies may change isn't signed.
    let signed = |name: &HeaderName| name.as_str().starts_with("x-amz-") || *name == ::http::header::CONTENT_TYPE;
    let mut lines: Vec<(&str, String)> = headers
        .iter()
        .filter(|(name, _)| signed(name))
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).trim().to_owned()))
        .collect();
    lines.push(("host", host(url)));
    lines.sort();
    let names = lines.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = lines.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let (path, query) = (url.path(), url.query().unwrap_or_default());
    let request = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{content}");
    let (scope, signature) = (scope(&time, region), signature(keys, &time, region, &request));
    let authorization =
        format!("{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", keys.id);
    let mut authorization = HeaderValue::try_from(authorization)?;
    authorization.set_sensitive(true);
    headers.insert(::http::header::AUTHORIZATION, authorization);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn times() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_369_353_600, "20130524T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(timestamp(time(seconds)), text);
        }
    }

    #[test]
    fn texts_are_encoded() {
        assert_eq!(encode("v2/a b/sha256:0+~*é", true), "v2/a%20b/sha256%3A0%2B~%2A%C3%A9");
        assert_eq!(
            query(&[("prefix", "a/b"), ("delimiter", "/"), ("uploads", "")]),
            "delimiter=%2F&prefix=a%2Fb&uploads="
        );
    }

    /// The examples of the S3 documentation, "Examples: Signature Calculations".
    #[test]
    fn known_signatures() {
        let keys = Keys {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            token: None,
        };
        for (target, expected) in [
            ("?lifecycle=", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            ("?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ] {
            let url: Url = format!("https://examplebucket.s3.amazonaws.com/{target}").parse().unwrap();
            let mut headers = HeaderMap::new();
            sign(&Method::GET, &url, &mut headers, &sha256(b""), &keys, "us-east-1", time(1_369_353_600)).unwrap();
            let signed = headers[::http::header::AUTHORIZATION].to_str().unwrap();
            assert!(signed.ends_with(&format!("Signature={expected}")), "{target}: {signed}");
            assert!(headers[::http::header::AUTHORIZATION].is_sensitive());
        }
    }

    /// The example of the S3 documentation, "Authenticating Requests: Using Query Parameters".
    #[test]
    fn a_known_url() {
        let mut keys = Keys {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            token: None,
        };
        let url = |keys: &Keys, beside: &[(&str, &str)]| {
            let url: Url = "https://examplebucket.s3.amazonaws.com/test.txt".parse().unwrap();
            presign(url, beside, keys, "us-east-1", time(1_369_353_600), Duration::from_hours(24)).to_string()
        };
        assert_eq!(
            url(&keys, &[]),
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
        keys.token = Some("a session/token".into());
        let of_a_session = url(&keys, &[("x-amz-request-payer", "requester")]);
        for part in ["&X-Amz-Security-Token=a%20session%2Ftoken&", "&x-amz-request-payer=requester&X-Amz-Signature="] {
            assert!(of_a_session.contains(part), "{part} is missing: {of_a_session}");
        }
    }
}

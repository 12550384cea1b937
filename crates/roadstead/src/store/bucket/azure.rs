//! Azure Blob Storage: what proves who asks, and the documents that it speaks.
//!
//! Buckets are called containers here, objects blobs, parts blocks. What is different beside the words:
//!
//! - The signature does not cover the body, so each request with one says its MD5, which the service compares.
//! - Blocks belong to the name of a blob and not to an upload. What is committed takes all that belong to that name with it,
//!   so of two uploads to one name the second finds its blocks gone; it is content if the blob is what it was about to make.
//! - Nothing calls an upload off. Azure removes blocks that were never committed after a week.
//! - A copy keeps the headers of what it is copied from, and the service says no SHA-256 of it. A blob of an account is copied
//!   within the account, at once as a rule; what gets other headers, or is small, is read and written.
//!
//! Source: Azure Storage REST API reference, "Authorize with Shared Key", "Put Block List", "List Blobs", "Copy Blob".

use std::fmt;
use std::time::SystemTime;

use ::http::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE,
    InvalidHeaderValue, RANGE,
};
use ::http::{HeaderMap, HeaderName, Method};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Url;
use serde::Deserialize;
use sha2::Sha256;

use super::super::Md5;
use super::listing;
use crate::http::{BoxError, Secret, is_loopback};

/// Where an object's digest stands among its headers. The name has to be one that a variable could have.
pub(super) const DIGEST: HeaderName = HeaderName::from_static("x-ms-meta-docker_content_digest");

pub(super) const BLOB_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-type");
pub(super) const COPY_SOURCE: HeaderName = HeaderName::from_static("x-ms-copy-source");
pub(super) const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// The version of the API that is spoken.
pub(super) const VERSION: &str = "2021-12-02";

/// What proves to Azure who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum AzureKey {
    /// A key of the account, in base64.
    Account(Secret),
    /// A shared access signature: a query, without the question mark.
    Signature(Secret),
    /// A token of Microsoft Entra ID.
    Token(Secret),
}

impl fmt::Debug for AzureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Account(_) => "Account",
            Self::Signature(_) => "Signature",
            Self::Token(_) => "Token",
        })
    }
}

/// Where what proves to Azure who asks comes from.
#[async_trait]
pub trait AzureCredentialSource: fmt::Debug + Send + Sync {
    /// What is good now. Asked before every request, so a source keeps it as long as it lasts.
    ///
    /// # Errors
    ///
    /// If there is nothing.
    async fn key(&self) -> Result<AzureKey, BoxError>;
}

#[async_trait]
impl AzureCredentialSource for AzureKey {
    async fn key(&self) -> Result<AzureKey, BoxError> {
        Ok(self.clone())
    }
}

/// Why a request can't be signed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignError {
    #[error("the account's key is not base64")]
    Key,
    #[error("they are a token, which isn't sent without TLS")]
    Plain,
    #[error("they have characters that no key has")]
    Header(#[from] InvalidHeaderValue),
}

/// Signs a request with nothing or with what proves who asks, and says which version of the API is meant.
///
/// # Errors
///
/// If the key can't be one.
pub(super) fn sign(
    method: &Method,
    url: &mut Url,
    headers: &mut HeaderMap,
    length: usize,
    (account, key): (&str, Option<&AzureKey>),
    now: SystemTime,
) -> Result<(), SignError> {
    headers.insert(HeaderName::from_static("x-ms-version"), HeaderValue::from_static(VERSION));
    headers.insert(HeaderName::from_static("x-ms-date"), HeaderValue::try_from(httpdate::fmt_http_date(now))?);
    let proof = match key {
        None => return Ok(()),
        Some(AzureKey::Signature(signature)) => {
            let signature = signature.reveal().trim_start_matches('?');
            let query = url.query().filter(|query| !query.is_empty());
            let query = query.map_or_else(|| signature.to_owned(), |query| format!("{query}&{signature}"));
            url.set_query(Some(&query));
            // What is copied has to be readable for whoever brings no other proof.
            if let Some(source) = headers.get(COPY_SOURCE).and_then(|source| source.to_str().ok()) {
                let mut source = HeaderValue::try_from(format!("{source}?{signature}"))?;
                source.set_sensitive(true);
                headers.insert(COPY_SOURCE, source);
            }
            return Ok(());
        }
        Some(AzureKey::Token(_)) if url.scheme() != "https" && !is_loopback(url) => return Err(SignError::Plain),
        Some(AzureKey::Token(token)) => format!("Bearer {}", token.reveal()),
        Some(AzureKey::Account(secret)) => {
            let secret = BASE64.decode(secret.reveal().trim()).map_err(|_| SignError::Key)?;
            let mut mac = Hmac::<Sha256>::new_from_slice(&secret).map_err(|_| SignError::Key)?;
            mac.update(text(method, url, headers, length, account).as_bytes());
            format!("SharedKey {account}:{}", BASE64.encode(mac.finalize().into_bytes()))
        }
    };
    let mut proof = HeaderValue::try_from(proof)?;
    proof.set_sensitive(true);
    headers.insert(AUTHORIZATION, proof);
    Ok(())
}

/// The text that is signed.
fn text(method: &Method, url: &Url, headers: &HeaderMap, length: usize, account: &str) -> String {
    let value = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim();
    let length = if length == 0 { String::new() } else { length.to_string() };
    // Encoding, language, length, MD5, type, date, three conditions, the fourth, range.
    let plain = ["", "", &length, value(&CONTENT_MD5), value(&CONTENT_TYPE), ""];
    let conditions = [IF_MODIFIED_SINCE, IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE];
    let mut text = format!("{method}\n");
    for line in plain.into_iter().chain(conditions.iter().map(value)) {
        text.push_str(line);
        text.push('\n');
    }
    let mut own: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("x-ms-")).collect();
    own.sort_by_key(|name| name.as_str());
    for name in own {
        text.push_str(&format!("{name}:{}\n", value(name)));
    }
    text.push_str(&format!("/{account}{}", url.path()));
    let mut parameters: Vec<_> = url.query_pairs().collect();
    parameters.sort();
    for (name, value) in parameters {
        text.push_str(&format!("\n{name}:{value}"));
    }
    text
}

/// A page of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Page {
    blobs: Blobs,
    next_marker: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Blobs {
    blob: Vec<Blob>,
    blob_prefix: Vec<Prefix>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blob {
    name: String,
    #[serde(default)]
    properties: Properties,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Properties {
    #[serde(rename = "Content-Length")]
    length: u64,
    #[serde(rename = "Content-MD5")]
    md5: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Prefix {
    name: String,
}

impl From<Page> for listing::Page {
    fn from(page: Page) -> Self {
        let object = |Blob { name, properties }| listing::Named {
            name,
            size: properties.length,
            // What was put in blocks has none.
            md5: Md5::of_base64(&properties.md5),
        };
        Self {
            objects: page.blobs.blob.into_iter().map(object).collect(),
            prefixes: page.blobs.blob_prefix.into_iter().map(|prefix| prefix.name).collect(),
            next: page.next_marker,
        }
    }
}

/// What the block of a number is called. All names of a blob's blocks have to be of one length.
pub(super) fn block(upload: &str, number: usize) -> String {
    BASE64.encode(format!("{upload}-{number:05}"))
}

/// The request that puts blocks together.
pub(super) fn commit(blocks: &[String]) -> String {
    let blocks: String = blocks.iter().map(|block| format!("<Latest>{block}</Latest>")).collect();
    format!(r#"<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed() {
        let url: Url = "https://acct.blob.core.windows.net/images/v2/a%3Ab?comp=block&blockid=A%3D%3D".parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-ms-version", "1"), ("x-ms-date", "now"), ("if-match", "\"e\""), ("content-md5", "m")]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        assert_eq!(
            text(&Method::PUT, &url, &headers, 3, "acct"),
            "PUT\n\n\n3\nm\n\n\n\n\"e\"\n\n\n\nx-ms-date:now\nx-ms-version:1\n/acct/images/v2/a%3Ab\nblockid:A==\ncomp:block"
        );
    }

    #[test]
    fn a_signature_stays_out_of_what_is_shown() {
        let mut url: Url = "https://acct.blob.core.windows.net/images?comp=list".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(COPY_SOURCE, HeaderValue::from_static("https://acct.blob.core.windows.net/images/x"));
        let key = AzureKey::Signature("?sv=1&sig=hidden".into());
        sign(&Method::PUT, &mut url, &mut headers, 0, ("acct", Some(&key)), SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(url.query(), Some("comp=list&sv=1&sig=hidden"));
        assert_eq!(headers[COPY_SOURCE], "https://acct.blob.core.windows.net/images/x?sv=1&sig=hidden");
        let shown = format!("{} {headers:?} {key:?}", crate::http::ShownUrl::from(&url));
        assert!(!shown.contains("hidden"), "{shown}");
        let token = AzureKey::Token("token".into());
        let signed = sign(&Method::GET, &mut url, &mut headers, 0, ("a", Some(&token)), SystemTime::UNIX_EPOCH);
        assert!(signed.is_ok() && headers[AUTHORIZATION].is_sensitive());
        let mut plain: Url = "http://h/images".parse().unwrap();
        let refused = sign(&Method::GET, &mut plain, &mut headers, 0, ("a", Some(&token)), SystemTime::UNIX_EPOCH);
        assert!(matches!(refused, Err(SignError::Plain)));
        let wrong = AzureKey::Account("no base64!".into());
        assert!(sign(&Method::GET, &mut url, &mut headers, 0, ("a", Some(&wrong)), SystemTime::UNIX_EPOCH).is_err());
    }

    #[test]
    fn pages() {
        let text = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"c\">
            <Prefix>a/</Prefix><Delimiter>/</Delimiter><Blobs><Blob><Name>a/b:c</Name><Properties><Etag>1</Etag>
            <Content-Length>7</Content-Length><Content-MD5>mgNkuembtIDdJeHwKEyFVQ==</Content-MD5></Properties></Blob>
            <BlobPrefix><Name>a/d/</Name></BlobPrefix><Blob><Name>a/e &amp; f</Name><Properties>
            <Content-Length>9</Content-Length><Content-MD5 /></Properties></Blob></Blobs>
            <NextMarker>m</NextMarker></EnumerationResults>";
        let page: listing::Page = super::super::xml::read::<Page>(text.as_bytes()).unwrap().into();
        let objects: Vec<_> = page.objects.into_iter().map(|object| (object.name, object.size, object.md5)).collect();
        assert_eq!(objects, [("a/b:c".to_owned(), 7, Some(Md5::of(b"content"))), ("a/e & f".to_owned(), 9, None)]);
        assert_eq!((page.prefixes, page.next.as_deref()), (vec!["a/d/".to_owned()], Some("m")));
        let last: Page =
            super::super::xml::read(b"<EnumerationResults><Blobs /><NextMarker /></EnumerationResults>").unwrap();
        let last = listing::Page::from(last);
        assert!(last.objects.is_empty() && last.next.is_none_or(|next| next.is_empty()));
    }
}

//! Google Cloud Storage: its JSON API for what is written, copied and listed, its XML API for what is read and deleted.
//!
//! What is different from the others:
//!
//! - The version of an object that conditions are about is its generation, a number; that there is none is generation 0.
//! - An object is written with its headers and its MD5 in front of its bytes, and the service refuses what doesn't match.
//! - A copy is asked for until the service says that it is done; it gets the headers that it is asked for.
//! - What anybody may read is cached within the service, and handed out of there even to those who say who they are, unless
//!   they want nothing that is stored.
//! - What is large goes in [sessions](super::session), one piece after the other.
//!
//! *Rejected:* the XML API for everything, which is nearly that of Amazon: copies there have to be done within one request, and
//! nothing that speaks it can be had to test against. The JSON API for everything: what is read there comes without the headers
//! that Google's own are not among.
//!
//! Source: Cloud Storage documentation, "JSON API reference", "XML API reference", "Resumable uploads".

use std::fmt;
use std::fmt::Write as _;

use ::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use ::http::{HeaderMap, HeaderName, Method};
use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::super::{Condition, Headers, Md5};
use super::client::{Call, Failed};
use super::{BucketError, BucketStore, OCTETS, listing, sign, xml};
use crate::http::{BoxError, Secret, is_loopback};

/// Where an object's digest stands among its headers when it is read.
pub(super) const DIGEST: HeaderName = HeaderName::from_static("x-goog-meta-docker-content-digest");

/// Its version.
pub(super) const GENERATION: HeaderName = HeaderName::from_static("x-goog-generation");

/// The version that is meant, where an object is read.
pub(super) const IF_GENERATION: HeaderName = HeaderName::from_static("x-goog-if-generation-match");

/// Sums of an object.
pub(super) const HASH: HeaderName = HeaderName::from_static("x-goog-hash");

const JSON: &str = "application/json; charset=UTF-8";

/// Where tokens for Google come from.
#[async_trait]
pub trait GoogleCredentialSource: fmt::Debug + Send + Sync {
    /// A token of OAuth 2.0 that is good now. Asked for before every request, so a source keeps it as long as it lasts.
    ///
    /// # Errors
    ///
    /// If there is none.
    async fn token(&self) -> Result<Secret, BoxError>;
}

/// Adds the token to a request.
///
/// # Errors
///
/// If it would be sent where others could read it, or can't be one.
pub(super) fn sign(url: &Url, headers: &mut HeaderMap, token: &Secret) -> Result<(), String> {
    if url.scheme() != "https" && !is_loopback(url) {
        return Err("they are a token, which isn't sent without TLS".to_owned());
    }
    let bearer = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
    let mut bearer = bearer.map_err(|_| "they have characters that no token has".to_owned())?;
    bearer.set_sensitive(true);
    headers.insert(AUTHORIZATION, bearer);
    Ok(())
}

/// What is said of an object that is written: all that is kept with its bytes.
pub(super) fn resource(store: &BucketStore, object: &str, headers: &Headers) -> Map<String, Json> {
    let mut said = Map::new();
    said.insert("name".into(), object.into());
    let content_type = headers.content_type.as_ref().map_or(OCTETS, |content_type| content_type.as_str());
    said.insert("contentType".into(), content_type.into());
    if let Some(cache_control) = &headers.cache_control {
        said.insert("cacheControl".into(), cache_control.as_ref().into());
    }
    if let Some(class) = store.0.calls.service.storage_class() {
        said.insert("storageClass".into(), class.into());
    }
    let digest = headers.digest.map(|digest| ("docker-content-digest", digest.to_string()));
    said.insert("metadata".into(), digest.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect());
    said
}

/// Where objects are written, relative to the service.
fn upload_path(store: &BucketStore) -> String {
    format!("upload/storage/v1/b/{}/o", store.0.at.bucket())
}

/// The call that writes an object whole, on a condition.
pub(super) fn put<'a>(
    store: &BucketStore,
    object: &str,
    bytes: &Bytes,
    headers: &Headers,
    condition: &'a Condition,
) -> Call<'a> {
    let mut said = resource(store, object, headers);
    said.insert("md5Hash".into(), Md5::of(bytes).to_base64().into());
    let content_type = said["contentType"].as_str().unwrap_or(OCTETS).to_owned();
    let boundary = format!("{:032x}", fastrand::u128(..));
    let mut body = format!("--{boundary}\r\nContent-Type: {JSON}\r\n\r\n{}\r\n", Json::Object(said));
    write!(body, "--{boundary}\r\nContent-Type: {content_type}\r\n\r\n").expect("a string takes everything");
    let body = [body.as_bytes(), bytes, format!("\r\n--{boundary}--\r\n").as_bytes()].concat();
    let call = Call::of_service(Method::POST, upload_path(store), "s3:PutObject")
        .parameter("uploadType", "multipart")
        .parameter("fields", "generation")
        .header(CONTENT_TYPE, format!("multipart/related; boundary={boundary}"))
        .body(body.into());
    match condition {
        Condition::Always => call,
        Condition::Absent => call.parameter("ifGenerationMatch", "0"),
        Condition::Unchanged(version) => call.parameter("ifGenerationMatch", &version.0),
    }
}

/// The call that begins an object that comes in pieces.
pub(super) fn begin<'a>(store: &BucketStore, object: &str, headers: &Headers) -> Call<'a> {
    let said = resource(store, object, headers);
    Call::of_service(Method::POST, upload_path(store), "s3:PutObject")
        .parameter("uploadType", "resumable")
        .header(CONTENT_TYPE, JSON)
        .body(Json::Object(said).to_string().into())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rewritten {
    #[serde(default)]
    done: bool,
    rewrite_token: Option<String>,
    #[serde(default)]
    total_bytes_rewritten: Json,
}

/// Makes an object of another one's bytes, and waits until that is done.
pub(super) async fn rewrite(store: &BucketStore, object: &str, from: &str, headers: &Headers) -> Result<(), Failed> {
    let bucket = store.0.at.bucket();
    let (source, target) = (sign::encode(from, false), sign::encode(object, false));
    let path = format!("storage/v1/b/{bucket}/o/{source}/rewriteTo/b/{bucket}/o/{target}");
    let said: Bytes = Json::Object(resource(store, object, headers)).to_string().into();
    let (mut token, mut failures, mut rewritten) = (None::<String>, 0, Json::Null);
    loop {
        let mut call = Call::of_service(Method::POST, path.clone(), "s3:PutObject")
            .parameter("fields", "done,rewriteToken,totalBytesRewritten")
            .header(CONTENT_TYPE, JSON)
            .body(said.clone());
        if let Some(token) = &token {
            call = call.parameter("rewriteToken", token);
        }
        let (answer, _) = store.0.calls.ask(&call).await?;
        let answer: Rewritten = read(&answer).map_err(BucketError::Answer)?;
        if answer.done {
            return Ok(());
        }
        if answer.total_bytes_rewritten == rewritten && !store.0.calls.pause(&mut failures).await {
            return Err(BucketError::Answer(format!("{object} is being copied, and gets no further")).into());
        }
        (token, rewritten) = (answer.rewrite_token, answer.total_bytes_rewritten);
    }
}

/// A page of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Page {
    items: Vec<Item>,
    prefixes: Vec<String>,
    next_page_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: String,
    /// In digits, as all numbers of 64 bits are.
    #[serde(default)]
    size: String,
    #[serde(default)]
    md5_hash: String,
}

impl TryFrom<Page> for listing::Page {
    type Error = String;

    fn try_from(page: Page) -> Result<Self, String> {
        let object = |Item { name, size, md5_hash }| {
            let size = size.parse().map_err(|_| format!("the list says {size:?} of the size of {name}"))?;
            // What was composed of others has none.
            Ok(listing::Named { name, size, md5: Md5::of_base64(&md5_hash) })
        };
        let objects = page.items.into_iter().map(object).collect::<Result<_, String>>()?;
        Ok(Self { objects, prefixes: page.prefixes, next: page.next_page_token })
    }
}

/// The call for a page of a list.
pub(super) fn list<'a>(bucket: &str) -> Call<'a> {
    Call::of_service(Method::GET, format!("storage/v1/b/{bucket}/o"), "s3:ListBucket")
        .parameter("fields", "prefixes,items(name,size,md5Hash),nextPageToken")
}

/// Reads an answer of the JSON API.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// What is wrong, in the words of the JSON API.
pub(super) fn fault(bytes: &[u8]) -> Option<xml::Fault> {
    let said: Json = serde_json::from_slice(bytes).ok()?;
    let error = said.get("error")?;
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let message = text(&error["message"]);
    // It has one word for objects and buckets that aren't there.
    let no_bucket = error["code"] == 404 && message.contains("bucket does not exist");
    let code = if no_bucket { "NoSuchBucket".to_owned() } else { text(&error["errors"][0]["reason"]) };
    Some(xml::Fault { code, message, region: None })
}

/// The MD5 among the sums of an object, each of which may have a header of its own.
pub(super) fn md5_of(headers: &HeaderMap) -> Option<Md5> {
    let hashes = headers.get_all(HASH).into_iter().filter_map(|hash| hash.to_str().ok());
    hashes.flat_map(|hash| hash.split(',')).find_map(|sum| Md5::of_base64(sum.trim().strip_prefix("md5=")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let text = br#"{"kind":"storage#objects","prefixes":["a/d/"],"nextPageToken":"t","items":[
            {"name":"a/b:c","size":"7","md5Hash":"mgNkuembtIDdJeHwKEyFVQ=="},{"name":"a/e","size":"9","crc32c":"x"}]}"#;
        let page: listing::Page = read::<Page>(text).unwrap().try_into().unwrap();
        let objects: Vec<_> = page.objects.into_iter().map(|object| (object.name, object.size, object.md5)).collect();
        assert_eq!(objects, [("a/b:c".to_owned(), 7, Some(Md5::of(b"content"))), ("a/e".to_owned(), 9, None)]);
        assert_eq!((page.prefixes, page.next.as_deref()), (vec!["a/d/".to_owned()], Some("t")));
        assert!(read::<Page>(b"{}").unwrap().items.is_empty());
        let odd: Page = read(br#"{"items":[{"name":"x","size":"-1"}]}"#).unwrap();
        assert!(listing::Page::try_from(odd).is_err());
        assert!(read::<Page>(b"<html>").is_err());
    }

    #[test]
    fn faults() {
        let text =
            br#"{"error":{"code":403,"message":"a@b lacks storage.objects.get","errors":[{"reason":"forbidden"}]}}"#;
        let said = fault(text).unwrap();
        assert_eq!((said.code.as_str(), said.message.as_str()), ("forbidden", "a@b lacks storage.objects.get"));
        let text = br#"{"error":{"code":404,"message":"The specified bucket does not exist.","errors":[{"reason":"notFound"}]}}"#;
        assert_eq!(fault(text).unwrap().code, "NoSuchBucket");
        assert!(fault(b"{}").is_none() && fault(b"Not Found").is_none());
    }

    #[test]
    fn tokens_go_by_tls_or_stay_here() {
        let signed = |url: &str| {
            let mut headers = HeaderMap::new();
            sign(&url.parse().unwrap(), &mut headers, &"t".into()).map(|()| headers[AUTHORIZATION].is_sensitive())
        };
        assert_eq!(signed("https://storage.googleapis.com/b/o"), Ok(true));
        assert_eq!(signed("http://127.0.0.1:1/b/o"), Ok(true));
        assert!(signed("http://10.0.0.1/b/o").is_err());
    }

    #[test]
    fn sums() {
        let of = |hashes: &[&'static str]| {
            let headers = hashes.iter().map(|hash| (HASH, HeaderValue::from_static(hash)));
            md5_of(&headers.collect())
        };
        let sum = Some(Md5::of(b"content"));
        assert_eq!(of(&["crc32c=AAAAAA==,md5=mgNkuembtIDdJeHwKEyFVQ=="]), sum);
        assert_eq!(of(&["crc32c=AAAAAA==", "md5=mgNkuembtIDdJeHwKEyFVQ=="]), sum);
        assert_eq!(of(&["crc32c=AAAAAA=="]), None);
    }
}

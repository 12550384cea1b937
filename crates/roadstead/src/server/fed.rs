//! Requests as anybody may send them, answered over a small registry in memory, for fuzzers.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::pull::{Body, Headers, Pull, Request, Response};
use super::push::{self, Push, PushOptions};
use super::{MAX_HEAD, MAX_HEADERS};
use crate::oci::{Algorithm, MediaType};
use crate::store::{MemoryStore, Naming};
use crate::tree::Tree;

/// What is there before the fuzzer's own requests: an image as `app:1`, a blob that it doesn't need, and an upload with
/// five bytes.
fn before() -> [String; 5] {
    let [config, layer] = [b"{}".as_slice(), b"layer"].map(|bytes| Algorithm::Sha256.digest(bytes));
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST.as_str(),
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.to_string(), "size": 2 },
        "layers": [],
    });
    [
        format!("POST /v2/app/blobs/uploads/?digest={config} HTTP/1.1\r\n\r\n{{}}"),
        format!("POST /v2/app/blobs/uploads/?digest={layer} HTTP/1.1\r\n\r\nlayer"),
        format!("PUT /v2/app/manifests/1 HTTP/1.1\r\n\r\n{manifest}"),
        "POST /v2/app/blobs/uploads/ HTTP/1.1\r\n\r\n".to_owned(),
        "PATCH UPLOAD HTTP/1.1\r\n\r\nbytes".to_owned(),
    ]
}

/// Has these bytes read as requests, one up to each NUL. `UPLOAD` in one is where the last upload is that was begun.
///
/// # Panics
///
/// If an answer is an error of ours, or isn't what it says.
pub fn feed_requests(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut registry = Registry::new().await;
        for request in before() {
            registry.ask(request.as_bytes()).await;
        }
        assert!(!registry.upload.is_empty(), "an upload was begun");
        for request in bytes.split(|byte| *byte == 0) {
            registry.ask(request).await;
        }
    });
}

struct Registry {
    pull: Pull,
    push: Push,
    upload: String,
}

impl Registry {
    async fn new() -> Self {
        let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.expect("an empty store");
        let options = PushOptions { delete: true, max_blob_size: 1 << 20, ..PushOptions::default() };
        let push = Push::new(tree.clone(), None, options).await.expect("an empty store");
        Self { pull: Pull::new(tree, None, true, 1 << 20), push, upload: String::new() }
    }

    async fn ask(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).replace("UPLOAD", &self.upload);
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut lines);
        let Ok(httparse::Status::Complete(length)) = parsed.parse(text.as_bytes()) else { return };
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else { return };
        let (Ok(method), Ok(uri)) = (method.parse::<Method>(), target.parse::<Uri>()) else { return };
        if length > MAX_HEAD {
            return;
        }
        let content = Bytes::copy_from_slice(&text.as_bytes()[length..]);
        let mut map = HeaderMap::new();
        let mut headers = Headers::default();
        for line in parsed.headers.iter() {
            headers.note(line.name, line.value);
            if let (Ok(name), Ok(value)) = (line.name.parse::<HeaderName>(), HeaderValue::from_bytes(line.value)) {
                map.append(name, value);
            }
        }
        let response = if self.push.takes(&method, uri.path()) {
            let text = |name| Some(map.get(name)?.to_str().ok()?.to_owned());
            let request = push::Request {
                method: method.clone(),
                path: uri.path().to_owned(),
                query: uri.query().map(str::to_owned),
                content_type: text(CONTENT_TYPE),
                content_range: text(CONTENT_RANGE),
                content_length: text(CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            };
            let pieces: Vec<_> = content.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            self.push.answer(request, None, stream::iter(pieces).boxed()).await
        } else {
            self.pull.answer(&Request { method: &method, path: uri.path(), query: uri.query(), headers }).await
        };
        let location = response.headers.iter().find(|(name, _)| *name == LOCATION);
        if let Some((_, location)) = location {
            let location = location.to_str().expect("a location is text");
            assert!(location.starts_with("/v2/") && !location.contains(".."), "{location}");
            if response.status == StatusCode::ACCEPTED {
                location.clone_into(&mut self.upload);
            }
        }
        check(&method, response).await;
    }
}

/// An answer is none of ours to blame for, and has the length and the part that it says.
async fn check(method: &Method, response: Response) {
    let Response { status, headers, length, body } = response;
    assert!(!status.is_server_error(), "{status}");
    let came = match body {
        Body::Empty => 0,
        Body::Bytes(bytes) => bytes.len() as u64,
        Body::File { range, .. } => range.end - range.start,
        Body::Stream(stream) => {
            stream.try_fold(0, |sum, bytes| async move { Ok(sum + bytes.len() as u64) }).await.expect("memory is read")
        }
    };
    assert!(method == Method::HEAD || length.unwrap_or(came) == came, "{status}: {came} bytes, said {length:?}");
    if status == StatusCode::PARTIAL_CONTENT {
        let said = headers.iter().find(|(name, _)| *name == CONTENT_RANGE).expect("a part says which");
        let said = said.1.to_str().expect("numbers").strip_prefix("bytes ").and_then(|text| text.split_once('/'));
        let (part, size) = said.expect("a part of a whole");
        let (first, last) = part.split_once('-').expect("a first and a last byte");
        let [first, last, size] = [first, last, size].map(|number| number.parse::<u64>().expect("a number"));
        assert!(first <= last && last < size && length == Some(last - first + 1), "{part} of {size}: {length:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_the_fuzzer() {
        let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/requests");
        let mut fed = 0;
        for seed in std::fs::read_dir(seeds).unwrap() {
            feed_requests(&std::fs::read(seed.unwrap().path()).unwrap());
            fed += 1;
        }
        assert!(fed > 5);
    }
}

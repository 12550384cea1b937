//! Objects as they come. A connection that breaks is replaced by one for the rest, of the same version.

use std::ops::Range;

use ::http::header::RANGE;
use ::http::{Method, StatusCode};
use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use super::client::{Call, Calls};
use super::{BucketError, BucketStore, Key, StoreError, Version};
use crate::http::Response;

/// Beyond this nothing lies, and some services take no larger number.
const ENDLESS: u64 = 1 << 53;

/// The call for an object, or for a range of it that is not empty.
pub(super) fn call<'a>(object: &'a str, range: Option<&Range<u64>>) -> Call<'a> {
    let call = Call::new(Method::GET, Some(object), "s3:GetObject");
    match range {
        None => call,
        Some(Range { start, end }) if *end > ENDLESS => call.header(RANGE, format!("bytes={start}-")),
        Some(Range { start, end }) => call.header(RANGE, format!("bytes={start}-{}", end - 1)),
    }
}

/// How many bytes must come before earlier failures are forgotten: a service that cuts every answer after a few is given up.
const FORGIVE_AFTER: u64 = 1 << 20;

struct Reading {
    store: BucketStore,
    key: Key,
    version: Version,
    /// What is still to come.
    range: Range<u64>,
    /// How many bytes come before that.
    skip: u64,
    response: Option<Response>,
    failures: u32,
    since_failure: u64,
}

/// How many bytes of an answer come before the first that was asked for: whoever is asked for everything, or knows no ranges,
/// begins at the beginning.
fn skipped(response: &Response, start: u64) -> u64 {
    if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { start }
}

/// The bytes of `range`, out of the answer to a [`call`] for it.
pub(super) fn stream(
    store: BucketStore,
    key: Key,
    version: Version,
    range: Range<u64>,
    response: Response,
) -> BoxStream<'static, Result<Bytes, StoreError>> {
    let skip = skipped(&response, range.start);
    let reading = Reading { store, key, version, range, skip, response: Some(response), failures: 0, since_failure: 0 };
    stream::try_unfold(reading, |mut reading| async move {
        let piece =
            reading.next().await.map_err(|error| reading.store.failed("reading", reading.key.as_str(), error))?;
        Ok(piece.map(|piece| (piece, reading)))
    })
    .boxed()
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, BucketError> {
        loop {
            if self.range.is_empty() {
                return Ok(None);
            }
            let response = match &mut self.response {
                Some(response) => response,
                None => {
                    let object = self.store.0.at.object(&self.key);
                    let unchanged = self.store.0.calls.service.names().unchanged;
                    let call = call(&object, Some(&self.range)).header(unchanged, &self.version.0);
                    let answer = self.store.0.calls.send(&call).await.map_err(|failed| failed.error)?;
                    self.skip = skipped(&answer.response, self.range.start);
                    self.response.insert(answer.response)
                }
            };
            match response.chunk().await {
                Ok(Some(mut piece)) => {
                    let skipped = usize::try_from(self.skip).map_or(piece.len(), |skip| skip.min(piece.len()));
                    self.skip -= skipped as u64;
                    piece.advance(skipped);
                    if piece.is_empty() {
                        continue;
                    }
                    let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
                    piece.truncate(left);
                    self.range.start += piece.len() as u64;
                    self.since_failure += piece.len() as u64;
                    if self.since_failure >= FORGIVE_AFTER {
                        self.failures = 0;
                    }
                    return Ok(Some(piece));
                }
                Ok(None) => {
                    let left = self.range.end - self.range.start;
                    return Err(BucketError::Answer(format!("{} ends {left} bytes too early", response.shown())));
                }
                Err(error) => {
                    (self.response, self.since_failure) = (None, 0);
                    if !Calls::is_transient(&error) || !self.store.0.calls.pause(&mut self.failures).await {
                        return Err(BucketError::Http(error));
                    }
                }
            }
        }
    }
}

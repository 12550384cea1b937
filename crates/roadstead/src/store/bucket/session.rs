//! An object of Google's that comes in pieces, one after the other, and shows when the last one has come.
//!
//! The service says how much it has kept; what it hasn't is sent again. Bytes that it has already it leaves alone, so a piece may
//! be repeated as often as it takes.

use std::sync::Arc;

use ::http::header::{CONTENT_RANGE, LOCATION, RANGE};
use ::http::{Method, StatusCode};
use bytes::{Buf as _, Bytes};
use md5::Digest as _;
use reqwest::Url;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::super::Md5;
use super::client::{Answer, Call, Failed, joined};
use super::{BucketError, BucketStore, Headers, google, is_absent};

/// An upload that has begun. Dropped before it is complete, it is called off.
pub(super) struct Session {
    store: BucketStore,
    object: Arc<str>,
    /// Whoever knows it may write: it is shown to nobody.
    url: Url,
    sum: md5::Md5,
    sent: u64,
    under_way: Option<JoinHandle<Result<(), Failed>>>,
    complete: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    md5_hash: Option<String>,
    generation: Option<String>,
}

impl Session {
    pub(super) async fn begin(store: &BucketStore, object: &str, headers: &Headers) -> Result<Self, Failed> {
        let answer = store.0.calls.send(&google::begin(store, object, headers)).await?.response;
        let place = answer.header(LOCATION).and_then(|place| place.parse::<Url>().ok());
        // Nobody else is shown who asks.
        let url = place.filter(|url| store.0.calls.base.is_of_service(url)).ok_or_else(|| {
            BucketError::Answer(format!("{} does not say where the object is to be sent", answer.shown()))
        })?;
        Ok(Self {
            store: store.clone(),
            object: object.into(),
            url,
            sum: md5::Md5::new(),
            sent: 0,
            under_way: None,
            complete: false,
        })
    }

    /// The name of the object.
    pub(super) fn object(&self) -> Arc<str> {
        Arc::clone(&self.object)
    }

    /// Sends a piece as soon as the one before it is there. Its memory is given back when it is kept.
    pub(super) async fn send(&mut self, bytes: Bytes, memory: Option<OwnedSemaphorePermit>) -> Result<(), Failed> {
        self.settle().await?;
        self.sum.update(&bytes);
        let start = self.sent;
        self.sent += bytes.len() as u64;
        let (store, url) = (self.store.clone(), self.url.clone());
        self.under_way = Some(tokio::spawn(async move {
            let kept = keep(&store, &url, start, bytes).await;
            drop(memory);
            kept
        }));
        Ok(())
    }

    /// Waits for the piece that is under way.
    async fn settle(&mut self) -> Result<(), Failed> {
        match self.under_way.take() {
            None => Ok(()),
            Some(task) => joined(task.await),
        }
    }

    /// Sends the last piece, which is not empty. From here on the object shows.
    pub(super) async fn finish(&mut self, last: Bytes) -> Result<(), Failed> {
        self.settle().await?;
        self.sum.update(&last);
        let sum = Md5::of_sum(self.sum.clone());
        let (size, sum_said) = (self.sent + last.len() as u64, sum.to_base64());
        let piece =
            |start, bytes| piece(&self.url, start, bytes, Some(size)).header(google::HASH, format!("md5={sum_said}"));
        let (mut start, mut bytes, mut failures) = (self.sent, last, 0);
        let answer = loop {
            match self.store.0.calls.send(&piece(start, bytes.clone())).await {
                Ok(answer) if answer.response.status() == StatusCode::PERMANENT_REDIRECT => {
                    advance(&self.store, &answer, &mut start, &mut bytes, &mut failures).await?;
                }
                Ok(answer) => break answer,
                // Done by an earlier attempt, whose answer was lost.
                Err(failed) if failed.doubtful && self.is_there(sum).await? => {
                    self.complete = true;
                    return Ok(());
                }
                Err(failed) => return Err(failed),
            }
        };
        self.complete = true;
        let shown = answer.response.shown().to_string();
        let answer = answer.response.bytes(super::xml::MAX_ANSWER).await.map_err(BucketError::Http)?;
        let made: Made = google::read(&answer).map_err(BucketError::Answer)?;
        match made.md5_hash.as_deref().map(Md5::of_base64) {
            Some(there) if there != Some(sum) => {
                let call = Call::new(Method::DELETE, Some(&self.object), "s3:DeleteObject")
                    .header(google::IF_GENERATION, made.generation.unwrap_or_default());
                self.store.0.calls.send(&call).await?;
                Err(BucketError::Answer(format!("{shown} says that other bytes have arrived than were sent")).into())
            }
            _ => Ok(()),
        }
    }

    /// Whether the object is what was to be made.
    async fn is_there(&self, sum: Md5) -> Result<bool, Failed> {
        match self.store.0.calls.send(&Call::new(Method::HEAD, Some(&self.object), "s3:GetObject")).await {
            Ok(answer) => Ok(google::md5_of(answer.response.headers()) == Some(sum)),
            Err(failed) if is_absent(&failed) => Ok(false),
            Err(failed) => Err(failed),
        }
    }
}

/// The call that sends a piece; the last one says how many bytes there are.
fn piece<'a>(url: &Url, start: u64, bytes: Bytes, size: Option<u64>) -> Call<'a> {
    let size = size.map_or_else(|| "*".to_owned(), |size| size.to_string());
    // If nothing is left to send, it is asked about.
    let range = match (start + bytes.len() as u64).checked_sub(1) {
        Some(end) if !bytes.is_empty() => format!("bytes {start}-{end}/{size}"),
        _ => format!("bytes */{size}"),
    };
    Call::to_url(Method::PUT, url.clone(), "s3:PutObject").header(CONTENT_RANGE, range).body(bytes)
}

/// Sends a piece that isn't the last one until all of it is kept.
async fn keep(store: &BucketStore, url: &Url, mut start: u64, mut bytes: Bytes) -> Result<(), Failed> {
    let mut failures = 0;
    while !bytes.is_empty() {
        let answer = store.0.calls.send(&piece(url, start, bytes.clone(), None)).await?;
        if answer.response.status() != StatusCode::PERMANENT_REDIRECT {
            let problem = format!("{} takes a piece for the last one", answer.response.shown());
            return Err(BucketError::Answer(problem).into());
        }
        advance(store, &answer, &mut start, &mut bytes, &mut failures).await?;
    }
    Ok(())
}

/// Leaves out of a piece what is kept of it.
async fn advance(
    store: &BucketStore,
    answer: &Answer,
    start: &mut u64,
    bytes: &mut Bytes,
    failures: &mut u32,
) -> Result<(), Failed> {
    let problem = |what: &str| Failed::from(BucketError::Answer(format!("{} {what}", answer.response.shown())));
    let kept = match answer.response.header(RANGE) {
        None => 0,
        Some(range) => range
            .rsplit_once('-')
            .and_then(|(_, end)| end.trim().parse::<u64>().ok()?.checked_add(1))
            .ok_or_else(|| problem("does not say what it has kept"))?,
    };
    let end = *start + bytes.len() as u64;
    if kept < *start || kept > end {
        return Err(problem("has not kept what it said that it had"));
    }
    if kept == *start && !store.0.calls.pause(failures).await {
        return Err(problem("keeps nothing of what is sent"));
    }
    bytes.advance(usize::try_from(kept - *start).expect("a piece fits into memory"));
    *start = kept;
    Ok(())
}

impl Drop for Session {
    fn drop(&mut self) {
        // What was sent would stay for a week.
        if !self.complete
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (store, url, under_way) = (self.store.clone(), self.url.clone(), self.under_way.take());
            runtime.spawn(async move {
                if let Some(task) = under_way {
                    let _ = task.await;
                }
                let call = Call::to_url(Method::DELETE, url, "s3:AbortMultipartUpload");
                match store.0.calls.send(&call).await {
                    // The status for that is Google's own.
                    Err(failed) if failed.status().is_none_or(|status| status.as_u16() != 499) => {
                        tracing::warn!(error = %failed.error, "an upload could not be called off");
                    }
                    _ => {}
                }
            });
        }
    }
}

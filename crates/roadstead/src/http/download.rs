//! Long downloads: a cut one goes on at the byte where it stopped.
//!
//! Source: RFC 9110, section 14 (range requests). The content is named by its digest, so it can't change between two
//! requests, and no `If-Range` is needed.

use ::http::header::{CONTENT_RANGE, RANGE};
use ::http::{HeaderValue, StatusCode};
use bytes::Bytes;
use futures::Stream;
use futures::stream;

use super::endpoint::{Endpoint, Request};
use super::error::HttpError;
use super::response::Response;

/// How many bytes must come before earlier failures are forgotten. Less, and a server that cuts every answer after a few
/// bytes would be asked a million times; more, and a slow link would never get through a large layer.
const FORGIVE_AFTER: u64 = 1 << 20;

/// How far a download has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The offset of the next byte.
    pub offset: u64,
    /// How many there are in all, if known.
    pub size: Option<u64>,
}

impl Progress {
    /// Whether there is nothing left to ask for. An empty blob is asked for all the same: it may not be there.
    fn is_complete(self) -> bool {
        self.offset > 0 && self.size == Some(self.offset)
    }
}

/// Bytes from an offset on.
#[derive(Debug)]
pub struct Download {
    endpoint: Endpoint,
    request: Request,
    response: Option<Response>,
    progress: Progress,
    /// How many bytes must be thrown away before the next one counts.
    skip: u64,
    failures: u32,
    since_failure: u64,
}

impl Download {
    /// Starts a download at an offset; `size` is that of the whole, if known.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::expect_success`], and [`HttpError::Invalid`] if another part comes than was asked for.
    pub async fn start(endpoint: &Endpoint, request: Request, progress: Progress) -> Result<Self, HttpError> {
        let mut download = Self {
            endpoint: endpoint.clone(),
            request,
            response: None,
            progress,
            skip: 0,
            failures: 0,
            since_failure: 0,
        };
        if !download.progress.is_complete() {
            download.ask().await?;
        }
        Ok(download)
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Asks for everything from the offset on.
    async fn ask(&mut self) -> Result<(), HttpError> {
        let Progress { offset, size } = self.progress;
        let mut request = self.request.clone();
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-")).expect("a number is visible ASCII");
            request.headers.insert(RANGE, range);
        }
        let response = self.endpoint.expect_success(&request).await?;
        match response.status() {
            StatusCode::OK => {
                // Whoever knows no ranges begins at the beginning.
                self.skip = offset;
                self.progress.size = size.or(response.content_length());
            }
            StatusCode::PARTIAL_CONTENT if offset > 0 => {
                let range = response.header(CONTENT_RANGE).and_then(parse_content_range);
                match range {
                    Some((start, total)) if start == offset && (size.is_none() || total.is_none() || size == total) => {
                        self.progress.size = size.or(total);
                    }
                    _ => {
                        let said = response.header(CONTENT_RANGE).unwrap_or("nothing").to_owned();
                        let asked = format!("asked for the bytes from {offset} on, it sends {said}");
                        return Err(response.invalid(asked));
                    }
                }
                self.skip = 0;
            }
            status => return Err(response.invalid(format!("it answers {status} to a download"))),
        }
        self.response = Some(response);
        Ok(())
    }

    /// The answer that bytes are read from now.
    #[must_use]
    pub fn response(&self) -> Option<&Response> {
        self.response.as_ref()
    }

    /// The next bytes, `None` after the last.
    ///
    /// # Errors
    ///
    /// The failure that no further request mended.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let failure = match &mut self.response {
                Some(response) => match response.chunk().await {
                    Ok(None) => return Ok(None),
                    Ok(Some(chunk)) => match self.take(chunk) {
                        Some(chunk) => return Ok(Some(chunk)),
                        None => continue,
                    },
                    Err(error) => error,
                },
                None if self.progress.is_complete() => return Ok(None),
                None => match self.ask().await {
                    Ok(()) => continue,
                    // A registry that restarts is not there for a while.
                    Err(error) if error.is_unreachable() => error,
                    Err(error) => return Err(error),
                },
            };
            self.response = None;
            if self.progress.is_complete() {
                // All bytes are here; how the connection ended does not matter.
                return Ok(None);
            }
            self.failures += 1;
            let options = &self.endpoint.shared().options;
            let Some(delay) = options.retry.delay(self.failures, None, fastrand::f64()) else {
                return Err(failure);
            };
            self.since_failure = 0;
            tracing::debug!(error = %failure, offset = self.progress.offset, ?delay, "going on where it stopped");
            options.clock.sleep(delay).await;
        }
    }

    /// The part of a chunk that is news.
    fn take(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        if self.skip > 0 {
            let skipped = self.skip.min(chunk.len() as u64);
            self.skip -= skipped;
            // At most the chunk's length, which is a usize.
            chunk = chunk.slice(usize::try_from(skipped).unwrap_or(chunk.len())..);
        }
        if chunk.is_empty() {
            return None;
        }
        self.progress.offset += chunk.len() as u64;
        self.since_failure += chunk.len() as u64;
        if self.since_failure >= FORGIVE_AFTER {
            self.failures = 0;
        }
        Some(chunk)
    }

    /// The bytes as a stream, which ends after the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, HttpError>> + Send + 'static {
        stream::try_unfold(self, |mut download| async move {
            let chunk = download.chunk().await?;
            Ok(chunk.map(|chunk| (chunk, download)))
        })
    }
}

/// The first byte and the total of `bytes FIRST-LAST/TOTAL`.
fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let first: u64 = first.trim().parse().ok()?;
    let last: u64 = last.trim().parse().ok()?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let sound = first <= last && total.is_none_or(|total| last < total);
    sound.then_some((first, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, None)));
        for bad in
            ["", "bytes", "bytes 5-9", "bytes */10", "bytes 9-5/10", "bytes 5-10/10", "items 5-9/10", "bytes a-b/c"]
        {
            assert_eq!(parse_content_range(bad), None, "{bad:?}");
        }
    }
}

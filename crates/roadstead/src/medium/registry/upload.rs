//! Blobs on their way to a registry.
//!
//! What fits into memory goes in one request that can be repeated. What is larger, if its size is known, is streamed in one
//! request too: that is the one way that every registry takes. If that breaks, the blob has to be read again, and now goes in
//! parts, each of which is kept in memory until the registry has it; so does what has no known size. *Rejected:* parts from
//! the beginning, which Google's registry refuses, and which cost a round trip each.
//!
//! Source: distribution specification, "Pushing blobs".

use ::http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use ::http::{HeaderValue, Method, StatusCode};
use bytes::Bytes;
use futures::stream;

use crate::http::{Endpoint, HttpError, Location, Request, Response, Scope};
use crate::image::{Checked, PutError, SinkError};
use crate::oci::{Descriptor, Digest, Repository};

/// How much of a blob is kept in memory: the largest that goes in one request which can be repeated, and the size of a part.
/// Storage services take no parts below 5 MiB, some proxies none above 10 MB.
pub(super) const WINDOW: usize = 8 << 20;

/// The largest part that a registry can ask for.
const MAX_PART: usize = 64 << 20;

/// How often a part is sent anew where the registry says that it doesn't follow what it has.
const MAX_MISPLACED: u32 = 3;

/// What the registry calls an upload, and how far that is.
#[derive(Debug)]
pub(super) struct Session {
    at: Location,
    offset: u64,
    /// The size of the smallest part that the registry wants, the last one aside.
    least: usize,
}

/// What became of the wish to have another repository's blob.
pub(super) enum Mounted {
    Done,
    /// The registry would rather have the bytes, here.
    Refused(Session),
}

/// One repository of a registry, to send blobs to.
#[derive(Debug)]
pub(super) struct Uploads {
    pub(super) place: Endpoint,
    pub(super) name: Repository,
}

impl Uploads {
    pub(super) fn scope(&self) -> Scope {
        Scope::Push(self.name.clone())
    }

    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/blobs/{rest}", self.name)
    }

    /// The failure to send a blob, named as people write it.
    pub(super) fn failed(&self, blob: Option<&Digest>, error: HttpError) -> SinkError {
        let place = format!("{}/{}", self.place.registry(), self.name);
        match blob {
            Some(digest) => SinkError::new(&format!("{place}: blob {digest}"), error),
            None => SinkError::new(&format!("{place}: a blob"), error),
        }
    }

    /// Whether the repository has a blob, as far as its size tells.
    pub(super) async fn has(&self, blob: &Descriptor) -> Result<bool, HttpError> {
        let request = Request::new(Method::HEAD, self.path(&blob.digest.to_string()), self.scope());
        let response = self.place.send(&request).await?;
        match response.status() {
            status if status.is_success() => {
                Ok(blob.size.is_none_or(|size| response.content_length().is_none_or(|length| length == size)))
            }
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(response.into_error().await),
        }
    }

    /// Asks for a blob of another repository.
    pub(super) async fn mount(&self, digest: &Digest, from: &Repository) -> Result<Mounted, HttpError> {
        let scope = Scope::Mount { to: self.name.clone(), from: from.clone() };
        let path = self.path(&format!("uploads/?mount={digest}&from={from}"));
        let request = Request::new(Method::POST, path, scope).body(Bytes::new()).repeatable();
        let response = self.place.expect_success(&request).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Mounted::Done),
            _ => Ok(Mounted::Refused(self.session(&response)?)),
        }
    }

    pub(super) async fn begin(&self) -> Result<Session, HttpError> {
        let request = Request::new(Method::POST, self.path("uploads/"), self.scope()).body(Bytes::new()).repeatable();
        self.session(&self.place.expect_success(&request).await?)
    }

    fn session(&self, response: &Response) -> Result<Session, HttpError> {
        let least = response.header("oci-chunk-min-length").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        if least > MAX_PART {
            return Err(response.invalid(format!("it wants parts of at least {least} bytes")));
        }
        Ok(Session { at: self.place.location(response)?, offset: 0, least })
    }

    /// Sends a blob of these bytes, which have been judged, in one request.
    pub(super) async fn send_whole(
        &self,
        mut session: Option<Session>,
        blob: &Descriptor,
        bytes: &Bytes,
    ) -> Result<(), HttpError> {
        let mut failures = 0;
        loop {
            let given = session.take();
            let was_given = given.is_some();
            let attempt = async {
                let session = match given {
                    Some(session) => session,
                    None => self.begin().await?,
                };
                self.end(&session, blob, bytes.clone()).await
            };
            match attempt.await {
                Ok(()) => return Ok(()),
                // The registry has forgotten what it offered.
                Err(error) if was_given && error.status() == Some(StatusCode::NOT_FOUND) => {}
                Err(error) if self.place.pause_after(&error, &mut failures).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a blob of known size while it is read. The last piece goes when all have been judged.
    ///
    /// # Errors
    ///
    /// As [`put_blob`](crate::image::RepositorySink::put_blob).
    pub(super) async fn send_stream(
        &self,
        session: &Session,
        blob: &Descriptor,
        checked: Checked,
    ) -> Result<(), PutError> {
        let pieces = stream::try_unfold((checked, None), |(mut checked, held)| async move {
            let held = match held {
                Some(held) => held,
                None => match checked.next().await? {
                    Some(piece) => piece,
                    None => return Ok(None),
                },
            };
            let next = checked.next().await?;
            Ok::<_, PutError>(Some((held, (checked, next))))
        });
        let mut request = self.last_request(session, &blob.digest);
        request.headers.extend(blob.size.map(|size| (CONTENT_LENGTH, HeaderValue::from(size))));
        let error = match self.place.send_stream(&request, pieces).await? {
            Ok(response) if response.status().is_success() => return Ok(()),
            Ok(response) => response.into_error().await,
            Err(error) => error,
        };
        let failed = |error| self.failed(Some(&blob.digest), error);
        Err(if goes_in_parts(&error) { PutError::Interrupted(failed(error)) } else { PutError::Sink(failed(error)) })
    }

    /// Sends a blob in parts, from where an earlier attempt stopped. `begun` are its first bytes; `last` says whether they
    /// are all.
    ///
    /// # Errors
    ///
    /// As [`put_blob`](crate::image::RepositorySink::put_blob).
    pub(super) async fn send_parts(
        &self,
        earlier: Option<Session>,
        (mut part, mut last): (Bytes, bool),
        checked: &mut Checked,
    ) -> Result<(), PutError> {
        let expected = checked.expected();
        let failed = |error| PutError::Sink(self.failed(expected.as_ref(), error));
        let known = match earlier {
            Some(session) => self.look(session).await.map_err(failed)?,
            None => None,
        };
        let mut session = match known {
            Some(session) => session,
            None => self.begin().await.map_err(failed)?,
        };
        let size = session.least.max(WINDOW);
        let mut start = 0;
        loop {
            if !last {
                (part, last) = checked.fill(part, size).await?;
            }
            session = self.send_part(session, start, &part).await.map_err(failed)?;
            start += part.len() as u64;
            part = Bytes::new();
            if last {
                break;
            }
        }
        let (digest, size) = checked.named().expect("the last piece came, so the blob has a name");
        let blob = Descriptor::new("", digest, size);
        let mut failures = 0;
        loop {
            match self.end(&session, &blob, Bytes::new()).await {
                Ok(()) => return Ok(()),
                Err(error) if self.place.pause_after(&error, &mut failures).await => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Sends the bytes from offset `start` on, as far as the registry doesn't have them, and as often as it takes.
    async fn send_part(&self, mut session: Session, start: u64, part: &Bytes) -> Result<Session, HttpError> {
        let end = start + part.len() as u64;
        let mut failures = 0;
        while session.offset < end {
            let offset = session.offset;
            let sent = usize::try_from(offset.saturating_sub(start)).expect("less than the part, which is in memory");
            let range = format!("{offset}-{}", end - 1);
            let request = Request::at(Method::PATCH, session.at.clone(), self.scope())
                .header(CONTENT_TYPE, OCTETS)
                .header(CONTENT_RANGE, HeaderValue::from_str(&range).expect("numbers are visible ASCII"))
                .body(part.slice(sent..))
                .once();
            let error = match self.place.expect_success(&request).await {
                Ok(response) => {
                    self.advance(&mut session, &response, end)?;
                    if session.offset > offset {
                        continue;
                    }
                    return Err(response.invalid(format!("it took the bytes {range}, and has {}", session.offset)));
                }
                Err(error) => error,
            };
            let misplaced = error.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE) && failures < MAX_MISPLACED;
            let again = if misplaced {
                self.place.pause(&mut failures).await
            } else {
                self.place.pause_after(&error, &mut failures).await
            };
            if !again {
                return Err(error);
            }
            let (at, least) = (session.at.clone(), session.least);
            session = match self.look(session).await {
                Ok(Some(session)) => session,
                Ok(None) if start == 0 => self.begin().await?,
                Ok(None) => return Err(error),
                // It is asked again as soon as the next attempt has failed.
                Err(unknown) if unknown.is_unreachable() => Session { at, offset, least },
                Err(unknown) => return Err(unknown),
            };
            if session.offset < start {
                return Err(error);
            }
        }
        Ok(session)
    }

    /// Asks how far an upload is; `None` if the registry has forgotten it.
    async fn look(&self, mut session: Session) -> Result<Option<Session>, HttpError> {
        let response = self.place.send(&Request::at(Method::GET, session.at.clone(), self.scope())).await?;
        match response.status() {
            status if status.is_success() => {
                self.advance(&mut session, &response, 0)?;
                Ok(Some(session))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(response.into_error().await),
        }
    }

    /// Takes over what an answer says about an upload. One that doesn't say how much is there has `otherwise`.
    fn advance(&self, session: &mut Session, response: &Response, otherwise: u64) -> Result<(), HttpError> {
        if response.headers().contains_key(::http::header::LOCATION) {
            session.at = self.place.location(response)?;
        }
        session.offset = match response.header(RANGE) {
            Some(range) => parse_range(range).ok_or_else(|| response.invalid(format!("it has the range {range:?}")))?,
            None => otherwise,
        };
        Ok(())
    }

    /// Sends the last bytes and the name, once. That the answer is lost doesn't matter if the blob is there.
    async fn end(&self, session: &Session, blob: &Descriptor, bytes: Bytes) -> Result<(), HttpError> {
        match self.place.expect_success(&self.last_request(session, &blob.digest).body(bytes)).await {
            Err(error) if error.is_transient() && matches!(self.has(blob).await, Ok(true)) => Ok(()),
            answer => answer.map(drop),
        }
    }

    fn last_request(&self, session: &Session, digest: &Digest) -> Request {
        let at = session.at.with("digest", &digest.to_string());
        Request::at(Method::PUT, at, self.scope()).header(CONTENT_TYPE, OCTETS).once()
    }
}

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Whether a blob that couldn't be streamed may still arrive part by part: the connection broke, the registry is overrun, or
/// something on the way takes no large requests; the token ran out, or an offered session did.
fn goes_in_parts(error: &HttpError) -> bool {
    error.is_transient()
        || matches!(
            error.status(),
            Some(StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND | StatusCode::PAYLOAD_TOO_LARGE)
        )
}

/// How many bytes `FIRST-LAST` are. Nothing at all is `0-0` too; that it is one byte happens to nobody.
fn parse_range(text: &str) -> Option<u64> {
    let (first, last) = text.trim().trim_start_matches("bytes=").split_once('-')?;
    let last: u64 = last.parse().ok()?;
    (first == "0").then_some(if last == 0 { 0 } else { last.checked_add(1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_uploads() {
        assert_eq!(parse_range("0-0"), Some(0));
        assert_eq!(parse_range("0-8388607"), Some(8 << 20));
        assert_eq!(parse_range("bytes=0-9"), Some(10));
        for bad in ["", "0", "1-9", "0-", "0-x", "0--1", "0-18446744073709551615"] {
            assert_eq!(parse_range(bad), None, "{bad:?}");
        }
    }
}

//! Uploads in parts that somebody began and didn't end: killed, cut off, or still at it.
//!
//! An object that is named by its digest is the same whoever sends it, and so are its parts, if all cut it alike. So an upload to
//! the same name is taken up, whosever it is: a part is there if the service calls it by the MD5 of what it would be. If the other
//! is still at it, both send what is missing, and whoever ends it first has done it for both.

use ::http::Method;
use std::collections::BTreeMap;

use super::client::{Call, Failed};
use super::{BucketError, BucketStore, Md5, xml};

/// An upload that was begun, and the tags of its parts by number.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) id: String,
    pub(super) parts: BTreeMap<usize, String>,
}

impl Begun {
    /// The tag of a part that is there with these bytes. Where versions are no MD5s, none is known.
    pub(super) fn has(&self, number: usize, bytes: &[u8]) -> Option<&String> {
        let tag = self.parts.get(&number)?;
        (Md5::of_tag(tag)? == Md5::of(bytes)).then_some(tag)
    }
}

/// The upload to an object that has the most parts. Who may not ask, or asks a service that doesn't know, begins anew.
pub(super) async fn find(store: &BucketStore, object: &str) -> Option<Begun> {
    match begun(store, object).await {
        Ok(found) => found,
        Err(failed) => {
            tracing::debug!(error = %failed.error, "what was begun can't be looked for");
            None
        }
    }
}

async fn begun(store: &BucketStore, object: &str) -> Result<Option<Begun>, Failed> {
    let call = Call::new(Method::GET, None, "s3:ListBucketMultipartUploads")
        .parameter("uploads", "")
        .parameter("prefix", object);
    let (answer, _) = store.0.calls.ask(&call).await?;
    let uploads: xml::Uploads = xml::read(&answer).map_err(BucketError::Answer)?;
    let mut best: Option<Begun> = None;
    for upload in uploads.upload.into_iter().filter(|upload| upload.key == object) {
        let found = Begun { parts: parts(store, object, &upload.upload_id).await?, id: upload.upload_id };
        if best.as_ref().is_none_or(|best| found.parts.len() > best.parts.len()) {
            best = Some(found);
        }
    }
    Ok(best)
}

async fn parts(store: &BucketStore, object: &str, id: &str) -> Result<BTreeMap<usize, String>, Failed> {
    let (mut parts, mut after) = (BTreeMap::new(), String::new());
    loop {
        let mut call = Call::new(Method::GET, Some(object), "s3:ListMultipartUploadParts").parameter("uploadId", id);
        if !after.is_empty() {
            call = call.parameter("part-number-marker", &after);
        }
        let (answer, _) = store.0.calls.ask(&call).await?;
        let page: xml::Parts = xml::read(&answer).map_err(BucketError::Answer)?;
        parts.extend(page.part.into_iter().map(|part| (part.part_number, part.etag)));
        match page.next_part_number_marker {
            Some(next) if page.is_truncated && next != after => after = next,
            _ => return Ok(parts),
        }
    }
}

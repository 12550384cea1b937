//! URLs by which anybody may read an object for a time.

use std::time::Duration;

use super::{BucketError, BucketStore, Service, sign};
use crate::store::Key;

/// The URL of an object; `None` if nobody can sign one with what this store asks with: a token of Google's, or a
/// signature of Azure's, which allows more than that and can't be cut down.
///
/// # Errors
///
/// If there are no credentials.
pub(super) async fn of(store: &BucketStore, key: &Key, time: Duration) -> Result<Option<String>, BucketError> {
    let (calls, object) = (&store.0.calls, store.0.at.object(key));
    let (mut url, now) = (calls.base.url(Some(&object), &[]), calls.client.shared().options.clock.wall());
    match &calls.service {
        Service::S3 { region, credentials: Some(source), requester_pays } => {
            let keys = source.keys().await.map_err(BucketError::Credentials)?;
            let payer = [("x-amz-request-payer", "requester")];
            let beside = if *requester_pays { &payer[..] } else { &[] };
            url = sign::presign(url, beside, &keys, region, now, time);
        }
        Service::Azure { credentials: Some(_), .. } => match calls.readable_until(&object, now + time).await? {
            Some(signature) => url.set_query(Some(signature.reveal())),
            None => return Ok(None),
        },
        Service::Google { credentials: Some(_), .. } => return Ok(None),
        // What a store reads that shows nothing, everybody may read.
        Service::S3 { .. } | Service::Azure { .. } | Service::Google { .. } => {}
    }
    Ok(Some(url.into()))
}

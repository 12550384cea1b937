//! The way out of an error, where there is a known one.

use roadstead::http::HttpError;
use roadstead::image::{CopyError, SourceError};
use roadstead::medium::daemon::DaemonError;
use roadstead::publish::PublishError;
use roadstead::publish::ipfs::{IpfsError, KuboError};
use roadstead::store::StoreError;
use roadstead::store::bucket::BucketError;
use roadstead::tree::TreeError;

/// A sentence that says what to do about an error.
pub(super) fn hint(error: &anyhow::Error) -> Option<String> {
    // These say themselves what to do.
    if error.chain().any(|cause| cause.is::<DaemonError>()) {
        return None;
    }
    error.chain().find_map(specific).or_else(|| {
        let copies = error.chain().any(|cause| cause.is::<CopyError>());
        let unauthorized = |cause: &HttpError| cause.status().is_some_and(|status| status.as_u16() == 401);
        let refused = error.chain().filter_map(|cause| cause.downcast_ref()).any(unauthorized);
        (copies && refused).then(|| "log in with `roadstead login`, or pass --creds USER[:PASSWORD]".to_owned())
    })
}

fn specific(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<CopyError>() {
        return match error {
            CopyError::Sparse { .. } => Some(
                "copy what is there with --platform OS/ARCH (with --strip-removed-platforms, where the destination wants all of an \
                 index), or complete the source with `roadstead add`"
                    .to_owned(),
            ),
            CopyError::Child { source, .. } if source.is_not_found() => {
                Some("copy what is there with --platform OS/ARCH".to_owned())
            }
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<SourceError>() {
        return match error {
            SourceError::Unauthorized { place, .. } => {
                Some(format!("log in with `roadstead login {place}`, or pass --creds USER[:PASSWORD]"))
            }
            SourceError::Denied { place, .. } => Some(format!(
                "the account that is logged in to {place} lacks the right to pull it, or the name is wrong: some registries answer \
                 so for what doesn't exist"
            )),
            _ => None,
        };
    }
    // The TLS library's own words; its type is hidden behind two others.
    if error.to_string().starts_with("invalid peer certificate") {
        return Some(
            "to trust its authority, put that certificate as ca.crt into a folder and pass --cert-dir DIR; --tls-verify=false \
             trusts anybody"
                .to_owned(),
        );
    }
    if let Some(error) = error.downcast_ref::<BucketError>() {
        return bucket(error);
    }
    if let Some(IpfsError::Kubo(error)) = error.downcast_ref() {
        return specific(error);
    }
    if let Some(error) = error.downcast_ref::<KuboError>() {
        return match error {
            KuboError::Http { source, .. } if source.is_unreachable() => Some(
                "`ipfs daemon` starts a node on this machine; another is named by the address of its API, as in \
                 ipfs:/ip4/127.0.0.1/tcp/5001; car:FILE needs none"
                    .to_owned(),
            ),
            KuboError::Refused { status: 401 | 403, .. } => {
                Some("its API is for others: API.Authorizations in the node's configuration says for whom".to_owned())
            }
            KuboError::Refused { status: 404 | 405, .. } => Some(
                "that may be its gateway: the API has an address of its own, Addresses.API in its configuration"
                    .to_owned(),
            ),
            _ => None,
        };
    }
    match error.downcast_ref() {
        Some(StoreError::Unconditional { .. }) => {
            return Some("if nothing else writes to the bucket, say so with --exclusive".to_owned());
        }
        Some(StoreError::Unfenced { .. }) => {
            return Some(
                "make sure that nothing writes to the tree as long as this takes, and say so with --exclusive"
                    .to_owned(),
            );
        }
        Some(StoreError::Fenced { .. }) => return Some("run it again: what has come is not sent twice".to_owned()),
        _ => {}
    }
    match error.downcast_ref() {
        Some(PublishError::Tree(error)) => return specific(error),
        Some(PublishError::Incomplete { .. }) => return Some("`roadstead verify` says what else is lost".to_owned()),
        _ => {}
    }
    match error.downcast_ref::<TreeError>()? {
        // It has the words of its cause, and stands in its place.
        TreeError::Store(error) => specific(error),
        TreeError::Absent(_) => {
            Some("make one with `roadstead add IMAGE`, or name another one with --tree DIR".to_owned())
        }
        TreeError::Newer { .. } => Some("install the newest version of roadstead".to_owned()),
        TreeError::Busy { .. } => Some(
            "run it again when that is done; who was killed is taken for dead seventeen minutes after its last word, and \
             --exclusive says that there is nobody"
                .to_owned(),
        ),
        TreeError::Unknown(_) => Some("`roadstead list` shows what there is".to_owned()),
        _ => None,
    }
}

/// The way out where a bucket refuses.
fn bucket(error: &BucketError) -> Option<String> {
    let (status, code, region, action) = match error {
        BucketError::Credentials(_) => {
            return Some(
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or name a profile with --profile, for az:// set \
                 AZURE_STORAGE_KEY or log in with `az login`, for gs:// set GOOGLE_APPLICATION_CREDENTIALS or log in with \
                 `gcloud auth application-default login`, or ask a public bucket with --no-sign-request"
                    .to_owned(),
            );
        }
        BucketError::Http(error) if error.is_tls() => {
            return Some("--ca-bundle FILE names the authority of a service with a certificate of its own".to_owned());
        }
        BucketError::Http(error) if error.is_unreachable() => {
            return Some(
                "look whether the service is there, and whether --endpoint-url (or AWS_ENDPOINT_URL), the region and the bucket's \
                 name are right"
                    .to_owned(),
            );
        }
        BucketError::Refused { status, code, region, action, .. } => (status.as_u16(), code.as_str(), region, action),
        _ => return None,
    };
    match (status, code, region) {
        (301 | 307 | 400, _, Some(region)) => Some(format!("the bucket is in another region: --region {region}")),
        (_, "NoSuchBucket" | "ContainerNotFound", _) => Some("there is no such bucket: make it first".to_owned()),
        (_, "AccessControlListNotSupported", _) => Some("this bucket takes no ACL: leave --acl out".to_owned()),
        (_, "RequestTimeTooSkewed", _) => Some("the clock of this machine is wrong".to_owned()),
        (429 | 503, ..) => Some(
            "the service is overrun: run it again later, perhaps with fewer --jobs; what has come is not sent twice"
                .to_owned(),
        ),
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken", _) => Some(
            "the access keys are wrong, expired, or for another service: see --profile and --endpoint-url".to_owned(),
        ),
        (_, "AuthenticationFailed" | "AuthorizationFailure" | "InvalidAuthenticationInfo", _) => Some(
            "the account's key or signature is wrong, expired, or another account's: see --account and --endpoint-url"
                .to_owned(),
        ),
        (403, ..) if action.starts_with("blobs/") => Some(format!(
            "who asks lacks {action} on this container: the role Storage Blob Data Contributor has it, or Reader where \
             nothing is written"
        )),
        (401, ..) if action.starts_with("storage.") => Some(
            "the token is of no use there: log in again, name another file with GOOGLE_APPLICATION_CREDENTIALS, or ask a \
             public bucket with --no-sign-request"
                .to_owned(),
        ),
        (403, ..) if action.starts_with("storage.") => Some(format!(
            "who asks lacks {action} on this bucket: the role Storage Object User has it, or Storage Object Viewer where \
             nothing is written"
        )),
        (403, ..) => Some(format!(
            "the access keys lack {action} on this bucket, or s3:ListBucket, without which what is missing looks forbidden"
        )),
        _ => None,
    }
}

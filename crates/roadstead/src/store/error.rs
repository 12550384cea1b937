//! What a store couldn't do.

use std::error::Error;

use super::bucket;
use crate::http::is_transient_status;

/// What a store couldn't do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Reading or writing an object failed.
    #[error("{operation} {what} failed")]
    Io {
        /// What was tried: `reading`, `writing`, …
        operation: &'static str,
        /// The path or URL.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Two keys that can't both exist: one would have to be both a file and a folder.
    #[error("{what} can't exist beside a key that it begins with, or that begins with it")]
    Collision {
        /// The path or URL.
        what: String,
    },
    /// A link leads out of the store, or nowhere that a key can name.
    #[error("{what} is a link to {target:?}, which is no place inside {store}")]
    Escape {
        /// The link.
        what: String,
        /// Where it leads.
        target: String,
        /// The store.
        store: String,
    },
    /// The store can't make a write depend on what is there.
    #[error(
        "{what} {how} the conditions of writes (If-None-Match, If-Match), without which two writers would lose each other's tags"
    )]
    Unconditional {
        /// The store.
        what: String,
        /// What it does with them: `ignores`, `does not know`.
        how: &'static str,
    },
    /// What was to be done under a [lease](super::Lease) arrived after its end.
    #[error("{what} was left as it is, since the request came too late")]
    Late {
        /// The path or URL.
        what: String,
    },
    /// A lease was ended by somebody else.
    #[error(
        "another writer took this one for dead, of whom {what} had not heard for a quarter of an hour, and it may write nothing more"
    )]
    Fenced {
        /// The store.
        what: String,
    },
    /// Something is being removed, and whoever does it doesn't come to an end.
    #[error("{what} says that something is being removed just now, and has said so for as long as this waited")]
    Closed {
        /// The store.
        what: String,
    },
    /// The store has no [leases](super::Lease) that end, so nothing can be removed beside others.
    #[error("{what} {how}, so whatever is removed from it may be what somebody else is just about to name")]
    Unfenced {
        /// The store.
        what: String,
        /// What it does instead.
        how: &'static str,
    },
    /// The store can't hold a tree.
    #[error("{what}: {problem}")]
    Unsuitable {
        /// The store.
        what: String,
        /// What it lacks, and the way out.
        problem: String,
    },
}

impl StoreError {
    /// Whether the store exists, and doesn't let this user do that.
    #[must_use]
    pub fn is_permission_denied(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        match (source.downcast_ref::<std::io::Error>(), source.downcast_ref::<bucket::BucketError>()) {
            (Some(error), _) => error.kind() == std::io::ErrorKind::PermissionDenied,
            // Other reasons have words of their own; answers to HEAD have no word at all.
            (_, Some(bucket::BucketError::Refused { status, code, .. })) => {
                *status == http::StatusCode::FORBIDDEN
                    && matches!(code.as_str(), "AccessDenied" | "AuthorizationPermissionMismatch" | "")
            }
            _ => false,
        }
    }

    /// Whether the same may well succeed in a while, without anybody's doing: nothing is wrong with what was asked.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Late { .. } | Self::Fenced { .. } | Self::Closed { .. } => true,
            Self::Io { source, .. } => match source.downcast_ref() {
                Some(bucket::BucketError::Refused { status, .. }) => is_transient_status(*status),
                Some(bucket::BucketError::Http(error)) => error.is_transient() || error.is_unreachable(),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the service takes no more for the moment, and didn't for as long as it was asked.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        matches!(
            source.downcast_ref(),
            Some(bucket::BucketError::Refused { status, .. })
                if matches!(*status, http::StatusCode::TOO_MANY_REQUESTS | http::StatusCode::SERVICE_UNAVAILABLE)
        )
    }
}

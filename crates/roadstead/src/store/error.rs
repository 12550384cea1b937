//! What a store couldn't do.

use std::error::Error;

use super::bucket;

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
}

//! What a failed request means for whoever wanted an image.

use ::http::StatusCode;

use crate::http::HttpError;
use crate::image::SourceError;
use crate::oci::Registry;

/// The error for something that a registry was asked for; `what` is how people write it.
pub(super) fn of(registry: &Registry, what: impl Into<String>, error: HttpError) -> SourceError {
    let what = what.into();
    let place = registry.to_string();
    match &error {
        HttpError::Invalid { .. } | HttpError::TooLarge { .. } => {
            SourceError::Invalid { what, problem: error.to_string() }
        }
        failed if failed.is_unreachable() => SourceError::Unreachable { place, source: error.into() },
        failed => match failed.status() {
            Some(StatusCode::NOT_FOUND) => SourceError::NotFound { what, source: Some(error.into()) },
            Some(StatusCode::UNAUTHORIZED) => SourceError::Unauthorized { place, what, source: Some(error.into()) },
            Some(StatusCode::FORBIDDEN) => SourceError::Denied { place, what, source: Some(error.into()) },
            _ => SourceError::Failed { what, source: error.into() },
        },
    }
}

/// Whether the next place may do better: this one has not got it, is down, or is overrun.
///
/// That a mirror wants a login is told: to go elsewhere silently would hide that the mirror is set up wrongly. One that can't be
/// reached, for whatever reason, is passed over, since that is what mirrors are passed over for.
pub(super) fn is_mended_elsewhere(error: &SourceError) -> bool {
    match error {
        SourceError::NotFound { .. } | SourceError::Unreachable { .. } => true,
        SourceError::Failed { source, .. } => source
            .downcast_ref::<HttpError>()
            .and_then(HttpError::status)
            .is_some_and(|status| status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS),
        _ => false,
    }
}

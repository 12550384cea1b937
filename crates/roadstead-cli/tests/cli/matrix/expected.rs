//! What each client makes of each kind, and why not where it can't.

/// What is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// It pulls, and runs if it runs anything and the image is something to run.
    Works,
    /// It can't, from whatever server.
    Refuses(&'static str),
}

pub(super) fn expected(_client: &str, _kind: &str) -> Expected {
    Expected::Works
}

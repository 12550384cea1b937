//! The exit codes, a part of the interface that scripts may rely on.

use roadstead::host::Unsupported;
use roadstead::http::HttpError;
use roadstead::image::{CopyError, Side, SinkError, SourceError};
use roadstead::publish::PublishError;
use roadstead::publish::ipfs::{IpfsError, KuboError};
use roadstead::server::AccessError;
use roadstead::store::StoreError;
use roadstead::store::bucket::BucketError;
use roadstead::tree::TreeError;

/// What the process exits with.
pub(crate) type Code = u8;

/// Everything that was asked for is done.
pub(crate) const SUCCESS: Code = 0;
/// Anything that has no code of its own.
pub(crate) const FAILURE: Code = 1;
/// Two trees differ, as diff(1) says it.
pub(crate) const DIFFERENT: Code = 1;
/// A command line that can't be read: clap's own code, also for what only a look at several arguments shows.
pub(crate) const USAGE: Code = 2;
/// An image, tag, platform, tree or file that isn't there.
pub(crate) const NOT_FOUND: Code = 3;
/// The registry wants a login, or refuses the one it got.
pub(crate) const UNAUTHORIZED: Code = 4;
/// The registry knows who asks, and says no; or the engine's socket is for others.
pub(crate) const DENIED: Code = 5;
/// No such host, no connection, no valid certificate, or no answer.
pub(crate) const UNREACHABLE: Code = 6;
/// Content that is not what its name says, or that can't be a manifest.
pub(crate) const INVALID: Code = 7;
/// The tree, or another destination, can't be read or written: no space, no permission, a file system that can't hold it.
pub(crate) const UNWRITABLE: Code = 8;
/// A client that doctor was asked about can't pull.
pub(crate) const UNPULLABLE: Code = 9;
/// Ctrl-C, or a request to terminate.
pub(crate) const INTERRUPTED: Code = 130;

/// A failure of the command line's own, with its code.
#[derive(Debug)]
struct Failure(Code, String);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::error::Error for Failure {}

/// The error for a command line that asks for what doesn't go together.
pub(crate) fn usage(problem: impl Into<String>) -> anyhow::Error {
    Failure(USAGE, problem.into()).into()
}

/// The error for a tree that is not as it should be.
pub(crate) fn invalid(problem: impl Into<String>) -> anyhow::Error {
    Failure(INVALID, problem.into()).into()
}

/// The error for what ends with a code of the command's choice.
pub(crate) fn failure(code: Code, problem: impl Into<String>) -> anyhow::Error {
    Failure(code, problem.into()).into()
}

/// An answer that the code gives, and that needs no words.
#[derive(Debug)]
struct Verdict(Code);

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}", self.0)
    }
}

impl std::error::Error for Verdict {}

/// Ends the command with [`DIFFERENT`].
pub(crate) fn different() -> anyhow::Error {
    Verdict(DIFFERENT).into()
}

/// Ends the command with [`UNPULLABLE`].
pub(crate) fn unpullable() -> anyhow::Error {
    Verdict(UNPULLABLE).into()
}

/// Whether there is nothing to be said about an error.
pub(crate) fn is_silent(error: &anyhow::Error) -> bool {
    error.is::<Verdict>()
}

/// The code for an error: what its chain says first.
pub(crate) fn code(error: &anyhow::Error) -> Code {
    let Some(at) = error.chain().position(is_about_a_sink) else {
        return error.chain().find_map(specific).unwrap_or(FAILURE);
    };
    // Registries and engines refuse what is sent to them as they refuse to hand something out.
    let remote = |cause: &(dyn std::error::Error + 'static)| cause.is::<HttpError>() || cause.is::<SourceError>();
    let mut causes = error.chain().skip(at);
    causes.find_map(|cause| if remote(cause) { specific(cause) } else { unanswered(cause) }).unwrap_or(UNWRITABLE)
}

/// The code for a bucket that gives no answer.
fn unanswered(error: &(dyn std::error::Error + 'static)) -> Option<Code> {
    match error.downcast_ref()? {
        BucketError::Http(error) if error.is_unreachable() || error.is_tls() => Some(UNREACHABLE),
        _ => None,
    }
}

/// Whether an error says that something can't be written.
fn is_about_a_sink(error: &(dyn std::error::Error + 'static)) -> bool {
    match error.downcast_ref::<CopyError>() {
        // What a referrer failed of is its cause.
        Some(CopyError::Referrer { .. }) | None => error.is::<SinkError>(),
        Some(error) => error.side() == Side::Sink,
    }
}

fn specific(error: &(dyn std::error::Error + 'static)) -> Option<Code> {
    if let Some(error) = error.downcast_ref::<SourceError>() {
        return match error {
            SourceError::NotFound { .. } => Some(NOT_FOUND),
            SourceError::Unauthorized { .. } => Some(UNAUTHORIZED),
            SourceError::Denied { .. } => Some(DENIED),
            SourceError::Unreachable { .. } => Some(UNREACHABLE),
            SourceError::Manifest { .. } | SourceError::Invalid { .. } => Some(INVALID),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<CopyError>() {
        return match error {
            CopyError::NoPlatform { .. } | CopyError::Sparse { .. } => Some(NOT_FOUND),
            CopyError::Mismatch { .. } | CopyError::TooDeep { .. } | CopyError::TooManyReferrers { .. } => {
                Some(INVALID)
            }
            // Its cause says.
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<HttpError>() {
        return match error.status().map(|status| status.as_u16()) {
            Some(401) => Some(UNAUTHORIZED),
            Some(403) => Some(DENIED),
            Some(404) => Some(NOT_FOUND),
            _ if error.is_unreachable() => Some(UNREACHABLE),
            _ => None,
        };
    }
    if let Some(Failure(code, _)) = error.downcast_ref() {
        return Some(*code);
    }
    if let Some(Verdict(code)) = error.downcast_ref() {
        return Some(*code);
    }
    if error.is::<StoreError>() {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        return Some(causes.into_iter().find_map(unanswered).unwrap_or(UNWRITABLE));
    }
    if let Some(error) = error.downcast_ref::<AccessError>() {
        return match error {
            AccessError::Name { .. } | AccessError::Password(_) => Some(USAGE),
            AccessError::File { .. } => Some(INVALID),
            AccessError::Unusable { .. } => Some(UNWRITABLE),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<Unsupported>() {
        // An option that the host has no use for.
        return matches!(error, Unsupported::Value { what, .. } if what.starts_with("--")).then_some(USAGE);
    }
    if let Some(error) = error.downcast_ref::<PublishError>() {
        return match error {
            PublishError::Tree(error) => specific(error),
            PublishError::Source(error) => specific(error),
            PublishError::Damaged { .. } | PublishError::Incomplete { .. } => Some(INVALID),
            PublishError::Foreign(_)
            | PublishError::Changed { .. }
            | PublishError::Overtaken { .. }
            | PublishError::Unwritable { .. }
            | PublishError::Sink(_) => Some(UNWRITABLE),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<IpfsError>() {
        return match error {
            IpfsError::Tree(error) => specific(error),
            IpfsError::Kubo(error) => specific(error),
            IpfsError::Damaged { .. } => Some(INVALID),
            IpfsError::Unwritable { .. } => Some(UNWRITABLE),
            _ => None,
        };
    }
    if let Some(KuboError::Refused { status, .. }) = error.downcast_ref() {
        return match status {
            401 => Some(UNAUTHORIZED),
            403 => Some(DENIED),
            _ => None,
        };
    }
    match error.downcast_ref::<TreeError>()? {
        TreeError::Absent(_) | TreeError::Unknown(_) => Some(NOT_FOUND),
        TreeError::Damaged { .. }
        | TreeError::DamagedList { .. }
        | TreeError::Private { .. }
        | TreeError::Incomplete { .. } => Some(INVALID),
        TreeError::Store(error) => specific(error),
        TreeError::Busy { .. } => Some(UNWRITABLE),
        _ => None,
    }
}

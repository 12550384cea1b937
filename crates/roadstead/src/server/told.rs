//! What the log and the counters are told of each request.

use http::{Method, Version};

use super::pull::{Request, Response};
use super::push;
use super::status::Counts;

/// A request and its answer, for the log. Without the query and without headers: either may carry secrets; nor with the
/// name of an upload.
pub(super) struct Log<'a> {
    method: &'a Method,
    path: &'a str,
    pub(super) version: Version,
    status: u16,
    length: u64,
}

impl<'a> Log<'a> {
    pub(super) fn new(request: &Request<'a>, response: &Response) -> Self {
        Self {
            method: request.method,
            path: request.path,
            version: Version::HTTP_11,
            status: response.status.as_u16(),
            length: response.length.unwrap_or_default(),
        }
    }

    /// Logs it, and counts it.
    pub(super) fn write(&self, counts: &Counts) {
        let Self { method, path, version, status, length } = self;
        counts.request(method, *status, *length);
        let shown = || push::shown(path);
        tracing::info!(target: "roadstead::access", %method, path = ?shown(), ?version, status, length);
    }
}

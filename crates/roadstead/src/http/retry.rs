//! When to ask again, and how long to wait before.
//!
//! Source: RFC 9110, section 10.2.3 (`Retry-After`).

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use ::http::header::RETRY_AFTER;
use ::http::{HeaderMap, StatusCode};

use super::error::{cause, io_kind};

/// How often a request is sent again after a transient failure, and how long the waits are.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// How often a request is sent at most, the first time included. At least 1.
    pub attempts: u32,
    /// The longest wait before the second attempt; it doubles with every further one.
    pub first_delay: Duration,
    /// What the doubling stops at.
    pub max_delay: Duration,
    /// The longest wait that a server may ask for with `Retry-After`; a longer one is cut to this.
    pub max_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(20),
            max_retry_after: Duration::from_secs(120),
        }
    }
}

impl RetryPolicy {
    /// How long to wait after `failures` failures in a row, or `None` to give up.
    ///
    /// What the server asks for is the least: twenty clients that were all told the same second would come back
    /// together, so a random part of the ordinary wait is added. `random` is in `0.0..1.0`.
    pub(crate) fn delay(&self, failures: u32, asked: Option<Duration>, random: f64) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        let doublings = failures.saturating_sub(1).min(20);
        let ceiling = self.first_delay.saturating_mul(1 << doublings).min(self.max_delay);
        Some(match asked {
            Some(asked) => asked.min(self.max_retry_after) + self.first_delay.mul_f64(random),
            None => ceiling.div_f64(2.0) + ceiling.div_f64(2.0).mul_f64(random),
        })
    }
}

/// What `Retry-After` asks for: a number of seconds, or a date. Anything else counts as absent.
pub(crate) fn retry_after(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if text.bytes().all(|c| c.is_ascii_digit()) {
        return text.parse().map(Duration::from_secs).ok();
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(wall).unwrap_or(Duration::ZERO))
}

/// Whether the same request may well succeed a moment later.
pub(crate) fn is_transient_status(status: StatusCode) -> bool {
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => true,
        // These say that it never will.
        StatusCode::NOT_IMPLEMENTED
        | StatusCode::HTTP_VERSION_NOT_SUPPORTED
        | StatusCode::NETWORK_AUTHENTICATION_REQUIRED => false,
        other => other.is_server_error(),
    }
}

/// Whether a connection broke, rather than never came about. A host that does not exist, a port where nobody listens and
/// a certificate that is not trusted stay so.
pub(crate) fn is_transient_failure(error: &reqwest::Error) -> bool {
    let root: &(dyn Error + 'static) = error;
    // Also when it comes late: that a client certificate is wanted is said after the handshake.
    if error.is_builder() || cause::<rustls::Error>(root).is_some() {
        return false;
    }
    if !error.is_connect() {
        return true;
    }
    io_kind(root).is_some_and(|kind| {
        matches!(
            kind,
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_end() {
        let policy = RetryPolicy { attempts: 4, max_delay: Duration::from_millis(1500), ..RetryPolicy::default() };
        let waits: Vec<_> = (1..=4).map(|failures| policy.delay(failures, None, 1.0)).collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(waits, [ms(500), ms(1000), ms(1500), None]);
        assert_eq!(policy.delay(1, None, 0.0), ms(250));
        assert!(policy.delay(3, Some(Duration::from_secs(9)), 0.0) == ms(9000), "what the server asks for counts");
        assert_eq!(policy.delay(1, Some(Duration::from_secs(86_400)), 0.0), ms(120_000), "but not without end");
        assert_eq!(policy.delay(u32::MAX, None, 0.5), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, meant) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("99999999999999999999999", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, wall), meant.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), wall), None);
    }

    #[test]
    fn statuses_that_may_pass() {
        for (status, transient) in
            [(429, true), (500, true), (503, true), (408, true), (501, false), (404, false), (401, false), (200, false)]
        {
            assert_eq!(is_transient_status(StatusCode::from_u16(status).unwrap()), transient, "{status}");
        }
    }
}

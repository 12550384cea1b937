//! Time, so that tests need not wait for it.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;

/// What tokens expire by and retries wait on.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time that only goes forward.
    fn now(&self) -> Instant;

    /// The time of day, which `Retry-After` dates are measured against.
    fn wall(&self) -> SystemTime;

    /// Waits.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

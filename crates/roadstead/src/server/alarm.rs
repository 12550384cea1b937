//! A limit on waiting.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A limit on waiting, which costs nothing while nothing waits long: the timer is only moved when it would ring too
/// late, or rings too early.
pub(super) struct Alarm {
    due: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    pub(super) fn new(time: Duration) -> Self {
        Self { due: Instant::now() + time, sleep: Box::pin(tokio::time::sleep(time)) }
    }

    /// Lets it ring so long from now.
    pub(super) fn set(&mut self, time: Duration) {
        self.set_to(Instant::now() + time);
    }

    /// Lets it ring at an instant.
    pub(super) fn set_to(&mut self, due: Instant) {
        self.due = due;
        if self.due < self.sleep.deadline() {
            self.sleep.as_mut().reset(self.due);
        }
    }

    /// Ready when the time is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            if self.due <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.due);
        }
        Poll::Pending
    }
}

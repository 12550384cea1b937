//! What a connection of the second transport waits for, so that each kind of waiting has its own limit.
//!
//! hyper has one limit for heads, which also runs while a connection lies idle, and none for anything else. So it has
//! none of us, and whoever holds the socket ([`Rewind`](super::rewind::Rewind)) goes by what is written down here.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

/// The state of one connection. Of version 2 several requests run at once.
pub(super) struct Course(Mutex<State>);

struct State {
    /// Requests whose answer is being made.
    working: usize,
    /// Answers that are on their way.
    sending: usize,
    /// Of the former those that wait for content.
    receiving: usize,
    /// Since when a head is coming, if one is.
    head: Option<Instant>,
    /// Whether it is of version 2, where what comes need not be a head.
    multiplexed: bool,
    /// When any of it changed last.
    since: Instant,
}

/// What a connection waits for, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A request.
    Request(Instant),
    /// The rest of its head.
    Head(Instant),
    /// That its client sends or takes something.
    Client(Instant),
    /// Nothing: we are at it.
    Nothing,
}

impl Course {
    pub(super) fn new() -> Arc<Self> {
        let (head, since) = (None, Instant::now());
        Arc::new(Self(Mutex::new(State { working: 0, sending: 0, receiving: 0, head, multiplexed: false, since })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that bytes came.
    pub(super) fn came(&self) {
        let mut state = self.state();
        if state.working == 0 && state.sending == 0 && !state.multiplexed && state.head.is_none() {
            state.head = Some(Instant::now());
        }
    }

    pub(super) fn awaited(&self) -> Awaited {
        let state = self.state();
        match (state.working, state.sending + state.receiving, state.head) {
            (0, 0, Some(begun)) => Awaited::Head(begun),
            (0, 0, None) => Awaited::Request(state.since),
            (_, 0, _) => Awaited::Nothing,
            _ => Awaited::Client(state.since),
        }
    }

    /// Notes that a head is whole, for as long as what is returned is held.
    pub(super) fn work(self: &Arc<Self>, multiplexed: bool) -> Step {
        self.state().multiplexed |= multiplexed;
        Step::begin(self, |state| &mut state.working)
    }

    /// Notes that an answer is on its way, for as long as what is returned is held.
    pub(super) fn send(self: &Arc<Self>) -> Step {
        Step::begin(self, |state| &mut state.sending)
    }

    /// Notes when content is waited for.
    pub(super) fn receive(self: &Arc<Self>, content: Incoming) -> Received {
        Received { content, course: Arc::clone(self), waiting: None }
    }
}

/// Something that a connection is at.
pub(super) struct Step {
    course: Arc<Course>,
    count: fn(&mut State) -> &mut usize,
}

impl Step {
    fn begin(course: &Arc<Course>, count: fn(&mut State) -> &mut usize) -> Self {
        let mut state = course.state();
        *count(&mut state) += 1;
        (state.head, state.since) = (None, Instant::now());
        drop(state);
        Self { course: Arc::clone(course), count }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let mut state = self.course.state();
        *(self.count)(&mut state) -= 1;
        state.since = Instant::now();
    }
}

/// The content of a request.
pub(super) struct Received {
    content: Incoming,
    course: Arc<Course>,
    waiting: Option<Step>,
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { content, course, waiting } = self.get_mut();
        // Noted before it is asked for, since the connection, on another thread, begins to wait at once.
        waiting.get_or_insert_with(|| Step::begin(course, |state| &mut state.receiving));
        let polled = Pin::new(content).poll_frame(cx);
        if polled.is_ready() {
            *waiting = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for() {
        let course = Course::new();
        assert!(matches!(course.awaited(), Awaited::Request(_)));
        course.came();
        let Awaited::Head(begun) = course.awaited() else { panic!("a head is coming") };
        course.came();
        assert_eq!(course.awaited(), Awaited::Head(begun), "a head has one beginning");
        let working = course.work(false);
        // What comes meanwhile is content, or the next request, for which nobody waits yet.
        course.came();
        assert_eq!(course.awaited(), Awaited::Nothing);
        let waiting = Step::begin(&course, |state| &mut state.receiving);
        assert!(matches!(course.awaited(), Awaited::Client(_)));
        drop(waiting);
        assert_eq!(course.awaited(), Awaited::Nothing);
        let sending = course.send();
        drop(working);
        assert!(matches!(course.awaited(), Awaited::Client(_)));
        drop(sending);
        assert!(matches!(course.awaited(), Awaited::Request(_)));
    }

    #[test]
    fn in_version_2_not_everything_that_comes_is_a_head() {
        let course = Course::new();
        drop(course.work(true));
        course.came();
        assert!(matches!(course.awaited(), Awaited::Request(_)));
    }
}

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

/// Asks again and again, in short intervals, until `condition` holds or `limit` is over; says which.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    poll(limit, || if condition() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }).is_some()
}

/// Asks again and again until there is an answer, or `limit` is over. Asks at least twice, so that a machine that stood
/// still for a while is not taken for a condition that does not come true.
pub(crate) fn poll<T>(limit: Duration, mut question: impl FnMut() -> ControlFlow<T>) -> Option<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let over = start.elapsed() >= limit;
        if let ControlFlow::Break(answer) = question() {
            return Some(answer);
        }
        if over {
            return None;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the interval between two questions, not a guess how long something takes"
        )]
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

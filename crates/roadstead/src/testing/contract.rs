//! Contract suites: one public function per promise, run over every implementation.
//!
//! A failing promise panics with a message that names the implementation, what was expected and what came. Each function
//! works below keys, repositories or tags of its own, so several may run over one subject, one after the other.
//! All need a Tokio runtime with several threads, or races stay hidden.

pub mod sink;
pub mod source;
pub mod store;

use std::time::Duration;

/// How long something that must end may take before it counts as hanging.
const DEADLINE: Duration = Duration::from_secs(60);

/// What `future` becomes, if it ends.
async fn ends<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: did not end within {} s", DEADLINE.as_secs()),
    }
}

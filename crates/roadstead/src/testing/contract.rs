//! Contract suites: one public function per promise, run over every implementation.
//!
//! A failing promise panics with a message that names the implementation, what was expected and what came. Each function
//! works below keys, repositories or tags of its own, so several may run over one subject, one after the other.
//! All need a Tokio runtime with several threads, or races stay hidden.

pub mod sink;
pub mod source;
pub mod store;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;

/// How long something that must end may take before it counts as hanging.
const DEADLINE: Duration = Duration::from_secs(60);

/// What `future` becomes, if it ends.
async fn ends<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: did not end within {} s", DEADLINE.as_secs()),
    }
}

/// Checks one promise after the other, so that a report names all that are broken and not the first one only.
struct Promises {
    implementation: String,
    broken: Vec<&'static str>,
}

impl Promises {
    fn new(implementation: String) -> Self {
        Self { implementation, broken: Vec::new() }
    }

    /// Runs the check of one promise. Its panic has been printed by the time this returns.
    async fn check(&mut self, promise: &'static str, check: impl Future<Output = ()>) {
        if AssertUnwindSafe(check).catch_unwind().await.is_err() {
            self.broken.push(promise);
        }
    }

    fn done(self) {
        assert!(
            self.broken.is_empty(),
            "{} breaks {} promises: {:#?}",
            self.implementation,
            self.broken.len(),
            self.broken
        );
    }
}

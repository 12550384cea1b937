//! Trees in buckets: every promise over real servers, and what becomes of the promises where a server fails.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adopted;
mod azure;
mod contract;
mod faults;
mod fences;
mod google;
mod public;
mod published;
mod side_by_side;
mod support;

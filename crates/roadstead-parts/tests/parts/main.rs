//! Proves the harness against real parts alone, so that a failure elsewhere is not the harness's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clients;
mod image;
mod servers;

//! The distribution specification 1.1, and what its development version adds: a case for each thing that a registry MUST or
//! SHOULD do, over every store that can be pushed to. Modules are its categories, cases name its sections. Requests are written
//! byte by byte, so that no client corrects them.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it, too")]

mod beside;
mod content_management;
mod discovery;
mod faults;
mod pull;
mod push;
mod smuggling;
mod support;

//! The distribution specification, a case for each thing that a registry must do when it is pushed to, over every store that
//! can be pushed to. Cases are named after sections. Requests are written byte by byte, so that no client corrects them.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it, too")]

mod content_management;
mod push;
mod smuggling;
mod support;

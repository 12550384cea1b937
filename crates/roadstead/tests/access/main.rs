//! A server that asks who is there, over HTTP: who gets which tokens, and what these let them do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod grants;
mod issuers;
mod limits;
mod login;
mod pages;
mod support;

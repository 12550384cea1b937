//! The doctor, over servers that are broken on purpose, beside the clients for which it speaks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agreement;
mod bounds;
mod broken;
mod cases;
mod document;
mod notes;

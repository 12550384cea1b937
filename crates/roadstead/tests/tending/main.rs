//! Tending a tree: what is removed, what is found, what is mended.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it, too")]

mod beside;
mod compared;
mod private;
mod pruned;
mod removed;
mod support;
mod surveyed;
mod verified;

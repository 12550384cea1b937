//! The distribution client against a registry that misbehaves as it is told.

mod pull;
mod support;

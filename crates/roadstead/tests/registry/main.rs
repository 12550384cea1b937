//! The distribution client against a registry that misbehaves as it is told.

mod credentials;
mod pull;
mod support;

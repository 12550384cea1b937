//! The distribution client against a registry that misbehaves as it is told.

mod credentials;
mod login;
mod pull;
mod support;

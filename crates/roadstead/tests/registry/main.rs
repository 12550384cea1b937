//! The distribution client against a registry that misbehaves as it is told.

mod contract;
mod credentials;
mod faults;
mod lists;
mod login;
mod pull;
mod push;
mod push_faults;
mod static_tree;
mod support;
mod tls;

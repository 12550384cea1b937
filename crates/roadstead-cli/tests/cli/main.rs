//! The `roadstead` binary from outside: what it prints, what it leaves behind, and what real clients make of that.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod bucket_pages;
mod bucket_pushes;
mod buckets;
mod commands;
mod compressed;
mod cost;
mod faults;
mod file_systems;
mod headerless;
mod interrupted;
mod ipfs;
mod kept_by_others;
mod many;
mod matrix;
mod on_disk;
mod planted;
mod pruned;
mod published;
mod published_badly;
mod published_beside;
mod published_cost;
mod published_faults;
mod published_killed;
mod published_pulled;
mod pushed;
mod pushers;
mod quickstart;
mod redirected;
mod secured;
mod sessions;
mod shells;
mod side_by_side;
mod signed;
mod standalone;
mod support;
mod tokens;
mod transports;
mod users;
mod waits;

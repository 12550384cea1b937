//! Requests of pulls and pushes: paths, queries, ranges, manifests and their order.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| roadstead::server::feed_requests(bytes));

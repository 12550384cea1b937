//! What a server with users reads: headers, tokens, scopes, sets of keys, and the files of its state folder.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| roadstead::server::feed(bytes));

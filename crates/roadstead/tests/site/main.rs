//! A tree seen from outside: one table of requests and answers, over every server that the rules are rendered for, and
//! what the built-in server adds to the rules.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod client;
mod cloudfront;
mod conformance;
mod deviations;
mod fixture;
mod hosted;
mod limits;
mod listening;
mod lists;
mod logged;
mod nginx;
mod others;
mod pages;
mod r2;
mod secured;
mod servers;
mod status;
mod upstream;

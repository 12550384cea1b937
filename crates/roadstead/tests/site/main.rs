//! A tree seen from outside: one table of requests and answers, over every server that the rules are rendered for, and
//! what the built-in server adds to the rules.

mod cases;
mod client;
mod conformance;
mod fixture;
mod limits;
mod lists;
mod nginx;

//! Writers and removers in one bucket, none of whom any lock reaches: every order of what they ask of it, up to a bound, with
//! whoever is killed or stopped at whatever it was about to do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod explore;
mod lists;
mod removal;
mod slow;
mod world;

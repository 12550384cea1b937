//! Archives, layouts and folders, read and written: those that are built here, hostile ones, and those of real programs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod compressing;
mod hostile;
mod reading;
mod real;
mod support;
mod writing;

//! The media that images come from and go to.

pub mod registry;

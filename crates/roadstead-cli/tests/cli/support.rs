//! Runs the binary, and puts images where it finds them.

mod program;
mod push;
mod tree;

pub(crate) use program::Place;
pub(crate) use push::push;
pub(crate) use tree::write_tree;

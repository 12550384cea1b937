//! Runs the binary, puts images where it finds them, and looks at what it leaves behind.

mod faulty;
mod hostile;
mod program;
mod push;
mod saved;
mod snapshot;
mod state;
mod tree;

pub(crate) use faulty::{Faulty, refusal};
pub(crate) use hostile::{Hostile, error};
pub(crate) use program::{Place, Ran, peak_memory, wait};
pub(crate) use push::{Answer, push, request};
pub(crate) use saved::save;
pub(crate) use snapshot::{Words, snapshot};
pub(crate) use state::State;
pub(crate) use tree::write_tree;

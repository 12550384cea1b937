//! What others' registries leave at rest, as sources of images.

mod contract;
mod hostile;
mod real;
mod support;

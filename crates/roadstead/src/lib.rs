//! A container registry made of plain files.

pub mod image;
pub mod oci;
pub mod store;
pub mod tree;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

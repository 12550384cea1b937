//! A container registry made of plain files.

pub mod host;
pub mod http;
pub mod image;
pub mod medium;
pub mod oci;
pub mod server;
pub mod site;
pub mod store;
pub mod tree;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

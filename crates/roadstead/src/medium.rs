//! The media that images come from and go to.
//!
//! A registry has repositories, so it is a [`Source`](crate::image::Source). Archives, layouts and folders hold a few images
//! in one place: each is a [`Collection`](crate::image::Collection), and they share what lies below them.
//!
//! ```text
//!   docker_archive   image_layout   dir        what the table of contents means
//!         └──────────────┼───────────┘
//!                     content                  manifests, blobs, tags and referrers by digest
//!                   ┌────┴────┐
//!                  tar      folder             where the bytes of a name lie, nothing outside of it
//! ```
//!
//! Their sinks gather everything in a *depot*, a folder of verified files, and write the table of contents last.
//!
//! What others' registries leave at rest has repositories again: [`distribution_disk`], [`static_container_registry`] and
//! [`registrish`] say under which key things lie, and share a *shelf* below, which reads a store.
//!
//! A [`daemon`] hands out docker archives, and takes them.

mod content;
pub mod daemon;
mod depot;
pub mod dir;
pub mod distribution_disk;
pub mod docker_archive;
mod folder;
pub mod image_layout;
mod output;
pub mod registrish;
pub mod registry;
mod section;
mod shelf;
mod spool;
pub mod static_container_registry;
mod tar;

pub use output::Output;

//! A container registry made of plain files.
//!
//! Images are laid out at the paths that the OCI distribution API names, so that a web server over the files is a registry to
//! pull from. This library copies images into such a *tree*, tends it, renders web servers' configurations for it, and
//! answers pulls from it.
//!
//! ```text
//!   image::Source ──► image::Copier ──► image::Sink      registries (medium) come in, trees take
//!                                            │
//!                                       tree::Tree       the only code that knows a path
//!                                            │
//!                                      store::Store      bytes under keys: a directory, a bucket, memory
//!
//!   site::RULES ──► host::HOSTS, server::Server          what a path is answered with, rendered and served
//! ```
//!
//! - [`oci`] has the nouns of the specifications, each parsed once into a type that can't be wrong.
//! - [`image`] joins a source and a sink. Children come before parents and tags last, and nothing shows before it is verified.
//! - [`tree`] and [`store`] are the registry itself; `docs/format.md` in the repository says what the files are.
//! - [`site`], [`host`] and [`server`] are how it looks from outside.
//! - [`medium`] and [`http`] reach other registries; [`medium`] also reads and writes archives and layouts.
//!
//! The library reads no environment, no home folder and no terminal: whoever calls it passes values. Everything that comes
//! from outside counts as hostile, and is bounded. Async functions need a Tokio runtime.
//!
//! # Example
//!
//! An image is copied into a tree, and found again:
//!
//! ```
//! use std::sync::Arc;
//!
//! use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, greeting_image};
//! use roadstead::oci::{Reference, Repository, Tag};
//! use roadstead::store::{MemoryStore, Naming};
//! use roadstead::tree::Tree;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In a directory: `LocalStore::create(path)`.
//! let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await?;
//!
//! let hello: Repository = "hello".parse()?;
//! let latest = Reference::Tag(Tag::latest());
//! let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
//! let sink = tree.repository(&hello).await?;
//! let copied = copier.copy(&greeting_image(), &latest, &*sink, &[Tag::latest()]).await?;
//! sink.finish().await?; // the lists
//!
//! let manifest = tree.find(&hello, &latest).await?.expect("it was just copied");
//! assert_eq!(manifest.digest(), &copied.descriptor.digest);
//! assert_eq!(manifest.media_type().as_str(), "application/vnd.oci.image.index.v1+json");
//! assert_eq!(manifest.children().count(), 2); // linux/amd64 and linux/arm64
//! # Ok(())
//! # }
//! ```

pub mod host;
pub mod http;
pub mod image;
pub mod medium;
pub mod oci;
pub mod publish;
pub mod server;
pub mod site;
pub mod store;
pub mod tree;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

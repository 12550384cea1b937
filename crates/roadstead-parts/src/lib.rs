//! The real parts that Roadstead is tested against: registries, web servers, container engines and clients.
//!
//! It knows nothing of Roadstead itself, and it is not published: it is there so that every test and benchmark of the
//! workspace starts the same programs in the same way.
//!
//! ```text
//!  part         where a program is, or the command that installs it
//!  Invocation   one call: arguments, a clean environment, a deadline; its Failure shows all that was printed
//!  Served       a program in the background, ended with everything that it started, whatever happens to the test
//!  Folder, Port what parts need of the machine, nobody else's while the value lives
//!
//!  Distribution, Nginx, WebServer, Buckets, Miniflare   servers
//!  PlainServer, Kubo                    hosts of files without headers
//!  Emulator     what vendors give to try out what they host, and hosts of plain files themselves
//!  Dockerd, Containerd, Cri, Podman     engines    ┐
//!  Buildah, Skopeo, Crane, Oras         programs   ┴ each a Client; those that run containers are an Engine too,
//!                                                    those that push a Pusher
//!  Cosign, Notation                     programs that sign and verify
//!  Buildkit                             builds images
//! ```
//!
//! A matrix is a loop over [`clients`]:
//!
//! ```no_run
//! use roadstead_parts::{Distribution, Generation, Skopeo, clients};
//!
//! let registry = Generation::V3.registry().start();
//! let image = format!("{}/hello:1", registry.authority());
//! Skopeo.copy("oci:/path/to/layout", &format!("docker://{image}"))?;
//! for client in clients() {
//!     client.pull(&image)?;
//!     if let Some(engine) = client.engine() {
//!         assert_eq!(engine.run(&image)?, "hello\n");
//!     }
//! }
//! # Ok::<(), roadstead_parts::Failure>(())
//! ```
//!
//! Starting a part, and everything that has to do with the machine, panics when it does not work: there is nothing that
//! a test could do about it. What a program says about an image is a `Result`, for tests that expect a refusal.

mod azurite;
mod buckets;
mod buildkit;
mod certificates;
mod client;
mod containerd;
mod cri;
mod distribution;
mod docker;
mod emulator;
mod fake_gcs;
mod folder;
mod invocation;
mod miniflare;
mod nginx;
pub mod part;
mod plain;
mod podman;
mod port;
mod served;
mod tools;
mod wait;
mod web;

use std::sync::LazyLock;

pub use azurite::Azurite;
pub use buckets::{BucketServer, Buckets};
pub use buildkit::Buildkit;
pub use certificates::Certificates;
pub use client::{Client, Engine, Pulled, Pusher};
pub use containerd::Containerd;
pub use cri::Cri;
pub use distribution::{Builder, Distribution, Generation};
pub use docker::Dockerd;
pub use emulator::{Emulated, Emulator};
pub use fake_gcs::FakeGcs;
pub use folder::Folder;
pub use invocation::{Failure, Invocation, Output};
pub use miniflare::{Miniflare, R2Object};
pub use nginx::{Nginx, within_http};
pub use plain::{Kubo, PlainServer};
pub use podman::{Buildah, Podman};
pub use port::Port;
pub use served::{Isolation, Served};
pub use tools::{Bundle, Cosign, Crane, Notation, Oras, Skopeo};
pub use wait::wait_until;
pub use web::{Extent, WebServer};

/// Returns every client that an ordinary test run has, the engines being those that all tests of this process share.
pub fn clients() -> [&'static dyn Client; 7] {
    static CRI: LazyLock<Cri<'_>> = LazyLock::new(|| Containerd::shared().cri());
    [Dockerd::shared(), Containerd::shared(), &*CRI, Podman::shared(), &Skopeo, &Crane, &Oras]
}

/// Returns every client that pushes and that an ordinary test run has, the engines being those that all tests of this
/// process share.
pub fn pushers() -> [&'static dyn Pusher; 7] {
    [Dockerd::shared(), Containerd::shared(), Podman::shared(), Buildah::shared(), &Skopeo, &Crane, &Oras]
}

//! The HTTP client: connections, TLS, proxies, authentication, redirects and retries.
//!
//! An [`Endpoint`] is one registry as a client sees it: it knows whether the registry speaks TLS, how it wants to be
//! asked, and which tokens are still good. What is asked, and what an answer means, is somebody else's: this module
//! knows the challenge of a 401, and no manifest. What isn't a registry (a bucket, a service that gives credentials) is asked by
//! [`Client`] itself: there each request says all that there is to say.
//!
//! Three rules hold for everything that goes through here:
//!
//! - **Credentials stay home.** `Authorization` goes to the scheme, host and port that asked for it, and to the token
//!   service that it names if that one is reached over TLS, or on loopback where the registry is, too. They appear in no
//!   error, no log and no `Debug`; neither do the query strings of signed URLs.
//! - **Plain HTTP is asked for**, or it is loopback. Nothing that a server says makes a client leave TLS.
//! - **Everything is bounded**: redirects, retries, waits, bodies, and the time without a byte.

mod auth;
mod base_url;
mod challenge;
mod client;
mod clock;
pub mod credentials;
mod download;
mod endpoint;
mod error;
mod link;
mod probe;
mod proxy;
mod redirect;
mod response;
mod retry;
mod secret;
mod shown;
mod stream;
mod tls;
mod token;
mod transport;

pub use auth::Scope;
pub use base_url::{BaseUrl, BaseUrlError};
pub use client::{Client, ClientOptions, EndpointOptions, Timeouts};
pub use clock::{Clock, SystemClock};
pub use download::{Download, Progress};
pub use endpoint::{Endpoint, Location, Request};
pub use error::{BoxError, ErrorBody, HttpError};
pub use proxy::Proxies;
pub(crate) use redirect::is_loopback;
pub use response::Response;
pub(crate) use response::{Exchange, Wait};
pub use retry::RetryPolicy;
pub(crate) use retry::is_transient_status;
pub use secret::Secret;
pub use shown::ShownUrl;
pub use tls::{Roots, TlsError, TlsOptions};

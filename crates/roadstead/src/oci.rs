//! The nouns of the OCI specifications, each parsed once, at the edge, into a type that can't be wrong.
//!
//! This module knows no network, no file and no store. Names and meanings are those of the image specification and
//! the distribution specification; every type's documentation names its section.

mod digest;
mod error_code;
mod manifest;
mod media_type;
mod name;
mod platform;
mod referrers;
mod schema1;
mod spelling;

pub(crate) use digest::excerpt;
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use error_code::ErrorCode;
pub use manifest::{Descriptor, Kind, MAX_BLOB_SIZE, MAX_DESCRIPTORS, MAX_MANIFEST_SIZE, Manifest, ManifestError};
pub use media_type::{MAX_LEN as MAX_MEDIA_TYPE_LEN, MediaType, MediaTypeError};
pub use name::{ImageReference, MAX_REPOSITORY_LEN, NameError, Reference, Registry, Repository, Tag};
pub use platform::{MAX_CONFIG_SIZE, Platform, PlatformError};
pub use referrers::Referrers;

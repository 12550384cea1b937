//! Images in motion: where they come from, where they go, and the one copy between the two.
//!
//! A [`Source`] is untrusted. A [`Sink`] makes content visible only whole and verified. [`Copier`] is the only code that
//! joins them: importing, mirroring, exporting and pushing are all the same walk, children before parents and tags last.
//!
//! This module knows neither how a tree is laid out nor how a registry speaks.

mod checked;
mod compress;
mod convert;
mod copy;
mod events;
mod greeting;
mod join;
mod pace;
mod schema1;
mod sink;
mod source;

pub(crate) use checked::Checked;
pub use compress::{Compression, CompressionError, Method};
pub use convert::{ConvertError, ManifestFormat};
pub use copy::{Compress, Copied, Copier, CopyError, CopyOptions, Joined, MAX_DEPTH, MAX_REFERRERS, Platforms, Side};
pub use events::{BlobOutcome, Event, Events, NotAReferrer, Silent};
pub use greeting::{Architecture, GREETING, GreetingImage, greeting_elf, greeting_image, greeting_platforms};
pub use join::{JoinError, Part, join};
pub(crate) use pace::Pace;
pub use pace::{Bandwidth, BandwidthError};
#[cfg(feature = "testing")]
pub(crate) use schema1::pretty;
pub use schema1::{EMPTY_LAYER, Schema1Error, SigningKey, SigningKeyError, schema1};
pub use sink::{Claim, PutError, RepositorySink, Sink, SinkError};
pub use source::{ByteStream, Collection, Held, RepositorySource, Source, SourceError};

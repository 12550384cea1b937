//! Why an image wasn't copied.

use super::{MAX_DEPTH, MAX_REFERRERS};
use crate::image::convert::ConvertError;
use crate::image::join::JoinError;
use crate::image::sink::SinkError;
use crate::image::source::SourceError;
use crate::oci::{Digest, Platform};

/// Which side failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where images come from.
    Source,
    /// Where images go.
    Sink,
    /// Neither: what was asked for doesn't exist, or is refused.
    Request,
}

/// Why an image wasn't copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The source failed.
    #[error("{what} of {image} can't be read from the source")]
    Source {
        /// The image as people write it.
        image: String,
        /// What of it.
        what: String,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// The source gave other bytes than the digest names.
    #[error("{image} is refused, since the source sent something else: {problem}")]
    Mismatch {
        /// The image as people write it.
        image: String,
        /// What of it; digest or size, expected and actual.
        problem: String,
    },
    /// The sink failed.
    #[error("{what} of {image} can't be kept at the destination")]
    Sink {
        /// The image as people write it.
        image: String,
        /// What of it.
        what: String,
        /// Why.
        #[source]
        source: SinkError,
    },
    /// No part of the image is for a platform that was asked for.
    #[error("{image} has nothing for {}, only for {}", join(.wanted), join(.available))]
    NoPlatform {
        /// The image as people write it.
        image: String,
        /// What was asked for.
        wanted: Vec<Platform>,
        /// What there is.
        available: Vec<Platform>,
    },
    /// Indexes within indexes beyond [`MAX_DEPTH`].
    #[error("{image} has indexes nested more than {MAX_DEPTH} deep")]
    TooDeep {
        /// The image as people write it.
        image: String,
    },
    /// Something that refers to the image, or to a part of it, failed.
    #[error("{referrer}, which refers to {subject} of {image}, can't be copied")]
    Referrer {
        /// The image as people write it.
        image: String,
        /// The manifest that is referred to.
        subject: Digest,
        /// What refers to it.
        referrer: Digest,
        /// Why.
        #[source]
        source: Box<CopyError>,
    },
    /// Referrers beyond [`MAX_REFERRERS`], or referrers of referrers beyond [`MAX_DEPTH`].
    #[error("{image} has more than {MAX_REFERRERS} referrers, or referrers of referrers more than {MAX_DEPTH} deep")]
    TooManyReferrers {
        /// The image as people write it.
        image: String,
    },
    /// An index names a manifest that the source doesn't hold, and nothing says that this is on purpose.
    #[error("{image} is not whole at the source: an index names {child} ({platform}), which isn't there")]
    Child {
        /// The image as people write it.
        image: String,
        /// The manifest.
        child: Digest,
        /// What it is for, as the index says.
        platform: String,
        /// What the source says.
        #[source]
        source: SourceError,
    },
    /// The source lacks children of an index on purpose, and the sink has no place to say so.
    #[error(
        "{image} is not whole at the source, which left a part of the index {index} out on purpose, and the destination can't record \
         that"
    )]
    Sparse {
        /// The image as people write it.
        image: String,
        /// The index.
        index: Digest,
        /// How many of its manifests are in neither place.
        absent: usize,
    },
    /// Images don't make an index together.
    #[error("no index can be made of the images")]
    Join(#[source] JoinError),
    /// A manifest can't be written anew, as was asked for.
    #[error("{image} can't be converted")]
    Convert {
        /// The image as people write it.
        image: String,
        /// Why.
        #[source]
        source: Box<ConvertError>,
    },
}

impl CopyError {
    /// Which side failed.
    #[must_use]
    pub fn side(&self) -> Side {
        match self {
            Self::Source { .. } | Self::Mismatch { .. } | Self::Child { .. } => Side::Source,
            Self::Sink { .. } => Side::Sink,
            Self::Referrer { source, .. } => source.side(),
            Self::NoPlatform { .. }
            | Self::TooDeep { .. }
            | Self::TooManyReferrers { .. }
            | Self::Sparse { .. }
            | Self::Join(_)
            | Self::Convert { .. } => Side::Request,
        }
    }
}

fn join(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "none that it names".to_owned();
    }
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

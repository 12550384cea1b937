//! What happens during a copy, told as it happens. Whoever shows it to people is somewhere else.

use crate::oci::{Descriptor, Digest, MediaType, Platform};

/// How a blob came to be in the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlobOutcome {
    /// Its bytes were read from the source.
    Copied,
    /// The sink had its bytes copied from where the source keeps them.
    Adopted,
    /// They were read from the source, and what they were compressed to was written.
    Compressed,
    /// Another repository of the sink had it.
    Linked,
    /// The repository had it.
    Present,
    /// Its owner does not allow it to be passed on.
    Nondistributable,
}

/// What is wrong with an entry of a list of referrers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotAReferrer {
    /// The source doesn't hold the manifest. Lists that clients keep, under the fallback tag, name what was deleted since.
    Absent,
    /// The manifest is there, and refers to something else or to nothing.
    Stranger,
}

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// What an image reference names is known.
    Resolved {
        /// The image as people write it.
        image: &'a str,
        /// What it names.
        descriptor: &'a Descriptor,
    },
    /// Bytes of a blob are about to be read.
    BlobStarted {
        /// The blob.
        blob: &'a Descriptor,
    },
    /// More bytes of a blob came.
    BlobProgress {
        /// The blob.
        blob: &'a Digest,
        /// How many came since the last event of this kind.
        bytes: u64,
    },
    /// A blob is done with. Comes once for each blob and image, also if it never started.
    BlobDone {
        /// The blob.
        blob: &'a Descriptor,
        /// How.
        outcome: BlobOutcome,
    },
    /// A blob failed after it had started.
    BlobFailed {
        /// The blob.
        blob: &'a Digest,
    },
    /// A child of an index was left out, since nobody asked for its platform.
    ChildLeftOut {
        /// The child.
        child: &'a Descriptor,
    },
    /// A child of an index was left out, since the source lacks it on purpose.
    ChildAbsent {
        /// The child.
        child: &'a Descriptor,
    },
    /// A manifest is in the sink.
    ManifestDone {
        /// Its digest.
        digest: &'a Digest,
        /// Its media type.
        media_type: &'a MediaType,
        /// What it runs on, if an index said so.
        platform: Option<&'a Platform>,
    },
    /// Something that refers to the image, or to a part of it, is in the sink.
    ReferrerDone {
        /// What it refers to.
        subject: &'a Digest,
        /// Its own digest.
        referrer: &'a Digest,
    },
    /// The source lists a referrer that is none, and it was left out.
    ReferrerLeftOut {
        /// The image as people write it.
        image: &'a str,
        /// What it would refer to.
        subject: &'a Digest,
        /// Its own digest.
        referrer: &'a Digest,
        /// Why.
        reason: NotAReferrer,
    },
    /// An image is whole in the sink, and its tags name it.
    ImageDone {
        /// The image as people write it.
        image: &'a str,
        /// What its tags name now.
        descriptor: &'a Descriptor,
    },
}

/// Hears of events. Called from several threads at once; must not block.
pub trait Events: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Events for Silent {
    fn event(&self, _: Event<'_>) {}
}

//! What refers to an image: signatures, attestations, SBOMs, and what refers to those.
//!
//! A referrer names its subject, so that the subject knows nothing of it: a registry is asked what refers to a digest. What
//! cosign wrote before registries could say that lies under tags which are derived from the digest instead. So every manifest
//! costs one question about its referrers and three about tags, whatever the sink has; what refers to it is copied as any image
//! is, after its subject, and its platforms are not chosen among.
//!
//! Lists are untrusted and often kept by clients. Of a referrer only the digest is believed, and only if the manifest names
//! the subject.
//!
//! Source: distribution specification, "Listing Referrers" and "Referrers Tag Schema"; cosign, *Signature Specification*.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::OnceCell;

use super::{CHILDREN_AT_ONCE, Compress, Copy, CopyError, MAX_DEPTH, Platforms};
use crate::image::convert::ManifestFormat;
use crate::image::events::{Event, NotAReferrer};
use crate::image::source::SourceError;
use crate::oci::{Descriptor, Digest, Tag};

/// The most referrers that one image may have, with those of its parts and their own.
pub const MAX_REFERRERS: usize = 10_000;

/// Something that may refer to a manifest.
struct Found {
    subject: Digest,
    descriptor: Descriptor,
    /// The tag, where that alone makes it a referrer.
    tag: Option<Tag>,
}

impl Copy<'_> {
    /// Copies what refers to the manifests that were copied. Returns what cosign's tags have to name.
    pub(super) async fn referrers(&self) -> Result<Vec<(Tag, Descriptor)>, CopyError> {
        let whole = Copy {
            platforms: &Platforms::All,
            // They are signed, or about exactly these bytes.
            compress: Compress::Never,
            format: ManifestFormat::Keep,
            image: self.image.clone(),
            seen: Mutex::default(),
            available: Mutex::default(),
            candidates: OnceCell::new(),
            ..*self
        };
        let too_many = || CopyError::TooManyReferrers { image: self.image.clone() };
        let mut tags = BTreeMap::new();
        let mut count = 0;
        let mut asked = HashSet::new();
        let mut subjects = self.copied();
        for depth in 0.. {
            asked.extend(subjects.iter().copied());
            let mut found = Vec::new();
            let mut lists = stream::iter(subjects).map(|subject| whole.find(subject)).buffered(CHILDREN_AT_ONCE);
            while let Some(list) = lists.try_next().await? {
                count += list.len();
                if count > MAX_REFERRERS || (depth == MAX_DEPTH && !list.is_empty()) {
                    return Err(too_many());
                }
                found.extend(list);
            }
            if found.is_empty() {
                break;
            }
            let copies = stream::iter(found).map(|found| async {
                let copied = whole.referrer(&found).await?;
                Ok::<_, CopyError>(found.tag.zip(copied))
            });
            let tagged: Vec<Option<(Tag, Descriptor)>> = copies.buffered(CHILDREN_AT_ONCE).try_collect().await?;
            tags.extend(tagged.into_iter().flatten());
            subjects = whole.copied();
            subjects.retain(|digest| !asked.contains(digest));
        }
        Ok(tags.into_iter().collect())
    }

    /// The manifests that the sink has now as the source has them. One that was written anew is nobody's subject.
    fn copied(&self) -> BTreeSet<Digest> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = seen.iter().filter(|(digest, outcome)| {
            outcome.get().and_then(Option::as_ref).is_some_and(|descriptor| descriptor.digest == **digest)
        });
        kept.map(|(digest, _)| *digest).collect()
    }

    /// What refers to `subject`, as the source says.
    async fn find(&self, subject: Digest) -> Result<Vec<Found>, CopyError> {
        let _job = self.copier.transfers.acquire().await;
        let failed = |e| self.source_failed(&format!("the list of what refers to {subject}"), e);
        let listed = self.from.referrers(&subject).await.map_err(failed)?;
        let mut found = Vec::new();
        let mut known = HashSet::new();
        for descriptor in listed.into_iter().filter(|descriptor| known.insert(descriptor.digest)) {
            // Annotations come from the manifest, and may be long.
            let descriptor = Descriptor { annotations: BTreeMap::new(), ..descriptor };
            found.push(Found { subject, descriptor, tag: None });
        }
        for tag in Tag::cosign(&subject) {
            let named = self.from.look_up(&tag).await.map_err(|e| self.source_failed(&format!("tag {tag}"), e))?;
            found.extend(named.map(|descriptor| Found { subject, descriptor, tag: Some(tag) }));
        }
        Ok(found)
    }

    /// Copies a referrer, if it is one.
    async fn referrer(&self, found: &Found) -> Result<Option<Descriptor>, CopyError> {
        let Found { subject, descriptor, tag } = found;
        let left_out = |reason| {
            let (image, referrer) = (&self.image, &descriptor.digest);
            self.event(Event::ReferrerLeftOut { image, subject, referrer, reason });
            Ok(None)
        };
        let failed = |source| CopyError::Referrer {
            image: self.image.clone(),
            subject: *subject,
            referrer: descriptor.digest,
            source: Box::new(source),
        };
        let manifest = match self.read(descriptor).await {
            Err(CopyError::Source { source: SourceError::NotFound { .. }, .. }) => {
                return left_out(NotAReferrer::Absent);
            }
            other => other.map_err(failed)?,
        };
        if tag.is_none() && manifest.subject().is_none_or(|named| named.digest != *subject) {
            return left_out(NotAReferrer::Stranger);
        }
        let outcome = self.outcome(&descriptor.digest);
        let copied = outcome.get_or_try_init(|| self.with_content(descriptor, manifest, 0)).await.map_err(failed)?;
        if copied.is_some() {
            self.event(Event::ReferrerDone { subject, referrer: &descriptor.digest });
        }
        Ok(copied.clone())
    }
}

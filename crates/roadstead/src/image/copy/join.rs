//! Copies images of several platforms and joins them into one index.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{CHILDREN_AT_ONCE, Copied, Copier, Copy, CopyError, converted};
use crate::image::convert::ManifestFormat;
use crate::image::events::Event;
use crate::image::join::{Part, join};
use crate::image::sink::RepositorySink;
use crate::image::source::RepositorySource;
use crate::oci::{Descriptor, Digest, Kind, Manifest, Reference, Tag};

/// An image that is to be joined with others.
#[derive(Clone)]
pub struct Joined {
    /// Where it is.
    pub from: Arc<dyn RepositorySource>,
    /// What it is called there.
    pub reference: Reference,
}

impl Copier {
    /// Copies images, and lets `tags` name an index of them there. Of an image that is an index itself the entries are taken,
    /// as far as they are there. With `onto` the entries of that index stay, but for those whose platform one of the images is
    /// for.
    ///
    /// # Errors
    ///
    /// As [`copy`](Self::copy), and [`CopyError::Join`] if the images don't make an index together; no tag has moved then.
    pub async fn join(
        &self,
        images: &[Joined],
        onto: Option<&Joined>,
        annotations: &BTreeMap<String, String>,
        to: &dyn RepositorySink,
        tags: &[Tag],
    ) -> Result<Copied, CopyError> {
        let failed = |what: String, source| CopyError::Sink { image: "the new index".to_owned(), what, source };
        to.admit(tags).await.map_err(|e| failed("a tag".to_owned(), e))?;
        let copies: Vec<Copy<'_>> = { onto.into_iter().chain(images) }
            .map(|image| self.begin(&*image.from, &image.reference, to, &[]))
            .collect();
        let mut parts = Vec::with_capacity(copies.len());
        for (copy, image) in copies.iter().zip(onto.into_iter().chain(images)) {
            parts.push(copy.part(&image.reference).await?);
        }
        let joined = |parts: &[Part]| {
            let (before, new) = parts.split_at(usize::from(onto.is_some()));
            join(new, before.first(), annotations).map_err(CopyError::Join)
        };
        // Before anything is copied that no index would name.
        let index = joined(&parts)?;
        let mut signatures = Vec::new();
        // One after the other, so that what they share is copied with the first one; their blobs come several at once.
        for (copy, part) in copies.iter().zip(&mut parts) {
            part.manifest = copy.entries(&part.manifest, &index).await?;
            if self.options.referrers {
                signatures.extend(copy.referrers().await?);
            }
            self.events.event(Event::ImageDone { image: &copy.image, descriptor: &part.manifest.descriptor() });
        }
        // Layers may have been compressed on the way.
        let index = joined(&parts)?;
        to.put_manifest(&index).await.map_err(|e| failed(format!("manifest {}", index.digest()), e))?;
        to.commit().await.map_err(|e| failed("the content".to_owned(), e))?;
        let descriptor = index.descriptor();
        let mut changed = false;
        let signatures = signatures.iter().map(|(tag, descriptor)| (tag, descriptor));
        for (tag, descriptor) in signatures.chain(tags.iter().map(|tag| (tag, &descriptor))) {
            changed |= to.tag(tag, descriptor).await.map_err(|e| failed(format!("tag {tag}"), e))?;
        }
        Ok(Copied { resolved: descriptor.clone(), descriptor, changed })
    }
}

impl Copy<'_> {
    /// What of an image an index would name. Of an index that is what the source has of it.
    async fn part(&self, reference: &Reference) -> Result<Part, CopyError> {
        let resolved = self.resolve(reference).await?;
        let manifest = self.read(&resolved).await?;
        let (manifest, platform) = if manifest.kind() == Kind::Index {
            let lacking = self.lacking(&manifest).await?;
            let there = manifest.manifests().iter().filter(|entry| !lacking.contains(&entry.digest));
            let kept = there.map(|entry| (entry.digest, entry.clone())).collect();
            (self.only(&manifest, &kept, ManifestFormat::Keep)?, None)
        } else {
            let platform = self.platform(&manifest).await?;
            (manifest, platform)
        };
        Ok(Part { image: self.image.clone(), manifest, platform })
    }

    /// Copies what `joined` names of a part. Returns the part as it is now. An index itself is not copied: nothing would name
    /// it.
    async fn entries(&self, part: &Manifest, joined: &Manifest) -> Result<Manifest, CopyError> {
        let own: Vec<Descriptor> =
            if part.kind() == Kind::Index { part.manifests().to_vec() } else { vec![part.descriptor()] };
        let named = own.into_iter().filter(|entry| joined.manifests().iter().any(|other| other.digest == entry.digest));
        let copies = stream::iter(named.collect::<Vec<_>>()).map(|entry| self.entry(entry, 0));
        let copied: Vec<(Descriptor, Option<Descriptor>)> = copies.buffered(CHILDREN_AT_ONCE).try_collect().await?;
        let now = copied.into_iter().filter_map(|(entry, copy)| Some((entry.digest, copy?))).collect();
        if part.kind() == Kind::Index {
            return self.only(part, &now, self.format);
        }
        match now.get(part.digest()).filter(|now| now.digest != *part.digest()) {
            Some(now) => self.read(now).await,
            None => Ok(part.clone()),
        }
    }

    fn only(
        &self,
        index: &Manifest,
        entries: &HashMap<Digest, Descriptor>,
        format: ManifestFormat,
    ) -> Result<Manifest, CopyError> {
        converted::index(index, entries, format, true).map_err(|e| self.convert_failed(e))
    }
}

//! Copies images of several platforms and joins them into one index.

use std::collections::BTreeMap;

use super::{Copied, Copier, CopyError, Event};
use crate::image::join::{Part, join};
use crate::image::sink::RepositorySink;
use crate::image::source::RepositorySource;
use crate::oci::{Kind, Platform, Reference, Tag};

/// An image that is to be joined with others.
pub struct Joined {
    /// Where it is.
    pub from: Box<dyn RepositorySource>,
    /// What it is called there.
    pub reference: Reference,
    /// What it runs on, if its config doesn't say so.
    pub platform: Option<Platform>,
}

impl Copier {
    /// Copies images, and lets `tags` name an index of them there. Of an image that is an index itself the entries are taken.
    /// With `onto` the entries of that index stay, but for those whose platform one of the images is for.
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
        let mut parts = Vec::with_capacity(images.len());
        // One after the other, so that what they share is copied with the first one; their blobs come several at once.
        for image in images {
            parts.push(self.part(image, to).await?);
        }
        let onto = match onto {
            Some(onto) => Some(self.part(onto, to).await?),
            None => None,
        };
        let index = join(&parts, onto.as_ref(), annotations).map_err(CopyError::Join)?;
        let failed = |what: String, source| CopyError::Sink { image: "the new index".to_owned(), what, source };
        to.put_manifest(&index).await.map_err(|e| failed(format!("manifest {}", index.digest()), e))?;
        to.commit().await.map_err(|e| failed("the content".to_owned(), e))?;
        let descriptor = index.descriptor();
        let mut changed = false;
        for tag in tags {
            changed |= to.tag(tag, &descriptor).await.map_err(|e| failed(format!("tag {tag}"), e))?;
        }
        Ok(Copied { resolved: descriptor.clone(), descriptor, changed })
    }

    /// Copies an image without a name, and says what of it an index names. An index itself is not copied, only its entries:
    /// nothing would name it.
    async fn part(&self, joined: &Joined, to: &dyn RepositorySink) -> Result<Part, CopyError> {
        let Joined { from, reference, platform } = joined;
        let copy = self.begin(&**from, reference, to);
        let resolved = copy.resolve(reference).await?;
        let manifest = copy.read(&resolved).await?;
        let (manifest, platform) = if manifest.kind() == Kind::Index {
            (copy.index(manifest, 0).await?.ok_or_else(|| copy.no_platform())?, None)
        } else {
            let copied = copy.manifest(resolved, 0).await?.ok_or_else(|| copy.no_platform())?;
            let manifest = copy.read(&copied).await?;
            let platform = match platform {
                Some(platform) => Some(platform.clone()),
                None => copy.platform(&manifest).await?,
            };
            (manifest, platform)
        };
        self.events.event(Event::ImageDone { image: &copy.image, descriptor: &manifest.descriptor() });
        Ok(Part { image: copy.image, manifest, platform })
    }
}

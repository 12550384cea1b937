//! Copies chosen images to one place: what `copy` and `save` share.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::bail;
use roadstead::image::{Copier, SourceError};
use roadstead::oci::{Digest, Kind, Platform};

use crate::args::Format;
use crate::copy_args::CopyArgs;
use crate::exit;
use crate::output::Output;
use crate::output::copied::Report;
use crate::output::progress::Progress;
use crate::transport::{Called, Destined, Offer, Place, Writer};

/// Images on their way to one place.
pub(crate) struct Transfer<'a> {
    pub(crate) copy: &'a CopyArgs,
    pub(crate) destination: &'a Place,
    pub(crate) output: &'a Output,
}

impl Transfer<'_> {
    /// Copies images. What is written as a whole, such as an archive, is there only if all of them are.
    ///
    /// # Errors
    ///
    /// If one can't be copied, or two would get the same name.
    pub(crate) async fn run(&self, images: &[Offer], writer: Writer<'_>) -> anyhow::Result<Vec<Report>> {
        let Self { destination, output, .. } = self;
        if destination.writes_stdout() && output.format == Format::Json {
            return Err(exit::usage("standard output can't hold both an archive and --format json"));
        }
        if destination.holds_one_platform() && self.copy.platforms().len() > 1 {
            return Err(exit::usage(format!("{destination} holds one platform: choose it with --platform")));
        }
        let named = self.named(images)?;
        let progress = Arc::new(Progress::new(output));
        let copier = Copier::new(self.copy.options(), progress.clone());
        let copied = self.copy_all(images, &named, &copier, writer).await;
        progress.finish();
        let reports = copied?;
        output.note_new_digests(&reports);
        Ok(reports)
    }

    async fn copy_all(
        &self,
        images: &[Offer],
        named: &[Destined],
        copier: &Copier,
        writer: Writer<'_>,
    ) -> anyhow::Result<Vec<Report>> {
        let Self { destination, output, .. } = self;
        let mut opened = writer.open(destination).await?;
        for offer in images {
            if let (Called::Image(image), Some(registry)) = (&offer.called, destination.registry())
                && image.registry == *registry
            {
                opened = opened.mount_from(&image.repository);
            }
        }
        let mut reports = Vec::new();
        for (offer, destined) in images.iter().zip(named) {
            let mut reference = offer.reference.clone();
            if destination.holds_one_platform()
                && let Some((platform, image)) = self.choose(offer).await?
            {
                if self.copy.platforms().is_empty() {
                    output.note(&format!(
                        "of {}, {platform} is taken: {} holds one platform of an image, and --platform chooses another",
                        offer.shown,
                        destination.transport()
                    ));
                }
                reference = image.into();
            }
            let sink = opened.image(&destined.at).await?;
            let tags: Vec<_> = destined.tag.iter().cloned().collect();
            let copied = copier.copy(&*offer.from, &reference, &*sink, &tags).await?;
            sink.finish().await?;
            reports.push(Report::new(offer.shown.clone(), vec![destination.show(destined)], &copied));
        }
        opened.close().await?;
        Ok(reports)
    }

    /// Prints what was copied.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub(crate) fn conclude(&self, reports: &[Report]) -> anyhow::Result<()> {
        if self.destination.writes_stdout() {
            self.output.note_copied(reports);
            return Ok(());
        }
        self.output.copied(reports)
    }

    /// What each image is called where it goes.
    fn named(&self, images: &[Offer]) -> anyhow::Result<Vec<Destined>> {
        let mut named = Vec::new();
        let mut taken: HashMap<Destined, (String, &str)> = HashMap::new();
        for offer in images {
            let destined = self.destination.name(offer)?;
            let (identity, shown) = (offer.identity(), offer.shown.as_str());
            // Several without a name stand beside each other, except where there is room for one.
            let unique = destined.tag.is_some() || matches!(self.destination, Place::Dir(_));
            if unique
                && let Some((other, before)) = taken.insert(destined.clone(), (identity.clone(), shown))
                && other != identity
            {
                bail!(
                    "{before} and {shown} would both be {}: choose one, as SOURCE:NAME",
                    self.destination.show(&destined)
                );
            }
            named.push(destined);
        }
        Ok(named)
    }

    /// The image that is taken of an index where there is room for one: that of the platform which was asked for, else of this
    /// machine's, unless there is only another. The index stays behind, since one without its images is no use to most who read
    /// archives. `None` if there is nothing to choose from, or it takes more than a look at the index.
    async fn choose(&self, offer: &Offer) -> Result<Option<(Platform, Digest)>, SourceError> {
        let named = offer.from.resolve(&offer.reference).await?;
        let index = offer.from.manifest(&named).await?;
        let images: Vec<_> = index.children().filter(|child| child.attests().is_none()).collect();
        if index.kind() != Kind::Index || images.len() < 2 {
            return Ok(None);
        }
        let absent = offer.from.left_out(index.digest()).await?;
        let there: Vec<_> = images.into_iter().filter(|child| !absent.contains(&child.digest)).collect();
        let own = [Platform::new("linux", std::env::consts::ARCH, None, None)];
        let wanted = match (self.copy.platforms(), &*there) {
            ([], [only]) => only.platform.as_slice(),
            ([], _) => &own,
            (asked, _) => asked,
        };
        let chosen = there.iter().find_map(|child| {
            let platform = child.platform.as_ref()?;
            wanted.iter().any(|wanted| platform.satisfies(wanted)).then(|| (platform.clone(), child.digest))
        });
        Ok(chosen)
    }
}

//! What was copied, as people and scripts read it.

use roadstead::image::Copied;

use super::Output;
use crate::args::Format;

/// An image that was copied.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// What it is called where it comes from.
    image: String,
    /// What names it where it went.
    names: Vec<String>,
    digest: String,
    media_type: String,
    /// Another digest than at its source, since platforms were stripped.
    #[serde(skip_serializing_if = "Option::is_none")]
    source_digest: Option<String>,
    /// Whether a name leads to something else than before.
    changed: bool,
}

impl Report {
    pub(crate) fn new(image: String, names: Vec<String>, copied: &Copied) -> Self {
        let digest = copied.descriptor.digest;
        Self {
            image,
            names,
            digest: digest.to_string(),
            media_type: copied.descriptor.media_type.clone(),
            source_digest: (copied.resolved.digest != digest).then(|| copied.resolved.digest.to_string()),
            changed: copied.changed,
        }
    }

    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// Each name with the digest.
    fn lines(&self) -> impl Iterator<Item = String> {
        self.names.iter().map(|name| {
            if name.ends_with(&format!("@{}", self.digest)) { name.clone() } else { format!("{name}@{}", self.digest) }
        })
    }
}

impl Output {
    /// Says what has another digest than at its source.
    pub(crate) fn note_new_digests(&self, reports: &[Report]) {
        for report in reports {
            if let Some(source) = &report.source_digest {
                self.note(&format!("{} has a new index: {} was {source}", report.image, report.digest));
            }
        }
    }

    /// Prints what was copied.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub(crate) fn copied(&self, reports: &[Report]) -> anyhow::Result<()> {
        match self.format {
            Format::Json => self.json(&reports),
            Format::Text => reports.iter().flat_map(Report::lines).try_for_each(|line| self.result(&line)),
        }
    }

    /// The same, where standard output is where an image goes.
    pub(crate) fn note_copied(&self, reports: &[Report]) {
        reports.iter().flat_map(Report::lines).for_each(|line| self.note(&line));
    }
}

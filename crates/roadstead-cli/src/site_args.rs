//! What a site is to be, on the command line.

use crate::exit;
use roadstead::oci::Repository;
use roadstead::site::{Elsewhere, Raised, Site, Survey};
use roadstead::tree::Tree;

/// Sites of plain files: what is where, and what the host takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options for hosts of plain files")]
pub(crate) struct SiteArgs {
    /// Send clients elsewhere for blobs: the base URL of another tree or bucket, or a pattern with {name} and {digest} or {hex}
    #[arg(long, value_name = "URL", value_parser = Elsewhere::blobs)]
    pub(crate) blobs_at: Option<Elsewhere>,

    /// Send clients elsewhere for manifests, likewise, with {reference} for a tag or digest
    #[arg(long, value_name = "URL", value_parser = Elsewhere::manifests)]
    pub(crate) manifests_at: Option<Elsewhere>,

    /// A limit of the host that is higher for you, such as files=100000; may be repeated
    #[arg(long = "limit", value_name = "MEASURE=NUMBER")]
    pub(crate) limits: Vec<Raised>,
}

impl SiteArgs {
    /// Refuses what is only for hosts of plain files.
    pub(crate) fn refuse_for(&self, host: &str) -> anyhow::Result<()> {
        let given = [
            ("--blobs-at", self.blobs_at.is_some()),
            ("--manifests-at", self.manifests_at.is_some()),
            ("--limit", !self.limits.is_empty()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(exit::usage(format!("{option} is for hosts of plain files, which {host} is not"))),
            None => Ok(()),
        }
    }

    /// A site over what a tree holds.
    pub(crate) async fn survey(self, tree: &Tree, name_prefix: Option<Repository>) -> anyhow::Result<Site> {
        let Self { blobs_at, manifests_at, limits } = self;
        let survey = Survey::of(tree).await?;
        Ok(Site { name_prefix, survey, blobs_at, manifests_at, raised: limits, ..Site::default() })
    }
}

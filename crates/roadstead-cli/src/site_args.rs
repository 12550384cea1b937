//! What a site is to be, on the command line.

use std::ffi::OsString;

use crate::bucket_args::{BucketArgs, TreePlace};
use crate::exit;
use crate::output::Output;
use roadstead::oci::Repository;
use roadstead::site::{Elsewhere, Raised, Site};
use roadstead::store::bucket::BucketUrl;
use roadstead::tree::{Private, Tree};

/// What becomes of private repositories where a tree is shown.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Options for trees with private repositories")]
pub(crate) struct PrivateArgs {
    /// Leave out private repositories
    #[arg(long, conflicts_with = "authenticated")]
    pub(crate) without_private: bool,

    /// Show private repositories as well: what stands in front asks everybody who they are
    #[arg(long)]
    pub(crate) authenticated: bool,
}

/// How many private repositories an error names.
const NAMED: usize = 3;

impl PrivateArgs {
    /// Refuses these where there is no tree.
    pub(crate) fn refuse(self, why: &str) -> anyhow::Result<()> {
        match self.option() {
            Some(option) => Err(exit::usage(format!("{option} {why}"))),
            None => Ok(()),
        }
    }

    /// Which of them was given.
    pub(crate) fn option(self) -> Option<&'static str> {
        match (self.without_private, self.authenticated) {
            (true, _) => Some("--without-private"),
            (_, true) => Some("--authenticated"),
            _ => None,
        }
    }

    /// What has to be left out of a tree when `who` shows it. A tree with private repositories is refused unless it was said what
    /// becomes of them.
    pub(crate) async fn check(self, tree: &Tree, who: &str) -> anyhow::Result<Private> {
        if self.authenticated {
            return Ok(Private::default());
        }
        let private = tree.private().await?;
        if !self.without_private {
            let held = tree.private_repositories(&private).await?;
            anyhow::ensure!(held.is_empty(), "{}: {}", named(tree, &held), self.ways_out(who, true));
        }
        Ok(private)
    }

    /// The same for what shows whatever the tree comes to hold, and can leave nothing out.
    pub(crate) async fn check_all(self, tree: &Tree, who: &str) -> anyhow::Result<()> {
        if self.without_private {
            return Err(exit::usage(format!(
                "--without-private is for what is published and for `roadstead serve`: {who} answers with whatever the tree holds"
            )));
        }
        if self.authenticated {
            return Ok(());
        }
        let private = tree.private().await?;
        let held = tree.private_repositories(&private).await?;
        anyhow::ensure!(held.is_empty(), "{}: {}", named(tree, &held), self.ways_out(who, false));
        let patterns = private.patterns();
        anyhow::ensure!(
            patterns.is_empty(),
            "{} keeps a place for private repositories ({}, by {}): {}",
            tree.store().describe(),
            patterns.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", "),
            Private::PLACE,
            self.ways_out(who, false)
        );
        Ok(())
    }

    fn ways_out(self, who: &str, filters: bool) -> String {
        let less = if filters {
            "--without-private leaves them out"
        } else {
            "`roadstead publish` and `roadstead serve` can leave them out (--without-private)"
        };
        format!(
            "{who} would show them to anybody; {less}, and --authenticated says that only those get there who may see them"
        )
    }
}

/// What is private, in words for an error.
fn named(tree: &Tree, held: &[Repository]) -> String {
    let mut names: Vec<String> = held.iter().take(NAMED).map(ToString::to_string).collect();
    if held.len() > NAMED {
        names.push(format!("and {} more", held.len() - NAMED));
    }
    let (count, are) = if held.len() == 1 {
        ("one repository".to_owned(), "is")
    } else {
        (format!("{} repositories", held.len()), "are")
    };
    format!("{count} of {} {are} private ({}, by {})", tree.store().describe(), names.join(", "), Private::PLACE)
}

/// Says so if there is nothing that could be pulled, which may be meant.
pub(crate) fn note_if_empty(site: &Site, output: &Output) {
    if site.survey.repositories.is_empty() {
        output.note("nothing can be pulled from it: the tree has no image, or none that is to be shown");
    }
}

/// Sites of plain files: what is where, and what the host takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options for hosts of plain files")]
pub(crate) struct SiteArgs {
    /// Send clients elsewhere for blobs: the base URL of another tree or bucket, or a pattern with {name} and {digest} or {hex}.
    /// s3://BUCKET[/PREFIX], az:// and gs:// are what everybody may read of a bucket, at the URLs that the service itself gives it;
    /// `publish` first sends the blobs there
    #[arg(long, value_name = "URL", value_parser = BlobsAt::read)]
    pub(crate) blobs_at: Option<BlobsAt>,

    /// Send clients elsewhere for manifests, likewise, with {reference} for a tag or digest
    #[arg(long, value_name = "URL", value_parser = Elsewhere::manifests)]
    pub(crate) manifests_at: Option<Elsewhere>,

    /// A limit of the host that is higher for you, such as files=100000; may be repeated
    #[arg(long = "limit", value_name = "MEASURE=NUMBER")]
    pub(crate) limits: Vec<Raised>,
}

impl SiteArgs {
    /// Refuses these for what is no host of plain files.
    pub(crate) fn refuse_for(&self, what: &str) -> anyhow::Result<()> {
        let given = [
            ("--blobs-at", self.blobs_at.is_some()),
            ("--manifests-at", self.manifests_at.is_some()),
            ("--limit", !self.limits.is_empty()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(exit::usage(format!(
                "{option} is for hosts of plain files, and {what} is none: see `roadstead config`"
            ))),
            None => Ok(()),
        }
    }

    /// A site of what a tree holds.
    ///
    /// # Errors
    ///
    /// If it isn't known at which URL a bucket is.
    pub(crate) fn site(self, bucket: &BucketArgs) -> anyhow::Result<Site> {
        let Self { blobs_at, manifests_at, limits: raised } = self;
        let blobs_at = match blobs_at {
            None => None,
            Some(BlobsAt::Url(place)) => Some(place),
            Some(BlobsAt::Bucket(place)) => Some(Elsewhere::blobs(&bucket.open(&place)?.url())?),
        };
        Ok(Site { blobs_at, manifests_at, raised, ..Site::default() })
    }
}

/// Where blobs are.
#[derive(Debug, Clone)]
pub(crate) enum BlobsAt {
    Url(Elsewhere),
    Bucket(BucketUrl),
}

impl BlobsAt {
    fn read(typed: &str) -> anyhow::Result<Self> {
        match TreePlace::try_from(OsString::from(typed)) {
            Ok(TreePlace::Bucket(place)) => Ok(Self::Bucket(place)),
            Err(problem) if !typed.starts_with("http") => anyhow::bail!("{problem}"),
            _ => Ok(Self::Url(Elsewhere::blobs(typed)?)),
        }
    }
}

//! What is typed for how images are copied: the same for every command that copies.

use roadstead::image::{CopyOptions, Platforms};
use roadstead::oci::Platform;

/// How images are copied.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CopyArgs {
    /// Copy only these platforms; the index stays as it is, and a tree records what was left out
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    platforms: Vec<Platform>,

    /// With --platform: write a new index that names only them (it has another digest)
    #[arg(long, requires = "platforms")]
    strip_removed_platforms: bool,

    /// Copy also what refers to the images: signatures, attestations, SBOMs
    #[arg(long)]
    referrers: bool,

    /// How many blobs are copied at once
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
}

impl CopyArgs {
    /// The platforms that were asked for; none means all.
    pub(crate) fn platforms(&self) -> &[Platform] {
        &self.platforms
    }

    /// What the library makes of it.
    pub(crate) fn options(&self) -> CopyOptions {
        let platforms = match (self.platforms.is_empty(), self.strip_removed_platforms) {
            (true, _) => Platforms::All,
            (false, false) => Platforms::Keep(self.platforms.clone()),
            (false, true) => Platforms::Strip(self.platforms.clone()),
        };
        CopyOptions { jobs: usize::from(self.jobs), platforms, referrers: self.referrers }
    }
}

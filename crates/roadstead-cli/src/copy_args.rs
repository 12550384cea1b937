//! What is typed for how images are copied: the same for every command that copies.

use std::str::FromStr;

use roadstead::image::{
    Bandwidth, Compress, Compression, CompressionError, CopyOptions, ManifestFormat, Method, Platforms,
};
use roadstead::oci::Platform;

use crate::args::Global;
use crate::exit;

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

    /// Compress layers that arrive uncompressed, or don't: gzip[:1-9], zstd[:1-19] or none. Those that arrive compressed stay as
    /// they are. Without the option gzip is for images whose source has no manifest, such as docker archives, unless they go to
    /// a docker archive, an engine or dir:
    #[arg(long, value_name = "FORMAT[:LEVEL]")]
    compress: Option<Wanted>,

    /// How many blobs are copied at once
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,

    /// Copy no more bytes a second than this, all blobs together: 500kB/s, 10M, 1MiB/s
    #[arg(long, value_name = "RATE")]
    max_bandwidth: Option<Bandwidth>,
}

/// What is typed for a compression.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    None,
    Compression(Compression),
}

impl FromStr for Wanted {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, CompressionError> {
        if text == "none" { Ok(Self::None) } else { text.parse().map(Self::Compression) }
    }
}

impl CopyArgs {
    /// The platforms that were asked for; none means all.
    pub(crate) fn platforms(&self) -> &[Platform] {
        &self.platforms
    }

    /// What the library makes of it. `compress` is what is done to layers if nobody says.
    ///
    /// # Errors
    ///
    /// If what was asked for doesn't go together.
    pub(crate) fn options(&self, global: &Global, compress: Compress) -> anyhow::Result<CopyOptions> {
        let format = global.manifests().unwrap_or_default();
        let compress = match self.compress {
            None => compress,
            Some(Wanted::None) => Compress::Never,
            Some(Wanted::Compression(compression)) => {
                if compression.method() == Method::Zstd && format == ManifestFormat::V2s2 {
                    return Err(exit::usage(
                        "Docker's manifests have no name for layers in zstd: --compress zstd needs --format oci",
                    ));
                }
                Compress::All(compression)
            }
        };
        let platforms = match (self.platforms.is_empty(), self.strip_removed_platforms) {
            (true, _) => Platforms::All,
            (false, false) => Platforms::Keep(self.platforms.clone()),
            (false, true) => Platforms::Strip(self.platforms.clone()),
        };
        let (jobs, referrers, bandwidth) = (usize::from(self.jobs), self.referrers, self.max_bandwidth);
        Ok(CopyOptions { jobs, platforms, referrers, compress, format, bandwidth })
    }
}

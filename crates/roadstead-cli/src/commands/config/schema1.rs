//! `--flavour schema1`: a site of its own for hosts that send no headers.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use roadstead::host::{Headerless, Host};
use roadstead::image::SigningKey;
use roadstead::oci::Platform;
use roadstead::publish::{PlainFolder, Schema1Site};
use roadstead::tree::TreeSource;

use crate::args::Global;
use crate::exit;
use crate::output::{Output, size};
use crate::site_args::PrivateArgs;

/// How the images of a site are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Flavour {
    /// Each tag as a signed manifest of schema 1, for one platform
    Schema1,
}

/// For hosts that send no headers.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Hosts without headers")]
pub(super) struct Schema1Args {
    /// Write a site of plain files into the folder of -o, its tags in the one form that podman, skopeo, CRI-O and old Docker
    /// understand without being told what it is: signed manifests of schema 1
    #[arg(long, value_enum, value_name = "FLAVOUR", conflicts_with_all = [
        "snippet", "standalone", "edge", "pinned", "name_prefix", "listen", "server_root", "cors", "blobs_at", "manifests_at", "limits",
        "around", "program", "image", "claim",
    ])]
    flavour: Option<Flavour>,

    /// The platform whose images are taken; without it, linux and this machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", requires = "flavour")]
    platform: Option<Platform>,

    /// The key that is signed with, a JSON Web Key; made if it isn't there. Without it, the folder's name with .key.json
    #[arg(long, value_name = "FILE", requires = "flavour")]
    signing_key: Option<PathBuf>,
}

impl Schema1Args {
    pub(super) fn is_wanted(&self) -> bool {
        self.flavour.is_some()
    }

    pub(super) async fn run(
        &self,
        host: &dyn Host,
        folder: &Path,
        force: bool,
        private: PrivateArgs,
        global: &Global,
        output: &Output,
    ) -> anyhow::Result<()> {
        let headerless = host.headerless().with_context(|| {
            format!("{} sends the right headers, so every client pulls from it without --flavour", host.name())
        })?;
        let tree = crate::commands::open_tree(&global.tree, &global.bucket).await?;
        let without = private.check(&tree, host.name()).await?;
        let source = TreeSource::new(tree).without(without);
        let (key, made) = self.key(folder)?;
        let own = Platform::new("linux", std::env::consts::ARCH, None, None);
        let platform = self.platform.as_ref().unwrap_or(&own);
        let site = Schema1Site::plan(&source, platform, &key).await?;
        fits(host.name(), headerless, &site)?;
        for left_out in site.left_out() {
            output.note(&format!("{}:{} is left out: {}", left_out.repository, left_out.tag, left_out.reason));
        }
        // Neither is written before it is certain that the site has a place.
        PlainFolder::create(folder)?;
        if let Some(path) = made {
            keep(&key, &path, output)?;
        }
        let done = site.write(folder, headerless.beside, force).await?;
        if done.tags == 0 {
            output.note(&format!("{}: nothing can be pulled from it, since no tag has such a form", folder.display()));
        }
        output.note(&format!(
            "{}: {} tag{} for {platform}, {}; {} files written, {} unchanged, {} removed",
            folder.display(),
            done.tags,
            if done.tags == 1 { "" } else { "s" },
            size(site.size()),
            done.written,
            done.unchanged,
            done.removed
        ));
        Ok(())
    }

    /// The key of the site, and where it belongs if it was made just now: beside the folder, never in what is served.
    fn key(&self, folder: &Path) -> anyhow::Result<(SigningKey, Option<PathBuf>)> {
        let beside = || Some(folder.with_file_name(format!("{}.key.json", folder.file_name()?.to_str()?)));
        let path = self.signing_key.clone().or_else(beside);
        let path =
            path.ok_or_else(|| exit::usage("the folder's name makes no name for a key: give one with --signing-key"))?;
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let key = SigningKey::from_jwk(&text).with_context(|| format!("{} can't be used", path.display()))?;
                Ok((key, None))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((SigningKey::generate(), Some(path))),
            Err(error) => Err(error).with_context(|| format!("{} can't be read", path.display())),
        }
    }
}

/// Writes a key that was made, for nobody else to read.
fn keep(key: &SigningKey, path: &Path, output: &Output) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(path);
    let written = made.and_then(|mut file| file.write_all(key.to_jwk().as_bytes()));
    written.with_context(|| format!("{} can't be written", path.display()))?;
    output.note(&format!(
        "made {}: with the same key the same images make the same site; it is not for publishing",
        path.display()
    ));
    Ok(())
}

/// Refuses what the host has no room for, before anything is written.
fn fits(host: &str, limits: Headerless, site: &Schema1Site<'_>) -> anyhow::Result<()> {
    let Headerless { largest_site, largest_file, limits_from, .. } = limits;
    let way_out = "thin the tree out, or serve it from another host";
    let (file, bytes) = site.largest().unwrap_or_default();
    if let Some(limit) = largest_file.filter(|limit| bytes > *limit) {
        let (bytes, limit) = (size(bytes), size(limit));
        bail!("{file} has {bytes}, and {host} takes files of {limit} at most ({limits_from}): {way_out}");
    }
    if let Some(limit) = largest_site.filter(|limit| site.size() > *limit) {
        let (bytes, limit) = (size(site.size()), size(limit));
        bail!("the site would have {bytes}, and {host} takes {limit} at most ({limits_from}): {way_out}");
    }
    Ok(())
}

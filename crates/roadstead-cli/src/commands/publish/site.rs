//! Folders of plain files.

use std::path::Path;

use anyhow::Context as _;
use roadstead::host;
use roadstead::publish::{FolderOptions, PlainFolder, Published};
use roadstead::site::{Form, Site, Survey};

use super::{Publish, check};
use crate::args::{Global, Printed};
use crate::bucket_args::TreePlace;
use crate::exit;
use crate::output::{Output, size};
use crate::site_args::BlobsAt;

/// Makes `to` hold what the tree holds, with the configuration of a host.
pub(super) async fn write(args: Publish, to: &Path, global: &Global, output: &Output) -> anyhow::Result<()> {
    let Some(host) = args.host.as_deref().and_then(host::find) else {
        return Err(exit::usage("site:DIR is made for a host that takes a folder: name it with --host"));
    };
    let Some(public) = host.public() else {
        return Err(exit::usage(format!("{} takes no folder", host.name())));
    };
    let tree = crate::commands::open(global).await?;
    let without = args.private.check(&tree, host.name()).await?;
    let bucket = match &args.site.blobs_at {
        Some(BlobsAt::Bucket(bucket)) => Some(bucket.clone()),
        _ => None,
    };
    let survey = Survey::without(&tree, &without).await?;
    let name_prefix = args.name_prefix.clone();
    let mut site = Site { name_prefix, survey, cors: args.cors, ..args.site.clone().site(&global.bucket)? };
    if args.edge {
        site.form = Form::Edge;
    }
    crate::site_args::note_if_empty(&site, output);
    // Whatever the host can't take is said before anything is sent.
    host.render(&site)?;
    // What the site leads to is there before the site.
    if let Some(bucket) = bucket {
        let given = [("--blobs-to", args.blobs_to.is_some()), ("--name-prefix", args.name_prefix.is_some())];
        if let Some((option, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(exit::usage(format!("{option} doesn't go with --blobs-at {bucket}")));
        }
        let (url, place) = (global.bucket.open(&bucket)?.url(), TreePlace::Bucket(bucket));
        super::tree::send(&args, &place, &tree, &without, global, output).await?;
        let pulled = check::pull_any(&url.parse()?, &without, &tree, &args.registry).await;
        pulled.with_context(|| {
            format!(
                "{place} has the blobs, but whoever has no keys can't pull from {url}: let everybody read what lies below \
                 v2/, or say with --blobs-at URL --blobs-to {place} where they can"
            )
        })?;
    }
    if let Some(place) = &args.blobs_to {
        super::tree::send(&args, place, &tree, &without, global, output).await?;
    }
    let mut published = Published::default();
    for attempt in 1.. {
        // Whatever the host can't take is said before anything is written.
        let files = host.render(&site)?.into_iter().map(|file| (file.name, file.text.to_string()));
        let files: Vec<(String, String)> = files.collect();
        let folder = PlainFolder::create(to)?;
        let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let options = FolderOptions {
            public,
            name_prefix: site.name_prefix.as_ref(),
            blobs: site.blobs_at.is_none(),
            manifests: site.manifests_at.is_none(),
            leaves_out: &|reference| host.serves_as_page(site.form, reference),
            without: &without,
            force: args.force,
        };
        published = published.and(folder.write(&tree, options, &files).await?);
        // The configuration is about what the tree held before: what came meanwhile would have the wrong type.
        let now = Survey::without(&tree, &without).await?;
        if now == site.survey {
            break;
        }
        anyhow::ensure!(
            attempt < super::ATTEMPTS,
            "{} changes again and again: try it when nobody adds to it",
            global.tree
        );
        site.survey = now;
    }
    for kept in &published.kept {
        output.note(&format!("{}: changed by hand, and left as it is", to.join(kept).display()));
    }
    match output.format {
        Printed::Json => output.json(&published),
        Printed::Text => {
            output.note(&format!(
                "{}: {} files written ({}), {} unchanged, {} removed",
                to.display(),
                published.written,
                size(published.bytes),
                published.unchanged,
                published.removed
            ));
            Ok(())
        }
    }
}

//! `roadstead inspect`

use anyhow::Context as _;
use roadstead::oci::{Descriptor, Kind, Manifest, Reference, Tag};
use roadstead::tree::{Tree, TreeError};

use super::Name;
use crate::args::{Format, Global};
use crate::output::{Output, size};

/// Show what a name in the tree leads to
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// REPOSITORY[:TAG] or REPOSITORY@DIGEST; without either, the tag latest
    name: Name,

    /// Print the manifest as it is, byte for byte
    #[arg(long)]
    raw: bool,
}

/// What is said about a manifest, and about those within it.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    digest: String,
    media_type: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: std::collections::BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Content>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Content>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<Self>,
    /// Whether an index names it and the tree doesn't have it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    absent: bool,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    digest: String,
    media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl From<&Descriptor> for Content {
    fn from(descriptor: &Descriptor) -> Self {
        Self { digest: descriptor.digest.to_string(), media_type: descriptor.media_type.clone(), size: descriptor.size }
    }
}

pub(crate) async fn run(args: Inspect, global: &Global, output: &Output) -> anyhow::Result<()> {
    let tree = super::open(global).await?;
    let Name { repository, reference } = &args.name;
    let reference = reference.clone().unwrap_or(Reference::Tag(Tag::latest()));
    let separator = if matches!(reference, Reference::Tag(_)) { ':' } else { '@' };
    let name = format!("{repository}{separator}{reference}");
    let manifest = tree.find(repository, &reference).await?;
    let manifest = manifest.ok_or_else(|| TreeError::Unknown(name.clone()))?;
    if args.raw {
        use std::io::Write as _;
        return std::io::stdout().write_all(manifest.bytes()).context("standard output is closed");
    }
    let mut report = report(&tree, &args.name, &manifest, None, 0).await?;
    report.name = Some(name);
    match output.format {
        Format::Json => output.json(&report),
        Format::Text => {
            let mut lines = Vec::new();
            report.print(0, &mut lines);
            output.result(&lines.join("\n"))
        }
    }
}

async fn report(
    tree: &Tree,
    name: &Name,
    manifest: &Manifest,
    descriptor: Option<&Descriptor>,
    depth: usize,
) -> anyhow::Result<Report> {
    let mut manifests = Vec::new();
    // A tree that a copy wrote is no deeper; another one is not followed without end.
    let children = manifest.children().filter(|_| depth < roadstead::image::MAX_DEPTH);
    for child in children {
        let found = tree.find(&name.repository, &Reference::Digest(child.digest)).await?;
        manifests.push(match found {
            Some(found) => Box::pin(report(tree, name, &found, Some(child), depth + 1)).await?,
            None => Report::absent(child),
        });
    }
    let platform = descriptor.and_then(|descriptor| descriptor.platform.as_ref()).map(ToString::to_string);
    Ok(Report {
        name: None,
        platform,
        digest: manifest.digest().to_string(),
        media_type: manifest.media_type().to_string(),
        size: manifest.bytes().len() as u64,
        artifact_type: manifest
            .artifact_type()
            .filter(|_| manifest.kind() != Kind::Image || manifest.subject().is_some())
            .map(str::to_owned),
        subject: manifest.subject().map(|subject| subject.digest.to_string()),
        annotations: manifest.annotations().clone(),
        config: manifest.config().map(Content::from),
        layers: manifest.layers().iter().map(Content::from).collect(),
        manifests,
        absent: false,
    })
}

impl Report {
    fn absent(descriptor: &Descriptor) -> Self {
        Self {
            name: None,
            platform: descriptor.platform.as_ref().map(ToString::to_string),
            digest: descriptor.digest.to_string(),
            media_type: descriptor.media_type.clone(),
            size: descriptor.size.unwrap_or(0),
            artifact_type: None,
            subject: None,
            annotations: descriptor.annotations.clone(),
            config: None,
            layers: Vec::new(),
            manifests: Vec::new(),
            absent: true,
        }
    }

    fn print(&self, depth: usize, lines: &mut Vec<String>) {
        let indent = "  ".repeat(depth);
        let mut line = |label: &str, text: &str| lines.push(format!("{indent}{label:<12}{text}"));
        if let Some(name) = &self.name {
            line("Name:", name);
        }
        if let Some(platform) = &self.platform {
            line("Platform:", platform);
        }
        line("Digest:", &self.digest);
        line("Type:", &self.media_type);
        if self.absent {
            line("Absent:", "the index names it, and this tree does not hold it");
            return;
        }
        line("Size:", &size(self.size));
        if let Some(artifact_type) = &self.artifact_type {
            line("Artifact:", artifact_type);
        }
        if let Some(subject) = &self.subject {
            line("Subject:", subject);
        }
        for (key, value) in &self.annotations {
            line("Annotation:", &format!("{key}={value}"));
        }
        if let Some(config) = &self.config {
            line("Config:", &config.to_string());
        }
        for layer in &self.layers {
            line("Layer:", &layer.to_string());
        }
        for manifest in &self.manifests {
            lines.push(String::new());
            manifest.print(depth + 1, lines);
        }
    }
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.size.map_or_else(|| "-".to_owned(), size);
        write!(f, "{} {bytes:>8} {}", self.digest, self.media_type)
    }
}

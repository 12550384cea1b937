//! `roadstead list`

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use roadstead::oci::{Digest, Reference, Repository, Tag};
use roadstead::tree::{Pointer, Summary, Tree, TreeError};

use super::Name;
use crate::args::{Global, Printed};
use crate::output::{Output, Table, size};

/// List what the tree holds
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only these: REPOSITORY or REPOSITORY:TAG
    #[arg(value_name = "NAME")]
    names: Vec<Name>,

    /// Also platforms and sizes, for which every manifest is read
    #[arg(short, long, conflicts_with = "flat")]
    long: bool,

    /// Only names, one a line: REPOSITORY:TAG
    #[arg(long)]
    flat: bool,

    /// Also what is there by digest alone, and the tags of cosign's signatures
    #[arg(short, long)]
    all: bool,

    /// Whole digests
    #[arg(long)]
    no_trunc: bool,
}

/// How many repositories are read at once.
const AT_ONCE: usize = 8;

/// A name and what it leads to.
#[derive(serde::Serialize)]
struct Row {
    repository: Repository,
    tag: Option<String>,
    #[serde(skip)]
    pointer: Pointer,
    /// Where it is shown.
    #[serde(flatten)]
    summary: Option<Summary>,
}

pub(crate) async fn run(args: List, global: &Global, output: &Output) -> anyhow::Result<()> {
    let tree = super::open(global).await?;
    let mut repositories: Vec<Repository> = if args.names.is_empty() {
        tree.repositories().try_collect().await?
    } else {
        args.names.iter().map(|name| name.repository.clone()).collect()
    };
    repositories.sort_unstable();
    repositories.dedup();

    // Names and types are in links; all else is in manifests and configs, and ten thousand of them take a moment.
    let summarized = args.long || output.format == Printed::Json;
    let listed = stream::iter(repositories).map(async |repository| {
        let wanted: Vec<&Name> = args.names.iter().filter(|name| name.repository == repository).collect();
        let mut listed = list(&tree, &repository, &wanted, &args).await?;
        if !wanted.is_empty() && listed.is_empty() {
            let name = wanted.iter().find_map(|name| Some(format!("{repository}:{}", name.reference.as_ref()?)));
            return Err(TreeError::Unknown(name.unwrap_or_else(|| repository.to_string())).into());
        }
        if summarized {
            summarize(&tree, &repository, &mut listed).await?;
        }
        anyhow::Ok(listed)
    });
    let rows: Vec<Row> = listed.buffered(AT_ONCE).try_concat().await?;
    match output.format {
        Printed::Json => output.json(&rows),
        Printed::Text if args.flat => rows.iter().try_for_each(|row| output.result(&row.name())),
        Printed::Text if rows.is_empty() => {
            output.note("the tree is empty; `roadstead add IMAGE` fills it");
            Ok(())
        }
        Printed::Text => {
            let columns = ["REPOSITORY", "TAG", "DIGEST", "TYPE", "PLATFORMS", "SIZE"];
            let mut table = Table::new(if args.long { &columns } else { &columns[..4] });
            for row in &rows {
                table.row(row.cells(args.no_trunc));
            }
            output.result(&table.render())
        }
    }
}

/// The rows of one repository: its tags, then what is there by digest alone.
async fn list(tree: &Tree, repository: &Repository, wanted: &[&Name], args: &List) -> anyhow::Result<Vec<Row>> {
    let is_wanted = |reference: &Reference| {
        wanted.is_empty() || wanted.iter().any(|name| name.reference.as_ref().is_none_or(|r| r == reference))
    };
    let mut tags = BTreeMap::new();
    for (tag, pointer) in tree.tags(repository).await? {
        let reference = Reference::Tag(tag);
        let named = wanted.iter().any(|name| name.reference.as_ref() == Some(&reference));
        let shown = is_wanted(&reference);
        let Reference::Tag(tag) = reference else { continue };
        // Beside the tags of signatures nobody would find the images; `inspect` shows them with what they are about.
        if shown && (args.all || named || !is_about_an_image(tree, repository, &tag).await?) {
            tags.insert(tag, pointer);
        }
    }
    let mut untagged = BTreeMap::new();
    if args.all || wanted.iter().any(|name| matches!(name.reference, Some(Reference::Digest(_)))) {
        let mut lists = BTreeSet::new();
        let mut names = tree.names(repository);
        while let Some((reference, pointer)) = names.try_next().await? {
            match reference {
                Reference::Digest(digest) if is_wanted(&reference) => drop(untagged.insert(digest, pointer)),
                Reference::Tag(tag) if tag.is_referrers_fallback() => drop(lists.insert(pointer.digest)),
                Reference::Digest(_) | Reference::Tag(_) => {}
            }
        }
        // Lists of referrers are derived, and nobody added them.
        let tagged: BTreeSet<&Digest> = tags.values().map(|pointer| &pointer.digest).collect();
        untagged.retain(|digest, _| !tagged.contains(digest) && !lists.contains(digest));
    }
    let row = |tag, pointer| Row { repository: repository.clone(), tag, pointer, summary: None };
    let tagged = tags.into_iter().map(|(tag, pointer)| row(Some(tag.to_string()), pointer));
    Ok(tagged.chain(untagged.into_values().map(|pointer| row(None, pointer))).collect())
}

/// Says more of each row than its name does.
async fn summarize(tree: &Tree, repository: &Repository, rows: &mut [Row]) -> anyhow::Result<()> {
    // Many tags may name one manifest.
    let pointers: BTreeMap<Digest, Pointer> =
        rows.iter().map(|row| (row.pointer.digest, row.pointer.clone())).collect();
    let summaries = tree.summaries(repository, pointers.into_values().collect()).await?;
    for row in rows {
        row.summary = summaries.get(&row.pointer.digest).cloned();
    }
    Ok(())
}

/// Whether cosign derived the tag from the digest of something that is there.
async fn is_about_an_image(tree: &Tree, repository: &Repository, tag: &Tag) -> Result<bool, TreeError> {
    match tag.cosign_subject() {
        Some(subject) => Ok(tree.resolve(repository, &Reference::Digest(subject)).await?.is_some()),
        None => Ok(false),
    }
}

impl Row {
    fn name(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}:{tag}", self.repository),
            None => format!("{}@{}", self.repository, self.pointer.digest),
        }
    }

    fn cells(&self, no_trunc: bool) -> Vec<String> {
        let Pointer { digest, media_type, .. } = &self.pointer;
        let mut cells = vec![
            self.repository.to_string(),
            self.tag.clone().unwrap_or_else(|| "-".to_owned()),
            if no_trunc { digest.to_string() } else { digest.short() },
            media_type.short().to_owned(),
        ];
        if let Some(Summary { platforms, size: bytes, .. }) = &self.summary {
            let platforms = match platforms.as_slice() {
                [] => "-".to_owned(),
                few if few.len() <= 4 || no_trunc => join(few),
                many => format!("{}, and {} more", join(&many[..3]), many.len() - 3),
            };
            cells.extend([platforms, size(*bytes)]);
        }
        cells
    }
}

fn join(platforms: &[roadstead::oci::Platform]) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

//! `roadstead list`

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
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

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    repository: Repository,
    tag: Option<String>,
    #[serde(skip)]
    name: Digest,
    /// Unless only names are asked for.
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

    let mut rows = Vec::new();
    for repository in repositories {
        let wanted: Vec<&Name> = args.names.iter().filter(|name| name.repository == repository).collect();
        let before = rows.len();
        let names_only = args.flat && output.format == Printed::Text;
        list(&tree, &repository, &wanted, &args, names_only, &mut rows).await?;
        if !wanted.is_empty() && rows.len() == before {
            let name = wanted.iter().find_map(|name| Some(format!("{repository}:{}", name.reference.as_ref()?)));
            return Err(TreeError::Unknown(name.unwrap_or_else(|| repository.to_string())).into());
        }
    }
    match output.format {
        Printed::Json => output.json(&rows),
        Printed::Text if args.flat => rows.iter().try_for_each(|row| output.result(&row.name())),
        Printed::Text if rows.is_empty() => {
            output.note("the tree is empty; `roadstead add IMAGE` fills it");
            Ok(())
        }
        Printed::Text => {
            let mut table = Table::new(&["REPOSITORY", "TAG", "DIGEST", "TYPE", "PLATFORMS", "SIZE"]);
            for row in &rows {
                table.row(row.cells(args.no_trunc));
            }
            output.result(&table.render())
        }
    }
}

async fn list(
    tree: &Tree,
    repository: &Repository,
    wanted: &[&Name],
    args: &List,
    names_only: bool,
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let is_wanted = |reference: &Reference| {
        wanted.is_empty() || wanted.iter().any(|name| name.reference.as_ref().is_none_or(|r| r == reference))
    };
    let mut tags = BTreeMap::new();
    let mut untagged = BTreeMap::new();
    let mut lists = BTreeSet::new();
    let mut names = tree.names(repository);
    while let Some((reference, pointer)) = names.try_next().await? {
        let shown = is_wanted(&reference);
        match reference {
            Reference::Tag(tag) if tag.is_referrers_fallback() => drop(lists.insert(pointer.digest)),
            Reference::Tag(_) if !shown => {}
            Reference::Tag(tag) => {
                let named = wanted.iter().any(|name| name.reference.as_ref() == Some(&Reference::Tag(tag.clone())));
                // Beside the tags of signatures nobody would find the images; `inspect` shows them with what they are about.
                let shown = args.all || named || !is_about_an_image(tree, repository, &tag).await?;
                if shown {
                    tags.insert(tag, pointer);
                }
            }
            Reference::Digest(digest) if shown && (args.all || !wanted.is_empty()) => {
                untagged.insert(digest, pointer);
            }
            Reference::Digest(_) => {}
        }
    }
    for pointer in tags.values() {
        untagged.remove(&pointer.digest);
    }
    let by_digest = args.all || wanted.iter().any(|name| matches!(name.reference, Some(Reference::Digest(_))));
    // Lists of referrers are derived, and nobody added them.
    untagged.retain(|digest, _| by_digest && !lists.contains(digest));
    // Many tags may name one manifest, and only names need no look at it.
    let mut pointers: BTreeMap<Digest, Pointer> = BTreeMap::new();
    if !names_only {
        let all = tags.values().chain(untagged.values());
        pointers.extend(all.map(|pointer| (pointer.digest, pointer.clone())));
    }
    let summaries = tree.summaries(repository, pointers.into_values().collect()).await?;
    let row = |tag: Option<String>, digest: Digest| {
        let summary = summaries.get(&digest).cloned();
        Row { repository: repository.clone(), tag, name: digest, summary }
    };
    rows.extend(tags.iter().map(|(tag, pointer)| row(Some(tag.to_string()), pointer.digest)));
    rows.extend(untagged.into_keys().map(|digest| row(None, digest)));
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
            None => format!("{}@{}", self.repository, self.name),
        }
    }

    fn cells(&self, no_trunc: bool) -> Vec<String> {
        let Some(Summary { digest, media_type, platforms, size: bytes, .. }) = &self.summary else {
            return vec![self.name()];
        };
        let platforms = match platforms.as_slice() {
            [] => "-".to_owned(),
            few if few.len() <= 4 || no_trunc => join(few),
            many => format!("{}, and {} more", join(&many[..3]), many.len() - 3),
        };
        vec![
            self.repository.to_string(),
            self.tag.clone().unwrap_or_else(|| "-".to_owned()),
            if no_trunc { digest.to_string() } else { digest.short() },
            media_type.short().to_owned(),
            platforms,
            size(*bytes),
        ]
    }
}

fn join(platforms: &[roadstead::oci::Platform]) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

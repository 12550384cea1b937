//! `roadstead remove`

use roadstead::oci::Reference;
use roadstead::tree::Removed;

use super::Name;
use crate::args::{Global, Printed};
use crate::exit;
use crate::output::{Output, size};

/// Remove tags, manifests or repositories
///
/// A tag takes along what nothing else in its repository needs: its manifest, the manifests of its platforms, their
/// layers, and of the bytes those that no other repository names. Other tags are never touched.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// What to remove: REPOSITORY:TAG, REPOSITORY@DIGEST, or with --all-tags REPOSITORY
    #[arg(required = true, value_name = "NAME")]
    names: Vec<Name>,

    /// Remove whole repositories
    #[arg(short, long)]
    all_tags: bool,

    /// Remove a manifest also if an index needs it; the tree records that the index lacks it on purpose
    #[arg(long, conflicts_with = "all_tags")]
    force: bool,
}

#[derive(serde::Serialize)]
struct Report {
    repository: String,
    tags: Vec<String>,
    manifests: Vec<String>,
    bytes: u64,
}

pub(crate) async fn run(args: Remove, global: &Global, output: &Output) -> anyhow::Result<()> {
    for Name { repository, reference } in &args.names {
        match (reference, args.all_tags) {
            (None, false) => {
                return Err(exit::usage(format!(
                    "{repository} names a whole repository: name a tag ({repository}:TAG), or remove all of it with --all-tags"
                )));
            }
            (Some(reference), true) => {
                return Err(exit::usage(format!(
                    "--all-tags removes whole repositories, but {reference} names a part of {repository}"
                )));
            }
            (Some(Reference::Tag(tag)), false) if args.force => {
                return Err(exit::usage(format!(
                    "--force removes what an index needs, which is named by its digest, and {repository}:{tag} is a tag"
                )));
            }
            _ => {}
        }
    }
    let tree = super::open(global).await?;
    let mut reports = Vec::new();
    for Name { repository, reference } in &args.names {
        let removed = match reference {
            Some(Reference::Digest(digest)) if args.force => {
                patiently(tree.leave_out(repository, digest), output).await?
            }
            _ => patiently(tree.remove(repository, reference.as_ref()), output).await?,
        };
        let Removed { tags, manifests, bytes } = removed;
        match reference {
            Some(Reference::Digest(digest)) => output.note(&format!("{repository}@{digest}: removed")),
            _ => tags.iter().for_each(|tag| output.note(&format!("{repository}:{tag}: removed"))),
        }
        output.note(&format!("{} freed", size(bytes)));
        reports.push(Report {
            repository: repository.to_string(),
            tags: tags.iter().map(ToString::to_string).collect(),
            manifests: manifests.iter().map(ToString::to_string).collect(),
            bytes,
        });
    }
    if output.format == Printed::Json { output.json(&reports) } else { Ok(()) }
}

/// Says why nothing seems to happen, if it takes long.
async fn patiently<T>(work: impl Future<Output = T>, output: &Output) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
    }
    output.note("still at it: whatever is being added to this tree is waited for");
    work.await
}

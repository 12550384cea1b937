//! Trees in buckets and other folders.

use std::sync::Arc;

use roadstead::image::SourceError;
use roadstead::publish::plan::Step;
use roadstead::publish::{Plan, PlanOptions, PublishError, Requests, Totals, TransferOptions};
use roadstead::store::StoreError;
use roadstead::tree::{Private, Tree, TreeError};

use super::check::{self, Expected};
use super::{ATTEMPTS, Publish, purge};
use crate::args::{Global, Printed};
use crate::bucket_args::TreePlace;
use crate::exit;
use crate::output::progress::Progress;
use crate::output::{Output, size};

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    destination: String,
    dry_run: bool,
    #[serde(flatten)]
    totals: Totals,
    /// What a bucket is asked to carry it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<Requests>,
    /// What would be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<Planned<'a>>>,
    /// The paths of answers that were there before, or were missed before, and are others now.
    changed: Vec<String>,
    /// What is wrong, and with which of the repositories.
    failed: Vec<String>,
}

#[derive(serde::Serialize)]
struct Planned<'a> {
    repository: &'a str,
    #[serde(flatten)]
    step: &'a Step,
}

pub(super) async fn publish(args: &Publish, place: &TreePlace, global: &Global, output: &Output) -> anyhow::Result<()> {
    if is_same(place, &global.tree) {
        return Err(exit::usage(format!("{place} is the tree that is published")));
    }
    let tree = crate::commands::open(global).await?;
    let without = args.private.check(&tree, &place.to_string()).await?;
    let (repositories, delete, checksum) = (args.repositories.clone(), args.delete, args.checksum);
    let options = PlanOptions { repositories, without, delete, checksum, headers: args.headers };
    let mut to = match crate::commands::open_tree(place, &global.bucket).await {
        Ok(to) => Some(to),
        Err(error) if matches!(error.downcast_ref(), Some(TreeError::Absent(_))) => None,
        Err(error) => return Err(error),
    };
    let progress = Arc::new(Progress::new(output));
    for attempt in 1.. {
        let mut plan = Plan::compare(&tree, to.as_ref(), &options).await?;
        if plan.compared == 0 && !args.repositories.is_empty() && plan.is_empty() {
            let patterns: Vec<String> = args.repositories.iter().map(ToString::to_string).collect();
            return Err(TreeError::Unknown(format!("a repository that matches {}", patterns.join(" or "))).into());
        }
        refuse(args, &plan)?;
        if let Some(stranger) = plan.stranger.as_ref().filter(|_| attempt == 1) {
            let things = counted(plan.strangers, "thing");
            output.note(&format!(
                "{place} has {things} among its names that no tree puts there, such as {stranger}: left alone"
            ));
        }
        if args.dry_run {
            return forecast(args, place, plan, output);
        }
        let mut errors = std::mem::take(&mut plan.problems);
        if !plan.is_empty() {
            let there = match &to {
                Some(there) => there.clone(),
                None => crate::commands::create_tree(place, &global.bucket, false).await?,
            };
            let how = TransferOptions {
                jobs: usize::from(args.jobs),
                bandwidth: args.max_bandwidth,
                clobber: !args.no_clobber,
                events: progress.clone(),
            };
            errors.extend(plan.carry_out(&tree, &there, &how).await);
            to = Some(there);
        }
        if errors.iter().any(is_outdated) && attempt < ATTEMPTS {
            tracing::debug!("the tree or its destination has changed, and both are compared anew");
            continue;
        }
        progress.finish();
        return conclude(args, place, &plan, errors, &tree, output).await;
    }
    Ok(())
}

/// Makes a place have the blobs of a tree, and the rest of it, so that a site may send clients there.
pub(super) async fn send(
    args: &Publish,
    place: &TreePlace,
    tree: &Tree,
    without: &Private,
    global: &Global,
    output: &Output,
) -> anyhow::Result<()> {
    let to = crate::commands::create_tree(place, &global.bucket, false).await?;
    let options = PlanOptions { without: without.clone(), ..PlanOptions::default() };
    let progress = Arc::new(Progress::new(output));
    for attempt in 1.. {
        let mut plan = Plan::compare(tree, Some(&to), &options).await?;
        let mut errors = std::mem::take(&mut plan.problems);
        let events = progress.clone();
        let how =
            TransferOptions { jobs: usize::from(args.jobs), bandwidth: args.max_bandwidth, clobber: true, events };
        errors.extend(plan.carry_out(tree, &to, &how).await);
        if errors.iter().any(is_outdated) && attempt < ATTEMPTS {
            continue;
        }
        progress.finish();
        fail(errors, output)?;
        output.note(&format!("{place}: {}", did(&plan.totals())));
        break;
    }
    Ok(())
}

/// Whether two places are one.
fn is_same(one: &TreePlace, other: &TreePlace) -> bool {
    match (one, other) {
        (TreePlace::Folder(one), TreePlace::Folder(other)) => {
            one == other || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
        }
        (one, other) => one == other,
    }
}

/// Refuses what may not be done, before anything is.
fn refuse(args: &Publish, plan: &Plan) -> anyhow::Result<()> {
    let deleted = plan.totals().deleted;
    if let Some(limit) = args.max_delete.filter(|limit| deleted > *limit) {
        let problem = format!("{deleted} names would be deleted, and --max-delete is {limit}: nothing was done");
        return Err(exit::failure(exit::FAILURE, problem));
    }
    if args.no_clobber && !plan.moved().is_empty() {
        return Err(PublishError::Clobber(plan.moved()).into());
    }
    Ok(())
}

/// Whether something was in the tree when it was compared, and is not any more, or may not be at the destination.
fn is_outdated(error: &PublishError) -> bool {
    let fenced = || {
        let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
        causes.into_iter().any(|cause| {
            matches!(cause.downcast_ref(), Some(StoreError::Fenced { .. }))
                || matches!(cause.downcast_ref(), Some(TreeError::Store(StoreError::Fenced { .. })))
        })
    };
    matches!(
        error,
        PublishError::Source(SourceError::NotFound { .. })
            | PublishError::Tree(TreeError::Unknown(_) | TreeError::Store(StoreError::Fenced { .. }))
            | PublishError::Overtaken { .. }
    ) || fenced()
}

/// Says what would be done.
fn forecast(args: &Publish, place: &TreePlace, plan: Plan, output: &Output) -> anyhow::Result<()> {
    let (totals, requests) = (plan.totals(), requests(place, &plan));
    if output.format == Printed::Text {
        for (repository, step) in plan.steps() {
            output.result(&line(repository.as_str(), step))?;
        }
    }
    output.note(&format!("{place}: {}", would(&totals)));
    if let Some(requests) = requests.filter(|requests| *requests != Requests::default()) {
        output.note(&format!("in {}", asked(&requests)));
    }
    if plan.renews {
        output.note("the headers of everything that is there would be looked at, with a request for each object");
    }
    if let Some(bandwidth) = args.max_bandwidth {
        let seconds = bandwidth.time(totals.bytes).as_secs_f64().ceil();
        output.note(&format!("{} at {}/s: {seconds} s", size(totals.bytes), size(bandwidth.bytes())));
    }
    if output.format == Printed::Json {
        let steps = plan.steps();
        let steps = steps.iter().map(|(repository, step)| Planned { repository: repository.as_str(), step }).collect();
        let failed = plan.problems.iter().map(shown).collect();
        let (destination, dry_run, changed) = (place.to_string(), true, plan.changed());
        output.json(&Report { destination, dry_run, totals, requests, steps: Some(steps), changed, failed })?;
    }
    fail(plan.problems, output)
}

/// Says what was done, and pulls it.
async fn conclude(
    args: &Publish,
    place: &TreePlace,
    plan: &Plan,
    errors: Vec<PublishError>,
    tree: &Tree,
    output: &Output,
) -> anyhow::Result<()> {
    let (totals, requests, changed) = (plan.totals(), requests(place, plan), plan.changed());
    if errors.is_empty() {
        let looked = if plan.renews { ", and looked at all headers" } else { "" };
        output.note(&format!("{place}: {}{looked}", did(&totals)));
    }
    if output.format == Printed::Json {
        let failed = errors.iter().map(shown).collect();
        let (destination, dry_run, changed) = (place.to_string(), false, changed.clone());
        output.json(&Report { destination, dry_run, totals, requests, steps: None, changed, failed })?;
    } else {
        changed.iter().try_for_each(|path| output.result(path))?;
    }
    // Of what went wrong some may have come there all the same.
    let purged = match &args.purge {
        Some(command) if !changed.is_empty() => purge::run(command, &changed).await,
        _ => Ok(()),
    };
    fail(errors, output)?;
    purged?;
    let Some(url) = &args.check else { return Ok(()) };
    let tags = plan.steps().into_iter().filter_map(|(repository, step)| match step {
        Step::Tag { tag, digest, .. } => {
            Some(Expected { repository: repository.clone(), tag: tag.clone(), digest: *digest })
        }
        _ => None,
    });
    let tags: Vec<Expected> = tags.collect();
    check::pull(url, &tags, tree, &args.registry).await?;
    output.note(&match tags.len() {
        0 => format!("no tag changed, so none was pulled through {url}"),
        number => format!("pulled through {url}: {}", counted(number as u64, "tag")),
    });
    Ok(())
}

/// Prints all errors but the last one, which decides the exit code, and is printed by whoever turns it into one.
fn fail(mut errors: Vec<PublishError>, output: &Output) -> anyhow::Result<()> {
    let last = errors.pop();
    errors.into_iter().for_each(|error| output.error(&error.into()));
    last.map_or(Ok(()), |error| Err(error.into()))
}

fn shown(error: &PublishError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// A folder is asked nothing that anybody pays for.
fn requests(place: &TreePlace, plan: &Plan) -> Option<Requests> {
    matches!(place, TreePlace::Bucket(_)).then(|| plan.requests())
}

fn line(repository: &str, step: &Step) -> String {
    match step {
        Step::PutBlob { digest, size: bytes } => format!("put {repository} blob {digest} {}", size(*bytes)),
        Step::CopyBlob { digest, from, .. } => format!("copy {repository} blob {digest} from {from}"),
        Step::LeaveOut { index, children, .. } if children.is_empty() => {
            format!("forget what {repository}@{index} lacks")
        }
        Step::LeaveOut { index, children, .. } => format!("record what {repository}@{index} lacks: {}", children.len()),
        Step::PutManifest { digest, size: bytes, .. } => format!("put {repository}@{digest} {}", size(*bytes)),
        Step::Referrers { subject } => format!("list what refers to {repository}@{subject}"),
        Step::Tag { tag, digest, before: None } => format!("tag {repository}:{tag} {digest}"),
        Step::Tag { tag, digest, before: Some(before) } => format!("move {repository}:{tag} {digest} from {before}"),
        Step::TagsList { .. } => format!("list the tags of {repository}"),
        Step::Catalog => format!("list {repository}"),
        Step::DeleteTag { tag } => format!("delete {repository}:{tag}"),
        Step::DeleteManifest { digest } => format!("delete {repository}@{digest}"),
        Step::DeleteBlob { digest } => format!("delete {repository} blob {digest}"),
    }
}

fn counted(number: u64, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

/// The parts of a sum that are not nothing.
fn parts(parts: &[(u64, &str)]) -> String {
    let parts: Vec<String> =
        { parts.iter() }.filter(|(number, _)| *number > 0).map(|(n, word)| counted(*n, word)).collect();
    parts.join(", ")
}

fn sum(totals: &Totals) -> String {
    let sent = parts(&[
        (totals.blobs, "blob"),
        (totals.copied, "copied blob"),
        (totals.manifests, "manifest"),
        (totals.tags, "tag"),
        (totals.lists, "list"),
    ]);
    if totals.bytes > 0 { format!("{sent} ({})", size(totals.bytes)) } else { sent }
}

fn would(totals: &Totals) -> String {
    let sent = sum(totals);
    match (sent.is_empty(), totals.deleted) {
        (true, 0) => "nothing to do".to_owned(),
        (true, deleted) => format!("would delete {}", counted(deleted, "name")),
        (false, 0) => format!("would write {sent}"),
        (false, deleted) => format!("would write {sent}, and delete {}", counted(deleted, "name")),
    }
}

fn did(totals: &Totals) -> String {
    let sent = sum(totals);
    match (sent.is_empty(), totals.deleted) {
        (true, 0) => "nothing has changed".to_owned(),
        (true, deleted) => format!("deleted {}", counted(deleted, "name")),
        (false, 0) => format!("wrote {sent}"),
        (false, deleted) => format!("wrote {sent}, and deleted {}", counted(deleted, "name")),
    }
}

fn asked(requests: &Requests) -> String {
    let Requests { writes, reads, lists, deletes } = *requests;
    let kinds = [(writes, "PUT"), (reads, "GET"), (lists, "LIST"), (deletes, "DELETE")];
    let kinds = kinds.into_iter().filter(|(number, _)| *number > 0).map(|(number, kind)| format!("{number} {kind}"));
    let all = writes + reads + lists + deletes;
    format!("{} ({})", counted(all, "request"), kinds.collect::<Vec<_>>().join(", "))
}

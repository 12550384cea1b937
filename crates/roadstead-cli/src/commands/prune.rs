//! `roadstead prune`

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use roadstead::tree::{Pattern, PruneOptions, Pruned, Pruning, Thinned};

use crate::args::{Global, Printed};
use crate::exit;
use crate::output::{Output, size};

/// Remove what nothing reaches, and the tags that a rule lets go
///
/// Tags reach their images, these their platforms, layers and what refers to them; so do manifests that were added by digest
/// alone. Without a rule no tag goes. Beside `add` and a push it is safe: what they are about to use is young.
#[derive(Debug, clap::Args)]
#[command(
    group(clap::ArgGroup::new("rule").multiple(true)),
    after_help = "Examples:
  roadstead prune --dry-run
  roadstead prune --keep-last 10 --tags 'build-*'
  roadstead prune --keep-days 30 --keep-last 3 --repository 'ci/**' --except latest
  roadstead prune --untagged --older-than 7d

A tag is as old as its name in this tree: the moment when it was added, or last moved. In patterns ? stands for a character
and * for any number of them, but for slashes; ** for slashes, too."
)]
pub(crate) struct Prune {
    /// Of each repository's tags keep the N that were written last
    #[arg(long, value_name = "N", group = "rule")]
    keep_last: Option<usize>,

    /// Keep the tags that were written within the last D days; with --keep-last, a tag stays if either keeps it
    #[arg(long, value_name = "D", group = "rule")]
    keep_days: Option<u16>,

    /// The rules are only about tags that match
    #[arg(long, value_name = "PATTERN", requires = "rule")]
    tags: Vec<Pattern>,

    /// The rules are not about tags that match
    #[arg(long, value_name = "PATTERN", requires = "rule")]
    except: Vec<Pattern>,

    /// Only repositories that match, and what they alone name
    #[arg(long = "repository", value_name = "PATTERN")]
    repositories: Vec<Pattern>,

    /// Remove also manifests that no tag reaches
    #[arg(long)]
    untagged: bool,

    /// How long ago left-overs and untagged manifests must have been written: 90s, 30m, 12h, 7d, 2w
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1d")]
    older_than: Duration,

    /// Only say what would go
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    dry_run: bool,
    repositories: Vec<Thinned>,
    #[serde(flatten)]
    pruned: Pruned,
    skipped_repositories: Vec<Skipped>,
}

#[derive(serde::Serialize)]
struct Skipped {
    repository: String,
    reason: String,
}

pub(crate) async fn run(args: Prune, global: &Global, output: &Output) -> anyhow::Result<()> {
    let tree = super::open(global).await?;
    let options = PruneOptions {
        repositories: args.repositories,
        tags: args.tags,
        except: args.except,
        keep_last: args.keep_last,
        keep_within: args.keep_days.map(|days| u32::from(days) * Duration::from_hours(24)),
        untagged: args.untagged,
        older_than: args.older_than,
        dry_run: args.dry_run,
        ..PruneOptions::new(SystemTime::now())
    };
    let told: Mutex<(Vec<Thinned>, Vec<Skipped>)> = Mutex::default();
    let pruned = tree
        .prune(&options, &|event| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                Pruning::Thinned(thinned) => {
                    if output.format == Printed::Text {
                        print(thinned, output);
                    }
                    told.0.push(thinned.clone());
                }
                Pruning::Skipped { repository, error } => {
                    output.note(&format!("{repository} is left as it is: {error}"));
                    told.1.push(Skipped { repository: repository.to_string(), reason: error.to_string() });
                }
                _ => {}
            }
        })
        .await?;
    let (repositories, skipped) = told.into_inner().unwrap_or_else(PoisonError::into_inner);
    output.note(&summary(&repositories, &pruned, args.dry_run));
    let left_alone = skipped.len();
    if output.format == Printed::Json {
        output.json(&Report { dry_run: args.dry_run, repositories, pruned, skipped_repositories: skipped })?;
    }
    match left_alone {
        0 => Ok(()),
        1 => {
            Err(exit::invalid("a repository is not whole and was left as it is; `roadstead verify` says what is wrong"))
        }
        many => Err(exit::invalid(format!(
            "{many} repositories are not whole and were left as they are; `roadstead verify` says what is wrong"
        ))),
    }
}

/// Names of what goes, as `list` has them.
fn print(thinned: &Thinned, output: &Output) {
    let Thinned { repository, tags, manifests, .. } = thinned;
    let tags = tags.iter().map(|tag| format!("{repository}:{tag}"));
    let manifests = manifests.iter().map(|digest| format!("{repository}@{digest}"));
    for name in tags.chain(manifests) {
        // Whoever reads has seen enough; the work goes on.
        let _ = output.result(&name);
    }
}

fn summary(repositories: &[Thinned], pruned: &Pruned, dry_run: bool) -> String {
    let sum = |of: fn(&Thinned) -> usize| repositories.iter().map(of).sum::<usize>() as u64;
    let counts = [
        (sum(|thinned| thinned.tags.len()), "tag"),
        (sum(|thinned| thinned.manifests.len()), "manifest"),
        (sum(|thinned| thinned.blobs.len()), "name of a blob|names of blobs"),
        (pruned.contents, "content that nothing names|contents that nothing names"),
        (pruned.records, "record"),
        (pruned.hints, "hint"),
        (pruned.temporary, "temporary file"),
        (pruned.folders, "empty folder"),
    ];
    let counted = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| match word.split_once('|') {
        Some((one, _)) if count == 1 => format!("1 {one}"),
        Some((_, many)) => format!("{count} {many}"),
        None if count == 1 => format!("1 {word}"),
        None => format!("{count} {word}s"),
    });
    let counted: Vec<String> = counted.collect();
    match (counted.is_empty(), dry_run) {
        (true, _) => "nothing to prune".to_owned(),
        (false, true) => format!("would remove {}; would free {}", counted.join(", "), size(pruned.bytes)),
        (false, false) => format!("removed {}; freed {}", counted.join(", "), size(pruned.bytes)),
    }
}

/// A number and a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let problem = || format!("{text:?} is no duration such as 90s, 30m, 12h, 7d or 2w");
    let (number, seconds) = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
        .unwrap_or((text, u64::from(text != "0")));
    if number == text && text != "0" {
        return Err(problem());
    }
    let number: u32 = number.parse().map_err(|_| problem())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use roadstead::tree::GRACE;

    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in
            [("90s", 90), ("30m", 1800), ("12h", 43_200), ("1d", 86_400), ("2w", 1_209_600), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("1d").unwrap(), GRACE);
        for text in ["", "d", "1", "1y", "-1d", "1.5d", "99999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}

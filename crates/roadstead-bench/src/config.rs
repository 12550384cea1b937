//! Configurations for a tree of a hundred thousand manifests, one for each host, whether it lists what there is or refuses it.

use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::contest::Ground;
use crate::corpus::Scale;
use crate::made::MadeTree;
use crate::measure::{Figures, Program, Run};
use crate::report::{Bar, Row, Unit};

/// What a configuration may take, in seconds.
const TIME: f64 = 1.0;
/// What it may take of memory.
const PEAK: f64 = (64 << 20) as f64;

const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// What some hosts have to be told.
const ARGUMENTS: [(&[&str], [&str; 2]); 2] = [
    (&["r2", "s3", "cloudfront", "gcs"], ["--server-root", "s3://bucket"]),
    (&["compose", "kubernetes"], ["--image", "registry.example/roadstead:1"]),
];

impl Scale {
    /// How many repositories, and how many tags in each: an index with a manifest for each architecture.
    const fn indexes(self) -> (usize, usize) {
        match self {
            Self::Full => (100, 334),
            Self::Tiny => (2, 5),
        }
    }
}

pub(crate) fn measure(roadstead: &Path, work: &Path, runs: usize, scale: Scale) -> anyhow::Result<Vec<Row>> {
    let ground = Ground { work, runs };
    ground.clear()?;
    let tree = ground.destination();
    let tool = Program::new(roadstead).args(["--quiet", "--tree"]).arg(&tree);
    let (repositories, tags) = scale.indexes();
    let mut made = MadeTree::new(&tree)?;
    for repository in 0..repositories {
        let name = format!("bench/config-{repository}");
        (0..tags).try_for_each(|tag| made.index(&name, &format!("tag-{tag:05}"), &ARCHITECTURES))?;
    }
    let manifests = repositories * tags * (1 + ARCHITECTURES.len());
    let mut rows = Vec::new();
    for host in hosts(&tool)? {
        let more = ARGUMENTS.iter().find(|(hosts, _)| hosts.contains(&&*host)).map(|(_, arguments)| arguments);
        let program = tool.clone().args(["config", &host]).args(more.into_iter().flatten().copied());
        let timed = (0..runs).map(|_| program.run_to_any_end(&ground.log())).collect::<anyhow::Result<Vec<_>>>()?;
        let refused = timed.iter().any(|(_, status)| !status.success());
        if refused {
            let complaint = std::fs::read_to_string(ground.log())?;
            ensure!(complaint.contains("(limit: "), "`{program}` failed: {complaint}");
        }
        let what = format!("config {host}, {manifests} manifests{}", if refused { ", refused" } else { "" });
        let figures = |of: fn(&Run) -> f64| Figures::new(timed.iter().map(|(run, _)| of(run)).collect());
        let command = program.to_string();
        let row = |what, unit, ours, most| Row {
            what,
            command: command.clone(),
            unit,
            ours,
            peer: None,
            bar: Some(Bar::AtMost(most)),
        };
        rows.push(row(what, Unit::Seconds, figures(|run| run.wall.as_secs_f64()), TIME));
        rows.push(row("peak memory of that".into(), Unit::Bytes, figures(|run| run.peak as f64), PEAK));
    }
    ground.clear()?;
    for row in &mut rows {
        row.name(&tree.display().to_string(), "TREE");
    }
    Ok(rows)
}

/// The hosts that the program knows: of its list, the first word of each line below a heading.
fn hosts(tool: &Program) -> anyhow::Result<Vec<String>> {
    let list = tool.clone().arg("config").printed()?;
    let below = list.lines().filter(|line| line.starts_with(' '));
    below.map(|line| line.split_whitespace().next().map(str::to_owned).context("a line without a host")).collect()
}

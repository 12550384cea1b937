//! Looking after a tree: verifying it, and small changes of a large one.

use std::fs;
use std::path::{Path, PathBuf};

use roadstead_parts::part;

use crate::contest::{Ground, Side, compare};
use crate::corpus::Scale;
use crate::made::MadeTree;
use crate::measure::{Figures, Program, Run};
use crate::report::{Bar, Row, Unit};

/// What a look or a removal may take on a tree of ten thousand tags, and thinning that out, in seconds.
const LOOK: f64 = 0.1;
const PRUNE: f64 = 5.0;
/// What verifying may take of memory.
const PEAK: f64 = (64 << 20) as f64;

impl Scale {
    /// How many tags.
    const fn tags(self) -> usize {
        match self {
            Self::Full => 10_000,
            Self::Tiny => 150,
        }
    }

    /// How many large blobs are verified, of how many bytes.
    const fn large(self) -> (usize, usize) {
        match self {
            Self::Full => (64, 16 << 20),
            Self::Tiny => (4, 16 << 10),
        }
    }
}

pub(crate) fn measure(roadstead: &Path, work: &Path, runs: usize, scale: Scale) -> anyhow::Result<Vec<Row>> {
    let ground = Ground { work, runs };
    let tree = ground.destination();
    let tool = Program::new(roadstead).args(["--quiet", "--tree"]).arg(&tree);
    if added(&ground).exists() {
        fs::remove_dir_all(added(&ground))?;
    }
    let mut rows = verify(&ground, &tool, scale)?;
    for repositories in [1, 50] {
        ground.clear()?;
        let tags = scale.tags() / repositories;
        let mut made = MadeTree::new(&tree)?;
        for repository in 0..repositories {
            (0..tags).try_for_each(|tag| made.image(&name(repository), &format!("tag-{tag:05}")))?;
        }
        // Lists are derived.
        complete(&ground, &tool)?;
        let what = |what: &str| match repositories {
            1 => format!("{what}, {} tags of one repository", scale.tags()),
            many => format!("{what}, {many} repositories of {tags} tags"),
        };
        let first = name(0);
        let last = format!("{first}:tag-{:05}", tags - 1);
        for (title, program) in
            [("list", tool.clone().arg("list")), ("inspect", tool.clone().arg("inspect").arg(&last))]
        {
            let timed: Vec<Run> = (0..runs).map(|_| program.run(&ground.log())).collect::<Result<_, _>>()?;
            rows.push(row(what(title), &program, &timed, LOOK));
        }
        let removal = |tag: usize| tool.clone().arg("remove").arg(format!("{first}:tag-{tag:05}"));
        if repositories == 1 {
            rows.push(after_addition(&ground, roadstead, &first, what("the first removal after they were added"))?);
        }
        // The repair has read every manifest, and left what it learnt.
        rows.push(row(what("the first removal of a tag"), &removal(0), &[removal(0).run(&ground.log())?], LOOK));
        let timed: Vec<Run> = (1..=runs).map(|tag| removal(tag).run(&ground.log())).collect::<Result<_, _>>()?;
        rows.push(row(what("remove of a tag"), &removal(1), &timed, LOOK));
        let program = tool.clone().args(["prune", "--keep-last"]).arg((tags / 2).to_string());
        rows.push(row(what("prune of half the tags"), &program, &[program.run(&ground.log())?], PRUNE));
    }
    fs::remove_dir_all(added(&ground))?;
    ground.clear()?;
    for row in &mut rows {
        row.name(&tree.display().to_string(), "TREE");
    }
    Ok(rows)
}

/// The first removal from a tree of which everything was added by one command. The tree stays: who removes it has the disk
/// work for whoever comes next.
fn after_addition(ground: &Ground<'_>, roadstead: &Path, repository: &str, what: String) -> anyhow::Result<Row> {
    let added = added(ground);
    let tool = Program::new(roadstead).args(["--quiet", "--tree"]).arg(&added);
    let source = format!("tree:{}//{repository}", ground.destination().display());
    tool.clone().arg("add").arg(source).run(&ground.log())?;
    ground.sync().run(&ground.log())?;
    let removal = tool.arg("remove").arg(format!("{repository}:tag-00000"));
    let run = removal.run(&ground.log())?;
    let mut row = row(what, &removal, &[run], LOOK);
    row.name(&added.display().to_string(), "TREE");
    Ok(row)
}

fn added(ground: &Ground<'_>) -> PathBuf {
    ground.work.join("added")
}

fn row(what: String, program: &Program, runs: &[Run], most: f64) -> Row {
    let ours = Figures::new(runs.iter().map(|run| run.wall.as_secs_f64()).collect());
    Row { what, command: program.to_string(), unit: Unit::Seconds, ours, peer: None, bar: Some(Bar::AtMost(most)) }
}

fn name(repository: usize) -> String {
    format!("bench/tend-{repository}")
}

/// Makes the lists of a tree that has none, and waits until the disk has all of it: who removes a tag syncs, and would
/// else be timed for what the benchmark wrote.
fn complete(ground: &Ground<'_>, tool: &Program) -> anyhow::Result<()> {
    tool.clone().args(["verify", "--repair"]).run(&ground.log())?;
    ground.sync().run(&ground.log())?;
    Ok(())
}

/// All bytes of a tree, beside openssl on as many processors.
fn verify(ground: &Ground<'_>, tool: &Program, scale: Scale) -> anyhow::Result<Vec<Row>> {
    ground.clear()?;
    let (count, size) = scale.large();
    let tree = MadeTree::new(&ground.destination())?;
    let mut generator = fastrand::Rng::with_seed(7);
    let mut layers = Vec::new();
    for _ in 0..count {
        let mut bytes = vec![0; size];
        generator.fill(&mut bytes);
        layers.push(tree.blob(&name(0), &bytes)?);
    }
    tree.manifest(&name(0), "large", &layers)?;
    complete(ground, tool)?;
    let processors = std::thread::available_parallelism()?;
    let openssl = format!(
        "find {}/content/blobs -type f -print0 | xargs -0 -n 4 -P {processors} {} dgst -sha256",
        ground.destination().display(),
        part::installed("openssl").display()
    );
    let mut sides = [
        Side::new("roadstead", tool.clone().arg("verify"), false),
        Side::new("openssl", Program::new(&part::installed("sh")).arg("-c").arg(openssl), false),
    ];
    ground.alternate(&mut sides, |_| Ok(()))?;
    let [ours, openssl] = &sides;
    let what = format!("verify of {} MB in {count} blobs, warm", (count * size) / 1_000_000);
    Ok(vec![
        compare(what, ours, openssl, Some(Bar::NoMoreThanPeer(1.0))),
        Row {
            what: "peak memory of that".into(),
            command: ours.command(),
            unit: Unit::Bytes,
            ours: ours.figures(|run| run.peak as f64),
            peer: None,
            bar: Some(Bar::AtMost(PEAK)),
        },
    ])
}

//! A tree into a bucket, beside the programs that people sync folders with.

use std::fs;
use std::path::Path;
use std::time::Duration;

use roadstead_parts::{BucketServer, Buckets, part};

use crate::contest::{Ground, Side, compare};
use crate::corpus::Scale;
use crate::made::MadeTree;
use crate::measure::{Figures, Program};
use crate::report::{Bar, Row, Unit};
use crate::slow::Line;

/// What a slow line adds to each round trip.
const ROUND_TRIP: Duration = Duration::from_millis(30);

/// What publishing may take of memory.
const PEAK: f64 = (128 << 20) as f64;

/// How many names a list has in one answer.
const NAMES_IN_A_LIST: usize = 1000;

impl Scale {
    /// How many small images, each of four objects.
    const fn small(self) -> usize {
        match self {
            Self::Full => 500,
            Self::Tiny => 5,
        }
    }

    /// How many layers of how many bytes.
    const fn large_layers(self) -> (usize, usize) {
        match self {
            Self::Full => (60, 83 << 20),
            Self::Tiny => (2, 9 << 20),
        }
    }

    /// How many small images there are when nothing changes.
    const fn unchanged(self) -> usize {
        match self {
            Self::Full => 25_000,
            Self::Tiny => 400,
        }
    }
}

/// Who publishes or syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    Roadstead,
    S5cmd,
    Rclone,
    Aws,
}

impl Tool {
    const fn name(self) -> &'static str {
        match self {
            Self::Roadstead => "roadstead",
            Self::S5cmd => "s5cmd",
            Self::Rclone => "rclone",
            Self::Aws => "aws",
        }
    }

    /// What makes a place in a bucket hold what a tree holds. The others follow the tree's links, and so send the same bytes
    /// under the same names.
    fn program(self, roadstead: &Path, tree: &Path, at: &str, endpoint: &str) -> Program {
        let files = format!("{}/v2/", tree.display());
        let program = match self {
            Self::Roadstead => {
                Program::new(roadstead).args(["--quiet", "--tree"]).arg(tree).args(["publish", &format!("s3://{at}")])
            }
            Self::S5cmd => Program::new(&part::built("bin/s5cmd")).args(["sync", &files, &format!("s3://{at}/v2/")]),
            Self::Rclone => Program::new(&part::installed("rclone"))
                .args(["sync", "--copy-links", "--s3-provider", "Minio", "--s3-env-auth", &files])
                .arg(format!(":s3:{at}/v2")),
            Self::Aws => Program::new(&part::installed("aws")).args(["s3", "sync", &files, &format!("s3://{at}/v2/")]),
        };
        let program = program.env("AWS_ACCESS_KEY_ID", Buckets::ID).env("AWS_SECRET_ACCESS_KEY", Buckets::SECRET);
        let program = program.env("AWS_REGION", "us-east-1").env("AWS_DEFAULT_REGION", "us-east-1");
        // Each knows one of these.
        program.env("AWS_ENDPOINT_URL", endpoint).env("S3_ENDPOINT_URL", endpoint).env("RCLONE_S3_ENDPOINT", endpoint)
    }
}

/// What is published, and where to.
struct Stage<'a> {
    ground: Ground<'a>,
    roadstead: &'a Path,
    buckets: Buckets,
    line: Line,
}

/// What there is to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Small,
    Large,
    Unchanged,
}

pub(crate) fn measure(
    roadstead: &Path,
    work: &Path,
    runs: usize,
    scale: Scale,
    what: What,
) -> anyhow::Result<Vec<Row>> {
    let buckets = BucketServer::Minio.start(&["bench"]);
    let line = Line::start(buckets.url().trim_start_matches("http://"), ROUND_TRIP)?;
    let stage = Stage { ground: Ground { work, runs }, roadstead, buckets, line };
    let tree = stage.ground.destination();
    stage.ground.clear()?;
    let mut rows = match what {
        What::Small => {
            small(&tree, scale.small())?;
            let what = format!("{} small objects into an empty bucket", 4 * scale.small());
            let all = [Tool::Roadstead, Tool::S5cmd, Tool::Rclone, Tool::Aws];
            let far = [(Tool::S5cmd, 1.0), (Tool::Rclone, 1.0 / 3.0), (Tool::Aws, 1.0 / 4.0)];
            let mut rows = stage.cold(&what, &tree, &all, &far[..1], false)?;
            rows.extend(stage.cold(&what, &tree, &all, &far, true)?);
            rows
        }
        What::Large => {
            let (count, size) = scale.large_layers();
            large(&tree, count, size)?;
            let what = format!("{} MB in {count} layers into an empty bucket", count * size / 1_000_000);
            let two = [Tool::Roadstead, Tool::S5cmd];
            let mut rows = stage.cold(&what, &tree, &two, &[(Tool::S5cmd, 1.0)], false)?;
            rows.extend(stage.cold(&what, &tree, &two, &[(Tool::S5cmd, 1.0)], true)?);
            rows
        }
        What::Unchanged => {
            small(&tree, scale.unchanged())?;
            stage.unchanged(&tree, 4 * scale.unchanged())?
        }
    };
    stage.ground.clear()?;
    for row in &mut rows {
        row.name(&tree.display().to_string(), "TREE");
    }
    Ok(rows)
}

/// A tree of small images in a few repositories, each with a config, a layer, a manifest and a tag of its own.
fn small(tree: &Path, images: usize) -> anyhow::Result<()> {
    let made = MadeTree::new(tree)?;
    let mut generator = fastrand::Rng::with_seed(11);
    for image in 0..images {
        let repository = format!("bench/small-{}", image % 10);
        let mut layer = vec![0; generator.usize(500..4000)];
        generator.fill(&mut layer);
        let layer = made.blob(&repository, &layer)?;
        made.manifest(&repository, &format!("tag-{image:05}"), &[layer])?;
    }
    Ok(())
}

fn large(tree: &Path, count: usize, size: usize) -> anyhow::Result<()> {
    let made = MadeTree::new(tree)?;
    let mut generator = fastrand::Rng::with_seed(13);
    let mut bytes = vec![0; size];
    let mut layers = Vec::new();
    for _ in 0..count {
        generator.fill(&mut bytes);
        layers.push(made.blob("bench/large", &bytes)?);
    }
    made.manifest("bench/large", "1", &layers)?;
    Ok(())
}

impl Stage<'_> {
    /// Everything into a place where nothing is, by all tools by turns.
    fn cold(
        &self,
        what: &str,
        tree: &Path,
        tools: &[Tool],
        bars: &[(Tool, f64)],
        slow: bool,
    ) -> anyhow::Result<Vec<Row>> {
        let endpoint = if slow { self.line.url() } else { self.buckets.url() };
        let what = if slow { format!("{what}, {} ms away", ROUND_TRIP.as_millis()) } else { what.to_owned() };
        let program =
            |tool: Tool, place: &str| tool.program(self.roadstead, tree, &format!("bench/{place}"), &endpoint);
        let mut sides: Vec<(Tool, Side)> =
            tools.iter().map(|tool| (*tool, Side::new(tool.name(), program(*tool, "PLACE"), false))).collect();
        for round in 0..self.ground.runs {
            let count = sides.len();
            for turn in 0..count {
                // Nobody always comes after the same one.
                let (tool, side) = &mut sides[(round + turn) % count];
                let place = format!("{}-{round}-{slow}", tool.name());
                side.work(&program(*tool, &place), &self.ground.log())?;
                // Nobody asks for it again, so the server need not know. The disk is short.
                fs::remove_dir_all(self.buckets.folder("bench").join(place))?;
                self.ground.sync().run(&self.ground.log())?;
            }
        }
        let (ours, peers) = sides.split_first().expect("we are there");
        let mut rows: Vec<Row> = peers
            .iter()
            .map(|(tool, side)| {
                let bar = bars.iter().find(|(known, _)| known == tool).map(|(_, most)| Bar::NoMoreThanPeer(*most));
                compare(what.clone(), &ours.1, side, bar)
            })
            .collect();
        rows.push(Row {
            what: format!("peak memory: {what}"),
            command: ours.1.command(),
            unit: Unit::Bytes,
            ours: ours.1.figures(|run| run.peak as f64),
            peer: None,
            bar: Some(Bar::AtMost(PEAK)),
        });
        Ok(rows)
    }

    /// What is there is there: time beside s5cmd, and requests.
    fn unchanged(&self, tree: &Path, objects: usize) -> anyhow::Result<Vec<Row>> {
        let program = |tool: Tool, endpoint: &str| tool.program(self.roadstead, tree, "bench/unchanged", endpoint);
        let (direct, log) = (self.buckets.url(), self.ground.log());
        program(Tool::Roadstead, &direct).run(&log)?;
        let sides = [Tool::Roadstead, Tool::S5cmd];
        let mut sides = sides.map(|tool| Side::new(tool.name(), program(tool, &direct), false));
        self.ground.alternate(&mut sides, |_| Ok(()))?;
        let [ours, s5cmd] = &sides;
        let mut row =
            compare(format!("{objects} objects, nothing changed"), ours, s5cmd, Some(Bar::NoMoreThanPeer(1.0)));
        row.name("bench/unchanged", "BUCKET");
        let before = self.line.requests();
        program(Tool::Roadstead, &self.line.url()).run(&log)?;
        let requests = Row {
            what: "requests of that: a list for each thousand names, and three".into(),
            command: row.command.clone(),
            unit: Unit::Count,
            ours: Figures::one((self.line.requests() - before) as f64),
            peer: None,
            // Beside what is counted there are lists of tags and repositories.
            bar: Some(Bar::AtMost((objects.div_ceil(NAMES_IN_A_LIST) + 1 + 3) as f64)),
        };
        Ok(vec![row, requests])
    }
}

//! From a registry into files.

use std::fs;
use std::path::Path;

use roadstead_parts::{Invocation, part};

use crate::contest::{Ground, Side, compare};
use crate::corpus::{INDEX, LARGE, SIBLING};
use crate::measure::{Figures, Program, Run};
use crate::registry::Registry;
use crate::report::{Bar, Peer, Row, Unit};

/// What a cold import may take of memory.
const PEAK: f64 = (64 << 20) as f64;
/// How long an import may take that finds everything there, and how often it may ask the registry.
const AGAIN_SECONDS: f64 = 0.05;
const AGAIN_REQUESTS: f64 = 2.0;
/// How often an import of many platforms may wait for the disk: a handful for the tree that is made, a handful for what
/// comes into it. One for each of the files would be a hundred.
const SYNCS: f64 = 12.0;

pub(crate) fn measure(roadstead: &Path, work: &Path, registry: &Registry, runs: usize) -> anyhow::Result<Vec<Row>> {
    let bench = Bench { roadstead, registry, ground: Ground { work, runs } };
    let mut rows = bench.cold(LARGE, "600 MB in 6 layers")?;
    rows.extend(bench.again()?);
    rows.extend(bench.sibling()?);
    rows.push(bench.syncs()?);
    rows.extend(bench.platforms()?);
    for row in &mut rows {
        row.name(&bench.ground.destination().display().to_string(), "DEST");
        row.name(&registry.authority(), "REGISTRY");
    }
    Ok(rows)
}

struct Bench<'a> {
    roadstead: &'a Path,
    registry: &'a Registry,
    ground: Ground<'a>,
}

impl Bench<'_> {
    fn add(&self, tag: &str) -> Program {
        Program::new(self.roadstead)
            .args(["--quiet", "--tree"])
            .arg(self.ground.destination())
            .arg("add")
            .arg(self.registry.image(tag))
    }

    fn crane(&self, tag: &str) -> Program {
        Program::new(&part::built("bin/crane"))
            .args(["pull", "--insecure", "--format=oci"])
            .arg(self.registry.image(tag))
            .arg(self.ground.destination())
    }

    fn skopeo(&self, tag: &str) -> Program {
        Program::new(&part::installed("skopeo"))
            .args(["copy", "--quiet", "--all", "--src-tls-verify=false"])
            .arg(format!("docker://{}", self.registry.image(tag)))
            .arg(format!("dir:{}", self.ground.destination().display()))
    }

    fn cold(&self, tag: &str, what: &str) -> anyhow::Result<Vec<Row>> {
        let mut sides = [
            Side::new("roadstead", self.add(tag), true),
            Side::new("crane", self.crane(tag), true),
            Side::new("skopeo", self.skopeo(tag), true),
            Side::new("roadstead", self.add(tag).arg("--no-sync"), false),
            Side::new("crane", self.crane(tag), false),
        ];
        self.ground.alternate(&mut sides, Ground::clear)?;
        self.ground.clear()?;
        let [ours, crane, skopeo, ours_unsynced, crane_unsynced] = &sides;
        let no_slower = Some(Bar::NoMoreThanPeer(1.0));
        let mut rows = vec![
            compare(format!("cold import, {what}, and `sync -f`"), ours, crane, no_slower),
            compare(format!("cold import, {what}, no sync"), ours_unsynced, crane_unsynced, no_slower),
        ];
        type Measured = (&'static str, Unit, fn(&Run) -> f64, Option<Bar>);
        let measured: [Measured; 2] = [
            ("processor time of the former", Unit::Seconds, |run| run.cpu.as_secs_f64(), None),
            ("peak memory of the former", Unit::Bytes, |run| run.peak as f64, Some(Bar::AtMost(PEAK))),
        ];
        for (what, unit, figure, bar) in measured {
            let peer =
                Peer { name: crane.name.into(), command: crane.program.to_string(), figures: crane.figures(figure) };
            let command = ours.program.to_string();
            rows.push(Row { what: what.into(), command, unit, ours: ours.figures(figure), peer: Some(peer), bar });
        }
        rows.push(compare(format!("cold import, {what}, and `sync -f`"), ours, skopeo, None));
        Ok(rows)
    }

    /// An import that finds everything there. The destination stays for the next measurement.
    fn again(&self) -> anyhow::Result<Vec<Row>> {
        self.ground.clear()?;
        let add = self.add(LARGE);
        add.run(&self.ground.log())?;
        let mut seconds = Vec::new();
        let mut requests = Vec::new();
        for _ in 0..self.ground.runs {
            let (run, seen) = self.registry.requests(|| add.run(&self.ground.log()))?;
            seconds.push(run.wall.as_secs_f64());
            requests.push(seen.len() as f64);
        }
        let row = |what: &str, unit, figures, bar| Row {
            what: what.into(),
            command: add.to_string(),
            unit,
            ours: Figures::new(figures),
            peer: None,
            bar: Some(Bar::AtMost(bar)),
        };
        Ok(vec![
            row("the same import again", Unit::Seconds, seconds, AGAIN_SECONDS),
            row("requests of that", Unit::Count, requests, AGAIN_REQUESTS),
        ])
    }

    /// An image that shares five of six layers with the one that is there.
    fn sibling(&self) -> anyhow::Result<Vec<Row>> {
        let add = self.add(SIBLING);
        let (run, seen) = self.registry.requests(|| add.run(&self.ground.log()))?;
        let blobs = seen.iter().filter(|line| line.starts_with("GET ") && line.contains("/blobs/")).count();
        let row = |what: &str, unit, figure: f64, bar| Row {
            what: what.into(),
            command: add.to_string(),
            unit,
            ours: Figures::one(figure),
            peer: None,
            bar,
        };
        Ok(vec![
            // The sixth layer, and the config, which names all six.
            row(
                "blobs fetched of a second image that shares 5 of 6 layers",
                Unit::Count,
                blobs as f64,
                Some(Bar::AtMost(2.0)),
            ),
            row("its import", Unit::Seconds, run.wall.as_secs_f64(), None),
        ])
    }

    fn syncs(&self) -> anyhow::Result<Row> {
        self.ground.clear()?;
        let add = self.add(INDEX);
        let trace = self.ground.work.join("trace");
        Invocation::new(part::installed("strace"))
            .args(["-f", "-qq", "-e", "signal=none", "-e", "trace=fsync,fdatasync,syncfs,sync,msync", "-o"])
            .arg(&trace)
            .args(add.words())
            .run()?;
        // A call that another thread's line interrupts has a second line, for its end.
        let calls = fs::read_to_string(&trace)?.lines().filter(|line| !line.contains(" resumed>")).count();
        Ok(Row {
            what: "syncs of an index with 16 platforms".into(),
            command: format!("strace -f {add}"),
            unit: Unit::Count,
            ours: Figures::one(calls as f64),
            peer: None,
            bar: Some(Bar::AtMost(SYNCS)),
        })
    }

    fn platforms(&self) -> anyhow::Result<Vec<Row>> {
        let mut rows = self.cold(INDEX, "16 platforms, 3 MB")?;
        rows.truncate(2);
        rows.iter_mut().for_each(|row| row.bar = None);
        Ok(rows)
    }
}

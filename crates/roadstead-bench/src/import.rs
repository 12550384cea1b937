//! From a registry into files.

use std::fs;
use std::path::{Path, PathBuf};

use roadstead_parts::{Invocation, part};

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
    let bench = Bench { roadstead, registry, work, runs };
    let mut rows = bench.cold(LARGE, "600 MB in 6 layers")?;
    rows.extend(bench.again()?);
    rows.extend(bench.sibling()?);
    rows.push(bench.syncs()?);
    rows.extend(bench.platforms()?);
    for row in &mut rows {
        row.name(&bench.destination().display().to_string(), "DEST");
        row.name(&registry.authority(), "REGISTRY");
    }
    Ok(rows)
}

struct Bench<'a> {
    roadstead: &'a Path,
    registry: &'a Registry,
    work: &'a Path,
    runs: usize,
}

/// Who copies, and what is done before the time is taken.
struct Side {
    name: &'static str,
    program: Program,
    synced: bool,
    runs: Vec<Run>,
}

impl Side {
    fn command(&self) -> String {
        if self.synced { format!("{} && sync -f DEST", self.program) } else { self.program.to_string() }
    }

    fn figures(&self, figure: impl Fn(&Run) -> f64) -> Figures {
        Figures::new(self.runs.iter().map(figure).collect())
    }

    fn seconds(&self) -> Figures {
        self.figures(|run| run.wall.as_secs_f64())
    }
}

impl Bench<'_> {
    fn destination(&self) -> PathBuf {
        self.work.join("destination")
    }

    fn log(&self) -> PathBuf {
        self.work.join("complaints")
    }

    fn sync(&self) -> Program {
        Program::new(&part::installed("sync")).arg("-f").arg(self.work)
    }

    /// Removes the last copy and waits until the disk has forgotten it, so that nobody pays for another's work.
    fn clear(&self) -> anyhow::Result<()> {
        let destination = self.destination();
        if destination.exists() {
            fs::remove_dir_all(destination)?;
        }
        self.sync().run(&self.log())?;
        Ok(())
    }

    fn add(&self, tag: &str) -> Program {
        Program::new(self.roadstead)
            .args(["--quiet", "--tree"])
            .arg(self.destination())
            .arg("add")
            .arg(self.registry.image(tag))
    }

    fn crane(&self, tag: &str) -> Program {
        Program::new(&part::built("bin/crane"))
            .args(["pull", "--insecure", "--format=oci"])
            .arg(self.registry.image(tag))
            .arg(self.destination())
    }

    fn skopeo(&self, tag: &str) -> Program {
        Program::new(&part::installed("skopeo"))
            .args(["copy", "--quiet", "--all", "--src-tls-verify=false"])
            .arg(format!("docker://{}", self.registry.image(tag)))
            .arg(format!("dir:{}", self.destination().display()))
    }

    /// Lets all sides do their work into an empty place, by turns, each as often as asked for.
    fn alternate(&self, sides: &mut [Side]) -> anyhow::Result<()> {
        for round in 0..self.runs {
            let count = sides.len();
            for turn in 0..count {
                // Nobody always comes after the same one.
                let side = &mut sides[(round + turn) % count];
                self.clear()?;
                let mut run = side.program.run(&self.log())?;
                if side.synced {
                    run.wall += self.sync().run(&self.log())?.wall;
                }
                side.runs.push(run);
            }
        }
        self.clear()
    }

    fn cold(&self, tag: &str, what: &str) -> anyhow::Result<Vec<Row>> {
        let side = |name, program, synced| Side { name, program, synced, runs: Vec::new() };
        let mut sides = [
            side("roadstead", self.add(tag), true),
            side("crane", self.crane(tag), true),
            side("skopeo", self.skopeo(tag), true),
            side("roadstead", self.add(tag).arg("--no-sync"), false),
            side("crane", self.crane(tag), false),
        ];
        self.alternate(&mut sides)?;
        let [ours, crane, skopeo, ours_unsynced, crane_unsynced] = &sides;
        let compare = |what: String, ours: &Side, peer: &Side, bar| Row {
            what,
            command: ours.command(),
            unit: Unit::Seconds,
            ours: ours.seconds(),
            peer: Some(Peer { name: peer.name.into(), command: peer.command(), figures: peer.seconds() }),
            bar,
        };
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
        self.clear()?;
        let add = self.add(LARGE);
        add.run(&self.log())?;
        let mut seconds = Vec::new();
        let mut requests = Vec::new();
        for _ in 0..self.runs {
            let (run, seen) = self.registry.requests(|| add.run(&self.log()))?;
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
        let (run, seen) = self.registry.requests(|| add.run(&self.log()))?;
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
        self.clear()?;
        let add = self.add(INDEX);
        let trace = self.work.join("trace");
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

//! Several programs that do the same work by turns.

use std::fs;
use std::path::{Path, PathBuf};

use roadstead_parts::part;

use crate::measure::{Figures, Program, Run};
use crate::report::{Bar, Peer, Row, Unit};

/// Where they work, and how often.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) work: &'a Path,
    pub(crate) runs: usize,
}

/// Who works, and what belongs to the work.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    synced: bool,
    runs: Vec<Run>,
}

impl Side {
    /// `synced`: whether the time counts until the disk has everything.
    pub(crate) const fn new(name: &'static str, program: Program, synced: bool) -> Self {
        Self { name, program, synced, runs: Vec::new() }
    }

    /// Lets it do its work once more, by another command line: one that differs in what has to be new each time.
    pub(crate) fn work(&mut self, program: &Program, log: &Path) -> anyhow::Result<()> {
        self.runs.push(program.run(log)?);
        Ok(())
    }

    pub(crate) const fn program(&self) -> &Program {
        &self.program
    }

    pub(crate) fn command(&self) -> String {
        if self.synced { format!("{} && sync -f DEST", self.program) } else { self.program.to_string() }
    }

    pub(crate) fn figures(&self, figure: impl Fn(&Run) -> f64) -> Figures {
        Figures::new(self.runs.iter().map(figure).collect())
    }

    pub(crate) fn seconds(&self) -> Figures {
        self.figures(|run| run.wall.as_secs_f64())
    }
}

impl Ground<'_> {
    pub(crate) fn destination(&self) -> PathBuf {
        self.work.join("destination")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.work.join("complaints")
    }

    pub(crate) fn sync(&self) -> Program {
        Program::new(&part::installed("sync")).arg("-f").arg(self.work)
    }

    /// Removes the last copy and waits until the disk has forgotten it, so that nobody pays for another's work.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        let destination = self.destination();
        if destination.exists() {
            fs::remove_dir_all(destination)?;
        }
        self.sync().run(&self.log())?;
        Ok(())
    }

    /// Lets all sides do their work by turns, each as often as asked for, and each time after `before`.
    pub(crate) fn alternate(
        &self,
        sides: &mut [Side],
        before: impl Fn(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for round in 0..self.runs {
            let count = sides.len();
            for turn in 0..count {
                // Nobody always comes after the same one.
                let side = &mut sides[(round + turn) % count];
                before(self)?;
                let mut run = side.program.run(&self.log())?;
                if side.synced {
                    run.wall += self.sync().run(&self.log())?.wall;
                }
                side.runs.push(run);
            }
        }
        Ok(())
    }
}

/// The time of one side beside that of another.
pub(crate) fn compare(what: String, ours: &Side, peer: &Side, bar: Option<Bar>) -> Row {
    Row {
        what,
        command: ours.command(),
        unit: Unit::Seconds,
        ours: ours.seconds(),
        peer: Some(Peer { name: peer.name.into(), command: peer.command(), figures: peer.seconds() }),
        bar,
    }
}

//! What was measured: a table for people, a file for scripts.

use std::fmt;

use serde::Serialize;

use crate::machine::Machine;
use crate::measure::Figures;

/// The outcome of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub(crate) machine: Machine,
    /// How often each side did its work.
    pub runs: usize,
    /// How long each server was asked at a time.
    pub seconds: u64,
    /// Whether the figures say nothing, because the images were tiny.
    pub quick: bool,
    /// What was compared.
    pub rows: Vec<Row>,
}

/// One thing that was measured, with at most one peer.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What it is about.
    pub what: String,
    /// What was run.
    pub command: String,
    /// What the figures count.
    pub unit: Unit,
    /// Ours.
    pub ours: Figures,
    /// The peer, and how it was asked.
    pub peer: Option<Peer>,
    /// What is to be reached, if anything.
    pub bar: Option<Bar>,
}

/// Whom we are compared with.
#[derive(Debug, Clone, Serialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// What was run.
    pub command: String,
    /// Its figures.
    pub figures: Figures,
}

/// What figures count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes of memory.
    Bytes,
    /// Requests, system calls.
    Count,
    /// Requests a second.
    RequestsPerSecond,
    /// Bytes a second.
    BytesPerSecond,
}

/// What is to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    /// Our median is at most this often the peer's.
    NoMoreThanPeer(f64),
    /// Our median is at least this often the peer's.
    NoLessThanPeer(f64),
    /// Our largest figure is at most this.
    AtMost(f64),
}

impl Row {
    /// Writes a name in place of what is different in each run: a folder, an address.
    pub(crate) fn name(&mut self, what: &str, name: &str) {
        self.command = self.command.replace(what, name);
        if let Some(peer) = &mut self.peer {
            peer.command = peer.command.replace(what, name);
        }
    }

    /// Our median as a multiple of the peer's.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        self.peer.as_ref().map(|peer| self.ours.median / peer.figures.median)
    }

    /// Whether the bar is reached.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        let ratio = self.ratio();
        Some(match self.bar? {
            Bar::NoMoreThanPeer(most) => ratio? <= most,
            Bar::NoLessThanPeer(least) => ratio? >= least,
            Bar::AtMost(most) => self.ours.most <= most,
        })
    }
}

impl Report {
    /// The report for scripts; each row says its ratio and whether its bar is met.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        let mut report = serde_json::to_value(self)?;
        for (row, value) in self.rows.iter().zip(report["rows"].as_array_mut().into_iter().flatten()) {
            value["ratio"] = row.ratio().into();
            value["met"] = row.met().into();
        }
        serde_json::to_string_pretty(&report)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.quick {
            writeln!(f, "Tiny images, one run: these figures say nothing.\n")?;
        }
        writeln!(f, "{}", self.machine)?;
        writeln!(f, "Medians of {} runs each, alternating; servers {} s at a time.\n", self.runs, self.seconds)?;
        writeln!(f, "| what | ours | peer | | ratio | bar | met |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let unit = row.unit;
            let shown = |figures: &Figures| unit.show(figures.median);
            let (name, peer) = row.peer.as_ref().map_or(("", String::new()), |peer| (&peer.name, shown(&peer.figures)));
            let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let bar = match row.bar {
                None => String::new(),
                Some(Bar::NoMoreThanPeer(most)) => format!("≤ {most:.2} ×"),
                Some(Bar::NoLessThanPeer(least)) => format!("≥ {least:.2} ×"),
                Some(Bar::AtMost(most)) => format!("≤ {}", unit.show(most)),
            };
            let met = row.met().map_or("", |met| if met { "yes" } else { "**no**" });
            writeln!(f, "| {} | {} | {name} | {peer} | {ratio} | {bar} | {met} |", row.what, shown(&row.ours))?;
        }
        writeln!(f, "\nWhat was run:\n")?;
        let mut last = None;
        for row in &self.rows {
            if last.replace((&row.what, &row.command)) != Some((&row.what, &row.command)) {
                writeln!(f, "- {}: `{}`", row.what, row.command)?;
            }
            if let Some(peer) = &row.peer {
                writeln!(f, "  - {}: `{}`", peer.name, peer.command)?;
            }
        }
        Ok(())
    }
}

impl Unit {
    fn show(self, figure: f64) -> String {
        match self {
            Self::Seconds if figure < 1e-3 => format!("{:.1} µs", figure * 1e6),
            Self::Seconds if figure < 0.1 => format!("{:.1} ms", figure * 1e3),
            Self::Seconds => format!("{figure:.2} s"),
            Self::Bytes => format!("{:.0} MiB", figure / f64::from(1 << 20)),
            Self::Count => format!("{figure:.0}"),
            Self::RequestsPerSecond => format!("{figure:.0} /s"),
            Self::BytesPerSecond => format!("{:.2} GB/s", figure / 1e9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64, peer: f64, bar: Bar) -> Row {
        let peer = Peer { name: "other".into(), command: "other".into(), figures: Figures::one(peer) };
        let (what, command) = ("it".to_owned(), "us".to_owned());
        Row { what, command, unit: Unit::Seconds, ours: Figures::one(ours), peer: Some(peer), bar: Some(bar) }
    }

    #[test]
    fn bars() {
        assert_eq!(row(1.0, 1.0, Bar::NoMoreThanPeer(1.0)).met(), Some(true));
        assert_eq!(row(1.1, 1.0, Bar::NoMoreThanPeer(1.0)).met(), Some(false));
        assert_eq!(row(1.1, 1.0, Bar::NoLessThanPeer(1.0)).met(), Some(true));
        assert_eq!(row(0.9, 1.0, Bar::NoLessThanPeer(1.0)).met(), Some(false));
        assert_eq!(row(0.05, 9.0, Bar::AtMost(0.05)).met(), Some(true));
        assert_eq!(row(0.06, 9.0, Bar::AtMost(0.05)).met(), Some(false));
    }
}

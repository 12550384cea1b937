//! One run of a program, and what many runs say together.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;
use wait4::Wait4 as _;

/// A command line. Its surroundings are always the same: no proxies, credentials or defaults of whoever measures, but for
/// variables that it is given.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    words: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Program {
    pub(crate) fn new(program: &Path) -> Self {
        Self { words: vec![program.display().to_string()], variables: Vec::new() }
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.words.push(argument.as_ref().to_string_lossy().into_owned());
        self
    }

    /// The program with a variable in its environment, which its command line doesn't show.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.to_owned(), value.as_ref().to_string_lossy().into_owned()));
        self
    }

    pub(crate) fn args<'a>(self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        arguments.into_iter().fold(self, |program, argument| program.arg(argument))
    }

    /// The program and its arguments.
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    fn command(&self) -> anyhow::Result<Command> {
        let (program, arguments) = self.words.split_first().context("a program has a name")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/nonexistent");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Runs it to its end. What it prints goes where nobody reads it, except for complaints.
    pub(crate) fn run(&self, log: &Path) -> anyhow::Result<Run> {
        let (run, status) = self.run_to_any_end(log)?;
        if !status.success() {
            bail!("`{self}` failed with {status}: {}", std::fs::read_to_string(log)?);
        }
        Ok(run)
    }

    /// The same of what may refuse.
    pub(crate) fn run_to_any_end(&self, log: &Path) -> anyhow::Result<(Run, ExitStatus)> {
        let mut command = self.command()?;
        command.stdout(Stdio::null()).stderr(File::create(log)?);
        let start = Instant::now();
        let ended = command.spawn().with_context(|| format!("`{self}` can't be started"))?.wait4()?;
        let wall = start.elapsed();
        let run = Run { wall, cpu: ended.rusage.utime + ended.rusage.stime, peak: ended.rusage.maxrss };
        Ok((run, ended.status))
    }

    /// What it prints.
    pub(crate) fn printed(&self) -> anyhow::Result<String> {
        let ended = self.command()?.output().with_context(|| format!("`{self}` can't be started"))?;
        if !ended.status.success() {
            bail!("`{self}` failed with {}: {}", ended.status, String::from_utf8_lossy(&ended.stderr));
        }
        Ok(String::from_utf8(ended.stdout)?)
    }
}

impl fmt::Display for Program {
    /// With the program's name only, which is the part of its path that says something.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, word) in self.words.iter().enumerate() {
            match position {
                0 => f.write_str(word.rsplit('/').next().unwrap_or(word))?,
                _ => write!(f, " {word}")?,
            }
        }
        Ok(())
    }
}

/// What one run cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// The largest resident set, in bytes.
    pub(crate) peak: u64,
}

/// Figures of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// In the order in which they were measured.
    pub all: Vec<f64>,
    /// Half of them are smaller.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Figures {
    /// # Panics
    ///
    /// When there is none.
    pub(crate) fn new(all: Vec<f64>) -> Self {
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Self { median, least: sorted[0], most: sorted[sorted.len() - 1], all }
    }

    pub(crate) fn one(figure: impl Into<f64>) -> Self {
        Self::new(vec![figure.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Figures::new(vec![3.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(Figures::new(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn a_program_that_fails_is_no_figure() {
        let log = std::env::temp_dir().join(format!("roadstead-bench-{}", std::process::id()));
        let failed = Program::new(Path::new("/bin/sh")).args(["-c", "echo why >&2; exit 3"]).run(&log).unwrap_err();
        let _ = std::fs::remove_file(&log);
        assert!(failed.to_string().contains("why"), "{failed}");
    }
}

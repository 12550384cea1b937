//! What people and scripts read: results on standard output, everything else on standard error.

pub(crate) mod copied;
mod hint;
pub(crate) mod progress;
mod table;

use std::fmt::Display;
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::MultiProgress;
use roadstead::image::{CopyError, SourceError};

use crate::args::{Global, Printed};
pub(crate) use table::Table;

/// Where everything is printed.
#[derive(Clone)]
pub(crate) struct Output {
    pub(crate) format: Printed,
    pub(crate) quiet: bool,
    /// Draws the progress bars; what is printed passes through it, so that the bars stay below.
    bars: Option<MultiProgress>,
    stderr: Arc<Mutex<std::io::Stderr>>,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        let bars = (!global.quiet && std::io::stderr().is_terminal()).then(MultiProgress::new);
        let output = Self {
            format: global.printed(),
            quiet: global.quiet,
            bars,
            stderr: Arc::new(Mutex::new(std::io::stderr())),
        };
        let level = match (global.quiet, global.verbose) {
            (true, _) => "error",
            (false, 0) => "warn",
            (false, 1) => "roadstead=info,warn",
            (false, 2) => "roadstead=debug,info",
            (false, _) => "trace",
        };
        let filter = tracing_subscriber::EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
        let writer = output.clone();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || LogWriter(writer.clone())).init();
        output
    }

    /// Prints a line for people.
    pub(crate) fn note(&self, line: &(impl Display + ?Sized)) {
        if !self.quiet {
            self.line(line);
        }
    }

    /// Prints an error, its causes, and the way out where there is a known one.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let chain: Vec<_> = error.chain().skip(usize::from(is_said_by_its_cause(error))).collect();
        let mut before = chain[0].to_string();
        let mut text = format!("error: {before}");
        for cause in chain.into_iter().skip(1) {
            // Who was asked and for what has been said; why it failed comes next.
            if let Some(SourceError::Manifest { .. } | SourceError::Unreachable { .. }) = cause.downcast_ref() {
                continue;
            }
            let cause = cause.to_string();
            // Some libraries repeat their cause in their own text.
            if !before.ends_with(&cause) {
                text.push_str("\n  because: ");
                text.push_str(&cause);
            }
            before = cause;
        }
        if let Some(hint) = hint::hint(error) {
            text.push_str("\n  hint: ");
            text.push_str(&hint);
        }
        self.line(&text);
    }

    fn line(&self, line: &(impl Display + ?Sized)) {
        let print = || {
            let mut stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
            let mut stderr = BufWriter::new(&mut *stderr);
            // There is nobody left to tell if standard error is gone.
            let _ = writeln!(stderr, "{line}").and_then(|()| stderr.flush());
        };
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }

    /// A line that changes while something goes on; only on a terminal.
    pub(crate) fn spinner(&self) -> Option<indicatif::ProgressBar> {
        self.bars.as_ref().map(|bars| bars.add(indicatif::ProgressBar::new_spinner()))
    }

    /// Prints a result.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub(crate) fn result(&self, text: &(impl Display + ?Sized)) -> anyhow::Result<()> {
        let print = || {
            let mut stdout = BufWriter::new(std::io::stdout().lock());
            writeln!(stdout, "{text}").and_then(|()| stdout.flush())
        };
        let printed = match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        };
        match printed {
            // Whoever reads has seen enough, as in `roadstead list | head`.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    /// Prints a result as JSON.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub(crate) fn json(&self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        self.result(&serde_json::to_string_pretty(value)?)
    }
}

/// Whether the cause of an error names the image as well and says more: that a registry has no such image, or won't hand it
/// out.
fn is_said_by_its_cause(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(CopyError::Source { image, source, .. }) => {
            use SourceError::{Denied, NotFound, Unauthorized};
            matches!(source, NotFound { .. } | Unauthorized { .. } | Denied { .. })
                && source.to_string().contains(image)
        }
        _ => false,
    }
}

/// Prints log lines above the progress bars.
struct LogWriter(Output);

impl std::io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.line(String::from_utf8_lossy(bytes).trim_end());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A number of bytes as docker prints it: decimal units, three digits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    let mut scaled = bytes as f64;
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    match (unit, scaled) {
        (0, _) => format!("{bytes} B"),
        (_, scaled) if scaled < 9.995 => format!("{scaled:.2} {}", UNITS[unit]),
        (_, scaled) if scaled < 99.95 => format!("{scaled:.1} {}", UNITS[unit]),
        (_, scaled) => format!("{scaled:.0} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (1_234_567, "1.23 MB"),
            (9_996_000, "10.0 MB"),
            (99_960_000, "100 MB"),
            (999_600_000, "1.00 GB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}

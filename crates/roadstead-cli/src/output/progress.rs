//! Shows a copy as it happens: bars on a terminal, lines elsewhere.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use roadstead::image::{BlobOutcome, Event, Events, NotAReferrer};
use roadstead::oci::Digest;

use super::{Output, size};

/// Hears the events of all copies of a command and shows them.
pub(crate) struct Progress {
    output: Output,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bars: HashMap<Digest, ProgressBar>,
    /// What all transfers of this command amount to so far. Grows as manifests are read.
    total: Option<ProgressBar>,
    copied: Tally,
    there: Tally,
    left_out: u64,
    absent: u64,
    referrers: u64,
    nondistributable: u64,
}

/// A number of blobs, and their bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) blobs: u64,
    pub(crate) bytes: u64,
}

impl Progress {
    pub(crate) fn new(output: &Output) -> Self {
        Self { output: output.clone(), started: Instant::now(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bars away and says what it all came to.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        if let Some(total) = state.total.take() {
            total.finish_and_clear();
        }
        let State { copied, there, left_out, absent, referrers, nondistributable, .. } = *state;
        drop(state);
        if copied.blobs + there.blobs + left_out + absent + nondistributable == 0 {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let mut line = format!("{} copied ({})", blobs(copied.blobs), size(copied.bytes));
        if there.blobs > 0 {
            line.push_str(&format!(", {} already there ({})", there.blobs, size(there.bytes)));
        }
        line.push_str(&format!(", {seconds:.1} s"));
        if copied.bytes > 10_000_000 {
            line.push_str(&format!(", {}/s", size((copied.bytes as f64 / seconds) as u64)));
        }
        self.output.note(&line);
        if referrers > 0 {
            let referrers = if referrers == 1 { "1 referrer".to_owned() } else { format!("{referrers} referrers") };
            self.output.note(&format!("with {referrers}"));
        }
        if left_out > 0 {
            self.output.note(&format!("left out, as asked: {} of other platforms", manifests(left_out)));
        }
        if absent > 0 {
            self.output.note(&format!("left out, as at the source: {}", manifests(absent)));
        }
        if nondistributable > 0 {
            self.output.note(&format!(
                "left out: {}, whose owner does not allow copies; clients fetch such layers from where the manifest says",
                blobs(nondistributable)
            ));
        }
    }

    fn start(&self, bars: &MultiProgress, digest: &Digest, length: Option<u64>) {
        let mut state = self.state();
        let total = state.total.get_or_insert_with(|| {
            let style = "total        {bar:30} {decimal_bytes:>10} of {decimal_total_bytes:<10} {decimal_bytes_per_sec:>12}  {eta} left";
            bars.add(ProgressBar::new(0).with_style(styled(style)))
        });
        total.inc_length(length.unwrap_or(0));
        let bar = ProgressBar::new(length.unwrap_or(0))
            .with_style(styled(
                "{prefix} {bar:30} {decimal_bytes:>10} of {decimal_total_bytes:<10} {decimal_bytes_per_sec:>12}",
            ))
            .with_prefix(digest.short());
        let bar = bars.insert_before(total, bar);
        state.bars.insert(*digest, bar);
    }

    fn stop(&self, digest: &Digest) {
        if let Some(bar) = self.state().bars.remove(digest) {
            bar.finish_and_clear();
        }
    }
}

/// Shows how many bytes went by, on a terminal.
pub(crate) struct Meter(Option<ProgressBar>);

impl Meter {
    pub(crate) fn new(output: &Output) -> Self {
        let style = "{spinner} {decimal_bytes} {decimal_bytes_per_sec}";
        Self(output.bars.as_ref().map(|bars| bars.add(ProgressBar::no_length().with_style(styled(style)))))
    }

    pub(crate) fn add(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn styled(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ ")
}

fn blobs(number: u64) -> String {
    if number == 1 { "1 blob".to_owned() } else { format!("{number} blobs") }
}

fn manifests(number: u64) -> String {
    if number == 1 { "1 manifest".to_owned() } else { format!("{number} manifests") }
}

impl Events for Progress {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Resolved { image, descriptor } => self.output.note(&format!("{image} is {}", descriptor.digest)),
            Event::BlobStarted { blob } => {
                if let Some(bars) = &self.output.bars {
                    self.start(bars, &blob.digest, blob.size);
                }
            }
            Event::BlobProgress { blob, bytes } => {
                let state = self.state();
                if let (Some(bar), Some(total)) = (state.bars.get(blob), &state.total) {
                    bar.inc(bytes);
                    total.inc(bytes);
                }
            }
            Event::BlobDone { blob, outcome } => {
                self.stop(&blob.digest);
                let bytes = blob.size.unwrap_or(0);
                let mut state = self.state();
                let tally = match outcome {
                    BlobOutcome::Copied | BlobOutcome::Adopted | BlobOutcome::Compressed => &mut state.copied,
                    BlobOutcome::Linked | BlobOutcome::Present => &mut state.there,
                    BlobOutcome::Nondistributable => {
                        state.nondistributable += 1;
                        return;
                    }
                };
                tally.blobs += 1;
                tally.bytes += bytes;
                drop(state);
                let how = match outcome {
                    BlobOutcome::Copied => "",
                    BlobOutcome::Adopted => ", copied by the service",
                    BlobOutcome::Compressed => ", compressed",
                    BlobOutcome::Linked | BlobOutcome::Present | BlobOutcome::Nondistributable => return,
                };
                self.output.note(&format!("  {} {:>8}{how}", blob.digest.short(), size(bytes)));
            }
            Event::ReferrerDone { .. } => self.state().referrers += 1,
            Event::ReferrerLeftOut { image, subject, referrer, reason } => {
                let why = match reason {
                    NotAReferrer::Absent => "which isn't there",
                    NotAReferrer::Stranger => "which refers to something else",
                };
                self.output.note(&format!("left out of what refers to {subject} of {image}: {referrer}, {why}"));
            }
            Event::BlobFailed { blob } => self.stop(blob),
            Event::ChildLeftOut { .. } => self.state().left_out += 1,
            Event::ChildAbsent { .. } => self.state().absent += 1,
            _ => {}
        }
    }
}

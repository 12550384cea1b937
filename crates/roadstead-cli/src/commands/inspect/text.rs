//! The same for people: labels on the left, what they are about in columns.

use std::fmt::Write as _;

use serde_json::Value;

use super::report::{Content, Referrer, Report};
use crate::output::{Table, size};

/// How many characters of a command of the history are shown; some hold whole scripts.
const MAX_COMMAND: usize = 100;

pub(super) fn render(report: &Report) -> String {
    let mut page = Page::default();
    page.line("Name", report.name.iter().map(String::as_str));
    page.line("Digest", [&*report.digest.to_string()]);
    page.line("Type", [&*report.media_type]);
    page.line("Artifact", report.artifact_type.as_deref());
    page.line("Subject", report.subject.map(|subject| subject.to_string()).as_deref());
    page.line("Platform", report.platform.as_deref());
    page.line("Size", report.total_size.map(size).as_deref());
    if let Some(image) = &report.image {
        page.image(image);
    }
    page.pairs("Annotations", report.annotations.iter().map(|(key, value)| (&**key, &**value)));
    page.rows("Manifests", { report.manifests.iter() }.flat_map(|entry| entry_rows(entry, 0)).collect());
    page.rows("Config", report.config.iter().map(content_row).collect());
    page.rows("Layers", report.layers.iter().map(content_row).collect());
    if let Some(history) = report.image.as_ref().and_then(|image| image["history"].as_array()) {
        page.rows("History", history_rows(history, &report.layers));
    }
    let mut referrers = Vec::new();
    referrer_rows(&report.referrers, "", &mut referrers);
    for entry in report.manifests.iter().filter(|entry| !entry.referrers.is_empty()) {
        // What refers to a part of an index stands below that part.
        referrers.push(vec![entry.platform.clone().unwrap_or_else(|| entry.digest.short())]);
        referrer_rows(&entry.referrers, "  ", &mut referrers);
    }
    page.rows("Referrers", referrers);
    page.0.trim_end().to_owned()
}

fn entry_rows(entry: &Report, depth: usize) -> Vec<Vec<String>> {
    let what = match (&entry.platform, entry.attests) {
        (Some(platform), _) => platform.clone(),
        (None, Some(_)) => "attestation".to_owned(),
        (None, None) if entry.manifests.is_empty() => "-".to_owned(),
        (None, None) => "index".to_owned(),
    };
    let bytes = match entry.absent {
        true => "absent".to_owned(),
        false => size(
            entry
                .config
                .iter()
                .chain(&entry.layers)
                .fold(entry.size, |sum, blob| sum.saturating_add(blob.size.unwrap_or(0))),
        ),
    };
    let row = vec![
        format!("{}{what}", "  ".repeat(depth)),
        entry.digest.to_string(),
        format!("{bytes:>8}"),
        entry.media_type.clone(),
    ];
    let below = { entry.manifests.iter() }.flat_map(|entry| entry_rows(entry, depth + 1));
    std::iter::once(row).chain(below).collect()
}

fn content_row(content: &Content) -> Vec<String> {
    let bytes = content.size.map_or_else(|| "-".to_owned(), size);
    vec![content.digest.to_string(), format!("{bytes:>8}"), content.media_type.clone()]
}

/// The steps, oldest first as the layers are, each with the size of the layer that it made.
fn history_rows(history: &[Value], layers: &[Content]) -> Vec<Vec<String>> {
    let made_layer = |step: &Value| step["empty_layer"] != true;
    // Squashed images keep a history that is not about their layers.
    let fits = history.iter().filter(|step| made_layer(step)).count() == layers.len();
    let mut layers = layers.iter();
    let rows = history.iter().map(|step| {
        let layer = if fits && made_layer(step) { layers.next() } else { None };
        let bytes = layer.and_then(|layer| layer.size).map_or_else(|| "-".to_owned(), size);
        let created = text(&step["created"]).chars().take("2000-01-01".len()).collect();
        let command =
            if text(&step["created_by"]).is_empty() { text(&step["comment"]) } else { text(&step["created_by"]) };
        let mut shown: String = command.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = shown.char_indices().nth(MAX_COMMAND) {
            shown.truncate(end);
            shown.push('…');
        }
        vec![created, format!("{bytes:>8}"), shown]
    });
    rows.collect()
}

fn referrer_rows(referrers: &[Referrer], indent: &str, rows: &mut Vec<Vec<String>>) {
    for referrer in referrers {
        let kind = referrer.artifact_type.as_deref().unwrap_or(&referrer.media_type);
        let mut row = vec![format!("{indent}{kind}"), referrer.digest.to_string()];
        row.extend(referrer.tag.iter().filter_map(|tag| Some(tag.as_str().rsplit_once('.')?.1.to_owned())));
        rows.push(row);
        referrer_rows(&referrer.referrers, &format!("{indent}  "), rows);
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Everything here was written by whoever made the image: nothing of it may reach a terminal as a command, or look like another
/// line.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[derive(Default)]
struct Page(String);

impl Page {
    /// A label and what belongs to it, a line each; nothing if there is nothing.
    fn line<'a>(&mut self, label: &str, lines: impl IntoIterator<Item = &'a str>) {
        let mut label = format!("{label}:");
        for line in lines {
            let _ = writeln!(self.0, "{label:<13}{}", printable(line));
            label.clear();
        }
    }

    fn rows(&mut self, label: &str, rows: Vec<Vec<String>>) {
        let rows = rows.into_iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
        let rendered = Table::bare(rows).render();
        self.line(label, rendered.lines());
    }

    fn pairs<'a>(&mut self, label: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
        let lines: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        self.line(label, lines.iter().map(String::as_str));
    }

    /// What an image's config says about how it runs.
    ///
    /// Source: image specification, *Image Configuration*.
    fn image(&mut self, image: &Value) {
        let run = &image["config"];
        self.line("Created", image["created"].as_str());
        self.line("Author", image["author"].as_str());
        for (label, field) in
            [("Entrypoint", "Entrypoint"), ("Cmd", "Cmd"), ("Shell", "Shell"), ("Health", "Healthcheck")]
        {
            // As JSON, where the ends of words show.
            let value = Some(&run[field]).filter(|value| !value.is_null()).map(ToString::to_string);
            self.line(label, value.as_deref());
        }
        for (label, field) in [("User", "User"), ("Folder", "WorkingDir"), ("StopSignal", "StopSignal")] {
            self.line(label, run[field].as_str().filter(|text| !text.is_empty()));
        }
        self.line("Env", run["Env"].as_array().into_iter().flatten().filter_map(Value::as_str));
        for (label, field) in [("Ports", "ExposedPorts"), ("Volumes", "Volumes")] {
            self.line(label, run[field].as_object().into_iter().flatten().map(|(key, _)| key.as_str()));
        }
        let labels = run["Labels"].as_object().into_iter().flatten();
        self.pairs("Labels", labels.map(|(key, value)| (key.as_str(), text(value))));
    }
}

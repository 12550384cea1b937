//! What came out, for people and for `docs/clients.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::expected::Expected;
use super::kinds::Kind;
use super::outcome::Cell;

/// Where the documents are that show the matrix of each test, between two lines.
const DOCUMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
const END: &str = "<!-- end of what is made -->";

/// Prints the matrix, and fails if anything was not as expected, or if the document shows something else.
#[expect(clippy::print_stderr, reason = "the matrix is what the test is for")]
pub(super) fn conclude(test: &str, clients: &[&str], kinds: &[Kind], cells: &[Cell]) {
    let matrix = render(clients, kinds, cells);
    eprintln!("{matrix}");
    let surprises: Vec<_> = cells.iter().flat_map(|cell| &cell.surprises).map(String::as_str).collect();
    assert!(surprises.is_empty(), "{matrix}\n{} surprises\n\n{}", surprises.len(), surprises.join("\n\n"));
    document("clients.md", test, &matrix);
}

fn render(clients: &[&str], kinds: &[Kind], cells: &[Cell]) -> String {
    let mut table = format!("| | {} |\n|---|{}\n", clients.join(" | "), "---|".repeat(clients.len()));
    let mut notes: Vec<&str> = Vec::new();
    for Kind { name, .. } in kinds {
        write!(table, "| {name} |").unwrap();
        for client in clients {
            let cell = cells.iter().find(|cell| cell.client == *client && cell.kind == *name).unwrap();
            let (word, why) = match cell.expected {
                Expected::Works => (if cell.ran { "runs" } else { "pulls" }, None),
                Expected::Renames { why } => (if cell.ran { "runs" } else { "pulls" }, Some(why)),
                Expected::Refuses { why, .. } => ("–", Some(why)),
            };
            let word = if cell.surprises.is_empty() { word } else { "**SURPRISE**" };
            write!(table, " {word}").unwrap();
            if let Some(why) = why {
                let number = notes.iter().position(|note| *note == why).unwrap_or_else(|| {
                    notes.push(why);
                    notes.len() - 1
                });
                write!(table, " ({})", number + 1).unwrap();
            }
            table.push_str(" |");
        }
        table.push('\n');
    }
    table.push('\n');
    for (number, note) in notes.iter().enumerate() {
        writeln!(table, "{}. {note}", number + 1).unwrap();
    }
    table
}

/// Shows rows of a table that several tests make: those of others stay as the document has them.
pub(super) fn rows(name: &str, test: &str, head: &str, order: &[&str], rows: &BTreeMap<&str, String>) {
    let read = Document::read(name, test);
    let (_, shown, _) = read.parts();
    let of = |host: &str| {
        let begins = format!("| {host} |");
        let theirs = || shown.lines().find(|line| line.starts_with(&begins)).map(str::to_owned);
        rows.get(host).cloned().or_else(theirs)
    };
    let table: String = order.iter().filter_map(|host| of(host)).map(|row| row + "\n").collect();
    document(name, test, &format!("{head}{table}"));
}

/// A document with a place for what a test makes.
struct Document {
    path: PathBuf,
    begin: String,
    text: String,
}

impl Document {
    fn read(name: &str, test: &str) -> Self {
        let path = Path::new(DOCUMENTS).join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path, begin: format!("<!-- made by the test `{test}`: UPDATE_DOCS=1 -->"), text }
    }

    /// What is before, what a test has made, and what is behind.
    fn parts(&self) -> (&str, &str, &str) {
        let parts = self.text.split_once(&self.begin).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
        let parts = parts.map(|(before, (shown, after))| (before, shown, after));
        parts.unwrap_or_else(|| panic!("{} has no place for the matrix", self.path.display()))
    }
}

#[expect(clippy::disallowed_methods, reason = "whether the document is to be written is said by the environment")]
pub(super) fn document(name: &str, test: &str, matrix: &str) {
    let document = Document::read(name, test);
    let (before, shown, after) = document.parts();
    let made = format!("\n\n{matrix}\n");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let begin = &document.begin;
        std::fs::write(&document.path, format!("{before}{begin}{made}{END}{after}")).unwrap();
    } else {
        assert_eq!(shown, made, "docs/{name} shows another matrix: run the test with UPDATE_DOCS=1");
    }
}

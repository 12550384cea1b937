//! What came out, for `docs/clients.md`.

use std::fmt::Write as _;
use std::path::Path;

use roadstead::doctor::{Cause, remedy};

use crate::agreement::{Cell, Deed};

/// The folder of the documents that show what tests make, each between two lines.
const DOCUMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
const END: &str = "<!-- end of what is made -->";

/// A row of the table.
pub(crate) struct Row {
    pub(crate) number: usize,
    pub(crate) name: &'static str,
}

/// Compares the document with what came out; `UPDATE_DOCS=1` writes it.
pub(crate) fn conclude(test: &str, clients: &[&str], rows: &[Row], cells: &[Cell]) {
    let mut text = String::new();
    for (deed, heading) in [
        (Deed::Tag, "pulled by tag"),
        (Deed::Digest, "pulled by digest"),
        (Deed::Referrers, "`oras discover`"),
        (Deed::Lists, "tags listed"),
    ] {
        let of_deed: Vec<&Cell> = cells.iter().filter(|cell| cell.deed == deed).collect();
        let columns: Vec<usize> = (0..clients.len()).filter(|at| of_deed.iter().any(|cell| cell.pair == *at)).collect();
        if columns.is_empty() {
            continue;
        }
        let titles: Vec<&str> = columns.iter().map(|at| clients[*at]).collect();
        writeln!(text, "| {heading} | {} |\n|---|{}", titles.join(" | "), "---|".repeat(titles.len())).unwrap();
        for row in rows {
            let of_row: Vec<&&Cell> = of_deed.iter().filter(|cell| cell.case == row.number).collect();
            if of_row.is_empty() {
                continue;
            }
            write!(text, "| {} |", row.name).unwrap();
            for at in &columns {
                let cell = of_row.iter().find(|cell| cell.pair == *at);
                let word = cell.map_or_else(String::new, |cell| match cell.code {
                    None => "works".to_owned(),
                    Some(code) => format!("– ({code})"),
                });
                write!(text, " {word} |").unwrap();
            }
            text.push('\n');
        }
        text.push('\n');
    }
    compare("clients.md", test, &text);
}

#[expect(clippy::disallowed_methods, reason = "whether the document is to be written is said by the environment")]
fn compare(document: &str, test: &str, made: &str) {
    let begin = format!("<!-- made by the test `{test}`: UPDATE_DOCS=1 -->");
    let path = &Path::new(DOCUMENTS).join(document);
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parts = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let (before, (shown, after)) = parts.unwrap_or_else(|| panic!("{} has no place for the table", path.display()));
    let made = format!("\n\n{made}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{begin}{made}{END}{after}")).unwrap();
    } else {
        assert_eq!(shown, made, "docs/{document} shows another table: run the test with UPDATE_DOCS=1");
    }
}

#[test]
fn the_document_has_every_code() {
    let mut table = String::from("| code | what it is | what to change |\n|---|---|---|\n");
    for cause in Cause::ALL {
        let change = remedy(*cause, None).unwrap_or_default();
        writeln!(table, "| `{}` | {} | {change} |", cause.code(), cause.means()).unwrap();
    }
    table.push('\n');
    compare("doctor.md", "the_document_has_every_code", &table);
}

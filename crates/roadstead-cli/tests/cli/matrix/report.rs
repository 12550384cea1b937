//! What came out, for people and for `docs/clients.md`.

use std::fmt::Write as _;

use roadstead_parts::{Client, Failure};

use super::{By, Expected, Kind, Server, expected};

/// What one client made of one kind.
pub(super) struct Cell {
    client: String,
    kind: &'static str,
    /// What was not as expected, in full.
    pub(super) surprises: Vec<String>,
    works: bool,
}

impl Cell {
    /// Pulls one kind from all servers.
    pub(super) fn of(client: &dyn Client, kind: &Kind, servers: &[Server]) -> Self {
        let expected = expected(client.name(), kind.name);
        let mut cell = Self { client: client.name().to_owned(), kind: kind.name, surprises: Vec::new(), works: true };
        for server in servers {
            for by in server.by {
                let outcome = pull(client, kind, server, *by);
                let said = match (&outcome, expected) {
                    (Ok(()), Expected::Works) | (Err(_), Expected::Refuses(_)) => None,
                    (Ok(()), Expected::Refuses(reason)) => Some(format!("works, though {reason}")),
                    (Err(failure), Expected::Works) => Some(failure.clone()),
                };
                cell.works &= outcome.is_ok();
                let surprise = said.map(|said| format!("{}, {}, {}, by {by:?}: {said}", cell.client, cell.kind, server.name));
                cell.surprises.extend(surprise);
            }
        }
        cell
    }
}

/// Pulls an image, runs it if that can be done, and forgets it.
fn pull(client: &dyn Client, kind: &Kind, server: &Server, by: By) -> Result<(), String> {
    let repository = format!("{}/{}", server.authority, kind.repository);
    let digest = kind.image.digest().to_string();
    let (reference, pulled) = match by {
        By::Tag => {
            let reference = format!("{repository}:{}", kind.tag);
            let pulled = client.pull(&reference);
            (reference, pulled)
        }
        By::Digest => (format!("{repository}@{digest}"), client.pull_by_digest(&repository, &digest)),
    };
    let told = |failure: Failure| failure.to_string();
    let pulled = pulled.map_err(told)?;
    // A client may tell the index, the manifest that it chose, or both, but nothing else.
    let known = |told: &String| kind.image.manifests().any(|manifest| manifest.digest().to_string() == *told);
    if pulled.digests.is_empty() || !pulled.digests.iter().all(known) {
        return Err(format!("pulled {:?}, which is not {digest}", pulled.digests));
    }
    let ran = match (client.engine(), kind.greeting) {
        (Some(engine), Some(greeting)) if by == By::Tag => match engine.run(&reference) {
            Ok(printed) if printed == greeting => Ok(()),
            Ok(printed) => Err(format!("{reference} printed {printed:?} instead of {greeting:?}")),
            Err(failure) => Err(told(failure)),
        },
        _ => Ok(()),
    };
    client.forget(&reference).map_err(told)?;
    ran
}

/// Prints the matrix, and fails if anything was not as expected.
pub(super) fn conclude(clients: &[&str], kinds: &[Kind], cells: &[Cell]) {
    let mut text = String::new();
    for kind in kinds {
        let mut line = format!("| {} |", kind.name);
        for client in clients {
            let cell = cells.iter().find(|cell| cell.client == *client && cell.kind == kind.name).unwrap();
            write!(line, " {} |", if cell.works { "yes" } else { "no" }).unwrap();
        }
        writeln!(text, "{line}").unwrap();
    }
    eprintln!("{clients:?}\n{text}");
    let surprises: Vec<_> = cells.iter().flat_map(|cell| cell.surprises.iter().map(String::as_str)).collect();
    assert!(surprises.is_empty(), "{} surprises\n\n{}", surprises.len(), surprises.join("\n\n"));
}

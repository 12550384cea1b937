//! One client and one kind: what happens, and whether that was to be expected.

use std::collections::BTreeSet;

use roadstead::oci::Algorithm;
use roadstead_parts::{Client, Failure};

use super::expected::{Expected, expected, without_digests};
use super::kinds::Kind;
use super::{By, Says, Server};

/// What one client made of one kind.
pub(super) struct Cell {
    pub(super) client: String,
    pub(super) kind: &'static str,
    pub(super) expected: Expected,
    /// Whether the image printed its greeting at least once.
    pub(super) ran: bool,
    /// What was not as expected, in full.
    pub(super) surprises: Vec<String>,
}

impl Cell {
    /// Pulls one kind from all servers.
    pub(super) fn of(client: &dyn Client, kind: &Kind, servers: &[Server]) -> Self {
        let (name, expected) = (client.name(), expected(client.name(), kind.name));
        let mut cell = Self { client: name.to_owned(), kind: kind.name, expected, ran: false, surprises: Vec::new() };
        let (mut renamed, mut tagged) = (false, false);
        for server in servers {
            for by in [By::Tag, By::Digest] {
                let is_sha256 = kind.image.digest().algorithm() == Algorithm::Sha256;
                let is_told = server.says == Says::Tags || is_sha256;
                if by == By::Tag && !is_told {
                    continue;
                }
                tagged |= by == By::Tag;
                let expected = match without_digests(name) {
                    Some(other) if server.says == Says::Nothing && !is_sha256 => other,
                    _ => expected,
                };
                cell.expected = expected;
                let surprise = match (pull(client, kind, server, by), expected) {
                    (Ok(pulled), Expected::Works) if !pulled.renamed => {
                        cell.ran |= pulled.ran;
                        None
                    }
                    (Ok(pulled), Expected::Renames { .. }) => {
                        cell.ran |= pulled.ran;
                        renamed |= pulled.renamed;
                        None
                    }
                    (Ok(pulled), _) => Some(format!("pulled {:?}, though it {expected:?}", pulled.digests)),
                    (Err(failure), Expected::Refuses { says, .. })
                        if says.iter().any(|text| failure.contains(text)) =>
                    {
                        None
                    }
                    (Err(failure), _) => Some(format!("{expected:?}\n{failure}")),
                };
                let said = surprise.map(|said| format!("{name}, {}, {}, by {by:?}: {said}", kind.name, server.name));
                cell.surprises.extend(said);
            }
        }
        // What is asked for by a digest alone has no other name to be given.
        if tagged && matches!(expected, Expected::Renames { .. }) && !renamed && cell.surprises.is_empty() {
            cell.surprises.push(format!("{name}, {}: called what it is, though it {expected:?}", kind.name));
        }
        cell
    }
}

struct Success {
    ran: bool,
    digests: BTreeSet<String>,
    /// Whether one of the digests is no manifest's of the image.
    renamed: bool,
}

/// Pulls an image, runs it if that can be done, and forgets it.
fn pull(client: &dyn Client, kind: &Kind, server: &Server, by: By) -> Result<Success, String> {
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
    let digests = pulled.map_err(told)?.digests;
    if digests.is_empty() {
        return Err(format!("{reference} was pulled, but the client does not know it"));
    }
    // A client may tell the index, the manifest that it chose, what they refer to, or several of these.
    let subject = kind.image.manifest.subject().map(|subject| subject.digest);
    let known: BTreeSet<String> =
        kind.image.manifests().map(|manifest| *manifest.digest()).chain(subject).map(|d| d.to_string()).collect();
    let renamed = !digests.is_subset(&known);
    let mut ran = false;
    // Once for each server: what a digest names is what the tag named.
    if let (Some(engine), Some(greeting), By::Tag) = (client.engine(), kind.greeting, by) {
        let printed = engine.run(&reference).map_err(told)?;
        if printed != greeting {
            return Err(format!("{reference} printed {printed:?} instead of {greeting:?}"));
        }
        ran = true;
    }
    client.forget(&reference).map_err(told)?;
    Ok(Success { ran, digests, renamed })
}

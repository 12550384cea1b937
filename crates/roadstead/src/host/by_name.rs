//! Rules for hosts whose patterns are a path or its beginning: each repository has rules of its own, and each says everything.
//!
//! Where the host says which of two rules holds, names with an unusual media type are exceptions from that of the repository. Where
//! it doesn't, no path has two rules that say one header.

use super::Unsupported;
use super::plain::{self, Header, HeaderRule, Paths};
use crate::oci::{Algorithm, MediaType, Reference};
use crate::site::{self, CORS, Elsewhere, Named, Piece, Site};

/// Which paths a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum At {
    /// This one.
    Path(String),
    /// All that begin so, behind a slash or a digest's colon.
    Below(String),
}

impl At {
    /// With a `*` at its end where there may be anything.
    pub(super) fn pattern(&self) -> String {
        match self {
            Self::Path(path) => path.clone(),
            Self::Below(beginning) => format!("{beginning}*"),
        }
    }
}

/// What the headers of some paths are: all of them, but for that of [`everywhere`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathRule {
    pub(super) at: At,
    pub(super) headers: Vec<(String, String)>,
}

/// What happens to a path that two rules are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overlap {
    /// The first holds, or the more exact one, which comes first here.
    First,
    /// The host doesn't say.
    Unknown {
        /// Which host, for errors.
        host: &'static str,
    },
}

/// The headers of every answer, which no other rule repeats.
pub(super) fn everywhere(site: &Site) -> Vec<(String, String)> {
    said(&plain::header_rules(site), &Paths::All)
}

/// The rules of a site; a repository whose name begins with that of another one comes before it.
///
/// # Errors
///
/// [`Unsupported`] if a repository lies where another one has its manifests or blobs, and the host doesn't say what holds there.
pub(super) fn rules(site: &Site, overlap: Overlap) -> Result<Vec<PathRule>, Unsupported> {
    let general = plain::header_rules(site);
    let everywhere = said(&general, &Paths::All);
    let headers = |paths: Paths<'_>| {
        let mut headers = said(&general, &paths);
        let is_cors = |(name, _): &(String, String)| CORS.iter().any(|(cors, _)| site::spelled(cors) == *name);
        // What lets other origins read is long, and every host says it once for all paths.
        headers.retain(|header| !is_cors(header) && (overlap == Overlap::First || !everywhere.contains(header)));
        headers
    };
    let mut rules = vec![
        PathRule { at: At::Path("/v2/".to_owned()), headers: headers(Paths::Ping) },
        PathRule { at: At::Path("/v2/_catalog".to_owned()), headers: headers(Paths::Catalog) },
    ];
    let of_manifests = headers(Paths::Manifests);
    let of_blobs = headers(Paths::Blobs(Algorithm::Sha256));
    let of_lists = headers(Paths::TagsLists);
    let of_referrers = headers(Paths::Referrers);
    for (repository, names) in site.survey.repositories.iter().rev() {
        let base = format!("/v2/{}", plain::full_name(site, repository));
        if let Overlap::Unknown { host } = overlap {
            apart(site, host, &base)?;
        }
        if site.manifests_at.is_none() {
            manifests(&base, names, overlap, &of_manifests, &mut rules);
        }
        rules.push(PathRule { at: At::Path(format!("{base}/tags/list")), headers: of_lists.clone() });
        if site.blobs_at.is_none() {
            rules.push(PathRule { at: At::Below(format!("{base}/blobs/")), headers: of_blobs.clone() });
        }
        rules.push(PathRule { at: At::Below(format!("{base}/referrers/")), headers: of_referrers.clone() });
    }
    Ok(rules)
}

/// The rules for a repository's manifests.
fn manifests(base: &str, names: &[Named], overlap: Overlap, headers: &[(String, String)], rules: &mut Vec<PathRule>) {
    let mut push = |at, media_type: &MediaType, digest: Option<String>| {
        let mut headers = headers.to_vec();
        headers.retain(|(name, _)| name != "Content-Type");
        headers.push(("Content-Type".to_owned(), media_type.to_string()));
        headers.extend(digest.map(|digest| ("Docker-Content-Digest".to_owned(), digest)));
        rules.push(PathRule { at, headers });
    };
    let is_digest = |named: &&Named| matches!(named.reference, Reference::Digest(_));
    let only = |names: Vec<&Named>| {
        let first = names.first()?.media_type.clone();
        names.iter().all(|named| named.media_type == first).then_some(first)
    };
    let most = plain::most_frequent(names.iter()).map(|(most, _)| most);
    let below = match overlap {
        Overlap::First => most.cloned(),
        Overlap::Unknown { .. } => only(names.iter().collect()),
    };
    let digests = if below.is_some() { None } else { only(names.iter().filter(is_digest).collect()) };
    for named in names {
        let covered = if is_digest(&named) { digests.as_ref().or(below.as_ref()) } else { below.as_ref() };
        if covered == Some(&named.media_type) {
            continue;
        }
        // The rule is about one name anyway; of a digest the path says it.
        let digest = (!is_digest(&named)).then(|| named.digest.to_string());
        push(At::Path(format!("{base}/manifests/{}", named.reference)), &named.media_type, digest);
    }
    if let Some(media_type) = &digests {
        for algorithm in Algorithm::ALL {
            if names.iter().filter(is_digest).any(|named| named.digest.algorithm() == algorithm) {
                push(At::Below(format!("{base}/manifests/{algorithm}:")), media_type, None);
            }
        }
    }
    if let Some(media_type) = &below {
        push(At::Below(format!("{base}/manifests/")), media_type, None);
    }
}

/// Refuses a repository below another one's folders.
fn apart(site: &Site, host: &'static str, base: &str) -> Result<(), Unsupported> {
    let below = ["manifests", "blobs", "referrers"].map(|folder| format!("{base}/{folder}/"));
    let mut others = site.survey.repositories.keys().map(|other| plain::full_name(site, other));
    let inside = |other: &String| below.iter().any(|below| format!("/v2/{other}").starts_with(below));
    others.find(inside).map_or(Ok(()), |value| {
        let problem = "its patterns take this one for what lies in the repository before it";
        Err(Unsupported::Value { host, what: "a repository", value, problem })
    })
}

/// What a rule says, with what more general ones say and it doesn't.
fn said(rules: &[HeaderRule<'_>], paths: &Paths<'_>) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.paths.covers(paths) || rule.paths == *paths) {
        for (name, value) in &rule.headers {
            let (Header::Text(text), name) = (value, site::spelled(name)) else { continue };
            headers.retain(|(said, _)| *said != name);
            headers.push((name, text.clone()));
        }
    }
    headers
}

/// A redirect for each repository to what isn't in the site: from all below a path, to a URL in which `splat` stands for the rest.
/// Hosts whose patterns have one `*`, at their ends.
///
/// # Errors
///
/// [`Unsupported`] for a place that takes a digest apart.
pub(super) fn redirects(site: &Site, host: &'static str, splat: &str) -> Result<Vec<(String, String)>, Unsupported> {
    let mut redirects = Vec::new();
    for repository in site.survey.repositories.keys() {
        let name = plain::full_name(site, repository);
        for (folder, place) in [("blobs", &site.blobs_at), ("manifests", &site.manifests_at)] {
            if let Some(place) = place {
                redirects.push((format!("/v2/{name}/{folder}/"), elsewhere(host, place, &name, splat)?));
            }
        }
    }
    Ok(redirects)
}

fn elsewhere(host: &'static str, place: &Elsewhere, name: &str, splat: &str) -> Result<String, Unsupported> {
    if place.pieces().iter().any(|piece| matches!(piece, Piece::Hex | Piece::Algorithm)) {
        return Err(Unsupported::Value {
            host,
            what: "a place elsewhere",
            value: place.to_string(),
            problem: "it can't take a digest apart, so there must be {digest}",
        });
    }
    Ok(place.written(|piece| match piece {
        Piece::Reference => splat.to_owned(),
        piece => plain::target(piece, Algorithm::Sha256, name, ""),
    }))
}

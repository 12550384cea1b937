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

/// Names of headers, and values.
pub(super) type Headers = Vec<(String, String)>;

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

/// The rules of a site, a few for each repository and one for each name that is an exception.
pub(super) struct PathRules<'a> {
    site: &'a Site,
    overlap: Overlap,
    /// The headers of every answer, which no rule repeats where it isn't known which holds.
    pub(super) everywhere: Headers,
    ping: Headers,
    catalog: Headers,
    /// But for the media type.
    manifests: Headers,
    blobs: Headers,
    lists: Headers,
    referrers: Headers,
}

impl<'a> PathRules<'a> {
    /// The rules of a site.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] if a repository lies where another one has its manifests or blobs, and the host doesn't say what holds
    /// there.
    pub(super) fn of(site: &'a Site, overlap: Overlap) -> Result<Self, Unsupported> {
        if let Overlap::Unknown { host } = overlap {
            apart(site, host)?;
        }
        let general = plain::rules_by_pattern(site);
        let everywhere = said(&general, &Paths::All);
        let headers = |paths: Paths<'_>| {
            let mut headers = said(&general, &paths);
            let is_cors = |(name, _): &(String, String)| CORS.iter().any(|(cors, _)| site::spelled(cors) == *name);
            // What lets other origins read is long, and every host says it once for all paths.
            headers.retain(|header| !is_cors(header) && (overlap == Overlap::First || !everywhere.contains(header)));
            headers
        };
        let mut manifests = headers(Paths::Manifests);
        manifests.retain(|(name, _)| name != CONTENT_TYPE);
        Ok(Self {
            site,
            overlap,
            ping: headers(Paths::Ping),
            catalog: headers(Paths::Catalog),
            manifests,
            blobs: headers(Paths::Blobs(Algorithm::Sha256)),
            lists: headers(Paths::TagsLists),
            referrers: headers(Paths::Referrers),
            everywhere,
        })
    }

    /// Hands out one rule after the other: which paths it is about, and their headers. A repository whose name begins with
    /// that of another one comes before it.
    ///
    /// # Errors
    ///
    /// What `rule` says.
    pub(super) fn each<E>(&self, mut rule: impl FnMut(&At, &Headers) -> Result<(), E>) -> Result<(), E> {
        let Self { site, .. } = self;
        rule(&At::Path("/v2/".to_owned()), &self.ping)?;
        rule(&At::Path("/v2/_catalog".to_owned()), &self.catalog)?;
        for (repository, names) in site.survey.repositories.iter().rev() {
            let base = format!("/v2/{}", plain::full_name(site, repository));
            if site.manifests_at.is_none() {
                self.each_of_manifests(&base, names, &mut rule)?;
            }
            rule(&At::Path(format!("{base}/tags/list")), &self.lists)?;
            if site.blobs_at.is_none() {
                rule(&At::Below(format!("{base}/blobs/")), &self.blobs)?;
            }
            rule(&At::Below(format!("{base}/referrers/")), &self.referrers)?;
        }
        Ok(())
    }

    /// The rules for a repository's manifests.
    fn each_of_manifests<E>(
        &self,
        base: &str,
        names: &[Named],
        rule: &mut impl FnMut(&At, &Headers) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut headers = self.manifests.clone();
        let mut push = |at: &At, media_type: &MediaType, digest: Option<String>| {
            headers.truncate(self.manifests.len());
            headers.push((CONTENT_TYPE.to_owned(), media_type.to_string()));
            headers.extend(digest.map(|digest| ("Docker-Content-Digest".to_owned(), digest)));
            rule(at, &headers)
        };
        let is_digest = |named: &&Named| matches!(named.reference, Reference::Digest(_));
        let most = plain::most_frequent(names.iter()).map(|(most, _)| most);
        let below = match self.overlap {
            Overlap::First => most.cloned(),
            Overlap::Unknown { .. } => only_type(names.iter()),
        };
        let digests = if below.is_some() { None } else { only_type(names.iter().filter(is_digest)) };
        for named in names {
            let covered = if is_digest(&named) { digests.as_ref().or(below.as_ref()) } else { below.as_ref() };
            if covered == Some(&named.media_type) {
                continue;
            }
            // The rule is about one name anyway; of a digest the path says it.
            let digest = (!is_digest(&named)).then(|| named.digest.to_string());
            push(&At::Path(format!("{base}/manifests/{}", named.reference)), &named.media_type, digest)?;
        }
        if let Some(media_type) = &digests {
            for algorithm in Algorithm::ALL {
                if names.iter().filter(is_digest).any(|named| named.digest.algorithm() == algorithm) {
                    push(&At::Below(format!("{base}/manifests/{algorithm}:")), media_type, None)?;
                }
            }
        }
        match &below {
            Some(media_type) => push(&At::Below(format!("{base}/manifests/")), media_type, None),
            None => Ok(()),
        }
    }
}

/// The media type that all of some names have.
fn only_type<'a>(mut names: impl Iterator<Item = &'a Named>) -> Option<MediaType> {
    let first = names.next()?.media_type.clone();
    names.all(|named| named.media_type == first).then_some(first)
}

const CONTENT_TYPE: &str = "Content-Type";

/// Refuses a repository below another one's folders.
fn apart(site: &Site, host: &'static str) -> Result<(), Unsupported> {
    let inside = |repository| {
        let name = plain::full_name(site, repository);
        ["manifests", "blobs", "referrers"].into_iter().filter_map(|folder| plain::inside(site, &name, folder)).min()
    };
    site.survey.repositories.keys().rev().find_map(inside).map_or(Ok(()), |value| {
        let problem = "its patterns take this one for what lies in the repository before it";
        Err(Unsupported::Value { host, what: "a repository", value, problem })
    })
}

/// What a rule says, with what more general ones say and it doesn't.
fn said(rules: &[HeaderRule<'_>], paths: &Paths<'_>) -> Headers {
    let mut headers = Headers::new();
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

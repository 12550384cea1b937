//! What hosts of plain files have in common: they look at nothing, so what a path is answered with is said by rules over
//! patterns, the general ones first, and names are listed only where they are exceptions.
//!
//! The rules come from [`site::RULES`](crate::site::RULES). What of them no such host can do is left out here, once: the
//! digest of what a tag names, `ETag`s of our own, other bodies of errors than one for all. A host adds its syntax.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_TYPE, ETAG};

use super::budget::Limits;
use super::{Host, Unsupported};
use crate::oci::{Algorithm, ErrorCode, MediaType, Reference, Repository};
use crate::site::{
    Answer, CORS, Capture, Content, Elsewhere, Extent, Form, Measure, Named, PathPattern, Piece, RULES, Raised, Site,
    Value,
};

/// Paths that a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Paths<'a> {
    /// All of the site.
    All,
    /// `/v2/`.
    Ping,
    /// The list of repositories.
    Catalog,
    /// All lists of tags.
    TagsLists,
    /// All lists of referrers.
    Referrers,
    /// All blobs of an algorithm.
    Blobs(Algorithm),
    /// All manifests.
    Manifests,
    /// All manifests by digests of an algorithm.
    Digests(Algorithm),
    /// A repository's manifests.
    Repository(Arc<str>),
    /// A repository's manifests by digests of an algorithm.
    RepositoryDigests(Arc<str>, Algorithm),
    /// One name.
    Name(Arc<str>, &'a Reference),
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Header {
    /// As it stands.
    Text(String),
    /// The digest that the path spells.
    Digest(Algorithm),
}

/// Which headers answers to some paths have. A later rule of the same header holds instead of an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderRule<'a> {
    pub(super) paths: Paths<'a>,
    pub(super) headers: Vec<(HeaderName, Header)>,
}

/// The rules of a site: those by pattern, and then the exceptions, of which there may be as many as names.
pub(super) struct HeaderRules<'a> {
    pub(super) general: Vec<HeaderRule<'a>>,
    /// Manifests, and their media type.
    pub(super) exceptions: Vec<(Paths<'a>, &'a MediaType)>,
}

impl<'a> HeaderRules<'a> {
    pub(super) const fn len(&self) -> usize {
        self.general.len() + self.exceptions.len()
    }

    /// All of them in their order, each made when it is its turn.
    pub(super) fn iter(&self) -> impl Iterator<Item = HeaderRule<'a>> {
        self.general.iter().cloned().chain(self.exceptions())
    }

    /// The exceptions as rules.
    pub(super) fn exceptions(&self) -> impl Iterator<Item = HeaderRule<'a>> {
        self.exceptions
            .iter()
            .map(|(paths, media_type)| HeaderRule { paths: paths.clone(), headers: content_type(media_type) })
    }
}

/// What is said of an exception.
fn content_type(media_type: &MediaType) -> Said {
    vec![(CONTENT_TYPE, Header::Text(media_type.as_str().to_owned()))]
}

/// The rules of a site. Hosts follow them for what is missing, too, so they call nothing immutable: that would keep a miss for a
/// year.
pub(super) fn header_rules(site: &Site) -> HeaderRules<'_> {
    let types = Types::of(site);
    HeaderRules { general: general_rules(site, &types), exceptions: types.exceptions }
}

/// Those by pattern alone, for hosts that have exceptions of their own.
pub(super) fn rules_by_pattern(site: &Site) -> Vec<HeaderRule<'_>> {
    general_rules(site, &Types::general(site))
}

fn general_rules<'a>(site: &Site, types: &Types<'_>) -> Vec<HeaderRule<'a>> {
    let mut everywhere = rule(Paths::All, &PathPattern::Page.rule().missing, Only::Nosniff);
    everywhere.headers.extend(cors(site).map(|(name, value)| (name, Header::Text(value.to_owned()))));
    let mut rules = vec![everywhere];
    for of in RULES.iter() {
        let pattern = of.pattern;
        let answer = match (&of.found, pattern) {
            (_, PathPattern::Ping) => &of.missing,
            (Some(found), _) => found,
            (None, _) => continue,
        };
        let mut push = |paths, media_type| {
            rules.push(rule(paths, answer, Only::Everything(media_type)));
        };
        match pattern {
            PathPattern::Ping => push(Paths::Ping, None),
            PathPattern::Catalog => push(Paths::Catalog, None),
            PathPattern::TagsList => push(Paths::TagsLists, None),
            PathPattern::Referrers => push(Paths::Referrers, None),
            PathPattern::Blob if site.blobs_at.is_none() => {
                Algorithm::ALL.into_iter().for_each(|algorithm| push(Paths::Blobs(algorithm), None));
            }
            PathPattern::ManifestByTag if site.manifests_at.is_none() => push(Paths::Manifests, Some(&types.tags)),
            PathPattern::ManifestByDigest if site.manifests_at.is_none() => {
                for algorithm in Algorithm::ALL {
                    push(Paths::Digests(algorithm), Some(&types.digests));
                }
            }
            _ => {}
        }
    }
    leave_out_repeated(&mut rules);
    rules
}

/// What lets pages of other origins read, on every answer, if the site has that.
pub(super) fn cors(site: &Site) -> impl Iterator<Item = (HeaderName, &'static str)> {
    let headers = CORS.into_iter().filter(|_| site.cors);
    headers.filter_map(|(name, value)| if let Value::Fixed(text) = value { Some((name, text)) } else { None })
}

/// Takes out of each rule what the one before that covers it says already, and then the rules that say nothing.
fn leave_out_repeated(rules: &mut Vec<HeaderRule<'_>>) {
    for index in (1..rules.len()).rev() {
        let (before, from) = rules.split_at_mut(index);
        let rule = &mut from[0];
        rule.headers.retain(|(name, value)| {
            let covering = before.iter().rev().filter(|general| general.paths.covers(&rule.paths));
            let said = covering.flat_map(|general| &general.headers).find(|(of, _)| of == name);
            said.is_none_or(|(_, said)| said != value)
        });
    }
    rules.retain(|rule| !rule.headers.is_empty());
}

impl Paths<'_> {
    /// Whether these are also paths of `self`, which is the more general rule. Of rules by pattern alone.
    pub(super) fn covers(&self, other: &Self) -> bool {
        matches!((self, other), (Self::All, _) | (Self::Manifests, Self::Digests(_)))
    }

    /// Whether these are some of the manifests, so that a rule for all of them came before.
    pub(super) fn is_some_manifests(&self) -> bool {
        matches!(self, Self::Digests(_) | Self::Repository(_) | Self::RepositoryDigests(..) | Self::Name(..))
    }
}

/// Which headers of an answer a rule has.
#[derive(Clone, Copy)]
enum Only<'a> {
    /// Those that every answer has.
    Nosniff,
    /// All that can be said, with this media type where the object decides.
    Everything(Option<&'a MediaType>),
}

fn rule<'a>(paths: Paths<'a>, answer: &Answer, only: Only<'_>) -> HeaderRule<'a> {
    let algorithm = match paths {
        Paths::Blobs(algorithm) | Paths::Digests(algorithm) => Some(algorithm),
        _ => None,
    };
    let mut headers = Vec::new();
    for (name, value) in &answer.headers {
        // Hosts have validators and ranges of their own, or none.
        if [ETAG, ACCEPT_RANGES].contains(name) {
            continue;
        }
        let text = |text: &str| Some(Header::Text(text.to_owned()));
        let value = match (value, &only) {
            (_, Only::Nosniff) if *name != http::header::X_CONTENT_TYPE_OPTIONS => None,
            (Value::Fixed(fixed), _) if *name == CACHE_CONTROL => {
                text(if fixed.contains("immutable") { crate::tree::SHORTLY } else { fixed })
            }
            (Value::Fixed(fixed), _) => text(fixed),
            (Value::FromPath(Capture::Digest), _) => algorithm.map(Header::Digest),
            (Value::OfContent(Content::MediaType), Only::Everything(Some(media_type))) => text(media_type.as_str()),
            (Value::OfContent(_) | Value::OfPage, _) => None,
        };
        headers.extend(value.map(|value| (name.clone(), value)));
    }
    HeaderRule { paths, headers }
}

/// How many bytes of names one expression has: enough that there are few, and little enough that each is soon read.
const EXPRESSION: usize = 4_000;

/// What is said of some paths.
type Said = Vec<(HeaderName, Header)>;

/// The rules for hosts that take regular expressions, in the order of the rules: names with the same headers share an
/// expression, so that there are few however many names there are. A digest's digits are the first capture.
pub(super) fn expressions(rules: HeaderRules<'_>) -> Vec<(String, Said)> {
    let HeaderRules { general, exceptions } = rules;
    let mut expressions: Vec<_> =
        general.into_iter().map(|HeaderRule { paths, headers }| (expression(&paths), headers)).collect();
    // No two rules are about one name, so their order is free.
    let mut names: BTreeMap<&MediaType, Alternatives> = BTreeMap::new();
    for (paths, media_type) in exceptions {
        match &paths {
            Paths::Name(name, reference) => {
                let path = format!("{name}/manifests/{reference}").replace('.', r"\.");
                names.entry(media_type).or_default().push(&path);
            }
            _ => expressions.push((expression(&paths), content_type(media_type))),
        }
    }
    for (media_type, alternatives) in names {
        let of_names = alternatives.finish().into_iter();
        expressions.extend(of_names.map(|expression| (expression, content_type(media_type))));
    }
    expressions
}

/// Expressions for names below `/v2/`.
#[derive(Default)]
struct Alternatives {
    expressions: Vec<String>,
    names: String,
}

impl Alternatives {
    fn push(&mut self, name: &str) {
        if !self.names.is_empty() && self.names.len() + name.len() + 2 > EXPRESSION {
            self.end();
        }
        if !self.names.is_empty() {
            self.names.push('|');
        }
        self.names.push_str(name);
    }

    fn end(&mut self) {
        self.expressions.push(format!("^/v2/(?:{})$", self.names));
        self.names.clear();
    }

    fn finish(mut self) -> Vec<String> {
        self.end();
        self.expressions
    }
}

fn expression(paths: &Paths<'_>) -> String {
    let quoted = |name: &str| name.replace('.', r"\.");
    match paths {
        Paths::All => "^".to_owned(),
        Paths::Ping => "^/v2/?$".to_owned(),
        Paths::Catalog => "^/v2/_catalog$".to_owned(),
        Paths::TagsLists => "^/v2/.+/tags/list$".to_owned(),
        Paths::Referrers => "^/v2/.+/referrers/[^/]+$".to_owned(),
        Paths::Blobs(algorithm) => format!("^/v2/.+/blobs/{algorithm}:([0-9a-f]+)$"),
        Paths::Manifests => "^/v2/.+/manifests/[^/]+$".to_owned(),
        Paths::Digests(algorithm) => format!("^/v2/.+/manifests/{algorithm}:([0-9a-f]+)$"),
        Paths::Repository(name) => format!("^/v2/{}/manifests/[^/]+$", quoted(name)),
        Paths::RepositoryDigests(name, algorithm) => {
            format!("^/v2/{}/manifests/{algorithm}:([0-9a-f]+)$", quoted(name))
        }
        Paths::Name(name, reference) => format!("^/v2/{}/manifests/{}$", quoted(name), quoted(&reference.to_string())),
    }
}

/// Which media types names have: one for tags, one for digests, and exceptions. For each repository what is shorter: the
/// exceptions, or a type of its own with fewer of them.
struct Types<'a> {
    tags: MediaType,
    digests: MediaType,
    exceptions: Vec<(Paths<'a>, &'a MediaType)>,
}

impl<'a> Types<'a> {
    /// Without exceptions.
    fn general(site: &Site) -> Self {
        let most = |digests: bool| {
            let names = site.survey.names().map(|(_, named)| named);
            most_frequent(names.filter(move |named| is_digest(named) == digests))
        };
        Self {
            tags: most(false).map_or(MediaType::OCI_INDEX, |(media_type, _)| media_type.clone()),
            digests: most(true).map_or(MediaType::OCI_MANIFEST, |(media_type, _)| media_type.clone()),
            exceptions: Vec::new(),
        }
    }

    fn of(site: &'a Site) -> Self {
        let mut types = Self::general(site);
        if site.manifests_at.is_some() {
            return types;
        }
        for (repository, names) in &site.survey.repositories {
            let full: Arc<str> = full_name(site, repository).into();
            // A rule for all of a repository's manifests would hold for its digests as well: tags first, then these.
            let tags: Vec<_> = names.iter().filter(|named| !is_digest(named)).collect();
            let digests: Vec<_> = names.iter().filter(|named| is_digest(named)).collect();
            let mut algorithms: Vec<_> = digests.iter().map(|named| named.digest.algorithm()).collect();
            algorithms.sort_unstable();
            algorithms.dedup();
            let general = types.tags.clone();
            let own = cheaper(&tags, &general, 1 + algorithms.len());
            if let Some(own) = own {
                types.exceptions.push((Paths::Repository(full.clone()), own));
            }
            let general = types.digests.clone();
            let own_digests = cheaper(&digests, &general, algorithms.len());
            // The repository's rule for tags has taken the general one's place.
            let repeated = own_digests.or_else(|| own.and(most_frequent(digests.iter().copied())).map(|(own, _)| own));
            if let Some(media_type) = repeated.filter(|media_type| Some(*media_type) != own) {
                let paths = |algorithm: &Algorithm| Paths::RepositoryDigests(full.clone(), *algorithm);
                types.exceptions.extend(algorithms.iter().map(|algorithm| (paths(algorithm), media_type)));
            }
            let tag_type = own.unwrap_or(&types.tags).clone();
            let digest_type = repeated.unwrap_or(&types.digests).clone();
            for (named, default) in
                tags.iter().map(|named| (named, &tag_type)).chain(digests.iter().map(|named| (named, &digest_type)))
            {
                if named.media_type != *default {
                    types.exceptions.push((Paths::Name(full.clone(), &named.reference), &named.media_type));
                }
            }
        }
        types
    }
}

fn is_digest(named: &Named) -> bool {
    matches!(named.reference, Reference::Digest(_))
}

/// The type that most of the names have, and how many; of equals the first in order, so that the same tree always gives the
/// same rules.
pub(super) fn most_frequent<'a>(names: impl Iterator<Item = &'a Named>) -> Option<(&'a MediaType, usize)> {
    let mut counts: BTreeMap<&MediaType, usize> = BTreeMap::new();
    names.for_each(|named| *counts.entry(&named.media_type).or_default() += 1);
    counts.into_iter().rev().max_by_key(|(_, count)| *count)
}

/// A type of their own for these names, if with `cost` rules for it fewer are needed than with exceptions from the general one.
fn cheaper<'a>(names: &[&'a Named], general: &MediaType, cost: usize) -> Option<&'a MediaType> {
    let (own, count) = most_frequent(names.iter().copied())?;
    let exceptions = names.iter().filter(|named| named.media_type != *general).count();
    (cost + names.len() - count < exceptions).then_some(own)
}

/// A repository's name as clients say it.
pub(super) fn full_name(site: &Site, repository: &Repository) -> String {
    match &site.name_prefix {
        Some(prefix) => format!("{prefix}/{repository}"),
        None => repository.to_string(),
    }
}

/// The first repository that lies below a folder of this one, whose name is as clients say it.
pub(super) fn inside(site: &Site, name: &str, folder: &str) -> Option<String> {
    let prefix = site.name_prefix.as_ref().map(|prefix| format!("{prefix}/")).unwrap_or_default();
    let below = format!("{}/{folder}/", name.strip_prefix(&prefix).unwrap_or(name));
    // No name below it comes before this one; and where this one is too long, all are.
    let least: Repository = format!("{below}0").parse().ok()?;
    let (first, _) = site.survey.repositories.range(least..).next()?;
    first.as_str().starts_with(&below).then(|| full_name(site, first))
}

/// The tags whose names end in one of these, and where they are: hosts that take names for those of pages.
pub(super) fn tags_ending<'a>(site: &'a Site, ends: &'a [&str]) -> impl Iterator<Item = (String, &'a Named)> {
    let named = site.survey.names().filter(|(_, named)| match &named.reference {
        Reference::Tag(tag) => ends.iter().any(|end| tag.as_str().to_ascii_lowercase().ends_with(end)),
        Reference::Digest(_) => false,
    });
    named.map(move |(repository, named)| (full_name(site, repository), named))
}

/// A redirect's target, with the host's own words for what depends on the path.
pub(super) fn target(piece: &Piece, algorithm: Algorithm, name: &str, hex: &str) -> String {
    match piece {
        Piece::Text(text) => text.clone(),
        Piece::Name => name.to_owned(),
        Piece::Reference => format!("{algorithm}:{hex}"),
        Piece::Algorithm => algorithm.to_string(),
        Piece::Hex => hex.to_owned(),
    }
}

/// The one body for all that is missing. Most of what is missed is a tag; and a client that asks for referrers must not be told
/// that it is the repository which is unknown.
pub(super) fn missing() -> String {
    ErrorCode::ManifestUnknown.body()
}

/// Refuses what only a site of plain files has.
pub(super) fn refuse_for(host: &'static str, site: &Site) -> Result<(), Unsupported> {
    let Site { blobs_at, manifests_at, raised, .. } = site;
    let elsewhere = |place: &Elsewhere| place.to_string();
    let limit = |raised: &Raised| format!("{}={}", raised.measure.name(), raised.at_most);
    let given = [
        ("--blobs-at", blobs_at.as_ref().map(elsewhere)),
        ("--manifests-at", manifests_at.as_ref().map(elsewhere)),
        ("--limit", raised.first().map(limit)),
    ];
    match given.into_iter().find_map(|(what, given)| Some((what, given?))) {
        Some((what, value)) => {
            Err(Unsupported::Value { host, what, value, problem: "it is for hosts of plain files, which this is not" })
        }
        None => Ok(()),
    }
}

/// Begins with a site of plain files: refuses other forms, and files that the host doesn't take.
pub(super) fn begin<'a>(host: &dyn Host, site: &'a Site) -> Result<Limits<'a>, Unsupported> {
    begin_with(host, site, "--blobs-at takes the blobs out of the site")
}

/// The same on a host that can't lead elsewhere, for which `problem` says why and what else there is.
pub(super) fn begin_without_redirects<'a>(
    host: &dyn Host,
    site: &'a Site,
    problem: &'static str,
) -> Result<Limits<'a>, Unsupported> {
    for (what, place) in [("--blobs-at", &site.blobs_at), ("--manifests-at", &site.manifests_at)] {
        if let Some(place) = place {
            return Err(Unsupported::Value { host: host.name(), what, value: place.to_string(), problem });
        }
    }
    begin_with(host, site, "no redirect of this host can send blobs elsewhere")
}

fn begin_with<'a>(host: &dyn Host, site: &'a Site, blobs_elsewhere: &'static str) -> Result<Limits<'a>, Unsupported> {
    if site.form != Form::Site {
        return Err(Unsupported::Form { host: host.name(), form: site.form });
    }
    let limits = Limits { host: host.name(), budgets: host.budgets(), site };
    check_files(&limits, blobs_elsewhere)?;
    Ok(limits)
}

/// Holds the files of a site against what the host takes.
pub(super) fn check_files(limits: &Limits<'_>, blobs_elsewhere: &'static str) -> Result<(), Unsupported> {
    let Site { survey, blobs_at, manifests_at, .. } = limits.site;
    let mut files = survey.lists.clone();
    let mut add = |extent: &Extent| files = files.and(extent);
    if manifests_at.is_none() {
        add(&survey.manifests);
    }
    if blobs_at.is_none() {
        add(&survey.blobs);
    }
    if let Some((size, path)) = &files.largest {
        limits.check(Measure::FileSize, *size, || format!(" for {path}"), blobs_elsewhere)?;
    }
    limits.check(Measure::Files, files.files, String::new, "--blobs-at takes the blobs out of the site")?;
    limits.check(Measure::SiteSize, files.bytes, String::new, "--blobs-at takes the blobs out of the site")
}

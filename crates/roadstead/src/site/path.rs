//! From a request's path to what it asks for.

use std::borrow::Cow;

use super::{PAGE_TYPES, PathPattern};
use crate::oci::{Digest, Reference, Repository};

/// What a path asks for. Whatever is in here has the specification's grammar, so it can become a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// Whether here is a registry.
    Ping,
    /// The names of the repositories.
    Catalog,
    /// The tags of a repository.
    TagsList(Repository),
    /// A manifest.
    Manifest(Repository, Reference),
    /// A blob.
    Blob(Repository, Digest),
    /// The manifests with a subject.
    Referrers(Repository, Digest),
    /// A page for people, without the slash in front.
    Page(String),
    /// Nothing can lie there, or nothing that this site shows.
    Missing(PathPattern),
}

/// Why a path can't be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It doesn't begin with a slash.
    #[error("a path that doesn't begin with /")]
    Relative,
    /// A percent sign without two hexadecimal digits, or what stands for a control character.
    #[error("a path with a broken escape or a control character")]
    Escape,
}

/// Decodes the percent escapes of a path: once, so that what an escape stands for is never an escape again.
///
/// # Errors
///
/// [`PathError`] if it isn't a path.
pub fn decode(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if !raw.starts_with('/') {
        return Err(PathError::Relative);
    }
    if !raw.bytes().any(|c| c == b'%' || c.is_ascii_control()) {
        return Ok(Cow::Borrowed(raw));
    }
    let digit = |c: Option<&u8>| c.and_then(|c| char::from(*c).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let (byte, behind) = if *first == b'%' {
            match (digit(behind.first()), digit(behind.get(1))) {
                (Some(high), Some(low)) => (high << 4 | low, &behind[2..]),
                _ => return Err(PathError::Escape),
            }
        } else {
            (*first, behind)
        };
        if byte.is_ascii_control() {
            return Err(PathError::Escape);
        }
        decoded.push(byte);
        rest = behind;
    }
    // No name has a character beyond ASCII: whatever replaces what isn't UTF-8 makes the path one under which nothing lies.
    Ok(Cow::Owned(String::from_utf8_lossy(&decoded).into_owned()))
}

impl Path {
    /// What a path, as it stands in a request's first line and without the query, asks for. `prefix` is what the site puts
    /// in front of every name: it is taken away, and what lacks it is missing.
    ///
    /// Dot segments are not resolved: clients do that before they ask, and nothing lies under a path that has one.
    ///
    /// # Errors
    ///
    /// [`PathError`] if it isn't a path.
    pub fn parse(raw: &str, prefix: Option<&Repository>) -> Result<Self, PathError> {
        let path = decode(raw)?;
        let Some(rest) = path.strip_prefix("/v2/") else {
            return Ok(if path == "/v2" { Self::Ping } else { page(&path) });
        };
        Ok(match rest {
            "" => Self::Ping,
            "_catalog" => Self::Catalog,
            _ => Self::endpoint(rest, prefix),
        })
    }

    /// The endpoints that begin with a name. The last two components say which.
    fn endpoint(rest: &str, prefix: Option<&Repository>) -> Self {
        use PathPattern as P;
        let Some((before, last)) = rest.rsplit_once('/') else {
            return Self::Missing(P::Unknown);
        };
        let Some((name, kind)) = before.rsplit_once('/') else {
            return Self::Missing(P::Unknown);
        };
        if !matches!((kind, last), ("tags", "list") | ("manifests" | "blobs" | "referrers", _)) {
            return Self::Missing(P::Unknown);
        }
        // The prefix is taken away after the whole was found to be a name: `prefix-more/app` must not lose its beginning.
        let Ok(full) = name.parse::<Repository>() else {
            return Self::Missing(P::NotAName);
        };
        let repository = match prefix {
            None => Some(full),
            Some(prefix) => {
                let below = name.strip_prefix(prefix.as_str()).and_then(|below| below.strip_prefix('/'));
                below.and_then(|below| below.parse().ok())
            }
        };
        match kind {
            "tags" => repository.map_or(Self::Missing(P::TagsList), Self::TagsList),
            "manifests" => match (last.parse::<Reference>(), repository) {
                (Err(_), _) => Self::Missing(P::NotAReference),
                (Ok(reference), Some(repository)) => Self::Manifest(repository, reference),
                (Ok(Reference::Tag(_)), None) => Self::Missing(P::ManifestByTag),
                (Ok(Reference::Digest(_)), None) => Self::Missing(P::ManifestByDigest),
            },
            "blobs" => match (last.parse::<Digest>(), repository) {
                (Err(_), _) => Self::Missing(P::NotABlob),
                (Ok(digest), Some(repository)) => Self::Blob(repository, digest),
                (Ok(_), None) => Self::Missing(P::Blob),
            },
            _ => match (last.parse::<Digest>(), repository) {
                (Err(_), _) => Self::Missing(P::NotASubject),
                (Ok(digest), Some(repository)) => Self::Referrers(repository, digest),
                (Ok(_), None) => Self::Missing(P::Referrers),
            },
        }
    }

    /// Which form of path this is.
    #[must_use]
    pub const fn pattern(&self) -> PathPattern {
        match self {
            Self::Ping => PathPattern::Ping,
            Self::Catalog => PathPattern::Catalog,
            Self::TagsList(_) => PathPattern::TagsList,
            Self::Manifest(_, Reference::Tag(_)) => PathPattern::ManifestByTag,
            Self::Manifest(_, Reference::Digest(_)) => PathPattern::ManifestByDigest,
            Self::Blob(..) => PathPattern::Blob,
            Self::Referrers(..) => PathPattern::Referrers,
            Self::Page(_) => PathPattern::Page,
            Self::Missing(pattern) => *pattern,
        }
    }

    /// Whether the path belongs to the distribution API.
    #[must_use]
    pub const fn is_api(&self) -> bool {
        !matches!(self.pattern(), PathPattern::Page | PathPattern::Outside)
    }
}

/// The pages for people: names that begin with no dot, of a few types, and never the tree's own bytes.
fn page(path: &str) -> Path {
    let outside = Path::Missing(PathPattern::Outside);
    let rest = path.trim_start_matches('/');
    if path.len() - rest.len() != 1 || rest.starts_with("content/") {
        return outside;
    }
    let (folders, file) = rest.rsplit_once('/').map_or((None, rest), |(folders, file)| (Some(folders), file));
    let plain = |segment: &str| {
        let mut bytes = segment.bytes();
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
        bytes.next().is_some_and(word) && bytes.all(|c| word(c) || c == b'.')
    };
    if !folders.is_none_or(|folders| folders.split('/').all(plain)) {
        return outside;
    }
    if file.is_empty() {
        return Path::Page(format!("{rest}index.html"));
    }
    let known = file
        .rsplit_once('.')
        .is_some_and(|(stem, extension)| !stem.is_empty() && PAGE_TYPES.iter().any(|(known, _)| *known == extension));
    if plain(file) && known { Path::Page(rest.to_owned()) } else { outside }
}

#[cfg(test)]
mod tests {
    use super::PathPattern as P;
    use super::*;
    use crate::oci::Algorithm;

    fn pattern(path: &str) -> P {
        Path::parse(path, None).unwrap_or_else(|e| panic!("{path}: {e}")).pattern()
    }

    #[test]
    fn the_last_two_components_decide() {
        let digest = Algorithm::Sha256.digest(b"x");
        for (path, expected) in [
            ("/v2", P::Ping),
            ("/v2/", P::Ping),
            ("/v2/_catalog", P::Catalog),
            ("/v2/app/tags/list", P::TagsList),
            ("/v2/a/b/c/d/e/tags/list", P::TagsList),
            ("/v2/app/manifests/1.0.html", P::ManifestByTag),
            ("/v2/a/manifests/b/manifests/c", P::ManifestByTag),
            ("/v2/manifests/manifests/manifests", P::ManifestByTag),
            ("/v2/tags/manifests/list", P::ManifestByTag),
            ("/v2/a/manifests/tags/list", P::TagsList),
            (&format!("/v2/app/manifests/{digest}"), P::ManifestByDigest),
            (&format!("/v2/app/blobs/{digest}").replace(':', "%3a"), P::Blob),
            (&format!("/v2/blobs/blobs/{digest}"), P::Blob),
            (&format!("/v2/app/referrers/{digest}"), P::Referrers),
            ("/v2/app/manifests/", P::NotAReference),
            ("/v2/app/manifests/sha256:bad", P::NotAReference),
            ("/v2/app/blobs/latest", P::NotABlob),
            ("/v2/app/referrers/latest", P::NotASubject),
            ("/v2/App/manifests/latest", P::NotAName),
            ("/v2/a/../b/manifests/latest", P::NotAName),
            ("/v2//manifests/latest", P::NotAName),
            ("/v2/a//b/tags/list", P::NotAName),
            ("/v2/app", P::Unknown),
            ("/v2/app/", P::Unknown),
            ("/v2/manifests/latest", P::Unknown),
            ("/v2/app/blobs/uploads/", P::Unknown),
            ("/v2/é/manifests/%ff", P::NotAName),
            ("/", P::Page),
            ("/index.html", P::Page),
            ("/app/index.html", P::Page),
            ("/content/manifests/index.html", P::Outside),
            ("/content/", P::Outside),
            ("/.roadstead/format", P::Outside),
            ("/a/.b/c.html", P::Outside),
            ("/.html", P::Outside),
            ("//index.html", P::Outside),
            ("/v1/", P::Page),
            ("/roadstead.conf", P::Outside),
            ("/%2e%2e/etc/passwd.txt", P::Outside),
            ("/v2/%252e%252e/manifests/latest", P::NotAName),
        ] {
            assert_eq!(pattern(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_path() {
        for bad in ["", "v2/", "*", "/v2/%", "/v2/%4", "/v2/%zz", "/v2/%00", "/v2/%0a", "/v2/\u{1}", "/v2/%-1"] {
            assert!(Path::parse(bad, None).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_prefix_is_taken_away_once_and_whole() {
        let prefix: Repository = "mirror/hub".parse().unwrap();
        let parse = |path: &str| Path::parse(path, Some(&prefix)).unwrap();
        let Path::TagsList(repository) = parse("/v2/mirror/hub/mirror/hub/tags/list") else {
            panic!("not a list of tags");
        };
        assert_eq!(repository.as_str(), "mirror/hub");
        for outside in ["app", "mirror/hub", "mirror/hubs/app", "a/mirror/hub/app"] {
            assert_eq!(parse(&format!("/v2/{outside}/tags/list")), Path::Missing(P::TagsList), "{outside}");
            assert_eq!(parse(&format!("/v2/{outside}/manifests/1")), Path::Missing(P::ManifestByTag), "{outside}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_is_total(path in "(/v2/)?[a-zA-Z0-9/.%:_-]{0,80}", any in ".*") {
            let _ = Path::parse(&path, None);
            let _ = Path::parse(&any, None);
        }

        #[test]
        fn what_is_parsed_is_what_was_written(name in "[a-z0-9]{1,9}(/[a-z0-9]{1,9}){0,4}", tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}") {
            let parsed = Path::parse(&format!("/v2/{name}/manifests/{tag}"), None);
            proptest::prop_assert_eq!(parsed, Ok(Path::Manifest(name.parse().unwrap(), tag.parse().unwrap())));
        }
    }
}

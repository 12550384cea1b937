//! Names that people type: repositories, tags, references and image references.
//!
//! Source: distribution specification, "Pulling manifests" (the grammars of `<name>` and `<reference>`); normalisation as
//! the `distribution/reference` grammar and Docker do it.

use std::fmt;
use std::str::FromStr;

use super::digest::{Algorithm, Digest, DigestError, excerpt};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a repository name.
    #[error(
        "{0:?} is not a repository name: expected lower-case letters, digits and single separators (. _ __ -), in components joined by /, 255 characters at most"
    )]
    Repository(String),
    /// Not a tag.
    #[error("{0:?} is not a tag: expected up to 128 letters, digits, _ . and -, the first no . or -")]
    Tag(String),
    /// Not a registry's host name and port.
    #[error("{0:?} is not a registry: expected HOST or HOST:PORT")]
    Registry(String),
    /// The part after `@` is not a digest.
    #[error("{text:?} is not an image reference")]
    Digest {
        /// The whole text.
        text: String,
        /// What is wrong with its digest.
        source: DigestError,
    },
    /// Nothing before the tag or digest.
    #[error("{0:?} is not an image reference: expected [REGISTRY/]REPOSITORY[:TAG][@DIGEST]")]
    Image(String),
}

/// A repository's name: one or more path components, 255 bytes at most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(Box<str>);

/// The longest repository name, in bytes: what registries and clients agree on.
pub const MAX_REPOSITORY_LEN: usize = 255;

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes
        .split(|c| alphanumeric(*c))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|c| *c == b'-'))
}

impl Repository {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components between the slashes.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// This name below `prefix`.
    ///
    /// # Errors
    ///
    /// [`NameError::Repository`] if both together are too long.
    pub fn below(&self, prefix: &Self) -> Result<Self, NameError> {
        format!("{prefix}/{self}").parse()
    }
}

impl FromStr for Repository {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() <= MAX_REPOSITORY_LEN && text.split('/').all(is_component) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Repository(excerpt(text)))
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl serde::Serialize for Repository {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A tag, `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. It can't contain a colon, so it is never mistaken for a digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

impl Tag {
    /// What an image reference means that names neither tag nor digest.
    #[must_use]
    pub fn latest() -> Self {
        Self("latest".into())
    }

    /// The tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag under which clients look for the referrers of `subject` where a registry has no referrers API:
    /// `sha256-<hex>`, the hexadecimal digits cut to 64.
    ///
    /// Source: distribution specification, "Referrers Tag Schema".
    #[must_use]
    pub fn referrers_fallback(subject: &Digest) -> Self {
        let mut hex = subject.hex();
        hex.truncate(64);
        Self(format!("{}-{hex}", subject.algorithm()).into())
    }

    /// Whether this is a [fallback tag](Self::referrers_fallback), which no tag list shows.
    #[must_use]
    pub fn is_referrers_fallback(&self) -> bool {
        self.0.split_once('-').is_some_and(|(algorithm, hex)| {
            Algorithm::ALL.iter().any(|a| a.as_str() == algorithm)
                && hex.len() == 64
                && hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        })
    }

    /// The tags under which cosign keeps the signatures, attestations and SBOMs of `subject` in repositories without
    /// referrers: `sha256-<hex>.sig`, `.att` and `.sbom`. None for digests that are too long for a tag.
    ///
    /// Source: cosign, *Signature Specification*, "Tag-based discovery".
    pub fn cosign(subject: &Digest) -> impl Iterator<Item = Self> {
        let stem = format!("{}-{}", subject.algorithm(), subject.hex());
        COSIGN.iter().filter_map(move |suffix| format!("{stem}{suffix}").parse().ok())
    }

    /// The digest that this tag is about, if it is one of [cosign's](Self::cosign).
    #[must_use]
    pub fn cosign_subject(&self) -> Option<Digest> {
        let stem = COSIGN.iter().find_map(|suffix| self.0.strip_suffix(suffix))?;
        stem.replacen('-', ":", 1).parse().ok()
    }
}

const COSIGN: [&str; 3] = [".sig", ".att", ".sbom"];

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let first = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let rest = |c: u8| first(c) || c == b'.' || c == b'-';
        let bytes = text.as_bytes();
        if bytes.first().is_some_and(|c| first(*c)) && bytes.len() <= 128 && bytes.iter().all(|c| rest(*c)) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Tag(excerpt(text)))
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl serde::Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl serde::Serialize for Tag {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What names a manifest within a repository: a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// By tag.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(':') {
            text.parse().map(Self::Digest).map_err(|source| NameError::Digest { text: excerpt(text), source })
        } else {
            text.parse().map(Self::Tag)
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// A registry's host name (or address, IPv6 in brackets) and port, as an image reference spells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Registry(Box<str>);

impl Registry {
    /// Docker Hub, `docker.io`: what an image reference without a registry means.
    #[must_use]
    pub fn docker_hub() -> Self {
        Self("docker.io".into())
    }

    /// Whether this is Docker Hub, under either of its names.
    #[must_use]
    pub fn is_docker_hub(&self) -> bool {
        matches!(&*self.0, "docker.io" | "index.docker.io")
    }

    /// Host and port as typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host without port, IPv6 addresses without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        if let Some(inner) = self.0.strip_prefix('[') {
            return inner.split(']').next().unwrap_or(inner);
        }
        self.0.rsplit_once(':').map_or(&self.0, |(host, _)| host)
    }

    /// The port, if one was typed.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        let after_host = self.0.rsplit_once(']').map_or(&*self.0, |(_, rest)| rest);
        after_host.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
    }

    /// Whether the host is this machine: `localhost`, a name below it, or an address in 127.0.0.0/8 or `::1`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether the first component of an image reference names a registry rather than a part of the repository.
    fn is_meant_by(component: &str) -> bool {
        component == "localhost"
            || component.contains(['.', ':', '['])
            || component.bytes().any(|c| c.is_ascii_uppercase())
    }
}

impl FromStr for Registry {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = || NameError::Registry(excerpt(text));
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or_else(refused)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| refused())?;
            match port {
                "" => (None, None),
                _ => (None, Some(port.strip_prefix(':').ok_or_else(refused)?)),
            }
        } else {
            match text.split_once(':') {
                Some((host, port)) => (Some(host), Some(port)),
                None => (Some(text), None),
            }
        };
        if let Some(host) = host {
            let label = |label: &str| {
                !label.is_empty()
                    && label.len() <= 63
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
            };
            if host.len() > 253 || !host.split('.').all(label) {
                return Err(refused());
            }
        }
        if let Some(port) = port {
            let digits = port.bytes().all(|c| c.is_ascii_digit());
            if !digits || port.parse::<u16>().map_or(true, |port| port == 0) {
                return Err(refused());
            }
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A full image reference, normalised as Docker does it: `alpine` is `docker.io/library/alpine:latest`.
///
/// With both tag and digest the digest decides what is meant, and the tag says what it is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageReference {
    /// The registry, `docker.io` if none was typed.
    pub registry: Registry,
    /// The repository, below `library/` for official images of Docker Hub.
    pub repository: Repository,
    /// The tag that was typed; `latest` if neither tag nor digest was.
    pub tag: Option<Tag>,
    /// The digest that was typed.
    pub digest: Option<Digest>,
}

impl ImageReference {
    /// What to ask a registry for: the digest if there is one, else the tag.
    #[must_use]
    pub fn reference(&self) -> Reference {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Reference::Digest(*digest),
            (None, Some(tag)) => Reference::Tag(tag.clone()),
            (None, None) => Reference::Tag(Tag::latest()),
        }
    }
}

impl FromStr for ImageReference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (named, digest) = match text.split_once('@') {
            None => (text, None),
            Some((named, digest)) => {
                let parsed = digest.parse().map_err(|source| NameError::Digest { text: excerpt(text), source })?;
                (named, Some(parsed))
            }
        };
        let (registry, path) = match named.split_once('/') {
            Some((first, rest)) if Registry::is_meant_by(first) => (first.parse()?, rest),
            _ => (Registry::docker_hub(), named),
        };
        let registry = if registry.is_docker_hub() { Registry::docker_hub() } else { registry };
        let (path, tag) = match path.split_once(':') {
            None => (path, None),
            Some((path, tag)) => (path, Some(tag.parse()?)),
        };
        if path.is_empty() {
            return Err(NameError::Image(excerpt(text)));
        }
        let repository = if registry.is_docker_hub() && !path.contains('/') {
            format!("library/{path}").parse().map_err(|_| NameError::Repository(excerpt(path)))?
        } else {
            path.parse()?
        };
        let tag = match (&digest, tag) {
            (None, None) => Some(Tag::latest()),
            (_, tag) => tag,
        };
        Ok(Self { registry, repository, tag, digest })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_references_are_normalised_as_docker_does() {
        let digest = Algorithm::Sha256.digest(b"x");
        for (typed, meant) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("org/app", "docker.io/org/app:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/org/app:1", "docker.io/org/app:1"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("127.0.0.1:5000/a/b/c:x.html", "127.0.0.1:5000/a/b/c:x.html"),
            ("[::1]:5000/app:1", "[::1]:5000/app:1"),
            ("ghcr.io/org/app", "ghcr.io/org/app:latest"),
            ("GHCR/app", "GHCR/app:latest"),
            (&format!("app@{digest}"), &format!("docker.io/library/app@{digest}")),
            (&format!("r.io:80/app:1@{digest}"), &format!("r.io:80/app:1@{digest}")),
        ] {
            let parsed: ImageReference = typed.parse().unwrap_or_else(|e| panic!("{typed}: {e}"));
            assert_eq!(parsed.to_string(), meant, "{typed}");
            assert_eq!(meant.parse::<ImageReference>().unwrap(), parsed, "{typed}");
        }
    }

    #[test]
    fn what_is_not_an_image_reference() {
        for bad in [
            "",
            ":1",
            "@",
            "app@",
            "app@sha256:12",
            "App",
            "a//b",
            "a/b/",
            "/a",
            "a:b:c",
            "a b",
            "r.io/",
            "r.io:/a",
            "r.io:99999/a",
            "r.io:0/a",
            "[::1/a",
            "[::1]x/a",
            "-r.io/a",
            "a/../b",
            "a:.b",
            "r.io/a?b",
        ] {
            assert!(bad.parse::<ImageReference>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn repository_grammar() {
        for good in ["a", "a.b", "a_b", "a__b", "a---b", "a/b/c/d/e", "0"] {
            assert!(good.parse::<Repository>().is_ok(), "{good:?} was refused");
        }
        for bad in ["", "A", "a..b", "a___b", "a._b", "-a", "a-", "a/", "/a", "a//b", ".", "..", "a/..", "é", "a\n"] {
            assert!(bad.parse::<Repository>().is_err(), "{bad:?} was accepted");
        }
        assert!("a".repeat(256).parse::<Repository>().is_err());
    }

    #[test]
    fn registries() {
        let of = |text: &str| text.parse::<Registry>().unwrap();
        assert_eq!(of("[::1]:5000").host(), "::1");
        assert_eq!(of("[::1]:5000").port(), Some(5000));
        assert_eq!(of("[::1]").port(), None);
        assert_eq!(of("r.io:80").host(), "r.io");
        assert_eq!(of("r.io").port(), None);
        for loopback in ["localhost:1", "127.0.0.1", "127.9.9.9:5", "[::1]:5000", "a.localhost"] {
            assert!(of(loopback).is_loopback(), "{loopback}");
        }
        for other in ["r.io", "128.0.0.1", "localhost.example", "[::2]"] {
            assert!(!of(other).is_loopback(), "{other}");
        }
    }

    #[test]
    fn fallback_tags() {
        for algorithm in Algorithm::ALL {
            let tag = Tag::referrers_fallback(&algorithm.digest(b"x"));
            assert!(tag.is_referrers_fallback());
            assert_eq!(tag.as_str().len(), 7 + 64);
        }
        assert!(!Tag::latest().is_referrers_fallback());
        let digest = Algorithm::Sha256.digest(b"x");
        let cosign: Vec<Tag> = Tag::cosign(&digest).collect();
        assert_eq!(cosign[1].as_str(), format!("sha256-{}.att", digest.hex()));
        assert!(cosign.iter().all(|tag| tag.cosign_subject() == Some(digest) && !tag.is_referrers_fallback()));
        assert_eq!(Tag::cosign(&Algorithm::Sha512.digest(b"x")).count(), 0);
        assert_eq!("1.sig".parse::<Tag>().unwrap().cosign_subject(), None);
        assert!(!"sha256-abc".parse::<Tag>().unwrap().is_referrers_fallback());
    }
}

//! Media types: hostile text that becomes a path and a header, so only a narrow grammar enters.
//!
//! Source: RFC 6838, section 4.2 (names), and the image specification, *Media Types*.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::digest::excerpt;

/// The media type of a manifest, `application/` and a restricted name, lower-case and without parameters.
///
/// RFC 6838 names are case-insensitive, so upper-case letters are folded. The name may not start with a dot, which
/// also rules out `.` and `..` as the path component that it becomes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(Cow<'static, str>);

/// The longest name accepted behind `application/`, in bytes: what RFC 6838 allows for each of its two names.
pub const MAX_LEN: usize = 127;

impl MediaType {
    /// The OCI image manifest.
    pub const OCI_MANIFEST: Self = Self::known("application/vnd.oci.image.manifest.v1+json");
    /// The OCI image index.
    pub const OCI_INDEX: Self = Self::known("application/vnd.oci.image.index.v1+json");
    /// The OCI artifact manifest, withdrawn before version 1.1 but still about.
    pub const OCI_ARTIFACT: Self = Self::known("application/vnd.oci.artifact.manifest.v1+json");
    /// Docker's image manifest, version 2 schema 2.
    pub const DOCKER_MANIFEST: Self = Self::known("application/vnd.docker.distribution.manifest.v2+json");
    /// Docker's manifest list.
    pub const DOCKER_LIST: Self = Self::known("application/vnd.docker.distribution.manifest.list.v2+json");
    /// Docker's signed manifest, version 2 schema 1.
    pub const DOCKER_SCHEMA1: Self = Self::known("application/vnd.docker.distribution.manifest.v1+prettyjws");
    /// Docker's unsigned manifest, version 2 schema 1.
    pub const DOCKER_SCHEMA1_UNSIGNED: Self = Self::known("application/vnd.docker.distribution.manifest.v1+json");

    /// JSON that is no manifest: a list of tags, the catalogue.
    pub const JSON: Self = Self::known("application/json");

    /// The manifest types that clients ask for by name, in the order in which an `Accept` header offers them.
    pub const MANIFESTS: [Self; 7] = [
        Self::OCI_INDEX,
        Self::OCI_MANIFEST,
        Self::DOCKER_LIST,
        Self::DOCKER_MANIFEST,
        Self::OCI_ARTIFACT,
        Self::DOCKER_SCHEMA1,
        Self::DOCKER_SCHEMA1_UNSIGNED,
    ];

    const fn known(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// The whole text, `application/…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name for people: `OCI index`, `Docker image`; the whole text for types that have none.
    #[must_use]
    pub fn short(&self) -> &str {
        let names = ["OCI index", "OCI image", "Docker list", "Docker image", "OCI artifact", "schema 1", "schema 1"];
        Self::MANIFESTS.iter().zip(names).find(|(known, _)| *known == self).map_or(self.as_str(), |(_, name)| name)
    }

    /// Whether descriptors of this type name a manifest rather than a blob.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        Self::MANIFESTS.contains(self)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A text is not a media type that a manifest may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} can't be a manifest's media type: expected application/ and a name of RFC 6838, without parameters")]
pub struct MediaTypeError(String);

impl FromStr for MediaType {
    type Err = MediaTypeError;

    fn from_str(text: &str) -> Result<Self, MediaTypeError> {
        if let Some(known) = Self::MANIFESTS.iter().find(|known| known.as_str() == text) {
            return Ok(known.clone());
        }
        let refused = || MediaTypeError(excerpt(text));
        let folded = text.to_ascii_lowercase();
        let name = folded.strip_prefix("application/").ok_or_else(refused)?;
        let first = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let rest = |c: u8| first(c) || b"!#$&-^_.+".contains(&c);
        let well_formed = name.bytes().next().is_some_and(first) && name.bytes().all(rest);
        if !well_formed || name.len() > MAX_LEN {
            return Err(refused());
        }
        Ok(Self(Cow::Owned(folded)))
    }
}

impl serde::Serialize for MediaType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_names_enter() {
        for good in [
            "application/vnd.oci.image.manifest.v1+json",
            "application/json",
            "Application/Vnd.Example+JSON",
            &format!("application/{}", "a".repeat(127)),
        ] {
            let parsed: MediaType = good.parse().unwrap();
            assert_eq!(parsed.as_str(), good.to_ascii_lowercase());
        }
        for bad in [
            "",
            "application/",
            "text/html",
            "application/json; charset=utf-8",
            "application/..",
            "application/../../etc/passwd",
            "application/a/b",
            "application/a b",
            "application/\"x\"",
            "application/x\r\nSet-Cookie: a",
            "application/é",
            "application/.hidden",
            &format!("application/{}", "a".repeat(128)),
        ] {
            assert!(bad.parse::<MediaType>().is_err(), "{bad:?} was accepted");
        }
    }
}

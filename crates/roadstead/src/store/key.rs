//! Keys: the paths of objects.

use std::fmt;
use std::str::FromStr;

/// An object's path inside a store: components joined by slashes, none of them empty, `.` or `..`, each of 255 bytes at
/// most, without control characters or backslashes. So a key can't lead out of the store that it is used in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

/// A text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} can't be a key: a component is empty, . or .., too long, or has a character that paths can't have")]
pub struct KeyError(String);

impl Key {
    /// The key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components between the slashes.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// The key that this one is listed under, if it has more than one component.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    /// This key and a slash: what is asked for where a browser would expect an index. An object's name in a bucket, and in a
    /// directory the name of a folder, which can't be an object.
    #[must_use]
    pub fn index(&self) -> Self {
        Self(format!("{self}/").into())
    }

    /// This key, a slash, and one more component.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if `component` can't be one.
    pub fn child(&self, component: &str) -> Result<Self, KeyError> {
        let good = !component.contains('/') && is_component(component);
        let whole = || format!("{}/{component}", self.0);
        if good { Ok(Self(whole().into())) } else { Err(KeyError(crate::oci::excerpt(&whole()))) }
    }

    /// A key made of names that were parsed, and whose grammars allow nothing that a key can't hold.
    pub(crate) fn of_names(text: String) -> Self {
        debug_assert!(text.parse::<Self>().is_ok(), "{text:?} is no key");
        Self(text.into())
    }
}

/// Whether a text can stand between slashes.
fn is_component(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && text.len() <= 255 && !text.bytes().any(|b| b.is_ascii_control() || b == b'\\')
}

impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.split('/').all(is_component) { Ok(Self(text.into())) } else { Err(KeyError(crate::oci::excerpt(text))) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl serde::Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_can_not_lead_out() {
        for good in ["a", "v2/app/blobs/sha256:0", ".roadstead/format", "a..b/c"] {
            assert!(good.parse::<Key>().is_ok(), "{good:?} was refused");
        }
        for bad in ["", "/", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\0b", "a\\b", "a\nb", &"x".repeat(256)] {
            assert!(bad.parse::<Key>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn parts() {
        let key: Key = "a/b/c".parse().unwrap();
        assert_eq!(key.name(), "c");
        assert_eq!(key.parent().unwrap().as_str(), "a/b");
        assert_eq!(key.child("d").unwrap().as_str(), "a/b/c/d");
        assert!(key.child("..").is_err());
        assert_eq!(key.index().as_str(), "a/b/c/");
    }
}

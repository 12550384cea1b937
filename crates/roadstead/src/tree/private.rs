//! Which repositories are not for everybody: `.roadstead/private`, a list of patterns.
//!
//! A tree knows no users, and a web server over its folder hands out whatever lies there. So this list decides nothing by
//! itself: it is what `config`, `publish` and `serve` look at before they show a tree to anybody, and what a server that knows
//! its users may go by.

use bytes::Bytes;
use futures::TryStreamExt as _;

use super::lists::{Catalog, MAX_LIST_SIZE};
use super::{Pattern, Tree, TreeError, keys};
use crate::oci::{Algorithm, Repository};
use crate::store::{Body, Condition, Entry, Headers, Naming, Object, Version, Written};

/// The most bytes of the list.
const MAX_SIZE: u64 = 64 << 10;

/// The most patterns in it: each is held against the name of each request.
const MAX_PATTERNS: usize = 1000;

/// The longest pattern, in bytes: that of the longest name.
const MAX_PATTERN: usize = 255;

/// The repositories of a tree that are private: those whose name, as the tree has it, matches one of these patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Private(Vec<Pattern>);

impl Private {
    /// Where the list lies, below the tree.
    pub const PLACE: &'static str = ".roadstead/private";

    /// The patterns, in the order of the list.
    #[must_use]
    pub fn patterns(&self) -> &[Pattern] {
        &self.0
    }

    /// Whether there are none: then everything is public.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a repository is private.
    #[must_use]
    pub fn contains(&self, repository: &Repository) -> bool {
        self.0.iter().any(|pattern| pattern.matches(repository.as_str()))
    }

    /// Reads a list; of what can't be one, the line and what is wrong with it. What could match no repository is refused: it
    /// would protect nothing, and look as if it did.
    fn read(bytes: &[u8]) -> Result<Self, (usize, String)> {
        let mut patterns = Vec::new();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let wrong = |problem: String| (index + 1, problem);
            let line = std::str::from_utf8(line).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
            let Some(text) = pattern_of(line) else { continue };
            check(text).map_err(|problem| wrong(format!("{text:.80?} {problem}")))?;
            if patterns.len() == MAX_PATTERNS {
                return Err(wrong(format!("there are more than {MAX_PATTERNS} patterns")));
            }
            patterns.push(text.parse().map_err(|error: super::PatternError| wrong(error.to_string()))?);
        }
        Ok(Self(patterns))
    }
}

/// What a line says, a comment and the space around it aside.
fn pattern_of(line: &str) -> Option<&str> {
    let text = line.split('#').next().unwrap_or_default().trim_ascii();
    (!text.is_empty()).then_some(text)
}

/// What keeps a pattern from matching any repository, in words behind it.
fn check(pattern: &str) -> Result<(), String> {
    let known = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/' | '*' | '?');
    if pattern.len() > MAX_PATTERN {
        return Err(format!("has more than {MAX_PATTERN} bytes"));
    }
    if let Some(c) = pattern.chars().find(|c| !known(*c)) {
        return Err(format!("matches no repository: no name has {c:?} in it"));
    }
    if pattern.starts_with('/') || pattern.ends_with('/') || pattern.contains("//") {
        return Err("matches no repository: a slash stands between two components of a name".to_owned());
    }
    Ok(())
}

impl Tree {
    /// Which repositories are private. None are in a tree without a list, and in a folder whose private part is closed to who
    /// reads it: whoever makes the first list opens it.
    ///
    /// # Errors
    ///
    /// [`TreeError::Private`] if the list is none, so that nobody takes it for an empty one; [`TreeError::Store`] if it can't
    /// be read.
    pub async fn private(&self) -> Result<Private, TreeError> {
        Ok(self.private_list().await?.0)
    }

    /// Makes repositories private that match these patterns. Those that the list has already are left as they are. Returns which
    /// were new to it.
    ///
    /// # Errors
    ///
    /// As [`Tree::private`], and [`TreeError::Private`] if a pattern could match no repository or there are too many, with what
    /// would be its line; then nothing was written.
    pub async fn make_private(&self, patterns: &[Pattern]) -> Result<Vec<Pattern>, TreeError> {
        self.change_private(|private, text| {
            let mut new: Vec<Pattern> = Vec::new();
            for pattern in patterns.iter().filter(|pattern| !private.0.contains(pattern)) {
                if !new.contains(pattern) {
                    new.push(pattern.clone());
                }
            }
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            new.iter().for_each(|pattern| text.push_str(&format!("{pattern}\n")));
            new
        })
        .await
    }

    /// Takes patterns off the list; comments on lines of their own stay. Returns which of them it had.
    ///
    /// # Errors
    ///
    /// As [`Tree::private`].
    pub async fn make_public(&self, patterns: &[Pattern]) -> Result<Vec<Pattern>, TreeError> {
        self.change_private(|private, text| {
            let had: Vec<Pattern> = patterns.iter().filter(|pattern| private.0.contains(pattern)).cloned().collect();
            let stays =
                |line: &&str| pattern_of(line).is_none_or(|text| had.iter().all(|pattern| pattern.to_string() != text));
            *text = text.split_inclusive('\n').filter(stays).collect();
            had
        })
        .await
    }

    /// Changes the list in one instant; `change` says what of it came of that, nothing if nothing has to be written.
    async fn change_private(
        &self,
        change: impl Fn(&Private, &mut String) -> Vec<Pattern>,
    ) -> Result<Vec<Pattern>, TreeError> {
        let key = keys::private_list();
        loop {
            let (private, bytes, version) = self.private_list().await?;
            let mut text = String::from_utf8_lossy(&bytes).into_owned();
            let changed = change(&private, &mut text);
            if changed.is_empty() {
                return Ok(changed);
            }
            self.read_private(text.as_bytes())?;
            // Before there is a list: who can't see it takes the tree for public.
            self.0.store.reveal(&key).await?;
            let condition = version.map_or(Condition::Absent, Condition::Unchanged);
            if self.0.store.put(&key, text.into(), &Headers::default(), condition).await? == Written::Done {
                self.0.store.sync().await?;
                return Ok(changed);
            }
        }
    }

    async fn private_list(&self) -> Result<(Private, Bytes, Option<Version>), TreeError> {
        let (store, key) = (&self.0.store, keys::private_list());
        let object = match store.get(&key, None).await {
            // The folder is closed to other users, who may still read the tree; a list that is closed itself is another matter.
            Err(error) if error.is_permission_denied() && store.naming() == Naming::Links => {
                match store.head(&key).await {
                    Err(closed) if closed.is_permission_denied() => None,
                    _ => return Err(error.into()),
                }
            }
            other => other?,
        };
        let Some(object) = object else { return Ok((Private::default(), Bytes::new(), None)) };
        if object.entry.target.is_some() {
            return Err(self.no_private_list(1, "it is a link".to_owned()));
        }
        if object.entry.size > MAX_SIZE {
            return Err(self.no_private_list(1, format!("the list has more than {MAX_SIZE} bytes")));
        }
        let version = object.entry.version;
        let bytes = object.body.into_bytes(MAX_SIZE, &key).await?;
        Ok((self.read_private(&bytes)?, bytes, Some(version)))
    }

    fn read_private(&self, bytes: &[u8]) -> Result<Private, TreeError> {
        if bytes.len() as u64 > MAX_SIZE {
            return Err(self.no_private_list(1, format!("the list has more than {MAX_SIZE} bytes")));
        }
        Private::read(bytes).map_err(|(line, problem)| self.no_private_list(line, problem))
    }

    fn no_private_list(&self, line: usize, problem: String) -> TreeError {
        TreeError::Private { place: format!("{}/{}", self.0.store.describe(), keys::private_list()), line, problem }
    }

    /// The private repositories that the tree has, sorted. Costs a walk over the folders, unless the list is empty.
    ///
    /// # Errors
    ///
    /// If the tree can't be read.
    pub async fn private_repositories(&self, private: &Private) -> Result<Vec<Repository>, TreeError> {
        if private.is_empty() {
            return Ok(Vec::new());
        }
        let held = |repository: &Repository| std::future::ready(private.contains(repository));
        let mut found: Vec<Repository> = self.repositories().try_filter(held).try_collect().await?;
        found.sort_unstable();
        Ok(found)
    }

    /// The list of all repositories that are not private, as [`Tree::catalog`] has all.
    ///
    /// # Errors
    ///
    /// If the catalogue can't be read, or is none.
    pub async fn catalog_without(&self, private: &Private) -> Result<Option<Object>, TreeError> {
        let Some(Object { entry, body }) = self.catalog().await? else { return Ok(None) };
        if private.is_empty() {
            return Ok(Some(Object { entry, body }));
        }
        let key = keys::catalog();
        let damaged = |source| TreeError::DamagedList { key: key.clone(), source };
        let bytes = body.into_bytes(MAX_LIST_SIZE, &key).await?;
        let mut catalog: Catalog = serde_json::from_slice(&bytes).map_err(damaged)?;
        // What is no name can't be said to be public.
        catalog.repositories.retain(|name| name.parse().is_ok_and(|name| !private.contains(&name)));
        let bytes = Bytes::from(serde_json::to_vec(&catalog).map_err(damaged)?);
        let version = Version(Algorithm::Sha256.digest(&bytes).to_string().into());
        Ok(Some(Object { entry: Entry { size: bytes.len() as u64, version, ..entry }, body: Body::Bytes(bytes) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_patterns() {
        let text = "# ours alone\r\nsecret/**\n\n  app-? # for now\nexact/name";
        let private = Private::read(text.as_bytes()).unwrap();
        let patterns: Vec<_> = private.patterns().iter().map(ToString::to_string).collect();
        assert_eq!(patterns, ["secret/**", "app-?", "exact/name"]);
        for (name, expected) in [
            ("secret/a", true),
            ("secret/a/b", true),
            ("secret", false),
            ("app-1", true),
            ("app-10", false),
            ("exact/name", true),
            ("exact/name/below", false),
        ] {
            assert_eq!(private.contains(&name.parse().unwrap()), expected, "{name}");
        }
        assert_eq!(Private::read(b"").unwrap(), Private::default());
    }

    #[test]
    fn what_would_protect_nothing_is_refused_by_its_line() {
        let many = "a\n".repeat(MAX_PATTERNS + 1);
        let long = format!("a\n{}", "b".repeat(MAX_PATTERN + 1));
        for (text, line) in [
            (&b"a\nSecret/*"[..], 2),
            (b"# fine\n\n/secret", 3),
            (b"secret/", 1),
            (b"a//b", 1),
            (b"a b", 1),
            (b"a\0", 1),
            ("a\nb\n\u{feff}c".as_bytes(), 3),
            (b"a\n\xff\xfe", 2),
            (long.as_bytes(), 2),
            (many.as_bytes(), MAX_PATTERNS + 1),
        ] {
            let error = Private::read(text).unwrap_err();
            assert_eq!(error.0, line, "{error:?}");
        }
    }
}

//! Lists in pages, and lists of referrers by type.
//!
//! Source: distribution specification, *Listing Tags* and *Listing Referrers*.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::cache::Cache;
use super::origin::{Failure, Found};
use crate::oci::{Digest, Repository};
use crate::store::{Key, Version};
use crate::tree::{TreeError, keys};

/// The largest list that is cut into pages: some five million tags.
const MAX_LIST: u64 = 128 << 20;

/// The names of a list, sorted.
type Names = Arc<[Box<str>]>;

/// Parsed lists, each for as long as its object has the same version.
pub(super) struct Lists {
    known: Cache<Key, (Version, Names)>,
    /// Those that are being parsed. Each is by one request at a time, so that many for a large one don't hold it many times.
    parsing: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
    /// How many more may be at once.
    room: Semaphore,
}

/// How many lists are read and parsed at once. One whose bytes come slowly keeps nobody from the others.
const AT_ONCE: usize = 4;

/// A turn at a list, among all who want it.
struct Turn<'a> {
    lists: &'a Lists,
    key: &'a Key,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut parsing = self.lists.parsing.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and ours: nobody else waits.
        if Arc::strong_count(&self.lock) <= 2 {
            parsing.remove(self.key);
        }
    }
}

#[derive(serde::Deserialize)]
struct TagsFile {
    #[serde(default)]
    tags: Option<Vec<Box<str>>>,
}

#[derive(serde::Deserialize)]
struct CatalogFile {
    #[serde(default)]
    repositories: Option<Vec<Box<str>>>,
}

impl Lists {
    pub(super) fn new(memory: usize) -> Self {
        Self { known: Cache::new(memory), parsing: Mutex::default(), room: Semaphore::new(AT_ONCE) }
    }

    pub(super) async fn tags(&self, repository: &Repository, found: Found) -> Result<Names, Failure> {
        let parse = |bytes: &[u8]| serde_json::from_slice(bytes).map(|file: TagsFile| file.tags.unwrap_or_default());
        self.parsed(keys::tags_list(repository), found, parse).await
    }

    pub(super) async fn catalog(&self, found: Found) -> Result<Names, Failure> {
        let parse =
            |bytes: &[u8]| serde_json::from_slice(bytes).map(|file: CatalogFile| file.repositories.unwrap_or_default());
        self.parsed(keys::catalog(), found, parse).await
    }

    async fn parsed(
        &self,
        key: Key,
        found: Found,
        parse: impl Fn(&[u8]) -> Result<Vec<Box<str>>, serde_json::Error>,
    ) -> Result<Names, Failure> {
        let version = found.version;
        let known = || self.known.get(&key).filter(|(known, _)| Some(known) == version.as_ref());
        if let Some((_, names)) = known() {
            return Ok(names);
        }
        let turn = self.turn(&key);
        let _one = turn.lock.lock().await;
        if let Some((_, names)) = known() {
            return Ok(names);
        }
        // It is never closed.
        let _room = self.room.acquire().await.ok();
        let bytes = found.body.into_bytes(MAX_LIST, &key).await?;
        let mut names = parse(&bytes).map_err(|source| TreeError::DamagedList { key: key.clone(), source })?;
        names.sort_unstable();
        let weight = names.iter().map(|name| name.len() + size_of::<Box<str>>()).sum();
        let names: Names = names.into();
        if let Some(version) = version {
            self.known.insert(key.clone(), (version, Arc::clone(&names)), weight);
        }
        Ok(names)
    }

    fn turn<'a>(&'a self, key: &'a Key) -> Turn<'a> {
        let mut parsing = self.parsing.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = Arc::clone(parsing.entry(key.clone()).or_default());
        Turn { lists: self, key, lock }
    }
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// At most so many.
    n: Option<usize>,
    /// Those behind this one.
    last: Option<String>,
}

impl Page {
    /// What a query asks for; `None` if it asks for no page. A number that is none is as good as absent.
    pub(super) fn of(query: Option<&str>) -> Option<Self> {
        let page = Self {
            n: value(query, "n").and_then(|n| n.parse().ok()),
            last: value(query, "last").filter(|last| !last.is_empty()),
        };
        (page != Self::default()).then_some(page)
    }

    /// The names of this page, and the query for the next if there are more.
    fn cut<'a>(&self, names: &'a [Box<str>], last: Option<&str>) -> (&'a [Box<str>], Option<&'a str>) {
        let start = last.map_or(0, |last| names.partition_point(|name| &**name <= last));
        let rest = &names[start..];
        let page = &rest[..self.n.unwrap_or(rest.len()).min(rest.len())];
        let more = page.len() < rest.len();
        (page, page.last().filter(|_| more).map(|last| &**last))
    }

    fn next(&self, last: &str) -> String {
        format!("n={}&last={}", self.n.unwrap_or_default(), last.replace('/', "%2F"))
    }

    pub(super) fn tags(&self, name: &str, tags: &[Box<str>]) -> (Bytes, Option<String>) {
        let (page, last) = self.cut(tags, self.last.as_deref());
        let body = serde_json::json!({ "name": name, "tags": page });
        (body.to_string().into(), last.map(|last| self.next(last)))
    }

    pub(super) fn repositories(&self, prefix: Option<&Repository>, names: &[Box<str>]) -> (Bytes, Option<String>) {
        let prefix = prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
        // Every name shown begins with the prefix, so a `last` that doesn't lies before or behind all of them.
        let (page, last) = match self.last.as_deref().map(|last| (last, last.strip_prefix(&prefix))) {
            None => self.cut(names, None),
            Some((_, Some(below))) => self.cut(names, Some(below)),
            Some((last, None)) if last < &*prefix => self.cut(names, None),
            Some(_) => (&[][..], None),
        };
        let shown: Vec<_> = page.iter().map(|name| format!("{prefix}{name}")).collect();
        let body = serde_json::json!({ "repositories": shown });
        (body.to_string().into(), last.map(|last| self.next(&format!("{prefix}{last}"))))
    }
}

/// The first value of a parameter, decoded.
pub(super) fn value(query: Option<&str>, name: &str) -> Option<String> {
    values(query, name).next()?
}

/// All values of a parameter, decoded; `None` for what can't be.
pub(super) fn values<'a>(query: Option<&'a str>, name: &'a str) -> impl Iterator<Item = Option<String>> + 'a {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    // A query's values are escaped as paths are; the slash only makes it one.
    let decode = |raw| crate::site::decode(&format!("/{raw}")).ok().map(|decoded| decoded[1..].to_owned());
    pairs.filter(move |(key, _)| *key == name).map(move |(_, raw)| decode(raw))
}

/// The type of artifact that a query for referrers asks for.
pub(super) fn artifact_type(query: Option<&str>) -> Option<String> {
    value(query, "artifactType").filter(|artifact_type| !artifact_type.is_empty())
}

/// The list of referrers, with those of one type alone.
pub(super) async fn filtered(
    repository: &Repository,
    subject: &Digest,
    found: Found,
    artifact_type: &str,
) -> Result<Bytes, Failure> {
    let key = keys::referrers(repository, subject);
    let bytes = found.body.into_bytes(MAX_LIST, &key).await?;
    let damaged = |source| TreeError::DamagedList { key: key.clone(), source };
    let mut index: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
    if let Some(manifests) = index.get_mut("manifests").and_then(serde_json::Value::as_array_mut) {
        manifests.retain(|manifest| manifest.get("artifactType").is_some_and(|given| given == artifact_type));
    }
    Ok(index.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Box<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn pages_of_tags() {
        let tags = names(&["a", "b", "c"]);
        for (query, expected, next) in [
            ("n=2", r#"["a","b"]"#, Some("n=2&last=b")),
            ("n=2&last=b", r#"["c"]"#, None),
            ("n=3", r#"["a","b","c"]"#, None),
            ("n=0", "[]", None),
            ("n=99999999999999999999", "", None),
            ("n=-1", "", None),
            ("last=a", r#"["b","c"]"#, None),
            ("last=aa&n=1", r#"["b"]"#, Some("n=1&last=b")),
            ("last=%63", "[]", None),
            ("x=1", "", None),
        ] {
            let Some(page) = Page::of(Some(query)) else {
                assert_eq!(expected, "", "{query}");
                continue;
            };
            let (body, link) = page.tags("app", &tags);
            assert_eq!(body, format!(r#"{{"name":"app","tags":{expected}}}"#), "{query}");
            assert_eq!(link.as_deref(), next, "{query}");
        }
    }

    #[test]
    fn pages_of_repositories_below_a_prefix() {
        let prefix: Repository = "m/h".parse().unwrap();
        let all = names(&["a", "b/c", "d"]);
        for (query, expected, next) in [
            ("n=2", r#"["m/h/a","m/h/b/c"]"#, Some("n=2&last=m%2Fh%2Fb%2Fc")),
            ("n=2&last=m%2Fh%2Fb%2Fc", r#"["m/h/d"]"#, None),
            ("last=a", r#"["m/h/a","m/h/b/c","m/h/d"]"#, None),
            ("last=z", "[]", None),
        ] {
            let (body, link) = Page::of(Some(query)).unwrap().repositories(Some(&prefix), &all);
            assert_eq!(body, format!(r#"{{"repositories":{expected}}}"#), "{query}");
            assert_eq!(link.as_deref(), next, "{query}");
        }
    }

    #[tokio::test]
    async fn a_list_that_comes_slowly_keeps_nobody_from_another() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        use futures::StreamExt as _;

        use crate::store::Body;

        let lists = Lists::new(1 << 20);
        let [slow, fast]: [Repository; 2] = ["slow", "fast"].map(|name| name.parse().unwrap());
        let read = Arc::new(AtomicUsize::new(0));
        let never = || {
            let read = Arc::clone(&read);
            let bytes = futures::stream::poll_fn(move |_| {
                read.fetch_add(1, Ordering::Relaxed);
                std::task::Poll::Pending
            });
            Found { size: None, version: None, body: Body::Stream(bytes.boxed()) }
        };
        let mut first = Box::pin(lists.tags(&slow, never()));
        let mut second = Box::pin(lists.tags(&slow, never()));
        assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
        assert_eq!(read.load(Ordering::Relaxed), 1, "one at a time reads the same list");
        let list = Bytes::from_static(br#"{"name":"fast","tags":["1"]}"#);
        let found = Found { size: Some(list.len() as u64), version: None, body: Body::Bytes(list) };
        let names = tokio::time::timeout(std::time::Duration::from_secs(60), lists.tags(&fast, found));
        assert_eq!(*names.await.expect("it waits for the other").unwrap(), ["1".into()]);
        drop((first, second));
        assert!(lists.parsing.lock().unwrap().is_empty(), "what nobody wants is forgotten");
    }
}

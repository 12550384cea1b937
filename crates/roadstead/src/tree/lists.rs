//! What is derived: lists of tags, the catalogue, lists of referrers. All can be made again from the names and bytes.

mod catalog;
mod known;
mod tags;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::{Pointer, Tree, TreeError, keys, manifest_headers};
use crate::oci::{
    Algorithm, Digest, MAX_DESCRIPTORS, MAX_MANIFEST_SIZE, Manifest, MediaType, Reference, Repository, Tag,
};
use crate::store::{Condition, Headers, Key, Listed, LockGuard, LockMode, Naming, Reach, StoreError, Written};

pub(super) use catalog::{Catalog, empty_catalog};
pub(super) use known::Known;
pub(crate) use {catalog::list_of_repositories, tags::list_of_tags};

/// The largest list that is read. A tag has 128 bytes at most; this is a million tags and more.
pub(super) const MAX_LIST_SIZE: u64 = 256 << 20;

/// An image index of referrers. Entries are kept as they stand, so that one written by a newer version survives.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referrers {
    schema_version: u64,
    media_type: String,
    manifests: Vec<Value>,
}

/// How a list of referrers describes one.
///
/// Source: distribution specification, "Listing Referrers".
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Referrer<'a> {
    media_type: &'a MediaType,
    digest: &'a Digest,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

/// A change of a list of referrers.
pub(super) enum Change<'a> {
    /// Manifests of the repository, by name.
    Add(&'a BTreeSet<Digest>),
    Remove(&'a BTreeSet<Digest>),
    /// Makes it say what the manifests say. Of what it said, only fields that nobody knows are kept.
    Rebuild,
}

/// By subject, what refers to it, as the manifests of a repository say. Read once, and only if a list is missing, since that
/// asks every manifest.
pub(super) type Walked = OnceCell<BTreeMap<Digest, BTreeSet<Digest>>>;

/// How often a list is written again that a service doesn't take, since too many write it.
const ROUNDS: usize = 20;

/// How many manifests are read at once to learn what they refer to.
const READ_AT_ONCE: usize = 16;

impl Tree {
    /// Keeps other writers of a repository's lists away.
    pub(super) async fn lock_lists(&self, repository: &Repository) -> Result<LockGuard, TreeError> {
        self.lock_stripe(stripe(repository)).await
    }

    async fn lock_stripe(&self, stripe: u8) -> Result<LockGuard, TreeError> {
        Ok(self.0.store.lock(&format!("lists-{stripe:02x}"), LockMode::Exclusive).await?)
    }

    /// What lies under the key of a list, and what has to hold for it to be replaced. One that is too large to be a list is as
    /// good as none.
    async fn read_list(&self, key: &Key) -> Result<(Option<Bytes>, Condition), TreeError> {
        let Some(object) = self.0.store.get(key, None).await? else { return Ok((None, Condition::Absent)) };
        let condition = Condition::Unchanged(object.entry.version.clone());
        if object.entry.size > MAX_LIST_SIZE {
            return Ok((None, condition));
        }
        Ok((Some(object.body.into_bytes(MAX_LIST_SIZE, key).await?), condition))
    }

    /// Whether the list of what refers to `subject`, and the fallback tag, say what the manifests say: `referrers`.
    pub(super) async fn referrers_are_right(
        &self,
        repository: &Repository,
        subject: &Digest,
        referrers: &BTreeSet<Digest>,
    ) -> Result<bool, TreeError> {
        let key = keys::referrers(repository, subject);
        let Some(object) = self.list(&key).await? else { return Ok(false) };
        let bytes = object.body.into_bytes(MAX_LIST_SIZE, &key).await?;
        let Ok(list) = serde_json::from_slice::<Referrers>(&bytes) else { return Ok(false) };
        let mut expected = BTreeMap::new();
        self.describe_referrers(repository, referrers, &mut expected).await?;
        let is_right = |entry: &Value| {
            let described = entry["digest"].as_str().and_then(|digest| expected.get(digest)).and_then(Value::as_object);
            described.is_some_and(|fields| fields.iter().all(|(name, value)| entry.get(name) == Some(value)))
        };
        let in_order = list.manifests.is_sorted_by(|a, b| a["digest"].as_str() < b["digest"].as_str());
        if list.manifests.len() != expected.len() || !in_order || !list.manifests.iter().all(is_right) {
            return Ok(false);
        }
        let digest = Algorithm::Sha256.digest(&bytes);
        for name in [Reference::Tag(Tag::referrers_fallback(subject)), digest.into()] {
            match self.resolve_sound(repository, &name).await? {
                Some(pointer) if pointer.digest == digest && self.0.store.head(&pointer.at).await?.is_some() => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Changes the list of what refers to `subject`, and the fallback tag with it. A list that is missing or damaged is made
    /// again first. Returns the bytes of an earlier list that
    /// this repository names no more: whoever is alone may delete them, a writer beside others may not.
    pub(super) async fn change_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        change: Change<'_>,
        walked: &Walked,
    ) -> Result<Option<Pointer>, TreeError> {
        let store = &self.0.store;
        let _lock = self.lock_lists(repository).await?;
        let key = keys::referrers(repository, subject);
        let fallback = Reference::Tag(Tag::referrers_fallback(subject));
        // What this writer made the fallback name, before somebody else changed the list.
        let mut overtaken = BTreeSet::new();
        let mut rounds = 0;
        loop {
            rounds += 1;
            let is_patient = |error: &StoreError| error.is_throttled() && rounds < ROUNDS;
            let (held, condition) = self.read_list(&key).await?;
            let list = held.as_ref().and_then(|bytes| serde_json::from_slice::<Referrers>(bytes).ok());
            let (list, earlier) = match change {
                Change::Rebuild => (None, list),
                _ => (list, None),
            };
            let mut entries = BTreeMap::new();
            match list {
                Some(list) => {
                    let named = list.manifests.into_iter();
                    entries.extend(named.map(|entry| (entry["digest"].as_str().unwrap_or_default().to_owned(), entry)));
                }
                None => {
                    let walked = walked.get_or_try_init(|| self.walk_referrers(repository)).await?;
                    if let Some(digests) = walked.get(subject) {
                        self.describe_referrers(repository, digests, &mut entries).await?;
                    }
                }
            }
            match &change {
                Change::Add(digests) => self.describe_referrers(repository, digests, &mut entries).await?,
                Change::Remove(digests) => {
                    digests.iter().for_each(|digest| drop(entries.remove(&digest.to_string())));
                }
                Change::Rebuild => keep_unknown_fields(earlier, &mut entries),
            }
            let before = match self.resolve(repository, &fallback).await {
                Err(TreeError::Misled { .. } | TreeError::Store(StoreError::Escape { .. })) => None,
                other => other?,
            };
            let mut now = None;
            if entries.is_empty() {
                store.delete(&keys::referrers_fallback(repository, subject)).await?;
                store.delete(&key).await?;
            } else {
                let manifests: Vec<Value> = entries.into_values().collect();
                let count = manifests.len();
                let referrers =
                    Referrers { schema_version: 2, media_type: MediaType::OCI_INDEX.to_string(), manifests };
                let index = json(&key, &referrers)?;
                // Clients read it as they read any manifest, and so does this tree.
                if count > MAX_DESCRIPTORS || index.len() as u64 > MAX_MANIFEST_SIZE {
                    return Err(TreeError::TooManyReferrers { repository: repository.clone(), subject: *subject });
                }
                let digest = Algorithm::Sha256.digest(&index);
                if held.as_ref() != Some(&index) {
                    let headers = manifest_headers(&MediaType::OCI_INDEX, &digest, &fallback);
                    match store.put(&key, index.clone(), &headers, condition).await {
                        Ok(Written::Done) => {}
                        Ok(Written::Refused) => continue,
                        Err(error) if is_patient(&error) => continue,
                        Err(error) => return Err(error.into()),
                    }
                }
                // Asked for even if the list was right: whoever wrote it may have been killed before this.
                let right = match &before {
                    Some(pointer) => pointer.digest == digest && store.head(&pointer.at).await?.is_some(),
                    None => false,
                };
                if !right {
                    match self.put_fallback(repository, subject, index.clone(), &digest).await {
                        Err(TreeError::Store(error)) if is_patient(&error) => {
                            overtaken.insert(digest);
                            continue;
                        }
                        put => put?,
                    }
                }
                // Somebody whom no lock kept away may have changed the list since, and its fallback before this one.
                if store.reach() == Reach::Process && !self.holds(&key, &index).await? {
                    overtaken.insert(digest);
                    continue;
                }
                now = Some(digest);
            }
            let orphan = before.filter(|before| Some(before.digest) != now);
            overtaken.extend(orphan.as_ref().map(|orphan| orphan.digest));
            for digest in overtaken.into_iter().filter(|digest| Some(*digest) != now) {
                store.delete(&keys::manifest(repository, &digest.into())).await?;
            }
            return Ok(orphan);
        }
    }

    /// Adds to `entries` how the list describes manifests, unless it does already or they are gone.
    async fn describe_referrers(
        &self,
        repository: &Repository,
        digests: &BTreeSet<Digest>,
        entries: &mut BTreeMap<String, Value>,
    ) -> Result<(), TreeError> {
        for digest in digests {
            let name = digest.to_string();
            if !entries.contains_key(&name)
                && let Some(manifest) = self.find_sound(repository, digest).await?
            {
                entries.insert(name, describe(&keys::manifest(repository, &(*digest).into()), &manifest)?);
            }
        }
        Ok(())
    }

    /// What the manifests of a repository refer to.
    pub(super) async fn walk_referrers(
        &self,
        repository: &Repository,
    ) -> Result<BTreeMap<Digest, BTreeSet<Digest>>, TreeError> {
        let mut walked: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        let names = self.0.store.list(&keys::folder(repository, keys::MANIFESTS)).map_err(TreeError::from);
        let digests = names.try_filter_map(async |listed| match listed {
            Listed::Object(key) => Ok(key.name().parse::<Digest>().ok()),
            Listed::Prefix(_) => Ok(None),
        });
        let read = digests.map_ok(|digest| async move { self.find_sound(repository, &digest).await });
        let mut manifests = std::pin::pin!(read.try_buffer_unordered(READ_AT_ONCE));
        while let Some(manifest) = manifests.try_next().await? {
            if let Some((manifest, subject)) =
                manifest.as_ref().and_then(|manifest| Some((manifest, manifest.subject()?)))
            {
                walked.entry(subject.digest).or_default().insert(*manifest.digest());
            }
        }
        Ok(walked)
    }

    async fn put_fallback(
        &self,
        repository: &Repository,
        subject: &Digest,
        index: Bytes,
        digest: &Digest,
    ) -> Result<(), TreeError> {
        let store = &self.0.store;
        let (name, tag) = (Reference::Digest(*digest), Reference::Tag(Tag::referrers_fallback(subject)));
        let (by_digest, by_tag) = (keys::manifest(repository, &name), keys::manifest(repository, &tag));
        let headers = |name| manifest_headers(&MediaType::OCI_INDEX, digest, name);
        match store.naming() {
            Naming::Links => {
                let content = keys::manifest_content(&MediaType::OCI_INDEX, digest);
                let mut upload = store.begin_upload(Algorithm::Sha256.hasher()).await?;
                upload.write(index).await?;
                upload.finish(&content, &headers(&name)).await?;
                store.publish().await?;
                store.link(&by_digest, &content, &headers(&name)).await?;
                store.link(&by_tag, &content, &headers(&tag)).await?;
            }
            // Not as a copy of the other: somebody else may know by now that it is out of date, and delete it.
            Naming::Copies => {
                let _ = store.put(&by_digest, index.clone(), &headers(&name), Condition::Always).await?;
                let _ = store.put(&by_tag, index, &headers(&tag), Condition::Always).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn put_if_changed(&self, key: &Key, bytes: Bytes, headers: &Headers) -> Result<(), TreeError> {
        if !self.holds(key, &bytes).await? {
            // The locks of lists keep other writers away.
            let _ = self.0.store.put(key, bytes, headers, Condition::Always).await?;
        }
        Ok(())
    }

    /// Writes what whoever else writes under this key writes, too.
    pub(super) async fn put_same(&self, key: &Key, bytes: &Bytes, headers: &Headers) -> Result<(), TreeError> {
        match self.0.store.put(key, bytes.clone(), headers, Condition::Always).await {
            // Others do so just now, more often than the service takes.
            Err(error) if error.is_throttled() && self.holds(key, bytes).await? => Ok(()),
            put => Ok(put.map(drop)?),
        }
    }

    /// Whether exactly these bytes lie under a key.
    pub(super) async fn holds(&self, key: &Key, bytes: &Bytes) -> Result<bool, TreeError> {
        let size = bytes.len() as u64;
        match self.0.store.get(key, None).await? {
            Some(object) if object.entry.size == size => Ok(object.body.into_bytes(size, key).await? == *bytes),
            _ => Ok(false),
        }
    }
}

/// Adds to entries what an earlier list says of them in fields that nobody knows.
fn keep_unknown_fields(earlier: Option<Referrers>, entries: &mut BTreeMap<String, Value>) {
    for entry in earlier.into_iter().flat_map(|list| list.manifests) {
        let Some(now) = entry["digest"].as_str().and_then(|digest| entries.get_mut(digest)) else { continue };
        if let (Value::Object(fields), Some(now)) = (entry, now.as_object_mut()) {
            for (name, value) in fields {
                now.entry(name).or_insert(value);
            }
        }
    }
}

fn describe(key: &Key, manifest: &Manifest) -> Result<Value, TreeError> {
    let entry = serde_json::to_value(Referrer {
        media_type: manifest.media_type(),
        digest: manifest.digest(),
        size: manifest.bytes().len(),
        artifact_type: manifest.artifact_type(),
        annotations: manifest.annotations(),
    });
    entry.map_err(|source| TreeError::DamagedList { key: key.clone(), source })
}

/// Which lock protects the lists of a repository. There are as many as a byte has values, so that a tree of a million
/// repositories doesn't have a million lock files.
pub(super) fn stripe(repository: &Repository) -> u8 {
    Algorithm::Sha256.digest(repository.as_str().as_bytes()).as_bytes()[0]
}

/// Where the answer to `GET /v2/` lies, and what it is.
pub(super) fn pong(naming: Naming) -> (Key, Bytes) {
    // Services that keep objects in folders take nothing but emptiness for the content of one.
    let pong: &[u8] = if naming == Naming::Links { b"{}" } else { b"" };
    (keys::ping(naming), Bytes::from_static(pong))
}

fn json(key: &Key, list: &impl Serialize) -> Result<Bytes, TreeError> {
    let bytes = serde_json::to_vec(list);
    bytes.map(Bytes::from).map_err(|source| TreeError::DamagedList { key: key.clone(), source })
}

//! What is derived: lists of tags, the catalogue, lists of referrers. All can be made again from the names and bytes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::stream;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::{Pointer, Tree, TreeError, derived, keys, manifest_headers};
use crate::oci::{
    Algorithm, Digest, MAX_DESCRIPTORS, MAX_MANIFEST_SIZE, Manifest, MediaType, Reference, Repository, Tag,
};
use crate::store::{Condition, Headers, Key, Listed, LockGuard, LockMode, Naming, Reach, Small, StoreError, Written};

/// The largest list that is read. A tag has 128 bytes at most; this is a million tags and more.
pub(super) const MAX_LIST_SIZE: u64 = 256 << 20;

#[derive(Serialize)]
struct TagsList<'a> {
    name: &'a Repository,
    tags: BTreeSet<Tag>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Catalog {
    pub(super) repositories: Vec<String>,
}

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

    /// The tags of a repository, sorted, as its names say.
    pub(super) async fn read_tags(&self, repository: &Repository) -> Result<BTreeSet<Tag>, TreeError> {
        let mut tags = BTreeSet::new();
        let folder = keys::folder(repository, keys::MANIFESTS);
        let mut names = self.0.store.list(&folder);
        while let Some(listed) = names.try_next().await? {
            if let Listed::Object(key) = listed
                && let Ok(tag) = key.name().parse::<Tag>()
                && !tag.is_referrers_fallback()
            {
                tags.insert(tag);
            }
        }
        Ok(tags)
    }

    /// Makes the lists of tags of repositories and the catalogue say what the names say. All are written together. Writes
    /// nothing that is right already.
    ///
    /// Locks don't reach every writer of every store. So a list is looked at before the names are, and written on condition that
    /// it is still the one that was seen: who gave a name later looks at the list later, and sees both.
    pub(super) async fn write_lists(&self, repositories: &BTreeSet<Repository>) -> Result<(), TreeError> {
        self.write_lists_of(repositories, None).await
    }

    /// Makes the list of tags of a repository say these, some of which may be about to go. Whoever calls is
    /// [alone](Self::alone).
    pub(super) async fn write_list(&self, repository: &Repository, tags: &BTreeSet<Tag>) -> Result<(), TreeError> {
        self.write_lists_of(&BTreeSet::from([repository.clone()]), Some(tags)).await
    }

    async fn write_lists_of(
        &self,
        repositories: &BTreeSet<Repository>,
        tags: Option<&BTreeSet<Tag>>,
    ) -> Result<(), TreeError> {
        let stripes: BTreeSet<u8> = repositories.iter().map(stripe).collect();
        let mut locks = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            locks.push(self.lock_stripe(stripe).await?);
        }
        let mut stale: Vec<&Repository> = repositories.iter().collect();
        let mut rounds = 0;
        loop {
            let looked: Vec<_> = stale.into_iter().map(|repository| self.stale_list(repository, tags)).collect();
            let looked: Vec<_> = stream::iter(looked).buffered(READ_AT_ONCE).try_collect().await?;
            let (changed, lists): (Vec<_>, Vec<_>) = looked.into_iter().flatten().unzip();
            stale = match self.change_catalog(repositories, true, lists, rounds > 0).await {
                Ok(written) => { changed.into_iter().zip(written) }
                    .filter_map(|(repository, written)| (written == Written::Refused).then_some(repository))
                    .collect(),
                // So many write that the service refuses most; what another one wrote may do for this one, too.
                Err(TreeError::Store(error)) if error.is_throttled() && rounds < ROUNDS => {
                    repositories.iter().collect()
                }
                Err(error) => return Err(error),
            };
            if stale.is_empty() {
                return Ok(());
            }
            rounds += 1;
        }
    }

    /// What has to be written so that the list of a repository's tags says what the names say, or these tags, if it doesn't.
    async fn stale_list<'a>(
        &self,
        repository: &'a Repository,
        tags: Option<&BTreeSet<Tag>>,
    ) -> Result<Option<(&'a Repository, Small)>, TreeError> {
        let key = keys::tags_list(repository);
        let (held, condition) = self.read_list(&key).await?;
        let tags = match tags {
            Some(tags) => tags.clone(),
            None => self.read_tags(repository).await?,
        };
        let bytes = tags_list(repository, tags)?;
        let is_right = held.as_ref() == Some(&bytes);
        Ok((!is_right).then(|| (repository, Small { key, bytes, headers: derived(), condition })))
    }

    /// Makes the lists of tags of repositories and the catalogue say what the names say, and waits until that is durable.
    pub(crate) async fn bring_lists_up_to_date(&self, repositories: &BTreeSet<Repository>) -> Result<(), TreeError> {
        if !repositories.is_empty() {
            self.write_lists(repositories).await?;
        }
        Ok(self.0.store.sync().await?)
    }

    /// The repositories that the catalogue names; none if it can't be read.
    pub(crate) async fn listed_repositories(&self) -> Result<BTreeSet<String>, TreeError> {
        let (bytes, _) = self.read_list(&keys::catalog()).await?;
        let catalog = bytes.and_then(|bytes| serde_json::from_slice::<Catalog>(&bytes).ok());
        Ok(catalog.map(|catalog| catalog.repositories.into_iter().collect()).unwrap_or_default())
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

    /// Whether the list of a repository's tags says what the names say.
    pub(super) async fn tags_list_is_right(&self, repository: &Repository) -> Result<bool, TreeError> {
        let bytes = tags_list(repository, self.read_tags(repository).await?)?;
        self.holds(&keys::tags_list(repository), &bytes).await
    }

    /// Whether the catalogue names exactly these repositories.
    pub(super) async fn catalog_is_right(&self, repositories: &BTreeSet<Repository>) -> Result<bool, TreeError> {
        let key = keys::catalog();
        let catalog = Catalog { repositories: repositories.iter().map(ToString::to_string).collect() };
        self.holds(&key, &json(&key, &catalog)?).await
    }

    /// Makes the catalogue anew from the names.
    pub(super) async fn rebuild_catalog(&self) -> Result<(), TreeError> {
        let key = keys::catalog();
        let _lock = self.0.store.lock("catalog", LockMode::Exclusive).await?;
        loop {
            let (held, condition) = self.read_list(&key).await?;
            let names: BTreeSet<Repository> = self.repositories().try_collect().await?;
            let catalog = Catalog { repositories: names.iter().map(ToString::to_string).collect() };
            let bytes = json(&key, &catalog)?;
            if held.as_ref() == Some(&bytes)
                || self.0.store.put(&key, bytes, &derived(), condition).await? == Written::Done
            {
                return Ok(());
            }
        }
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

    /// Takes a repository's lists away.
    pub(super) async fn delete_lists(&self, repository: &Repository) -> Result<(), TreeError> {
        let _lock = self.lock_lists(repository).await?;
        self.change_catalog(&BTreeSet::from([repository.clone()]), false, Vec::new(), false).await?;
        self.0.store.delete(&keys::tags_list(repository)).await?;
        Ok(())
    }

    /// Writes `lists`, and then the catalogue with or without some repositories. Returns what became of the former.
    ///
    /// Where others write it at the same time (`contended` if that is known), it gets what these are about to write as well: of
    /// thirty that wait for their turn, one does it for all.
    async fn change_catalog(
        &self,
        repositories: &BTreeSet<Repository>,
        present: bool,
        lists: Vec<Small>,
        mut contended: bool,
    ) -> Result<Vec<Written>, TreeError> {
        let store = &self.0.store;
        let key = keys::catalog();
        let _lock = store.lock("catalog", LockMode::Exclusive).await?;
        let (mut lists, mut became) = (lists, Vec::new());
        loop {
            let (held, condition) = self.read_list(&key).await?;
            let catalog = held.and_then(|bytes| serde_json::from_slice::<Catalog>(&bytes).ok());
            let catalog = catalog.filter(|catalog| catalog.repositories.is_sorted_by(|a, b| a < b));
            // It is derived: what is missing or damaged is made again, and then written whatever it says.
            let right = catalog.is_some();
            let named: BTreeSet<String> = match catalog {
                Some(catalog) => catalog.repositories.into_iter().collect(),
                None => self.repositories().map_ok(|repository| repository.to_string()).try_collect().await?,
            };
            let mut names = named.clone();
            for repository in repositories {
                if present {
                    names.insert(repository.to_string());
                } else {
                    names.remove(repository.as_str());
                }
            }
            let unchanged = right && names == named;
            if !unchanged && present && contended {
                names.extend(self.listed_by_others().await?.iter().map(ToString::to_string));
            }
            if !unchanged {
                let bytes = json(&key, &Catalog { repositories: names.into_iter().collect() })?;
                lists.push(Small { key: key.clone(), bytes, headers: derived(), condition });
            }
            // The lists go with the first attempt; further ones are about the catalogue.
            let mut written = store.put_all(std::mem::take(&mut lists)).await?;
            let last = if unchanged { Some(Written::Done) } else { written.pop() };
            became.append(&mut written);
            if last == Some(Written::Done) {
                return Ok(became);
            }
            contended = true;
        }
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
fn stripe(repository: &Repository) -> u8 {
    Algorithm::Sha256.digest(repository.as_str().as_bytes()).as_bytes()[0]
}

/// The list of some tags.
pub(crate) fn list_of_tags(name: &Repository, tags: BTreeSet<Tag>) -> Bytes {
    serde_json::to_vec(&TagsList { name, tags }).expect("tags are strings").into()
}

/// The list of some repositories, whose names are sorted.
pub(crate) fn list_of_repositories(repositories: Vec<String>) -> Bytes {
    serde_json::to_vec(&Catalog { repositories }).expect("names are strings").into()
}

/// Where the answer to `GET /v2/` lies, and what it is.
pub(super) fn pong(naming: Naming) -> (Key, Bytes) {
    // Services that keep objects in folders take nothing but emptiness for the content of one.
    let pong: &[u8] = if naming == Naming::Links { b"{}" } else { b"" };
    (keys::ping(naming), Bytes::from_static(pong))
}

/// Where the catalogue of an empty tree lies, and what it says.
pub(super) fn empty_catalog() -> Result<(Key, Bytes), TreeError> {
    let key = keys::catalog();
    let bytes = json(&key, &Catalog { repositories: Vec::new() })?;
    Ok((key, bytes))
}

/// What the list of a repository's tags has to say.
fn tags_list(repository: &Repository, tags: BTreeSet<Tag>) -> Result<Bytes, TreeError> {
    json(&keys::tags_list(repository), &TagsList { name: repository, tags })
}

fn json(key: &Key, list: &impl Serialize) -> Result<Bytes, TreeError> {
    let bytes = serde_json::to_vec(list);
    bytes.map(Bytes::from).map_err(|source| TreeError::DamagedList { key: key.clone(), source })
}

//! The headers of what is in a store that keeps them with each object: made what they should be.
//!
//! A list of names shows no headers, so each object is asked for. That is worth it when the rules have changed since they were
//! written, which the tree itself says, or where something else has put the objects there.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt as _, TryChunksError, TryStreamExt as _};

use super::lists::MAX_LIST_SIZE;
use super::{Format, HEADERS, MAX_FORMAT, Tree, TreeError, blob_headers, derived, keys, manifest_headers};
use crate::oci::{Algorithm, MAX_MANIFEST_SIZE, Manifest, Reference, Repository, Tag};
use crate::store::{Condition, Headers, Key, Naming, Written};

/// How many objects are asked about at once.
const AT_ONCE: usize = 64;

/// After how many whoever removes something has a turn.
const TOGETHER: usize = 1000;

impl Tree {
    /// Gives everything below `v2/` the headers that it should have, and notes by which rules that was. Bytes stay as they are,
    /// and what somebody else writes meanwhile is never undone. Returns how many objects got others.
    ///
    /// # Errors
    ///
    /// If the store can't be read or written.
    pub(crate) async fn renew_headers(&self) -> Result<u64, TreeError> {
        if self.0.store.naming() == Naming::Links {
            return Ok(0);
        }
        let root = keys::root();
        let names = self.0.store.walk(&root).map_err(TreeError::from);
        let mut names = std::pin::pin!(names.try_chunks(TOGETHER));
        let mut count = 0;
        while let Some(names) = names.try_next().await.map_err(|TryChunksError(_, error)| error)? {
            // What is copied onto itself just when it is removed could come back.
            let repositories: BTreeSet<Repository> =
                names.iter().filter_map(|named| keys::named(&named.key).map(|(repository, ..)| repository)).collect();
            let tree = self.beside(repositories.into_iter().collect());
            let mut renewed = stream::iter(&names).map(|named| tree.renew(&named.key)).buffer_unordered(AT_ONCE);
            while let Some(is_new) = renewed.try_next().await? {
                count += u64::from(is_new);
            }
            drop(renewed);
            tree.withdraw().await?;
        }
        self.note_headers().await?;
        Ok(count)
    }

    /// Notes by which rules everything has its headers now. As long as somebody removes something, nobody else writes where that is
    /// said, and whoever publishes next looks again.
    async fn note_headers(&self) -> Result<(), TreeError> {
        let (store, key) = (&self.0.store, keys::format());
        let damaged = |source| TreeError::DamagedList { key: key.clone(), source };
        while let Some(object) = store.get(&key, None).await? {
            let condition = Condition::Unchanged(object.entry.version.clone());
            let bytes = object.body.into_bytes(MAX_FORMAT, &key).await?;
            let mut format: Format = serde_json::from_slice(&bytes).map_err(damaged)?;
            if format.headers == HEADERS || format.removing.is_some() {
                break;
            }
            format.headers = HEADERS;
            let bytes = serde_json::to_vec(&format).map_err(damaged)?;
            if store.put(&key, bytes.into(), &Headers::default(), condition).await? == Written::Done {
                break;
            }
        }
        Ok(())
    }

    /// Gives an object its headers. Returns whether it had others.
    async fn renew(&self, key: &Key) -> Result<bool, TreeError> {
        let store = &self.0.store;
        if *key == keys::catalog() {
            return self.renew_mutable(key, &derived()).await;
        }
        let Some((_, folder, name)) = keys::named(key) else { return Ok(false) };
        match (folder, name.parse::<Reference>()) {
            (keys::BLOBS, Ok(Reference::Digest(digest))) => Ok(store.link(key, key, &blob_headers(&digest)).await?),
            (keys::MANIFESTS, Ok(name @ Reference::Digest(digest))) => {
                let Some(entry) = store.head(key).await? else { return Ok(false) };
                let media_type = match entry.headers.content_type {
                    Some(media_type) if entry.headers.digest == Some(digest) => media_type,
                    _ => match self.parsed(key, digest.algorithm()).await? {
                        // Whoever verifies the tree says what is wrong with other bytes.
                        Some((manifest, _)) if *manifest.digest() == digest => manifest.media_type().clone(),
                        _ => return Ok(false),
                    },
                };
                Ok(store.link(key, key, &manifest_headers(&media_type, &digest, &name)).await?)
            }
            (keys::MANIFESTS, Ok(name @ Reference::Tag(_))) => self.renew_moving(key, &name).await,
            // A list of referrers is what its fallback tag names.
            (keys::REFERRERS, Ok(Reference::Digest(subject))) => {
                self.renew_moving(key, &Reference::Tag(Tag::referrers_fallback(&subject))).await
            }
            (keys::TAGS, _) if name == "list" => self.renew_mutable(key, &derived()).await,
            _ => Ok(false),
        }
    }

    /// The same for a manifest that may be another one at any time: its bytes are written again on condition that they are still
    /// those.
    async fn renew_moving(&self, key: &Key, name: &Reference) -> Result<bool, TreeError> {
        let store = &self.0.store;
        while let Some(entry) = store.head(key).await? {
            if let (Some(media_type), Some(digest)) = (&entry.headers.content_type, &entry.headers.digest)
                && manifest_headers(media_type, digest, name) == entry.headers
            {
                return Ok(false);
            }
            let algorithm = entry.headers.digest.map_or(Algorithm::Sha256, |digest| digest.algorithm());
            let Some((manifest, condition)) = self.parsed(key, algorithm).await? else { break };
            let headers = manifest_headers(manifest.media_type(), manifest.digest(), name);
            if store.put(key, manifest.bytes().clone(), &headers, condition).await? == Written::Done {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The same for a list that others may be writing: the bytes are written again on condition that they are still those.
    async fn renew_mutable(&self, key: &Key, headers: &Headers) -> Result<bool, TreeError> {
        let store = &self.0.store;
        while let Some(entry) = store.head(key).await? {
            if entry.headers == *headers || entry.size > MAX_LIST_SIZE {
                return Ok(false);
            }
            let Some(object) = store.get(key, None).await? else { break };
            let condition = Condition::Unchanged(object.entry.version.clone());
            let bytes = object.body.into_bytes(MAX_LIST_SIZE, key).await?;
            if store.put(key, bytes, headers, condition).await? == Written::Done {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A manifest, and what has to hold for it to be replaced; `None` if it is gone, or none.
    async fn parsed(&self, key: &Key, algorithm: Algorithm) -> Result<Option<(Manifest, Condition)>, TreeError> {
        let Some(object) = self.0.store.get(key, None).await? else { return Ok(None) };
        if object.entry.size > MAX_MANIFEST_SIZE {
            return Ok(None);
        }
        let condition = Condition::Unchanged(object.entry.version.clone());
        let bytes = object.body.into_bytes(MAX_MANIFEST_SIZE, key).await?;
        Ok(Manifest::parse(bytes, algorithm).ok().map(|manifest| (manifest, condition)))
    }

    /// Whether the headers of what is there were written by older rules.
    pub(crate) fn has_old_headers(&self) -> bool {
        self.0.store.naming() == Naming::Copies && *self.0.headers.get().unwrap_or(&HEADERS) < HEADERS
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{MemoryStore, Store as _};

    #[tokio::test]
    async fn a_removal_that_is_under_way_keeps_its_turn() {
        let store = MemoryStore::new(Naming::Copies);
        let tree = Tree::create(Arc::new(store.clone())).await.unwrap();
        let (key, none) = (keys::format(), Headers::default());
        let removing = r#""conditional":true,"removals":3,"removing":{"by":"me","repository":"app","turn":0}"#;
        for (rest, headers) in [(removing, r#""headers":0,"#), (r#""conditional":true,"removals":4,"later":[]"#, "")] {
            let said = format!(r#"{{"format":1,"headers":0,{rest}}}"#);
            let _ = store.put(&key, said.into(), &none, Condition::Always).await.unwrap();
            tree.renew_headers().await.unwrap();
            let body = store.get(&key, None).await.unwrap().unwrap().body;
            let says = body.into_bytes(MAX_FORMAT, &key).await.unwrap();
            assert_eq!(says, format!(r#"{{"format":1,{headers}{rest}}}"#));
        }
    }

    /// Who changes what this says raises [`HEADERS`], so that objects that are there get the new ones.
    #[test]
    fn the_headers_of_this_number() {
        let digest = Algorithm::Sha256.digest(b"");
        let manifest = |name: &Reference| {
            manifest_headers(&"application/vnd.oci.image.index.v1+json".parse().unwrap(), &digest, name)
        };
        let all = [
            blob_headers(&digest),
            manifest(&Reference::Digest(digest)),
            manifest(&Reference::Tag("1".parse().unwrap())),
            derived(),
        ];
        let said = all.map(|headers| {
            let content_type = headers.content_type.map(|content_type| content_type.to_string()).unwrap_or_default();
            format!("{content_type}; {}; {}", headers.cache_control.unwrap_or_default(), headers.digest.is_some())
        });
        assert_eq!(
            (HEADERS, said.each_ref().map(String::as_str)),
            (
                1,
                [
                    "; public, max-age=31536000, immutable; true",
                    "application/vnd.oci.image.index.v1+json; public, max-age=31536000, immutable; true",
                    "application/vnd.oci.image.index.v1+json; public, max-age=60; true",
                    "application/json; public, max-age=60; false",
                ]
            )
        );
    }
}

//! Verification: every byte against its digest, every name against what it leads to, every list against the names.
//!
//! Nothing is changed. Names of a repository are read while `writers` is shared, so that nothing is removed meanwhile; where
//! that lock can't be had, since whoever asks may only read, they are read without. Beside a writer lists may lag, and bytes
//! that it is about to name are left over.

mod finding;
mod names;

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt as _, TryStreamExt as _};

use super::keys::Content;
use super::unnamed::Candidates;
use super::walk::Found;
use super::{Pointer, Tree, TreeError, keys};
use crate::oci::{Reference, Repository};
use crate::store::{Key, LeftOvers, Listed, Naming, StoreError};
pub(super) use finding::Broken;
pub use finding::{Derived, Finding};

/// What to verify.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// How many files are read at once, at least one.
    pub jobs: usize,
    /// Only these, and what they need. Everything if it is empty.
    pub only: Vec<(Repository, Option<Reference>)>,
}

/// Something that happens while a tree is verified.
#[derive(Debug)]
#[non_exhaustive]
pub enum Verifying<'a> {
    /// More bytes were read.
    Read(u64),
    /// Something was found.
    Found(&'a Finding),
}

/// Hears what happens; called from several threads at once, and must not block.
pub type Watch = Arc<dyn Fn(Verifying<'_>) + Send + Sync>;

/// What was verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Repositories.
    pub repositories: u64,
    /// Manifests, each as often as repositories name it.
    pub manifests: u64,
    /// Manifests that indexes lack on purpose.
    pub left_out: u64,
    /// Files whose bytes were read and compared with their digest.
    pub files: u64,
    /// And how many bytes.
    pub bytes: u64,
}

/// A verification on its way.
struct Check {
    watch: Watch,
    jobs: usize,
    verified: Verified,
    /// Whether the bytes that a repository names are read with it, since nobody reads them otherwise.
    reads: bool,
    /// What was read with another repository already.
    seen: BTreeSet<Content>,
}

impl Check {
    fn found(&self, finding: &Finding) {
        (self.watch)(Verifying::Found(finding));
    }
}

impl Tree {
    /// Verifies a tree or a part of it, and tells `watch` of each finding when it is made.
    ///
    /// # Errors
    ///
    /// [`TreeError::Unknown`] if something that was named isn't there; if the store can't be read at all. What is wrong with
    /// the tree is no error.
    pub async fn verify(&self, options: &VerifyOptions, watch: Watch) -> Result<Verified, TreeError> {
        let everything = options.only.is_empty();
        let links = self.0.store.naming() == Naming::Links;
        let mut check = Check {
            watch,
            jobs: options.jobs.max(1),
            verified: Verified::default(),
            reads: !(everything && links),
            seen: BTreeSet::new(),
        };
        if !everything {
            for (repository, reference) in &options.only {
                self.verify_repository(repository, reference.as_ref(), &mut check).await?;
            }
            return Ok(check.verified);
        }
        if links {
            self.verify_content(&mut check).await?;
        }
        let mut catalog = BTreeSet::new();
        let mut walk = self.walk();
        while let Some(found) = walk.try_next().await? {
            match found {
                Found::Stray(key) => check.found(&Finding::Stray { key }),
                Found::Repository { name, has_manifests } => {
                    self.verify_repository(&name, None, &mut check).await?;
                    if has_manifests {
                        catalog.insert(name);
                    }
                }
            }
        }
        drop(walk);
        if !self.catalog_is_right(&catalog).await? {
            check.found(&Finding::Stale { key: keys::catalog(), derived: Derived::Catalog });
        }
        drop(catalog);
        let ping = keys::ping(self.0.store.naming());
        if self.0.store.head(&ping).await?.is_none() {
            check.found(&Finding::Stale { key: ping, derived: Derived::Ping });
        }
        if links {
            self.find_unnamed(&check).await?;
        }
        self.find_left_overs(&check).await?;
        Ok(check.verified)
    }

    /// Reads all that lies in `content/`.
    async fn verify_content(&self, check: &mut Check) -> Result<(), TreeError> {
        let (files, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let contents = self.contents().try_for_each_concurrent(check.jobs, |key| async {
            match keys::content(&key) {
                Some(content) => {
                    bytes.fetch_add(self.verify_bytes(&content, key, check).await, Ordering::Relaxed);
                    files.fetch_add(1, Ordering::Relaxed);
                }
                None => check.found(&Finding::Stray { key }),
            }
            Ok(())
        });
        contents.await?;
        check.verified.files += files.into_inner();
        check.verified.bytes += bytes.into_inner();
        Ok(())
    }

    /// Compares the bytes under a key with what they should be. Returns how many there are.
    async fn verify_bytes(&self, content: &Content, key: Key, check: &Check) -> u64 {
        let damaged = |key: Key, problem: String| {
            check.found(&match content {
                Content::Blob(digest) => Finding::DamagedBlob { key, digest: *digest, problem },
                Content::Manifest(_, digest) => Finding::DamagedManifest { key, digest: *digest, problem },
            });
        };
        let object = match self.0.store.get(&key, None).await {
            Ok(Some(object)) => object,
            Ok(None) => {
                // It went meanwhile, or is no file.
                if self.is_listed(&key).await {
                    check.found(&Finding::Stray { key });
                }
                return 0;
            }
            Err(StoreError::Escape { .. }) => {
                check.found(&Finding::Misled { key, target: None });
                return 0;
            }
            Err(error) => {
                damaged(key, chain(&error));
                return 0;
            }
        };
        let content_is_link = self.0.store.naming() == Naming::Links && key.as_str().starts_with("content/");
        if let Some(target) = object.entry.target.clone().filter(|_| content_is_link) {
            check.found(&Finding::Misled { key, target: Some(target) });
            return 0;
        }
        let size = object.entry.size;
        match content {
            Content::Blob(expected) => {
                let watch = check.watch.clone();
                let seen = move |bytes| watch(Verifying::Read(bytes));
                match object.body.digest(expected.algorithm().hasher(), &key, seen).await {
                    Ok(actual) if actual == *expected => {}
                    Ok(actual) => damaged(key, format!("its {size} bytes are {actual}")),
                    Err(error) => damaged(key, chain(&error)),
                }
            }
            Content::Manifest(media_type, digest) => {
                drop(object);
                let pointer = Pointer { media_type: media_type.clone(), digest: *digest, at: key.clone() };
                match self.manifest(&pointer).await {
                    Ok(_) => {}
                    Err(error @ TreeError::Damaged { .. }) => {
                        damaged(key, error.source().map_or_else(|| error.to_string(), ToString::to_string));
                    }
                    Err(error) => damaged(key, chain(&error)),
                }
                (check.watch)(Verifying::Read(size));
            }
        }
        size
    }

    /// Whether something lies under a key, if it is no file.
    async fn is_listed(&self, key: &Key) -> bool {
        matches!(self.0.store.modified(key).await, Ok(Some(_)))
    }

    /// Tells of the bytes that no repository names.
    async fn find_unnamed(&self, check: &Check) -> Result<(), TreeError> {
        let mut found = self.contents();
        loop {
            let mut candidates = Candidates::default();
            candidates.fill(&mut found).await?;
            if candidates.is_empty() {
                return Ok(());
            }
            let unnamed = self.unnamed(candidates, &HashMap::new()).await?.contents;
            for (_, key) in unnamed {
                if let Ok(Some(entry)) = self.0.store.head(&key).await {
                    check.found(&Finding::LeftOver { key, bytes: entry.size });
                }
            }
        }
    }

    /// Tells of what is private and of no use any more, and of what lies there and shouldn't.
    async fn find_left_overs(&self, check: &Check) -> Result<(), TreeError> {
        let mut private = self.0.store.list(&keys::private());
        while let Some(listed) = private.next().await {
            let (Listed::Object(key) | Listed::Prefix(key)) = match listed {
                Ok(listed) => listed,
                // It is closed to other users, who may still read the tree.
                Err(error) if error.is_permission_denied() => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if !keys::is_private(&key) {
                check.found(&Finding::Stray { key });
            }
        }
        drop(private);
        if let Err(error @ TreeError::Private { .. }) = self.private().await {
            check.found(&Finding::DamagedRecord { key: keys::private_list(), problem: error.to_string() });
        }
        let mut records = self.below(keys::records());
        while let Some(key) = records.try_next().await? {
            match keys::recorded(&key) {
                None => check.found(&Finding::Stray { key }),
                Some((repository, index)) => {
                    if self.is_nothing(&keys::manifest(&repository, &index.into())).await? {
                        check.found(&Finding::LeftOver { key, bytes: 0 });
                    }
                }
            }
        }
        if self.0.store.naming() == Naming::Copies {
            let mut hints = self.below(keys::all_hints());
            while let Some(key) = hints.try_next().await? {
                match keys::hint_of(&key) {
                    None => check.found(&Finding::Stray { key }),
                    Some((repository, blob)) => {
                        if self.is_nothing(&keys::blob(&repository, &blob)).await? {
                            check.found(&Finding::LeftOver { key, bytes: 0 });
                        }
                    }
                }
            }
        }
        // Whoever may only read can't tell whether a writer lives.
        if let Ok(LeftOvers { files, bytes, .. }) = self.0.store.left_overs(false).await
            && files > 0
        {
            check.found(&Finding::LeftOver { key: keys::temporary(), bytes });
        }
        Ok(())
    }
}

/// An error and its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

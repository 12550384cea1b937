//! Pushes: blobs and manifests that a client sends one by one, each visible and durable before it is acknowledged.
//!
//! Between its requests a push holds no lock, so what it has sent is protected by its age alone; every step makes the names
//! young on which the next one relies.

use std::collections::BTreeSet;

use futures::stream;
use futures::{StreamExt as _, TryStreamExt as _};

use super::super::{Tree, TreeError, WORTH_A_HINT, blob_headers, keys, manifest_headers};
use super::TreeSink;
use crate::image::Claim;
use crate::oci::{Descriptor, Digest, Manifest, Reference, Repository, Tag};
use crate::store::{Aim, Body, Condition, Key, LockMode, Naming, StoreError, Upload, Written};

/// Why a manifest was not pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// Its repository hasn't this blob.
    Blob(Digest),
    /// It has it in another size than the manifest says.
    Size(Digest),
    /// It hasn't this child of an index.
    Manifest(Digest),
    /// Somebody has given this tag meanwhile, which may not be moved.
    Free(Tag),
}

/// How many questions are asked at once before a manifest is put.
const AT_ONCE: usize = 16;

impl Tree {
    /// One repository, open for writing.
    pub(super) async fn open_repository(&self, name: &Repository) -> Result<TreeSink, TreeError> {
        let lock = self.0.store.lock(&self.lock_of_writers(name), LockMode::Shared).await?;
        self.refuse_collision(name).await?;
        let tree = self.beside(vec![name.clone()]);
        Ok(TreeSink::new(tree, name.clone(), self.0.beside.is_none(), lock))
    }

    /// The same for one step of a push. When this returns, nothing is removed there until the sink is dropped.
    async fn open_for_push(&self, name: &Repository) -> Result<TreeSink, TreeError> {
        let lock = self.0.store.lock(&self.lock_of_writers(name), LockMode::Shared).await?;
        self.refuse_collision(name).await?;
        let tree = self.beside_pushes(name).await?;
        Ok(TreeSink::new(tree, name.clone(), false, lock))
    }

    /// Gives an upload whose digest was found right its name in a repository. When this returns the blob is visible and durable.
    ///
    /// # Errors
    ///
    /// If the repository can't exist, or the store can't be written.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        upload: Box<dyn Upload>,
        digest: &Digest,
        size: u64,
    ) -> Result<(), TreeError> {
        let sink = self.open_for_push(repository).await?;
        sink.keep_now(upload, *digest, size).await?;
        sink.commit_now().await?;
        sink.renew(&keys::blob(repository, digest)).await
    }

    /// The same for bytes that lie elsewhere, and are sent only if the store can't find them itself.
    ///
    /// # Errors
    ///
    /// As [`push_blob`](Self::push_blob); if the bytes can't be read, or aren't what they were found to be.
    pub async fn push_content(
        &self,
        repository: &Repository,
        content: Body,
        digest: &Digest,
        size: u64,
    ) -> Result<(), TreeError> {
        let sink = self.open_for_push(repository).await?;
        let key = keys::blob(repository, digest);
        // What fits into one request is sent faster than it is looked for.
        let claim = match size < WORTH_A_HINT {
            true => Claim::Missing,
            false => sink.claim_now(&Descriptor::new("", *digest, size)).await?,
        };
        match claim {
            Claim::Missing => sink.send(content, digest, size).await?,
            Claim::Present => sink.renew(&key).await?,
            Claim::Linked => {}
        }
        sink.commit_now().await
    }

    /// Lets a repository name a blob that it has, that `from` names, or without `from`, that any repository has. Returns whether
    /// it does now; then that is durable.
    ///
    /// # Errors
    ///
    /// If the repository can't exist, or the store can't be read or written.
    pub async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool, TreeError> {
        let mut size = None;
        if let Some(from) = from {
            size = self.blob_size(from, digest).await?;
            if size.is_none() {
                return Ok(false);
            }
        }
        let sink = self.open_for_push(repository).await?;
        let (own, naming) = (keys::blob(repository, digest), self.0.store.naming());
        let claim = sink.claim_now(&Descriptor { size, ..Descriptor::new("", *digest, 0) }).await?;
        if claim == Claim::Missing {
            // Of what is small no hint says who has it.
            let Some(from) = from.filter(|_| naming == Naming::Copies) else { return Ok(false) };
            let (store, theirs) = (&sink.tree.0.store, keys::blob(from, digest));
            if let Err(error) = store.link(&own, &theirs, &blob_headers(digest)).await {
                // Nobody keeps it from being removed there.
                if store.head(&theirs).await?.is_none() {
                    return Ok(false);
                }
                return Err(error.into());
            }
            sink.tree.put_hint(repository, digest, size.unwrap_or_default()).await?;
        }
        sink.commit_now().await?;
        // A copy is as young as it is new.
        if claim == Claim::Present || naming == Naming::Links {
            sink.renew(&own).await?;
        }
        self.0.store.sync_names().await?;
        Ok(true)
    }

    /// Puts a manifest and names it by tags, if its repository has everything that it needs; else nothing is written. When this
    /// returns, everything about it is visible and durable, the list of tags and those of referrers among it.
    ///
    /// Tags that are `fixed` are only given where nothing has that name, whoever else gives them at the same moment, in
    /// a store where names are [copies](Naming::Copies); elsewhere whoever calls has to see to that.
    ///
    /// # Errors
    ///
    /// If the repository or a tag can't exist, or the store can't be read or written.
    pub async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        tags: &[Tag],
        fixed: &BTreeSet<Tag>,
    ) -> Result<Option<Lack>, TreeError> {
        // Held until it has its names, so that nobody sweeps what was found to be there.
        let sink = self.open_for_push(repository).await?;
        let tree = &sink.tree;
        for tag in tags {
            tree.refuse_folder(&keys::manifest(repository, &Reference::Tag(tag.clone()))).await?;
        }
        let mut whole = true;
        if let Some(lack) = tree.lack(repository, manifest, &mut whole).await? {
            return Ok(Some(lack));
        }
        let is_copied = tree.0.store.naming() == Naming::Copies;
        let by_digest = Reference::Digest(*manifest.digest());
        if is_copied {
            // Written also if it is there, which makes it young.
            let _ = sink.put_named(&by_digest, manifest, Condition::Always).await?;
            if let Some(subject) = manifest.subject() {
                sink.queue().referrers.entry(subject.digest).or_default().insert(*manifest.digest());
            }
            tree.note_needs(repository, manifest);
        } else {
            sink.put_manifest_now(manifest).await?;
        }
        if whole && !manifest.manifests().is_empty() {
            // An earlier record of what it lacks has no more to say.
            let key = keys::left_out(repository, manifest.digest());
            if tree.0.store.head(&key).await?.is_some() {
                sink.queue().left_out.insert(*manifest.digest(), Vec::new());
            }
        }
        sink.commit_now().await?;
        let mut taken = None;
        if is_copied {
            for tag in tags {
                let condition = if fixed.contains(tag) { Condition::Absent } else { Condition::Always };
                let behind = tree.0.store.fall_behind()?;
                if sink.put_named(&Reference::Tag(tag.clone()), manifest, condition).await? == Written::Refused {
                    taken = Some(Lack::Free(tag.clone()));
                    break;
                }
                sink.given().push((tag.clone(), behind));
            }
        } else {
            tree.0.store.renew(&keys::manifest(repository, &by_digest)).await?;
            for tag in tags {
                sink.tag_now(tag, &manifest.descriptor()).await?;
            }
        }
        sink.finish_lists().await?;
        tree.keep_noted_needs(repository).await;
        self.0.store.sync_names().await?;
        Ok(taken)
    }

    /// The first thing that a manifest needs and its repository hasn't. `whole` becomes false if a child is absent on purpose.
    async fn lack(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        whole: &mut bool,
    ) -> Result<Option<Lack>, TreeError> {
        let blobs = manifest.config().into_iter().chain(manifest.layers());
        let needed: Vec<&Descriptor> = blobs.filter(|blob| !blob.is_nondistributable()).collect();
        let ask = |at: usize| self.blob_size(repository, &needed[at].digest);
        let mut sizes = std::pin::pin!(stream::iter(0..needed.len()).map(ask).buffered(AT_ONCE).enumerate());
        while let Some((at, size)) = sizes.next().await {
            let blob = needed[at];
            match size? {
                None => return Ok(Some(Lack::Blob(blob.digest))),
                Some(size) if blob.size.is_some_and(|expected| expected != size) => {
                    return Ok(Some(Lack::Size(blob.digest)));
                }
                Some(_) => {}
            }
        }
        let (mut left_out, children) = (None, manifest.manifests());
        let ask = |at: usize| async move {
            let child = &children[at];
            if self.find_sound(repository, &child.digest).await?.is_some() {
                return Ok::<_, TreeError>((child.digest, true));
            }
            // An entry of an index may name a blob.
            let is_blob = !child.is_manifest() && self.blob_size(repository, &child.digest).await?.is_some();
            Ok((child.digest, is_blob))
        };
        let mut found = std::pin::pin!(stream::iter(0..children.len()).map(ask).buffered(AT_ONCE));
        while let Some((child, is_there)) = found.try_next().await? {
            if is_there {
                continue;
            }
            let absent = match &mut left_out {
                Some(absent) => absent,
                none => none.insert(self.left_out(repository, manifest.digest()).await?),
            };
            if !absent.contains(&child) {
                return Ok(Some(Lack::Manifest(child)));
            }
            *whole = false;
        }
        Ok(None)
    }

    /// The size of a blob that a repository names; `None` if it names none, or one that isn't there.
    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, TreeError> {
        let entry = self.0.store.head(&keys::blob(repository, digest)).await?;
        let entry = entry.filter(|entry| entry.target.as_ref().is_none_or(|at| *at == keys::blob_content(digest)));
        Ok(entry.map(|entry| entry.size))
    }
}

impl TreeSink {
    /// Makes a name young that was there before, so that it outlives the push that relies on it.
    async fn renew(&self, key: &Key) -> Result<(), TreeError> {
        Ok(self.tree.0.store.renew(key).await?)
    }

    /// Sends the bytes of a blob, which shows only if they are still what they were found to be.
    async fn send(&self, content: Body, digest: &Digest, size: u64) -> Result<(), TreeError> {
        let key = self.blob_key(digest);
        let aim = Aim { key: key.clone(), headers: blob_headers(digest), size: Some(size) };
        let mut upload = self.tree.0.store.begin_upload_to(digest.algorithm().hasher(), aim).await?;
        let mut pieces = content.into_stream(&key);
        while let Some(piece) = pieces.try_next().await? {
            upload.write(piece).await?;
        }
        let sent = upload.digest().await?;
        if sent != (*digest, size) {
            let source = format!("{} bytes with the digest {} are there by now", sent.1, sent.0).into();
            let what = format!("what was uploaded as {digest}");
            return Err(StoreError::Io { operation: "reading", what, source }.into());
        }
        self.keep_now(upload, *digest, size).await
    }

    /// Puts a manifest under one of its names, where each is an object of its own.
    async fn put_named(
        &self,
        name: &Reference,
        manifest: &Manifest,
        condition: Condition,
    ) -> Result<Written, TreeError> {
        let (key, bytes) = (keys::manifest(&self.repository, name), manifest.bytes());
        let headers = manifest_headers(manifest.media_type(), manifest.digest(), name);
        match self.tree.0.store.put(&key, bytes.clone(), &headers, condition).await {
            // Others put the same just now, more often than the service takes.
            Err(error) if error.is_throttled() && self.tree.holds(&key, bytes).await? => Ok(Written::Done),
            put => Ok(put?),
        }
    }
}

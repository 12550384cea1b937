//! Pushes: blobs and manifests that a client sends one by one, each visible and durable before it is acknowledged.
//!
//! Between its requests a push holds no lock, so what it has sent is protected by its age alone; every step makes the names
//! young on which the next one relies.

use std::time::SystemTime;

use super::super::{Tree, TreeError, blob_headers, keys};
use super::{TreeSink, WRITERS};
use crate::image::Claim;
use crate::oci::{Algorithm, Descriptor, Digest, Manifest, Reference, Repository, Tag};
use crate::store::{LeftOvers, LockMode, Naming, Resumed, Session, SessionId, Upload};

/// What a manifest needs that its repository hasn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// A blob.
    Blob(Digest),
    /// A blob of another size than the manifest says.
    Size(Digest),
    /// A child of an index.
    Manifest(Digest),
}

impl Tree {
    /// One repository, open for writing.
    pub(super) async fn open_repository(&self, name: &Repository) -> Result<TreeSink, TreeError> {
        let lock = self.0.store.lock(WRITERS, LockMode::Shared).await?;
        self.refuse_collision(name).await?;
        let tree = self.beside(vec![name.clone()]);
        Ok(TreeSink::new(tree, name.clone(), self.0.beside.is_none(), lock))
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
        let sink = self.open_repository(repository).await?;
        sink.keep_now(upload, *digest, size).await?;
        sink.commit_now().await?;
        self.renew_blob(repository, digest).await
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
        let sink = self.open_repository(repository).await?;
        if let Some(from) = from
            && self.blob_size(from, digest).await?.is_none()
        {
            return Ok(false);
        }
        let blob = Descriptor { size: None, ..Descriptor::new("", *digest, 0) };
        if sink.claim_now(&blob).await? == Claim::Missing {
            // Of what is small no hint says who has it.
            let Some(from) = from.filter(|_| self.0.store.naming() == Naming::Copies) else { return Ok(false) };
            let (own, theirs) = (keys::blob(repository, digest), keys::blob(from, digest));
            let store = &sink.tree.0.store;
            if let Err(error) = store.link(&own, &theirs, &blob_headers(digest)).await {
                // Nobody keeps it from being removed there.
                if store.head(&theirs).await?.is_none() {
                    return Ok(false);
                }
                return Err(error.into());
            }
        }
        sink.commit_now().await?;
        self.renew_blob(repository, digest).await?;
        self.0.store.sync_names().await?;
        Ok(true)
    }

    /// Puts a manifest and names it by tags, if its repository has everything that it needs; else nothing is written. When this
    /// returns, everything about it is visible and durable, the list of tags and those of referrers among it.
    ///
    /// # Errors
    ///
    /// If the repository or a tag can't exist, or the store can't be read or written.
    pub async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        tags: &[Tag],
    ) -> Result<Option<Lack>, TreeError> {
        // Held until it has its names, so that nobody sweeps what was found to be there.
        let sink = self.open_repository(repository).await?;
        for tag in tags {
            self.refuse_folder(&keys::manifest(repository, &Reference::Tag(tag.clone()))).await?;
        }
        let mut whole = true;
        if let Some(lack) = self.lack(repository, manifest, &mut whole).await? {
            return Ok(Some(lack));
        }
        sink.put_manifest_now(manifest).await?;
        if whole && !manifest.manifests().is_empty() {
            // An earlier record of what it lacks has no more to say.
            let key = keys::left_out(repository, manifest.digest());
            if self.0.store.head(&key).await?.is_some() {
                sink.queue().left_out.insert(*manifest.digest(), Vec::new());
            }
        }
        sink.commit_now().await?;
        self.0.store.renew(&keys::manifest(repository, &Reference::Digest(*manifest.digest()))).await?;
        for tag in tags {
            sink.tag_now(tag, &manifest.descriptor()).await?;
        }
        sink.finish_lists().await?;
        self.0.store.sync_names().await?;
        Ok(None)
    }

    /// The first thing that a manifest needs and its repository hasn't. `whole` becomes false if a child is absent on purpose.
    async fn lack(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        whole: &mut bool,
    ) -> Result<Option<Lack>, TreeError> {
        let blobs = manifest.config().into_iter().chain(manifest.layers());
        for blob in blobs.filter(|blob| !blob.is_nondistributable()) {
            match self.blob_size(repository, &blob.digest).await? {
                None => return Ok(Some(Lack::Blob(blob.digest))),
                Some(size) if blob.size.is_some_and(|expected| expected != size) => {
                    return Ok(Some(Lack::Size(blob.digest)));
                }
                Some(_) => {}
            }
        }
        let mut left_out = None;
        for child in manifest.manifests() {
            if self.find_sound(repository, &child.digest).await?.is_some() {
                continue;
            }
            // An entry of an index may name a blob.
            if !child.is_manifest() && self.blob_size(repository, &child.digest).await?.is_some() {
                continue;
            }
            let absent = match &mut left_out {
                Some(absent) => absent,
                none => none.insert(self.left_out(repository, manifest.digest()).await?),
            };
            if !absent.contains(&child.digest) {
                return Ok(Some(Lack::Manifest(child.digest)));
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

    /// Makes the name of a blob young that was there before, so that it outlives the push that relies on it.
    async fn renew_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), TreeError> {
        Ok(self.0.store.renew(&keys::blob(repository, digest)).await?)
    }

    /// Begins an upload whose digest its last byte tells.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    pub async fn begin_push(&self, algorithm: Algorithm) -> Result<Box<dyn Upload>, TreeError> {
        Ok(self.0.store.begin_upload(algorithm.hasher()).await?)
    }
    /// Begins an upload that outlives this process, where the store keeps such.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    pub async fn begin_session(
        &self,
        id: &SessionId,
        session: Session,
        algorithm: Algorithm,
    ) -> Result<Box<dyn Upload>, TreeError> {
        Ok(self.0.store.begin_session(id, session, algorithm.hasher()).await?)
    }

    /// Goes on with an upload that was begun in a process that is dead; `None` if there is none to go on with.
    ///
    /// # Errors
    ///
    /// If the store can't be read or written.
    pub async fn resume_session(&self, id: &SessionId, now: SystemTime) -> Result<Option<Resumed>, TreeError> {
        Ok(self.0.store.resume_session(id, now).await?)
    }

    /// Gives an upload up, and its space back.
    ///
    /// # Errors
    ///
    /// If the store can't be written.
    pub async fn forget_session(&self, id: &SessionId) -> Result<(), TreeError> {
        Ok(self.0.store.forget_session(id).await?)
    }

    /// Gives up the uploads of dead processes that nobody went on with in time. Returns what that freed.
    ///
    /// # Errors
    ///
    /// If the store can't be read or written.
    pub async fn expire_sessions(&self, now: SystemTime) -> Result<LeftOvers, TreeError> {
        Ok(self.0.store.expire_sessions(now).await?)
    }
}

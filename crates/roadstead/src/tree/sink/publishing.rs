//! Writing what somebody has compared: the same sink, which need not ask what a list has shown.

use std::collections::BTreeSet;

use super::{
    Condition, Digest, Headers, Key, Manifest, Naming, Reference, Repository, RepositorySink, SinkError, Tag, Tree,
    TreeError, TreeSink, blob_headers, keys, manifest_headers,
};
use crate::image::Claim;
use crate::oci::Descriptor;
use crate::store::Written;

/// A repository that is open for writing, of which is known what it holds.
pub(crate) struct Publishing(TreeSink);

impl Tree {
    /// Opens a repository for writing.
    pub(crate) async fn publishing(&self, repository: &Repository) -> Result<Publishing, SinkError> {
        self.open_sink(repository).await.map(Publishing)
    }
}

impl Publishing {
    /// The sink that it is.
    pub(crate) fn sink(&self) -> &dyn RepositorySink {
        &self.0
    }

    /// Takes a blob that another repository holds. Returns whether it did: a list may be out of date.
    pub(crate) async fn take_blob(&self, digest: &Digest, size: u64, from: &Repository) -> Result<bool, SinkError> {
        let (tree, repository) = (&self.0.tree, &self.0.repository);
        if tree.0.store.naming() == Naming::Links {
            let blob = Descriptor::new("", *digest, size);
            return Ok(self.0.claim(&blob).await? != Claim::Missing);
        }
        let (own, theirs) = (keys::blob(repository, digest), keys::blob(from, digest));
        if let Err(error) = tree.0.store.link(&own, &theirs, &blob_headers(digest)).await {
            tracing::debug!(%error, "a blob is not copied within the store");
            return Ok(false);
        }
        tree.put_hint(repository, digest, size).await.map_err(|e| self.0.failed(e))?;
        Ok(true)
    }

    /// Writes a manifest that is not there.
    pub(crate) async fn put_manifest(&self, manifest: &Manifest) -> Result<(), SinkError> {
        if self.0.tree.0.store.naming() == Naming::Links {
            return self.0.put_manifest(manifest).await;
        }
        let name = Reference::Digest(*manifest.digest());
        let (key, headers) = self.named(&name, manifest);
        self.0.tree.put_same(&key, manifest.bytes(), &headers).await.map_err(|e| self.0.failed(e))?;
        if let Some(subject) = manifest.subject() {
            self.refer(&subject.digest, [*manifest.digest()]);
        }
        self.0.tree.note_needs(&self.0.repository, manifest);
        Ok(())
    }

    /// Records what an index lacks on purpose; nothing takes the record away.
    pub(crate) async fn record(&self, index: &Digest, children: &BTreeSet<Digest>) -> Result<(), SinkError> {
        let (tree, key) = (&self.0.tree, keys::left_out(&self.0.repository, index));
        let recorded = if children.is_empty() {
            tree.0.store.discard(&key).await.map_err(TreeError::Store)
        } else {
            tree.put_left_out(&key, children).await
        };
        recorded.map_err(|e| self.0.failed(e))
    }

    /// Sees to it with the next commit that the list of what refers to `subject` names these.
    pub(crate) fn refer(&self, subject: &Digest, referrers: impl IntoIterator<Item = Digest>) {
        let named: &mut BTreeSet<Digest> = &mut BTreeSet::from_iter(referrers);
        self.0.queue().referrers.entry(*subject).or_default().append(named);
    }

    /// Says that the repository's lists were brought up to date after the last tag.
    pub(crate) fn listed(&self) {
        std::mem::take(&mut *self.0.given()).into_iter().for_each(|(_, behind)| behind.caught_up());
    }

    /// Names a manifest that is there by a tag; with `new` only if there is no such tag. Returns whether it did.
    pub(crate) async fn tag(&self, tag: &Tag, manifest: &Manifest, new: bool) -> Result<bool, SinkError> {
        let name = Reference::Tag(tag.clone());
        if self.0.tree.0.store.naming() == Naming::Copies {
            self.0.commit().await?;
            let condition = if new { Condition::Absent } else { Condition::Always };
            return Ok(self.put_under(&name, manifest, condition).await? == Written::Done);
        }
        if new {
            let there = self.0.tree.resolve_sound(&self.0.repository, &name).await.map_err(|e| self.0.failed(e))?;
            if there.is_some_and(|there| there.digest != *manifest.digest()) {
                return Ok(false);
            }
        }
        self.0.tag(tag, &manifest.descriptor()).await?;
        Ok(true)
    }

    /// The key of a manifest under a name, and its headers there.
    fn named(&self, name: &Reference, manifest: &Manifest) -> (Key, Headers) {
        let headers = manifest_headers(manifest.media_type(), manifest.digest(), name);
        (keys::manifest(&self.0.repository, name), headers)
    }

    async fn put_under(
        &self,
        name: &Reference,
        manifest: &Manifest,
        condition: Condition,
    ) -> Result<Written, SinkError> {
        let (key, headers) = self.named(name, manifest);
        let written = self.0.tree.0.store.put(&key, manifest.bytes().clone(), &headers, condition).await;
        written.map_err(|e| self.0.failed(TreeError::Store(e)))
    }
}

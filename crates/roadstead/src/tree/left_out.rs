//! The records of what indexes lack on purpose.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::TryStreamExt as _;

use super::{Tree, TreeError, keys};
use crate::oci::{Digest, MAX_DESCRIPTORS, Repository};
use crate::store::{Headers, Key, Listed};

/// The largest record that is read: a digest for each entry that an index may have.
const MAX_RECORD_SIZE: u64 = 256 * MAX_DESCRIPTORS as u64;

impl Tree {
    /// Which children of an index a repository has left out on purpose, as its record says.
    ///
    /// # Errors
    ///
    /// [`TreeError::DamagedList`] if the record can't be read.
    pub async fn left_out(&self, repository: &Repository, index: &Digest) -> Result<BTreeSet<Digest>, TreeError> {
        let key = keys::left_out(repository, index);
        let object = match self.list(&key).await {
            // The private folder is closed to other users, who then learn of what was left out only that it is absent.
            Err(TreeError::Store(error)) if error.is_permission_denied() => None,
            other => other?,
        };
        let Some(object) = object else { return Ok(BTreeSet::new()) };
        let bytes = object.body.into_bytes(MAX_RECORD_SIZE, &key).await?;
        serde_json::from_slice(&bytes).map_err(|source| TreeError::DamagedList { key, source })
    }

    /// Those of them that are absent: a record is shortened only after a child came back.
    pub(super) async fn lacking(&self, repository: &Repository, index: &Digest) -> Result<BTreeSet<Digest>, TreeError> {
        let mut lacking = BTreeSet::new();
        for child in self.left_out(repository, index).await? {
            if self.resolve(repository, &child.into()).await?.is_none() {
                lacking.insert(child);
            }
        }
        Ok(lacking)
    }

    /// The index of which a manifest was left out on purpose, if the repository has one.
    pub(super) async fn left_out_of(
        &self,
        repository: &Repository,
        child: &Digest,
    ) -> Result<Option<Digest>, TreeError> {
        let mut records = self.0.store.list(&keys::left_out_folder(repository));
        loop {
            match records.try_next().await {
                Ok(Some(Listed::Object(key))) => {
                    let Ok(index) = key.name().parse() else { continue };
                    if self.left_out(repository, &index).await?.contains(child) {
                        return Ok(Some(index));
                    }
                }
                Ok(Some(Listed::Prefix(_))) => {}
                Err(error) if error.is_permission_denied() => return Ok(None),
                Ok(None) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes such a record, sorted.
    pub(super) async fn put_left_out(&self, key: &Key, children: &BTreeSet<Digest>) -> Result<(), TreeError> {
        self.put_if_changed(key, record(children), &Headers::default()).await
    }
}

/// What such a record says.
pub(crate) fn record(children: &BTreeSet<Digest>) -> Bytes {
    serde_json::to_vec(children).expect("digests are strings").into()
}

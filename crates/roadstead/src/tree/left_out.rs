//! The records of what indexes lack on purpose.

use std::collections::BTreeSet;

use super::{Tree, TreeError, keys};
use crate::oci::{Digest, MAX_DESCRIPTORS, Repository};
use crate::store::{Headers, Key};

/// The largest record that is read: a digest for each entry that an index may have.
const MAX_RECORD_SIZE: u64 = 256 * MAX_DESCRIPTORS as u64;

impl Tree {
    /// Which children an index of a repository lacks on purpose.
    ///
    /// # Errors
    ///
    /// [`TreeError::DamagedList`] if the record can't be read.
    pub async fn left_out(&self, repository: &Repository, index: &Digest) -> Result<BTreeSet<Digest>, TreeError> {
        let key = keys::left_out(repository, index);
        let Some(object) = self.list(&key).await? else { return Ok(BTreeSet::new()) };
        let bytes = object.body.into_bytes(MAX_RECORD_SIZE, &key).await?;
        serde_json::from_slice(&bytes).map_err(|source| TreeError::DamagedList { key, source })
    }

    /// Writes such a record, sorted.
    pub(super) async fn put_left_out(&self, key: &Key, children: &BTreeSet<Digest>) -> Result<(), TreeError> {
        let record = serde_json::to_vec(children);
        let record = record.map_err(|source| TreeError::DamagedList { key: key.clone(), source })?;
        self.put_if_changed(key, record.into(), &Headers::default()).await
    }
}

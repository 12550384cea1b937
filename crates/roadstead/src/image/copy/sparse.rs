//! Indexes that are not whole at the source: a tree that `--platform` thinned out is copied on as it is, with its record.

use std::collections::HashSet;

use super::{Copy, CopyError};
use crate::oci::{Digest, Manifest};

impl Copy<'_> {
    /// The children of an index that the source lacks on purpose, as far as the sink hasn't got them.
    pub(super) async fn lacking(&self, index: &Manifest) -> Result<HashSet<Digest>, CopyError> {
        let what = || format!("the record of what was left out of {}", index.digest());
        let mut lacking = HashSet::new();
        for child in self.from.left_out(index.digest()).await.map_err(|e| self.source_failed(&what(), e))? {
            if self.to.manifest(&child).await.map_err(|e| self.sink_failed(&what(), e))?.is_none() {
                lacking.insert(child);
            }
        }
        // Whoever named platforms has said that the rest may be absent, and what of the chosen ones is absent shows as such.
        if self.platforms.wanted().is_none() && !lacking.is_empty() && !self.to.records_left_out() {
            let (image, index, absent) = (self.image.clone(), *index.digest(), lacking.len());
            return Err(CopyError::Sparse { image, index, absent });
        }
        Ok(lacking)
    }
}

//! Indexes that are not whole at the source: a tree that `--platform` thinned out is copied on as it is, with its record.

use std::collections::HashSet;

use super::{Copy, CopyError};
use crate::image::source::SourceError;
use crate::oci::{Descriptor, Digest, Manifest};

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

    /// Records which children are absent on purpose: those that were left out now and are not there from before.
    pub(super) async fn record(&self, index: &Manifest, left_out: &[&Descriptor]) -> Result<(), CopyError> {
        let failed = |e| self.sink_failed(&format!("the record of what was left out of {}", index.digest()), e);
        let mut absent = Vec::new();
        for child in left_out {
            if self.to.manifest(&child.digest).await.map_err(failed)?.is_none() {
                absent.push(child.digest);
            }
        }
        self.to.leave_out(index.digest(), &absent).await.map_err(failed)
    }

    /// The error for a child of an index that isn't there, whatever the reason.
    pub(super) fn no_child(&self, child: &Descriptor, source: SourceError) -> CopyError {
        let platform = child.platform.as_ref().map_or_else(|| "no platform said".to_owned(), ToString::to_string);
        CopyError::Child { image: self.image.clone(), child: child.digest, platform, source }
    }
}

//! What hosts take at most, and how a site is held against it.

use super::Unsupported;
use crate::site::{Measure, Site};

/// A limit of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// What is limited.
    pub measure: Measure,
    /// How much of it there may be.
    pub at_most: u64,
    /// Where the host says so.
    pub source: &'static str,
}

/// The limits of a host for a site.
pub(super) struct Limits<'a> {
    pub(super) host: &'static str,
    pub(super) budgets: &'static [Budget],
    pub(super) site: &'a Site,
}

impl Limits<'_> {
    /// Refuses what is more than the host takes. What isn't limited is always enough.
    pub(super) fn check(
        &self,
        measure: Measure,
        needed: u64,
        for_what: impl FnOnce() -> String,
        way_out: &'static str,
    ) -> Result<(), Unsupported> {
        let Some(budget) = self.budgets.iter().find(|budget| budget.measure == measure) else { return Ok(()) };
        let raised = self.site.raised.iter().rev().find(|raised| raised.measure == measure);
        let at_most = raised.map_or(budget.at_most, |raised| raised.at_most);
        if needed <= at_most {
            return Ok(());
        }
        Err(Unsupported::Budget {
            host: self.host,
            measure,
            at_most,
            needed,
            for_what: for_what(),
            way_out,
            source_of_limit: budget.source,
        })
    }
}

//! Leases: what keeps those apart whom no lock reaches.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use super::{Store, Version};

/// How long a lease lasts, from the moment at which its object was written: services of the S3 API refuse requests whose
/// signature says that they are older.
pub const LEASE: Duration = Duration::from_mins(15);

/// The right to change a store for a while.
///
/// Whoever holds it may have been stopped for any time, with a request half sent. No clock of its own can tell; so the store
/// judges: what is put, linked or deleted through [`store`](Self::store) is refused there with [`StoreError::Late`] if it
/// arrives more than [`LEASE`] after the object was written. To go on longer, the object is written again, on condition that it
/// is still the same: whoever changed or deleted it meanwhile, and waited for the end of the lease, knows that nothing comes
/// any more.
///
/// Reading is not limited, and neither are uploads, whose names their digests verify.
///
/// [`StoreError::Late`]: super::StoreError::Late
pub struct Lease {
    /// The store as the holder may use it.
    pub store: Arc<dyn Store>,
    /// The version of the object.
    pub version: Version,
    /// When it was written, as the store tells.
    pub at: SystemTime,
    /// Becomes true when something that was sent was not answered: it may be done until the lease ends, whatever was done since.
    pub unanswered: Arc<AtomicBool>,
}

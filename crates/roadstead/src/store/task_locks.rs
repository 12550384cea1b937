//! Locks among the tasks of one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::RwLock;

use super::{LockGuard, LockMode};

/// Locks by name, made when they are first wanted. There are as many as there are names.
#[derive(Default)]
pub(super) struct TaskLocks(Mutex<HashMap<String, Arc<RwLock<()>>>>);

impl TaskLocks {
    /// Waits for a lock.
    pub(super) async fn lock(&self, name: &str, mode: LockMode) -> LockGuard {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.entry(name.to_owned()).or_default().clone()
        };
        match mode {
            LockMode::Shared => LockGuard::new(Box::new(lock.read_owned().await)),
            LockMode::Exclusive => LockGuard::new(Box::new(lock.write_owned().await)),
        }
    }
}

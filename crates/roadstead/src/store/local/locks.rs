//! Locks among processes.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{LocalStore, LockGuard, LockMode, StoreError, blocking, failed};

/// The locks of this process.
///
/// Waiting for a lock takes a thread. Were there one for each task that waits, they could use up the threads that the holder
/// needs to get on; so of each lock one task at most waits in each mode, and the others wait for that task.
#[derive(Default)]
pub(super) struct Locks(Mutex<HashMap<String, Arc<Named>>>);

#[derive(Default)]
struct Named {
    exclusive: Arc<tokio::sync::Mutex<()>>,
    /// The file that is locked for all who share the lock in this process.
    shared: tokio::sync::Mutex<Weak<File>>,
}

impl LocalStore {
    pub(super) async fn lock_now(&self, name: &str, mode: LockMode) -> Result<LockGuard, StoreError> {
        let named = {
            let mut locks = self.0.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.entry(name.to_owned()).or_default().clone()
        };
        match mode {
            LockMode::Exclusive => {
                let turn = named.exclusive.clone().lock_owned().await;
                let file = self.lock_file(name, mode).await?;
                // Unlocked before the next one of this process tries.
                Ok(LockGuard::new(Box::new((file, turn))))
            }
            LockMode::Shared => {
                let mut shared = named.shared.lock().await;
                let file = match shared.upgrade() {
                    Some(file) => file,
                    None => {
                        let file = Arc::new(self.lock_file(name, mode).await?);
                        *shared = Arc::downgrade(&file);
                        file
                    }
                };
                Ok(LockGuard::new(Box::new(file)))
            }
        }
    }

    async fn lock_file(&self, name: &str, mode: LockMode) -> Result<File, StoreError> {
        let (store, name) = (self.clone(), name.to_owned());
        blocking(move || {
            let file = store.0.scratch.lock_file(&name)?;
            let locked = match mode {
                LockMode::Shared => file.lock_shared(),
                LockMode::Exclusive => file.lock(),
            };
            locked.map_err(|e| failed("locking", &store.0.root, e))?;
            Ok(file)
        })
        .await
    }
}

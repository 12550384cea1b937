//! Every store keeps every promise.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use roadstead::store::{LocalStore, MemoryStore, Naming};
use roadstead::testing::contract::store::{self, Subject};

/// Every file, link and folder below `root`.
fn files_below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in entries {
            found.push(path.display().to_string());
            if path.symlink_metadata().unwrap().is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let store: Subject = Arc::new(LocalStore::create(folder.path()).unwrap());
    store::run_all(&store, &|| files_below(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_directory_that_others_write_to() {
    let folder = tempfile::tempdir().unwrap();
    let store: Subject = Arc::new(LocalStore::create(folder.path()).unwrap());
    store::hostile_links_lead_nowhere(&store, folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_directory_with_a_folder_that_leads_out() {
    let folder = tempfile::tempdir().unwrap();
    let store: Subject = Arc::new(LocalStore::create(folder.path()).unwrap());
    store::a_folder_that_leads_out_is_not_entered(&store, folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    for naming in [Naming::Links, Naming::Copies] {
        let store: Subject = Arc::new(MemoryStore::new(naming));
        store::run_all(&store, &Vec::new).await;
    }
}

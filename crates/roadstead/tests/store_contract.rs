//! Every store keeps every promise.

use std::path::Path;
use std::sync::Arc;

use roadstead::store::{LocalStore, MemoryStore, Naming};
use roadstead::testing::contract::store::{self, Subject};

/// Every file, link and folder below `root`.
fn files_below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the store") {
            let entry = entry.expect("a folder can be read to its end");
            found.push(entry.path().display().to_string());
            if entry.file_type().expect("an entry has a type").is_dir() {
                folders.push(entry.path());
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

//! What is derived is made again when it is missing or damaged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, greeting_image};
use roadstead::oci::{Reference, Tag};
use roadstead::store::{Condition, Headers, MemoryStore, Naming, Store as _};
use roadstead::tree::{Tree, keys};

/// Adds the greeting image, which may be there already.
async fn add(tree: &Tree, repository: &str) {
    let sink = tree.repository(&repository.parse().unwrap()).await.unwrap();
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    let latest = Reference::Tag(Tag::latest());
    copier.copy(&greeting_image(), &latest, &*sink, &[Tag::latest()]).await.unwrap();
    sink.finish().await.unwrap();
}

#[tokio::test]
async fn lists_that_are_missing_or_damaged_are_made_again() {
    for naming in [Naming::Links, Naming::Copies] {
        let store = MemoryStore::new(naming);
        let tree = Tree::create(Arc::new(store.clone())).await.unwrap();
        add(&tree, "a").await;
        add(&tree, "b/c").await;
        let lists = [
            (keys::catalog(), r#"{"repositories":["a","b/c"]}"#),
            (keys::tags_list(&"a".parse().unwrap()), r#"{"name":"a","tags":["latest"]}"#),
        ];
        for damage in [None, Some(""), Some("{"), Some(r#"{"repositories":["b/c","a"],"name":"a","tags":[]}"#)] {
            for (key, right) in &lists {
                match damage {
                    None => assert!(store.delete(key).await.unwrap()),
                    Some(text) => {
                        let text = Bytes::from_static(text.as_bytes());
                        let _ = store.put(key, text, &Headers::default(), Condition::Always).await.unwrap();
                    }
                }
                add(&tree, "a").await;
                let object = store.get(key, None).await.unwrap().unwrap_or_else(|| panic!("{key} is still missing"));
                let text = object.body.into_bytes(1 << 10, key).await.unwrap();
                assert_eq!(text, right, "{naming:?}: {key} after {damage:?}");
            }
        }
    }
}

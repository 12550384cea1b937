//! What is derived is made again when it is missing or damaged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use roadstead::image::{Copier, CopyOptions, RepositorySource as _, Silent, Sink as _, greeting_image};
use roadstead::oci::{Manifest, Reference, Repository, Tag};
use roadstead::store::{Condition, Headers, LocalStore, MemoryStore, Naming, Store as _};
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

fn app() -> Repository {
    "app".parse().unwrap()
}

async fn greeting() -> Manifest {
    let image = greeting_image();
    let latest = image.resolve(&Reference::Tag(Tag::latest())).await.unwrap();
    image.manifest(&latest).await.unwrap()
}

/// The tree in a folder, as another process opens it.
async fn open(folder: &Path) -> Tree {
    Tree::create(Arc::new(LocalStore::create(folder).unwrap().without_sync())).await.unwrap()
}

async fn push(tree: &Tree, tag: &str) {
    assert_eq!(
        tree.push_manifest(&app(), &greeting().await, &[tag.parse().unwrap()], &BTreeSet::new()).await.unwrap(),
        None
    );
}

/// What the list of tags says, and what the names do.
fn listed(folder: &Path) -> (String, String) {
    let names = fs::read_dir(folder.join("v2/app/manifests")).unwrap();
    let names: BTreeSet<String> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
    let tags: Vec<&String> = names.iter().filter(|name| !name.contains(':')).collect();
    let list = serde_json::json!({ "name": "app", "tags": tags });
    (fs::read_to_string(folder.join("v2/app/tags/list")).unwrap(), serde_json::to_string(&list).unwrap())
}

fn assert_listed(folder: &Path, when: &str) {
    let (list, names) = listed(folder);
    assert_eq!(list, names, "{when}");
}

/// Gives a tag behind everybody's back.
fn tag_by_hand(folder: &Path, tag: &str) {
    let manifests = folder.join("v2/app/manifests");
    let target = fs::read_link(manifests.join("latest")).unwrap();
    symlink(target, manifests.join(tag)).unwrap();
}

#[tokio::test]
async fn a_list_has_every_tag_in_order_whoever_adds_and_removes_them() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (open(folder.path()).await, open(folder.path()).await);
    add(&one, "app").await;
    for (number, tag) in ["b", "a", "aa", "Z", "z.1", "z-1", "_", "0"].into_iter().enumerate() {
        push(if number % 3 == 2 { &other } else { &one }, tag).await;
        assert_listed(folder.path(), tag);
    }
    for (number, tag) in ["a", "z.1", "0", "_"].into_iter().enumerate() {
        let tree = if number % 3 == 2 { &other } else { &one };
        tree.delete_tag(&app(), &tag.parse().unwrap()).await.unwrap();
        assert_listed(folder.path(), tag);
        push(tree, "b").await;
        assert_listed(folder.path(), tag);
    }
}

#[tokio::test]
async fn the_next_list_has_the_tags_of_the_dead() {
    let folder = tempfile::tempdir().unwrap();
    let servers = [open(folder.path()).await, open(folder.path()).await];
    add(&servers[0], "app").await;
    for round in 0..3 {
        for server in &servers {
            // By now this one knows the list.
            push(server, "1").await;
            push(server, "2").await;
        }
        match round {
            // Gives a tag, fails before it is listed, and ends.
            0 => {
                let failing = open(folder.path()).await;
                let sink = failing.repository(&app()).await.unwrap();
                sink.tag(&"failed".parse().unwrap(), &greeting().await.descriptor()).await.unwrap();
            }
            // Is killed in between.
            1 => {
                fs::write(folder.path().join(".roadstead/tmp/killed.lock"), "x").unwrap();
                tag_by_hand(folder.path(), "killed");
                // Somebody else cleans up first.
                add(&open(folder.path()).await, "other").await;
            }
            // Of this process, and still there.
            _ => {
                let sink = servers[1].repository(&app()).await.unwrap();
                sink.tag(&"cut".parse().unwrap(), &greeting().await.descriptor()).await.unwrap();
            }
        }
        // Each server finds out by itself, though the other may have made the list right.
        for server in &servers {
            push(server, &format!("new-{round}")).await;
            assert_listed(folder.path(), &format!("round {round}"));
        }
    }
    // Nothing is kept of the dead once nobody is left to see it.
    drop(servers);
    push(&open(folder.path()).await, "last").await;
    assert_eq!(fs::read_dir(folder.path().join(".roadstead/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_known_list_is_not_made_from_the_names() {
    let folder = tempfile::tempdir().unwrap();
    let tree = open(folder.path()).await;
    add(&tree, "app").await;
    push(&tree, "1").await;
    // Nobody whom the format knows gives tags so, and nothing tells of it: who looked at all names would find it.
    tag_by_hand(folder.path(), "unknown");
    push(&tree, "2").await;
    tree.delete_tag(&app(), &"1".parse().unwrap()).await.unwrap();
    assert_eq!(listed(folder.path()).0, r#"{"name":"app","tags":["2","latest"]}"#);
    // A process that begins looks.
    push(&open(folder.path()).await, "3").await;
    assert_listed(folder.path(), "by another process");
    // And what that wrote is another list than the one that was known.
    push(&tree, "4").await;
    assert_listed(folder.path(), "by the first one again");
}

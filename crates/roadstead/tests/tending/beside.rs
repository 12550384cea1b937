//! Pruning beside writers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use roadstead::tree::PruneOptions;

use crate::support::{Scene, image, index, scenes};

/// How many images are added.
const IMAGES: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_added_meanwhile_stays_whole() {
    for scene in scenes().await {
        let scene = Arc::new(scene);
        let added = Arc::new(AtomicBool::new(false));
        // As greedy as can be: whatever is not tagged at this moment goes.
        let pruning = {
            let (scene, added) = (scene.clone(), added.clone());
            tokio::spawn(async move {
                let mut runs = 0;
                while !added.load(Ordering::Relaxed) || runs == 0 {
                    let options = PruneOptions {
                        untagged: true,
                        older_than: Duration::ZERO,
                        ..PruneOptions::new(SystemTime::now())
                    };
                    scene.tree.prune(&options, &|_| {}).await.unwrap();
                    runs += 1;
                    tokio::task::yield_now().await;
                }
            })
        };
        let adding: Vec<_> = (0..3)
            .map(|writer| {
                let scene = scene.clone();
                tokio::spawn(async move { write(&scene, writer).await })
            })
            .collect();
        for writer in adding {
            writer.await.unwrap();
        }
        added.store(true, Ordering::Relaxed);
        pruning.await.unwrap();
        for number in 0..IMAGES {
            assert!(scene.tags("shared").await.contains(&number.to_string()), "{}: {number} is gone", scene.name());
        }
        let (_, findings) = scene.verify().await;
        let wrong: Vec<_> = findings.into_iter().filter(roadstead::tree::Finding::is_wrong).collect();
        assert!(wrong.is_empty(), "{}: {wrong:#?}", scene.name());
    }
}

/// Tags that move leave images behind, which others share layers with.
async fn write(scene: &Scene, writer: usize) {
    for number in (writer..IMAGES).step_by(3) {
        scene.add(&format!("shared:{number}"), &index(&number.to_string())).await;
        scene.add(&format!("own/{writer}:moving"), &image(&number.to_string())).await;
    }
}

/// Work on a tree can be handed to any thread.
#[tokio::test(flavor = "multi_thread")]
async fn all_of_it_can_be_spawned() {
    for scene in scenes().await {
        scene.add("app:1", &index("1")).await;
        let tree = scene.tree.clone();
        let verified = tokio::spawn(async move {
            let options = roadstead::tree::VerifyOptions { jobs: 1, only: Vec::new() };
            let verified = tree.verify(&options, Arc::new(|_| {})).await.unwrap();
            tree.usage().await.unwrap();
            tree.repair(&std::collections::BTreeSet::from([roadstead::tree::Derived::Catalog])).await.unwrap();
            tree.remove(&"app".parse().unwrap(), None).await.unwrap();
            verified
        });
        assert_eq!(verified.await.unwrap().repositories, 1, "{}", scene.name());
    }
}

//! What a survey of a tree says.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use roadstead::image::Sink as _;
use roadstead::oci::{Reference, Repository};
use roadstead::site::{Extent, Survey};
use roadstead::store::Headers;
use roadstead::tree::{Private, TreeError};

use super::support::{Scene, image, index, key, repo, scenes, signature};

/// More tags than are looked at together, repositories with and without, and what refers to an image.
async fn fill(scene: &Scene) {
    let many = index("many");
    scene.add("app:t0", &many).await;
    let sink = scene.tree.repository(&repo("app")).await.unwrap();
    for tag in 1..300 {
        assert!(sink.tag(&format!("t{tag}").parse().unwrap(), &many.descriptor()).await.unwrap());
    }
    sink.finish().await.unwrap();
    let alone = image("alone");
    scene.add("other/app", &alone).await;
    scene.add("other/app", &signature(&alone, "signed")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survey_has_every_name_once_and_is_always_the_same() {
    for scene in scenes().await {
        fill(&scene).await;
        let name = scene.name();
        let survey = Survey::of(&scene.tree).await.unwrap();
        let mut names: BTreeMap<Repository, Vec<Reference>> = BTreeMap::new();
        for repository in ["app", "other/app"].map(repo) {
            let named: Vec<_> = scene.tree.names(&repository).try_collect().await.unwrap();
            let mut references: Vec<_> = named.into_iter().map(|(reference, _)| reference).collect();
            references.sort_unstable();
            names.insert(repository, references);
        }
        let surveyed = survey.repositories.iter().map(|(repository, named)| {
            (repository.clone(), named.iter().map(|named| named.reference.clone()).collect())
        });
        assert_eq!(surveyed.collect::<BTreeMap<_, Vec<_>>>(), names, "{name}");
        assert_eq!(names[&repo("app")].len(), 303, "{name}");
        let count: usize = names.values().map(Vec::len).sum();
        assert_eq!(survey.manifests.files, count as u64, "{name}");
        let blobs = scene.keys().await.into_iter().filter(|key| key.starts_with("v2/") && key.contains("/blobs/"));
        assert_eq!(survey.blobs.files, blobs.count() as u64, "{name}");
        let (largest, at) = survey.manifests.largest.clone().unwrap();
        assert_eq!(scene.store.head(&key(&at)).await.unwrap().unwrap().size, largest, "{name}: {at}");
        assert_eq!(Survey::of(&scene.tree).await.unwrap(), survey, "{name}");

        let manifests = Survey::of_manifests(&scene.tree, &Private::default()).await.unwrap();
        let alone = Survey { blobs: Extent::default(), lists: Extent::default(), ..survey };
        assert_eq!(manifests, alone, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_nothing_are_left_out_and_those_of_something_else_are_errors() {
    for scene in scenes().await.into_iter().filter(Scene::links) {
        let present = index("present");
        scene.add("app:1", &present).await;
        let name = scene.name();
        let before = Survey::of(&scene.tree).await.unwrap();
        let nothing = format!("sha256:{}", "0".repeat(64));
        let link =
            async |from: &str, to: &str| scene.store.link(&key(from), &key(to), &Headers::default()).await.unwrap();
        let index = present.manifest.media_type();
        link("v2/app/manifests/gone", &format!("content/manifests/{index}/{nothing}")).await;
        link(&format!("v2/app/blobs/{nothing}"), &format!("content/blobs/{nothing}")).await;
        if let Some(dir) = &scene.dir {
            let astray = dir.path().join(format!("v2/app/blobs/sha256:{}", "1".repeat(64)));
            std::os::unix::fs::symlink("/etc/passwd", astray).unwrap();
        }
        assert_eq!(Survey::of(&scene.tree).await.unwrap(), before, "{name}");
        link("v2/app/manifests/misled", &format!("content/blobs/{nothing}")).await;
        let error = Survey::of(&scene.tree).await.unwrap_err();
        assert!(matches!(error, TreeError::Misled { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains("v2/app/manifests/misled"), "{name}: {error}");
    }
}

//! What goes, and what stays.

use std::collections::BTreeMap;
use std::time::Duration;

use roadstead::oci::{Algorithm, Tag};
use roadstead::store::Headers;
use roadstead::tree::{PruneOptions, Pruned};

use crate::support::{Scene, image, index, key, later, scenes, signature};

fn tags_of(thinned: &[roadstead::tree::Thinned]) -> Vec<String> {
    let tags = thinned.iter().flat_map(|one| one.tags.iter().map(move |tag| format!("{}:{tag}", one.repository)));
    let mut tags: Vec<String> = tags.collect();
    tags.sort();
    tags
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_tree_stays_as_it_is() {
    for scene in scenes().await {
        scene.add("app:1", &index("one")).await;
        scene.add("app", &image("by digest alone")).await;
        scene.add("app", &signature(&index("one"), "signed")).await;
        let before = scene.keys().await;
        let (pruned, thinned) = scene.prune(|options| options.older_than = Duration::ZERO).await;
        assert_eq!((pruned, thinned.len()), (Pruned::default(), 0), "{}", scene.name());
        assert_eq!(scene.keys().await, before, "{}", scene.name());
        scene.is_sound("after a prune").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_let_the_oldest_tags_go_with_all_that_only_they_need() {
    for scene in scenes().await {
        for number in 1..=4 {
            scene.add(&format!("app:build-{number}"), &index(&number.to_string())).await;
            scene.add(&format!("other:{number}"), &image(&number.to_string())).await;
        }
        scene.add("app:latest", &index("4")).await;
        scene.add("mirror:1", &index("1")).await;
        let rule = |options: &mut PruneOptions| {
            options.keep_last = Some(2);
            options.tags = vec!["build-*".parse().unwrap()];
            options.repositories = vec!["app".parse().unwrap()];
        };
        let (planned, _) = scene.prune(|options| (options.dry_run = true, rule(options)).0).await;
        assert_eq!(scene.tags("app").await.len(), 5, "{}: a dry run changes nothing", scene.name());
        let (pruned, thinned) = scene.prune(rule).await;
        assert_eq!(planned, pruned, "{}: what was said is what was done", scene.name());
        assert!(pruned.bytes > 0, "{}", scene.name());
        assert_eq!(tags_of(&thinned), ["app:build-1", "app:build-2"], "{}", scene.name());
        assert_eq!(scene.tags("app").await, ["build-3", "build-4", "latest"], "{}", scene.name());
        assert_eq!(scene.tags("other").await.len(), 4, "{}", scene.name());
        let (_, two) = (index("1"), index("2"));
        assert_eq!(scene.read(&scene.manifest("app", &two)).await, None, "{}", scene.name());
        // Another repository has it.
        let one = scene.manifest("mirror", &index("1"));
        assert!(scene.read(&one).await.is_some(), "{}", scene.name());
        scene.is_sound("after the rule").await;
        let (again, thinned) = scene.prune(rule).await;
        assert_eq!((again, thinned.len()), (Pruned::default(), 0), "{}", scene.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_the_last_days_stay() {
    for scene in scenes().await {
        scene.add("app:1", &image("1")).await;
        let rule = |hours, now| {
            move |options: &mut PruneOptions| {
                options.keep_within = Some(Duration::from_hours(hours));
                options.now = now;
            }
        };
        let (_, thinned) = scene.prune(rule(24, std::time::SystemTime::now())).await;
        assert!(thinned.is_empty(), "{}: {thinned:?}", scene.name());
        let (_, thinned) = scene.prune(rule(24, later())).await;
        assert_eq!(tags_of(&thinned), ["app:1"], "{}", scene.name());
        // What is left is the answer to `GET /v2/`, where it has a name of its own, and the catalogue.
        let mut left = scene.keys().await;
        left.remove("v2/index.html");
        assert!(left.into_iter().eq(["v2/_catalog"]), "{}", scene.name());
        scene.is_sound("empty").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_go_with_what_they_sign() {
    for scene in scenes().await {
        let (gone, kept) = (image("gone"), image("kept"));
        let cosign = |of| Tag::cosign(&of).next().unwrap();
        for signed in [&gone, &kept] {
            scene.add("app", &signature(signed, "referrer")).await;
            scene
                .add(&format!("app:{}", cosign(signed.digest())), &image(&format!("sig of {}", signed.digest())))
                .await;
        }
        scene.add("app:kept", &kept).await;
        scene.add("app:gone", &gone).await;
        let rule = |options: &mut PruneOptions| {
            options.keep_last = Some(0);
            options.tags = vec!["gone".parse().unwrap()];
        };
        let (_, thinned) = scene.prune(rule).await;
        assert_eq!(thinned[0].manifests.len(), 3, "{}: image, referrer, signature: {thinned:?}", scene.name());
        let mut left = vec!["kept".to_owned(), cosign(kept.digest()).to_string()];
        left.sort();
        assert_eq!(scene.tags("app").await, left, "{}", scene.name());
        scene.is_sound("after the signatures").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn untagged_manifests_go_only_when_asked_and_old() {
    for scene in scenes().await {
        scene.add("app:1", &image("old")).await;
        scene.add("app:1", &index("new")).await;
        let (_, thinned) = scene.prune(|options| options.now = later()).await;
        assert!(thinned.is_empty(), "{}: {thinned:?}", scene.name());
        let (_, thinned) = scene.prune(|options| options.untagged = true).await;
        assert!(thinned.is_empty(), "{}: it is young: {thinned:?}", scene.name());
        let (pruned, thinned) = scene.prune(|options| (options.untagged, options.now) = (true, later())).await;
        assert_eq!(thinned[0].manifests, [image("old").digest()], "{}", scene.name());
        assert!(pruned.bytes > 0, "{}", scene.name());
        scene.is_sound("without what is untagged").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_writer_left_goes_when_it_is_old() {
    for scene in scenes().await {
        scene.add("app:1", &image("1")).await;
        let sound = scene.keys().await;
        let lost = Algorithm::Sha256.digest(b"lost");
        scene.overwrite(&scene.blob("app", &lost), "lost").await;
        if scene.links() {
            let name = key(&format!("v2/app/blobs/{lost}"));
            scene.store.link(&name, &scene.blob("app", &lost), &Headers::default()).await.unwrap();
            let unnamed = Algorithm::Sha256.digest(b"unnamed");
            scene.overwrite(&scene.blob("app", &unnamed), "unnamed").await;
        } else {
            scene.overwrite(&key(&format!(".roadstead/holders/{lost}/gone")), "").await;
        }
        scene.overwrite(&key(&format!(".roadstead/left-out/app/{lost}")), "[]").await;
        if let Some(dir) = &scene.dir {
            let tmp = dir.path().join(".roadstead/tmp");
            std::fs::create_dir_all(tmp.join("dead")).unwrap();
            std::fs::write(tmp.join("dead/0"), "temporary").unwrap();
            std::fs::write(tmp.join("dead.lock"), "").unwrap();
            std::fs::create_dir_all(dir.path().join("v2/empty/manifests")).unwrap();
        }
        let (_, findings) = scene.verify().await;
        assert!(!findings.is_empty() && findings.iter().all(|f| !f.is_wrong()), "{}: {findings:?}", scene.name());

        let (planned, _) = scene.prune(|options| (options.dry_run, options.now) = (true, later())).await;
        let (pruned, _) = scene.prune(|options| options.now = later()).await;
        assert_eq!(planned, pruned, "{}", scene.name());
        assert_eq!(pruned.records, 1, "{}", scene.name());
        match (scene.links(), &scene.dir) {
            (false, _) => assert_eq!((pruned.hints, pruned.bytes), (1, 4), "{}", scene.name()),
            (true, None) => assert_eq!((pruned.contents, pruned.bytes), (2, 11), "{}", scene.name()),
            (true, Some(_)) => {
                assert_eq!((pruned.contents, pruned.temporary, pruned.bytes), (2, 1, 20), "{}", scene.name());
                assert_eq!(pruned.folders, 2, "{}", scene.name());
            }
        }
        assert_eq!(scene.keys().await, sound, "{}", scene.name());
        scene.is_sound("after what was left").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_young_stays() {
    for scene in scenes().await {
        scene.add("app:1", &image("1")).await;
        let young = Algorithm::Sha256.digest(b"young");
        scene.overwrite(&scene.blob("app", &young), "young").await;
        let (pruned, _) = scene.prune(|_| {}).await;
        assert_eq!(pruned, Pruned::default(), "{}", scene.name());
        assert!(scene.read(&scene.blob("app", &young)).await.is_some(), "{}", scene.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_list_of_referrers_goes_and_blocks_nothing() {
    for scene in scenes().await {
        let signed = image("signed");
        scene.add("app:1", &signed).await;
        scene.add("app", &signature(&signed, "first")).await;
        let list = scene.read(&key(&format!("v2/app/referrers/{}", signed.digest()))).await.unwrap();
        scene.add("app", &signature(&signed, "second")).await;
        // As if its writer had been killed before it took the name away.
        let digest = Algorithm::Sha256.digest(&list);
        let media_type = roadstead::oci::MediaType::OCI_INDEX;
        let headers = Headers { content_type: Some(media_type.clone()), digest: Some(digest), cache_control: None };
        let name = key(&format!("v2/app/manifests/{digest}"));
        if scene.links() {
            let content = key(&format!("content/manifests/{media_type}/{digest}"));
            scene.overwrite(&content, list).await;
            scene.store.link(&name, &content, &headers).await.unwrap();
        } else {
            let _ = scene.store.put(&name, list, &headers, roadstead::store::Condition::Always).await.unwrap();
        }
        let (_, thinned) = scene.prune(|options| options.now = later()).await;
        assert_eq!(thinned[0].manifests, [digest], "{}", scene.name());
        scene.is_sound("without the earlier list").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_lacks_something_is_left_as_it_is() {
    let lose: BTreeMap<&str, fn(&Scene) -> String> = BTreeMap::from([
        ("a child", (|_| format!("v2/app/manifests/{}", index("1").children[0].digest())) as fn(&Scene) -> String),
        ("a manifest's bytes", |scene| {
            if scene.links() {
                scene.manifest("app", &index("1")).to_string()
            } else {
                format!("v2/app/manifests/{}", index("1").digest())
            }
        }),
        ("a name by digest", |_| format!("v2/app/manifests/{}", index("1").digest())),
    ]);
    for (what, lost) in lose {
        for scene in scenes().await {
            scene.add("app:1", &index("1")).await;
            scene.add("other:1", &image("other")).await;
            let key = lost(&scene);
            scene.delete(&key).await;
            let (pruned, thinned) = scene.prune(|options| (options.untagged, options.now) = (true, later())).await;
            assert_eq!((pruned.skipped, thinned.len()), (1, 0), "{} without {what}: {thinned:?}", scene.name());
        }
    }
    for scene in scenes().await {
        scene.add("app:1", &index("1")).await;
        scene.damage(&scene.manifest("app", &index("1"))).await;
        let (pruned, thinned) = scene.prune(|options| (options.untagged, options.now) = (true, later())).await;
        assert_eq!((pruned.skipped, thinned.len()), (1, 0), "{}: {thinned:?}", scene.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_left_out_is_not_missed() {
    for scene in scenes().await {
        let index = index("1");
        scene.add("app:1", &index).await;
        let child = *index.children[0].digest();
        let removed = scene.tree.leave_out(&"app".parse().unwrap(), &child).await.unwrap();
        assert_eq!(removed.manifests, [child], "{}", scene.name());
        assert!(removed.bytes > 0, "{}", scene.name());
        let (verified, findings) = scene.verify().await;
        assert_eq!((verified.left_out, findings.len()), (1, 0), "{}: {findings:?}", scene.name());
        let (pruned, _) = scene.prune(|options| options.now = later()).await;
        assert_eq!(pruned, Pruned::default(), "{}", scene.name());
        // Added again, it is complete.
        scene.add("app:1", &index).await;
        let (verified, findings) = scene.verify().await;
        assert_eq!((verified.left_out, findings.len()), (0, 0), "{}: {findings:?}", scene.name());
    }
}

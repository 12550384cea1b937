//! Each finding, where it is made, and what mends it.

use std::collections::BTreeSet;
use std::sync::Arc;

use roadstead::image::{Copier, CopyOptions, Platforms, Silent, Source as _};
use roadstead::oci::{Algorithm, Reference};
use roadstead::store::Headers;
use roadstead::testing::{ImageBuilder, Layer, noise};
use roadstead::tree::{Derived, Finding, TreeError, VerifyOptions, keys};

use crate::support::{Scene, image, index, key, repo, scenes, signature};

/// A tree with an index as `app:1`, a signature of it, and an image as `other:1`.
async fn filled() -> Vec<Scene> {
    let scenes = scenes().await;
    for scene in &scenes {
        scene.add("app:1", &index("1")).await;
        scene.add("app", &signature(&index("1"), "signed")).await;
        scene.add("other:1", &image("other")).await;
    }
    scenes
}

/// Fetches all that is broken again, and fails unless the tree is sound then.
async fn refetch(scene: &Scene, findings: &[Finding], repository: &str) {
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    for finding in findings {
        assert!(finding.can_be_fetched(), "{}: {finding}", scene.name());
        let mended = scene.tree.refetch(finding, &*scene.source.repository(&repo(repository)), &copier).await;
        assert!(mended.unwrap_or_else(|e| panic!("{}: {finding}: {e}", scene.name())), "{}: {finding}", scene.name());
    }
    scene.is_sound("after it was fetched again").await;
}

async fn repair(scene: &Scene, findings: &[Finding]) {
    let derived: BTreeSet<Derived> = findings.iter().filter_map(Finding::derived).cloned().collect();
    assert_eq!(derived.len(), findings.len(), "{}: {findings:#?}", scene.name());
    scene.tree.repair(&derived).await.unwrap();
    // An earlier list of referrers is left over, as after every change of one.
    let (_, findings) = scene.verify().await;
    assert!(!findings.iter().any(Finding::is_wrong), "{}, after it was repaired: {findings:#?}", scene.name());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_tree_has_nothing_to_be_found() {
    for scene in filled().await {
        scene.is_sound("as it is").await;
        let (verified, _) = scene.verify().await;
        // An index, its two children, a signature and its list of referrers; an image.
        assert_eq!((verified.repositories, verified.manifests), (2, 6), "{}", scene.name());
        assert!(verified.bytes > 0 && verified.files > 6, "{}: {verified:?}", scene.name());
        let (only, findings) = scene.verify_only(&[("app", Some("1"))]).await;
        assert_eq!((only.manifests, findings.len()), (4, 0), "{}: {findings:?}", scene.name());
        let (only, findings) = scene.verify_only(&[("other", None)]).await;
        assert_eq!((only.repositories, only.manifests, findings.len()), (1, 1, 0), "{}: {findings:?}", scene.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_blobs() {
    for scene in filled().await {
        let digest = image("other").manifest.layers()[1].digest;
        let at = scene.blob("other", &digest);
        for damage in [None, Some("short"), Some("")] {
            match damage {
                None => scene.damage(&at).await,
                Some(text) => scene.overwrite(&at, text).await,
            }
            let (_, findings) = scene.verify().await;
            assert!(
                matches!(&findings[..], [Finding::DamagedBlob { key, digest: found, .. }] if *key == at && *found == digest),
                "{}: {findings:#?}",
                scene.name()
            );
            assert_eq!(scene.verify_only(&[("app", None)]).await.1, [], "{}", scene.name());
            assert_eq!(scene.verify_only(&[("other", Some("1"))]).await.1, findings, "{}", scene.name());
            refetch(&scene, &findings, "other").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_manifests() {
    for scene in filled().await {
        let at = scene.manifest("other", &image("other"));
        scene.damage(&at).await;
        let (_, findings) = scene.verify().await;
        assert!(
            findings.iter().any(|f| matches!(f, Finding::DamagedManifest { key, .. } if *key == at)),
            "{}: {findings:#?}",
            scene.name()
        );
        // What a damaged manifest needs can't be known.
        let wrong: Vec<Finding> = findings.into_iter().filter(Finding::is_wrong).collect();
        assert_eq!(wrong.len(), 1, "{}: {wrong:#?}", scene.name());
        refetch(&scene, &wrong, "other").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_of_a_tag() {
    for scene in filled().await.into_iter().filter(|scene| !scene.links()) {
        let at = key("v2/other/manifests/1");
        scene.damage(&at).await;
        let (_, findings) = scene.verify().await;
        assert!(matches!(&findings[..], [Finding::DamagedManifest { key, .. }] if *key == at), "{findings:#?}");
        refetch(&scene, &findings, "other").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_blobs() {
    for scene in filled().await {
        let digest = image("other").manifest.layers()[1].digest;
        let name = format!("v2/other/blobs/{digest}");
        let mut losses = vec![name];
        losses.extend(scene.links().then(|| scene.blob("other", &digest).to_string()));
        for lost in losses {
            scene.delete(&lost).await;
            let (_, findings) = scene.verify().await;
            let wrong: Vec<Finding> = findings.into_iter().filter(Finding::is_wrong).collect();
            let manifest = image("other").digest();
            assert_eq!(
                wrong,
                [Finding::LostBlob { repository: repo("other"), manifest, digest }],
                "{} without {lost}",
                scene.name()
            );
            refetch(&scene, &wrong, "other").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_children_are_told_from_those_that_were_left_out() {
    for scene in scenes().await {
        let index = index("1");
        scene.add_platforms("app:1", &index, Platforms::Keep(vec!["linux/amd64".parse().unwrap()])).await;
        let (verified, findings) = scene.verify().await;
        assert_eq!((verified.left_out, findings.len()), (1, 0), "{}: {findings:#?}", scene.name());
        let kept = *index.children[0].digest();
        scene.delete(&format!("v2/app/manifests/{kept}")).await;
        let (_, findings) = scene.verify().await;
        let wrong: Vec<Finding> = findings.into_iter().filter(Finding::is_wrong).collect();
        let lost = Finding::LostChild { repository: repo("app"), index: index.digest(), digest: kept };
        assert_eq!(wrong, [lost], "{}", scene.name());
        refetch(&scene, &wrong, "app").await;

        let record = format!(".roadstead/left-out/app/{}", index.digest());
        scene.overwrite(&key(&record), "no JSON").await;
        let (_, findings) = scene.verify().await;
        let kinds: Vec<bool> = findings.iter().map(|f| matches!(f, Finding::DamagedRecord { .. })).collect();
        assert_eq!(kinds, [true, false], "{}: {findings:#?}", scene.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_manifests() {
    for scene in filled().await {
        let image = image("other");
        let at = if scene.links() {
            scene.manifest("other", &image).to_string()
        } else {
            format!("v2/other/manifests/{}", image.digest())
        };
        scene.delete(&at).await;
        let (_, findings) = scene.verify().await;
        let wrong: Vec<Finding> = findings.into_iter().filter(Finding::is_wrong).collect();
        let lost = |reference: Reference| Finding::LostManifest {
            repository: repo("other"),
            reference,
            digest: image.digest(),
            at: if scene.links() { scene.manifest("other", &image) } else { key("v2/other/manifests/1") },
        };
        let expected = if scene.links() { lost(image.digest().into()) } else { lost("1".parse().unwrap()) };
        assert_eq!(wrong, [expected], "{}", scene.name());
        refetch(&scene, &wrong, "other").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_lead_astray() {
    for scene in filled().await.into_iter().filter(Scene::links) {
        let layer = image("other").manifest.layers()[1].digest;
        for (name, target) in [
            ("v2/other/manifests/2".to_owned(), format!("content/blobs/{layer}")),
            ("v2/other/manifests/3".to_owned(), ".roadstead/format".to_owned()),
            (format!("v2/other/blobs/{}", Algorithm::Sha256.digest(b"x")), format!("content/blobs/{layer}")),
        ] {
            scene.store.link(&key(&name), &key(&target), &Headers::default()).await.unwrap();
            let (_, findings) = scene.verify().await;
            let misled = Finding::Misled { key: key(&name), target: Some(key(&target)) };
            assert!(findings.contains(&misled), "{}: {findings:#?}", scene.name());
            scene.delete(&name).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_lie_are_made_again() {
    for scene in filled().await {
        let subject = index("1").digest();
        let fallback = subject.to_string().replace(':', "-");
        let referrers = format!("v2/app/referrers/{subject}");
        for (list, text) in [
            ("v2/_catalog", Some(r#"{"repositories":["app"]}"#)),
            ("v2/_catalog", None),
            ("v2/app/tags/list", Some(r#"{"name":"app","tags":[]}"#)),
            ("v2/app/tags/list", None),
            (&*referrers, Some("{}")),
            (&*referrers, None),
            (&*format!("v2/app/manifests/{fallback}"), None),
        ] {
            match text {
                Some(text) => scene.overwrite(&key(list), text).await,
                None => scene.delete(list).await,
            }
            let (_, findings) = scene.verify().await;
            let stale: Vec<&Finding> = findings.iter().filter(|f| matches!(f, Finding::Stale { .. })).collect();
            assert_eq!(stale.len(), 1, "{}: {list} is {text:?}: {findings:#?}", scene.name());
            let wrong: Vec<Finding> = findings.into_iter().filter(Finding::is_wrong).collect();
            repair(&scene, &wrong).await;
        }
        assert!(scene.store.delete(&keys::ping(scene.store.naming())).await.unwrap(), "{}", scene.name());
        let (_, findings) = scene.verify().await;
        assert_eq!(findings.len(), 1, "{}: {findings:#?}", scene.name());
        repair(&scene, &findings).await;
        scene.overwrite(&key("v2/nobody/tags/list"), r#"{"name":"nobody","tags":["1"]}"#).await;
        let stranger = Algorithm::Sha256.digest(b"nobody's subject");
        scene.overwrite(&key(&format!("v2/app/referrers/{stranger}")), "{}").await;
        let (_, findings) = scene.verify().await;
        assert_eq!(findings.len(), 2, "{}: {findings:#?}", scene.name());
        repair(&scene, &findings).await;
        if !scene.links() {
            // Of what is small nobody says who has it.
            let layer = Layer::new().file("noise", noise(1, 9 << 20), 0o644);
            let large = ImageBuilder::new().layer(layer).build();
            scene.add("large:1", &large).await;
            let blob = large.manifest.layers()[0].digest;
            scene.delete(&format!(".roadstead/holders/{blob}/large")).await;
            let (_, findings) = scene.verify().await;
            assert_eq!(findings.len(), 1, "{findings:#?}");
            repair(&scene, &findings).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_keeps_what_it_does_not_know() {
    for scene in filled().await {
        let list = key(&format!("v2/app/referrers/{}", index("1").digest()));
        let text = String::from_utf8(scene.read(&list).await.unwrap().to_vec()).unwrap();
        let newer = text.replace(r#""digest":"#, r#""future":7,"size":1,"digest":"#);
        scene.overwrite(&list, newer).await;
        let (_, findings) = scene.verify().await;
        repair(&scene, &findings).await;
        let repaired = String::from_utf8(scene.read(&list).await.unwrap().to_vec()).unwrap();
        assert!(
            repaired.contains(r#""future":7"#) && !repaired.contains(r#""size":1,"#),
            "{}: {repaired}",
            scene.name()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strays() {
    for scene in filled().await {
        let fallback = format!("v2/app/manifests/sha256-{:064}", 0);
        let mut strays =
            vec!["v2/app/README", "v2/app/manifests/not:a:name", "v2/app/tags/other", "v2/x", ".roadstead/x"];
        strays.extend(scene.links().then_some("content/x"));
        for stray in strays {
            scene.overwrite(&key(stray), "stray").await;
            let (_, findings) = scene.verify().await;
            assert_eq!(findings, [Finding::Stray { key: key(stray) }], "{}", scene.name());
            scene.delete(stray).await;
        }
        if scene.links() {
            scene
                .store
                .link(&key(&fallback), &scene.manifest("other", &image("other")), &Headers::default())
                .await
                .unwrap();
            let (_, findings) = scene.verify().await;
            assert_eq!(findings, [Finding::Stray { key: key(&fallback) }], "{}", scene.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_found_and_not_waited_for() {
    for scene in filled().await.into_iter().filter(|scene| scene.dir.is_some()) {
        let root = scene.dir.as_ref().unwrap().path();
        let digest = Algorithm::Sha256.digest(b"nothing");
        for place in
            [format!("content/blobs/{digest}"), format!("v2/app/blobs/{digest}"), "v2/app/manifests/2".to_owned()]
        {
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            rustix::fs::mknodat(rustix::fs::CWD, root.join(&place), rustix::fs::FileType::Fifo, mode, 0).unwrap();
            let (_, findings) = scene.verify().await;
            let stray = Finding::Stray { key: key(&place) };
            assert!(findings.contains(&stray), "{place}: {findings:#?}");
            std::fs::remove_file(root.join(&place)).unwrap();
        }
        for place in ["v2/folder", "v2/app/folder", "v2/app/manifests/3"] {
            std::os::unix::fs::symlink("/", root.join(place)).unwrap();
            let (_, findings) = scene.verify().await;
            let is_about_it = |finding: &Finding| match finding {
                Finding::Stray { key } | Finding::Misled { key, .. } => key.as_str() == place,
                _ => false,
            };
            assert!(findings.iter().any(is_about_it), "{place}: {findings:#?}");
            std::fs::remove_file(root.join(place)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_and_is_not_there() {
    for scene in filled().await {
        let options = VerifyOptions { jobs: 1, only: vec![(repo("app"), Some("9".parse().unwrap()))] };
        let error = scene.tree.verify(&options, Arc::new(|_| {})).await.unwrap_err();
        assert!(matches!(error, TreeError::Unknown(_)), "{}: {error}", scene.name());
    }
}

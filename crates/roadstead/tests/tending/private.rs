//! What is private, and who doesn't get it.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use futures::TryStreamExt as _;
use http::{Method, StatusCode};
use roadstead::image::Source as _;
use roadstead::server::{Body, Headers as Asked, Origin, Pull, Request};
use roadstead::site::Survey;
use roadstead::store::{Condition, Headers};
use roadstead::testing::Image;
use roadstead::tree::{Finding, Pattern, Tree, TreeError, TreeSource};
use roadstead_parts::wait_until;

use crate::support::{Scene, image, key, repo, scenes, signature};

async fn on_disk() -> Scene {
    scenes().await.pop().unwrap()
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

async fn text(tree: &Tree) -> String {
    let key = key(".roadstead/private");
    let object = tree.store().get(&key, None).await.unwrap().unwrap();
    String::from_utf8(object.body.into_bytes(1 << 20, &key).await.unwrap().to_vec()).unwrap()
}

async fn put(tree: &Tree, bytes: &[u8]) {
    let bytes = bytes.to_vec().into();
    tree.store()
        .put(&key(".roadstead/private"), bytes, &Headers::default(), Condition::Always)
        .await
        .map(drop)
        .unwrap();
}

#[tokio::test]
async fn a_list_is_changed_in_place() {
    for scene in scenes().await {
        changed_in_place(&scene.tree).await;
    }
}

async fn changed_in_place(tree: &Tree) {
    assert!(tree.private().await.unwrap().is_empty());
    put(tree, b"# ours\na/*").await;
    let new = tree.make_private(&patterns(&["b/**", "a/*", "b/**"])).await.unwrap();
    assert_eq!(new, patterns(&["b/**"]));
    assert_eq!(text(tree).await, "# ours\na/*\nb/**\n");
    assert!(tree.make_private(&patterns(&["a/*"])).await.unwrap().is_empty());
    let gone = tree.make_public(&patterns(&["a/*", "never"])).await.unwrap();
    assert_eq!(gone, patterns(&["a/*"]));
    assert_eq!(text(tree).await, "# ours\nb/**\n");
    assert_eq!(tree.private().await.unwrap().patterns(), patterns(&["b/**"]));
    for wrong in ["Secret", "a//b", "/a"] {
        let error = tree.make_private(&patterns(&[wrong])).await.unwrap_err();
        assert!(matches!(error, TreeError::Private { line: 3, .. }), "{error}");
    }
    assert_eq!(text(tree).await, "# ours\nb/**\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_loses_what_another_marks() {
    let scene = on_disk().await;
    let tree = &scene.tree;
    let marks = (0..20).map(|n| {
        let tree = tree.clone();
        tokio::spawn(async move { tree.make_private(&patterns(&[&format!("app-{n}")])).await.unwrap() })
    });
    for mark in marks.collect::<Vec<_>>() {
        mark.await.unwrap();
    }
    assert_eq!(tree.private().await.unwrap().patterns().len(), 20);
}

#[tokio::test]
async fn who_may_read_the_tree_may_read_the_list() {
    let scene = on_disk().await;
    let folder = scene.dir.as_ref().unwrap().path();
    let mode = |name: &str| folder.join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(".roadstead"), 0o700);
    scene.tree.make_private(&patterns(&["a"])).await.unwrap();
    assert_eq!(mode(".roadstead"), 0o711, "passed through, and still not listed");
    assert_eq!(mode(".roadstead/private"), mode(".roadstead/format"));
}

#[tokio::test]
async fn a_list_that_is_none_is_never_taken_for_an_empty_one() {
    let scene = on_disk().await;
    let (folder, tree) = (scene.dir.as_ref().unwrap().path(), &scene.tree);
    let large = "#".repeat((64 << 10) + 1);
    for (bytes, line) in [(&b"a\n\nB"[..], 3), (b"a\n\xc3", 2), (b"a\0b", 1), (large.as_bytes(), 1)] {
        put(tree, bytes).await;
        let error = tree.private().await.unwrap_err();
        let said = error.to_string();
        let place = format!("{}/.roadstead/private, line {line}: ", folder.canonicalize().unwrap().display());
        assert!(said.starts_with(&place), "{said}");
        let (_, findings) = scene.verify().await;
        let [Finding::DamagedRecord { key, problem }] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!((key.as_str(), problem), (".roadstead/private", &said));
        // Who can't tell what is private shows nothing.
        let pull = Pull::new(tree.clone(), None, false, 1 << 20);
        assert_eq!(ask(&pull, "/v2/app/tags/list").await.0, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(ask(&pull, "/v2/_catalog").await.0, StatusCode::INTERNAL_SERVER_ERROR);
    }
    let path = folder.join(".roadstead/private");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    assert!(tree.private().await.is_err(), "a link that leads out");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("format", &path).unwrap();
    assert!(tree.private().await.is_err(), "a link within");
}

async fn ask(pull: &Pull, path: &str) -> (StatusCode, String) {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let request = Request { method: &Method::GET, path, query, headers: Asked::default() };
    let response = pull.answer(&request).await;
    let text = match response.body {
        Body::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Body::File { mut file, .. } => {
            let mut text = Vec::new();
            file.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        }
        _ => String::new(),
    };
    (response.status, text)
}

/// `open/app`, `secret` and `secret/app`, which share a layer; the last has a referrer.
async fn fill(scene: &Scene) -> (Image, Image) {
    let (shared, secret) = (image("open"), image("secret"));
    scene.add("open/app:1", &shared).await;
    scene.add("secret:1", &shared).await;
    scene.add("secret/app:1", &secret).await;
    scene.add("secret/app", &signature(&secret, "signed")).await;
    (shared, secret)
}

#[tokio::test]
async fn private_repositories_are_not_there() {
    for scene in scenes().await {
        not_there(&scene).await;
    }
}

async fn not_there(scene: &Scene) {
    let (shared, secret) = fill(scene).await;
    let tree = &scene.tree;
    tree.make_private(&patterns(&["secret/**"])).await.unwrap();
    let pull = Pull::new(tree.clone(), None, false, 1 << 20);
    let layer = shared.manifest.layers()[0].digest;
    let (found, missing) = (StatusCode::OK, StatusCode::NOT_FOUND);
    let requests = |name: &str, digest| {
        [
            format!("/v2/{name}/manifests/1"),
            format!("/v2/{name}/manifests/{digest}"),
            format!("/v2/{name}/blobs/{layer}"),
            format!("/v2/{name}/tags/list"),
            format!("/v2/{name}/tags/list?n=1"),
        ]
    };
    // The private name first: what is remembered of it must not help, nor harm the public one.
    let whole = Pull::new(Origin::WholeTree(tree.clone()), None, false, 1 << 20);
    for path in requests("secret/app", secret.digest()) {
        let absent = ask(&pull, &path.replace("secret/app", "never/was")).await;
        assert_eq!(ask(&pull, &path).await, absent, "{path}: as what is not there");
        assert_eq!(absent.0, missing, "{path}");
        assert_eq!(ask(&whole, &path).await.0, found, "{path}: authenticated");
    }
    for path in requests("open/app", shared.digest()).iter().chain(&requests("secret", shared.digest())) {
        assert_eq!(ask(&pull, path).await.0, found, "{path}");
    }
    let referrers = format!("/v2/secret/app/referrers/{}", secret.digest());
    assert!(ask(&whole, &referrers).await.1.contains("sha256:"), "it has one");
    assert!(!ask(&pull, &referrers).await.1.contains("sha256:"), "a list of what refers to it");
    for (path, names) in [
        ("/v2/_catalog", r#"{"repositories":["open/app","secret"]}"#),
        ("/v2/_catalog?n=5", r#"{"repositories":["open/app","secret"]}"#),
        ("/v2/_catalog?last=open%2Fapp", r#"{"repositories":["secret"]}"#),
    ] {
        assert_eq!(ask(&pull, path).await.1, names, "{path}");
        assert!(ask(&whole, "/v2/_catalog?n=9").await.1.contains("secret/app"));
    }
    let below = Pull::new(tree.clone(), Some("mirror".parse().unwrap()), false, 1 << 20);
    assert_eq!(ask(&below, "/v2/mirror/secret/app/manifests/1").await.0, missing);
    assert_eq!(ask(&below, "/v2/mirror/open/app/manifests/1").await.0, found);
    for path in ["/.roadstead/private", "/content/private", "/v2/../.roadstead/private", "/%2eroadstead/private"] {
        assert_ne!(ask(&whole, path).await.0, found, "{path}");
    }

    let private = tree.private().await.unwrap();
    let survey = Survey::without(tree, &private).await.unwrap();
    let names: Vec<_> = survey.repositories.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["open/app", "secret"]);
    let held = tree.private_repositories(&private).await.unwrap();
    assert_eq!(held, [repo("secret/app")]);
    let source = TreeSource::new(tree.clone()).without(private);
    let told: Vec<_> = source.repositories().await.unwrap().try_collect().await.unwrap();
    assert_eq!(told.len(), 2);
    // The tree itself has it all.
    assert!(tree.find(&repo("secret/app"), &"1".parse().unwrap()).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_private_is_gone_from_a_server_that_runs() {
    let scene = scenes().await.remove(0);
    fill(&scene).await;
    let tree = &scene.tree;
    let pull = Pull::new(tree.clone(), None, false, 1 << 20);
    let path = "/v2/secret/app/manifests/1";
    assert_eq!(ask(&pull, path).await.0, StatusCode::OK);
    tree.make_private(&patterns(&["secret/*"])).await.unwrap();
    let runtime = tokio::runtime::Handle::current();
    let gone = tokio::task::spawn_blocking(move || {
        wait_until(Duration::from_secs(60), || runtime.block_on(ask(&pull, path)).0 == StatusCode::NOT_FOUND)
    });
    assert!(gone.await.unwrap(), "it still answers");
}

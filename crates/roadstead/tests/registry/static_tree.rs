//! A tree behind a web server that knows nothing of registries, below a path.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use futures::TryStreamExt as _;
use roadstead::http::{BaseUrl, EndpointOptions};
use roadstead::image::{Copier, CopyError, CopyOptions, Platforms, Silent, Sink as _, Source as _, SourceError};
use roadstead::medium::registry::RegistrySource;
use roadstead::oci::{Repository, Tag};
use roadstead::store::{LocalStore, MemoryStore, Naming};
use roadstead::testing::contract::source::{self, Subject};
use roadstead::testing::{FaultServer, ImageBuilder, IndexBuilder, Layer, MemorySource, Reply, noise};
use roadstead::tree::Tree;
use roadstead_parts::{Nginx, Port};

use crate::support::{Setup, chain};

fn tree_at(setup: &Setup, url: &str) -> RegistrySource {
    let url: BaseUrl = url.parse().expect("a URL");
    let options = EndpointOptions { plain_http: url.plain_http(), ..EndpointOptions::default() };
    let host = setup.client.endpoint(url.registry(), options).expect("a host");
    RegistrySource::new(host, Vec::new()).below(&url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_below_a_path_of_a_plain_web_server() {
    let of = |platform| {
        let large = Layer::new().file("large", noise(1, 300_000), 0o644);
        ImageBuilder::new().layer(large).platform(platform).build()
    };
    let image = IndexBuilder::new().attested_image(of("linux/amd64")).image(of("linux/arm64")).build();
    let artifact = ImageBuilder::new().artifact_type("application/x.y").subject(&image.descriptor());
    let referrer = artifact.blob("text/plain", "x").build();
    let memory = MemorySource::new();
    memory.add("org/app:1", &image);
    memory.add("org/app", &referrer);
    let (app, tag): (Repository, Tag) = ("org/app".parse().unwrap(), "1".parse().unwrap());

    let folder = tempfile::tempdir().unwrap();
    // Its workers are another user.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let store = LocalStore::create(&folder.path().join("project")).unwrap();
    let tree = Tree::create(Arc::new(store)).await.unwrap();
    let sink = tree.repository(&app).await.unwrap();
    let copier = Copier::new(CopyOptions { referrers: true, ..CopyOptions::default() }, Arc::new(Silent));
    copier.copy(&*memory.repository(&app), &tag.clone().into(), &*sink, std::slice::from_ref(&tag)).await.unwrap();
    sink.finish().await.unwrap();

    let port = Port::free();
    let http = format!("server {{ listen {}; root {}; }}", port.address(), folder.path().display());
    let server = Nginx::start_http(&http, port);
    let setup = Setup::new();
    let source = tree_at(&setup, &format!("{}/project/", server.url()));
    let subject = Subject {
        implementation: "a tree behind a plain web server",
        source: &source,
        repository: app.clone(),
        tag,
        image: &image,
        referrers: Some(vec![referrer.digest()]),
    };
    source::run_all(&subject).await;

    let shown = source.repository(&app).describe(&image.digest().into());
    assert_eq!(shown, format!("tree:{}/project//org/app@{}", server.url(), image.digest()));
    let elsewhere = tree_at(&setup, &server.url());
    let Err(error) = elsewhere.repository(&app).resolve(&image.digest().into()).await else { panic!("found") };
    assert!(matches!(error, SourceError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn every_path_lies_below_and_pages_stay_there() {
    let page = |tags: &str| Reply::ok(format!(r#"{{"name":"app","tags":[{tags}]}}"#));
    let server = FaultServer::start(move |seen| match seen.target.as_str() {
        // One that knows where it is, and one that doesn't.
        "/sub/dir/v2/app/tags/list?n=1000" => {
            page(r#""a""#).header("link", r#"</sub/dir/v2/app/tags/list?last=a>; rel="next""#)
        }
        "/sub/dir/v2/app/tags/list?last=a" => {
            page(r#""b""#).header("link", r#"</v2/app/tags/list?last=b>; rel="next""#)
        }
        "/sub/dir/v2/app/tags/list?last=b" => page(r#""c""#),
        _ => Reply::status(404),
    })
    .await;
    let source = tree_at(&Setup::new(), &format!("http://{}/sub/dir", server.authority()));
    let tags: Vec<Tag> = source.repository(&"app".parse().unwrap()).tags().try_collect().await.unwrap();
    assert_eq!(tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(matches!(source.repositories().await, Err(SourceError::Unsupported(_))));
    assert!(server.lines().iter().all(|line| line.contains(" /sub/dir/v2/")), "{:?}", server.lines());
}

#[tokio::test]
async fn a_page_for_people_is_no_tree() {
    let server = FaultServer::start(|_| {
        Reply::ok("<!doctype html><title>Welcome</title>").header("content-type", "text/html; charset=utf-8")
    })
    .await;
    let source = tree_at(&Setup::new(), &format!("http://{}/project", server.authority()));
    let app = source.repository(&"app".parse().unwrap());
    let error = app.resolve(&Tag::latest().into()).await.unwrap_err();
    assert!(chain(&error).contains("HTML page"), "{}", chain(&error));
    let tags: Result<Vec<Tag>, _> = app.tags().try_collect().await;
    assert!(matches!(tags, Err(SourceError::Invalid { .. })), "{tags:?}");
}

/// What a tree left out is in a file that web servers hand out to nobody.
#[tokio::test]
async fn what_isnt_there_names_the_way_out() {
    let of = |platform: &str| ImageBuilder::new().platform(platform).layer(platform.to_owned()).build();
    let (amd, arm) = (of("linux/amd64"), of("linux/arm64"));
    let sparse = IndexBuilder::new().image(amd).absent(&arm).build();
    let server = FaultServer::start(move |seen| {
        let below = seen.path().strip_prefix("/project/v2/app/").map(str::to_owned);
        let Some(path) = below else { return Reply::status(404) };
        let manifest = sparse.manifests().find(|manifest| path == format!("manifests/{}", manifest.digest()));
        let blob = sparse.blobs.iter().find(|(digest, _)| path == format!("blobs/{digest}"));
        match (manifest, blob) {
            (Some(manifest), _) => Reply::ok(manifest.bytes().clone()),
            (_, Some((_, blob))) => Reply::ok(blob.clone()),
            _ if path == "manifests/latest" => Reply::ok(sparse.manifest.bytes().clone()),
            _ => Reply::status(404),
        }
    })
    .await;
    let source = tree_at(&Setup::new(), &format!("http://{}/project", server.authority()));
    let app: Repository = "app".parse().unwrap();
    let from = source.repository(&app);
    let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
    let sink = tree.repository(&app).await.unwrap();
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    let error = copier.copy(&*from, &Tag::latest().into(), &*sink, &[Tag::latest()]).await.unwrap_err();
    assert!(matches!(&error, CopyError::Child { child, .. } if *child == arm.digest()), "{error:?}");

    let platforms = Platforms::Keep(vec!["linux/amd64".parse().unwrap()]);
    let copier = Copier::new(CopyOptions { platforms, ..CopyOptions::default() }, Arc::new(Silent));
    copier.copy(&*from, &Tag::latest().into(), &*sink, &[Tag::latest()]).await.unwrap();
}

//! R2 behind its Worker: the objects that a tree in a bucket consists of, in Cloudflare's own runtime.

use std::sync::Arc;

use futures::TryStreamExt as _;
use futures::future::BoxFuture;
use roadstead::host;
use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, Source as _};
use roadstead::oci::Repository;
use roadstead::site::Site;
use roadstead::store::{Key, Listed, MemoryStore, Naming, Store};
use roadstead::testing::contract::store::bytes_of;
use roadstead::tree::{Tree, TreeSource};
use roadstead_parts::{Crane, Folder, Miniflare, Oras, R2Object, Skopeo};

use crate::cases::cases;
use crate::client::{Address, get};
use crate::fixture::{Fixture, REPOSITORIES};

/// The tree below a prefix of a bucket, beside what is nobody's business.
const BELOW: &str = "some/where";

/// What a tree with the same images is in a bucket.
async fn objects(fixture: &Fixture) -> Vec<R2Object> {
    let store = Arc::new(MemoryStore::new(Naming::Copies));
    let (from, to) = (TreeSource::new(fixture.tree.clone()), Tree::create(store.clone()).await.unwrap());
    let copier = Copier::new(CopyOptions { referrers: true, ..CopyOptions::default() }, Arc::new(Silent));
    for repository in REPOSITORIES {
        let name: Repository = repository.parse().unwrap();
        let (from, to) = (from.repository(&name), to.repository(&name).await.unwrap());
        for tag in from.tags().try_collect::<Vec<_>>().await.unwrap() {
            copier.copy(&*from, &tag.clone().into(), &*to, &[tag]).await.unwrap();
        }
        to.finish().await.unwrap();
    }
    let mut found = vec![R2Object {
        key: "secret.html".to_owned(),
        bytes: b"secret".to_vec(),
        content_type: Some("text/html".to_owned()),
        cache_control: None,
        digest: None,
    }];
    for folder in ["v2", ".roadstead"] {
        walk(&store, folder.parse().unwrap(), &mut found).await;
    }
    found
}

fn walk<'a>(store: &'a MemoryStore, folder: Key, found: &'a mut Vec<R2Object>) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        let listed: Vec<_> = store.list(&folder).try_collect().await.unwrap();
        for listed in listed {
            let key = match listed {
                Listed::Prefix(below) => {
                    walk(store, below, found).await;
                    continue;
                }
                Listed::Object(key) => key,
            };
            let object = store.get(&key, None).await.unwrap().unwrap();
            let headers = object.entry.headers.clone();
            found.push(R2Object {
                key: format!("{BELOW}/{key}"),
                bytes: bytes_of(object).await.to_vec(),
                content_type: headers.content_type.map(|content_type| content_type.to_string()),
                cache_control: headers.cache_control.map(Into::into),
                digest: headers.digest.map(|digest| digest.to_string()),
            });
        }
    })
}

/// The Worker over the fixture's images.
pub(crate) fn start(fixture: &Fixture, site: Site) -> (Miniflare, Address) {
    let folder = Folder::new();
    let site = Site { root: format!("s3://bucket/{BELOW}"), ..site };
    let files = host::find("r2").unwrap().render(&site).unwrap();
    let worker = folder.write(&files[0].name, files[0].text.to_string());
    let miniflare = Miniflare::start(&worker, &fixture.runtime.block_on(objects(fixture)));
    let address = Address::Tcp(miniflare.port().address());
    (miniflare, address)
}

#[test]
#[ignore = "needs wrangler, which takes long to install"]
fn r2_behind_its_worker() {
    let fixture = Fixture::new();
    let (miniflare, address) = start(&fixture, Site::default());
    let is_a_page = |path: &str| ["/", "/index.html"].contains(&path);
    let cases: Vec<_> = cases(&fixture).into_iter().filter(|case| !is_a_page(&case.path)).collect();
    crate::conformance::run("R2", &cases, |case| crate::conformance::ask(&address, case, "Connection: close\r\n"));
    for (path, status) in [("/", 404), ("/secret.html", 404), ("/some/where/.roadstead/format", 404)] {
        assert_eq!(get(&address, path).status, status, "{path}");
    }

    // Pages of lists, and referrers of one kind.
    let page = get(&address, "/v2/app/tags/list?n=2&last=1.0.html");
    assert_eq!(page.text(), r#"{"name":"app","tags":["index","latest"]}"#);
    assert_eq!(page.header("link").as_deref(), Some("</v2/app/tags/list?n=2&last=latest>; rel=\"next\""));
    assert!(get(&address, "/v2/app/tags/list?n=2&last=long").header("link").is_none());
    let referrers = format!("/v2/app/referrers/{}", fixture.image.digest());
    let referrer = fixture.artifact.digest().to_string();
    for (kind, is_there) in [("application/x.test", true), ("application/x.other", false)] {
        let filtered = get(&address, &format!("{referrers}?artifactType={kind}"));
        assert_eq!(filtered.header("oci-filters-applied").as_deref(), Some("artifactType"));
        assert_eq!(filtered.text().contains(&referrer), is_there, "{kind}: {}", filtered.text());
    }

    let authority = miniflare.port().address().to_string();
    for client in [&Skopeo as &dyn roadstead_parts::Client, &Crane, &Oras] {
        for image in [format!("app@{}", fixture.index.digest()), "a/b/c/d/e:latest".to_owned()] {
            let pulled = client.pull(&format!("{authority}/{image}"));
            pulled.unwrap_or_else(|failure| panic!("{}: {failure}\n{}", client.name(), miniflare.log()));
        }
    }
}

#[test]
#[ignore = "needs wrangler, which takes long to install"]
fn r2_with_a_prefix_for_pages_of_other_origins() {
    let fixture = Fixture::new();
    let prefix = Some("mirror.x/hub".parse().unwrap());
    let (_miniflare, address) = start(&fixture, Site { name_prefix: prefix, cors: true, ..Site::default() });
    let digest = fixture.image.digest().to_string();
    for name in REPOSITORIES {
        let manifest = get(&address, &format!("/v2/mirror.x/hub/{name}/manifests/latest"));
        assert_eq!(manifest.header("docker-content-digest"), Some(digest.clone()), "{name}");
        assert_eq!(manifest.header("access-control-allow-origin").as_deref(), Some("*"), "{name}");
        let missing = get(&address, &format!("/v2/{name}/manifests/latest"));
        assert!(missing.status == 404 && missing.text().contains("MANIFEST_UNKNOWN"), "{name}: {}", missing.text());
    }
    let tags = get(&address, "/v2/mirror.x/hub/blobs/tags/list").text();
    assert_eq!(tags, r#"{"name":"mirror.x/hub/blobs","tags":["1.0.html","latest"]}"#);
    let catalog = get(&address, "/v2/_catalog").text();
    assert!(catalog.contains(r#""mirror.x/hub/app""#) && !catalog.contains(r#""app""#), "{catalog}");
    let asked =
        crate::client::exchange(&address, "OPTIONS /v2/ HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n");
    assert_eq!((asked.status, asked.header("access-control-allow-methods").as_deref()), (204, Some("GET, HEAD")));
}

//! Servers that know nothing of each other, over one bucket: what one of them was pushed, the other one has.

use std::collections::BTreeSet;
use std::thread;

use roadstead::oci::{Algorithm, Manifest, Repository, Tag};
use roadstead::server::PushOptions;
use roadstead::store::BucketStore;
use roadstead::tree::{Lack, PruneOptions, Tree};
use roadstead_parts::BucketServer;

use crate::support::{IMAGE, Registry, bucket};

/// Two servers over one bucket.
fn two() -> [Registry; 2] {
    let buckets = BucketServer::Versitygw.start(&["images"]);
    let options = PushOptions { delete: true, ..PushOptions::default() };
    let first = Registry::over_bucket("first", bucket(&buckets), None, &options);
    let second = Registry::over_bucket("second", bucket(&buckets), Some(buckets), &options);
    [first, second]
}

/// What was acknowledged shows at the other server with the next request: nothing is remembered that can change.
#[test]
fn what_one_server_was_pushed_the_other_shows_at_once() {
    let servers = two();
    for number in 0..10 {
        let (own, other) = (&servers[number % 2], &servers[(number + 1) % 2]);
        let manifest = own.image("app", &format!(r#","annotations":{{"n":"{number}"}}"#));
        own.put("app", "moving", IMAGE, &manifest).is(201);
        own.put("app", &format!("tag-{number}"), IMAGE, &manifest).is(201);
        assert_eq!(other.get("/v2/app/manifests/moving", &[]).is(200).body, manifest, "{number}");
        let list = other.get("/v2/app/tags/list", &[]).is(200).body;
        assert!(list.contains(&format!("\"tag-{number}\"")), "{list}");
        let catalog = other.get("/v2/_catalog", &[]).is(200).body;
        assert_eq!(catalog, r#"{"repositories":["app"]}"#);
    }
    // Nor is anything remembered of what is gone, whoever pushed it.
    servers[0].delete("/v2/app/manifests/moving");
    servers[1].get("/v2/app/manifests/moving", &[]).is(404);
    let blob = servers[1].blob("app", b"needed by nothing");
    servers[0].delete(&format!("/v2/app/blobs/{blob}"));
    servers[1].ask("HEAD", &format!("/v2/app/blobs/{blob}"), &[], b"").is(404);
}

/// Of those who give one tag one wins; all are whole, everything shows in the lists, and a reader always finds the
/// whole of one.
#[test]
fn writers_of_one_tag_at_two_servers() {
    const EACH: usize = 10;
    let servers = two();
    let manifests: Vec<Vec<String>> = (0..2)
        .map(|server| {
            let image =
                |number| servers[server].image("app", &format!(r#","annotations":{{"n":"{server}.{number}"}}"#));
            (0..EACH).map(image).collect()
        })
        .collect();
    thread::scope(|scope| {
        for (server, manifests) in servers.iter().zip(&manifests) {
            let name = server.name;
            scope.spawn(move || {
                for (number, manifest) in manifests.iter().enumerate() {
                    server.put("app", "contended", IMAGE, manifest).is(201);
                    server.put("app", &format!("{name}-{number}"), IMAGE, manifest).is(201);
                    server
                        .put(&format!("{name}/{number}"), "1", IMAGE, &server.image(&format!("{name}/{number}"), ""))
                        .is(201);
                    let seen = server.get("/v2/app/manifests/contended", &[]).is(200);
                    let digest = Algorithm::Sha256.digest(seen.body.as_bytes()).to_string();
                    assert_eq!(seen.header("docker-content-digest"), digest);
                }
            });
        }
    });
    let last = servers[0].get("/v2/app/manifests/contended", &[]).is(200).body;
    assert!(manifests.iter().flatten().any(|manifest| *manifest == last), "{last}");
    for server in &servers {
        assert_eq!(server.get("/v2/app/manifests/contended", &[]).is(200).body, last);
        let list = server.get("/v2/app/tags/list", &[]).is(200).body;
        let catalog = server.get("/v2/_catalog", &[]).is(200).body;
        for name in ["first", "second"] {
            for number in 0..EACH {
                assert!(list.contains(&format!("\"{name}-{number}\"")), "{list}");
                assert!(catalog.contains(&format!("\"{name}/{number}\"")), "{catalog}");
            }
        }
    }
}

/// A tag that may not be moved is given once, also if both servers saw that nothing had that name.
#[test]
fn a_fixed_tag_is_given_once() {
    let buckets = BucketServer::Versitygw.start(&["images"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let app: Repository = "app".parse().unwrap();
    let registry = Registry::over_bucket("first", bucket(&buckets), None, &PushOptions::default());
    let manifest = |n: &str| {
        let text = registry.image("app", &format!(r#","annotations":{{"n":"{n}"}}"#));
        Manifest::parse(text.into(), Algorithm::Sha256).unwrap()
    };
    let (one, two) = (manifest("1"), manifest("2"));
    let tag: Tag = "1".parse().unwrap();
    let (tags, fixed) = ([tag.clone()], BTreeSet::from([tag.clone()]));
    let tree = |store: BucketStore| Tree::create(std::sync::Arc::new(store));
    let given = runtime.block_on(async {
        let (a, b) = (tree(bucket(&buckets)).await.unwrap(), tree(bucket(&buckets)).await.unwrap());
        let given = futures::future::join(
            a.push_manifest(&app, &one, &tags, &fixed),
            b.push_manifest(&app, &two, &tags, &fixed),
        );
        let given = given.await;
        a.end_all_pushes().await;
        b.end_all_pushes().await;
        [given.0.unwrap(), given.1.unwrap()]
    });
    let refused = Some(Lack::Free(tag));
    assert!(given.contains(&None) && given.contains(&refused), "{given:?}");
    let winner = if given[0].is_none() { &one } else { &two };
    let shown = registry.get("/v2/app/manifests/1", &[]).is(200);
    assert_eq!(shown.header("docker-content-digest"), winner.digest().to_string());
}

/// A blob that was pushed once, and needed by nothing for days, outlives a sweep when it is pushed or mounted again.
#[test]
fn a_sweep_between_the_requests_of_a_push_into_a_bucket() {
    let buckets = BucketServer::Versitygw.start(&["images"]);
    let registry = Registry::over_bucket("first", bucket(&buckets), None, &PushOptions::default());
    let manifest = registry.image("app", "");
    let blobs = [b"{}".as_slice(), b"layer", b"lost"].map(|content| registry.blob("app", content));
    for digest in &blobs {
        let path = buckets.folder("images").join(format!("tree/v2/app/blobs/{digest}"));
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::open(path).unwrap().set_modified(then).unwrap();
    }
    registry.blob("app", b"{}");
    registry.ask("POST", &format!("/v2/app/blobs/uploads/?mount={}", blobs[1]), &[], b"").is(201);
    let options = PruneOptions::new(std::time::SystemTime::now());
    // By somebody else, who keeps out of the way of pushes.
    let swept = async {
        let tree = Tree::open(std::sync::Arc::new(bucket(&buckets))).await.unwrap();
        tree.prune(&options, &|_| {}).await.unwrap();
    };
    registry.runtime.block_on(swept);
    registry.ask("HEAD", &format!("/v2/app/blobs/{}", blobs[2]), &[], b"").is(404);
    registry.put("app", "1", IMAGE, &manifest).is(201);
}

/// A server says once that it is at work in a repository, and takes that back when it is done for a while.
#[test]
fn a_server_announces_itself_for_many_pushes_and_leaves() {
    let buckets = BucketServer::Versitygw.start(&["images"]);
    let options = PushOptions { delete: true, ..PushOptions::default() };
    let registry = Registry::over_bucket("first", bucket(&buckets), None, &options);
    let announcements = |call: &str| {
        let about = |(name, key): &(String, String)| name == call && key.contains("/.roadstead/writers/");
        buckets.calls().iter().filter(|call| about(call)).count()
    };
    let begun = std::time::Instant::now();
    for number in 0..30 {
        let manifest = registry.image("app", &format!(r#","annotations":{{"n":"{number}"}}"#));
        registry.put("app", "1", IMAGE, &manifest).is(201);
    }
    // One for each ten seconds, however slow this machine is.
    let most = begun.elapsed().as_secs() / 10 + 1;
    let made = announcements("PutObject");
    assert!((1..=most).contains(&(made as u64)), "{made} announcements for 90 requests");
    let taken_back = || announcements("DeleteObject") == announcements("PutObject");
    assert!(
        roadstead_parts::wait_until(std::time::Duration::from_secs(60), taken_back),
        "somebody seems to be at work"
    );
    // Who looks announces nothing.
    registry.get("/v2/app/manifests/1", &[]).is(200);
    registry.ask("HEAD", "/v2/app/manifests/1", &[], b"").is(200);
    assert_eq!(announcements("PutObject"), made);
    // Whoever removes something doesn't wait for the same process to be idle.
    registry.put("app", "2", IMAGE, &registry.image("app", "")).is(201);
    registry.delete("/v2/app/manifests/2");
}

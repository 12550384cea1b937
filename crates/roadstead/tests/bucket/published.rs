//! A tree that is published into a bucket: in as few requests as the change needs, which the server's own log counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, Source as _};
use roadstead::oci::{Reference, Repository, Tag};
use roadstead::publish::{Plan, PlanOptions, PublishError, Requests, TransferOptions};
use roadstead::store::{BucketStore, Condition, MemoryStore, Naming, Store as _};
use roadstead::testing::{Image, ImageBuilder, IndexBuilder, Layer, MemorySource, noise};
use roadstead::tree::{Tree, VerifyOptions, Verifying};
use roadstead_parts::{BucketServer, Buckets};

use crate::support::{open, options};

async fn add(tree: &Tree, name: &str, image: &Image) {
    let source = MemorySource::new();
    source.add(name, image);
    let (repository, tag) = name.split_once(':').unwrap();
    let (repository, tag): (Repository, Tag) = (repository.parse().unwrap(), tag.parse().unwrap());
    let (from, to) = (source.repository(&repository), tree.repository(&repository).await.unwrap());
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    copier.copy(&*from, &Reference::Tag(tag.clone()), &*to, &[tag]).await.unwrap();
    to.finish().await.unwrap();
}

async fn tree() -> Tree {
    Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap()
}

fn how() -> TransferOptions {
    TransferOptions { jobs: 4, bandwidth: None, clobber: true, events: Arc::new(Silent) }
}

fn image(text: &str) -> Image {
    ImageBuilder::new().layer("shared").layer(text.to_owned()).build()
}

fn kinds(calls: &[(String, String)]) -> Requests {
    let count = |names: &[&str]| calls.iter().filter(|(call, _)| names.contains(&call.as_str())).count() as u64;
    let counted = Requests {
        writes: count(&["PutObject", "CopyObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]),
        reads: count(&["GetObject", "HeadObject"]),
        lists: count(&["ListObjectsV2", "ListMultipartUploads"]),
        deletes: count(&["DeleteObject"]),
    };
    let known = counted.writes + counted.reads + counted.lists + counted.deletes;
    assert_eq!(known, calls.len() as u64, "calls of other kinds: {calls:#?}");
    counted
}

/// A bucket, and what it was asked.
struct Scene {
    buckets: Buckets,
    to: Tree,
}

impl Scene {
    async fn new() -> Self {
        let buckets = BucketServer::Versitygw.start(&["published"]);
        let open = |options| Arc::new(open("s3://published/a/tree", options));
        let to = Tree::create(open(options(&buckets.url()))).await.unwrap();
        Self { buckets, to }
    }

    /// Publishes. Returns what it took to compare, what it took to carry that out, and what the plan said of that.
    async fn publish(&self, from: &Tree, options: &PlanOptions) -> (Requests, Requests, Requests) {
        let to = &self.to;
        let before = self.buckets.calls().len();
        let plan = Plan::compare(from, Some(to), options).await.unwrap();
        assert!(plan.problems.is_empty(), "{:?}", plan.problems);
        let compared = self.buckets.calls().len();
        let errors = plan.carry_out(from, to, &how()).await;
        assert!(errors.is_empty(), "{errors:?}");
        let calls = self.buckets.calls();
        (kinds(&calls[before..compared]), kinds(&calls[compared..]), plan.requests())
    }
}

/// What it takes to be announced as a writer: to say so, to see that nothing is removed, and to say that it is over.
const ANNOUNCED: Requests = Requests { writes: 1, reads: 1, lists: 0, deletes: 1 };

fn with(announced: Requests, other: Requests) -> Requests {
    Requests {
        writes: announced.writes + other.writes,
        reads: announced.reads + other.reads,
        lists: announced.lists + other.lists,
        deletes: announced.deletes + other.deletes,
    }
}

/// The lists of names and of records, if neither has more than a thousand.
const LISTED: Requests = Requests { writes: 0, reads: 0, lists: 2, deletes: 0 };

#[tokio::test(flavor = "multi_thread")]
async fn each_change_takes_the_requests_that_it_needs() {
    let (scene, from) = (Scene::new().await, tree().await);
    let everything = PlanOptions::default();
    let index =
        ["linux/amd64", "linux/arm64"].map(|platform| ImageBuilder::new().platform(platform).layer(platform).build());
    let index = index.into_iter().fold(IndexBuilder::new(), IndexBuilder::image).build();
    add(&from, "app:1", &image("one")).await;
    add(&from, "app:2", &image("two")).await;
    add(&from, "org/multi:1", &index).await;

    // app: two configs, three layers; org/multi: two of each. None is so large that a hint pays. Four manifests and an index, three
    // tags, two lists and the catalogue.
    let (compared, carried_out, planned) = scene.publish(&from, &everything).await;
    assert_eq!(compared, LISTED);
    assert_eq!(carried_out, planned);
    let blobs = 5 + 4;
    let all = Requests { writes: blobs + 5 + 3 + 2 + 1, reads: 2 + 1, lists: 2, deletes: 0 };
    assert_eq!(carried_out, with(ANNOUNCED, all));

    let nothing = Requests::default();
    assert_eq!(scene.publish(&from, &everything).await, (LISTED, nothing, nothing), "nothing changed");

    // A tag that moves to what is there.
    add(&from, "app:1", &image("two")).await;
    let (compared, carried_out, planned) = scene.publish(&from, &everything).await;
    let one = with(ANNOUNCED, Requests { writes: 1, ..nothing });
    assert_eq!((compared, carried_out, planned), (LISTED, one, one));

    // A new image under a tag that is there: config and layer, the manifest, the tag. The shared layer is not sent again.
    add(&from, "app:1", &image("three")).await;
    let (compared, carried_out, planned) = scene.publish(&from, &everything).await;
    let new = with(ANNOUNCED, Requests { writes: 2 + 1 + 1, ..nothing });
    assert_eq!((compared, carried_out, planned), (LISTED, new, new));

    // A new tag: the list is read, the names are listed, the list is written; the catalogue is looked at.
    add(&from, "app:4", &image("three")).await;
    let (compared, carried_out, planned) = scene.publish(&from, &everything).await;
    let listed = with(ANNOUNCED, Requests { writes: 1 + 1, reads: 2, lists: 1, deletes: 0 });
    assert_eq!((compared, carried_out, planned), (LISTED, listed, listed));

    // A repository whose blobs others have: copied by the service, each with a look before.
    add(&from, "copy:1", &image("three")).await;
    let (compared, carried_out, planned) = scene.publish(&from, &everything).await;
    let copied = with(ANNOUNCED, Requests { writes: 3 + 1 + 1 + 2, reads: 3 + 2, lists: 1, deletes: 0 });
    assert_eq!((compared, carried_out, planned), (LISTED, copied, copied));
    let calls = scene.buckets.calls();
    assert_eq!(calls.iter().filter(|(call, _)| call == "CopyObject").count(), 3);

    // Whatever fits into one request takes one. What is larger goes in parts, if nobody has begun that, and it is noted who has it.
    let with_layer = |size| ImageBuilder::new().layer(Layer::new().file("noise", noise(1, size), 0o644)).build();
    add(&from, "app:4", &with_layer(7 << 20)).await;
    let (compared, carried_out, planned) = scene.publish(&from, &everything).await;
    let whole = with(ANNOUNCED, Requests { writes: 2 + 1 + 1, ..nothing });
    assert_eq!((compared, carried_out, planned), (LISTED, whole, whole));
    let large = with_layer(9 << 20);
    add(&from, "app:4", &large).await;
    let (compared, carried_out, planned) = scene.publish(&from, &everything).await;
    let noted = with(ANNOUNCED, Requests { writes: 1 + (1 + 2 + 1 + 1) + 1 + 1, lists: 1, ..nothing });
    assert_eq!((compared, carried_out, planned), (LISTED, noted, noted));

    sound(&scene.to).await;
    let app: Repository = "app".parse().unwrap();
    let named = scene.to.resolve(&app, &"4".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(named.digest, large.digest());
    let entry = scene.to.store().head(&named.at).await.unwrap().unwrap();
    assert_eq!(entry.headers.cache_control.as_deref(), Some("public, max-age=60"));
    assert_eq!(entry.headers.digest, Some(named.digest));

    // What the tree never had stays, until somebody says otherwise.
    let less = tree().await;
    add(&less, "app:2", &image("two")).await;
    assert_eq!(scene.publish(&less, &everything).await, (LISTED, nothing, nothing));
    let delete = PlanOptions { delete: true, ..PlanOptions::default() };
    scene.publish(&less, &delete).await;
    let tags: Vec<String> = scene.to.tags(&app).await.unwrap().into_keys().map(|tag| tag.to_string()).collect();
    assert_eq!(tags, ["2"]);
    assert!(
        !scene.to.tags(&"copy".parse().unwrap()).await.unwrap().is_empty(),
        "the tree does not have this repository"
    );
    sound(&scene.to).await;
    assert_eq!(scene.publish(&less, &delete).await, (LISTED, nothing, nothing));
}

/// Verifies every byte and list.
async fn sound(tree: &Tree) {
    let wrong: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let heard = wrong.clone();
    let watch = Arc::new(move |event: Verifying<'_>| match event {
        Verifying::Found(finding) if finding.is_wrong() => heard.lock().unwrap().push(finding.to_string()),
        _ => {}
    });
    tree.verify(&VerifyOptions { jobs: 4, only: Vec::new() }, watch).await.unwrap();
    assert!(wrong.lock().unwrap().is_empty(), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_of_the_right_size_are_found_by_their_sum() {
    let (scene, from) = (Scene::new().await, tree().await);
    add(&from, "app:1", &image("one")).await;
    add(&from, "org/app:1", &image("one")).await;
    let (everything, sums) = (PlanOptions::default(), PlanOptions { checksum: true, ..PlanOptions::default() });
    scene.publish(&from, &everything).await;
    let nothing = Requests::default();
    assert_eq!(scene.publish(&from, &sums).await, (LISTED, nothing, nothing), "all is told by the lists");

    // Behind everybody's back, with the headers that were there.
    let store = scene.to.store();
    let (layer, manifest) = (image("one").manifest.layers()[0].digest, image("one").digest());
    let names = ["v2/app/blobs", "v2/org/app/blobs"].map(|folder| format!("{folder}/{layer}"));
    let names = names.into_iter().chain([format!("v2/app/manifests/{manifest}"), "v2/app/manifests/1".to_owned()]);
    for name in names {
        let key = name.parse().unwrap();
        let there = store.head(&key).await.unwrap().unwrap();
        let spoilt = vec![b' '; usize::try_from(there.size).unwrap()];
        let _ = store.put(&key, spoilt.into(), &there.headers, Condition::Always).await.unwrap();
    }
    assert_eq!(scene.publish(&from, &everything).await.2, nothing, "sizes are trusted");
    // Two blobs, a manifest and a tag.
    let (compared, carried_out, planned) = scene.publish(&from, &sums).await;
    let mended = with(ANNOUNCED, Requests { writes: 2 + 1 + 1, ..nothing });
    // What seems wrong is read before it is taken for that, and whether a manifest has become another meanwhile is asked.
    assert_eq!((compared, carried_out, planned), (Requests { reads: 2 + 2 + 1, ..LISTED }, mended, mended));
    sound(&scene.to).await;
}

/// What a service's lists say of its objects tells what is right from what isn't, without counting what that takes.
pub(crate) async fn sums_tell(server: &str, store: BucketStore) {
    let (to, from) = (Tree::create(Arc::new(store.clone())).await.unwrap(), tree().await);
    add(&from, "app:1", &image("one")).await;
    let publish = async |checksum| {
        let plan = Plan::compare(&from, Some(&to), &PlanOptions { checksum, ..PlanOptions::default() }).await.unwrap();
        let errors = plan.carry_out(&from, &to, &how()).await;
        assert!(errors.is_empty() && plan.problems.is_empty(), "{server}: {errors:?} {:?}", plan.problems);
        plan.requests()
    };
    assert_ne!(publish(false).await, Requests::default(), "{server}");
    assert_eq!(publish(false).await, Requests::default(), "{server}: tags are told by their sums");
    assert_eq!(publish(true).await, Requests::default(), "{server}");
    let (layer, manifest) = (image("one").manifest.layers()[0].digest, image("one").digest());
    for name in [format!("blobs/{layer}"), format!("manifests/{manifest}"), "manifests/1".to_owned()] {
        let key = format!("v2/app/{name}").parse().unwrap();
        let there = store.head(&key).await.unwrap().unwrap();
        let spoilt = vec![b' '; usize::try_from(there.size).unwrap()];
        let _ = store.put(&key, spoilt.into(), &there.headers, Condition::Always).await.unwrap();
    }
    assert_eq!(publish(false).await, Requests::default(), "{server}: sizes are trusted");
    // A blob, a manifest and a tag.
    let sent = Requests { writes: 1 + 1 + 1, ..Requests::default() };
    assert_eq!(publish(true).await, with(ANNOUNCED, sent), "{server}");
    sound(&to).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_names_are_compared_in_a_request_for_each_thousand() {
    let (scene, from) = (Scene::new().await, tree().await);
    add(&from, "app:0", &image("one")).await;
    let app: Repository = "app".parse().unwrap();
    let sink = from.repository(&app).await.unwrap();
    for number in 1..1200 {
        let tag: Tag = format!("t{number}").parse().unwrap();
        sink.tag(&tag, &image("one").descriptor()).await.unwrap();
    }
    sink.finish().await.unwrap();
    // Names that go on behind each other's, some with characters in front of the slash.
    for name in ["app/manifests/x:1", "app-x:1", "app.x/y:1", "app/0/1:1", "app0:1"] {
        add(&from, name, &image("one")).await;
    }
    let (_, carried_out, planned) = scene.publish(&from, &PlanOptions::default()).await;
    assert_eq!(carried_out, planned);
    let (compared, nothing, _) = scene.publish(&from, &PlanOptions::default()).await;
    assert_eq!((compared, nothing), (Requests { lists: 3, ..LISTED }, Requests::default()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_somebody_made_meanwhile_does_not_move() {
    let (scene, from, other) = (Scene::new().await, tree().await, tree().await);
    add(&from, "app:1", &image("one")).await;
    add(&other, "app:1", &image("two")).await;
    let plan = Plan::compare(&from, Some(&scene.to), &PlanOptions::default()).await.unwrap();
    assert!(plan.moved().is_empty());
    scene.publish(&other, &PlanOptions::default()).await;
    let careful = TransferOptions { clobber: false, ..how() };
    let errors = plan.carry_out(&from, &scene.to, &careful).await;
    assert!(matches!(&*errors, [PublishError::Clobber(tags)] if tags == &["app:1"]), "{errors:?}");
    let named = scene.to.resolve(&"app".parse().unwrap(), &"1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(named.digest, image("two").digest());
    let plan = Plan::compare(&from, Some(&scene.to), &PlanOptions::default()).await.unwrap();
    assert_eq!(plan.moved(), ["app:1"]);
}

async fn publishers_lose_nothing_of_each_other(server: BucketServer) {
    let buckets = server.start(&["shared"]);
    let subject = image("what all sign");
    let publishers = (0..6).map(|number| {
        let (buckets, subject) = (&buckets, &subject);
        async move {
            let to = Arc::new(open("s3://shared/tree", options(&buckets.url())));
            let to = Tree::create(to).await.unwrap();
            let from = tree().await;
            for round in 0..3 {
                add(&from, &format!("app:{number}-{round}"), &image(&format!("{number} {round}"))).await;
                add(&from, &format!("own/{number}-{round}:1"), &image(&format!("{number} {round}"))).await;
                let signature = ImageBuilder::new().artifact_type("application/vnd.example.signature");
                let signature =
                    signature.subject(&subject.descriptor()).blob("text/plain", format!("{number} {round}"));
                add(&from, "app:subject", subject).await;
                add(&from, &format!("app:signature-{number}-{round}"), &signature.build()).await;
                let plan = Plan::compare(&from, Some(&to), &PlanOptions::default()).await.unwrap();
                let errors = plan.carry_out(&from, &to, &how()).await;
                assert!(errors.is_empty(), "{errors:?}");
            }
        }
    });
    join_all(publishers).await;
    let to = Tree::open(Arc::new(open("s3://shared/tree", options(&buckets.url())))).await.unwrap();
    sound(&to).await;
    let app: Repository = "app".parse().unwrap();
    let mut names: BTreeMap<String, bool> = BTreeMap::new();
    for tag in to.tags(&app).await.unwrap().into_keys() {
        names.insert(tag.to_string(), true);
    }
    assert_eq!(names.len(), 6 * 3 * 2 + 1, "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publishers_lose_nothing_of_each_other_in_versitygw() {
    publishers_lose_nothing_of_each_other(BucketServer::Versitygw).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn publishers_lose_nothing_of_each_other_in_minio() {
    publishers_lose_nothing_of_each_other(BucketServer::Minio).await;
}

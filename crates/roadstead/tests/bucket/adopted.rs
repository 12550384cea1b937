//! From another registry's storage into a tree in the same service: by copies that the service makes, and vouches for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use bytes::Bytes;
use futures::TryStreamExt as _;
use roadstead::image::{BlobOutcome, Copied, Copier, CopyError, CopyOptions, Event, Events, Sink as _, Source};
use roadstead::medium::distribution_disk::DistributionDisk;
use roadstead::oci::{Algorithm, Digest, Reference, Repository};
use roadstead::store::{BucketStore, Condition, Headers, Key, Store as _};
use roadstead::testing::contract::store::bytes_of;
use roadstead::testing::{FaultServer, Image, ImageBuilder, Layer, Reply, Seen, noise};
use roadstead::tree::{Tree, TreeSource};
use roadstead_parts::BucketServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{impatient, open, options};

/// The bytes of a layer that is worth a copy.
const LARGE: usize = 5 << 20;

/// A wire to a server that counts what passes, both ways.
struct Wire {
    url: String,
    passed: Arc<AtomicU64>,
}

impl Wire {
    async fn to(url: &str) -> Self {
        let server = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, passed) = (format!("http://{}", listener.local_addr().unwrap()), Arc::<AtomicU64>::default());
        let counted = passed.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                for (mut from, mut to) in [(from_client, to_server), (from_server, to_client)] {
                    let counted = counted.clone();
                    tokio::spawn(async move {
                        let mut piece = vec![0; 64 << 10];
                        while let Ok(size) = from.read(&mut piece).await {
                            counted.fetch_add(size as u64, Ordering::Relaxed);
                            if size == 0 || to.write_all(&piece[..size]).await.is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown().await;
                    });
                }
            }
        });
        Self { url, passed }
    }

    fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

/// How many blobs were adopted, and how many read.
#[derive(Default)]
struct Tally {
    adopted: AtomicU64,
    copied: AtomicU64,
}

impl Tally {
    fn seen(&self) -> (u64, u64) {
        (self.adopted.load(Ordering::Relaxed), self.copied.load(Ordering::Relaxed))
    }
}

impl Events for Tally {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::BlobDone { outcome: BlobOutcome::Adopted, .. } => &self.adopted,
            Event::BlobDone { outcome: BlobOutcome::Copied, .. } => &self.copied,
            _ => return,
        }
        .fetch_add(1, Ordering::Relaxed);
    }
}

fn image() -> Image {
    let large = |seed| Layer::new().file("large", noise(seed, LARGE), 0o644);
    ImageBuilder::new().layer(large(31)).layer(large(32)).layer("small").build()
}

fn data(digest: &Digest) -> Key {
    let hex = digest.hex();
    format!("docker/registry/v2/blobs/{}/{}/{hex}/data", digest.algorithm(), &hex[..2]).parse().unwrap()
}

/// Puts an image where distribution keeps its own.
async fn keep(store: &BucketStore, repository: &str, image: &Image) {
    let home = format!("docker/registry/v2/repositories/{repository}");
    let put = async |key: String, bytes: Bytes| {
        let _ = store.put(&key.parse().unwrap(), bytes, &Headers::default(), Condition::Always).await.unwrap();
    };
    let link = |digest: &Digest| Bytes::from(digest.to_string());
    let digest = image.digest();
    put(data(&digest).to_string(), image.manifest.bytes().clone()).await;
    put(format!("{home}/_manifests/revisions/{}/{}/link", digest.algorithm(), digest.hex()), link(&digest)).await;
    put(format!("{home}/_manifests/tags/1/current/link"), link(&digest)).await;
    for (digest, bytes) in &image.blobs {
        put(data(digest).to_string(), bytes.clone()).await;
        put(format!("{home}/_layers/{}/{}/link", digest.algorithm(), digest.hex()), link(digest)).await;
    }
}

async fn add(source: &dyn Source, tree: &Tree, tally: Arc<Tally>) -> Result<Copied, CopyError> {
    let (name, tag): (Repository, _) = ("app".parse().unwrap(), "1".parse().unwrap());
    let to = tree.repository(&name).await.unwrap();
    let copier = Copier::new(CopyOptions::default(), tally);
    let copied = copier.copy(&*source.repository(&name), &Reference::Tag("1".parse().unwrap()), &*to, &[tag]).await?;
    to.finish().await.unwrap();
    Ok(copied)
}

async fn distribution(store: BucketStore) -> DistributionDisk {
    DistributionDisk::in_store(Arc::new(store), "distribution:s3://kept".to_owned()).await.unwrap()
}

/// What the tree holds of an image, byte for byte.
async fn holds(tree: &Tree, image: &Image) {
    let app: Repository = "app".parse().unwrap();
    for (digest, bytes) in &image.blobs {
        let object = tree.blob(&app, digest, None).await.unwrap().unwrap_or_else(|| panic!("{digest} is absent"));
        assert_eq!(object.entry.headers.digest, Some(*digest));
        assert_eq!(bytes_of(object).await, *bytes, "{digest}");
    }
    assert_eq!(tree.find(&app, &image.digest().into()).await.unwrap().unwrap().bytes(), image.manifest.bytes());
}

async fn nothing_private_is_left(store: &BucketStore) {
    let left: Vec<_> = store.list(&".roadstead/uploads".parse().unwrap()).try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

async fn layers_stay_within_the_service(server: BucketServer) {
    let buckets = server.start(&["kept", "images"]);
    let image = image();
    keep(&open("s3://kept", options(&buckets.url())), "app", &image).await;
    let wire = Wire::to(&buckets.url()).await;
    let through = |at: &str| open(at, options(&wire.url));
    // Into another bucket, and below a prefix of the same one.
    for at in ["s3://images/tree", "s3://kept/tree"] {
        let source = distribution(through("s3://kept")).await;
        let tree = Tree::create(Arc::new(through(at))).await.unwrap();
        let (before, tally) = (wire.passed(), Arc::new(Tally::default()));
        let copied = add(&source, &tree, tally.clone()).await.unwrap();
        assert_eq!(copied.descriptor.digest, image.digest(), "{server:?}");
        let moved = wire.passed() - before;
        assert!(moved < 1 << 18, "{server:?}, {at}: {moved} bytes came through");
        // The config and the small layer aren't worth it.
        assert_eq!(tally.seen(), (2, 2), "{server:?}, {at}: adopted, and read");
        holds(&tree, &image).await;
        nothing_private_is_left(&through(at)).await;
    }

    // From a tree to another one, likewise.
    let source = TreeSource::new(Tree::open(Arc::new(through("s3://images/tree"))).await.unwrap());
    let tree = Tree::create(Arc::new(through("s3://images/other"))).await.unwrap();
    let (before, tally) = (wire.passed(), Arc::new(Tally::default()));
    add(&source, &tree, tally.clone()).await.unwrap();
    assert_eq!((tally.seen(), wire.passed() - before < 1 << 18), ((2, 2), true), "{server:?}");
    holds(&tree, &image).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn layers_stay_within_versitygw() {
    layers_stay_within_the_service(BucketServer::Versitygw).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn layers_stay_within_minio() {
    layers_stay_within_the_service(BucketServer::Minio).await;
}

async fn what_is_damaged_is_not_adopted(server: BucketServer) {
    let buckets = server.start(&["kept", "images"]);
    let image = image();
    let kept = open("s3://kept", options(&buckets.url()));
    let layers: Vec<_> = image.blobs.iter().filter(|(_, bytes)| bytes.len() > LARGE).collect();
    let (changed, cut) = (noise(33, layers[0].1.len()), layers[1].1.slice(1..));
    for (wrong, at) in [(changed, 0), (cut, 1)] {
        keep(&kept, "app", &image).await;
        let _ = kept.put(&data(layers[at].0), wrong, &Headers::default(), Condition::Always).await.unwrap();
        let store = open(&format!("s3://images/{at}"), options(&buckets.url()));
        let tree = Tree::create(Arc::new(store.clone())).await.unwrap();
        let source = distribution(kept.clone()).await;
        let failed = add(&source, &tree, Arc::default()).await.unwrap_err();
        assert!(format!("{failed:?}").contains(&layers[at].0.to_string()), "{server:?}: {failed:?}");
        let key: Key = format!("v2/app/blobs/{}", layers[at].0).parse().unwrap();
        assert!(store.head(&key).await.unwrap().is_none(), "{server:?}: {key} shows");
        let emptied = async || store.list(&".roadstead/uploads".parse().unwrap()).try_next().await.unwrap().is_none();
        let gone = async {
            while !emptied().await {
                tokio::task::yield_now().await;
            }
        };
        let gone = tokio::time::timeout(std::time::Duration::from_secs(60), gone).await;
        assert!(gone.is_ok(), "{server:?}: a copy that was judged wrong stays");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_damaged_in_versitygw_is_not_adopted() {
    what_is_damaged_is_not_adopted(BucketServer::Versitygw).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn what_is_damaged_in_minio_is_not_adopted() {
    what_is_damaged_is_not_adopted(BucketServer::Minio).await;
}

/// A service that copies and may say of a copy that it is `checksum`.
async fn copies(checksum: Option<&'static str>) -> (FaultServer, BucketStore) {
    let server = FaultServer::start(move |seen: &Seen| match seen.method.as_str() {
        "PUT" => Reply::ok("<CopyObjectResult><ETag>\"1\"</ETag></CopyObjectResult>"),
        "HEAD" => {
            let reply = Reply::ok(noise(35, LARGE)).header("etag", "\"1\"");
            checksum.map_or_else(|| Reply::ok(noise(35, LARGE)), |said| reply.header("x-amz-checksum-sha256", said))
        }
        _ => Reply::status(204),
    })
    .await;
    let at = "s3://bucket/tree".parse().unwrap();
    let store = BucketStore::open(at, impatient(), options(&server.url(""))).unwrap();
    (server, store)
}

#[tokio::test]
async fn only_a_service_that_says_digests_is_believed() {
    let (sha256, size) = (Algorithm::Sha256, Some(LARGE as u64));
    // None, one of parts, one of another length.
    for checksum in [None, Some("ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=-2"), Some("AAAA")] {
        let (server, store) = copies(checksum).await;
        let from = format!("{}/kept/a%3Ab", server.url(""));
        assert!(store.begin_copy(&from, sha256, size).await.unwrap().is_none(), "{checksum:?}");
        let lines = server.lines();
        let methods: Vec<_> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(methods, ["PUT", "HEAD", "DELETE"], "{checksum:?}: nothing stays");
        let [copy, head, ..] = &server.requests()[..] else { panic!("{lines:?}") };
        assert_eq!(copy.headers["x-amz-copy-source"], "kept/a%3Ab");
        assert_eq!(copy.headers["x-amz-checksum-algorithm"], "SHA256");
        assert_eq!(head.headers["x-amz-checksum-mode"], "ENABLED");
        assert!(copy.target.starts_with("/bucket/tree/.roadstead/uploads/"), "{}", copy.target);
        // It isn't asked twice.
        assert!(store.begin_copy(&from, sha256, size).await.unwrap().is_none());
        assert_eq!(server.lines().len(), 3, "{checksum:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_vouched_for_is_not_even_asked_for() {
    let (server, store) = copies(None).await;
    let from = format!("{}/kept/a", server.url(""));
    let size = Some(LARGE as u64);
    for (from, algorithm, size) in [
        ("http://127.0.0.1:1/kept/a", Algorithm::Sha256, size),
        ("", Algorithm::Sha256, size),
        (&*from, Algorithm::Sha512, size),
        (&*from, Algorithm::Sha256, None),
        (&*from, Algorithm::Sha256, Some(1000)),
        (&*from, Algorithm::Sha256, Some(6 << 30)),
    ] {
        assert!(store.begin_copy(from, algorithm, size).await.unwrap().is_none(), "{from} {algorithm} {size:?}");
    }
    assert_eq!(server.lines(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_nobody_wants_goes() {
    let (server, store) = copies(Some("ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=")).await;
    let from = format!("{}/kept/a", server.url(""));
    let mut copy = store.begin_copy(&from, Algorithm::Sha256, Some(LARGE as u64)).await.unwrap().unwrap();
    let said = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(copy.digest().await.unwrap(), (said.parse().unwrap(), LARGE as u64));
    assert!(copy.write(Bytes::from_static(b"more")).await.is_err(), "then it would be another one");
    drop(copy);
    let gone = || server.lines().last().is_some_and(|line| line.starts_with("DELETE /bucket/tree/.roadstead/uploads/"));
    assert!(roadstead_parts::wait_until(std::time::Duration::from_secs(60), gone), "{:?}", server.lines());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_that_is_given_up_under_way_goes_when_it_is_there() {
    let (asked, answered) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (asks, answers) = (asked.clone(), answered.clone());
    let server = FaultServer::start(move |seen: &Seen| {
        if seen.method == "PUT" {
            asks.wait();
            answers.wait();
        }
        Reply::ok("<CopyObjectResult><ETag>\"1\"</ETag></CopyObjectResult>")
    })
    .await;
    let at = "s3://bucket/tree".parse().unwrap();
    let store = BucketStore::open(at, impatient(), options(&server.url(""))).unwrap();
    let from = format!("{}/kept/a", server.url(""));
    let waiting = store.clone();
    let copying = tokio::spawn(async move {
        let _ = waiting.begin_copy(&from, Algorithm::Sha256, Some(LARGE as u64)).await;
    });
    asked.wait();
    copying.abort();
    assert!(copying.await.unwrap_err().is_cancelled());
    // What was sent at once would have come with this.
    let _ = store.head(&"v2/app/tags/list".parse().unwrap()).await;
    answered.wait();
    // The copy is there as soon as it is answered; what it is is asked for, and nobody knows.
    let methods = || server.requests().into_iter().map(|seen| seen.method).collect::<Vec<_>>();
    let gone = || methods() == ["HEAD", "PUT", "HEAD", "DELETE"];
    assert!(roadstead_parts::wait_until(std::time::Duration::from_secs(60), gone), "{:?}", server.lines());
}

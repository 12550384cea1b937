//! The promises of [`Store`].

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::join_all;
use tokio::sync::Barrier;

use super::{DEADLINE, Promises, ends};
use crate::oci::{Algorithm, MediaType};
use crate::store::{
    Body, Condition, Headers, Key, Listed, LockMode, Naming, Object, Store, StoreError, Upload, Version, Written,
};
use crate::testing::noise;

/// A store under test.
pub type Subject = Arc<dyn Store>;

/// Every promise of this module, over an empty store. `contents` lists everything that the store's medium holds, behind the
/// store's back, such as the files of a directory.
///
/// # Panics
///
/// If a promise is broken.
pub async fn run_all(store: &Subject, contents: &dyn Fn() -> Vec<String>) {
    let mut promises = Promises::new(store.describe());
    macro_rules! keeps {
        ($($promise:ident),* $(,)?) => { $( promises.check(stringify!($promise), $promise(store)).await; )* };
    }
    keeps!(
        absence,
        what_is_put_is_read,
        headers_are_kept_where_there_are_any,
        ranges_are_cut_to_what_there_is,
        a_put_replaces_in_one_instant,
        versions_tell_contents_apart,
        conditions_hold,
        one_of_many_creators_wins,
        no_conditional_update_is_lost,
        an_upload_is_hashed_and_kept,
        an_upload_continues_a_hash,
        an_upload_is_invisible_until_it_is_finished,
        an_upload_replaces_in_one_instant,
        a_link_names_the_same_bytes,
        links_lead_anywhere_in_the_store,
        a_link_moves_in_one_instant,
        a_link_to_nothing_is_nothing,
        writing_to_a_link_spares_its_target,
        what_is_deleted_is_gone,
        what_is_deleted_makes_room,
        lists_are_complete,
        lists_show_every_legal_name,
        lists_show_thousands,
        writers_beside_each_other,
        concurrent_syncs_cover_what_was_written,
        shared_locks_are_held_together,
        exclusive_locks_exclude,
        a_lock_that_nobody_waits_for_any_more_is_free,
    );
    promises.check("a_dropped_upload_leaves_nothing", a_dropped_upload_leaves_nothing(store, contents)).await;
    // Last, since a store that a collision breaks would break the other promises too.
    promises.check("collisions_harm_nothing", collisions_harm_nothing(store)).await;
    promises.done();
}

fn key(text: &str) -> Key {
    format!("contract/{text}").parse().unwrap_or_else(|error| panic!("{error}"))
}

/// The bytes of an object, whatever form they come in.
///
/// # Panics
///
/// If they can't be read.
pub async fn bytes_of(object: Object) -> Bytes {
    match object.body {
        Body::Bytes(bytes) => bytes,
        Body::File { file, range } => {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("fits into memory")];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, range.start)
                .unwrap_or_else(|error| panic!("bytes {range:?} of the file can't be read: {error}"));
            bytes.into()
        }
        Body::Stream(stream) => stream
            .try_fold(Vec::new(), |mut all, piece| async move {
                all.extend(piece);
                Ok(all)
            })
            .await
            .unwrap_or_else(|error| panic!("{error}"))
            .into(),
    }
}

fn good<T>(store: &Subject, what: &str, result: Result<T, StoreError>) -> T {
    result.unwrap_or_else(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        panic!("{}: {what}: {error}{cause}", store.describe())
    })
}

async fn put(store: &Subject, key: &Key, bytes: impl Into<Bytes>) {
    let written = store.put(key, bytes.into(), &Headers::default(), Condition::Always).await;
    assert_eq!(good(store, "put", written), Written::Done, "{}: {key}", store.describe());
}

async fn read(store: &Subject, key: &Key) -> Option<Bytes> {
    match good(store, "get", store.get(key, None).await) {
        Some(object) => Some(bytes_of(object).await),
        None => None,
    }
}

async fn expect(store: &Subject, key: &Key, bytes: &[u8]) {
    let found = read(store, key).await;
    assert_eq!(found.as_deref(), Some(bytes), "{}: {key}", store.describe());
    let entry = good(store, "head", store.head(key).await);
    assert_eq!(entry.map(|entry| entry.size), Some(bytes.len() as u64), "{}: size of {key}", store.describe());
}

async fn expect_nothing(store: &Subject, key: &Key) {
    assert_eq!(read(store, key).await, None, "{}: {key}", store.describe());
    assert!(good(store, "head", store.head(key).await).is_none(), "{}: head of {key}", store.describe());
}

async fn version(store: &Subject, key: &Key) -> Version {
    let entry = good(store, "head", store.head(key).await);
    entry.unwrap_or_else(|| panic!("{}: {key} is not there", store.describe())).version
}

async fn upload(store: &Subject) -> Box<dyn Upload> {
    good(store, "begin_upload", store.begin_upload(Algorithm::Sha256.hasher()).await)
}

async fn upload_whole(store: &Subject, key: &Key, bytes: impl Into<Bytes>, headers: &Headers) {
    let mut upload = upload(store).await;
    good(store, "write", upload.write(bytes.into()).await);
    good(store, "finish", upload.finish(key, headers).await);
    good(store, "sync", store.sync().await);
}

async fn link(store: &Subject, key: &Key, target: &Key) -> bool {
    good(store, "link", store.link(key, target, &Headers::default()).await)
}

async fn list(store: &Subject, prefix: &Key) -> BTreeSet<(char, String)> {
    let listed: Vec<_> = good(store, "list", store.list(prefix).try_collect().await);
    let all: BTreeSet<_> = listed
        .iter()
        .map(|listed| match listed {
            Listed::Object(key) => ('o', key.to_string()),
            Listed::Prefix(key) => ('p', key.to_string()),
        })
        .collect();
    assert_eq!(all.len(), listed.len(), "{}: {prefix} was listed with repetitions: {listed:?}", store.describe());
    all
}

/// Reads `key` over and over while `write` runs, and checks every answer.
async fn read_during(store: &Subject, key: &Key, allowed: &[Bytes], write: impl Future<Output = ()>) {
    let done = Arc::new(AtomicUsize::new(0));
    let readers: Vec<_> = (0..4)
        .map(|reader| {
            let (store, key, allowed, done) = (store.clone(), key.clone(), allowed.to_vec(), done.clone());
            tokio::spawn(async move {
                while done.load(Ordering::Relaxed) == 0 {
                    let found = read(&store, &key).await;
                    let found = found.unwrap_or_else(|| panic!("{}: {key} was gone for a moment", store.describe()));
                    assert!(
                        allowed.contains(&found),
                        "{}: reader {reader} saw {} bytes of {key} that nobody wrote in one piece",
                        store.describe(),
                        found.len()
                    );
                    let size = good(&store, "head", store.head(&key).await).map(|entry| entry.size);
                    assert!(
                        size.is_some_and(|size| allowed.iter().any(|bytes| bytes.len() as u64 == size)),
                        "{}: reader {reader} saw the size {size:?} of {key}",
                        store.describe()
                    );
                }
            })
        })
        .collect();
    write.await;
    done.store(1, Ordering::Relaxed);
    for reader in readers {
        if let Err(panicked) = reader.await {
            std::panic::resume_unwind(panicked.into_panic());
        }
    }
}

/// Two contents of different sizes, larger than one write of any system.
fn two_contents() -> [Bytes; 2] {
    [noise(1, 300_000), noise(2, 150_001)]
}

/// What isn't there is `None`, not an error.
pub async fn absence(store: &Subject) {
    for key in [key("absence/nothing"), key("absence/deeper/than/anything")] {
        expect_nothing(store, &key).await;
        assert_eq!(good(store, "target", store.target(&key).await), None);
        let part = good(store, "get", store.get(&key, Some(0..1)).await);
        assert!(part.is_none(), "{}: a range of nothing", store.describe());
        assert!(!good(store, "delete", store.delete(&key).await), "{}: nothing was deleted", store.describe());
    }
    assert_eq!(list(store, &key("absence")).await, BTreeSet::new());
}

/// An object is what was put, the empty one too, and visible at once.
pub async fn what_is_put_is_read(store: &Subject) {
    for (name, content) in [("empty", noise(0, 0)), ("small", noise(1, 10)), ("large", noise(2, 3 << 20))] {
        let key = key(&format!("put/a/b/c/{name}"));
        put(store, &key, content.clone()).await;
        expect(store, &key, &content).await;
        assert_eq!(good(store, "target", store.target(&key).await), None, "{}: an object", store.describe());
        put(store, &key, content.clone()).await;
        expect(store, &key, &content).await;
        put(store, &key, "other").await;
        expect(store, &key, b"other").await;
    }
}

/// Where names are copies, each keeps its own headers, however it was written.
pub async fn headers_are_kept_where_there_are_any(store: &Subject) {
    let headers = |content: &[u8], cache_control| Headers {
        content_type: Some(MediaType::OCI_INDEX),
        digest: Some(Algorithm::Sha256.digest(content)),
        cache_control: Some(cache_control),
    };
    let (first, second, third) = (key("headers/put"), key("headers/upload"), key("headers/link"));
    let (one, two, three) = (headers(b"1", "max-age=1"), headers(b"2", "max-age=2"), headers(b"3", "max-age=3"));
    let written = store.put(&first, "content".into(), &one, Condition::Always).await;
    assert_eq!(good(store, "put", written), Written::Done);
    upload_whole(store, &second, "content", &two).await;
    good(store, "link", store.link(&third, &first, &three).await);
    for (key, expected) in [(first, one), (second, two), (third, three)] {
        expect(store, &key, b"content").await;
        let head = good(store, "head", store.head(&key).await).map(|entry| entry.headers);
        let got = good(store, "get", store.get(&key, None).await).map(|object| object.entry.headers);
        let expected = match store.naming() {
            Naming::Copies => expected,
            Naming::Links => Headers::default(),
        };
        assert_eq!(head, Some(expected.clone()), "{}: headers of {key}", store.describe());
        assert_eq!(got, Some(expected), "{}: headers of {key}", store.describe());
    }
}

/// A range is cut to what there is; the entry tells the whole size.
pub async fn ranges_are_cut_to_what_there_is(store: &Subject) {
    let content = noise(7, 1000);
    let (key, by_link, empty) = (key("ranges/object"), key("ranges/link"), key("ranges/empty"));
    put(store, &key, content.clone()).await;
    put(store, &empty, "").await;
    link(store, &by_link, &key).await;
    #[expect(clippy::reversed_empty_ranges, reason = "a hostile request may ask for one")]
    let ranges: [(Range<u64>, Range<usize>); 10] = [
        (0..1000, 0..1000),
        (0..1, 0..1),
        (999..1000, 999..1000),
        (10..20, 10..20),
        (990..2000, 990..1000),
        (0..u64::MAX, 0..1000),
        (1000..1001, 0..0),
        (u64::MAX - 1..u64::MAX, 0..0),
        (5..5, 0..0),
        (20..10, 0..0),
    ];
    for (asked, expected) in ranges {
        for key in [&key, &by_link] {
            let object = good(store, "get", store.get(key, Some(asked.clone())).await).expect("it is there");
            assert_eq!(object.entry.size, 1000, "{}: size of {key} with {asked:?}", store.describe());
            assert_eq!(bytes_of(object).await, content[expected.clone()], "{}: {key} {asked:?}", store.describe());
        }
    }
    let object = good(store, "get", store.get(&empty, Some(0..10)).await).expect("it is there");
    assert_eq!(bytes_of(object).await, "", "{}: a range of an empty object", store.describe());
}

/// A reader sees the old object or the new one, whole, and always one of them.
pub async fn a_put_replaces_in_one_instant(store: &Subject) {
    let key = key("replace/put");
    let contents = two_contents();
    put(store, &key, contents[0].clone()).await;
    read_during(store, &key, &contents, async {
        for round in 0..60 {
            put(store, &key, contents[round % 2].clone()).await;
        }
    })
    .await;
}

/// Equal versions mean equal bytes, however quickly and alike two contents follow each other.
pub async fn versions_tell_contents_apart(store: &Subject) {
    let key = key("versions/object");
    let mut seen = std::collections::HashMap::new();
    for round in 0..200 {
        let content = format!("{round:04}");
        put(store, &key, content.clone()).await;
        let version = version(store, &key).await;
        assert_eq!(
            good(store, "get", store.get(&key, None).await).map(|object| object.entry.version),
            Some(version.clone()),
            "{}: get and head disagree",
            store.describe()
        );
        if let Some(earlier) = seen.insert(version, content.clone()) {
            panic!("{}: {earlier:?} and {content:?} have the same version", store.describe());
        }
    }
}

/// A conditional write happens exactly if its condition holds.
pub async fn conditions_hold(store: &Subject) {
    let key = key("conditions/object");
    let write = async |content: &'static str, condition| {
        good(store, "put", store.put(&key, content.into(), &Headers::default(), condition).await)
    };
    let describe = store.describe();
    assert_eq!(write("1", Condition::Absent).await, Written::Done, "{describe}: absent, nothing there");
    assert_eq!(write("2", Condition::Absent).await, Written::Refused, "{describe}: absent, something there");
    expect(store, &key, b"1").await;
    let first = version(store, &key).await;
    assert_eq!(write("3", Condition::Unchanged(first.clone())).await, Written::Done, "{describe}: unchanged");
    expect(store, &key, b"3").await;
    assert_eq!(write("4", Condition::Unchanged(first.clone())).await, Written::Refused, "{describe}: changed");
    expect(store, &key, b"3").await;
    let third = version(store, &key).await;
    assert!(good(store, "delete", store.delete(&key).await));
    assert_eq!(write("5", Condition::Unchanged(third)).await, Written::Refused, "{describe}: deleted");
    expect_nothing(store, &key).await;
    assert_eq!(write("6", Condition::Absent).await, Written::Done, "{describe}: absent again");
    expect(store, &key, b"6").await;
}

/// Of many that create one object, one does.
pub async fn one_of_many_creators_wins(store: &Subject) {
    for round in 0..20 {
        let key = key(&format!("creators/{round}"));
        let barrier = Arc::new(Barrier::new(8));
        let creators = (0..8).map(|creator| {
            let (store, key, barrier) = (store.clone(), key.clone(), barrier.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                let content = Bytes::from(format!("creator {creator}"));
                let written = store.put(&key, content.clone(), &Headers::default(), Condition::Absent).await;
                (good(&store, "put", written) == Written::Done).then_some(content)
            })
        });
        let winners: Vec<_> = join_all(creators).await.into_iter().filter_map(|done| done.expect("no panic")).collect();
        assert_eq!(winners.len(), 1, "{}: {key} was created by {winners:?}", store.describe());
        expect(store, &key, &winners[0]).await;
    }
}

/// Writers that read a version, change the object and write it on condition never lose each other's change.
pub async fn no_conditional_update_is_lost(store: &Subject) {
    const WRITERS: usize = 6;
    const EACH: usize = 12;
    let key = key("updates/list");
    put(store, &key, "").await;
    let writers = (0..WRITERS).map(|writer| {
        let (store, key) = (store.clone(), key.clone());
        tokio::spawn(async move {
            for round in 0..EACH {
                loop {
                    let object = good(&store, "get", store.get(&key, None).await).expect("it is there");
                    let version = object.entry.version.clone();
                    let mut content = bytes_of(object).await.to_vec();
                    content.extend(format!("{writer}.{round}\n").bytes());
                    let condition = Condition::Unchanged(version);
                    let written = store.put(&key, content.into(), &Headers::default(), condition).await;
                    if good(&store, "put", written) == Written::Done {
                        break;
                    }
                }
            }
        })
    });
    ends("conditional updates", join_all(writers)).await.into_iter().for_each(|done| done.expect("no panic"));
    let content = read(store, &key).await.expect("it is there");
    let lines: BTreeSet<_> = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), WRITERS * EACH, "{}: updates of {key} were lost", store.describe());
}

/// An upload's digest and length are those of what was written, at every point; finished and synced, it is the object.
pub async fn an_upload_is_hashed_and_kept(store: &Subject) {
    for (name, size, piece) in [("empty", 0, 1), ("small", 5, 2), ("large", 5 << 20, 100_003)] {
        for algorithm in Algorithm::ALL {
            let key = key(&format!("upload/{name}/{algorithm}"));
            let content = noise(3, size);
            let mut upload = good(store, "begin_upload", store.begin_upload(algorithm.hasher()).await);
            let mut written = 0;
            for (position, piece) in content.chunks(piece).enumerate() {
                good(store, "write", upload.write(Bytes::copy_from_slice(piece)).await);
                written += piece.len();
                if position % 16 == 1 {
                    let (digest, length) = good(store, "digest", upload.digest().await);
                    assert_eq!(length, written as u64, "{}: length so far", store.describe());
                    assert_eq!(digest, algorithm.digest(&content[..written]), "{}: digest so far", store.describe());
                }
            }
            let (digest, length) = good(store, "digest", upload.digest().await);
            assert_eq!((digest, length), (algorithm.digest(&content), size as u64), "{}", store.describe());
            good(store, "finish", upload.finish(&key, &Headers::default()).await);
            good(store, "sync", store.sync().await);
            expect(store, &key, &content).await;
        }
    }
}

/// An upload may take a hash over that began elsewhere; its length is that of its own bytes.
pub async fn an_upload_continues_a_hash(store: &Subject) {
    let mut hasher = Algorithm::Sha512.hasher();
    hasher.update(b"began elsewhere, ");
    let mut upload = good(store, "begin_upload", store.begin_upload(hasher).await);
    good(store, "write", upload.write("goes on here".into()).await);
    let (digest, length) = good(store, "digest", upload.digest().await);
    assert_eq!(digest, Algorithm::Sha512.digest(b"began elsewhere, goes on here"), "{}", store.describe());
    assert_eq!(length, 12, "{}", store.describe());
}

/// What is being uploaded shows nowhere; finished but not synced it may show, but only whole.
pub async fn an_upload_is_invisible_until_it_is_finished(store: &Subject) {
    let key = key("invisible/object");
    let content = noise(4, 400_000);
    let mut upload = upload(store).await;
    for piece in content.chunks(50_000) {
        good(store, "write", upload.write(Bytes::copy_from_slice(piece)).await);
        good(store, "digest", upload.digest().await);
        expect_nothing(store, &key).await;
        assert_eq!(list(store, &self::key("invisible")).await, BTreeSet::new(), "{}", store.describe());
    }
    good(store, "finish", upload.finish(&key, &Headers::default()).await);
    if let Some(seen) = read(store, &key).await {
        assert_eq!(seen, content, "{}: {key} before the sync", store.describe());
    }
    good(store, "sync", store.sync().await);
    expect(store, &key, &content).await;
}

/// An upload that is dropped, with or without bytes, leaves nothing in the store's medium.
pub async fn a_dropped_upload_leaves_nothing(store: &Subject, contents: &dyn Fn() -> Vec<String>) {
    // Begun and dropped once before, so that folders that a store makes on first use are there.
    drop(upload(store).await);
    let settled = async |expected: &BTreeSet<String>| {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let now: BTreeSet<_> = contents().into_iter().collect();
            if &now == expected {
                return;
            }
            let left: Vec<_> = now.difference(expected).collect();
            assert!(tokio::time::Instant::now() < deadline, "{}: an upload left {left:?}", store.describe());
            tokio::task::yield_now().await;
        }
    };
    good(store, "sync", store.sync().await);
    let before: BTreeSet<_> = contents().into_iter().collect();
    let mut uploads = Vec::new();
    for size in [0, 10, 1 << 20] {
        let mut upload = upload(store).await;
        good(store, "write", upload.write(noise(5, size)).await);
        uploads.push(upload);
    }
    drop(uploads);
    settled(&before).await;
    good(store, "sync", store.sync().await);
    settled(&before).await;
}

/// An upload that replaces an object does it in one instant.
pub async fn an_upload_replaces_in_one_instant(store: &Subject) {
    let key = key("replace/upload");
    let contents = two_contents();
    put(store, &key, contents[0].clone()).await;
    read_during(store, &key, &contents, async {
        for round in 0..30 {
            upload_whole(store, &key, contents[round % 2].clone(), &Headers::default()).await;
        }
    })
    .await;
}

/// A link reads as its target, tells where it leads where the store has links, and says whether it changed anything.
pub async fn a_link_names_the_same_bytes(store: &Subject) {
    let (first, second, name) = (key("link/content/1"), key("link/content/2"), key("link/name"));
    put(store, &first, "first").await;
    put(store, &second, "the second").await;
    let describe = store.describe();
    assert!(link(store, &name, &first).await, "{describe}: a new link changed nothing");
    expect(store, &name, b"first").await;
    assert!(!link(store, &name, &first).await, "{describe}: the same link changed something");
    assert!(link(store, &name, &second).await, "{describe}: another link changed nothing");
    expect(store, &name, b"the second").await;
    let target = good(store, "target", store.target(&name).await);
    let entry = good(store, "head", store.head(&name).await).expect("it is there");
    let got = good(store, "get", store.get(&name, None).await).expect("it is there");
    match store.naming() {
        Naming::Links => {
            assert_eq!(target, Some(second.clone()), "{describe}: target");
            assert_eq!(entry.target, Some(second.clone()), "{describe}: target by head");
            assert_eq!(got.entry.target, Some(second.clone()), "{describe}: target by get");
        }
        Naming::Copies => assert_eq!((target, entry.target, got.entry.target), (None, None, None), "{describe}"),
    }
    expect(store, &first, b"first").await;
    assert!(good(store, "delete", store.delete(&name).await), "{describe}: the link was not there");
    expect_nothing(store, &name).await;
    expect(store, &second, b"the second").await;
}

/// A link may lead beside itself, up, down, and out of any depth.
pub async fn links_lead_anywhere_in_the_store(store: &Subject) {
    let places = ["places/a", "places/b/c", "places/b/d/e/f", "places/sha256:0", "places/g h/%41+"];
    for (number, target) in places.iter().enumerate() {
        put(store, &key(target), format!("{number}")).await;
    }
    for (from, name) in ["places/l", "places/b/l", "places/b/d/e/l", "places/x/y/z/l"].into_iter().enumerate() {
        for (to, target) in places.iter().enumerate() {
            let name = key(&format!("{name}{from}-{to}"));
            link(store, &name, &key(target)).await;
            expect(store, &name, to.to_string().as_bytes()).await;
            if store.naming() == Naming::Links {
                assert_eq!(good(store, "target", store.target(&name).await), Some(key(target)), "{}", store.describe());
            }
        }
    }
}

/// A name moves in one instant: a reader sees what it named or what it names, and never nothing.
pub async fn a_link_moves_in_one_instant(store: &Subject) {
    let name = key("move/name");
    let contents = two_contents();
    let targets = [key("move/0"), key("move/1")];
    for (target, content) in targets.iter().zip(&contents) {
        put(store, target, content.clone()).await;
    }
    link(store, &name, &targets[0]).await;
    read_during(store, &name, &contents, async {
        for round in 1..200 {
            assert!(link(store, &name, &targets[round % 2]).await, "{}: the link did not move", store.describe());
        }
    })
    .await;
}

/// A link to nothing is refused, or counts as nothing until its target comes.
pub async fn a_link_to_nothing_is_nothing(store: &Subject) {
    let (name, target) = (key("dangling/name"), key("dangling/content/target"));
    match store.link(&name, &target, &Headers::default()).await {
        Err(_) => expect_nothing(store, &name).await,
        Ok(_) => {
            expect_nothing(store, &name).await;
            assert_eq!(good(store, "target", store.target(&name).await), Some(target.clone()), "{}", store.describe());
            put(store, &target, "came").await;
            expect(store, &name, b"came").await;
        }
    }
    put(store, &target, "is").await;
    link(store, &name, &target).await;
    assert!(good(store, "delete", store.delete(&target).await));
    match store.naming() {
        Naming::Links => {
            expect_nothing(store, &name).await;
            assert!(good(store, "delete", store.delete(&name).await), "{}: a dangling link", store.describe());
            assert_eq!(good(store, "target", store.target(&name).await), None, "{}", store.describe());
        }
        Naming::Copies => expect(store, &name, b"is").await,
    }
}

/// Writing to a name that is a link replaces the link; its target, which other names share, stays as it is. The other
/// way round, a link replaces an object.
pub async fn writing_to_a_link_spares_its_target(store: &Subject) {
    let target = key("through/target");
    put(store, &target, "shared").await;
    for way in ["put", "upload"] {
        let name = key(&format!("through/{way}"));
        link(store, &name, &target).await;
        match way {
            "put" => put(store, &name, "own").await,
            _ => upload_whole(store, &name, "own", &Headers::default()).await,
        }
        expect(store, &name, b"own").await;
        expect(store, &target, b"shared").await;
        assert_eq!(good(store, "target", store.target(&name).await), None, "{}: {way}", store.describe());
        assert!(link(store, &name, &target).await, "{}: a link in place of an object", store.describe());
        expect(store, &name, b"shared").await;
    }
}

/// What is deleted is gone at once, and nothing else is.
pub async fn what_is_deleted_is_gone(store: &Subject) {
    let (first, second) = (key("delete/a/1"), key("delete/a/2"));
    put(store, &first, "1").await;
    put(store, &second, "2").await;
    assert!(good(store, "delete", store.delete(&first).await), "{}: it was there", store.describe());
    expect_nothing(store, &first).await;
    assert!(!good(store, "delete", store.delete(&first).await), "{}: it was gone", store.describe());
    expect(store, &second, b"2").await;
    assert_eq!(list(store, &key("delete/a")).await, BTreeSet::from([('o', second.to_string())]));
}

/// Where the last object below a prefix is deleted, the prefix is gone too: it is not listed, and its name is free.
pub async fn what_is_deleted_makes_room(store: &Subject) {
    let deep = key("room/a/b/c");
    put(store, &deep, "deep").await;
    assert!(good(store, "delete", store.delete(&deep).await));
    assert_eq!(list(store, &key("room")).await, BTreeSet::new(), "{}: prefixes of nothing", store.describe());
    put(store, &key("room/a"), "flat").await;
    expect(store, &key("room/a"), b"flat").await;
    assert!(good(store, "delete", store.delete(&key("room/a")).await));
    put(store, &deep, "deep again").await;
    expect(store, &deep, b"deep again").await;
}

/// A list shows objects, links and prefixes of one level, each once, and nothing of a name that merely begins alike.
pub async fn lists_are_complete(store: &Subject) {
    for name in ["list/a", "list/b/1", "list/b/2", "list/b/c/d", "list/bb/1", "lister/x"] {
        put(store, &key(name), "content").await;
    }
    link(store, &key("list/l"), &key("list/a")).await;
    let expected = |names: &[(char, &str)]| -> BTreeSet<_> {
        names.iter().map(|(kind, name)| (*kind, key(name).to_string())).collect()
    };
    let describe = store.describe();
    assert_eq!(
        list(store, &key("list")).await,
        expected(&[('o', "list/a"), ('o', "list/l"), ('p', "list/b"), ('p', "list/bb")]),
        "{describe}"
    );
    assert_eq!(
        list(store, &key("list/b")).await,
        expected(&[('o', "list/b/1"), ('o', "list/b/2"), ('p', "list/b/c")]),
        "{describe}"
    );
    assert_eq!(list(store, &key("list/a")).await, BTreeSet::new(), "{describe}: a list below an object");
    assert_eq!(list(store, &key("lis")).await, BTreeSet::new(), "{describe}: a list below half a name");
    assert!(
        list(store, &"contract".parse().expect("a key")).await.contains(&('p', key("list").to_string())),
        "{describe}"
    );
}

/// Every name that a key may have can be written, read and listed.
pub async fn lists_show_every_legal_name(store: &Subject) {
    let names = [
        "sha256:00",
        "with space",
        " ",
        "%3A",
        "a+b",
        "a&b=c?d#e",
        "é",
        "日本",
        "..a",
        "...",
        ".hidden",
        "-",
        "~",
        "*",
        "'\"",
        "<a>",
        "x".repeat(255).leak(),
    ];
    for name in names {
        put(store, &key(&format!("names/{name}")), name).await;
    }
    for name in names {
        expect(store, &key(&format!("names/{name}")), name.as_bytes()).await;
    }
    let expected: BTreeSet<_> = names.iter().map(|name| ('o', key(&format!("names/{name}")).to_string())).collect();
    assert_eq!(list(store, &key("names")).await, expected, "{}", store.describe());
}

/// A list goes on to its end.
pub async fn lists_show_thousands(store: &Subject) {
    const COUNT: usize = 2_500;
    let names: Vec<_> = (0..COUNT).map(|number| key(&format!("thousands/{number}"))).collect();
    for some in names.chunks(50) {
        join_all(some.iter().map(|key| put(store, key, ""))).await;
    }
    let listed = list(store, &key("thousands")).await;
    assert_eq!(listed, names.iter().map(|key| ('o', key.to_string())).collect(), "{}", store.describe());
}

/// A key that would have to be a file and a folder at once is refused as a collision, or both exist; what was there stays.
pub async fn collisions_harm_nothing(store: &Subject) {
    let (short, long) = (key("collision/a"), key("collision/a/b"));
    let other = key("collision-target");
    put(store, &other, "other").await;
    for (first, second) in [(&short, &long), (&long, &short)] {
        for way in ["put", "upload", "link"] {
            put(store, first, "first").await;
            let result = match way {
                "put" => store.put(second, "second".into(), &Headers::default(), Condition::Always).await.map(drop),
                "link" => store.link(second, &other, &Headers::default()).await.map(drop),
                _ => {
                    let mut upload = upload(store).await;
                    good(store, "write", upload.write("second".into()).await);
                    match upload.finish(second, &Headers::default()).await {
                        Ok(()) => store.sync().await,
                        failed => failed,
                    }
                }
            };
            match result {
                Ok(()) => assert!(read(store, second).await.is_some(), "{}: {way} of {second}", store.describe()),
                Err(StoreError::Collision { .. }) => expect_nothing(store, second).await,
                Err(other) => panic!("{}: {way} of {second} beside {first}: {other}", store.describe()),
            }
            expect(store, first, b"first").await;
            good(store, "delete", store.delete(second).await);
            good(store, "delete", store.delete(first).await);
        }
    }
    good(store, "sync", store.sync().await);
}

/// Writers of different keys below one new prefix, while others delete there, never fail each other.
pub async fn writers_beside_each_other(store: &Subject) {
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..25 {
                let own = key(&format!("beside/{}/{writer}", round % 3));
                let content = format!("{writer}.{round}");
                match writer % 3 {
                    0 => put(&store, &own, content.clone()).await,
                    1 => upload_whole(&store, &own, content.clone(), &Headers::default()).await,
                    _ => {
                        let target = key(&format!("beside-content/{writer}"));
                        put(&store, &target, content.clone()).await;
                        link(&store, &own, &target).await;
                    }
                }
                expect(&store, &own, content.as_bytes()).await;
                assert!(good(&store, "delete", store.delete(&own).await), "{}: {own}", store.describe());
            }
        })
    });
    for done in ends("writers beside each other", join_all(writers)).await {
        if let Err(panicked) = done {
            std::panic::resume_unwind(panicked.into_panic());
        }
    }
}

/// Whoever syncs finds what it wrote before, however many sync at the same time.
pub async fn concurrent_syncs_cover_what_was_written(store: &Subject) {
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..5 {
                let uploaded = key(&format!("sync/{writer}/{round}"));
                let linked = key(&format!("sync/{writer}/{round}-link"));
                upload_whole(&store, &uploaded, format!("{writer}.{round}"), &Headers::default()).await;
                link(&store, &linked, &uploaded).await;
                good(&store, "sync", store.sync().await);
                expect(&store, &linked, format!("{writer}.{round}").as_bytes()).await;
            }
        })
    });
    for done in ends("concurrent syncs", join_all(writers)).await {
        if let Err(panicked) = done {
            std::panic::resume_unwind(panicked.into_panic());
        }
    }
    good(store, "sync", store.sync().await);
}

/// Those that share a lock hold it at the same time, and locks of other names do not matter to them.
pub async fn shared_locks_are_held_together(store: &Subject) {
    let _other = good(store, "lock", store.lock("contract-other", LockMode::Exclusive).await);
    let barrier = Arc::new(Barrier::new(4));
    let holders = (0..4).map(|_| {
        let (store, barrier) = (store.clone(), barrier.clone());
        tokio::spawn(async move {
            let _guard = good(&store, "lock", store.lock("contract-shared", LockMode::Shared).await);
            barrier.wait().await;
        })
    });
    ends("holders of a shared lock", join_all(holders)).await.into_iter().for_each(|done| done.expect("no panic"));
}

/// Who holds a lock exclusively holds it alone.
pub async fn exclusive_locks_exclude(store: &Subject) {
    let (shared, exclusive) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let holders = (0..12).map(|number| {
        let (store, shared, exclusive) = (store.clone(), shared.clone(), exclusive.clone());
        tokio::spawn(async move {
            for _ in 0..10 {
                let mode = if number % 3 == 0 { LockMode::Exclusive } else { LockMode::Shared };
                let guard = good(&store, "lock", store.lock("contract-exclusive", mode).await);
                let own = if mode == LockMode::Exclusive { &exclusive } else { &shared };
                let before = own.fetch_add(1, Ordering::SeqCst);
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                    let (others, alone) = (shared.load(Ordering::SeqCst), exclusive.load(Ordering::SeqCst));
                    match mode {
                        LockMode::Exclusive => assert_eq!((before, others, alone), (0, 0, 1), "{}", store.describe()),
                        LockMode::Shared => assert_eq!(alone, 0, "{}: shared beside exclusive", store.describe()),
                    }
                }
                own.fetch_sub(1, Ordering::SeqCst);
                drop(guard);
            }
        })
    });
    for done in ends("holders of an exclusive lock", join_all(holders)).await {
        if let Err(panicked) = done {
            std::panic::resume_unwind(panicked.into_panic());
        }
    }
}

/// Whoever stops waiting for a lock does not get it behind everybody's back.
pub async fn a_lock_that_nobody_waits_for_any_more_is_free(store: &Subject) {
    let held = good(store, "lock", store.lock("contract-cancel", LockMode::Exclusive).await);
    for _ in 0..3 {
        let mut waiting = store.lock("contract-cancel", LockMode::Exclusive);
        for _ in 0..5 {
            assert!(futures::poll!(&mut waiting).is_pending(), "{}: two hold it", store.describe());
            tokio::task::yield_now().await;
        }
    }
    drop(held);
    let lock = ends("a lock that is free", store.lock("contract-cancel", LockMode::Exclusive)).await;
    drop(good(store, "lock", lock));
}

/// Links, folders and special files that somebody else put into a directory: none leads out of the store at `root`, and none
/// makes a reader hang. For stores with [`Naming::Links`] that live in a directory.
///
/// # Panics
///
/// If a promise is broken, or `root` can't be written.
pub async fn hostile_links_lead_nowhere(store: &Subject, root: &std::path::Path) {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    const SECRET: &[u8] = b"outside of the store";
    let outside = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(outside.path().join("secret"), SECRET).expect("a temporary file");
    put(store, &key("hostile/content/inside"), "inside").await;
    let folder = root.join("contract/hostile");

    let secret = outside.path().join("secret");
    let climbing = format!("{}{}", "../".repeat(40), secret.strip_prefix("/").expect("absolute").display());
    let targets: [&std::ffi::OsStr; 8] = [
        secret.as_os_str(),
        climbing.as_ref(),
        "content/../../../..".as_ref(),
        "../../..".as_ref(),
        "/".as_ref(),
        "line\nbreak".as_ref(),
        std::ffi::OsStr::from_bytes(b"\xff\xfe"),
        "back\\slash".as_ref(),
    ];
    for (number, target) in targets.iter().enumerate() {
        symlink(target, folder.join(format!("link{number}"))).expect("a link");
        let name = key(&format!("hostile/link{number}"));
        let error = store.target(&name).await;
        assert!(error.is_err(), "{}: a link to {target:?} leads to {error:?}", store.describe());
        if let Ok(Some(object)) = ends("get", store.get(&name, None)).await {
            panic!("{}: a link to {target:?} reads as {:?}", store.describe(), bytes_of(object).await);
        }
        if let Ok(Some(entry)) = store.head(&name).await {
            panic!("{}: a link to {target:?} has {entry:?}", store.describe());
        }
    }

    // Links that lead to themselves or to each other, folders and pipes are no objects.
    symlink("loop", folder.join("loop")).expect("a link");
    symlink("round-b", folder.join("round-a")).expect("a link");
    symlink("round-a", folder.join("round-b")).expect("a link");
    symlink("content", folder.join("to-folder")).expect("a link");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .expect("a pipe");
    for name in ["loop", "round-a", "to-folder", "content", "pipe"] {
        let name = key(&format!("hostile/{name}"));
        if let Ok(Some(object)) = ends("get", store.get(&name, None)).await {
            panic!("{}: {name} is an object of {} bytes", store.describe(), object.entry.size);
        }
        if let Ok(Some(entry)) = ends("head", store.head(&name)).await {
            panic!("{}: {name} is an object: {entry:?}", store.describe());
        }
    }
    expect(store, &key("hostile/content/inside"), b"inside").await;
}

/// A folder that somebody else replaced by a link that leads out of the store at `root`: nothing is read, written, deleted
/// or listed through it. For stores with [`Naming::Links`] that live in a directory.
///
/// # Panics
///
/// If the promise is broken, or `root` can't be written.
pub async fn a_folder_that_leads_out_is_not_entered(store: &Subject, root: &std::path::Path) {
    const SECRET: &[u8] = b"outside of the store";
    let outside = tempfile::tempdir().expect("a temporary folder");
    let secret = outside.path().join("secret");
    std::fs::write(&secret, SECRET).expect("a temporary file");
    put(store, &key("hostile-folder/inside"), "inside").await;
    let folder = root.join("contract/hostile-folder");
    std::os::unix::fs::symlink(outside.path(), folder.join("folder")).expect("a link");
    let through = key("hostile-folder/folder/secret");
    if let Ok(Some(object)) = store.get(&through, None).await {
        panic!("{}: {through} reads as {:?}", store.describe(), bytes_of(object).await);
    }
    assert!(!matches!(store.delete(&through).await, Ok(true)), "{}: {through} was deleted", store.describe());
    let planted = key("hostile-folder/folder/planted");
    let _ = store.put(&planted, "planted".into(), &Headers::default(), Condition::Always).await;
    let _ = store.link(&key("hostile-folder/folder/link"), &planted, &Headers::default()).await;
    let mut upload = upload(store).await;
    good(store, "write", upload.write("planted".into()).await);
    let _ = upload.finish(&key("hostile-folder/folder/uploaded"), &Headers::default()).await;
    let _ = store.sync().await;
    let found: Vec<_> = std::fs::read_dir(outside.path())
        .expect("a temporary folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(found, ["secret"], "{}: written through a link that leads out", store.describe());
    assert_eq!(std::fs::read(&secret).expect("a file"), SECRET, "{}", store.describe());
    if let Ok(listed) = store.list(&key("hostile-folder/folder")).try_collect::<Vec<_>>().await {
        assert!(listed.is_empty(), "{}: listed through a link that leads out: {listed:?}", store.describe());
    }
}

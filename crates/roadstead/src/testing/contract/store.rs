//! The promises of [`Store`].

mod hostile;
mod links;
mod objects;
mod races;
mod uploads;

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
    Body, Condition, Headers, Key, Listed, LockMode, Md5, Named, Naming, Object, Small, Store, StoreError, Upload,
    Version, Written,
};
use crate::testing::noise;

pub use hostile::{a_folder_that_leads_out_is_not_entered, hostile_links_lead_nowhere};
pub use links::*;
pub use objects::*;
pub use races::*;
pub use uploads::*;

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
        times_are_those_of_the_last_write,
        headers_are_kept_where_there_are_any,
        ranges_are_cut_to_what_there_is,
        a_put_replaces_in_one_instant,
        versions_tell_contents_apart,
        conditions_hold,
        one_of_many_creators_wins,
        no_conditional_update_is_lost,
        objects_are_put_together,
        an_upload_is_hashed_and_kept,
        a_published_upload_is_visible,
        an_upload_continues_a_hash,
        an_upload_is_invisible_until_it_is_finished,
        an_upload_replaces_in_one_instant,
        a_session_goes_on,
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
        walks_are_complete_and_in_order,
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
    expect_the_same_together(store, key).await;
}

/// Questions about several keys are answered as those about one are.
async fn expect_the_same_together(store: &Subject, key: &Key) {
    const LIMIT: usize = 3;
    let nothing = Key::child(key, "nothing").expect("a key");
    let keys = [key.clone(), nothing, key.clone()];
    let beginning = read(store, key).await.map(|bytes| bytes.slice(..bytes.len().min(LIMIT)));
    let beginnings = good(store, "beginnings", store.beginnings(&keys, LIMIT as u64).await);
    assert_eq!(beginnings, [beginning.clone(), None, beginning], "{}: beginnings of {keys:?}", store.describe());
    let size = good(store, "head", store.head(key).await).map(|entry| entry.size);
    let sizes: Result<Vec<_>, _> = store.sizes(&keys).await.into_iter().collect();
    let sizes = good(store, "sizes", sizes);
    assert_eq!(sizes, [size, None, size], "{}: sizes of {keys:?}", store.describe());
    let target = good(store, "target", store.target(key).await);
    let targets: Result<Vec<_>, _> = store.targets(&keys).await.into_iter().collect();
    let targets = good(store, "targets", targets);
    assert_eq!(targets, [target.clone(), None, target], "{}: targets of {keys:?}", store.describe());
}

async fn expect_nothing(store: &Subject, key: &Key) {
    assert_eq!(read(store, key).await, None, "{}: {key}", store.describe());
    assert!(good(store, "head", store.head(key).await).is_none(), "{}: head of {key}", store.describe());
    expect_the_same_together(store, key).await;
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
    let prefixes: Vec<_> = good(store, "list_prefixes", store.list_prefixes(prefix).try_collect().await);
    let alone: BTreeSet<_> = prefixes.iter().map(|key| ('p', key.to_string())).collect();
    let among: BTreeSet<_> = all.iter().filter(|(kind, _)| *kind == 'p').cloned().collect();
    assert_eq!(alone, among, "{}: the prefixes below {prefix} alone", store.describe());
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
                    // A directory answers without waiting: as many readers as threads would keep the writer's own tasks out.
                    tokio::task::yield_now().await;
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

//! Uploads: hashed, hidden until they are finished, and gone when they are dropped.

use std::time::{Duration, SystemTime};

use super::*;
use crate::store::{Resumed, Session, SessionId};

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
            if let Some(again) = good(store, "content", upload.content().await) {
                let again = good(store, "content", again.into_bytes(size as u64, &key).await);
                assert_eq!(again, content, "{}: content", store.describe());
            }
            good(store, "finish", upload.finish(&key, &Headers::default()).await);
            good(store, "sync", store.sync().await);
            expect(store, &key, &content).await;
        }
    }
}

/// What is published is visible, and what was put before it stays.
pub async fn a_published_upload_is_visible(store: &Subject) {
    let keys = ["one", "two"].map(|name| key(&format!("published/{name}")));
    for key in &keys {
        let mut upload = upload(store).await;
        good(store, "write", upload.write(key.as_str().to_owned().into()).await);
        good(store, "finish", upload.finish(key, &Headers::default()).await);
        good(store, "publish", store.publish().await);
        expect(store, key, key.as_str().as_bytes()).await;
    }
    good(store, "publish", store.publish().await);
    good(store, "sync", store.sync().await);
    for key in &keys {
        expect(store, key, key.as_str().as_bytes()).await;
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
        assert_eq!(list(store, &super::key("invisible")).await, BTreeSet::new(), "{}", store.describe());
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

/// A session goes on where it was, as often as its upload is dropped, or begins anew in a store that keeps none; one at a time
/// works with it, and none once it is finished, forgotten or too old.
pub async fn a_session_goes_on(store: &Subject) {
    let repository = "contract/app".parse().unwrap_or_else(|error| panic!("{error}"));
    let session = Session { repository, ttl: Duration::from_secs(60) };
    let (now, content) = (SystemTime::now(), noise(7, 300_000));
    let (first, rest) = content.split_at(100_000);
    for algorithm in Algorithm::ALL {
        let (id, other) = (SessionId::from_random(fastrand::u128(..).to_le_bytes()), SessionId::from_random([7; 16]));
        let begun = store.begin_session(&id, session.clone(), algorithm.hasher()).await;
        let mut upload = good(store, "begin_session", begun);
        good(store, "write", upload.write(Bytes::copy_from_slice(first)).await);
        good(store, "settle", upload.settle().await);
        let resume = async |now| good(store, "resume_session", store.resume_session(&id, now).await);
        assert!(resume(now).await.is_none(), "{}: resumed beside its owner", store.describe());
        drop(upload);
        let Some(resumed) = resume(now).await else { continue };
        assert_eq!((&resumed.session, resumed.offset), (&session, 100_000), "{}", store.describe());
        assert!(resume(now).await.is_none(), "{}: resumed twice", store.describe());
        drop(resumed);
        let later = now + Duration::from_secs(3600);
        assert!(resume(later).await.is_none(), "{}: resumed after its time", store.describe());
        let Some(Resumed { mut upload, .. }) = resume(now).await else {
            panic!("{}: resumed once and no more", store.describe());
        };
        good(store, "expire_sessions", store.expire_sessions(later).await);
        for piece in rest.chunks(70_000) {
            good(store, "write", upload.write(Bytes::copy_from_slice(piece)).await);
        }
        let (digest, length) = good(store, "digest", upload.digest().await);
        assert_eq!((digest, length), (algorithm.digest(&content), 300_000), "{}", store.describe());
        let key = key(&format!("session/{algorithm}"));
        good(store, "finish", upload.finish(&key, &Headers::default()).await);
        good(store, "forget_session", store.forget_session(&id).await);
        good(store, "sync", store.sync().await);
        expect(store, &key, &content).await;
        assert!(resume(now).await.is_none(), "{}: resumed after its end", store.describe());

        for forget in [true, false] {
            let begun = store.begin_session(&other, session.clone(), algorithm.hasher()).await;
            let mut upload = good(store, "begin_session", begun);
            good(store, "write", upload.write(Bytes::copy_from_slice(first)).await);
            good(store, "settle", upload.settle().await);
            drop(upload);
            if forget {
                good(store, "forget_session", store.forget_session(&other).await);
                continue;
            }
            let freed = good(store, "expire_sessions", store.expire_sessions(now).await);
            assert_eq!(freed.files, 0, "{}: expired before its time", store.describe());
            let freed = good(store, "expire_sessions", store.expire_sessions(later).await);
            assert_eq!((freed.files, freed.bytes), (1, 100_000), "{}: freed", store.describe());
        }
        let gone = good(store, "resume_session", store.resume_session(&other, now).await);
        assert!(gone.is_none(), "{}: resumed after it was given up", store.describe());
    }
}

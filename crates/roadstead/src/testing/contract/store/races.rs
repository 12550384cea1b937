//! Writers beside each other, and locks.

use super::*;

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

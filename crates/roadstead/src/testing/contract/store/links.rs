//! Links: one set of bytes under several names.

use super::*;

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

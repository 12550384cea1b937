//! Objects: written, read, replaced, deleted and listed.

use super::*;

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

/// A store that can tell when something was written tells so of objects and links, and says nothing of what isn't there.
pub async fn times_are_those_of_the_last_write(store: &Subject) {
    let (object, name, nothing) = (key("times/object"), key("times/name"), key("times/nothing"));
    put(store, &object, "content").await;
    link(store, &name, &object).await;
    let modified = async |key: &Key| good(store, "modified", store.modified(key).await);
    assert_eq!(modified(&nothing).await, None, "{}: nothing was never written", store.describe());
    if let (Some(first), Some(then)) = (modified(&object).await, modified(&name).await) {
        assert!(first <= then, "{}: the name came after what it names", store.describe());
        put(store, &object, "other").await;
        assert!(modified(&object).await >= Some(first), "{}: it was written again", store.describe());
    }
}

/// Where names are copies, each keeps its own headers, however it was written.
pub async fn headers_are_kept_where_there_are_any(store: &Subject) {
    let headers = |content: &[u8], cache_control: &'static str| Headers {
        content_type: Some(MediaType::OCI_INDEX),
        digest: Some(Algorithm::Sha256.digest(content)),
        cache_control: Some(cache_control.into()),
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

/// A walk comes upon everything below a key once, in the order of bytes, with its size and what it links to; and upon nothing
/// of a name that merely begins alike. An MD5 that it says is that of the bytes.
pub async fn walks_are_complete_and_in_order(store: &Subject) {
    let names = ["a", "b-c/1", "b.c/1", "b/1", "b/c/d/e", "b0/1", "é/1", "日本", "z/-", "z/1", "z/a+b c%20"];
    for name in names {
        put(store, &key(&format!("walk/{name}")), name).await;
    }
    put(store, &key("walker"), "elsewhere").await;
    link(store, &key("walk/b/link"), &key("walk/a")).await;
    let walked: Vec<Named> = good(store, "walk", store.walk(&key("walk")).try_collect().await);
    let mut expected: Vec<(String, u64)> =
        names.iter().map(|name| (key(&format!("walk/{name}")).to_string(), name.len() as u64)).collect();
    expected.push((key("walk/b/link").to_string(), 1));
    expected.sort();
    let found: Vec<(String, u64)> = walked.iter().map(|named| (named.key.to_string(), named.size)).collect();
    assert_eq!(found, expected, "{}", store.describe());
    for named in walked {
        let is_link = named.key == key("walk/b/link") && store.naming() == Naming::Links;
        assert_eq!(named.target, is_link.then(|| key("walk/a")), "{}: {}", store.describe(), named.key);
        let object = good(store, "get", store.get(&named.key, None).await).expect("it was there");
        let sum = Md5::of(&bytes_of(object).await);
        assert!(named.md5.is_none_or(|md5| md5 == sum), "{}: {}", store.describe(), named.key);
    }
    let nothing: Vec<Named> = good(store, "walk", store.walk(&key("wal")).try_collect().await);
    assert!(nothing.is_empty(), "{}: {nothing:?}", store.describe());
}

/// Of objects that are put together each obeys its own condition, in their order.
pub async fn objects_are_put_together(store: &Subject) {
    let [there, new, refused] = ["there", "new", "refused"].map(|name| key(&format!("together/{name}")));
    put(store, &there, "before").await;
    put(store, &refused, "stays").await;
    let unchanged = Condition::Unchanged(version(store, &there).await);
    let small = |key: &Key, bytes: &'static str, condition| Small {
        key: key.clone(),
        bytes: Bytes::from_static(bytes.as_bytes()),
        headers: Headers::default(),
        condition,
    };
    let objects = vec![
        small(&there, "after", unchanged.clone()),
        small(&refused, "lost", Condition::Absent),
        small(&new, "first", Condition::Absent),
        small(&new, "second", Condition::Always),
        small(&there, "lost", unchanged),
    ];
    let written = good(store, "put_all", store.put_all(objects).await);
    let expected = [Written::Done, Written::Refused, Written::Done, Written::Done, Written::Refused];
    assert_eq!(written, expected, "{}", store.describe());
    expect(store, &there, b"after").await;
    expect(store, &refused, b"stays").await;
    expect(store, &new, b"second").await;
    assert_eq!(good(store, "put_all", store.put_all(Vec::new()).await), [], "{}", store.describe());
}

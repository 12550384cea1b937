//! A directory that somebody else writes to.

use super::*;

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
        let together = store.targets(std::slice::from_ref(&name)).await;
        assert!(together[0].is_err(), "{}: a link to {target:?} leads to {together:?}", store.describe());
        if let Ok(read) = ends("beginnings", store.beginnings(std::slice::from_ref(&name), 100)).await {
            assert_eq!(read, [None], "{}: a link to {target:?} reads as that", store.describe());
        }
        if let Ok(Some(object)) = ends("get", store.get(&name, None)).await {
            panic!("{}: a link to {target:?} reads as {:?}", store.describe(), bytes_of(object).await);
        }
        if let Ok(Some(entry)) = store.head(&name).await {
            panic!("{}: a link to {target:?} has {entry:?}", store.describe());
        }
        expect_the_size_of_head(store, &name).await;
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
        expect_the_size_of_head(store, &name).await;
        if let Ok(read) = ends("beginnings", store.beginnings(std::slice::from_ref(&name), 100)).await {
            let nothing = read[0].as_ref().is_none_or(bytes::Bytes::is_empty);
            assert!(nothing, "{}: {name} reads as {read:?}", store.describe());
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
    if let Ok(read) = store.beginnings(std::slice::from_ref(&through), 100).await {
        assert_eq!(read, [None], "{}: {through} reads as that", store.describe());
    }
    expect_the_size_of_head(store, &through).await;
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

/// What has no size alone has none among others.
async fn expect_the_size_of_head(store: &Subject, key: &Key) {
    let alone = store.head(key).await.ok().map(|found| found.map(|entry| entry.size));
    let together = store.sizes(std::slice::from_ref(key)).await.remove(0).ok();
    assert_eq!(together, alone, "{}: size of {key}", store.describe());
}

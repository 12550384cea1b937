//! Many tags and many repositories: everything still answers, whole, in pages, and without memory that grows with them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, Source as _};
use roadstead::oci::{Reference, Repository, Tag};
use roadstead::store::LocalStore;
use roadstead::testing::{Format, Image, ImageBuilder, MemorySource};
use roadstead::tree::Tree;
use roadstead_parts::{Nginx, Port, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Place, peak_memory, wait};

const TAGS: usize = 10_000;
const REPOSITORIES: usize = 5_000;

/// As long as tags may be.
fn tag(number: usize) -> String {
    format!("{number:05}-{}", "x".repeat(122))
}

fn repository(number: usize) -> String {
    format!("team-{}/app-{number:04}", number % 10)
}

/// `many` with all tags, and all the other repositories with a tag `1`. The catalogue comes last: a hundred times faster than
/// bringing it up to date with each, and a writer makes one that is missing anew from the folders.
fn write(folder: &Path, image: &Image) {
    let source = MemorySource::new();
    source.add("many", image);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tree = Tree::create(Arc::new(LocalStore::create(folder).unwrap().without_sync())).await.unwrap();
        let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
        let from = source.repository(&"many".parse().unwrap());
        let copy = async |name: &str, tags: &[Tag]| {
            let to = tree.repository(&name.parse::<Repository>().unwrap()).await.unwrap();
            copier.copy(&*from, &Reference::Digest(image.digest()), &*to, tags).await.unwrap();
            to
        };
        for number in 0..REPOSITORIES {
            copy(&repository(number), &["1".parse().unwrap()]).await;
        }
        fs::remove_file(folder.join("v2/_catalog")).unwrap();
        let tags: Vec<Tag> = (0..TAGS).map(|number| tag(number).parse().unwrap()).collect();
        copy("many", &tags).await.finish().await.unwrap();
    });
}

/// Asks for a path; returns the link to the next page, and the body.
fn get(authority: &str, path: &str) -> (Option<String>, serde_json::Value) {
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
    let link = head.lines().find_map(|line| line.to_ascii_lowercase().starts_with("link: ").then(|| &line[6..]));
    let next = link.map(|link| link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned());
    (next, serde_json::from_str(body).unwrap())
}

fn names(list: &serde_json::Value) -> Vec<String> {
    let names = list.get("tags").or_else(|| list.get("repositories")).unwrap().as_array().unwrap();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// All names of a list, page by page.
fn pages(authority: &str, path: &str, n: usize) -> Vec<String> {
    let (mut all, mut next) = (Vec::new(), Some(format!("{path}?n={n}")));
    while let Some(path) = next {
        let (link, list) = get(authority, &path);
        let page = names(&list);
        assert!(page.len() == n || link.is_none(), "{path}: {} of {n}", page.len());
        all.extend(page);
        next = link;
    }
    all
}

/// What shows whether a file or link was written anew.
fn stamps(tree: &Path) -> BTreeMap<String, (u64, i64, i64)> {
    let (mut stamps, mut open) = (BTreeMap::new(), vec![tree.join("v2"), tree.join("content")]);
    while let Some(path) = open.pop() {
        let of = fs::symlink_metadata(&path).unwrap();
        if of.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let name = path.strip_prefix(tree).unwrap().display().to_string();
            stamps.insert(name, (of.ino(), of.ctime(), of.ctime_nsec()));
        }
    }
    stamps
}

#[test]
fn ten_thousand_tags_and_five_thousand_repositories() {
    // Without blobs, whose links would only make the test slower.
    let image = ImageBuilder::new().format(Format::OciArtifact).artifact_type("application/vnd.example.many").build();
    let place = Place::new();
    write(&place.tree(), &image);
    let tags: Vec<String> = (0..TAGS).map(tag).collect();
    let mut repositories: Vec<String> = (0..REPOSITORIES).map(repository).chain(["many".to_owned()]).collect();
    repositories.sort_unstable();

    let listed = place.run(&["list", "--flat"]).ok();
    let expected = repositories.iter().flat_map(|repository| {
        let tags: &[String] = if repository == "many" { &tags } else { &["1".to_owned()] };
        tags.iter().map(move |tag| format!("{repository}:{tag}")).collect::<Vec<_>>()
    });
    assert!(listed.text().lines().eq(expected), "{} lines", listed.text().lines().count());

    let port = Port::free();
    let authority = port.address().to_string();
    let mut serve = place.command(&["serve", "--listen", &authority]).stderr(Stdio::null()).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(60), || port.answers()));
    let nginx_port = Port::free();
    let config = place.run(&["config", "nginx", "--listen", &nginx_port.address().to_string()]).ok();
    let nginx = Nginx::start_http(config.text(), nginx_port);
    for authority in [&authority, &nginx.authority()] {
        assert!(names(&get(authority, "/v2/many/tags/list").1) == tags, "{authority}");
        assert!(names(&get(authority, "/v2/_catalog").1) == repositories, "{authority}");
    }
    for n in [1_000, 777] {
        assert!(pages(&authority, "/v2/many/tags/list", n) == tags, "in pages of {n}");
        assert!(pages(&authority, "/v2/_catalog", n) == repositories, "in pages of {n}");
    }

    // One tag more, and one less: nothing is written but the name and the list that says so.
    let before = stamps(&place.tree());
    let named = format!("many:{}", tag(17));
    let add = ["add", "-q", "--no-sync", &format!("{authority}/{named}"), "-t", "many:one-more"];
    place.run(&add).ok();
    let added = stamps(&place.tree());
    let changed: Vec<&String> =
        added.iter().filter(|(path, at)| before.get(*path) != Some(at)).map(|(p, _)| p).collect();
    assert_eq!(changed, ["v2/many/manifests/one-more", "v2/many/tags/list"]);
    place.run(&["remove", "-q", &named]).ok();
    let removed = stamps(&place.tree());
    let gone: Vec<&String> = added.keys().filter(|path| !removed.contains_key(*path)).collect();
    assert_eq!(gone, [&format!("v2/many/manifests/{}", tag(17))]);
    let changed: Vec<&String> =
        removed.iter().filter(|(path, at)| added.get(*path) != Some(at)).map(|(p, _)| p).collect();
    assert_eq!(changed, ["v2/many/tags/list"]);
    let mut expected: Vec<String> = tags.into_iter().chain(["one-more".to_owned()]).collect();
    expected.remove(17);
    for authority in [&authority, &nginx.authority()] {
        assert!(names(&get(authority, "/v2/many/tags/list").1) == expected, "{authority}");
    }
    assert!(pages(&authority, "/v2/many/tags/list", 1_000) == expected);

    let peak = peak_memory(serve.id()).unwrap();
    assert!(peak <= 64 << 20, "serve has had {peak} bytes in memory");
    kill_process(Pid::from_child(&serve), Signal::TERM).unwrap();
    assert!(wait(&mut serve).success());
    assert_eq!(nginx.log(), "");
}

//! Trees in IPFS: what `publish car:` and `publish ipfs:` make is what Kubo makes and takes.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

use roadstead::oci::Algorithm;
use roadstead::testing::{ImageBuilder, IndexBuilder, MemorySource};
use roadstead_parts::{Crane, Folder, Invocation, Kubo, Skopeo, part};

use crate::support::{Place, write_tree};

const PROFILES: [&str; 2] = ["unixfs-v1-2025", "unixfs-v0-2015"];

/// Bytes that aren't the same again and again.
fn noise(length: u32, seed: u32) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// An index with an attestation, images with shared layers of one and several chunks, an empty layer, an artifact, and a
/// repository whose name lies below another's manifests.
fn source() -> MemorySource {
    let source = MemorySource::new();
    let large = || ImageBuilder::new().blob("application/vnd.oci.image.layer.v1.tar", noise(2_500_000, 1));
    let image = large().layer("small").blob("application/vnd.oci.image.layer.v1.tar", Vec::new()).build();
    source.add("app:1", &image);
    source.add("app:same", &image);
    source.add("app/manifests/below:1", &large().layer("other").build());
    let one = ImageBuilder::new().platform("linux/amd64").greeting("one\n").build();
    source.add("org/team/index:2.0", &IndexBuilder::new().attested_image(one).build());
    source.add("org/artifact:1", &ImageBuilder::new().artifact_type("application/x.y").blob("text/plain", "x").build());
    source
}

fn filled() -> Place {
    let place = Place::new();
    write_tree(&place.tree(), &source());
    place
}

/// The tree's files as any server would show them.
fn copied(place: &Place) -> Folder {
    let site = Folder::new();
    let copy = Invocation::new(part::installed("cp")).args(["-R", "-L"]).arg(place.tree().join("v2"));
    copy.arg(site.path()).run().unwrap();
    site
}

fn dry_run(place: &Place, profile: &str) -> String {
    let ran = place.run(&["publish", "ipfs:", "--dry-run", "--cid-profile", profile]).ok();
    ran.text().trim().to_owned()
}

/// A varint, and how many bytes it had.
fn varint(bytes: &[u8]) -> (usize, usize) {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    (bytes[..length].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f)), length)
}

/// A CID and its bytes.
type Block = (Vec<u8>, Vec<u8>);

/// The root and the blocks of an archive, in their order. Each block is what its CID says.
fn read_car(path: &Path, cid_length: usize) -> (Vec<u8>, Vec<Block>) {
    let archive = std::fs::read(path).unwrap();
    let (length, begin) = varint(&archive);
    let header = &archive[begin..begin + length];
    let root = header[header.len() - 9 - cid_length..header.len() - 9].to_vec();
    let (mut at, mut blocks) = (begin + length, Vec::new());
    while at < archive.len() {
        let (length, begin) = varint(&archive[at..]);
        let (cid, data) = archive[at + begin..at + begin + length].split_at(cid_length);
        let digest = Algorithm::Sha256.digest(data);
        assert_eq!(&cid[cid.len() - 32..], digest.as_bytes(), "a block isn't what its CID says");
        blocks.push((cid.to_vec(), data.to_vec()));
        at += begin + length;
    }
    (root, blocks)
}

#[test]
fn an_archive_has_every_block_once_and_children_first() {
    let place = filled();
    for (profile, cid_length) in PROFILES.into_iter().zip([36, 34]) {
        let file = format!("{profile}.car");
        let arguments = ["publish", &format!("car:{file}"), "--cid-profile", profile, "--format", "json"];
        let report: serde_json::Value = serde_json::from_str(place.run(&arguments).ok().text()).unwrap();
        assert_eq!(report["cid"], dry_run(&place, profile), "{profile}");
        let path = place.path().join(&file);
        assert_eq!(report["carBytes"], path.metadata().unwrap().len(), "{profile}");
        let (root, blocks) = read_car(&path, cid_length);
        assert_eq!(report["blocks"], blocks.len(), "{profile}");
        assert_eq!(blocks.last().unwrap().0, root, "{profile}: the root isn't the last block");
        let all: HashSet<_> = blocks.iter().map(|(cid, _)| cid).collect();
        assert_eq!(all.len(), blocks.len(), "{profile}: a block twice");
        let mut before = HashSet::new();
        for (cid, data) in &blocks {
            // A node begins with its links, and those with the CID.
            let is_node = cid_length == 34 || cid[1] == 0x70;
            let linked = data.windows(cid_length).filter(|window| is_node && all.contains(&window.to_vec()));
            for link in linked {
                assert!(before.contains(link), "{profile}: a block before one that it links to");
            }
            before.insert(&cid[..]);
        }
        let others: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!others.iter().any(|name| name.to_string_lossy().starts_with(".roadstead-car")), "{others:?}");
    }
}

/// What the tree of [`known`] is in Kubo 0.43, so that it shows without one if that changes.
const KNOWN: [&str; 2] =
    ["bafybeich3bcvwnmuheua3ckra6kpmktju4nr7g35oo5gncbbftzotczksa", "QmWgtPqfMQkALcfszmzmbrNy8cYvhWnw4hqiXcnjF9mSSV"];

fn known() -> Place {
    let place = Place::new();
    let source = MemorySource::new();
    source.add("app:1", &ImageBuilder::new().platform("linux/amd64").blob("text/plain", noise(2_500_000, 1)).build());
    write_tree(&place.tree(), &source);
    place
}

#[test]
fn the_cid_of_a_tree_is_a_known_one() {
    let place = known();
    assert_eq!(PROFILES.map(|profile| dry_run(&place, profile)), KNOWN);
}

#[test]
fn under_a_prefix_lists_say_the_names_that_clients_use() {
    let place = filled();
    place.run(&["publish", "car:x.car", "--name-prefix", "mirror"]).ok();
    let (_, blocks) = read_car(&place.path().join("x.car"), 36);
    let has = |text: &str| blocks.iter().any(|(_, data)| data == text.as_bytes());
    assert!(has(r#"{"name":"mirror/app","tags":["1","same"]}"#));
    assert!(!has(r#"{"name":"app","tags":["1","same"]}"#));
}

#[test]
fn a_damaged_blob_goes_nowhere() {
    let place = filled();
    let layer = Algorithm::Sha256.digest(&noise(2_500_000, 1)).to_string();
    let path = place.tree().join("content/blobs").join(&layer);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1_500_000] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    for arguments in [&["publish", "car:x.car"][..], &["publish", "ipfs:", "--dry-run"]] {
        let ran = place.run(arguments);
        assert_eq!(ran.code(), 7, "{ran}");
        assert!(ran.stderr.contains(&layer) && ran.text().is_empty(), "{ran}");
    }
    let there: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there, ["registry"]);
}

#[test]
fn what_cannot_be_done_is_said() {
    let place = filled();
    for (arguments, code, says) in [
        (&["publish", "car:-"][..], 2, "name a file"),
        (&["publish", "ipfs:node:5001"], 2, "is no address of an API"),
        (&["publish", "car:x.car", "--mfs", "/x"], 2, "for a node"),
        (&["publish", "ipfs:", "--mfs", "/"], 2, "expected a path below /"),
        (&["publish", "ipfs:", "--wait"], 2, "--remote-pin"),
        (&["publish", "ipfs:", "--dnslink", "localhost"], 2, "expected a name in the DNS"),
        (
            &["publish", "ipfs:", "--host", "netlify"],
            2,
            "--host, --edge, --cors, --blobs-to and --force are for site:DIR",
        ),
        (&["publish", "ipfs:", "--blobs-at", "https://x"], 2, "--blobs-at is for hosts of plain files"),
        (&["publish", "site:x", "--host", "netlify", "--unpin-old"], 2, "--unpin-old is for ipfs: and car:"),
        (&["publish", "site:x"], 2, "name it with --host"),
        (&["publish", "ipfs://127.0.0.1:1"], 6, "`ipfs daemon` starts a node"),
        (&["publish", "car:absent/x.car"], 8, "absent/x.car can't be written"),
        (&["--tree", "none", "publish", "car:x.car"], 3, "no registry tree"),
    ] {
        let ran = place.run(arguments);
        assert_eq!(ran.code(), code, "{ran}");
        assert!(ran.stderr.contains(says), "{ran}");
    }
    assert!(!place.path().join("x").exists());
}

#[test]
#[ignore = "needs Kubo, which takes long to build"]
fn every_cid_is_that_of_kubo() {
    let place = filled();
    // More tags than one block of a directory names.
    let many = MemorySource::new();
    let image = ImageBuilder::new().layer("x").build();
    (0..5_000).for_each(|tag| many.add(format!("many:{tag}").as_str(), &image));
    write_tree(&place.tree(), &many);
    let (site, known) = (copied(&place), copied(&known()));
    for (profile, cid) in PROFILES.into_iter().zip(KNOWN) {
        assert_eq!(dry_run(&place, profile), Kubo::cid(profile, site.path()), "{profile}");
        assert_eq!(Kubo::cid(profile, known.path()), cid, "{profile}");
    }
}

#[test]
#[ignore = "needs Kubo, which takes long to build"]
fn a_node_is_sent_what_it_lacks_and_clients_pull_from_its_gateway() {
    let (place, kubo) = (filled(), Kubo::start());
    let to = format!("ipfs://{}", kubo.api());
    let publish = |more: &[&str]| {
        let ran = place.run(&[&["publish", &to, "--format", "json"], more].concat()).ok();
        serde_json::from_str::<serde_json::Value>(ran.text()).unwrap()
    };
    let pins = || {
        let listed = kubo.run(&["pin", "ls", "--type=recursive", "--names"]);
        let pin = |line: &str| line.split_once(" recursive ").map(|(cid, name)| (cid.to_owned(), name.to_owned()));
        listed.lines().filter_map(pin).collect::<BTreeMap<_, _>>()
    };
    let first = publish(&["--mfs", "/sites/registry"]);
    assert_eq!(first["cid"], Kubo::cid(PROFILES[0], copied(&place).path()));
    assert_eq!((&first["sent"]["blocks"], &first["sent"]["bytes"]), (&first["blocks"], &first["carBytes"]));
    let first_cid = first["cid"].as_str().unwrap();
    assert_eq!(pins().get(first_cid).map(String::as_str), Some("roadstead"));
    assert_eq!(kubo.run(&["files", "stat", "--hash", "/sites/registry"]).trim(), first_cid);

    let (_serve, authority) = place.serve_upstream(&kubo.url(first_cid));
    let reference = format!("{authority}/app/manifests/below:1");
    for client in [&Crane as &dyn roadstead_parts::Client, &Skopeo] {
        client.pull(&reference).unwrap_or_else(|failure| panic!("{}: {failure}", client.name()));
    }

    assert_eq!(publish(&[])["sent"]["blocks"], 0, "what didn't change is sent");

    // A new tag: its manifest, lists and folders, and none of the large layer's chunks.
    let more = MemorySource::new();
    let layer = noise(2_500_000, 1);
    more.add("app:3", &ImageBuilder::new().blob("application/vnd.oci.image.layer.v1.tar", layer).layer("new").build());
    write_tree(&place.tree(), &more);
    let second = publish(&["--mfs", "/sites/registry", "--unpin-old"]);
    let second_cid = second["cid"].as_str().unwrap();
    assert!(second["sent"]["bytes"].as_u64().unwrap() < 500_000, "{second}");
    assert_eq!(pins().into_keys().collect::<Vec<_>>(), [second_cid]);
    assert_eq!(kubo.run(&["files", "stat", "--hash", "/sites/registry"]).trim(), second_cid);

    // A block that is gone, though what links to it is there.
    let digest = Algorithm::Sha256.digest(&noise(2_500_000, 1)).to_string();
    let content = kubo.run(&["resolve", &format!("/ipfs/{second_cid}/v2/app/blobs/{digest}")]);
    let chunk = kubo.run(&["refs", content.trim()]).lines().next().unwrap().to_owned();
    kubo.run(&["pin", "rm", second_cid]);
    kubo.run(&["files", "rm", "-r", "/sites"]);
    kubo.run(&["block", "rm", &chunk]);
    let whole = publish(&[]);
    assert_eq!(whole["sent"]["blocks"], whole["blocks"], "{whole}");
    assert_eq!(pins().into_keys().collect::<Vec<_>>(), [second_cid]);

    kubo.run(&["files", "mkdir", "-p", "/mine"]);
    for (arguments, says) in [
        (&["publish", &to, "--mfs", "/mine"][..], "no site"),
        (&["publish", &to, "--remote-pin", "nobody"], "service not known"),
        (&["publish", &format!("ipfs://127.0.0.1:{}", kubo.gateway())], "may be its gateway"),
    ] {
        let ran = place.run(arguments);
        assert_eq!(ran.code(), 1, "{ran}");
        assert!(ran.stderr.contains(says), "{ran}");
    }
}

/// A pinning service that says this of every pin, once it was asked about it.
fn pinning_service(state: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut cid = String::new();
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut request, mut length) = (String::new(), 0);
            stream.read_line(&mut request).unwrap();
            for line in stream.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let of = |state: &str, cid: &str| {
                format!(
                    r#"{{"requestid":"1","status":"{state}","created":"2026-01-01T00:00:00Z","pin":{{"cid":"{cid}"}},"delegates":[]}}"#
                )
            };
            let answer = if request.starts_with("POST /pins ") {
                let pin: serde_json::Value = serde_json::from_slice(&body).unwrap();
                cid = pin["cid"].as_str().unwrap().to_owned();
                of("queued", &cid)
            } else {
                assert!(request.contains(&cid), "{request}");
                format!(r#"{{"count":1,"results":[{}]}}"#, of(state, &cid))
            };
            let head = "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nConnection: close";
            let head =
                if request.starts_with("GET") { head.replace("202 Accepted", "200 OK") } else { head.to_owned() };
            write!(stream.get_mut(), "{head}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()).unwrap();
        }
    });
    url
}

#[test]
#[ignore = "needs Kubo, which takes long to build"]
fn a_pinning_service_is_asked_to_keep_it() {
    let (place, kubo) = (filled(), Kubo::start());
    for (name, state) in [("good", "pinned"), ("bad", "failed")] {
        kubo.run(&["pin", "remote", "service", "add", name, &pinning_service(state), "key"]);
    }
    let to = format!("ipfs:/ip4/127.0.0.1/tcp/{}", kubo.api().rsplit_once(':').unwrap().1);
    let publish = |more: &[&str]| place.run(&[&["publish", &to, "--format", "json", "--remote-pin"], more].concat());
    let state = |more: &[&str]| {
        let report: serde_json::Value = serde_json::from_str(publish(more).ok().text()).unwrap();
        report["remotePin"].clone()
    };
    assert_eq!(state(&["bad"]), "queued");
    assert_eq!(state(&["good", "--wait"]), "pinned");
    let ran = publish(&["bad", "--wait"]);
    assert_eq!(ran.code(), 1, "{ran}");
    assert!(ran.stderr.contains("the pinning service bad failed to pin"), "{ran}");
}

#[test]
#[ignore = "needs Kubo, which takes long to build"]
fn a_node_takes_an_archive() {
    let (place, kubo) = (filled(), Kubo::start());
    for profile in PROFILES {
        let cid = place.run(&["publish", "car:x.car", "--cid-profile", profile]).ok().text().trim().to_owned();
        let path = place.path().join("x.car");
        let said = kubo.run(&["dag", "import", path.to_str().unwrap()]);
        assert!(said.contains(&format!("Pinned root\t{cid}\tsuccess")), "{said}");
        assert!(kubo.run(&["cat", &format!("{cid}/v2/app/tags/list")]).contains(r#"["1","same"]"#));
    }
}

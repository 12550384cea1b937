//! What an `add` costs: requests, syncs, memory, and what it touches.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use roadstead::testing::{Image, ImageBuilder, IndexBuilder, Reply};
use roadstead_parts::{part, wait_until};

use crate::support::{Hostile, Place, Ran, peak_memory};

const PLATFORMS: [&str; 16] = [
    "linux/386",
    "linux/amd64",
    "linux/amd64/v3",
    "linux/arm/v5",
    "linux/arm/v6",
    "linux/arm/v7",
    "linux/arm64",
    "linux/loong64",
    "linux/mips64le",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
    "windows/amd64:10.0.17763.1",
    "windows/amd64:10.0.20348.1",
    "windows/arm64",
    "freebsd/amd64",
];

/// An index of sixteen platforms: 33 manifests, 65 blobs.
fn index() -> Image {
    let image = |platform: &&'static str| {
        ImageBuilder::new()
            .platform(platform)
            .layer("shared")
            .layer(*platform)
            .layer(format!("more {platform}"))
            .build()
    };
    PLATFORMS.iter().map(image).fold(IndexBuilder::new(), IndexBuilder::attested_image).build()
}

/// Runs the binary and counts the system calls that wait for a disk.
fn syncs(place: &Place, arguments: &[&str]) -> (Ran, Vec<String>) {
    let log = place.path().join("strace");
    let mut command = Command::new(part::installed("strace"));
    command.args([
        "-f",
        "-qq",
        "-e",
        "trace=sync,syncfs,fsync,fdatasync,sync_file_range,msync",
        "-e",
        "signal=none",
        "-o",
    ]);
    command.arg(&log).arg(env!("CARGO_BIN_EXE_roadstead")).args(arguments);
    let ran = Ran::of(command.current_dir(place.path()).env_clear().stdin(Stdio::null())).ok();
    // A call that another thread interrupts has a second line, for its end; a thread that ends while strace takes hold of
    // it has a line without a call.
    let calls = fs::read_to_string(log).unwrap();
    let is_call =
        |line: &&str| !line.contains("resumed>") && !line.contains("???(") && !line.contains("<detached ...>");
    (ran, calls.lines().filter(is_call).map(str::to_owned).collect())
}

/// What shows whether a file, folder or link was written anew.
fn stamps(tree: &Path) -> BTreeMap<String, (u64, i64, i64, i64, i64)> {
    let (mut stamps, mut open) = (BTreeMap::new(), vec![tree.to_owned()]);
    while let Some(path) = open.pop() {
        let of = fs::symlink_metadata(&path).unwrap();
        if of.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        stamps.insert(path.display().to_string(), (of.ino(), of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()));
    }
    stamps
}

#[test]
fn what_has_not_changed_costs_one_request_and_touches_nothing() {
    let stands_alone = ImageBuilder::new().layer("one").layer("two").build();
    let some: &[&str] = &["--platform", "linux/arm64,windows/amd64:10.0.20348"];
    for (image, platforms) in [(stands_alone, &[][..]), (index(), &[]), (index(), some)] {
        let (place, registry) = (Place::new(), Hostile::honest(&image));
        let name = registry.image();
        let add = [&["add", "-q", &name], platforms].concat();
        let (first, some) = syncs(&place, &add);
        assert!(!some.is_empty(), "an add that brings something doesn't wait for the disk: {first}");
        let (before, asked) = (stamps(&place.tree()), registry.lines().len());
        let (again, none) = syncs(&place, &add);
        assert_eq!(registry.lines()[asked..], ["HEAD /v2/app/manifests/1.0"], "{again}");
        assert_eq!(none, <[&str; 0]>::default(), "{again}");
        assert!(stamps(&place.tree()) == before, "something was written: {again}");

        // A second tag of it: no manifest and no blob again.
        let asked = registry.lines().len();
        let second = place.run(&[&add[..], &["-t", "app:2"]].concat()).ok();
        assert_eq!(registry.lines()[asked..], ["HEAD /v2/app/manifests/1.0"], "{second}");
    }
}

#[test]
fn sixteen_platforms_cost_a_handful_of_syncs() {
    let (place, registry) = (Place::new(), Hostile::honest(&index()));
    let other = Hostile::honest(&ImageBuilder::new().layer("makes the tree").build());
    place.run(&["add", "-q", &other.image(), "-t", "other:1"]).ok();
    let (ran, calls) = syncs(&place, &["add", "-q", &registry.image()]);
    assert!(calls.len() <= 8, "{} calls: {calls:#?}\n{ran}", calls.len());
}

#[test]
fn memory_does_not_grow_with_layers() {
    const LAYER: usize = 100 << 20;
    const LIMIT: u64 = 64 << 20;
    let layers = (1..=3).map(|byte| vec![byte; LAYER]);
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let image = layers.fold(ImageBuilder::new(), |image, layer| image.blob(tar, layer)).build();
    // One of them is cut in the middle, so that going on is measured as well.
    let cut = format!("/v2/app/blobs/{}", image.manifest.layers()[1].digest);
    let registry =
        Hostile::start(
            &image,
            move |seen, reply: Reply| {
                if seen.path() == cut && seen.nth == 0 { reply.cut_after(LAYER / 2) } else { reply }
            },
        );
    let place = Place::new();
    let mut child =
        place.command(&["add", "-q", "--no-sync", &registry.image()]).stdout(Stdio::null()).spawn().unwrap();
    let (mut peak, mut status) = (0, None);
    wait_until(std::time::Duration::from_secs(120), || {
        // It only grows, so the last look counts; a process that has ended has none.
        peak = peak_memory(child.id()).unwrap_or(peak);
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert!((1..=LIMIT).contains(&peak), "{peak} bytes, {LIMIT} at most");
}

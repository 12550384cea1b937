//! How often the disk is waited for, and how often what is derived is written.

use std::fs;
use std::process::{Command, Stdio};

use roadstead::testing::{Image, ImageBuilder, IndexBuilder};
use roadstead_parts::part;

use crate::support::{Hostile, Place, Ran};

/// Calls that wait for a disk, and calls that give a file its name.
const CALLS: &str = "trace=sync,syncfs,fsync,fdatasync,msync,rename,renameat,renameat2";

const PLATFORMS: [&str; 16] = [
    "linux/386",
    "linux/amd64",
    "linux/arm/v5",
    "linux/arm/v6",
    "linux/arm/v7",
    "linux/arm64",
    "linux/loong64",
    "linux/mips64le",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
    "windows/amd64",
    "windows/arm64",
    "freebsd/amd64",
    "freebsd/arm64",
    "openbsd/amd64",
];

fn index() -> Image {
    let image =
        |platform: &&'static str| ImageBuilder::new().platform(platform).layer("shared").layer(*platform).build();
    PLATFORMS.iter().map(image).fold(IndexBuilder::new(), IndexBuilder::image).build()
}

/// Runs the binary. Returns the calls that waited, and how often a name that ends in `name` was given.
fn traced(place: &Place, arguments: &[&str], name: &str) -> (Vec<String>, usize) {
    let log = place.path().join("strace");
    let mut command = Command::new(part::installed("strace"));
    command.args(["-f", "-qq", "-s", "4096", "-e", "signal=none", "-e", CALLS, "-o"]).arg(&log);
    command.arg(env!("CARGO_BIN_EXE_roadstead")).args(arguments).current_dir(place.path()).env_clear();
    Ran::of(command.stdin(Stdio::null())).ok();
    let log = fs::read_to_string(log).unwrap();
    // A call that another thread interrupts has a second line, for its end; what a thread was at when the process ended has one
    // without a name.
    let calls = log.lines().filter(|line| !line.contains("resumed>") && !line.contains("???("));
    let (renames, waits): (Vec<&str>, _) = calls.partition(|line| line.contains("rename"));
    let named = renames.iter().filter(|line| line.contains(&format!("{name}\""))).count();
    (waits.into_iter().map(str::to_owned).collect(), named)
}

#[test]
fn an_index_waits_for_the_disk_a_handful_of_times() {
    let (place, registry) = (Place::new(), Hostile::honest(&index()));
    let image = registry.image();
    let (waits, _) = traced(&place, &["add", "-q", &image], "/v2/_catalog");
    assert!((2..=6).contains(&waits.len()), "into a new tree: {waits:#?}");

    let other = Hostile::honest(&ImageBuilder::new().layer("makes the tree").build());
    let place = Place::new();
    place.run(&["add", "-q", &other.image(), "-t", "other:1"]).ok();
    let (waits, _) = traced(&place, &["add", "-q", &image], "/v2/_catalog");
    assert!((2..=4).contains(&waits.len()), "into an existing tree: {waits:#?}");
}

#[test]
fn many_repositories_write_the_catalogue_together() {
    let registry = Hostile::honest(&ImageBuilder::new().layer("shared by all").build());
    let (place, image) = (Place::new(), registry.image());
    place.run(&["add", "-q", &image, "-t", "first:1"]).ok();
    let names: Vec<String> = (0..200).map(|number| format!("repository-{number:03}:1")).collect();
    let mut add = vec!["add", "-q", &image];
    names.iter().for_each(|name| add.extend(["-t", name]));
    let (waits, written) = traced(&place, &add, "/v2/_catalog");
    assert!((1..=3).contains(&written), "the catalogue is written {written} times");
    // Alone, each would wait at least twice.
    assert!(waits.len() <= 300, "{} waits", waits.len());
    let listed = place.run(&["list", "-q"]).ok();
    assert_eq!(listed.text().lines().count(), 1 + names.len() + 1, "{listed}");
    let catalog = fs::read_to_string(place.tree().join("v2/_catalog")).unwrap();
    assert!(names.iter().all(|name| catalog.contains(name.trim_end_matches(":1"))), "{catalog}");
}

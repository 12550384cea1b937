//! An `add` that is stopped in the middle, by whatever, and the same command afterwards.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use roadstead::testing::{Compression, Image, ImageBuilder, Layer, noise};
use roadstead_parts::{part, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Hostile, Place, Ran, State, wait};

/// Two layers that no compression makes smaller.
fn image(sizes: [usize; 2]) -> Image {
    let layer = |seed: usize| Layer::new().file("noise", noise(seed as u64, sizes[seed]), 0o644);
    ImageBuilder::new().compression(Compression::None).layer(layer(0)).layer(layer(1)).build()
}

/// Starts an `add` whose second layer stops in the middle, sends a signal when the first has arrived, and adds again.
fn stopped_by(signal: Signal) -> Ran {
    let (place, image) = (Place::new(), image([200_000, 300_000]));
    let [first, second] = [0, 1].map(|layer| image.manifest.layers()[layer].digest);
    let stuck = format!("/v2/app/blobs/{second}");
    let registry =
        Hostile::start(
            &image,
            move |seen, reply| {
                if seen.path() == stuck && seen.nth == 0 { reply.silent_after(100_000) } else { reply }
            },
        );
    let add = ["add".to_owned(), registry.image()];

    let log = place.path().join("log");
    let mut command = place.command(&add);
    let mut child = command.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    let kept = place.tree().join(format!("content/blobs/{first}"));
    let arrived = wait_until(Duration::from_secs(60), || {
        // Whoever is told to stop keeps what has arrived; who is killed has kept what lay there for a moment.
        let first = if signal == Signal::KILL { kept.exists() } else { said().contains(&first.short()) };
        first && registry.lines().iter().any(|line| line.ends_with(&second.to_string()))
    });
    assert!(arrived, "{}", said());
    kill_process(Pid::from_child(&child), signal).unwrap();
    wait(&mut child);
    let status = child.wait().unwrap();
    let expected = if signal == Signal::KILL { (None, Some(9)) } else { (Some(130), None) };
    assert_eq!((status.code(), status.signal()), expected, "{}", said());

    // Nothing is named that is not there, and nothing else says that an image is.
    let state = State::of(&place.tree());
    assert!(!state.paths().iter().any(|path| path.contains("/manifests/")), "{:?}", state.paths());
    assert_eq!(place.run(&["list", "--flat"]).ok().text(), "");

    let before = registry.lines().len();
    place.run(&add).ok();
    let asked = registry.lines().split_off(before);
    assert!(
        !asked.iter().any(|line| line.ends_with(&first.to_string())),
        "what was there was fetched again: {asked:?}"
    );
    assert!(asked.iter().any(|line| line.ends_with(&second.to_string())), "{asked:?}");

    let fresh = Place::new();
    fresh.run(&add).ok();
    assert!(State::of(&place.tree()) == State::of(&fresh.tree()));
    place.run(&["list", "--flat"]).ok()
}

#[test]
fn by_ctrl_c() {
    assert_eq!(stopped_by(Signal::INT).text(), "app:1.0\n");
}

#[test]
fn by_a_request_to_terminate() {
    assert_eq!(stopped_by(Signal::TERM).text(), "app:1.0\n");
}

#[test]
fn by_a_kill() {
    assert_eq!(stopped_by(Signal::KILL).text(), "app:1.0\n");
}

#[test]
fn the_exit_code_of_ctrl_c() {
    let (place, image) = (Place::new(), image([1, 300_000]));
    let registry = Hostile::start(
        &image,
        |seen, reply| {
            if seen.path().contains("/blobs/") { reply.silent_after(1) } else { reply }
        },
    );
    let mut command = place.command(&["add", "-q", &registry.image()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let asked = || registry.lines().iter().any(|line| line.contains("/blobs/"));
    assert!(wait_until(Duration::from_secs(60), asked));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let status = wait(&mut child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(status.code(), Some(130), "{output:?}");
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b""[..], &b""[..]));
}

/// On a file system of one megabyte, in a mount namespace of its own.
#[test]
fn by_a_full_disk() {
    let (place, small, large) = (Place::new(), image([1000, 1000]), image([200_000, 3_000_000]));
    let (first, second) = (Hostile::honest(&small), Hostile::honest(&large));
    let script = r#"
        mkdir registry && mount -t tmpfs -o size=1m,mode=0755 none registry || exit 99
        "$0" add -q "$1" -t small:1 || exit 98
        cp -a registry before
        "$0" add -q "$2" -t large:1
        code=$?
        cp -a registry after
        "$0" list --flat
        "$0" add -q "$1" -t small:2 || exit 97
        exit $code
    "#;
    let mut command = Command::new(part::installed("unshare"));
    command.args(["--mount", "--map-root-user", "--propagation=private", "sh", "-c", script]);
    command.arg(env!("CARGO_BIN_EXE_roadstead")).args([first.image(), second.image()]);
    let ran = Ran::of(command.current_dir(place.path()).stdin(Stdio::null()));
    assert_eq!(ran.code(), 8, "{ran}");
    let lines: Vec<_> = ran.text().lines().map(|line| line.split('@').next().unwrap()).collect();
    assert_eq!(lines, ["small:1", "small:1", "small:2"], "{ran}");
    let blob = large.manifest.layers()[1].digest.to_string();
    for part in ["destination", &second.image(), &blob, "No space left on device"] {
        assert!(ran.stderr.contains(part), "{part} is not named\n{ran}");
    }
    let [before, after] = ["before", "after"].map(|copy| State::of(&place.path().join(copy)).without_blobs());
    assert!(before == after, "{:?} became {:?}", before.paths(), after.paths());
}

//! The first thing that a user sees: it works without a network, and what it prints can be typed.

use std::process::{Command, Stdio};
use std::time::Duration;

use expect_test::expect;
use roadstead::image::{GREETING, greeting_image};
use roadstead_parts::{Dockerd, Folder, Invocation, Isolation, Podman, Port, Served, part, wait_until};

use crate::support::{Place, Ran, State, Words, snapshot};

#[test]
fn quickstart_checks_itself() {
    let (place, port) = (Place::new(), Port::free());
    let listen = port.address().to_string();
    let mut words = Words::of(&place, &[]);
    words.say(&greeting_image().index.digest().to_string(), "sha256:<greeting>");
    drop(port);
    let ran = place.run(&["quickstart", "--check", "--listen", &listen]);
    snapshot(
        &words,
        &ran,
        expect![[r#"
        $ roadstead quickstart --check --listen 127.0.0.1:PORT
        --- stderr
        hello:latest is in the tree at registry
        the tree is served on http://127.0.0.1:PORT
        pulled back over HTTP and verified: sha256:<greeting>
    "#]],
    );
    let ran = place.run(&["quickstart", "--check", "--listen", &listen, "--format=json", "-q"]);
    snapshot(
        &words,
        &ran,
        expect![[r#"
        $ roadstead quickstart --check --listen 127.0.0.1:PORT --format=json -q
        {
          "image": "localhost:PORT/hello",
          "digest": "sha256:<greeting>",
          "url": "http://127.0.0.1:PORT"
        }
    "#]],
    );
    State::of(&place.tree());
}

/// Without any route but loopback: in a network namespace of its own.
#[test]
fn quickstart_needs_no_network() {
    let place = Place::new();
    let script = "ip link set lo up && exec \"$0\" quickstart --check";
    let mut command = Command::new(part::installed("unshare"));
    command.args(["--net", "--map-root-user", "sh", "-c", script]).arg(env!("CARGO_BIN_EXE_roadstead"));
    let ran = Ran::of(command.current_dir(place.path()).stdin(Stdio::null())).ok();
    assert!(ran.stderr.contains("pulled back over HTTP and verified: sha256:"), "{ran}");
}

#[test]
fn what_it_prints_can_be_typed() {
    let (place, port) = (Place::new(), Port::free());
    let listen = port.address().to_string();
    let quickstart = Invocation::new(env!("CARGO_BIN_EXE_roadstead")).arg("--tree").arg(place.tree());
    let quickstart = quickstart.args(["quickstart", "--listen", &listen]);
    let served = Served::start(&quickstart, Isolation::None, Folder::new(), || port.answers());
    let explained = wait_until(Duration::from_secs(60), || served.log().contains("Ctrl-C"));
    assert!(explained, "{}", served.log());
    let log = served.log();
    let typed = |program: &str| {
        let line = log.lines().map(str::trim).find(|line| line.starts_with(&format!("{program} run ")));
        let line = line.unwrap_or_else(|| panic!("no line for {program}:\n{log}"));
        // The engines of the tests have no network.
        let mut words: Vec<String> = line.split(' ').skip(1).map(str::to_owned).collect();
        words.insert(1, "--network=none".to_owned());
        words
    };
    let words = typed("docker");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ran = Dockerd::shared().docker(&words).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(ran.stdout, GREETING);
    let mut words = typed("podman");
    // Otherwise its supervisor hands the output on, which of a program that ends at once may get lost.
    words.insert(1, "--log-driver=passthrough".to_owned());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ran = Podman::shared().podman(&words).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(ran.stdout, GREETING);
    let (status, log) = served.stop();
    assert_eq!(status.code(), Some(0), "{log}");
}

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use roadstead_parts::{Port, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::support::wait;

#[test]
fn serving_until_told_to_stop() {
    let scene = Scene::filled();
    for signal in [Signal::INT, Signal::TERM] {
        let port = Port::free();
        let listen = port.address().to_string();
        let mut serve = scene.place.command(&["serve", "--listen", &listen]);
        let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        assert!(wait_until(std::time::Duration::from_secs(60), || port.answers()));
        // What another process removes is gone at once, and what it adds is there.
        let copied = Place::new();
        copied.run(&["add", "-q", &format!("{listen}/org/tool:1")]).ok();
        scene.run(&["remove", "-q", "org/tool:1"]).ok();
        assert_eq!(copied.run(&["add", "-q", &format!("{listen}/org/tool:1")]).code(), 3);
        scene.run(&["add", "-q", "REGISTRY/org/tool:1"]).ok();
        copied.run(&["add", "-q", &format!("{listen}/org/tool:1")]).ok();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = wait(&mut child);
        let output = child.wait_with_output().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{output:?}");
        assert_eq!(output.stdout, b"");
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            format!("serving registry on http://{listen}\nstopping, once running transfers are done\n")
        );
    }
}

#[test]
fn an_address_that_is_taken_or_none() {
    let scene = Scene::filled();
    scene.check(
        &["serve", "--listen", "REGISTRY"],
        expect![[r#"
        $ roadstead serve --listen REGISTRY
        --- stderr
        error: can't listen on REGISTRY
          because: Address already in use (os error 98)
        --- exit code 1
    "#]],
    );
    scene.check(&["serve", "--listen", "nonsense"], expect![[r#"
        $ roadstead serve --listen nonsense
        --- stderr
        error: invalid value 'nonsense' for '--listen <PLACE>': expected ADDRESS:PORT, such as 0.0.0.0:5000 or [::]:5000, unix:PATH or systemd

        For more information, try '--help'.
        --- exit code 2
    "#]]);
}

#[test]
fn no_such_host() {
    let place = Place::new();
    let script = "ip link set lo up && exec \"$0\" add no-such-host.invalid/app:1";
    let mut command = Command::new(roadstead_parts::part::installed("unshare"));
    command.args(["--net", "--map-root-user", "sh", "-c", script]).arg(env!("CARGO_BIN_EXE_roadstead"));
    let ran = Ran::of(command.current_dir(place.path()).stdin(Stdio::null()));
    assert_eq!(ran.code(), 6, "{ran}");
    assert!(ran.stderr.contains("no-such-host.invalid"), "{ran}");
}

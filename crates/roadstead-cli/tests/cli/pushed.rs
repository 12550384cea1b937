//! Pushes whose server is killed, and servers that may take none.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

use expect_test::expect;
use roadstead::testing::ImageBuilder;
use roadstead_parts::{Port, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Place, Words, push, snapshot};

/// 200 kills, and `just soak` for more. A tree bears a few of them and then makes room, as each round looks at all of it.
#[test]
fn a_killed_server_loses_nothing_that_it_acknowledged() {
    const TREES: usize = 10;
    const ROUNDS: usize = 20;
    for _ in 0..TREES {
        kill_while_pushing(ROUNDS);
    }
}

fn kill_while_pushing(rounds: usize) {
    const PUSHERS: usize = 3;
    let place = Place::new();
    let mut acknowledged = BTreeSet::new();
    for round in 0..rounds {
        let port = Port::free();
        let authority = port.address().to_string();
        let mut server = place.command(&["serve", "--push", "--anonymous-push", "--listen", &authority]);
        let log = place.path().join("log");
        let mut server = server.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let answers = wait_until(Duration::from_secs(60), || port.answers());
        let said = || fs::read_to_string(&log).unwrap();
        assert!(answers && server.try_wait().unwrap().is_none(), "the server doesn't answer: {}", said());
        let (told, heard) = mpsc::channel();
        let early = thread::scope(|scope| {
            for pusher in 0..PUSHERS {
                let (told, authority) = (told.clone(), &authority);
                scope.spawn(move || {
                    for number in 0.. {
                        let image = ImageBuilder::new().layer(format!("{round} {pusher} {number}")).build();
                        let tag = format!("{round}-{number}");
                        let repository = format!("pushed/{pusher}");
                        let once = || push(authority, &repository, &tag, &image);
                        // As clients do it, who don't give up at the first error.
                        let pushed = once().or_else(|_| once()).or_else(|_| once());
                        let is_over = pushed.is_err();
                        told.send(pushed.map(|()| format!("{repository}:{tag}"))).unwrap();
                        if is_over {
                            return;
                        }
                    }
                });
            }
            // Each time somewhere else, and always in the middle of what comes after these.
            let first: Result<Vec<String>, String> = heard.iter().take(1 + round % 7).collect();
            assert!(server.try_wait().unwrap().is_none(), "the server ended by itself: {}", said());
            kill_process(Pid::from_child(&server), Signal::KILL).unwrap();
            server.wait().unwrap();
            first
        });
        drop(told);
        let early = early.unwrap_or_else(|error| panic!("a server that lives refused a push: {error}\n{}", said()));
        // Also one that went through at the next attempt.
        assert!(!said().contains("ERROR"), "a server that lives failed: {}", said());
        acknowledged.extend(early);
        acknowledged.extend(heard.into_iter().flatten());
        for name in &acknowledged {
            let (repository, tag) = name.split_once(':').unwrap();
            let list = fs::read_to_string(place.tree().join(format!("v2/{repository}/tags/list"))).unwrap();
            assert!(list.contains(&format!("\"{tag}\"")), "{name} was acknowledged, and is in no list");
        }
        // Lists may be ahead of nobody, and behind only what was not acknowledged.
        place.run(&["verify", "--repair"]).ok();
        let listed = place.run(&["list", "--flat"]).ok();
        let names: BTreeSet<&str> = listed.text().lines().collect();
        let lost: Vec<&String> = acknowledged.iter().filter(|name| !names.contains(name.as_str())).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    }
    // What the dead left is taken away; a folder of theirs may stay until somebody writes, with nothing in it.
    place.run(&["prune", "--older-than", "0"]).ok();
    place.run(&["verify"]).ok();
    let folders = fs::read_dir(place.tree().join(".roadstead/tmp")).unwrap().map(|entry| entry.unwrap().path());
    for folder in folders.filter(|path| path.is_dir()) {
        let left: Vec<_> = fs::read_dir(folder).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn who_may_not_push() {
    let place = Place::new();
    let words = Words::of(&place, &[]);
    let check = |arguments: &[&str], expected| snapshot(&words, &place.run(arguments), expected);
    check(
        &["serve", "--push"],
        expect![[r#"
            $ roadstead serve --push
            --- stderr
            error: --push without users takes pushes from nobody: make one with `roadstead user add NAME`, or add --anonymous-push to take them from everybody on this machine
            --- exit code 2
        "#]],
    );
    check(
        &["serve", "--push", "--anonymous-push", "--listen", "0.0.0.0:5000"],
        expect![[r#"
        $ roadstead serve --push --anonymous-push --listen 0.0.0.0:5000
        --- stderr
        error: --anonymous-push on 0.0.0.0:5000 would let whoever reaches it replace every image: listen on 127.0.0.1, ask for certificates with --tls-client-ca, or add --insecure-anywhere
        --- exit code 2
    "#]],
    );
    check(
        &["--tree", "s3://bucket", "serve", "--push", "--anonymous-push"],
        expect![[r#"
        $ roadstead --tree s3://bucket serve --push --anonymous-push
        --- stderr
        error: what is pushed into s3://bucket has to wait on this machine: name a folder with --state DIR
        --- exit code 2
    "#]],
    );
    check(
        &["serve", "--anonymous-push"],
        expect![[r#"
        $ roadstead serve --anonymous-push
        --- stderr
        error: the following required arguments were not provided:
          --push

        Usage: roadstead serve --push --anonymous-push

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
    assert!(!place.tree().exists());
    place.run(&["quickstart", "--check", "-q", "--listen", "127.0.0.1:0"]).ok();
    place.run(&["private", "secret/*"]).ok();
    check(
        &["serve", "--push", "--anonymous-push"],
        expect![[r#"
        $ roadstead serve --push --anonymous-push
        --- stderr
        error: PLACE/registry keeps a place for private repositories (secret/*, by .roadstead/private): a server that takes pushes would show them to anybody; `roadstead publish` and `roadstead serve` can leave them out (--without-private), and --authenticated says that only those get there who may see them
        --- exit code 1
    "#]],
    );
}

//! What clients push into a tree, and what others then pull: from `serve`, and from nginx over the same folder.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

use expect_test::expect;
use roadstead::testing::{Format, Image, ImageBuilder, IndexBuilder, MemorySource};
use roadstead_parts::{Client as _, Crane, Dockerd, Nginx, Oras, Podman, Port, Skopeo, clients, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::matrix::alone_in_the_engines;
use crate::support::{Place, Words, push, snapshot, write_tree};

fn native() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}

fn image(text: &str) -> Image {
    ImageBuilder::new().platform(native()).greeting(text).format(Format::Docker).build()
}

/// The digests of what names of a tree lead to.
fn digest(place: &Place, name: &str) -> String {
    let inspected = place.run(&["inspect", "--format", "json", name]).ok();
    let json: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    json["digest"].as_str().unwrap().to_owned()
}

#[test]
fn what_each_client_pushes_all_others_pull() {
    let _alone = alone_in_the_engines();
    let (place, others, source) = (Place::new(), Place::new(), MemorySource::new());
    let platforms = ["linux/amd64", "linux/arm64"]
        .map(|platform| ImageBuilder::new().platform(platform).greeting("pushed for several platforms\n").build());
    // Some say what they chose from an index, and not what that was.
    let chosen: Vec<String> = platforms.iter().map(|image| image.digest().to_string()).collect();
    let index = platforms.into_iter().fold(IndexBuilder::new(), IndexBuilder::image).build();
    source.add("docker:1", &image("pushed by docker\n"));
    source.add("podman:1", &image("pushed by podman\n"));
    source.add("index:1", &index);
    write_tree(&others.tree(), &source);
    let (_others, from) = others.serve(&others.tree());
    let (_serve, to) = place.serve_pushes();

    let docker = Dockerd::shared();
    docker.docker(&["pull", &format!("{from}/docker:1")]).unwrap();
    docker.docker(&["tag", &format!("{from}/docker:1"), &format!("{to}/by/docker:1")]).unwrap();
    docker.docker(&["push", &format!("{to}/by/docker:1")]).unwrap();
    docker.forget(&format!("{to}/by/docker:1")).unwrap();
    let podman = Podman::shared();
    podman.podman(&["pull", "--tls-verify=false", &format!("{from}/podman:1")]).unwrap();
    podman.podman(&["push", "--tls-verify=false", &format!("{from}/podman:1"), &format!("{to}/by/podman:1")]).unwrap();
    Skopeo.copy(&format!("docker://{from}/index:1"), &format!("docker://{to}/by/skopeo:1")).unwrap();
    Crane.crane(&["copy", "--insecure", &format!("{from}/index:1"), &format!("{to}/by/crane:1")]).unwrap();
    // A second time everything is there.
    Crane.crane(&["copy", "--insecure", &format!("{from}/index:1"), &format!("{to}/by/crane:2")]).unwrap();
    let file = place.path().join("file.txt");
    fs::write(&file, "an artifact").unwrap();
    let file = format!("{}:text/plain", file.display());
    let oras = |arguments: &[&str]| {
        Oras.oras(&[&arguments[..1], &["--plain-http", "--disable-path-validation"], &arguments[1..]].concat())
            .unwrap();
    };
    oras(&["push", &format!("{to}/by/oras:1"), &file]);
    oras(&["attach", "--artifact-type", "application/vnd.example.note", &format!("{to}/by/skopeo:1"), &file]);

    assert_eq!(digest(&place, "by/skopeo:1"), index.digest().to_string());
    assert_eq!(digest(&place, "by/crane:2"), index.digest().to_string());
    place.run(&["verify"]).ok();

    let port = Port::free();
    let config = place.run(&["config", "nginx", "--listen", &port.address().to_string()]).ok();
    let nginx = Nginx::start_http(config.text(), port);
    for authority in [to, nginx.authority()] {
        for repository in ["by/docker", "by/podman", "by/skopeo", "by/crane"] {
            let reference = format!("{authority}/{repository}:1");
            let expected = digest(&place, &format!("{repository}:1"));
            for client in clients() {
                let pulled = client.pull(&reference).unwrap_or_else(|e| panic!("{} {reference}: {e}", client.name()));
                let is_right = pulled.digests.iter().any(|digest| *digest == expected || chosen.contains(digest));
                assert!(is_right, "{} {reference}: {:?}", client.name(), pulled.digests);
                client.forget(&reference).unwrap();
            }
        }
        Oras.pull(&format!("{authority}/by/oras:1")).unwrap();
        let found = Oras.oras(&["discover", "--plain-http", "--format", "json", &format!("{authority}/by/skopeo:1")]);
        assert!(found.unwrap().stdout.contains("application/vnd.example.note"), "{authority}");
    }
}

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
        let mut server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        assert!(wait_until(Duration::from_secs(60), || port.answers()), "the server doesn't answer");
        let (told, said) = mpsc::channel();
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
            let first: Result<Vec<String>, String> = said.iter().take(1 + round % 7).collect();
            kill_process(Pid::from_child(&server), Signal::KILL).unwrap();
            server.wait().unwrap();
            first
        });
        drop(told);
        acknowledged.extend(early.unwrap_or_else(|error| panic!("a server that lives refused a push: {error}")));
        acknowledged.extend(said.into_iter().flatten());
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
        error: s3://bucket can't be pushed to: only a folder has the locks that pushes need
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

//! Users: how they are made, and that every client can log in as one of them, push, and pull what isn't for everybody.

use expect_test::expect;
use roadstead::testing::{Format, Image, ImageBuilder, MemorySource};
use roadstead_parts::{Client as _, Dockerd, Failure, Folder, Invocation, Output, Podman, Served, part};

use crate::matrix::alone_in_the_engines;
use crate::support::{Place, Ran, Words, snapshot, write_tree};

fn image(text: &str) -> Image {
    let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    ImageBuilder::new().platform(platform).greeting(text).format(Format::Docker).build()
}

fn add(place: &Place, name: &str, password: &str) -> Ran {
    place.run_with_input(&["user", "add", name, "--password-stdin"], &format!("{password}\n"))
}

/// A registry with the user ann, for whom alone `secret/**` is, and what it is asked at.
fn guarded() -> (Place, Served, String) {
    let place = Place::new();
    place.run(&["quickstart", "--check", "-q", "--listen", "127.0.0.1:0"]).ok();
    place.run(&["private", "secret/**"]).ok();
    add(&place, "ann", "hunter2").ok();
    let (served, authority) = place.serve_options(&place.tree(), &["--push", "--allow-delete"]);
    (place, served, authority)
}

/// A registry that everybody reads, with images to push elsewhere.
fn others(images: &[&str]) -> (Place, Served, String) {
    let (place, source) = (Place::new(), MemorySource::new());
    for name in images {
        source.add(&format!("{name}:1"), &image(&format!("{name}, for users\n")));
    }
    write_tree(&place.tree(), &source);
    let (served, authority) = place.serve(&place.tree());
    (place, served, authority)
}

#[test]
fn users_are_made_and_go() {
    let place = Place::new();
    let words = Words::of(&place, &[]);
    let check = |ran: Ran, expected| snapshot(&words, &ran, expected);
    check(
        place.run(&["user", "list"]),
        expect![[r#"
        $ roadstead user list
        --- stderr
        there are no users
    "#]],
    );
    check(
        add(&place, "ann", "hunter2"),
        expect![[r#"
        $ roadstead user add ann --password-stdin
        --- stderr
        added ann
    "#]],
    );
    check(
        add(&place, "bob", "hunter3"),
        expect![[r#"
        $ roadstead user add bob --password-stdin
        --- stderr
        added bob
    "#]],
    );
    check(
        add(&place, "ann", "hunter4"),
        expect![[r#"
        $ roadstead user add ann --password-stdin
        --- stderr
        ann has another password
    "#]],
    );
    check(
        place.run(&["user", "ls"]),
        expect![[r#"
        $ roadstead user ls
        ann
        bob
    "#]],
    );
    check(
        place.run(&["user", "rm", "bob"]),
        expect![[r#"
        $ roadstead user rm bob
        --- stderr
        removed bob
    "#]],
    );
    check(
        place.run(&["user", "remove", "bob"]),
        expect![[r#"
        $ roadstead user remove bob
        --- stderr
        error: there is no user bob
        --- exit code 3
    "#]],
    );
    check(
        place.run(&["user", "list", "--format", "json"]),
        expect![[r#"
        $ roadstead user list --format json
        [
          "ann"
        ]
    "#]],
    );
    check(
        add(&place, "a:b", "hunter2"),
        expect![[r#"
        $ roadstead user add a:b --password-stdin
        --- stderr
        error: "a:b" can be no user: a name has letters, digits and punctuation, but no space, and none of : # * ? / " \
        --- exit code 2
    "#]],
    );
    check(
        add(&place, "carl", &"x".repeat(73)),
        expect![[r#"
        $ roadstead user add carl --password-stdin
        --- stderr
        error: the password has more than 72 bytes
        --- exit code 2
    "#]],
    );
    check(
        place.run(&["user", "add", "carl"]),
        expect![[r#"
        $ roadstead user add carl
        --- stderr
        error: there is no terminal to ask for the password of carl: pipe it in with --password-stdin
        --- exit code 1
    "#]],
    );
    check(
        place.run(&["user", "add", "carl", "--password", "x"]),
        expect![[r#"
        $ roadstead user add carl --password x
        --- stderr
        error: unexpected argument '--password' found

          tip: a similar argument exists: '--password-stdin'

        Usage: roadstead user add --password-stdin <NAME>

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
    check(
        place.run(&["user", "list", "--state", "registry/state"]),
        expect![[r#"
        $ roadstead user list --state registry/state
        --- stderr
        error: --state registry/state lies in the tree registry, where a web server would hand out what it keeps: name a folder outside
        --- exit code 2
    "#]],
    );
    check(
        place.run(&["--tree", "s3://bucket", "user", "list"]),
        expect![[r#"
        $ roadstead --tree s3://bucket user list
        --- stderr
        error: s3://bucket has no folder beside it: name one with --state DIR
        --- exit code 2
    "#]],
    );
    let file = std::fs::read_to_string(place.path().join("registry.state/users")).unwrap();
    assert!(file.starts_with("ann:$2y$10$") && file.lines().count() == 1, "{file}");
    assert!(!place.tree().exists());
}

#[test]
fn servers_with_users() {
    let place = Place::new();
    let words = Words::of(&place, &[]);
    let check = |arguments: &[&str], expected| snapshot(&words, &place.run(arguments), expected);
    check(
        &["serve", "--insecure-anywhere"],
        expect![[r#"
        $ roadstead serve --insecure-anywhere
        --- stderr
        error: --insecure-anywhere is about --anonymous-push and users, and there is neither
        --- exit code 2
    "#]],
    );
    check(
        &["--tree", "elsewhere", "serve", "--push", "--state", "s"],
        expect![[r#"
        $ roadstead --tree elsewhere serve --push --state s
        --- stderr
        error: --push without users takes pushes from nobody: make one with `roadstead --tree elsewhere user add NAME --state s`, or add --anonymous-push to take them from everybody on this machine
        --- exit code 2
    "#]],
    );
    add(&place, "ann", "hunter2").ok();
    check(
        &["serve", "--push", "--anonymous-push"],
        expect![[r#"
        $ roadstead serve --push --anonymous-push
        --- stderr
        error: --anonymous-push would let everybody push, and there are users in registry.state: leave it out, or move that folder away
        --- exit code 2
    "#]],
    );
    check(
        &["serve", "--push", "--authenticated"],
        expect![[r#"
        $ roadstead serve --push --authenticated
        --- stderr
        error: --authenticated says that somebody in front asks who is there, and this server does by registry.state: leave it out
        --- exit code 2
    "#]],
    );
    check(
        &["serve", "--public-url", "https://r.example/path"],
        expect![[r#"
        $ roadstead serve --public-url https://r.example/path
        --- stderr
        error: invalid value 'https://r.example/path' for '--public-url <URL>': expected http(s)://HOST[:PORT], without a path

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
    check(
        &["serve", "--trust-proxy", "everybody"],
        expect![[r#"
        $ roadstead serve --trust-proxy everybody
        --- stderr
        error: invalid value 'everybody' for '--trust-proxy <NETWORK>': expected an address, a network such as 10.0.0.0/8, or unix

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
    let grants = place.path().join("registry.state/grants.toml");
    std::fs::write(&grants, "[[grant]]\nusers = [\"*\"]\nrepositories = [\"**\"]\nrights = [\"write\"]\n").unwrap();
    check(
        &["serve", "--push"],
        expect![[r#"
        $ roadstead serve --push
        --- stderr
        error: registry.state/grants.toml can't be read: TOML parse error at line 4, column 11
          |
        4 | rights = ["write"]
          |           ^^^^^^^
        unknown variant `write`, expected one of `pull`, `push`, `overwrite`, `delete`
        --- exit code 7
    "#]],
    );
}

/// A program was refused, and says so. Some show what the server says, some the status alone, as of an answer to HEAD.
fn fails_with(outcome: Result<Output, Failure>, said: &str) {
    let failure = outcome.expect_err("it was let in");
    let printed = format!("{}{}", failure.output().stdout, failure.output().stderr);
    assert!(printed.contains(said) || printed.contains("401 Unauthorized"), "expected {said:?}: {failure}");
}

/// What Docker does, from wrong passwords to what only ann may pull.
fn as_docker_does(docker: &Dockerd) {
    let (_others, _from, from) = others(&["docker"]);
    let (place, _served, to) = guarded();
    let source = format!("{from}/docker:1");
    docker.docker(&["pull", &source]).unwrap();
    for name in ["open/docker", "secret/docker"] {
        docker.docker(&["tag", &source, &format!("{to}/{name}:1")]).unwrap();
    }
    let login = |name: &str, password: &str| docker.docker(&["login", "-u", name, "-p", password, &to]);
    fails_with(docker.docker(&["push", &format!("{to}/open/docker:1")]), "whoever comes without a name may not push");
    fails_with(login("ann", "wrong"), "incorrect username or password");
    fails_with(login("nobody", "hunter2"), "incorrect username or password");
    login("ann", "hunter2").unwrap();
    for name in ["open/docker", "secret/docker"] {
        docker.docker(&["push", &format!("{to}/{name}:1")]).unwrap();
    }
    let pull = |name: &str| {
        let reference = format!("{to}/{name}:1");
        docker.forget(&reference).unwrap();
        docker.docker(&["pull", &reference])
    };
    docker.forget(&source).unwrap();
    pull("secret/docker").unwrap();
    docker.docker(&["logout", &to]).unwrap();
    pull("open/docker").unwrap();
    fails_with(pull("secret/docker"), "whoever comes without a name may not pull secret/docker");
    login("ann", "hunter2").unwrap();
    // Whoever is gone is out, whatever Docker keeps of them.
    place.run(&["user", "remove", "ann"]).ok();
    add(&place, "bob", "hunter2").ok();
    pull("secret/docker").expect_err("ann is let in, and is gone");
    docker.docker(&["logout", &to]).unwrap();
    docker.forget(&format!("{to}/open/docker:1")).unwrap();
}

#[test]
fn docker_logs_in() {
    let _alone = alone_in_the_engines();
    as_docker_does(Dockerd::shared());
}

#[test]
#[ignore = "needs Docker 29, which takes long to build"]
fn docker_29_logs_in() {
    let _alone = alone_in_the_engines();
    as_docker_does(&Dockerd::start_29());
}

#[test]
fn podman_logs_in() {
    let _alone = alone_in_the_engines();
    let (_others, _from, from) = others(&["podman"]);
    let (_place, _served, to) = guarded();
    let folder = Folder::new();
    let file = folder.join("auth.json").display().to_string();
    let podman = Podman::shared();
    let source = format!("{from}/podman:1");
    podman.podman(&["pull", "--tls-verify=false", &source]).unwrap();
    let login = |password: &str| {
        podman.podman(&["login", "--tls-verify=false", "--authfile", &file, "-u", "ann", "-p", password, &to])
    };
    let push = |name: &str| {
        podman.podman(&["push", "--tls-verify=false", "--authfile", &file, &source, &format!("{to}/{name}:1")])
    };
    let pull =
        |name: &str| podman.podman(&["pull", "--tls-verify=false", "--authfile", &file, &format!("{to}/{name}:1")]);
    std::fs::write(&file, "{}").unwrap();
    fails_with(push("open/podman"), "may not push open/podman");
    fails_with(login("wrong"), "invalid username/password");
    login("hunter2").unwrap();
    push("open/podman").unwrap();
    push("secret/podman").unwrap();
    pull("secret/podman").unwrap();
    podman.podman(&["logout", "--authfile", &file, &to]).unwrap();
    pull("open/podman").unwrap();
    fails_with(pull("secret/podman"), "may not pull secret/podman");
    for name in ["open/podman", "secret/podman"] {
        podman.forget(&format!("{to}/{name}:1")).unwrap();
    }
    podman.forget(&source).unwrap();
}

#[test]
fn programs_log_in() {
    let (_others, _from, from) = others(&["tool"]);
    let (place, _served, to) = guarded();
    let source = format!("{from}/tool:1");
    let folder = Folder::new();
    let file = folder.write("auth.json", "{}").display().to_string();

    let skopeo = |arguments: &[&str]| {
        let options = ["--authfile", &file, "--src-tls-verify=false", "--dest-tls-verify=false"];
        let options = if arguments[0] == "copy" { &options[..] } else { &["--authfile", &file, "--tls-verify=false"] };
        Invocation::new(part::installed("skopeo")).args([&arguments[..1], options, &arguments[1..]].concat()).run()
    };
    let of = |name: &str| format!("docker://{to}/{name}:1");
    let (into, away) = (of("secret/skopeo"), format!("dir:{}", folder.join("away").display()));
    fails_with(skopeo(&["copy", &format!("docker://{source}"), &into]), "authentication required");
    fails_with(skopeo(&["login", "-u", "ann", "-p", "wrong", &to]), "invalid username/password");
    skopeo(&["login", "-u", "ann", "-p", "hunter2", &to]).unwrap();
    skopeo(&["copy", &format!("docker://{source}"), &into]).unwrap();
    skopeo(&["copy", &format!("docker://{source}"), &of("open/skopeo")]).unwrap();
    skopeo(&["copy", &into, &away]).unwrap();
    skopeo(&["delete", &of("open/skopeo")]).unwrap();
    skopeo(&["logout", &to]).unwrap();
    fails_with(skopeo(&["copy", &into, &away]), "may not pull secret/skopeo");

    let crane = |arguments: &[&str]| {
        Invocation::new(part::built("bin/crane")).env("DOCKER_CONFIG", folder.join("crane")).args(arguments).run()
    };
    let name = |name: &str| format!("{to}/{name}:1");
    let copy = |target: &str| crane(&["copy", "--insecure", &source, &name(target)]);
    fails_with(copy("secret/crane"), "may not push secret/crane");
    crane(&["auth", "login", &to, "-u", "ann", "-p", "wrong"]).unwrap();
    fails_with(copy("secret/crane"), "incorrect username or password");
    crane(&["auth", "login", &to, "-u", "ann", "-p", "hunter2"]).unwrap();
    copy("secret/crane").unwrap();
    copy("open/crane").unwrap();
    let copied = ["copy", "--insecure", &name("secret/crane"), &name("open/mounted")];
    crane(&copied).unwrap();
    assert!(crane(&["catalog", "--insecure", &to]).unwrap().stdout.contains("secret/crane"));
    crane(&["digest", "--insecure", &name("secret/crane")]).unwrap();
    crane(&["delete", "--insecure", &name("open/mounted")]).unwrap();
    crane(&["auth", "logout", &to]).unwrap();
    assert!(!crane(&["catalog", "--insecure", &to]).unwrap().stdout.contains("secret/"));
    crane(&["digest", "--insecure", &name("open/crane")]).unwrap();
    fails_with(crane(&["digest", "--insecure", &name("secret/crane")]), "may not pull secret/crane");

    let oras = |arguments: &[&str]| {
        let oras =
            Invocation::new(part::built("bin/oras")).env("DOCKER_CONFIG", folder.join("oras")).env("ORAS_CACHE", "");
        oras.args(arguments).run()
    };
    let artifact = format!("{}:text/plain", folder.write("file.txt", "an artifact").display());
    let push = |target: &str| oras(&["push", "--plain-http", "--disable-path-validation", &name(target), &artifact]);
    let fetch = |target: &str| oras(&["manifest", "fetch", "--plain-http", &name(target)]);
    fails_with(push("open/oras"), "may not push open/oras");
    fails_with(oras(&["login", "--plain-http", "-u", "ann", "-p", "wrong", &to]), "incorrect username or password");
    oras(&["login", "--plain-http", "-u", "ann", "-p", "hunter2", &to]).unwrap();
    push("secret/oras").unwrap();
    push("open/oras").unwrap();
    fetch("secret/oras").unwrap();
    assert!(oras(&["repo", "ls", "--plain-http", &to]).unwrap().stdout.contains("secret/oras"));
    oras(&["manifest", "delete", "--plain-http", "--force", &name("open/oras")]).unwrap();
    oras(&["logout", &to]).unwrap();
    fails_with(fetch("secret/oras"), "may not pull secret/oras");

    // And ourselves.
    let ours = Place::new();
    assert_eq!(ours.run_with_input(&["login", &to, "-u", "ann", "--password-stdin"], "wrong\n").code(), 4);
    let copy = |target: &str| ours.run(&["copy", &format!("docker://{source}"), &format!("docker://{}", name(target))]);
    assert_eq!(copy("open/ours").code(), 4);
    assert_eq!(ours.run(&["add", "-q", &name("secret/crane")]).code(), 4);
    ours.run_with_input(&["login", &to, "-u", "ann", "--password-stdin"], "hunter2\n").ok();
    copy("open/ours").ok();
    ours.run(&["add", "-q", &name("secret/crane")]).ok();
    // What was deleted left its blobs.
    place.run(&["prune", "--older-than", "0"]).ok();
    place.run(&["verify"]).ok();
}

#[test]
#[ignore = "needs helm, which takes long to build"]
fn helm_logs_in() {
    let (_place, _served, to) = guarded();
    let folder = Folder::new();
    let helm =
        |arguments: &[&str]| Invocation::new(part::built("bin/helm")).env("HOME", folder.path()).args(arguments).run();
    let at = |name: &str| folder.join(name).display().to_string();
    helm(&["create", &at("chart")]).unwrap();
    helm(&["package", &at("chart"), "--destination", &at("packed")]).unwrap();
    let charts = format!("oci://{to}/secret/charts");
    let push = || helm(&["push", "--plain-http", &at("packed/chart-0.1.0.tgz"), &charts]);
    let pull =
        || helm(&["pull", "--plain-http", &format!("{charts}/chart"), "--version", "0.1.0", "--destination", &at("")]);
    let login = |password: &str| helm(&["registry", "login", "--plain-http", "-u", "ann", "-p", password, &to]);
    push().expect_err("nobody is logged in");
    login("wrong").expect_err("the password is wrong");
    login("hunter2").unwrap();
    push().unwrap();
    pull().unwrap();
    helm(&["registry", "logout", &to]).unwrap();
    pull().expect_err("nobody is logged in");
}

#[test]
fn no_log_has_a_password_a_token_or_the_name_of_an_upload() {
    let place = Place::new();
    place.run(&["quickstart", "--check", "-q", "--listen", "127.0.0.1:0"]).ok();
    add(&place, "ann", "hunter2-right").ok();
    let (served, authority) = place.serve_options(&place.tree(), &["--push", "-vvv"]);
    let ours = Place::new();
    for password in ["hunter2-right", "hunter2-wrong"] {
        ours.run_with_input(&["login", &authority, "-u", "ann", "--password-stdin"], &format!("{password}\n"));
    }
    let curl = |arguments: &[&str]| {
        let output = Invocation::new(part::installed("curl")).args(["-s"]).args(arguments).run().unwrap();
        output.stdout
    };
    let url = |path: &str| format!("http://{authority}{path}");
    let form = "grant_type=password&username=ann&password=hunter2-right&access_type=offline&scope=repository:app:push";
    let given: serde_json::Value = serde_json::from_str(&curl(&["-d", form, &url("/v2/_token")])).unwrap();
    let (token, login) = (given["token"].as_str().unwrap(), given["refresh_token"].as_str().unwrap());
    let bearer = format!("Authorization: Bearer {token}");
    let begun = curl(&["-w", "%header{location}", "-X", "POST", "-H", &bearer, &url("/v2/app/blobs/uploads/")]);
    curl(&["-X", "PATCH", "-d", "x", "-H", &bearer, &url(&begun)]);
    let upload = begun.rsplit('/').next().unwrap();
    curl(&["-H", &format!("{bearer}x"), &url("/v2/")]);
    curl(&["-H", &format!("Authorization: Basic {token}"), &url("/v2/")]);
    curl(&["-H", &bearer, "-H", &bearer, &url("/v2/")]);
    curl(&["-d", &format!("grant_type=refresh_token&refresh_token={login}x"), &url("/v2/_token")]);
    curl(&["-u", "ann:hunter2-wrong", &url("/v2/_token?scope=repository:app:pull")]);
    curl(&[&url(&format!("/v2/_token?password=hunter2-right&token={token}"))]);
    // One who took the name for the password.
    curl(&["-u", "hunter2-right:ann", &url("/v2/")]);
    let log = served.log();
    assert!(log.contains("/v2/_token") && log.contains("wrong name or password"), "{log}");
    assert!(log.contains("/v2/app/blobs/uploads/REDACTED"), "{log}");
    let signature = token.rsplit('.').next().unwrap();
    for secret in ["hunter2", token, signature, login, "$2y$", upload] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

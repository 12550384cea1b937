//! A server as it is run: by TLS, at sockets that it is passed, with its access log, and real clients that come.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use roadstead::testing::{Format, Image, ImageBuilder, MemorySource};
use roadstead_parts::{
    Certificates, Dockerd, Failure, Folder, Invocation, Isolation, Output, Podman, Port, Served, Skopeo, part,
    wait_until,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::matrix::alone_in_the_engines;
use crate::support::{Place, wait, write_tree};

const PATIENCE: Duration = Duration::from_secs(60);

fn image(text: &str) -> Image {
    let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    ImageBuilder::new().platform(platform).greeting(text).format(Format::Docker).build()
}

/// A tree with an image `app:1`, and one that only ann may pull, `secret/app:1`.
fn place() -> Place {
    let (place, source) = (Place::new(), MemorySource::new());
    for name in ["app:1", "secret/app:1"] {
        source.add(name, &image("by TLS\n"));
    }
    write_tree(&place.tree(), &source);
    place.run(&["private", "secret/**"]).ok();
    place.run_with_input(&["user", "add", "ann", "--password-stdin"], "hunter2\n").ok();
    place
}

fn options(certificates: &Certificates, more: &[&str]) -> Vec<String> {
    let shown = |path: std::path::PathBuf| path.display().to_string();
    let tls =
        ["--tls-cert".to_owned(), shown(certificates.certificate()), "--tls-key".to_owned(), shown(certificates.key())];
    tls.into_iter().chain(more.iter().map(|text| (*text).to_owned())).collect()
}

fn serve(place: &Place, options: &[String]) -> (Served, String) {
    place.serve_options(&place.tree(), &options.iter().map(String::as_str).collect::<Vec<_>>())
}

fn curl(arguments: &[&str]) -> Result<Output, Failure> {
    Invocation::new(part::installed("curl")).args(["-sS", "--fail"]).args(arguments).run()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `certs.d` of the engines that know no other place, with a folder of it for one registry.
struct CertsD(std::path::PathBuf);

impl CertsD {
    fn new(authority: &str, files: &Path) -> Self {
        let folder = Path::new("/etc/docker/certs.d").join(authority);
        let make = |program: &str, arguments: &[&str]| {
            Invocation::new(part::installed(program)).args(arguments).as_root().run().unwrap();
        };
        make("mkdir", &["-p", "/etc/docker/certs.d"]);
        make("cp", &["-R", text(files), text(&folder)]);
        Self(folder)
    }
}

impl Drop for CertsD {
    fn drop(&mut self) {
        let _ = Invocation::new(part::installed("rm")).args(["-rf", text(&self.0)]).as_root().run();
    }
}

/// A free place at the address by which this machine reaches others.
fn outside() -> SocketAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent.
    socket.connect("192.0.2.1:9").expect("a machine that has a route to others");
    TcpListener::bind((socket.local_addr().unwrap().ip(), 0)).unwrap().local_addr().unwrap()
}

/// By the certificate of a private authority, with certificates of their own where they can show any; with and without
/// a password.
#[test]
fn every_client_pulls_by_tls() {
    let _alone = alone_in_the_engines();
    let outside = outside();
    let (place, certificates) = (place(), Certificates::issue(&["IP:127.0.0.1", &format!("IP:{}", outside.ip())]));
    let (trusts, shows) = (certificates.authority(), certificates.for_client("ann"));
    let ca = text(&trusts);
    let (_open, open) = serve(&place, &options(&certificates, &[]));
    let (_closed, closed) = serve(&place, &options(&certificates, &["--tls-client-ca", ca]));
    let into = Folder::new();

    let certificate = [shows.join("client.cert"), shows.join("client.key")];
    let [cert, key] = certificate.each_ref().map(|path| text(path));
    // The versions that both sides choose, and with which password.
    for (version, seen) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let with = |more: &[&str]| {
            curl(&[&["--cacert", ca, version, "-w", "%{http_version}", "-o", "/dev/null"], more].concat())
        };
        let came = with(&["-u", "ann:hunter2", &format!("https://{open}/v2/")]).unwrap();
        assert_eq!(came.stdout, seen);
        let came = with(&["--cert", cert, "--key", key, &format!("https://{closed}/v2/app/tags/list")]).unwrap();
        assert_eq!(came.stdout, seen);
        with(&[&format!("https://{closed}/v2/app/tags/list")]).expect_err("a client without a certificate is let in");
    }
    let challenge = Invocation::new(part::installed("curl"))
        .args(["-sS", "-i", "--cacert", ca, &format!("https://{open}/v2/")])
        .run()
        .unwrap();
    assert!(challenge.stdout.contains(&format!("realm=\"https://{open}/v2/_token\"")), "{}", challenge.stdout);

    let crane = |arguments: &[&str]| {
        let folder = Folder::new();
        Invocation::new(part::built("bin/crane"))
            .env("DOCKER_CONFIG", folder.path())
            .env("SSL_CERT_FILE", &trusts)
            .args(arguments)
            .run()
    };
    crane(&["pull", &format!("{open}/app:1"), text(&into.join("crane.tar"))]).unwrap();

    let skopeo = |from: &str, dir: &str, more: &[&str]| {
        let (from, to) = (format!("docker://{from}"), format!("dir:{}", into.join(dir).display()));
        Skopeo.skopeo(&[&["copy", "--all", "--src-tls-verify=true"], more, &[from.as_str(), to.as_str()]].concat())
    };
    let trusting = ["--src-cert-dir", text(certificates.trusted())];
    let showing = ["--src-cert-dir", text(shows.path())];
    skopeo(&format!("{open}/app:1"), "s1", &trusting).unwrap();
    skopeo(&format!("{open}/secret/app:1"), "s2", &[&trusting[..], &["--src-creds", "ann:hunter2"]].concat()).unwrap();
    skopeo(&format!("{open}/secret/app:1"), "s3", &trusting).expect_err("what is private is for everybody");
    skopeo(&format!("{open}/app:1"), "s4", &[]).expect_err("nobody has to be trusted");
    skopeo(&format!("{closed}/app:1"), "s5", &showing).unwrap();
    skopeo(&format!("{closed}/app:1"), "s6", &trusting).expect_err("a client without a certificate is let in");

    let oras = |from: &str, dir: &str, more: &[&str]| {
        let folder = Folder::new();
        let to = format!("{}:1", into.join(dir).display());
        Invocation::new(part::built("bin/oras"))
            .env("DOCKER_CONFIG", folder.path())
            .env("ORAS_CACHE", "")
            .args(["copy", "--no-tty", "--from-ca-file", ca])
            .args(more)
            .args([from, "--to-oci-layout", &to])
            .run()
    };
    oras(&format!("{open}/app:1"), "o1", &[]).unwrap();
    oras(&format!("{closed}/app:1"), "o2", &["--from-cert-file", cert, "--from-key-file", key]).unwrap();
    let named = ["--from-username", "ann", "--from-password", "hunter2"];
    oras(&format!("{open}/secret/app:1"), "o3", &named).unwrap();

    let podman = |from: &str, more: &[&str]| {
        let podman = Podman::shared();
        podman.podman(&[&["pull", "--tls-verify=true"], more, &[from]].concat())?;
        podman.podman(&["rmi", from])
    };
    podman(&format!("{open}/app:1"), &["--cert-dir", text(certificates.trusted())]).unwrap();
    podman(&format!("{closed}/app:1"), &["--cert-dir", text(shows.path())]).unwrap();
    podman(&format!("{closed}/app:1"), &["--cert-dir", text(certificates.trusted())])
        .expect_err("a client without a certificate is let in");

    let docker = Dockerd::shared();
    let pull = |from: &str| {
        docker.docker(&["pull", from])?;
        docker.docker(&["image", "rm", "--force", from])
    };
    pull(&format!("{open}/app:1")).unwrap();
    // On loopback it takes every certificate for good, and has none of its own.
    let closed = outside.to_string();
    let (_outside, _) = serve(&place, &options(&certificates, &["--tls-client-ca", ca, "--listen", &closed]));
    pull(&format!("{closed}/app:1")).expect_err("a client without a certificate is let in");
    let _shown = CertsD::new(&closed, shows.path());
    pull(&format!("{closed}/app:1")).unwrap();
    docker.docker(&["login", "-u", "ann", "-p", "wrong", &closed]).expect_err("the password is wrong");
    docker.docker(&["login", "-u", "ann", "-p", "hunter2", &closed]).unwrap();
    pull(&format!("{closed}/secret/app:1")).unwrap();
}

const GRANTS: &str = r#"
[[grant]]
users = ["anonymous"]
repositories = ["app"]
rights = ["pull"]

[[grant]]
users = ["ann"]
repositories = ["**"]
rights = ["pull", "push"]

[[grant]]
users = ["certificate:builder-*"]
repositories = ["built/**", "secret/app"]
rights = ["pull", "push"]
"#;

/// Whom a grant is for by their certificate needs no password, and gets no further than the grant; everybody else is
/// asked as ever. What token they get is worth nothing to others.
#[test]
fn who_shows_a_certificate_may_do_what_it_is_granted() {
    let _alone = alone_in_the_engines();
    let outside = outside();
    let (place, certificates) = (place(), Certificates::issue(&["IP:127.0.0.1", &format!("IP:{}", outside.ip())]));
    fs::write(place.path().join("registry.state/grants.toml"), GRANTS).unwrap();
    let [builder, namesake, stranger] =
        ["builder-1", "builder-1", "stranger"].map(|name| certificates.for_client(name));
    let (trusts, socket, log) = (certificates.authority(), place.path().join("socket"), place.path().join("log"));
    let (ca, away, at_socket) = (text(&trusts), outside.to_string(), format!("unix:{}", socket.display()));
    let more = ["--tls-client-ca", ca, "--listen", &away, "--listen", &at_socket, "--push", "--access-log", text(&log)];
    let (_served, here) = serve(&place, &options(&certificates, &more));

    let asks = |shows: &Folder, arguments: &[&str], path: &str| {
        let (cert, key) = (shows.join("client.cert"), shows.join("client.key"));
        let curl = Invocation::new(part::installed("curl")).args(["-sS", "-w", "\n%{http_code}", "--cacert", ca]);
        let curl = curl.args(["--cert", text(&cert), "--key", text(&key)]).args(arguments);
        let came = curl.arg(format!("https://{here}{path}")).run().unwrap().stdout;
        let (body, status) = came.rsplit_once('\n').unwrap();
        (status.parse::<u16>().unwrap(), body.to_owned())
    };
    let (post, secret) = (["-X", "POST"], "/v2/secret/app/manifests/1");
    let begin = |repository: &str| format!("/v2/{repository}/blobs/uploads/");
    for (shows, arguments, path, expected) in [
        (&builder, &[][..], "/v2/", 200),
        (&builder, &[], secret, 200),
        (&builder, &[], "/v2/app/manifests/1", 403),
        (&builder, &post, &*begin("built/x"), 202),
        (&builder, &post, &*begin("app"), 403),
        (&stranger, &[], "/v2/", 401),
        (&stranger, &[], "/v2/app/manifests/1", 200),
        (&stranger, &[], secret, 401),
        (&stranger, &post, &*begin("built/x"), 401),
        (&stranger, &["-u", "ann:hunter2"], secret, 200),
        // What is said goes before what is shown.
        (&builder, &["-u", "ann:hunter2"], "/v2/app/manifests/1", 200),
        (&builder, &["-u", "ann:wrong"], secret, 401),
        // What a page asks for is not its reader's wish.
        (&builder, &["-X", "POST", "-H", "Origin: https://page.example"], &*begin("built/x"), 401),
    ] {
        let (status, body) = asks(shows, arguments, path);
        assert_eq!(status, expected, "{arguments:?} {path}: {body}");
    }
    let (_, body) = asks(&builder, &post, &begin("app"));
    assert!(body.contains("certificate:builder-1 may not push app"), "{body}");

    let (status, token) = asks(&builder, &[], "/v2/_token?service=roadstead&scope=repository:secret/app:pull,push");
    let token: serde_json::Value = serde_json::from_str(&token).unwrap();
    assert_eq!((status, token["scope"].as_str()), (200, Some("repository:secret/app:pull,push")));
    let bearer = format!("Authorization: Bearer {}", token["token"].as_str().unwrap());
    for (shows, expected) in [(&builder, 200), (&namesake, 401), (&stranger, 401)] {
        let (status, body) = asks(shows, &["-H", &bearer], secret);
        assert_eq!(status, expected, "{body}");
    }
    let url = format!("http://registry{secret}");
    curl(&["--unix-socket", text(&socket), "-H", &bearer, &url]).expect_err("a token goes without its certificate");

    let (into, shows) = (Folder::new(), text(builder.path()));
    let directory = format!("dir:{}", into.join("image").display());
    let from = |name: &str| format!("docker://{here}/{name}");
    Skopeo.skopeo(&["copy", "--src-cert-dir", shows, &from("secret/app:1"), &directory]).unwrap();
    Skopeo.skopeo(&["copy", "--dest-cert-dir", shows, &directory, &from("built/skopeo:1")]).unwrap();
    Skopeo.skopeo(&["copy", "--dest-cert-dir", shows, &directory, &from("app:2")]).expect_err("it is not granted");
    let other = text(stranger.path());
    Skopeo
        .skopeo(&["copy", "--dest-cert-dir", other, &directory, &from("built/skopeo:2")])
        .expect_err("nobody knows it");

    let (podman, name) = (Podman::shared(), format!("{here}/built/podman:1"));
    let pulled = format!("{here}/secret/app:1");
    podman.podman(&["pull", "--cert-dir", shows, &pulled]).unwrap();
    podman.podman(&["push", "--cert-dir", shows, &pulled, &name]).unwrap();
    podman.podman(&["rmi", &pulled]).unwrap();

    let (cert, key) = (builder.join("client.cert"), builder.join("client.key"));
    let oras = Invocation::new(part::built("bin/oras")).env("DOCKER_CONFIG", into.path()).env("ORAS_CACHE", "");
    let oras = oras.args(["copy", "--no-tty", "--from-ca-file", ca, "--to-ca-file", ca]);
    let oras = oras.args(["--from-cert-file", text(&cert), "--from-key-file", text(&key)]);
    let oras = oras.args(["--to-cert-file", text(&cert), "--to-key-file", text(&key)]);
    oras.args([pulled, format!("{here}/built/oras:1")]).run().unwrap();

    // It shows a certificate on other addresses than loopback's alone.
    let (docker, pulled) = (Dockerd::shared(), format!("{away}/secret/app:1"));
    let pushed = format!("{away}/built/docker:1");
    {
        let _shown = CertsD::new(&away, stranger.path());
        docker.docker(&["pull", &pulled]).expect_err("nobody knows it");
    }
    let _shown = CertsD::new(&away, builder.path());
    docker.docker(&["pull", &pulled]).unwrap();
    docker.docker(&["tag", &pulled, &pushed]).unwrap();
    docker.docker(&["push", &pushed]).unwrap();
    docker.docker(&["image", "rm", "--force", &pulled, &pushed]).unwrap();

    let names = place.run(&["list", "--flat"]).ok().text().to_owned();
    for name in ["built/skopeo:1", "built/podman:1", "built/oras:1", "built/docker:1"] {
        assert!(names.lines().any(|line| line == name), "{name}: {names}");
    }
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains(" certificate:builder-1 [") && !log.contains("stranger"), "{log}");
}

#[test]
fn a_certificate_is_replaced_and_a_broken_one_is_not_taken() {
    let (place, first, second) =
        (place(), Certificates::issue(&["IP:127.0.0.1"]), Certificates::issue(&["IP:127.0.0.1"]));
    let (served, authority) = serve(&place, &options(&first, &[]));
    let asks = |trusts: &Certificates| {
        curl(&["--cacert", text(&trusts.authority()), &format!("https://{authority}/v2/app/tags/list")]).is_ok()
    };
    assert_eq!((asks(&first), asks(&second)), (true, false));
    fs::copy(second.certificate(), first.certificate()).unwrap();
    assert_eq!((asks(&first), asks(&second)), (true, false), "a certificate whose key is still to come");
    assert!(served.log().contains("TLS goes on with the certificate that was read before"), "{}", served.log());
    fs::copy(second.key(), first.key()).unwrap();
    assert_eq!((asks(&first), asks(&second)), (false, true));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let (place, certificates) = (Place::new(), Certificates::issue(&["IP:127.0.0.1"]));
    let (cert, key) = (certificates.certificate(), certificates.key());
    let run = |arguments: &[&str]| place.run(&[&["serve"], arguments].concat());
    for (arguments, code, said) in [
        (&["--tls-cert", text(&cert)][..], 2, "--tls-key"),
        (&["--tls-client-ca", text(&cert)], 2, "--tls-cert"),
        (&["--access-log-format", "json"], 2, "--access-log"),
        (&["--listen", "systemd"], 2, "no socket was passed to this process"),
        (&["--listen", "unix:x,mode=9"], 2, "9 is no mode"),
        (&["--push", "--anonymous-push", "--upload-ttl", "0"], 2, "0 is not in 1.."),
        (&["--push", "--anonymous-push", "--max-pushes", "0"], 2, "0 is not in 1.."),
    ] {
        let ran = run(arguments);
        assert_eq!(ran.code(), code, "{ran}");
        assert!(ran.stderr.contains(said), "{ran}");
    }
    place.run(&["quickstart", "--check", "-q", "--listen", "127.0.0.1:0"]).ok();
    for (arguments, said) in [
        (&["--tls-cert", text(&cert), "--tls-key", text(&cert)][..], "holds no usable private key"),
        (&["--tls-cert", "none", "--tls-key", text(&key)], "none can't be read"),
        (&["--access-log", "/no/such/folder/log"], "the access log /no/such/folder/log can't be opened"),
        (&["--listen", "unix:registry"], "can't listen on unix:registry"),
    ] {
        let ran = run(arguments);
        assert_eq!(ran.code(), 1, "{ran}");
        assert!(ran.stderr.contains(said), "{ran}");
    }
}

/// What systemd does before it starts a service: it listens, puts the sockets where they are expected, says so, and
/// becomes the service.
const PARENT: &str = r#"
import os, socket, sys
tcp, unix, program = sys.argv[1], sys.argv[2], sys.argv[3:]
host, port = tcp.rsplit(":", 1)
sockets = [socket.create_server((host, int(port))), socket.socket(socket.AF_UNIX)]
sockets[1].bind(unix)
sockets[1].listen()
saved = [os.dup(s.fileno()) for s in sockets]
for number, copy in enumerate(saved):
    os.dup2(copy, 3 + number)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()))
os.execv(program[0], program)
"#;

#[test]
fn sockets_that_are_passed() {
    let (place, folder, port) = (place(), Folder::new(), Port::free());
    let (tcp, unix) = (port.address().to_string(), folder.join("socket"));
    let parent = folder.write("parent.py", PARENT);
    let serve = Invocation::new(part::installed("python3"))
        .arg(parent)
        .args([tcp.as_str(), text(&unix), env!("CARGO_BIN_EXE_roadstead"), "--tree"])
        .arg(place.tree())
        .args(["serve", "--listen", "systemd", "--trust-proxy", "unix"]);
    let served = Served::start(&serve, Isolation::None, Folder::new(), || {
        curl(&[&format!("http://{tcp}/v2/app/tags/list")]).is_ok()
    });
    let by_socket = curl(&["--unix-socket", text(&unix), "http://registry/v2/app/tags/list"]).unwrap();
    assert_eq!(by_socket.stdout, r#"{"name":"app","tags":["1"]}"#);
    // What the proxy behind a socket says is believed, if that was said.
    let arguments =
        ["--unix-socket", text(&unix), "-H", "X-Forwarded-Proto: https", "-H", "X-Forwarded-Host: r.example"];
    let refused =
        Invocation::new(part::installed("curl")).args(["-sS", "-i"]).args(arguments).arg("http://x/v2/").run();
    let refused = refused.unwrap().stdout;
    assert!(refused.contains("realm=\"https://r.example/v2/_token\""), "{refused}");
    let log = served.log();
    assert!(
        log.contains(&format!("on http://{tcp}\n")) && log.contains(&format!("on unix:{}\n", unix.display())),
        "{log}"
    );
}

/// With a real login, nothing of the password nor of a token is in the log, which is moved away meanwhile.
#[test]
fn the_access_log_tells_who_and_no_secret() {
    let (place, port) = (place(), Port::free());
    let (listen, log) = (port.address().to_string(), place.path().join("access.log"));
    let mut serve =
        place.command(&["serve", "--listen", &listen, "--access-log", text(&log), "--access-log-format", "json"]);
    let mut child = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(wait_until(PATIENCE, || port.answers()));
    let lines = |path: &Path| -> Vec<serde_json::Value> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    };
    let into = Folder::new();
    let pull = |name: &str, creds: &str| {
        let (from, to) = (format!("docker://{listen}/{name}"), format!("dir:{}", into.join("image").display()));
        Skopeo.skopeo(&["copy", "--all", "--src-tls-verify=false", "--src-creds", creds, &from, &to])
    };
    pull("secret/app:1", "ann:hunter2").unwrap();
    pull("app:1", "nobody:hunter3").expect_err("there is no such user");
    let has = |user: Option<&'static str>, status: u16| {
        move |line: &serde_json::Value| line["user"].as_str() == user && line["status"] == status
    };
    assert!(wait_until(PATIENCE, || lines(&log).iter().any(has(None, 401))
        && lines(&log).iter().any(has(Some("ann"), 200))));
    let moved = place.path().join("access.log.1");
    fs::rename(&log, &moved).unwrap();
    let process = Pid::from_child(&child);
    kill_process(process, Signal::HUP).unwrap();
    assert!(wait_until(PATIENCE, || log.exists()), "a hangup opens no new file");
    pull("secret/app:1", "ann:hunter2").unwrap();
    kill_process(process, Signal::TERM).unwrap();
    assert!(wait(&mut child).success());
    for path in [&moved, &log] {
        assert!(lines(path).iter().any(has(Some("ann"), 200)), "{}", path.display());
        let text = fs::read_to_string(path).unwrap();
        for secret in ["hunter", "nobody", "Bearer", "eyJ"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}

//! What becomes of pushes when the disk is full, fails, can't be written, or forgets what was not synced, and when the
//! clock leaps; and of memory when a thousand clients are slow.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use roadstead::oci::Algorithm;
use roadstead::testing::{Image, ImageBuilder, noise};
use roadstead_parts::{Crane, Folder, Invocation, Isolation, Nginx, Port, Served, part, wait_until};

use crate::support::{Place, Ran, peak_memory, push, request, wait};

const LIMIT: Duration = Duration::from_secs(60);

/// A server over a file system that only it and its script see. The script goes on behind `read` when it is told to.
struct Mounted {
    place: Place,
    script: Child,
    authority: String,
}

impl Mounted {
    fn start(script: &str) -> Self {
        let (place, port) = (Place::new(), Port::free());
        let authority = port.address().to_string();
        let mut command = Command::new(part::installed("unshare"));
        command.args(["--mount", "--propagation=private", "sh", "-euc", script, env!("CARGO_BIN_EXE_roadstead")]);
        command.arg(&authority).current_dir(place.path()).stdin(Stdio::piped());
        let script = command.stdout(Stdio::null()).spawn().unwrap();
        let mounted = Self { place, script, authority };
        assert!(wait_until(LIMIT, || port.answers()), "the server doesn't answer");
        mounted
    }

    fn push(&self, tag: &str, image: &Image) -> Result<(), String> {
        push(&self.authority, "app", tag, image)
    }

    /// Tells the script to go on, and waits until it has.
    fn go_on(&mut self, how: &str) {
        writeln!(self.script.stdin.as_mut().unwrap(), "{how}").unwrap();
        let done = self.place.path().join(format!("is-{how}"));
        assert!(wait_until(LIMIT, || done.exists()), "{how}: it is not done");
        fs::remove_file(done).unwrap();
    }

    /// Lets the script go on to its end.
    fn finish(mut self) -> Place {
        self.script.stdin.take().unwrap().write_all(b"\n").unwrap();
        let status = wait(&mut self.script);
        let log = fs::read_to_string(self.place.path().join("log")).unwrap_or_default();
        assert!(status.success(), "{status}\n--- log of the server\n{log}");
        self.place
    }
}

fn image(text: &str) -> Image {
    ImageBuilder::new().layer(text.to_owned()).build()
}

/// The server is killed, and of its file system stays what is on the disk: what a file system has not written yet, nor been told
/// to, is in memory alone. Every push that was acknowledged is there, and plain nginx serves it.
#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    part::installed("mkfs.ext4");
    // A journal that is written only when somebody syncs. The copy is taken while the file system is still mounted, and mounting
    // that is what comes after a power cut.
    let mounted = Mounted::start(
        r#"
        truncate -s 64M disk && mkfs.ext4 -q disk && mkdir before after
        mount -o loop,commit=600 disk before
        "$0" --tree before/registry serve --push --anonymous-push --listen "$1" 2> log &
        read -r _
        printf unsynced > before/unsynced
        kill -KILL $!
        cp --sparse=always disk cut
        umount before
        mount -o loop cut after
        if test -s after/unsynced; then echo "nothing is ever lost here" >&2; exit 1; fi
        cp -a after/registry registry
        umount after
        "#,
    );
    // By several at once, so that they share syncs.
    let mut acknowledged: Vec<String> = std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..4)
            .map(|pusher| {
                let mounted = &mounted;
                scope.spawn(move || {
                    let pushed = (0..8).map(|number| format!("{pusher}-{number}"));
                    pushed.inspect(|tag| mounted.push(tag, &image(tag)).unwrap()).collect::<Vec<_>>()
                })
            })
            .collect();
        pushers.into_iter().flat_map(|pusher| pusher.join().unwrap()).collect()
    });
    // The last word before the cut.
    mounted.push("last", &image("last")).unwrap();
    acknowledged.push("last".to_owned());
    let place = mounted.finish();
    place.run(&["verify"]).ok();
    let port = Port::free();
    let config = place.run(&["config", "nginx", "--listen", &port.address().to_string()]).ok();
    let nginx = Nginx::start_http(config.text(), port);
    let listed = Crane.crane(&["ls", "--insecure", &format!("{}/app", nginx.authority())]).unwrap().stdout;
    for tag in acknowledged {
        assert!(listed.lines().any(|line| line == tag), "{tag} is in no list: {listed}");
        let reference = format!("{}/app:{tag}", nginx.authority());
        Crane.crane(&["validate", "--insecure", "--remote", &reference]).unwrap_or_else(|e| panic!("{tag}: {e}"));
    }
}

#[test]
fn a_full_disk_refuses_and_gives_its_space_back() {
    let mounted = Mounted::start(
        r#"
        mkdir registry && mount -t tmpfs -o size=8m tmpfs registry
        "$0" serve --push --anonymous-push --allow-delete --listen "$1" 2> log &
        read -r _
        kill -TERM $! && wait $!
        "$0" verify >> log 2>&1
        test -z "$(ls -A registry/.roadstead/uploads)"
        cp -a registry kept && umount registry && rmdir registry && mv kept registry
        "#,
    );
    mounted.push("before", &image("before")).unwrap();
    let large = noise(1, 12 << 20);
    let digest = Algorithm::Sha256.digest(&large);
    let ask = |method: &str, path: &str, body: &[u8]| request(&mounted.authority, method, path, "", body);
    for round in 0..3 {
        let whole = ask("POST", &format!("/v2/app/blobs/uploads/?digest={digest}"), &large).unwrap();
        whole.expect(500).unwrap();
        let begun = ask("POST", "/v2/app/blobs/uploads/", b"").unwrap().expect(202).unwrap();
        let at = begun.header("location").unwrap();
        ask("PATCH", &at, &large).unwrap().expect(500).unwrap();
        ask("GET", &at, b"").unwrap().expect(404).unwrap();
        ask("GET", &format!("/v2/app/blobs/{digest}"), b"").unwrap().expect(404).unwrap();
        // There is room again, as soon as the refused ones are gone.
        mounted.push(&format!("after-{round}"), &image(&format!("after {round}"))).unwrap();
    }
    let place = mounted.finish();
    assert_eq!(place.run(&["list", "--flat"]).ok().text(), "app:after-0\napp:after-1\napp:after-2\napp:before\n");
}

#[test]
fn what_can_not_be_written_is_refused_at_the_start() {
    let place = Place::new();
    place.run(&["quickstart", "--check", "-q", "--listen", "127.0.0.1:0"]).ok();
    let script = r#"mount -o bind registry registry && mount -o remount,bind,ro registry && exec "$0" "$@""#;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(part::installed("unshare"));
        command.args(["--mount", "--propagation=private", "sh", "-euc", script, env!("CARGO_BIN_EXE_roadstead")]);
        command.args(arguments).current_dir(place.path()).stdin(Stdio::null());
        command
    };
    let port = Port::free();
    let listen = port.address().to_string();
    let mut reading = run(&["serve", "--listen", &listen]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(wait_until(LIMIT, || port.answers()), "a tree that can't be written can be served");
    reading.kill().unwrap();
    reading.wait().unwrap();
    let refused = Ran::of(&mut run(&["serve", "--push", "--anonymous-push", "--listen", &listen]));
    assert_ne!(refused.code(), 0, "{refused}");
    for said in ["registry", "Read-only file system"] {
        assert!(refused.stderr.contains(said), "{said:?} is not said\n{refused}");
    }
}

/// A disk that becomes read-only while the server runs, between two requests of a push: pulls go on, pushes are told
/// why they fail, nothing of them shows, and once it can be written again they go through, at the same server.
#[test]
fn a_disk_that_is_read_only_for_a_while_costs_the_pushes_of_that_while() {
    part::installed("mkfs.ext4");
    let status = Port::free();
    let script = r#"
        truncate -s 64M disk && mkfs.ext4 -q disk && mkdir registry && mount -o loop disk registry
        "$0" serve --push --anonymous-push --allow-delete --listen "$1" --status-listen STATUS 2> log &
        trap 'umount --lazy registry' EXIT
        while read -r how && [ -n "$how" ]; do
            # As long as a file is open for writing, the disk is busy.
            until mount -o "remount,$how" registry 2> busy; do sleep 0.01; done
            mv busy "is-$how"
        done
        kill -TERM $! && wait $!
        "$0" verify >> log 2>&1
        cp -a registry kept && umount registry && trap - EXIT && rmdir registry && mv kept registry
    "#;
    let mut mounted = Mounted::start(&script.replace("STATUS", &status.address().to_string()));
    let ask = |mounted: &Mounted, method: &str, path: &str, body: &[u8]| {
        request(&mounted.authority, method, path, "", body).unwrap()
    };
    let ready = || request(&status.address().to_string(), "GET", "/readyz", "", b"").unwrap().expect(200).unwrap().body;
    mounted.push("before", &image("before")).unwrap();
    for round in 0..2 {
        // Its blobs are there, and its manifest comes too late.
        let late = image(&format!("late {round}"));
        for (digest, bytes) in &late.blobs {
            let whole = format!("/v2/app/blobs/uploads/?digest={digest}");
            ask(&mounted, "POST", &whole, bytes).expect(201).unwrap();
        }
        mounted.go_on("ro");
        let manifest = late.manifests().last().unwrap();
        let put = |mounted: &Mounted| {
            let path = format!("/v2/app/manifests/late-{round}");
            request(&mounted.authority, "PUT", &path, manifest.media_type().as_str(), manifest.bytes()).unwrap()
        };
        for _ in 0..3 {
            let refused = [
                put(&mounted),
                ask(&mounted, "POST", "/v2/app/blobs/uploads/", b""),
                ask(
                    &mounted,
                    "POST",
                    &format!("/v2/app/blobs/uploads/?digest={}", Algorithm::Sha256.digest(b"x")),
                    b"x",
                ),
                ask(&mounted, "DELETE", "/v2/app/manifests/before", b""),
            ];
            for refused in refused {
                let body = refused.expect(500).unwrap().body;
                assert!(body.contains("its disk is read-only"), "{body}");
            }
        }
        for name in [format!("late-{round}"), late.digest().to_string()] {
            ask(&mounted, "GET", &format!("/v2/app/manifests/{name}"), b"").expect(404).unwrap();
        }
        let list = ask(&mounted, "GET", "/v2/app/tags/list", b"").expect(200).unwrap().body;
        assert!(list.contains("before") && !list.contains(&format!("late-{round}")), "{list}");
        ask(&mounted, "GET", "/v2/app/manifests/before", b"").expect(200).unwrap();
        let said = ready();
        assert!(said.starts_with("ready for pulls alone: ") && said.contains("Read-only file system"), "{said}");
        mounted.go_on("rw");
        put(&mounted).expect(201).unwrap();
        mounted.push(&format!("after-{round}"), &image(&format!("after {round}"))).unwrap();
        assert_eq!(ready(), "ready\n");
    }
    let place = mounted.finish();
    let expected = "app:after-0\napp:after-1\napp:before\napp:late-0\napp:late-1\n";
    assert_eq!(place.run(&["list", "--flat"]).ok().text(), expected);
}

/// A disk that fails while the server runs: what it can't vouch for isn't acknowledged, the log says why, and pulls go
/// on. Once it was started anew, over a disk that is well, everything that was acknowledged is there.
#[test]
fn a_disk_that_fails_refuses_pushes_with_the_cause_and_serves_on() {
    let place = Place::new();
    let port = Port::free();
    let listen = port.address().to_string();
    // Each from its tenth call on, as a disk that is gone does it.
    let broken = "inject=fsync,fdatasync,syncfs:error=EIO:when=10+";
    let server = Invocation::new(part::installed("strace"))
        .args(["--follow-forks", "--output=/dev/null", "--trace=fsync,fdatasync,syncfs", "-e", broken])
        .arg(env!("CARGO_BIN_EXE_roadstead"))
        .arg("--tree")
        .arg(place.tree())
        .args(["serve", "--push", "--anonymous-push", "--listen", &listen]);
    let server = Served::start(&server, Isolation::Namespaces, Folder::new(), || port.answers());
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    while refused < 3 {
        let tag = (acknowledged.len() + refused).to_string();
        match push(&listen, "app", &tag, &image(&tag)) {
            Ok(()) if refused == 0 => acknowledged.push(tag),
            Ok(()) => panic!("nobody knows what is on the disk, and {tag} is acknowledged"),
            Err(error) => {
                assert!(error.contains(": 500 "), "{error}");
                refused += 1;
            }
        }
        let log = server.log();
        assert_eq!(log.matches("a push failed").count(), refused, "{log}");
        assert_eq!(log.matches("Input/output error").count(), refused, "{log}");
    }
    assert!(acknowledged.len() > 1, "{acknowledged:?}");
    for tag in &acknowledged {
        request(&listen, "GET", &format!("/v2/app/manifests/{tag}"), "", b"").unwrap().expect(200).unwrap();
    }
    drop(server);
    let (_well, authority) = place.serve_pushes();
    push(&authority, "app", "after", &image("after")).unwrap();
    place.run(&["verify"]).ok();
    let listed = place.run(&["list", "--flat"]).ok();
    for tag in acknowledged.iter().map(String::as_str).chain(["after"]) {
        assert!(listed.text().lines().any(|line| line == format!("app:{tag}")), "{tag}: {listed}");
    }
}

/// The time of day leaps ahead and back: tokens are asked for anew, and no upload of a living server is given up by it.
#[test]
fn a_clock_that_leaps_costs_a_token_and_no_upload() {
    part::installed("faketime");
    let library =
        fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path().join("faketime/libfaketimeMT.so.1"));
    let library = { library }.find(|path| path.is_file()).expect("the library of faketime");
    let place = Place::new();
    place.run_with_input(&["user", "add", "ann", "--password-stdin"], "hunter2\n").ok();
    let (port, clock) = (Port::free(), Folder::new());
    let authority = port.address().to_string();
    let leap = |by: &str| {
        clock.write("next", by);
        fs::rename(clock.join("next"), clock.join("now")).unwrap();
    };
    leap("+0d");
    let server = Invocation::new(env!("CARGO_BIN_EXE_roadstead")).arg("--tree").arg(place.tree()).args([
        "serve",
        "--push",
        "--upload-ttl",
        "60",
        "--listen",
        &authority,
    ]);
    let leaping = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", clock.join("now")),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ("NO_FAKE_STAT", "1".into()),
    ];
    let server = leaping.iter().fold(server, |server, (name, value)| server.env(name, value));
    let _server = Served::start(&server, Isolation::None, Folder::new(), || port.answers());

    let curl = |arguments: &[&str]| {
        let curl = Invocation::new(part::installed("curl")).args(["-s", "-w", "\n%{http_code} %header{location}"]);
        let stdout = curl.args(arguments).run().unwrap().stdout;
        let (body, last) = stdout.rsplit_once('\n').unwrap();
        let (status, location) = last.split_once(' ').unwrap();
        (status.to_owned(), body.to_owned(), location.to_owned())
    };
    let url = |path: &str| format!("http://{authority}{path}");
    let token = |form: &str| {
        let (status, body, _) = curl(&["-d", form, &url("/v2/_token")]);
        assert_eq!(status, "200", "{body}");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        (format!("Authorization: Bearer {}", text("token")), text("refresh_token"))
    };
    let scope = "scope=repository:app:pull,push";
    let with_password = format!("grant_type=password&username=ann&password=hunter2&access_type=offline&{scope}");
    let (mut bearer, login) = token(&with_password);
    let login = format!("grant_type=refresh_token&refresh_token={login}&{scope}");
    let (status, _, at) = curl(&["-X", "POST", "-H", &bearer, &url("/v2/app/blobs/uploads/")]);
    assert_eq!(status, "202");
    let mut content = String::new();
    for by in ["+10m", "+40d", "-2d", "+0d"] {
        leap(by);
        // Whoever looks for what the dead left goes by that clock, too.
        Ran::of(place.command(&["prune"]).envs(leaping.iter().cloned())).ok();
        let patch = |bearer: &str| curl(&["-X", "PATCH", "-H", bearer, "--data-binary", by, &url(&at)]).0;
        assert_eq!(patch(&bearer), "401", "{by}");
        // Neither the login nor the password runs out by that.
        (bearer, _) = token(&login);
        assert_eq!(patch(&bearer), "202", "{by}");
        content.push_str(by);
    }
    let put = url(&format!("{at}?digest={}", Algorithm::Sha256.digest(content.as_bytes())));
    assert_eq!(curl(&["-X", "PUT", "-H", &bearer, &put]).0, "201");
    assert_eq!(
        curl(&["-H", &bearer, &url(&format!("/v2/app/blobs/{}", Algorithm::Sha256.digest(content.as_bytes())))]).1,
        content
    );
}

/// A thousand clients that have each sent a part of a layer and no more: what they take is bounded, and others are served.
#[test]
fn a_thousand_slow_uploads_take_little_memory() {
    const CLIENTS: usize = 1000;
    /// Less than is written at once, so that all of it is held.
    const SENT: usize = 100 << 10;
    let place = Place::new();
    let port = Port::free();
    let authority = port.address().to_string();
    let serve = ["serve", "--push", "--anonymous-push", "--max-pushes", "1001", "--listen", &authority];
    let mut server = place.command(&serve).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(wait_until(LIMIT, || port.answers()), "the server doesn't answer");
    let before = peak_memory(server.id()).unwrap();
    let content = noise(1, SENT);
    let clients: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| {
            let begun = request(&authority, "POST", "/v2/app/blobs/uploads/", "", b"").unwrap().expect(202).unwrap();
            let at = begun.header("location").unwrap();
            let mut stream = TcpStream::connect(&authority).unwrap();
            let mut head = format!("PATCH {at} HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n");
            head.write_str("expect: 100-continue\r\n\r\n").unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            let mut told = [0; 25];
            stream.read_exact(&mut told).unwrap();
            stream.write_all(&content).unwrap();
            stream
        })
        .collect();
    // All of it has arrived when the system holds nothing for the server any more.
    let mine: Vec<u16> = clients.iter().map(|client| client.local_addr().unwrap().port()).collect();
    assert!(wait_until(LIMIT, || unread(port.number(), &mine) == 0), "the server doesn't read");
    push(&authority, "app", "1", &image("in between")).unwrap();
    let took = peak_memory(server.id()).unwrap() - before;
    assert!(took < 200 << 20, "{CLIENTS} clients took {} MiB", took >> 20);
    drop(clients);
    server.kill().unwrap();
    server.wait().unwrap();
}

/// How many bytes the system holds that were sent to a port from these, and are not read or not yet received.
fn unread(to: u16, from: &[u16]) -> u64 {
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let queued = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = |at: usize| u16::from_str_radix(fields.get(at)?.split_once(':')?.1, 16).ok();
        let (local, remote) = (port(1)?, port(2)?);
        let (sending, receiving) = fields.get(4)?.split_once(':')?;
        let bytes = |hex: &str| u64::from_str_radix(hex, 16).ok();
        if local == to && from.contains(&remote) {
            bytes(receiving)
        } else if remote == to && from.contains(&local) {
            bytes(sending)
        } else {
            None
        }
    };
    sockets.lines().filter_map(queued).sum()
}

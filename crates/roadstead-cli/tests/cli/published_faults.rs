//! Publishing by lines and services that fail: nobody answers, connections are cut, the service has had enough, or the
//! clock is wrong.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use roadstead::testing::{ImageBuilder, Layer, Seen, noise};
use roadstead_parts::{BucketServer, part};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};

use crate::published::{BUCKET, Scene, image};
use crate::support::{Faulty, Ran, refusal};

/// An address from which nothing ever comes, not even that nobody listens: there is no room for another connection, and
/// nobody takes one of those that wait.
struct BlackHole {
    address: SocketAddr,
    _listener: OwnedFd,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    fn new() -> Self {
        let listener = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        bind(&listener, &SocketAddrV4::new([127, 0, 0, 1].into(), 0)).unwrap();
        listen(&listener, 0).unwrap();
        let address: SocketAddr = getsockname(&listener).unwrap().try_into().unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        let waiting: Vec<_> = std::iter::from_fn(connect).take(16).collect();
        assert!(waiting.len() < 16, "there is always room for one more");
        Self { address, _listener: listener, _waiting: waiting }
    }
}

#[test]
fn an_address_that_never_answers_is_given_up() {
    let scene = Scene::new(BucketServer::Versitygw, &[("app:1", &image("one"))]);
    let hole = BlackHole::new();
    let endpoint = format!("http://{}", hole.address);
    for words in [&["publish", BUCKET][..], &["publish", BUCKET, "--dry-run"], &["--tree", BUCKET, "list"]] {
        let mut command = scene.command(&[words, &["--cli-connect-timeout", "1"]].concat());
        let ran = Ran::of(command.env("AWS_ENDPOINT_URL", &endpoint));
        assert_eq!(ran.code(), 6, "{ran}");
        assert!(ran.stderr.contains(&endpoint), "{ran}");
        assert!(ran.stderr.contains("no connection came about in time"), "{ran}");
        assert!(ran.stderr.contains("hint: look whether the service is there"), "{ran}");
    }
    scene.run(&["publish", BUCKET]).ok();
}

/// A line to a server that is cut, as often as it is told, when so many bytes have gone there by one connection.
struct Cutting {
    address: SocketAddr,
    cut: Arc<AtomicUsize>,
}

impl Cutting {
    fn start(to: &str, after: usize, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, to) = (listener.local_addr().unwrap(), to.trim_start_matches("http://").to_owned());
        let cut = Arc::new(AtomicUsize::new(0));
        let counted = cut.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&to) else { break };
                let [answers, asked] = [&server, &client].map(|stream| stream.try_clone().unwrap());
                let counted = counted.clone();
                thread::spawn(move || pass(answers, asked, || usize::MAX, || {}));
                thread::spawn(move || {
                    let left = || if counted.load(Ordering::SeqCst) < times { after } else { usize::MAX };
                    pass(client, server, left, || {
                        counted.fetch_add(1, Ordering::SeqCst);
                    });
                });
            }
        });
        Self { address, cut }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn times(&self) -> usize {
        self.cut.load(Ordering::SeqCst)
    }
}

/// Passes bytes on until one side ends, or as many have passed as may.
fn pass(mut from: TcpStream, mut to: TcpStream, may_pass: impl Fn() -> usize, cut: impl Fn()) {
    let (mut piece, mut passed) = (vec![0; 64 << 10], 0);
    while let Ok(length @ 1..) = from.read(&mut piece) {
        passed += length;
        if passed > may_pass() {
            cut();
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// The middle of a part is where nothing of it is there yet, and most of it was sent.
#[test]
fn a_line_that_is_cut_in_the_middle_of_a_part_is_taken_again() {
    const MIDDLE: usize = 5 << 20;
    let layer = Layer::new().file("noise", noise(7, 40 << 20), 0o644);
    let large = ImageBuilder::new().layer(layer).build();
    let scene = Scene::new(BucketServer::Versitygw, &[("large:1", &large)]);
    let through = |line: &Cutting| {
        let mut command = scene.command(&["publish", BUCKET]);
        Ran::of(command.env("AWS_ENDPOINT_URL", line.url()))
    };
    let sometimes = Cutting::start(&scene.buckets.url(), MIDDLE, 6);
    through(&sometimes).ok();
    assert_eq!(sometimes.times(), 6);
    scene.run(&["diff", "registry", BUCKET]).ok();
    scene.run(&["--tree", BUCKET, "verify"]).ok();
    let left = scene.buckets.folder("images").join(".sgwtmp/multipart");
    assert_eq!(fs::read_dir(&left).map_or(0, Iterator::count), 0, "parts that belong to nothing");
}

/// Whom a service slows down goes on when it may, and says what it was that never ended.
#[test]
fn a_service_that_slows_down_is_waited_for_and_named_if_that_never_ends() {
    let scene = Scene::new(BucketServer::Versitygw, &[("app:1", &image("one")), ("org/tool:1", &image("two"))]);
    // Of each thing the first two requests.
    let busy = || refusal(503, "SlowDown").header("retry-after", "0");
    let sometimes = Faulty::start(&scene.buckets, move |seen| (seen.nth < 2).then(busy));
    let through = |faulty: &Faulty| {
        let mut command = scene.command(&["publish", BUCKET]);
        Ran::of(command.env("AWS_ENDPOINT_URL", faulty.url()))
    };
    through(&sometimes).ok();
    scene.run(&["diff", "registry", BUCKET]).ok();
    scene.run(&["--tree", BUCKET, "verify"]).ok();

    scene.run(&["tag", "app:1", "app:2"]).ok();
    let tags = |seen: &Seen| seen.method == "PUT" && seen.path().ends_with("/manifests/2");
    let always = Faulty::start(&scene.buckets, move |seen| tags(seen).then(busy));
    let ran = through(&always);
    assert_eq!(ran.code(), 8, "{ran}");
    for word in ["s3://images/tree/v2/app/manifests/2", "SlowDown", "hint: the service is overrun"] {
        assert!(ran.stderr.contains(word), "{word} is missing: {ran}");
    }
    scene.run(&["publish", BUCKET]).ok();
    scene.run(&["diff", "registry", BUCKET]).ok();
}

/// What is said of somebody who is at work is taken back by whoever may not delete, too.
#[test]
fn who_deletes_nothing_need_not_be_allowed_to() {
    let scene = Scene::new(BucketServer::Versitygw, &[("app:1", &image("one")), ("app:2", &image("two"))]);
    scene.run(&["publish", BUCKET]).ok();
    scene.run(&["tag", "app:1", "app:3"]).ok();
    let faulty = Faulty::start(&scene.buckets, |seen| (seen.method == "DELETE").then(|| refusal(403, "AccessDenied")));
    Ran::of(scene.command(&["publish", BUCKET]).env("AWS_ENDPOINT_URL", faulty.url())).ok();
    scene.run(&["diff", "registry", BUCKET]).ok();
    // Nobody waits for them.
    scene.run(&["remove", "app:2"]).ok();
    scene.run(&["publish", BUCKET, "--delete"]).ok();
    scene.run(&["diff", "registry", BUCKET]).ok();
}

/// By the clock of a real service, which refuses what was signed an hour ago or ahead.
#[test]
fn a_clock_that_is_wrong_is_named() {
    part::installed("faketime");
    let scene = Scene::new(BucketServer::Versitygw, &[("app:1", &image("one"))]);
    let library =
        fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path().join("faketime/libfaketimeMT.so.1"));
    let library = { library }.find(|path| path.is_file()).expect("the library of faketime");
    for leap in ["+1h", "-1h"] {
        let mut command = scene.command(&["publish", BUCKET]);
        command.env("LD_PRELOAD", &library).env("FAKETIME", leap).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let ran = Ran::of(&mut command);
        assert_eq!(ran.code(), 8, "{leap}: {ran}");
        assert!(ran.stderr.contains("the clock of this machine is wrong"), "{leap}: {ran}");
    }
    scene.run(&["publish", BUCKET]).ok();
}

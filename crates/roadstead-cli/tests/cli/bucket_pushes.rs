//! Pushes into buckets: servers that are killed, services that fail, and what waits in between.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use roadstead::oci::Algorithm;
use roadstead::store::{Condition, Headers, Store as _};
use roadstead::testing::{Image, ImageBuilder, Layer, Reply, Seen, noise};
use roadstead_parts::{BucketServer, Port, part, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::published::{BUCKET, Scene};
use crate::support::{Answer, Faulty, push, refusal, request};

const LIMIT: Duration = Duration::from_secs(60);

fn serve(scene: &Scene, port: &Port, more: &[&str]) -> Command {
    let listen = port.address().to_string();
    let serve = ["--tree", BUCKET, "serve", "--push", "--anonymous-push", "--state", "state", "--listen", &listen];
    scene.command(&[&serve, more].concat())
}

/// A server that takes pushes into the bucket of a scene. It is killed when it is dropped.
struct Server {
    process: Child,
    authority: String,
    log: PathBuf,
}

impl Server {
    fn start(scene: &Scene, service: &str, more: &[&str]) -> Self {
        let port = Port::free();
        let mut server = serve(scene, &port, more);
        server.env("AWS_ENDPOINT_URL", service);
        Self::run(scene, &mut server, &port)
    }

    /// The same where the folder of its state has so little room, on a disk that only it sees.
    fn start_with_little_room(scene: &Scene, bytes: usize) -> Self {
        let port = Port::free();
        let server = serve(scene, &port, &[]);
        let script = format!("mkdir state && mount -t tmpfs -o size={bytes} tmpfs state && exec \"$0\" \"$@\"");
        let mut mounted = Command::new(part::installed("unshare"));
        mounted.args(["--mount", "--propagation=private", "sh", "-euc", &script]);
        mounted.arg(server.get_program()).args(server.get_args());
        mounted.envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
        mounted.current_dir(scene.place.path()).stdin(Stdio::null());
        Self::run(scene, &mut mounted, &port)
    }

    fn run(scene: &Scene, server: &mut Command, port: &Port) -> Self {
        let authority = port.address().to_string();
        let log = scene.place.path().join("log");
        let mut process = server.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let answers = wait_until(LIMIT, || port.answers());
        let server_is_there = answers && process.try_wait().unwrap().is_none();
        let server = Self { process, authority, log };
        assert!(server_is_there, "the server doesn't answer: {}", server.said());
        server
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        request(&self.authority, method, path, "", body).unwrap()
    }

    fn begin(&self) -> String {
        self.ask("POST", "/v2/app/blobs/uploads/", b"").expect(202).unwrap().header("location").unwrap()
    }

    fn kill(&mut self) {
        kill_process(Pid::from_child(&self.process), Signal::KILL).unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn scene() -> Scene {
    Scene::new(BucketServer::Versitygw, &[])
}

/// What waits on this machine.
fn waiting(scene: &Scene) -> Vec<PathBuf> {
    waiting_below(&scene.place.path().join("state"))
}

fn waiting_below(state: &Path) -> Vec<PathBuf> {
    let folder = state.join("uploads/.roadstead");
    let files = |name: &str| {
        let entries = fs::read_dir(folder.join(name)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let temporary = files("tmp").into_iter().filter(|path| path.is_dir());
    let temporary = temporary.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    files("uploads").into_iter().chain(temporary).collect()
}

/// Dozens of kills. What was acknowledged is whole and listed after each, without anybody's help.
#[test]
fn a_killed_server_loses_nothing_that_it_acknowledged_into_a_bucket() {
    const BUCKETS: usize = 4;
    const ROUNDS: usize = 10;
    for _ in 0..BUCKETS {
        kill_while_pushing(ROUNDS);
    }
}

fn kill_while_pushing(rounds: usize) {
    const PUSHERS: usize = 3;
    let scene = scene();
    let mut acknowledged = BTreeSet::new();
    for round in 0..rounds {
        let mut server = Server::start(&scene, &scene.buckets.url(), &[]);
        let (told, heard) = mpsc::channel();
        let early: Result<Vec<String>, String> = thread::scope(|scope| {
            for pusher in 0..PUSHERS {
                let (told, authority) = (told.clone(), server.authority.clone());
                scope.spawn(move || {
                    for number in 0.. {
                        let image = ImageBuilder::new().layer(format!("{round} {pusher} {number}")).build();
                        let (tag, repository) = (format!("{round}-{number}"), format!("pushed/{pusher}"));
                        let pushed = push(&authority, &repository, &tag, &image);
                        let is_over = pushed.is_err();
                        told.send(pushed.map(|()| format!("{repository}:{tag}"))).unwrap();
                        if is_over {
                            return;
                        }
                    }
                });
            }
            // Each time somewhere else, and always in the middle of what comes after these.
            let first = heard.iter().take(1 + round % 7).collect();
            assert!(server.process.try_wait().unwrap().is_none(), "the server ended by itself: {}", server.said());
            server.kill();
            first
        });
        drop(told);
        let early =
            early.unwrap_or_else(|error| panic!("a server that lives refused a push: {error}\n{}", server.said()));
        assert!(!server.said().contains("ERROR"), "a server that lives failed: {}", server.said());
        acknowledged.extend(early);
        acknowledged.extend(heard.into_iter().flatten());
        let listed = scene.run(&["--tree", BUCKET, "list", "--flat"]).ok();
        let names: BTreeSet<&str> = listed.text().lines().collect();
        let lost: Vec<&String> = acknowledged.iter().filter(|name| !names.contains(name.as_str())).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let lists = Server::start(&scene, &scene.buckets.url(), &[]);
        for repository in 0..PUSHERS {
            let list = lists.ask("GET", &format!("/v2/pushed/{repository}/tags/list"), b"").body;
            let of_it = acknowledged.iter().filter_map(|name| name.strip_prefix(&format!("pushed/{repository}:")));
            for tag in of_it {
                assert!(list.contains(&format!("\"{tag}\"")), "pushed/{repository}:{tag} is in no list: {list}");
            }
        }
    }
    // Lists may be behind what was not acknowledged, and nothing else.
    scene.run(&["--tree", BUCKET, "verify", "--repair"]).ok();
    scene.run(&["--tree", BUCKET, "verify"]).ok();
}

#[test]
fn an_upload_into_a_bucket_goes_on_after_its_server_was_killed() {
    let scene = scene();
    let content = noise(1, 20 << 20);
    let digest = Algorithm::Sha512.digest(&content);
    let mut server = Server::start(&scene, &scene.buckets.url(), &[]);
    let (at, half) = (server.begin(), content.len() / 2);
    server.ask("PATCH", &at, &content[..half]).expect(202).unwrap();
    assert!(!scene.buckets.calls().iter().any(|(_, key)| key.contains("/blobs/")), "nothing shows before its end");
    server.kill();

    let server = Server::start(&scene, &scene.buckets.url(), &[]);
    let there = server.ask("GET", &at, b"").expect(204).unwrap().header("range").unwrap();
    assert_eq!(there, format!("0-{}", half - 1));
    server.ask("PUT", &format!("{at}?digest={digest}"), &content[half..]).expect(201).unwrap();
    let blob = format!("/v2/app/blobs/{digest}");
    let shown = server.ask("HEAD", &blob, b"").expect(200).unwrap();
    assert_eq!(shown.header("content-length").unwrap(), content.len().to_string());
    server.ask("GET", &at, b"").expect(404).unwrap();
    // What isn't what it is said to be takes no space, and neither does what is cancelled or given up.
    let wrong = server.begin();
    server.ask("PUT", &format!("{wrong}?digest={digest}"), b"other").expect(400).unwrap();
    let cancelled = server.begin();
    server.ask("DELETE", &cancelled, b"").expect(204).unwrap();
    assert_eq!(waiting(&scene), [] as [PathBuf; 0]);
    let abandoned = server.begin();
    server.ask("PATCH", &abandoned, b"content").expect(202).unwrap();
    drop(server);
    let files: Vec<PathBuf> = waiting(&scene).into_iter().filter(|path| path.is_file()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::open(&files[0]).unwrap().set_modified(long_ago).unwrap();
    let server = Server::start(&scene, &scene.buckets.url(), &[]);
    server.ask("GET", &abandoned, b"").expect(404).unwrap();
    assert!(wait_until(LIMIT, || waiting(&scene).is_empty()), "{:?}", waiting(&scene));
    scene.run(&["--tree", BUCKET, "verify"]).ok();
}

fn image(text: &str) -> Image {
    let large = Layer::new().file("noise", noise(3, 9 << 20), 0o644);
    ImageBuilder::new().layer(large).layer(text.to_owned()).build()
}

/// Wherever the service begins to refuse, what was acknowledged is whole, nothing shows by halves, and the client
/// learns no more than that; the same push does what is missing.
#[test]
fn a_bucket_that_fails_in_the_middle_leaves_nothing_by_halves() {
    let scene = scene();
    let (writes, allowed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
    let faulty = Faulty::start(&scene.buckets, {
        let (writes, allowed) = (writes.clone(), allowed.clone());
        move |seen: &Seen| {
            // What a push writes; what says that it is at work is another matter.
            let is_write =
                seen.method != "GET" && seen.method != "HEAD" && !seen.path().contains("/.roadstead/writers/");
            let refused = is_write && writes.fetch_add(1, Ordering::SeqCst) >= allowed.load(Ordering::SeqCst);
            refused.then(|| refusal(403, "AccessDenied"))
        }
    });
    let server = Server::start(&scene, &faulty.url(), &[]);
    let mut refused = 0;
    for round in 0.. {
        let (image, tag) = (image(&format!("round {round}")), format!("round-{round}"));
        writes.store(0, Ordering::SeqCst);
        allowed.store(round, Ordering::SeqCst);
        let pushed = push(&server.authority, "app", &tag, &image);
        let needed = writes.load(Ordering::SeqCst);
        allowed.store(usize::MAX, Ordering::SeqCst);
        // A tag that shows although that was never said is whole.
        let shown = request(&server.authority, "GET", &format!("/v2/app/manifests/{tag}"), "", b"").unwrap();
        if shown.expect(200).is_ok() {
            for digest in image.blobs.keys() {
                server.ask("HEAD", &format!("/v2/app/blobs/{digest}"), b"").expect(200).unwrap();
            }
        }
        let listed = server.ask("GET", "/v2/app/tags/list", b"").body;
        let Err(error) = pushed else {
            assert!(needed <= round && listed.contains(&tag), "{listed}");
            break;
        };
        refused += 1;
        assert!(error.contains(": 500 ") && error.contains("can not write its tree"), "{error}");
        assert!(!error.contains("AccessDenied") && !error.contains("s3:"), "{error}");
        assert!(server.said().contains("AccessDenied"), "the operator learns nothing: {}", server.said());
        assert!(!listed.contains(&tag), "what failed is listed: {listed}");
        push(&server.authority, "app", &tag, &image).unwrap();
        scene.run(&["--tree", BUCKET, "verify"]).ok();
    }
    assert!(refused > 4, "only {refused} writes");
    assert_eq!(waiting(&scene), [] as [PathBuf; 0]);
}

/// Where uploads wait on a disk that is full they are refused, what was sent of them gives its room back at once, and others
/// go through.
#[test]
fn a_full_disk_on_the_way_into_a_bucket_costs_what_does_not_fit() {
    let scene = scene();
    let server = Server::start_with_little_room(&scene, 8 << 20);
    let state = format!("/proc/{}/root{}", server.process.id(), scene.place.path().join("state").display());
    let large = noise(3, 12 << 20);
    let digest = Algorithm::Sha256.digest(&large);
    let push = |tag: &str| push(&server.authority, "app", tag, &ImageBuilder::new().layer(tag.to_owned()).build());
    push("before").unwrap();
    for round in 0..3 {
        server.ask("POST", &format!("/v2/app/blobs/uploads/?digest={digest}"), &large).expect(500).unwrap();
        let begun = server.begin();
        server.ask("PATCH", &begun, &large).expect(500).unwrap();
        server.ask("GET", &begun, b"").expect(404).unwrap();
        server.ask("GET", &format!("/v2/app/blobs/{digest}"), b"").expect(404).unwrap();
        assert_eq!(waiting_below(Path::new(&state)), [] as [PathBuf; 0]);
        push(&format!("after-{round}")).unwrap();
    }
    assert!(server.said().contains("No space left on device"), "{}", server.said());
    drop(server);
    scene.run(&["--tree", BUCKET, "verify"]).ok();
    let listed = scene.run(&["--tree", BUCKET, "list", "--flat"]).ok();
    assert_eq!(listed.text(), "app:after-0\napp:after-1\napp:after-2\napp:before\n");
}

/// Who is throttled, or can't reach the service, is told to come again; an upload waits meanwhile.
#[test]
fn a_bucket_that_takes_nothing_for_a_while_is_told_as_such() {
    let scene = scene();
    let faults: [fn() -> Reply; 3] = [|| refusal(503, "SlowDown"), || refusal(500, "InternalError"), Reply::hang_up];
    for (number, fault) in faults.into_iter().enumerate() {
        let failing = Arc::new(AtomicBool::new(false));
        let faulty = Faulty::start(&scene.buckets, {
            let failing = failing.clone();
            move |_| failing.load(Ordering::SeqCst).then(fault)
        });
        let server = Server::start(&scene, &faulty.url(), &["--allow-delete"]);
        let image = image(&format!("fault {number}"));
        push(&server.authority, "app", "1", &image).unwrap();
        let at = server.begin();
        server.ask("PATCH", &at, b"content").expect(202).unwrap();
        failing.store(true, Ordering::SeqCst);
        let put = format!("{at}?digest={}", Algorithm::Sha256.digest(b"content"));
        let tagged = "/v2/app/manifests/1";
        let manifest = image.manifests().next().unwrap().bytes().clone();
        for (method, path, body) in
            [("PUT", &*put, &b""[..]), ("PUT", tagged, &manifest), ("DELETE", tagged, b""), ("GET", tagged, b"")]
        {
            let answer = server.ask(method, path, body).expect(503).unwrap();
            assert!(answer.header("retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok()), "{method} {path}");
            assert!(answer.body.contains("UNAVAILABLE"), "{method} {path}: {}", answer.body);
        }
        failing.store(false, Ordering::SeqCst);
        server.ask("PUT", &put, b"").expect(201).unwrap();
        server.ask("GET", tagged, b"").expect(200).unwrap();
        push(&server.authority, "app", "2", &image).unwrap();
        scene.run(&["--tree", BUCKET, "verify"]).ok();
    }
}

/// Who removes something keeps pushes out of one repository, and those who push there are told to come again; one that
/// is at work is waited for.
#[test]
fn removers_and_pushes_keep_out_of_each_others_way() {
    let scene = scene();
    let server = Server::start(&scene, &scene.buckets.url(), &["--allow-delete"]);
    let image = image("removed");
    for tag in ["1", "2"] {
        push(&server.authority, "app", tag, &image).unwrap();
    }
    // The server has pushed a moment ago, and is idle soon.
    scene.run(&["--tree", BUCKET, "remove", "app:1"]).ok();
    server.ask("DELETE", "/v2/app/manifests/2", b"").expect(202).unwrap();
    server.ask("GET", "/v2/app/tags/list", b"").expect(200).unwrap();

    // Somebody who stays is named to nobody but the operator.
    let (store, sign) = (scene.store(), ".roadstead/writers/0123456789abcdef".parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let said = r#"{"repositories":["app"],"fenced":true,"turn":0}"#;
    let _ = runtime.block_on(store.put(&sign, said.into(), &Headers::default(), Condition::Always)).unwrap();
    push(&server.authority, "app", "3", &image).unwrap();
    let refused = server.ask("DELETE", "/v2/app/manifests/3", b"").expect(503).unwrap();
    assert!(refused.header("retry-after").is_some() && !refused.body.contains("writers"), "{}", refused.body);
    assert!(server.said().contains("somebody else is writing to app"), "{}", server.said());
    // Nobody was kept from anything by that.
    push(&server.authority, "app", "4", &image).unwrap();
    push(&server.authority, "other", "1", &image).unwrap();
    assert!(runtime.block_on(store.delete(&sign)).unwrap());
    server.ask("DELETE", "/v2/app/manifests/3", b"").expect(202).unwrap();
    scene.run(&["--tree", BUCKET, "verify"]).ok();
}

/// A server that stops lets nobody wait for it.
#[test]
fn a_server_that_stops_takes_its_word_back() {
    let scene = scene();
    let mut server = Server::start(&scene, &scene.buckets.url(), &[]);
    push(&server.authority, "app", "1", &image("stopped")).unwrap();
    kill_process(Pid::from_child(&server.process), Signal::TERM).unwrap();
    assert!(server.process.wait().unwrap().success(), "{}", server.said());
    let left = scene.buckets.folder("images").join("tree/.roadstead/writers");
    assert!(!left.exists() || fs::read_dir(&left).unwrap().next().is_none(), "removers would wait");
    scene.run(&["--tree", BUCKET, "remove", "app:1"]).ok();
}

//! Images out of Docker engines and into them; and engines that misbehave as they are told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use roadstead::image::{Collection, Copier, CopyOptions, Held, RepositorySink, Silent, SinkError, Source, SourceError};
use roadstead::medium::daemon::{Daemon, DaemonHost};
use roadstead::oci::{ImageReference, Reference};
use roadstead::store::{MemoryStore, Naming};
use roadstead::testing::{Image, ImageBuilder, IndexBuilder, Layer, MemorySource, noise};
use roadstead::tree::Tree;
use roadstead_parts::{Dockerd, Engine as _};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

fn spool() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

async fn connect(socket: &Path) -> Result<Daemon, SourceError> {
    Daemon::connect(&DaemonHost::Unix(socket.to_owned())).await
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Copies an image into an engine under these names.
async fn load(daemon: &Daemon, image: &Image, names: &[&str]) -> Result<(), SinkError> {
    let spool = spool();
    let source = MemorySource::new();
    source.add("it:1", image);
    let from = source.repository(&"it".parse().expect("a name"));
    let sink = daemon.sink(spool.path())?;
    for name in names {
        let name: ImageReference = name.parse().expect("a name");
        let tags: Vec<_> = name.tag.clone().into_iter().collect();
        let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
        let reference = Reference::Tag("1".parse().expect("a tag"));
        let copied = copier.copy(&*from, &reference, &*sink.image(Some(&name)), &tags).await;
        copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
    let closed = sink.close().await;
    assert_eq!(std::fs::read_dir(spool.path()).expect("a folder").count(), 0, "the spool is empty again");
    closed
}

/// Copies an image of a collection into a tree, which judges every byte.
async fn judge(from: &dyn Collection, held: &Held) {
    let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.expect("a tree");
    let to: Box<dyn RepositorySink> =
        roadstead::image::Sink::repository(&tree, &"it".parse().expect("a name")).await.expect("a repository");
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    let copied = copier.copy(&*from.content(), &held.descriptor.digest.into(), &*to, &[]).await;
    copied.unwrap_or_else(|error| panic!("{held:?}: {}", chain(&error)));
}

fn image(of: &'static str) -> Image {
    ImageBuilder::new().layer(of).layer(Layer::new().file("noise", noise(5, 2 << 20), 0o644)).greeting("ahoy\n").build()
}

/// What an engine is asked in every form.
async fn there_and_back(docker: &Dockerd, keeps_digests: bool) {
    let daemon = connect(docker.socket()).await.unwrap();
    let (first, second) = (image("daemon 1"), image("daemon 2"));
    load(&daemon, &first, &["roadstead.test/first:1", "roadstead.test/first:2"]).await.unwrap();
    load(&daemon, &second, &["second:latest"]).await.unwrap();
    assert_eq!(docker.run("second").unwrap(), "ahoy\n");
    let names = daemon.names().await.unwrap();
    for name in ["roadstead.test/first:1", "roadstead.test/first:2", "second:latest"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }

    let spool = spool();
    let exported = daemon.export(&["second:latest", "roadstead.test/first:2"], spool.path()).await.unwrap();
    let held = exported.images().await.unwrap();
    assert_eq!(held.len(), 2, "{held:?}");
    for (image, name) in [(&first, "roadstead.test/first:2"), (&second, "second:latest")] {
        let named = |held: &&Held| {
            let known = held.name.as_deref().and_then(|known| known.parse::<ImageReference>().ok());
            known == name.parse().ok()
        };
        let held = held.iter().find(named).unwrap_or_else(|| panic!("{name} in {held:?}"));
        judge(&exported, held).await;
        let manifest = exported.content().manifest(&held.descriptor).await.unwrap();
        assert_eq!(manifest.config().unwrap().digest, image.manifest.config().unwrap().digest, "{name}");
        assert_eq!(manifest.digest() == image.manifest.digest(), keeps_digests, "{name}");
    }
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0, "what is spooled has no name");

    let error = daemon.export(&["roadstead.test/none:1"], spool.path()).await.unwrap_err();
    assert!(matches!(error, SourceError::NotFound { .. }), "{error:?}");
    assert!(chain(&error).contains("docker-daemon:roadstead.test/none:1 was not found"), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_20_10() {
    let docker = Dockerd::start();
    there_and_back(&docker, false).await;

    // An engine without containerd's store holds one platform, and says so before anything is sent.
    let daemon = connect(docker.socket()).await.unwrap();
    let of = |platform| ImageBuilder::new().layer("two").platform(platform).build();
    let index = IndexBuilder::new().image(of("linux/amd64")).image(of("linux/arm64")).build();
    let error = load(&daemon, &index, &["two:1"]).await.unwrap_err();
    assert!(chain(&error).contains("several platforms"), "{}", chain(&error));
    assert!(!daemon.names().await.unwrap().contains(&"two:1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Docker 29, which takes long to build"]
async fn docker_29() {
    there_and_back(&Dockerd::start_29(), true).await;
}

/// An engine that answers as it is told. It reads a request to its end if `reads`, else only its head.
struct Engine {
    folder: TempDir,
    task: JoinHandle<()>,
}

impl Engine {
    async fn start(reads: bool, script: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(folder.path().join("s")).expect("a socket");
        let task = tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut request = Vec::new();
                let is_whole = |request: &[u8]| {
                    let posts = request.starts_with(b"POST");
                    if posts && reads { request.ends_with(b"\r\n0\r\n\r\n") } else { ends_head(request) }
                };
                while !is_whole(&request) && connection.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
                let target = String::from_utf8_lossy(&request);
                let target = target.split(' ').nth(1).unwrap_or_default().to_owned();
                // The other side may have hung up: some tests are about that.
                let _ = connection.write_all(&script(&target)).await;
                let _ = connection.shutdown().await;
            }
        });
        Self { folder, task }
    }

    fn host(&self) -> DaemonHost {
        DaemonHost::Unix(self.folder.path().join("s"))
    }

    async fn connect(&self) -> Daemon {
        Daemon::connect(&self.host()).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn ends_head(request: &[u8]) -> bool {
    request.windows(4).any(|end| end == b"\r\n\r\n")
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// An answer to `_ping`, and else what `other` says.
fn engine(other: impl Fn(&str) -> Vec<u8> + Send + 'static) -> impl Fn(&str) -> Vec<u8> + Send + 'static {
    move |target| match target {
        "/_ping" => reply("200 OK", "api-version: 1.41\r\n", b"OK"),
        other_target => other(other_target),
    }
}

#[tokio::test]
async fn nobody_is_there() {
    let folder = spool();
    let socket = folder.path().join("s");
    for stale in [false, true] {
        if stale {
            drop(UnixListener::bind(&socket).unwrap());
        }
        let error = connect(&socket).await.unwrap_err();
        assert!(matches!(error, SourceError::Unreachable { .. }), "{error:?}");
        let text = chain(&error);
        assert!(
            text.contains(&format!("unix://{}", socket.display())) && text.contains("is the engine running?"),
            "{text}"
        );
    }
    let error = Daemon::connect(&"tcp://127.0.0.1:1".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_socket_for_others() {
    let engine = Engine::start(true, engine(|_| Vec::new())).await;
    let DaemonHost::Unix(socket) = engine.host() else { unreachable!("it is a socket") };
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o000)).unwrap();
    // Root is asked nothing, so this thread gives up what makes it root.
    let refused = std::thread::spawn(move || {
        let mut sets = capabilities(None).unwrap();
        sets.effective = CapabilitySet::empty();
        set_capabilities(None, sets).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(connect(&socket)).unwrap_err()
    });
    let error = tokio::task::spawn_blocking(|| refused.join().unwrap()).await.unwrap();
    assert!(matches!(error, SourceError::Denied { .. }), "{error:?}");
    let text = chain(&error);
    assert!(text.contains("the group") && text.contains("usermod --append --groups"), "{text}");
}

#[tokio::test]
async fn what_is_no_engine_or_too_old() {
    for (headers, said) in [
        ("", "no Docker engine"),
        ("api-version: x\r\n", "no Docker engine"),
        ("api-version: 1.24\r\n", "too old: it speaks version 1.24"),
        ("api-version: 1.25\r\n", ""),
    ] {
        let engine = Engine::start(true, move |_| reply("200 OK", headers, b"OK")).await;
        match Daemon::connect(&engine.host()).await {
            Ok(_) => assert_eq!(said, ""),
            Err(error) => assert!(!said.is_empty() && chain(&error).contains(said), "{}", chain(&error)),
        }
    }
}

#[tokio::test]
async fn lists_of_images() {
    let list = br#"[{"RepoTags":["b:1","a:1"]},{"RepoTags":null},{},{"RepoTags":["<none>:<none>","a:1"]}]"#;
    let good = Engine::start(
        true,
        engine(move |target| {
            assert_eq!(target, "/v1.41/images/json");
            reply("200 OK", "", list)
        }),
    )
    .await;
    assert_eq!(good.connect().await.names().await.unwrap(), ["a:1", "b:1"]);
    for (status, body) in [("200 OK", &b"{}"[..]), ("200 OK", b"<html>"), ("500 Oh", b"{\"message\":\"no disk\"}")] {
        let bad = Engine::start(true, engine(move |_| reply(status, "", body))).await;
        let error = bad.connect().await.names().await.unwrap_err();
        assert!(status.starts_with("200") || chain(&error).contains("no disk"), "{}", chain(&error));
    }
}

/// What an engine would export: an archive, as made by the sink.
async fn archive(image: &Image) -> Vec<u8> {
    use roadstead::medium::docker_archive::DockerArchiveSink;
    let folder = spool();
    let path = folder.path().join("it.tar");
    let sink = DockerArchiveSink::create(path.as_path(), folder.path()).unwrap();
    let source = MemorySource::new();
    source.add("it:1", image);
    let from = source.repository(&"it".parse().unwrap());
    let tag = "1".parse().unwrap();
    let to = sink.image(Some(&"it:1".parse().unwrap()));
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    copier.copy(&*from, &Reference::Tag("1".parse().unwrap()), &*to, &[tag]).await.unwrap();
    drop(to);
    sink.close().await.unwrap();
    std::fs::read(path).unwrap()
}

#[tokio::test]
async fn a_cut_export_is_an_error() {
    let whole = archive(&image("cut")).await;
    let good = whole.clone();
    let sound = Engine::start(
        true,
        engine(move |target| {
            assert_eq!(target, "/v1.41/images/get?names=it%3A1&names=a%2Fb%26c");
            reply("200 OK", "", &good)
        }),
    )
    .await;
    let folder = spool();
    let exported = sound.connect().await.export(&["it:1", "a/b&c"], folder.path()).await.unwrap();
    judge(&exported, &exported.images().await.unwrap()[0]).await;

    // Where entries of the archive end; there a cut is hardest to see.
    let mut ends = vec![1, 511, 512];
    let mut at = 0;
    while whole[at] != 0 {
        let size = std::str::from_utf8(&whole[at + 124..at + 135]).unwrap();
        at += 512 + usize::from_str_radix(size, 8).unwrap().next_multiple_of(512);
        ends.push(at);
    }
    // After the last entry nothing is missing but the mark of the end.
    ends.pop();
    for end in ends {
        let head = reply("200 OK", "", &whole);
        let cut = &whole[..end];
        for (how, answer) in [
            ("the connection breaks", [&head[..head.len() - whole.len()], cut].concat()),
            ("the engine says what is wrong", reply("200 OK", "", &[cut, b"{\"error\":\"no\"}"].concat())),
            ("nobody says anything", reply("200 OK", "", cut)),
        ] {
            let engine = Engine::start(true, engine(move |_| answer.clone())).await;
            let export = engine.connect().await.export(&["it:1"], folder.path()).await;
            assert!(export.is_err(), "{how} after {end} of {} bytes", whole.len());
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_engine_that_does_not_load() {
    let small = image("refused");
    let large = ImageBuilder::new().layer(Layer::new().file("large", noise(6, 8 << 20), 0o644)).uncompressed().build();
    let said = br#"{"errorDetail":{"message":"no space left"},"error":"no space left"}"#;
    for image in [&small, &large] {
        for (reads, status) in [(true, "200 OK"), (true, "500 Oh"), (false, "500 Oh")] {
            let body = if status.starts_with("200") { &said[..] } else { br#"{"message":"no space left"}"# };
            let refusing = Engine::start(
                reads,
                engine(move |target| {
                    assert_eq!(target, "/v1.41/images/load?quiet=1");
                    reply(status, "", body)
                }),
            )
            .await;
            let error = load(&refusing.connect().await, image, &["it:1"]).await.unwrap_err();
            // Who hangs up in the middle may not be heard.
            assert!(!reads || chain(&error).contains("no space left"), "{}", chain(&error));
        }
        let gone = Engine::start(true, engine(|_| Vec::new())).await;
        load(&gone.connect().await, image, &["it:1"]).await.unwrap_err();
        let content =
            Engine::start(true, engine(|_| reply("200 OK", "", b"{\"stream\":\"Loaded image: it:1\"}"))).await;
        load(&content.connect().await, image, &["it:1"]).await.unwrap();
    }
}

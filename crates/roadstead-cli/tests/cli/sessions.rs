//! Uploads whose server is killed, and what is left of them.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use roadstead::oci::Algorithm;
use roadstead::testing::noise;
use roadstead_parts::{Port, wait_until};

use crate::support::{Place, request};

const LIMIT: Duration = Duration::from_secs(60);

/// A server that ends as badly as can be.
struct Server {
    process: Child,
    authority: String,
}

impl Server {
    fn start(place: &Place) -> Self {
        let port = Port::free();
        let authority = port.address().to_string();
        let mut server = place.command(&["serve", "--push", "--anonymous-push", "--listen", &authority]);
        let process = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        assert!(wait_until(LIMIT, || port.answers()), "the server doesn't answer");
        Self { process, authority }
    }

    fn begin(&self) -> String {
        let begun = request(&self.authority, "POST", "/v2/app/blobs/uploads/", "", b"").unwrap();
        begun.expect(202).unwrap().header("location").unwrap()
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<String, String> {
        let status = if method == "GET" { 204 } else { 202 };
        let answer = request(&self.authority, method, path, "", body)?.expect(status)?;
        Ok(answer.header("range").unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What lies where uploads do.
fn files(place: &Place) -> Vec<PathBuf> {
    let folder = place.tree().join(".roadstead/uploads");
    fs::read_dir(folder).map_or_else(|_| Vec::new(), |files| files.map(|file| file.unwrap().path()).collect())
}

#[test]
fn an_upload_goes_on_after_its_server_was_killed() {
    let place = Place::new();
    let (content, chunk) = (noise(1, 3 << 20), 1 << 20);
    let digest = Algorithm::Sha512.digest(&content);
    let server = Server::start(&place);
    let at = server.begin();
    assert_eq!(server.ask("PATCH", &at, &content[..5]).unwrap(), "0-4");
    assert_eq!(server.ask("PATCH", &at, &content[5..chunk]).unwrap(), format!("0-{}", chunk - 1));
    // The next chunk is on its way when the server is killed, and so are the ones of an upload that nobody goes on with.
    let other = server.begin();
    let mut streams = Vec::new();
    for path in [&at, &other] {
        let mut stream = TcpStream::connect(&server.authority).unwrap();
        write!(stream, "PATCH {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n100000\r\n").unwrap();
        stream.write_all(&content[chunk..chunk + (900 << 10)]).unwrap();
        streams.push(stream);
    }
    let grown = |path: &PathBuf| fs::metadata(path).is_ok_and(|metadata| metadata.len() > 500 << 10);
    assert!(wait_until(LIMIT, || files(&place).iter().filter(|path| grown(path)).count() == 2), "nothing came");
    drop(server);

    let server = Server::start(&place);
    let range = server.ask("GET", &at, b"").unwrap();
    let offset: usize = range.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
    assert!((chunk..=chunk + (900 << 10)).contains(&offset), "{range}");
    // It is its repository's alone, also after that.
    server.ask("GET", &other.replace("/app/", "/elsewhere/"), b"").unwrap_err();
    server.ask("PATCH", &at, &content[offset..offset + 7]).unwrap();
    let put = format!("{at}?digest={digest}");
    request(&server.authority, "PUT", &put, "", &content[offset + 7..]).unwrap().expect(201).unwrap();
    assert_eq!(fs::read(place.tree().join(format!("v2/app/blobs/{digest}"))).unwrap(), content);
    server.ask("GET", &at, b"").unwrap_err();
    // What is there of the other one can't become what it isn't.
    let wrong = format!("{other}?digest={digest}");
    request(&server.authority, "PUT", &wrong, "", b"").unwrap().expect(400).unwrap();
    assert_eq!(files(&place), [] as [PathBuf; 0]);
    place.run(&["verify"]).ok();
}

#[test]
fn what_a_dead_server_left_gives_its_space_back() {
    let place = Place::new();
    let leave = || {
        let server = Server::start(&place);
        let at = server.begin();
        server.ask("PATCH", &at, b"content").unwrap();
        let files = files(&place);
        assert_eq!(files.len(), 2, "{files:?}");
        at
    };
    let age = || {
        for path in files(&place).into_iter().filter(|path| path.is_file()) {
            let file = fs::File::open(path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
        }
    };
    // Young, it is nobody's to remove.
    leave();
    place.run(&["prune", "--older-than", "0"]).ok();
    assert_eq!(files(&place).len(), 2);
    age();
    let pruned = place.run(&["prune", "--older-than", "0"]).ok();
    assert_eq!(files(&place), [] as [PathBuf; 0], "{pruned}");
    // The next server doesn't go on with it, and does what no prune had done.
    let at = leave();
    age();
    let server = Server::start(&place);
    server.ask("GET", &at, b"").unwrap_err();
    assert!(wait_until(LIMIT, || files(&place).is_empty()), "{:?}", files(&place));
}

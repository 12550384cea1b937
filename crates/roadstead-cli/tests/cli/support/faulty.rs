//! A service for buckets that fails as it is told, and else does what a real one does.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use roadstead::testing::{FaultServer, Reply, Seen};
use roadstead_parts::Buckets;
use tokio::runtime::Runtime;

/// It ends when it is dropped.
pub(crate) struct Faulty {
    server: FaultServer,
    _runtime: Runtime,
}

impl Faulty {
    /// Stands in front of real buckets; what `fault` has no answer to goes there.
    pub(crate) fn start(buckets: &Buckets, fault: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        let real = buckets.url().trim_start_matches("http://").to_owned();
        let script = move |seen: &Seen| fault(seen).unwrap_or_else(|| forward(&real, seen));
        Self { server: runtime.block_on(FaultServer::start(script)), _runtime: runtime }
    }

    /// The service's URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.authority())
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.server.requests()
    }
}

/// What a service says that refuses.
pub(crate) fn refusal(status: u16, code: &str) -> Reply {
    Reply::status(status).body(format!("<Error><Code>{code}</Code><Message>no.</Message></Error>"))
}

/// The real answer. The host's name goes along, since it is signed.
fn forward(real: &str, seen: &Seen) -> Reply {
    let mut connection = TcpStream::connect(real).unwrap();
    let mut request = format!("{} {} HTTP/1.1\r\n", seen.method, seen.target).into_bytes();
    for (name, value) in seen.headers.iter().filter(|(name, _)| *name != "connection") {
        request.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    request.extend_from_slice(b"connection: close\r\n\r\n");
    request.extend_from_slice(&seen.body);
    connection.write_all(&request).unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut reply = Reply::status(status).body(answer[end + 4..].to_vec());
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            "connection" => {}
            "content-length" => reply = reply.claiming(value.parse().unwrap()),
            name => reply = reply.header(name, value),
        }
    }
    reply
}

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::{Folder, Invocation, Isolation, Port, Served, part};

/// fake-gcs-server, which speaks Google Cloud Storage's APIs, with buckets in memory. It asks nobody who they are.
#[derive(Debug)]
pub struct FakeGcs {
    _served: Served,
    port: Port,
}

impl FakeGcs {
    /// Starts it with an empty bucket for each name.
    ///
    /// # Panics
    ///
    /// When it does not start, or makes no buckets; the message has its log.
    pub fn start(buckets: &[&str]) -> Self {
        let (folder, port) = (Folder::new(), Port::free());
        let address = port.address().to_string();
        let number = port.number().to_string();
        let invocation = Invocation::new(part::built("bin/fake-gcs-server"))
            .args(["-scheme", "http", "-host", "127.0.0.1", "-port", &number, "-public-host", &address])
            .args(["-backend", "memory", "-log-level", "warn"]);
        let served = Served::start(&invocation, Isolation::None, folder, || port.answers());
        let server = Self { _served: served, port };
        for bucket in buckets {
            server.create(bucket);
        }
        server
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    fn create(&self, bucket: &str) {
        let address = self.port.address();
        let mut stream = TcpStream::connect(address).expect("it answers");
        let body = format!("{{\"name\":\"{bucket}\"}}");
        write!(
            stream,
            "POST /storage/v1/b?project=test HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200 "), "no bucket: {answer}");
    }
}

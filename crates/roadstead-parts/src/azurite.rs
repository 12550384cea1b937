use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::{Folder, Invocation, Isolation, Port, Served, part};

/// Azurite, Microsoft's emulator of Azure Blob Storage, with containers of one account. From npm; it needs Node.
#[derive(Debug)]
pub struct Azurite {
    _served: Served,
    port: Port,
}

impl Azurite {
    /// The account.
    pub const ACCOUNT: &'static str = "roadsteadtest";
    /// Its key.
    pub const KEY: &'static str = "cm9hZHN0ZWFkIHRlc3RzLCBub2JvZHkncyBzZWNyZXQ=";
    /// A shared access signature that the key made, for everything and for as long as anybody may run this.
    pub const SIGNATURE: &'static str = "sv=2021-12-02&ss=b&srt=sco&sp=rwdlac&se=2120-01-01T00%3A00%3A00Z&spr=https,http&sig=c0Y9L3GVcUZWkWcE6%2FIcchfITrzXQewm3qMu%2FDrszvM%3D";

    /// Starts it with an empty container for each name.
    ///
    /// # Panics
    ///
    /// When it does not start, or makes no containers; the message has its log.
    pub fn start(containers: &[&str]) -> Self {
        let (folder, port) = (Folder::new(), Port::free());
        let invocation = Invocation::new(part::built("npm/azurite/node_modules/.bin/azurite-blob"))
            .env("AZURITE_ACCOUNTS", format!("{}:{}", Self::ACCOUNT, Self::KEY))
            .env("HOME", folder.path())
            .args(["--blobHost", "127.0.0.1", "--blobPort", &port.number().to_string()])
            .args(["--disableTelemetry", "--location"])
            .arg(folder.join("data"));
        let served = Served::start(&invocation, Isolation::None, folder, || port.answers());
        let azurite = Self { _served: served, port };
        for container in containers {
            azurite.create(container);
        }
        azurite
    }

    /// The URL of the account, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}/{}", self.port.address(), Self::ACCOUNT)
    }

    /// Makes another container, whose blobs anybody may read who knows their names.
    ///
    /// # Panics
    ///
    /// When it can't be made.
    pub fn create_public(&self, container: &str) {
        self.request(container, "x-ms-blob-public-access: blob\r\n");
    }

    fn create(&self, container: &str) {
        self.request(container, "");
    }

    fn request(&self, container: &str, header: &str) {
        let address = self.port.address();
        let mut stream = TcpStream::connect(address).expect("it answers");
        let (account, signature) = (Self::ACCOUNT, Self::SIGNATURE);
        write!(
            stream,
            "PUT /{account}/{container}?restype=container&{signature} HTTP/1.1\r\nHost: {address}\r\n\
             x-ms-version: 2021-12-02\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 201 "), "no container: {answer}");
    }
}

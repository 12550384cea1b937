//! A client that sends exactly what it is told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use roadstead::server::Place;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Where a server listens.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    /// No port that another test could take in between.
    Unix(PathBuf),
    /// By TLS, as whoever has this configuration.
    Tls(SocketAddr, Arc<ClientConfig>),
}

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Address {
    /// Where a server says that it listens.
    pub(crate) fn of(place: &Place) -> Self {
        match place {
            Place::Tcp(address) => Self::Tcp(*address),
            Place::Unix(path) => Self::Unix(path.clone().expect("a socket with a path")),
        }
    }

    pub(crate) fn tcp(&self) -> SocketAddr {
        match self {
            Self::Tcp(address) | Self::Tls(address, _) => *address,
            Self::Unix(path) => panic!("{} is no port", path.display()),
        }
    }

    pub(crate) fn try_connect(&self) -> std::io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
            Self::Tls(address, config) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                let name = ServerName::from(address.ip());
                let connection = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
                Ok(Box::new(StreamOwned::new(connection, stream)))
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
        }
    }

    pub(crate) fn connect(&self) -> Box<dyn Stream> {
        self.try_connect().unwrap_or_else(|e| panic!("{self:?}: {e}"))
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// With lower-case names, in the order in which they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// All values of a header, joined as HTTP does; `None` if there is none.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends a request and reads its answer.
pub(crate) fn exchange(address: &Address, request: &str) -> Answer {
    let mut stream = address.connect();
    stream.write_all(request.as_bytes()).unwrap_or_else(|e| panic!("{request:?}: {e}"));
    read(&mut *stream, request.starts_with("HEAD")).unwrap_or_else(|e| panic!("{request:?} to {address:?}: {e}"))
}

pub(crate) fn get(address: &Address, path: &str) -> Answer {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n"))
}

/// Reads one answer, byte by byte up to its body, so that nothing of the next is lost.
pub(crate) fn read(stream: &mut dyn Stream, head_only: bool) -> std::io::Result<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("a head is text");
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{first:?}"));
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: Vec::new() };
    if head_only || status == 304 || status == 204 {
        return Ok(answer);
    }
    if let Some(length) = answer.header("content-length") {
        answer.body = vec![0; length.parse().expect("a length is a number")];
        stream.read_exact(&mut answer.body)?;
    } else if answer.header("transfer-encoding").is_some() {
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                line.push(byte[0]);
            }
            let length =
                usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).expect("a chunk has a length");
            let mut chunk = vec![0; length + 2];
            stream.read_exact(&mut chunk)?;
            answer.body.extend_from_slice(&chunk[..length]);
            if length == 0 {
                break;
            }
        }
    } else {
        stream.read_to_end(&mut answer.body)?;
    }
    Ok(answer)
}

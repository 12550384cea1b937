//! A server that takes every push and keeps nothing: what a push costs its client.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// It ends with the process; nobody asks it after its measurement.
pub(super) struct Discard {
    address: SocketAddr,
}

impl Discard {
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is no concern of anybody's.
                std::thread::spawn(move || drop(answer(stream)));
            }
        });
        Ok(Self { address })
    }

    pub(super) fn authority(&self) -> String {
        self.address.to_string()
    }
}

fn answer(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(256 << 10, stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        let (mut length, mut chunked, mut waits) = (0, false, false);
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let header = line.trim_end().to_ascii_lowercase();
            match header.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().map_err(io::Error::other)?,
                Some(("transfer-encoding", value)) => chunked = value == "chunked",
                Some(("expect", _)) => waits = true,
                Some(_) => {}
                None => break,
            }
        }
        if waits {
            stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if chunked {
            skip_chunks(&mut stream)?;
        } else {
            io::copy(&mut stream.by_ref().take(length), &mut io::sink())?;
        }
        let (status, headers) = match (method.as_str(), path.contains("/blobs/uploads/")) {
            ("POST" | "PATCH", true) => ("202 Accepted", "Location: /v2/a/blobs/uploads/1\r\nRange: 0-0\r\n"),
            ("PUT", _) => ("201 Created", "Location: /v2/a\r\n"),
            ("GET", _) if path == "/v2/" => ("200 OK", ""),
            _ => ("404 Not Found", ""),
        };
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\n\r\n");
        stream.get_mut().write_all(head.as_bytes())?;
    }
}

fn skip_chunks(stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        // A line break follows.
        io::copy(&mut stream.by_ref().take(size + 2), &mut io::sink())?;
        if size == 0 {
            return Ok(());
        }
    }
}

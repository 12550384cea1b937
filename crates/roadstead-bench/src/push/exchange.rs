//! The few requests that no client makes the way a measurement needs them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};

const OCTETS: &str = "Content-Type: application/octet-stream\r\n";

/// An image to be pushed.
pub(super) struct Image {
    pub(super) tag: String,
    pub(super) media_type: String,
    pub(super) manifest: Vec<u8>,
    /// By their digests, the config among them.
    pub(super) blobs: Vec<(String, Vec<u8>)>,
}

/// A connection to a server.
pub(super) struct Exchange {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

struct Answer {
    status: u16,
    location: Option<String>,
}

impl Exchange {
    pub(super) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream: BufReader::new(stream), address })
    }

    /// Names a manifest.
    pub(super) fn put_manifest(
        &mut self,
        repository: &str,
        tag: &str,
        media_type: &str,
        manifest: &[u8],
    ) -> anyhow::Result<()> {
        let media_type = format!("Content-Type: {media_type}\r\n");
        self.begin("PUT", &format!("/v2/{repository}/manifests/{tag}"), &media_type, manifest.len())?;
        self.stream.get_mut().write_all(manifest)?;
        let answer = self.answer()?;
        if answer.status != 201 {
            bail!("a new tag was answered with {}", answer.status);
        }
        Ok(())
    }

    /// Pushes an image as clients do: what the server hasn't, and then the manifest.
    pub(super) fn push(&mut self, repository: &str, image: &Image) -> anyhow::Result<()> {
        for (digest, bytes) in &image.blobs {
            self.begin("HEAD", &format!("/v2/{repository}/blobs/{digest}"), "", 0)?;
            if self.head()?.0.status == 200 {
                continue;
            }
            let path = self.upload(repository)?;
            let join = if path.contains('?') { '&' } else { '?' };
            self.begin("PUT", &format!("{path}{join}digest={digest}"), OCTETS, bytes.len())?;
            self.stream.get_mut().write_all(bytes)?;
            let answer = self.answer()?;
            if answer.status != 201 {
                bail!("a blob was answered with {}", answer.status);
            }
        }
        self.put_manifest(repository, &image.tag, &image.media_type, &image.manifest)
    }

    /// Begins an upload of so many bytes and sends none of them.
    fn begin_upload(&mut self, repository: &str, size: usize) -> anyhow::Result<()> {
        let path = self.upload(repository)?;
        self.begin("PATCH", &path, OCTETS, size)
    }

    /// Asks where an upload goes.
    fn upload(&mut self, repository: &str) -> anyhow::Result<String> {
        self.begin("POST", &format!("/v2/{repository}/blobs/uploads/"), "", 0)?;
        let answer = self.answer()?;
        let location = answer.location.filter(|_| answer.status == 202);
        let location = location.with_context(|| format!("an upload was answered with {}", answer.status))?;
        Ok(location.strip_prefix(&format!("http://{}", self.address)).unwrap_or(&location).to_owned())
    }

    fn begin(&mut self, method: &str, path: &str, headers: &str, length: usize) -> anyhow::Result<()> {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {length}\r\n\r\n", self.address);
        Ok(self.stream.get_mut().write_all(head.as_bytes())?)
    }

    fn answer(&mut self) -> anyhow::Result<Answer> {
        let (answer, length) = self.head()?;
        std::io::copy(&mut self.stream.by_ref().take(length), &mut std::io::sink())?;
        Ok(answer)
    }

    /// An answer as far as its body, and how long that is, if it is sent.
    fn head(&mut self) -> anyhow::Result<(Answer, u64)> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("the server answered {line:?}"))?;
        let (mut location, mut length) = (None, 0);
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("location") => location = Some(value.to_owned()),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse()?,
                Some(_) => {}
                None => break,
            }
        }
        Ok((Answer { status, location }, length))
    }
}

/// Uploads that hardly move: each gets a few bytes now and then.
pub(super) struct Slow {
    /// Nothing comes this way; the other end hears when it is gone.
    alive: mpsc::Sender<()>,
    thread: JoinHandle<anyhow::Result<usize>>,
}

impl Slow {
    pub(super) fn start(address: SocketAddr, repository: &str, count: usize) -> anyhow::Result<Self> {
        let mut uploads = Vec::with_capacity(count);
        for _ in 0..count {
            let mut exchange = Exchange::open(address)?;
            exchange.begin_upload(repository, 1 << 30)?;
            uploads.push(exchange);
        }
        let (alive, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            for number in (0..count).cycle() {
                uploads[number].stream.get_mut().write_all(&[0; 4096]).context("a slow upload was cut")?;
                if ended.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Disconnected) {
                    break;
                }
            }
            Ok(count)
        });
        Ok(Self { alive, thread })
    }

    /// Cuts them, and says how many there were until then.
    pub(super) fn end(self) -> anyhow::Result<usize> {
        drop(self.alive);
        self.thread.join().map_err(|_| anyhow::anyhow!("the thread of the slow uploads panicked"))?
    }
}

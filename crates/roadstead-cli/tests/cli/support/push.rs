//! A push as the specification writes it, without any client's opinion on what an image may be.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use roadstead::testing::Image;

/// Puts an image into a registry on loopback. The last manifest gets the tag.
///
/// # Errors
///
/// What the registry said when it refused, or that it is gone.
pub(crate) fn push(authority: &str, repository: &str, tag: &str, image: &Image) -> Result<(), String> {
    for (digest, bytes) in &image.blobs {
        let begun = request(authority, "POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"")?;
        let location = begun.expect(202)?.header("location").expect("an upload has a location");
        let location = location.split_once(authority).map_or(location.as_str(), |(_, path)| path).to_owned();
        let separator = if location.contains('?') { '&' } else { '?' };
        let put = format!("{location}{separator}digest={digest}");
        request(authority, "PUT", &put, "application/octet-stream", bytes)?.expect(201)?;
    }
    for manifest in image.manifests() {
        let reference =
            if *manifest.digest() == image.digest() { tag.to_owned() } else { manifest.digest().to_string() };
        let path = format!("/v2/{repository}/manifests/{reference}");
        let put = request(authority, "PUT", &path, manifest.media_type().as_str(), manifest.bytes())?.expect(201)?;
        if put.header("docker-content-digest") != Some(manifest.digest().to_string()) {
            return Err(format!("{} became {:?}", manifest.digest(), put.header("docker-content-digest")));
        }
    }
    Ok(())
}

/// What a registry answers.
pub(crate) struct Answer {
    request: String,
    status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The answer itself, if that is its status.
    ///
    /// # Errors
    ///
    /// The request and what came back.
    pub(crate) fn expect(self, status: u16) -> Result<Self, String> {
        if self.status == status { Ok(self) } else { Err(format!("{}: {} {}", self.request, self.status, self.body)) }
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    }
}

/// Makes one request on a connection of its own.
///
/// # Errors
///
/// If the connection broke before an answer came.
pub(crate) fn request(
    authority: &str,
    method: &str,
    path: &str,
    content_type: &str,
    body: &[u8],
) -> Result<Answer, String> {
    let length = body.len();
    let typed = if content_type.is_empty() { String::new() } else { format!("Content-Type: {content_type}\r\n") };
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n{typed}Content-Length: {length}\r\n\r\n"
    );
    let exchange = || {
        let mut stream = TcpStream::connect(authority)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    let request = format!("{method} {path}");
    let answer = String::from_utf8(exchange().map_err(|e| format!("{request}: {e}"))?).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok(Answer { request, status, head: head.to_owned(), body: body.to_owned() })
}

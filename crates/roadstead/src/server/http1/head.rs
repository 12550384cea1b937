//! What the bytes are with which a client begins.

/// What the bytes read so far are.
pub(super) enum Head {
    /// A request: its length, and whether the client keeps the connection.
    Plain { length: usize, keep: bool },
    /// The beginning of one.
    Partial,
    /// For the other transport.
    Other,
    /// Not HTTP, or not in a form that may be guessed about.
    Bad,
}

/// Whether a request asks for the state of an upload.
pub(super) fn is_upload(request: &httparse::Request<'_, '_>) -> bool {
    request.method == Some("GET") && request.path.is_some_and(|path| path.contains("/blobs/uploads/"))
}

/// Whether a request is one that this transport answers.
pub(super) fn classify(request: &httparse::Request<'_, '_>, length: usize) -> Head {
    // Two lengths are what requests are smuggled with: nobody may have to agree which one counts.
    let has = |name: &str| request.headers.iter().any(|line| line.name.eq_ignore_ascii_case(name));
    if has("content-length") && has("transfer-encoding") {
        return Head::Bad;
    }
    let plain = request.version == Some(1)
        && matches!(request.method, Some("GET" | "HEAD"))
        && request.path.is_some_and(|path| path.starts_with('/'));
    if !plain {
        return Head::Other;
    }
    let (mut hosts, mut keep) = (0, true);
    for line in request.headers.iter() {
        let name = line.name;
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is("host") => hosts += 1,
            10 if is("connection") => {
                if line.value.eq_ignore_ascii_case(b"close") {
                    keep = false;
                } else if !line.value.eq_ignore_ascii_case(b"keep-alive") {
                    return Head::Other;
                }
            }
            // Whatever announces content, or another way for the connection to go on.
            14 if is("content-length") => return Head::Other,
            17 if is("transfer-encoding") => return Head::Other,
            2 | 6 | 7 | 14 if is("te") || is("expect") || is("upgrade") || is("http2-settings") => return Head::Other,
            _ => {}
        }
    }
    if hosts == 1 { Head::Plain { length, keep } } else { Head::Bad }
}

#[cfg(test)]
mod tests {
    use super::super::super::MAX_HEADERS;
    use super::*;

    fn head(text: &str) -> &'static str {
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut lines);
        let length = parsed.parse(text.as_bytes()).unwrap().unwrap();
        match classify(&parsed, length) {
            Head::Plain { keep: true, .. } => "plain",
            Head::Plain { keep: false, .. } => "last",
            Head::Other => "other",
            Head::Bad => "bad",
            Head::Partial => "partial",
        }
    }

    #[test]
    fn only_what_is_harmless_is_answered_here() {
        for (rest, expected) in [
            ("Host: a\r\n\r\n", "plain"),
            ("host: a\r\nAccept: x\r\nAccept: y\r\nAuthorization: z\r\n\r\n", "plain"),
            ("Host: a\r\nConnection: Keep-Alive\r\n\r\n", "plain"),
            ("Host: a\r\nConnection: close\r\n\r\n", "last"),
            ("Host: a\r\nConnection: close, x\r\n\r\n", "other"),
            ("Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n", "other"),
            ("Host: a\r\nContent-Length: 0\r\n\r\n", "other"),
            ("Host: a\r\ncontent-length: 4\r\nContent-Length: 5\r\n\r\n", "other"),
            ("Host: a\r\nTransfer-Encoding: chunked\r\n\r\n", "other"),
            ("Host: a\r\nExpect: 100-continue\r\n\r\n", "other"),
            ("Host: a\r\nUpgrade: websocket\r\n\r\n", "other"),
            ("Host: a\r\nTE: trailers\r\n\r\n", "other"),
            ("Host: a\r\nHost: a\r\n\r\n", "bad"),
            ("\r\n", "bad"),
        ] {
            assert_eq!(head(&format!("GET /v2/ HTTP/1.1\r\n{rest}")), expected, "{rest:?}");
        }
        for (line, expected) in [
            ("HEAD /v2/ HTTP/1.1", "plain"),
            ("GET /v2/ HTTP/1.0", "other"),
            ("POST /v2/ HTTP/1.1", "other"),
            ("get /v2/ HTTP/1.1", "other"),
            ("GET http://a/v2/ HTTP/1.1", "other"),
            ("OPTIONS * HTTP/1.1", "other"),
        ] {
            assert_eq!(head(&format!("{line}\r\nHost: a\r\n\r\n")), expected, "{line}");
        }
    }
}

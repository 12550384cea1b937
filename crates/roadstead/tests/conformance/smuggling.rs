//! Requests over whose end two servers could disagree, each followed by one that must never be answered.

use crate::support::Registry;

#[test]
fn nothing_is_smuggled_in_a_request() {
    let smuggled = "GET /v2/smuggled/tags/list HTTP/1.1\r\nhost: a\r\n\r\n";
    let cases = [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "content-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
        "content-length: +0\r\n\r\n",
        "content-length: 0x0\r\n\r\n",
        "content-length: -1\r\n\r\n",
        "content-length : 0\r\n\r\n",
        "transfer-encoding: identity\r\n\r\n",
        "transfer-encoding: chunked, identity\r\n\r\n",
        "transfer-encoding: xchunked\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\nzz\r\n",
        "transfer-encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n",
        "transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n3 3\r\nabc\r\n0\r\n\r\n",
        "x: y\r\n transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n",
        // Twice, in other words, with what some trim and others don't.
        "content-length: 0\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "content-length: 4\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
        "content-length: 4\r\ntransfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n",
        "content-length: 4\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "content-length: 4\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "content-length: 4\r\ntransfer-encoding:\0chunked\r\n\r\n0\r\n\r\n",
        "content-length: 4\r\ntransfer_encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "content-length: 4, 5\r\n\r\nabcd",
        "content-length: 0, 0\r\n\r\n",
        "content-length: 4 4\r\n\r\nabcd",
        "content-length: 18446744073709551616\r\n\r\n",
        "content-length: \r\n\r\n",
        "content-length\r\n\r\n",
        "content-length: 1\rcontent-length: 0\r\n\r\n",
        // Lines that end otherwise, and chunks whose length or end is a matter of opinion.
        "content-length: 4\ntransfer-encoding: chunked\n\n0\n\n",
        "x: y\rtransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n0x0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n+0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n 0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n0;a=\n\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n10000000000000000\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n3\r\nabc0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 4\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n0\r\n x: y\r\n\r\n",
        "host: b\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "expect: 100-continue\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "connection: content-length\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for registry in Registry::each() {
        for case in cases {
            for first in ["", "POST /v2/app/blobs/uploads/ HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"] {
                for line in [
                    "POST /v2/app/blobs/uploads/ HTTP/1.1",
                    "POST /v2/app/blobs/uploads/ HTTP/1.0",
                    "GET /v2/ HTTP/1.1",
                    "DELETE /v2/app/manifests/1 HTTP/1.1",
                ] {
                    let request = format!("{first}{line}\r\nhost: a\r\n{case}{smuggled}");
                    let answers = registry.raw(request.as_bytes());
                    let passed = answers.contains("repository name not known");
                    assert!(!passed, "{}: {line}: {case:?}: {answers}", registry.name);
                }
            }
        }
    }
}

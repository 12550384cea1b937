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
    ];
    for registry in Registry::each() {
        for case in cases {
            for first in ["", "POST /v2/app/blobs/uploads/ HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"] {
                let request = format!("{first}POST /v2/app/blobs/uploads/ HTTP/1.1\r\nhost: a\r\n{case}{smuggled}");
                let answers = registry.raw(request.as_bytes());
                assert!(!answers.contains("repository name not known"), "{}: {case:?}: {answers}", registry.name);
            }
        }
    }
}

//! The access log.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

use roadstead::server::{AccessLog, LogFormat, ServeOptions};
use roadstead_parts::wait_until;

use crate::client::{PATIENCE, exchange, get, read};
use crate::fixture::{Fixture, Serving};

fn serve(fixture: &Fixture, path: &Path, format: LogFormat) -> (Serving, AccessLog) {
    let log = AccessLog::to_file(path, format).unwrap();
    let trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let options = ServeOptions { access_log: Some(log.clone()), trusted_proxies, ..ServeOptions::default() };
    (fixture.serve(options), log)
}

/// The lines of a log, once there are so many.
fn lines(path: &Path, count: usize) -> Vec<String> {
    let read = || fs::read_to_string(path).unwrap_or_default();
    assert!(wait_until(PATIENCE, || read().lines().count() >= count), "{count} lines in {}", read());
    read().lines().map(str::to_owned).collect()
}

#[test]
fn a_line_for_each_request_on_both_paths() {
    let (fixture, folder) = (Fixture::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("access.log");
    let (serving, _log) = serve(&fixture, &path, LogFormat::Combined);
    let ask = |line: &str, more: &str| {
        exchange(&serving.address, &format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n"))
    };
    let headers = "User-Agent: a \"client\"\\\r\nReferer: http://ui/?token=secret1\r\nX-Forwarded-For: 192.0.2.7\r\n\
                   Authorization: Basic c2VjcmV0Mg==\r\n";
    let manifest = ask("GET /v2/app/manifests/latest?secret3&n=1", headers).body.len();
    ask("HEAD /v2/app/manifests/latest", "");
    let missing = ask("GET /v2/app/blobs/uploads/secret4?_state=secret5&digest=x", "").body.len();
    let unknown = ask("POST /v2/", "Content-Length: 0\r\n").body.len();
    let (blob, bytes) = fixture.blob();
    ask(&format!("GET /v2/app/blobs/{blob}"), "Content-Length: 0\r\n");
    let lines = lines(&path, 5);
    let rest = |index: usize| {
        let (before, rest) = lines[index].split_once(" [").unwrap();
        let (time, rest) = rest.split_once("] ").unwrap();
        assert!(time.len() == "26/Nov/2026:08:00:00 +0000".len() && time.ends_with(" +0000"), "{time}");
        (before.to_owned(), rest.to_owned())
    };
    for (index, client, expected) in [
        (
            0,
            "192.0.2.7 - -",
            format!(
                r#""GET /v2/app/manifests/latest?REDACTED&n=1 HTTP/1.1" 200 {manifest} "http://ui/" "a \x22client\x22\x5C""#
            ),
        ),
        (1, "127.0.0.1 - -", r#""HEAD /v2/app/manifests/latest HTTP/1.1" 200 0 "-" "-""#.to_owned()),
        (
            2,
            "127.0.0.1 - -",
            format!(r#""GET /v2/app/blobs/uploads/REDACTED?REDACTED&digest=x HTTP/1.1" 404 {missing} "-" "-""#),
        ),
        (3, "127.0.0.1 - -", format!(r#""POST /v2/ HTTP/1.1" 405 {unknown} "-" "-""#)),
        (4, "127.0.0.1 - -", format!(r#""GET /v2/app/blobs/{blob} HTTP/1.1" 200 {} "-" "-""#, bytes.len())),
    ] {
        assert_eq!(rest(index), (client.to_owned(), expected));
    }
    let all = fs::read_to_string(&path).unwrap();
    assert!(!all.contains("secret") && !all.contains("c2VjcmV0"), "{all}");
}

#[test]
fn a_transfer_that_was_cut_shows() {
    let (fixture, folder) = (Fixture::new(), tempfile::tempdir().unwrap());
    let large = roadstead::testing::ImageBuilder::new().blob("application/octet-stream", vec![7; 32 << 20]).build();
    fixture.add("large", &["1"], &large);
    let blob = large.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let path = folder.path().join("access.log");
    let (serving, _log) = serve(&fixture, &path, LogFormat::Json);
    // By our own path, then by the other.
    for more in ["", "Content-Length: 0\r\n"] {
        let mut cut = serving.address.connect();
        let request = format!("GET /v2/large/blobs/{} HTTP/1.1\r\nHost: a\r\n{more}\r\n", blob.0);
        cut.write_all(request.as_bytes()).unwrap();
        cut.read_exact(&mut [0; 15]).unwrap();
        drop(cut);
        let mut whole = serving.address.connect();
        whole.write_all(request.as_bytes()).unwrap();
        assert_eq!(read(&mut *whole, false).unwrap().body.len(), blob.1.len());
    }
    let mut outcomes: Vec<(bool, bool)> = lines(&path, 4)
        .iter()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!((&line["status"], &line["client"]), (&200.into(), &"127.0.0.1".into()), "{line}");
            assert!(line["seconds"].as_f64().unwrap() >= 0.0 && line["protocol"] == "HTTP/1.1", "{line}");
            (line["complete"].as_bool().unwrap(), line["bytes"].as_u64().unwrap() == blob.1.len() as u64)
        })
        .collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, [(false, false), (false, false), (true, true), (true, true)]);
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew() {
    let (fixture, folder) = (Fixture::new(), tempfile::tempdir().unwrap());
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let (serving, log) = serve(&fixture, &path, LogFormat::Combined);
    get(&serving.address, "/v2/");
    lines(&path, 1);
    fs::rename(&path, &moved).unwrap();
    get(&serving.address, "/v2/app/tags/list");
    assert!(lines(&moved, 2)[1].contains("/v2/app/tags/list"));
    log.reopen();
    get(&serving.address, "/v2/_catalog");
    assert!(lines(&path, 1)[0].contains("/v2/_catalog"));
    assert_eq!(lines(&moved, 2).len(), 2);
    // What was answered before a stop is in the file when the server has ended.
    get(&serving.address, "/v2/last/tags/list");
    serving.stop.send(()).unwrap();
    fixture.runtime.block_on(serving.running).unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains("/v2/last/tags/list"));
}

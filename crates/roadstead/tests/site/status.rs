//! What the server tells of itself.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use roadstead::server::{PushOptions, ServeOptions, Server};
use tokio::sync::oneshot;

use crate::client::{Address, Answer, exchange, get};
use crate::fixture::Fixture;

/// The value of a metric.
fn value(metrics: &Answer, name: &str) -> u64 {
    let text = metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[test]
fn a_server_tells_of_itself_until_its_end() {
    let fixture = Fixture::new();
    let large = roadstead::testing::ImageBuilder::new().blob("application/octet-stream", vec![7; 32 << 20]).build();
    fixture.add("large", &["1"], &large);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = ServeOptions {
        listen: vec![any.into()],
        status: Some(any),
        push: Some(PushOptions::default()),
        ..ServeOptions::default()
    };
    let server = fixture.runtime.block_on(Server::bind(fixture.tree.clone(), options)).unwrap();
    let (address, status) = (Address::Tcp(server.local_addr().unwrap()), Address::Tcp(server.status_addr().unwrap()));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = fixture.runtime.spawn(server.run(async {
        let _ = stopped.await;
    }));
    let ask = |path: &str| get(&status, path);

    assert_eq!((ask("/healthz").status, ask("/readyz").status, ask("/").status), (200, 200, 404));
    let posted = exchange(&status, "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(posted.status, 405);
    // Neither side knows the other one's paths.
    assert_eq!((get(&address, "/healthz").status, get(&address, "/metrics").status), (404, 404));
    assert_eq!(ask("/v2/").status, 404);

    let list = get(&address, "/v2/large/tags/list");
    exchange(&address, "HEAD /v2/large/tags/list HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let begin = "POST /v2/large/blobs/uploads/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(exchange(&address, begin).status, 202);
    exchange(&address, "BREW /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let metrics = ask("/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert_eq!(value(&metrics, r#"roadstead_requests_total{method="GET",code="200"}"#), 1);
    assert_eq!(value(&metrics, r#"roadstead_requests_total{method="HEAD",code="200"}"#), 1);
    assert_eq!(value(&metrics, r#"roadstead_requests_total{method="POST",code="202"}"#), 1);
    assert_eq!(value(&metrics, r#"roadstead_requests_total{method="GET",code="404"}"#), 2);
    assert_eq!(value(&metrics, r#"roadstead_requests_total{method="other",code="405"}"#), 1);
    assert!(value(&metrics, "roadstead_response_bytes_total") > list.body.len() as u64);
    assert_eq!((value(&metrics, "roadstead_uploads"), value(&metrics, "roadstead_pushes")), (1, 0));

    // A transfer that runs while the server stops: it goes on, and nobody else is to come.
    let blob = large.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let mut transfer = address.connect();
    transfer.write_all(format!("GET /v2/large/blobs/{} HTTP/1.1\r\nHost: a\r\n\r\n", blob.0).as_bytes()).unwrap();
    transfer.read_exact(&mut [0; 15]).unwrap();
    assert!(value(&ask("/metrics"), "roadstead_connections") >= 1);
    stop.send(()).unwrap();
    assert!(roadstead_parts::wait_until(crate::client::PATIENCE, || ask("/readyz").status == 503), "still ready");
    assert_eq!(ask("/healthz").status, 200);
    let mut rest = Vec::new();
    transfer.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > blob.1.len());
    fixture.runtime.block_on(running).unwrap();
    assert!(status.try_connect().is_err());
}

#[test]
fn a_tree_that_can_not_be_read_is_not_ready() {
    let fixture = Fixture::new();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = ServeOptions { listen: vec![any.into()], status: Some(any), ..ServeOptions::default() };
    let server = fixture.runtime.block_on(Server::bind(fixture.tree.clone(), options)).unwrap();
    let status = Address::Tcp(server.status_addr().unwrap());
    let running = fixture.runtime.spawn(server.run(std::future::pending()));
    assert_eq!(get(&status, "/readyz").status, 200);
    // A link that leads out of the tree, where its catalogue was.
    let catalog = fixture.folder.path().join("v2/_catalog");
    std::fs::remove_file(&catalog).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &catalog).unwrap();
    assert_eq!((get(&status, "/readyz").status, get(&status, "/healthz").status), (503, 200));
    running.abort();
}

//! Where the server listens: at several places, at Unix sockets, and at sockets that it was handed.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use roadstead::server::{Listen, ServeOptions};

use crate::cases::cases;
use crate::client::{get, read};
use crate::conformance::{ask, run};
use crate::fixture::{Fixture, serve_there};

#[test]
fn at_several_places_and_until_the_stop() {
    let (fixture, folder) = (Fixture::new(), tempfile::tempdir().unwrap());
    let (own, passed) = (folder.path().join("own"), folder.path().join("passed"));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listen = vec![
        Listen::Unix { path: own.clone(), mode: 0o600 },
        any.into(),
        Listen::OpenTcp(TcpListener::bind(any).unwrap()),
        Listen::OpenUnix(UnixListener::bind(&passed).unwrap()),
    ];
    let options = ServeOptions { listen, ..ServeOptions::default() };
    let serving = serve_there(&fixture.runtime, fixture.tree.clone(), options);
    assert_eq!(std::fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o600);
    run("serve, by a Unix socket", &cases(&fixture), |case| ask(&serving.address, case, ""));
    assert_eq!(serving.others.len(), 3);
    for address in &serving.others {
        assert_eq!(get(address, "/v2/app/manifests/latest").status, 200, "{address:?}");
    }
    // An idle connection doesn't keep the server from its end.
    let mut idle = serving.address.connect();
    idle.write_all(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read(&mut *idle, false).unwrap().status, 200);
    serving.stop.send(()).unwrap();
    fixture.runtime.block_on(serving.running).unwrap();
    assert!(!own.exists(), "its own socket is left over");
    assert!(passed.exists(), "what it was handed is another's to remove");
}

//! The server by TLS.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use roadstead::server::{Limits, ServeOptions, Server, TlsFiles};
use roadstead_parts::wait_until;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::cases::cases;
use crate::client::{Address, Answer, PATIENCE, exchange, get, read};
use crate::conformance::{ask, run};
use crate::fixture::{Fixture, Serving};

/// An authority, and what it has signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Puts a certificate for the loopback address, and its key, into a folder.
    fn certify(&self, folder: &Path) -> TlsFiles {
        let (certificate, key) = self.sign("127.0.0.1");
        let files =
            TlsFiles { certificate: folder.join("server.crt"), key: folder.join("server.key"), client_ca: None };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// A client that trusts this authority, and shows what another has signed.
    fn client(&self, shows: Option<&Self>, protocols: &[&str]) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match shows {
            None => builder.with_no_client_auth(),
            Some(other) => {
                let (certificate, key) = other.sign("ann");
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A server with a certificate that an authority has signed.
struct Secured {
    fixture: Fixture,
    folder: tempfile::TempDir,
    authority: Authority,
    serving: Serving,
}

impl Secured {
    fn new() -> Self {
        Self::with(ServeOptions::default(), |files| files)
    }

    fn with(options: ServeOptions, change: impl FnOnce(TlsFiles) -> TlsFiles) -> Self {
        let (fixture, folder, authority) = (Fixture::new(), tempfile::tempdir().unwrap(), Authority::new());
        let tls = Some(change(authority.certify(folder.path())));
        let serving = fixture.serve(ServeOptions { tls, ..options });
        Self { fixture, folder, authority, serving }
    }

    /// Its address for a client of this configuration.
    fn by(&self, config: Arc<ClientConfig>) -> Address {
        Address::Tls(self.serving.address.tcp(), config)
    }

    fn address(&self) -> Address {
        self.by(self.authority.client(None, &[]))
    }

    /// A connection of version 2, as both sides choose it.
    fn version_2(&self) -> SendRequest<Empty<Bytes>> {
        let config = self.authority.client(None, &["h2", "http/1.1"]);
        let address = self.serving.address.tcp();
        self.fixture.runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(config);
            let stream = connector.connect(ServerName::from(address.ip()), stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender
        })
    }

    /// Adds an image with a large blob, and returns its path.
    fn add_large(&self) -> (String, Vec<u8>) {
        let large = roadstead::testing::ImageBuilder::new().blob("application/octet-stream", vec![7; 32 << 20]).build();
        self.fixture.add("large", &["1"], &large);
        let (digest, bytes) = large.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
        (format!("/v2/large/blobs/{digest}"), bytes.to_vec())
    }
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: registry\r\n\r\n")
}

#[test]
fn the_table_in_version_1() {
    let secured = Secured::new();
    let address = secured.address();
    run("serve, by TLS", &cases(&secured.fixture), |case| ask(&address, case, ""));
}

#[test]
fn the_table_in_version_2() {
    let secured = Secured::new();
    let sender = secured.version_2();
    run("serve, by TLS in version 2", &cases(&secured.fixture), |case| {
        let mut request = http::Request::builder().method(case.method).uri(format!("https://registry{}", case.path));
        for (name, value) in &case.send {
            request = request.header(*name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        secured.fixture.runtime.block_on(async {
            let (head, body) = sender.clone().send_request(request).await.unwrap().into_parts();
            let headers = head.headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
            let body = body.collect().await.unwrap().to_bytes().to_vec();
            Answer { status: head.status.as_u16(), headers, body }
        })
    });
}

#[test]
fn a_certificate_is_replaced_while_a_pull_goes_on() {
    let secured = Secured::new();
    let (path, bytes) = secured.add_large();
    let mut pull = secured.address().connect();
    pull.write_all(request(&path).as_bytes()).unwrap();
    pull.read_exact(&mut [0; 15]).unwrap();

    let (old, next) = (secured.address(), Authority::new());
    let new = secured.by(next.client(None, &[]));
    let trusts = |address: &Address| address.connect().write_all(b"GET /v2/ HTTP/1.1\r\n").is_ok();
    assert_eq!((trusts(&old), trusts(&new)), (true, false));
    next.certify(secured.folder.path());
    assert_eq!((trusts(&old), trusts(&new)), (false, true));
    assert_eq!(get(&new, "/v2/").status, 200);

    // What is broken, or of another pair, or gone, changes nothing, until it is whole again.
    let (certificate, key) = (secured.folder.path().join("server.crt"), secured.folder.path().join("server.key"));
    let (kept, other) = (fs::read(&key).unwrap(), KeyPair::generate().unwrap().serialize_pem());
    for broken in [&b"no key"[..], b"", other.as_bytes()] {
        fs::write(&key, broken).unwrap();
        assert!(trusts(&new), "{:?}", String::from_utf8_lossy(broken));
    }
    fs::remove_file(&key).unwrap();
    assert!(trusts(&new));
    fs::write(&key, kept).unwrap();
    fs::write(&certificate, "no certificate").unwrap();
    assert!(trusts(&new));
    secured.authority.certify(secured.folder.path());
    assert_eq!((trusts(&old), trusts(&new)), (true, false));

    let mut rest = Vec::new();
    while rest.len() < bytes.len() {
        let mut piece = vec![0; 1 << 20];
        let count = pull.read(&mut piece).unwrap();
        assert!(count > 0, "the pull was cut after {} bytes", rest.len());
        rest.extend_from_slice(&piece[..count]);
    }
    assert!(rest.ends_with(&bytes[..1 << 20]));
}

#[test]
fn nobody_comes_without_a_certificate_if_one_is_asked_for() {
    let clients = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("clients.crt");
    fs::write(&ca, clients.certificate.pem()).unwrap();
    let secured = Secured::with(ServeOptions::default(), |files| TlsFiles { client_ca: Some(ca.clone()), ..files });
    let gets = |shows: Option<&Authority>| {
        let mut stream = secured.by(secured.authority.client(shows, &[])).connect();
        stream.write_all(request("/v2/").as_bytes())?;
        read(&mut *stream, false).map(|answer| answer.status)
    };
    assert_eq!(gets(Some(&clients)).unwrap(), 200);
    assert!(gets(None).unwrap_err().to_string().contains("CertificateRequired"));
    assert!(gets(Some(&secured.authority)).is_err());
    // Other authorities count as soon as they stand in the file.
    fs::write(&ca, secured.authority.certificate.pem()).unwrap();
    assert!(gets(Some(&clients)).is_err());
    assert_eq!(gets(Some(&secured.authority)).unwrap(), 200);
}

#[test]
fn whoever_comes_without_tls_is_told() {
    let secured = Secured::new();
    let answer = exchange(&Address::Tcp(secured.serving.address.tcp()), &request("/v2/"));
    assert_eq!((answer.status, answer.text()), (400, "this port speaks HTTPS.\r\n".to_owned()));
    assert_eq!(get(&secured.address(), "/v2/").status, 200);
}

#[test]
fn slow_clients_are_not_waited_for() {
    let short = Duration::from_millis(200);
    let limits = Limits { head_time: short, idle_time: short, stall_time: short, ..Limits::default() };
    let status = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let secured = Secured::with(ServeOptions { limits, status, ..ServeOptions::default() }, |files| files);
    let (path, _) = secured.add_large();
    let plain = Address::Tcp(secured.serving.address.tcp());
    let mut open = Vec::new();
    // Nothing, and the beginning of a greeting.
    for begin in [&b""[..], b"\x16\x03\x01\x02\x00"] {
        let mut stream = plain.connect();
        stream.write_all(begin).unwrap();
        open.push(stream);
    }
    // A head without an end, and a large answer that nobody takes.
    for begin in ["GET /v2/ HTTP/1.1\r\nHo", &request(&path)] {
        let mut stream = secured.address().connect();
        stream.write_all(begin.as_bytes()).unwrap();
        stream.flush().unwrap();
        open.push(stream);
    }
    let status = secured.serving.status.as_ref().unwrap();
    let none = || get(status, "/metrics").text().lines().any(|line| line == "roadstead_connections 0");
    assert!(wait_until(PATIENCE, none), "{}", get(status, "/metrics").text());
    let text = get(status, "/metrics").text();
    assert!(text.contains(r#"roadstead_requests_total{method="GET",code="200"} 1"#), "{text}");
    drop(open);
}

/// A head has to come soon, and what lies idle may do so for longer, with TLS as without.
#[test]
fn idle_connections_outlive_slow_heads() {
    let limits = Limits { head_time: Duration::from_millis(200), idle_time: 10 * PATIENCE, ..Limits::default() };
    let secured = Secured::with(ServeOptions { limits: limits.clone(), ..ServeOptions::default() }, |files| files);
    let plain = secured.fixture.serve(ServeOptions { limits, ..ServeOptions::default() });
    let addresses = [secured.address(), Address::Tcp(plain.address.tcp())];
    // The second one goes to the other transport, and stays there.
    for (address, header) in [(&addresses[0], ""), (&addresses[1], "TE: trailers\r\n"), (&addresses[1], "")] {
        let ask = format!("GET /v2/ HTTP/1.1\r\nHost: registry\r\n{header}\r\n");
        let (mut idle, mut slow) = (address.connect(), address.connect());
        for stream in [&mut idle, &mut slow] {
            stream.write_all(ask.as_bytes()).unwrap();
            assert_eq!(read(&mut **stream, false).unwrap().status, 200);
        }
        slow.write_all(&ask.as_bytes()[..20]).unwrap();
        // It ends, one way or another, later than the other one began to lie idle.
        let ended = slow.read(&mut [0]);
        let is_cut = |kind| !matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(matches!(ended, Ok(0)) || ended.is_err_and(|error| is_cut(error.kind())), "{header:?}");
        idle.write_all(ask.as_bytes()).unwrap();
        assert_eq!(read(&mut *idle, false).unwrap().status, 200, "{header:?}");
    }
}

#[test]
fn a_stop_closes_what_is_idle_and_finishes_what_runs() {
    let secured = Secured::new();
    let (path, bytes) = secured.add_large();
    let mut idle = secured.address().connect();
    idle.write_all(request("/v2/").as_bytes()).unwrap();
    assert_eq!(read(&mut *idle, false).unwrap().status, 200);
    let mut running = secured.address().connect();
    running.write_all(request(&path).as_bytes()).unwrap();
    running.read_exact(&mut [0; 15]).unwrap();
    let mut sender = secured.version_2();
    let asked = http::Request::get(format!("https://registry{path}")).body(Empty::<Bytes>::new()).unwrap();
    let runtime = &secured.fixture.runtime;
    let streaming = runtime.block_on(sender.send_request(asked)).unwrap();

    secured.serving.stop.send(()).unwrap();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "an idle connection stays open");
    let mut rest = Vec::new();
    running.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > bytes.len(), "{} bytes of {}", rest.len(), bytes.len());
    let streamed = runtime.block_on(streaming.into_body().collect()).unwrap().to_bytes();
    assert!(streamed == bytes, "{} bytes of {}", streamed.len(), bytes.len());
    runtime.block_on(secured.serving.running).unwrap();
}

#[test]
fn what_can_not_be_used_is_named_at_the_start() {
    let (fixture, folder, authority) = (Fixture::new(), tempfile::tempdir().unwrap(), Authority::new());
    let good = authority.certify(folder.path());
    let path = |name: &str| folder.path().join(name);
    fs::write(path("other.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    fs::write(path("junk"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for (files, problem) in [
        (TlsFiles { certificate: path("none"), ..good.clone() }, "none can't be read"),
        (TlsFiles { certificate: good.key.clone(), ..good.clone() }, "server.key holds no usable certificate"),
        (TlsFiles { key: good.certificate.clone(), ..good.clone() }, "server.crt holds no usable private key"),
        (TlsFiles { key: path("other.key"), ..good.clone() }, "other.key is not the key of the certificate in"),
        (TlsFiles { certificate: path("junk"), ..good.clone() }, "junk can't be used"),
        (TlsFiles { client_ca: Some(path("other.key")), ..good.clone() }, "other.key holds no usable certificate"),
        (TlsFiles { client_ca: Some(path("junk")), ..good }, "junk holds no usable certificate of an authority"),
    ] {
        let options = ServeOptions { tls: Some(files), ..ServeOptions::default() };
        let error = fixture.runtime.block_on(Server::bind(fixture.tree.clone(), options)).err().unwrap();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(problem), "{source}");
    }
}

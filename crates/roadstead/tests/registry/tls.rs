//! TLS: who is trusted, who is shown what, and that nothing leaves it.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use roadstead::http::{Client, ClientOptions, EndpointOptions, Roots, TlsOptions};
use roadstead::image::{Source, SourceError};
use roadstead::medium::registry::RegistrySource;
use roadstead::oci::Reference;
use roadstead::testing::{FaultServer, Reply, TestClock};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::chain;

/// An authority, and what it has signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let pem = certificate.pem();
        Self { issuer: Issuer::new(params, key), pem, certificate }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }
}

/// A server with TLS, which answers every request alike and remembers how many certificates each client showed.
struct TlsServer {
    authority: String,
    shown: Arc<Mutex<Vec<usize>>>,
    task: tokio::task::JoinHandle<()>,
}

impl TlsServer {
    async fn start(ca: &Authority, answer: &str) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut clients = RootCertStore::empty();
        clients.add(ca.certificate.der().clone()).expect("an authority");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider));
        let verifier = verifier.allow_unauthenticated().build().expect("a verifier");
        let (certificate, key) = ca.sign("127.0.0.1");
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .expect("a certificate and its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let authority = listener.local_addr().expect("an address").to_string();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&shown), answer.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(connection).await else {
                    continue;
                };
                let certificates = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
                log.lock().expect("no test panics with it").push(certificates);
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { authority, shown, task }
    }

    fn shown(&self) -> Vec<usize> {
        self.shown.lock().expect("no test panics with it").clone()
    }

    /// What comes of asking for a tag, as text.
    async fn ask(&self, tls: TlsOptions) -> String {
        let options = ClientOptions { tls, clock: Arc::new(TestClock::default()), ..ClientOptions::default() };
        let client = Client::new(options).expect("sound settings");
        let registry = self.authority.parse().expect("host and port");
        let endpoint = client.endpoint(&registry, EndpointOptions::default()).expect("a registry");
        let app = RegistrySource::new(endpoint, Vec::new()).repository(&"app".parse().expect("a name"));
        match app.resolve(&Reference::Tag("1".parse().expect("a tag"))).await {
            Err(error @ SourceError::NotFound { .. }) => format!("answered: {}", chain(&error)),
            Err(error) => chain(&error),
            Ok(descriptor) => panic!("{descriptor:?} from a server that has nothing"),
        }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const NOTHING: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A folder `HOST:PORT` with the authority's certificate in it.
fn hosts(folder: &Path, server: &TlsServer, ca: &Authority) -> TlsOptions {
    let host = folder.join(&server.authority);
    fs::create_dir_all(&host).expect("a folder can be made");
    fs::write(host.join("ca.crt"), &ca.pem).expect("a file can be written");
    TlsOptions { hosts: vec![folder.to_owned()], ..TlsOptions::default() }
}

#[tokio::test]
async fn who_is_trusted() {
    let (ca, other) = (Authority::new("one"), Authority::new("other"));
    let server = TlsServer::start(&ca, NOTHING).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, ca: &Authority| {
        fs::write(folder.path().join(name), &ca.pem).unwrap();
        folder.path().join(name)
    };
    let roots = |file| Roots::Paths { file: Some(file), directories: Vec::new() };

    let trusted = TlsOptions { roots: roots(file("ca.pem", &ca)), ..TlsOptions::default() };
    assert!(server.ask(trusted).await.starts_with("answered"));
    assert!(server.ask(hosts(folder.path(), &server, &ca)).await.starts_with("answered"));
    assert!(server.ask(TlsOptions { verify: false, ..TlsOptions::default() }).await.starts_with("answered"));
    let answered = server.shown().len();

    let untrusted = TlsOptions { roots: roots(file("other.pem", &other)), ..TlsOptions::default() };
    let error = server.ask(untrusted).await;
    assert!(error.contains("UnknownIssuer"), "{error}");
    assert!(error.contains("https://"), "a certificate that is not trusted is no reason to leave TLS: {error}");
    let nobody = TlsOptions { roots: roots(folder.path().join("missing.pem")), ..TlsOptions::default() };
    assert!(server.ask(nobody).await.contains("no trusted certificates"));
    assert_eq!(server.shown().len(), answered, "nothing was asked of a server that is not trusted");
}

#[tokio::test]
async fn a_client_certificate_is_for_the_registry_alone() {
    let ca = Authority::new("one");
    let storage = TlsServer::start(&ca, NOTHING).await;
    let redirect = format!(
        "HTTP/1.1 307 Elsewhere\r\nlocation: https://{}/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        storage.authority
    );
    let registry = TlsServer::start(&ca, &redirect).await;
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = ca.sign("client");
    fs::write(folder.path().join("client.cert"), certificate.pem()).unwrap();
    fs::write(folder.path().join("client.key"), key.serialize_pem()).unwrap();
    fs::write(folder.path().join("ca.crt"), &ca.pem).unwrap();
    fs::write(folder.path().join("ca.pem"), &ca.pem).unwrap();
    let roots = Roots::Paths { file: Some(folder.path().join("ca.pem")), directories: Vec::new() };
    let tls = TlsOptions { roots, directory: Some(folder.path().to_owned()), ..TlsOptions::default() };
    let answer = registry.ask(tls).await;
    assert!(answer.starts_with("answered"), "{answer}");
    assert!(registry.shown().iter().all(|shown| *shown == 1), "{:?}", registry.shown());
    assert!(!storage.shown().is_empty() && storage.shown().iter().all(|shown| *shown == 0), "{:?}", storage.shown());
}

#[tokio::test]
async fn a_redirect_does_not_leave_tls() {
    let ca = Authority::new("one");
    let plain = FaultServer::start(|_| Reply::status(404)).await;
    let redirect = format!(
        "HTTP/1.1 307 Elsewhere\r\nlocation: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        plain.url("/x?signature=secret")
    );
    let server = TlsServer::start(&ca, &redirect).await;
    let folder = tempfile::tempdir().unwrap();
    let error = server.ask(hosts(folder.path(), &server, &ca)).await;
    assert!(error.contains("redirects from https to http") && !error.contains("secret"), "{error}");
    assert_eq!(plain.lines(), Vec::<String>::new());
}

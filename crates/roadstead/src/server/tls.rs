//! TLS: what clients are shown, read again when it changes, and who may come at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Limits;
use super::auth::{Stamp, chain, stamp};

/// The files by which a server speaks TLS, all of them PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then those that lead to an authority.
    pub certificate: PathBuf,
    /// Its private key. It may be the same file.
    pub key: PathBuf,
    /// The authorities one of which has to have signed for a client. `None` asks clients for no certificate.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS can't be spoken as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error("{} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file doesn't hold what it should.
    #[error("{} holds no usable {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The key is that of another certificate.
    #[error("{} is not the key of the certificate in {}", key.display(), certificate.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The library refuses what the files hold.
    #[error("the certificate in {} can't be used", path.display())]
    Refused {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// Makes connections into private ones.
pub(super) struct Tls {
    files: TlsFiles,
    known: Mutex<Known>,
}

/// What was read last.
struct Known {
    stamps: [Stamp; 3],
    config: Arc<ServerConfig>,
}

/// What is answered to a request that comes without TLS.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 25\r\n\
                       connection: close\r\n\r\nthis port speaks HTTPS.\r\n";

/// What a record of TLS begins with that begins a connection.
const HANDSHAKE: u8 = 22;

impl Tls {
    /// Reads the files.
    pub(super) fn new(files: TlsFiles) -> Result<Self, TlsError> {
        let stamps = stamps(&files);
        let config = Arc::new(read(&files)?);
        Ok(Self { files, known: Mutex::new(Known { stamps, config }) })
    }

    /// What counts now. A pair that can't be used changes nothing: neither a certificate whose key is still to come, nor a mistake,
    /// ends what works.
    fn config(&self) -> Arc<ServerConfig> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the content, so that what changes in between shows at the next look.
        let now = stamps(&self.files);
        if known.stamps != now {
            known.stamps = now;
            match read(&self.files) {
                Ok(config) => {
                    known.config = Arc::new(config);
                    tracing::info!(path = ?self.files.certificate, "the certificate was read again");
                }
                Err(error) => {
                    tracing::error!("TLS goes on with the certificate that was read before: {}", chain(&error));
                }
            }
        }
        Arc::clone(&known.config)
    }

    /// Greets a client; `None` if it doesn't want TLS, which it was told.
    pub(super) async fn greet(
        &self,
        mut stream: TcpStream,
        limits: &Limits,
    ) -> io::Result<Option<TlsStream<TcpStream>>> {
        let greeted = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 0 {
                return Ok(None);
            }
            if first[0] == HANDSHAKE {
                return TlsAcceptor::from(self.config()).accept(stream).await.map(Some);
            }
            stream.write_all(PLAIN).await?;
            super::http1::close(&mut stream).await;
            Ok(None)
        };
        tokio::time::timeout(limits.head_time, greeted).await?
    }
}

fn stamps(files: &TlsFiles) -> [Stamp; 3] {
    let TlsFiles { certificate, key, client_ca } = files;
    [stamp(certificate), stamp(key), client_ca.as_deref().and_then(stamp)]
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let TlsFiles { certificate, key, client_ca } = files;
    let chain = certificates(certificate)?;
    let pem = bytes(key)?;
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| TlsError::Content { path: key.clone(), what: "private key without a password" })?;
    // Named here and not installed for the process: a library that does so decides for its user.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let refused = |source| TlsError::Refused { path: certificate.clone(), source };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(refused)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let unusable = || TlsError::Content { path: path.clone(), what: "certificate of an authority" };
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority).map_err(|_| unusable())?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|_| unusable())?)
        }
    };
    let mut config = builder.with_single_cert(chain, private).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Pair { certificate: certificate.clone(), key: key.clone() },
        source => refused(source),
    })?;
    if client_ca.is_some() {
        // A session that is gone on with would be one of whoever had a certificate then.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// The certificates of a file: one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(path)?).collect();
    let unusable = || TlsError::Content { path: path.to_owned(), what: "certificate" };
    let found = found.map_err(|_| unusable())?;
    if found.is_empty() { Err(unusable()) } else { Ok(found) }
}

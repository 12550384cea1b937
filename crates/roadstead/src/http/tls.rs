//! TLS: which certificates are trusted, and which one this client shows.
//!
//! Folders of certificates are those of Docker and podman: `certs.d/HOST:PORT/` with `*.crt` (trusted beside the system's),
//! and `NAME.cert` with `NAME.key` (shown to the registry).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Where the certificates come from that are trusted for every host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Roots {
    /// What the system trusts.
    #[default]
    System,
    /// These files and folders instead, as `SSL_CERT_FILE` and `SSL_CERT_DIR` name them.
    Paths {
        /// A file of certificates.
        file: Option<PathBuf>,
        /// Folders of such files.
        directories: Vec<PathBuf>,
    },
}

/// How TLS is spoken.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// Whether certificates are checked.
    pub verify: bool,
    /// What is trusted for every host.
    pub roots: Roots,
    /// Folders with one folder for each `HOST:PORT`; the first that has one for a host counts.
    pub hosts: Vec<PathBuf>,
    /// A folder as [`hosts`](Self::hosts) hold, but for whatever registry is asked, and instead of those.
    pub directory: Option<PathBuf>,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self { verify: true, roots: Roots::System, hosts: Vec::new(), directory: None }
    }
}

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or folder can't be read.
    #[error("{path} can't be read")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no certificate or key.
    #[error("{path} holds no usable {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A certificate without key, or the other way round.
    #[error("{path} is missing: NAME.cert and NAME.key come in pairs")]
    Pair {
        /// What is missing.
        path: PathBuf,
    },
    /// The system trusts nobody.
    #[error("no trusted certificates were found on this system: install them (Debian: ca-certificates)")]
    NoRoots,
    /// The library refuses the settings.
    #[error("the certificates can't be used")]
    Rustls(#[from] rustls::Error),
}

/// What one folder of certificates holds.
#[derive(Debug, Default)]
struct Folder {
    roots: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// Makes configurations, and reads what the system trusts once, when it is first needed.
#[derive(Debug)]
pub(crate) struct Tls {
    options: TlsOptions,
    provider: Arc<CryptoProvider>,
    roots: OnceLock<RootCertStore>,
}

impl Tls {
    pub(crate) fn new(options: TlsOptions) -> Self {
        // Named here and not installed for the process: a library that does so decides for its user.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Self { options, provider, roots: OnceLock::new() }
    }

    /// The folder of certificates that belongs to a host and port, if there is one.
    pub(crate) fn folder(&self, authority: &str, registry: bool) -> Option<PathBuf> {
        // A host may be called `..` in a URL, if nowhere else.
        if authority.starts_with('.') {
            return None;
        }
        match &self.options.directory {
            Some(directory) => registry.then(|| directory.clone()),
            None => self.options.hosts.iter().map(|hosts| hosts.join(authority)).find(|folder| folder.is_dir()),
        }
    }

    /// A configuration that trusts nobody, for connections without TLS: it costs no reading of certificates.
    pub(crate) fn trusting_nobody(&self) -> Result<ClientConfig, TlsError> {
        Ok(self.builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    }

    /// The configuration for hosts that `folder` belongs to, or for all others.
    pub(crate) fn config(&self, folder: Option<&Path>) -> Result<ClientConfig, TlsError> {
        let folder = folder.map(read_folder).transpose()?.unwrap_or_default();
        let builder = self.builder()?;
        let builder = if self.options.verify {
            let mut roots = self.roots(!folder.roots.is_empty())?;
            for certificate in folder.roots {
                roots.add(certificate)?;
            }
            builder.with_root_certificates(roots)
        } else {
            let verifier = Arc::new(Unverified(Arc::clone(&self.provider)));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        };
        let mut config = match folder.identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn builder(&self) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
        Ok(ClientConfig::builder_with_provider(Arc::clone(&self.provider)).with_safe_default_protocol_versions()?)
    }

    fn roots(&self, have_others: bool) -> Result<RootCertStore, TlsError> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots.clone());
        }
        let mut roots = RootCertStore::empty();
        match &self.options.roots {
            Roots::System => {
                roots.add_parsable_certificates(system_certificates());
            }
            Roots::Paths { file, directories } => {
                let first = rustls_native_certs::load_certs_from_paths(file.as_deref(), None).certs;
                roots.add_parsable_certificates(first);
                for directory in directories {
                    let more = rustls_native_certs::load_certs_from_paths(None, Some(directory)).certs;
                    roots.add_parsable_certificates(more);
                }
            }
        }
        // A host with its own authority works on a system that trusts nobody else, a bare container for example.
        if roots.is_empty() && !have_others {
            return Err(TlsError::NoRoots);
        }
        Ok(self.roots.get_or_init(|| roots).clone())
    }
}

/// Where distributions keep all trusted certificates in one file. Reading one file takes a few milliseconds, reading the
/// folder beside it, which holds them again one by one, takes tens.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/opt/etc/ssl/certs/ca-certificates.crt",
];

fn system_certificates() -> Vec<CertificateDer<'static>> {
    if cfg!(all(unix, not(target_vendor = "apple")))
        && let Some(bundle) = BUNDLES.into_iter().map(Path::new).find(|bundle| bundle.is_file())
    {
        return rustls_native_certs::load_certs_from_paths(Some(bundle), None).certs;
    }
    rustls_native_certs::load_native_certs().certs
}

fn read_folder(folder: &Path) -> Result<Folder, TlsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Read { path, source }
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        names.push(entry.map_err(failed(folder))?.path());
    }
    // The order decides which of several identities is shown, so it is not left to the file system.
    names.sort();
    let mut found = Folder::default();
    for path in names {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => found.roots.extend(read_certificates(&path)?),
            Some("cert") => {
                let key_path = path.with_extension("key");
                if !key_path.exists() {
                    return Err(TlsError::Pair { path: key_path });
                }
                let chain = read_certificates(&path)?;
                let pem = fs::read(&key_path).map_err(failed(&key_path))?;
                let key = PrivateKeyDer::from_pem_slice(&pem)
                    .map_err(|_| TlsError::Content { path: key_path, what: "private key" })?;
                found.identity.get_or_insert((chain, key));
            }
            Some("key") => {
                let certificate = path.with_extension("cert");
                if !certificate.exists() {
                    return Err(TlsError::Pair { path: certificate });
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::Content { path: path.to_owned(), what: "certificate" }),
    }
}

/// Takes any certificate, because the user said so.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_certificates_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert!(read_folder(folder.path()).unwrap().roots.is_empty());
        write("readme.txt", "not read");
        assert!(read_folder(folder.path()).is_ok());
        write("ca.crt", "no certificate");
        let error = read_folder(folder.path()).unwrap_err();
        assert!(matches!(&error, TlsError::Content { path, .. } if path.ends_with("ca.crt")), "{error}");
        fs::remove_file(folder.path().join("ca.crt")).unwrap();
        write("client.key", "");
        let error = read_folder(folder.path()).unwrap_err();
        assert!(matches!(&error, TlsError::Pair { path } if path.ends_with("client.cert")), "{error}");
    }

    #[test]
    fn the_folder_of_a_host() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(second.path().join("r.example:5000")).unwrap();
        let hosts = vec![first.path().to_owned(), second.path().to_owned()];
        let tls = Tls::new(TlsOptions { hosts: hosts.clone(), ..TlsOptions::default() });
        assert_eq!(tls.folder("r.example:5000", true), Some(second.path().join("r.example:5000")));
        assert_eq!(tls.folder("r.example", true), None);
        assert_eq!(tls.folder("..", false), None);
        let directory = Some(first.path().to_owned());
        let tls = Tls::new(TlsOptions { hosts, directory: directory.clone(), ..TlsOptions::default() });
        assert_eq!(tls.folder("r.example:5000", true), directory);
        assert_eq!(tls.folder("cdn.example", false), None, "a client certificate is for the registry alone");
    }
}

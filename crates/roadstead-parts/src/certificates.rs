use std::path::{Path, PathBuf};

use crate::{Folder, Invocation, part};

/// A certificate authority made for one test, and a certificate that it issued for a server.
#[derive(Debug)]
pub struct Certificates {
    /// What a client is to trust, in a folder of its own: `--cert-dir` and `certs.d` take folders, and read every key
    /// in them as a client's.
    trusted: Folder,
    server: Folder,
}

impl Certificates {
    /// Issues a certificate for these subject alternative names, written as OpenSSL does: `IP:127.0.0.1`,
    /// `DNS:localhost`.
    pub fn issue(names: &[&str]) -> Self {
        let (trusted, server) = (Folder::new(), Folder::new());
        let certify = |subject: &str, key: &Path, certificate: &Path, extension: &str| {
            Invocation::new(part::installed("openssl"))
                .args([
                    "req",
                    "-x509",
                    "-days",
                    "2",
                    "-nodes",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:prime256v1",
                    "-subj",
                    subject,
                ])
                .args(["-addext", extension])
                .arg("-keyout")
                .arg(key)
                .arg("-out")
                .arg(certificate)
        };
        let (authority, authority_key) = (trusted.join("ca.crt"), server.join("ca.key"));
        let issue = |invocation: Invocation| invocation.run().unwrap_or_else(|failure| panic!("{failure}"));
        issue(certify("/CN=Test authority", &authority_key, &authority, "keyUsage=critical,keyCertSign,cRLSign"));
        let names = format!("subjectAltName={}", names.join(","));
        let signed = certify("/CN=Test server", &server.join("server.key"), &server.join("server.crt"), &names);
        issue(
            signed
                .args(["-addext", "basicConstraints=critical,CA:FALSE", "-CA"])
                .arg(&authority)
                .arg("-CAkey")
                .arg(&authority_key),
        );
        Self { trusted, server }
    }

    /// The same, but the server's certificate has been valid long ago, for a month.
    pub fn expired(names: &[&str]) -> Self {
        let own = Self::issue(names);
        let folder = Folder::new();
        // Of all that OpenSSL issues certificates with, only this takes a day on which they begin.
        let settings = folder.write(
            "ca.conf",
            format!(
                "[ca]\ndefault_ca = own\n[own]\ndir = {}\ndatabase = $dir/issued\nserial = $dir/serial\n\
                 new_certs_dir = $dir\ndefault_md = sha256\npolicy = any\ncopy_extensions = copy\n\
                 [any]\ncommonName = supplied\n",
                folder.path().display()
            ),
        );
        folder.write("issued", "");
        folder.write("serial", "1000\n");
        let run = |invocation: Invocation| invocation.run().unwrap_or_else(|failure| panic!("{failure}"));
        let openssl = || Invocation::new(part::installed("openssl"));
        let request = folder.join("server.csr");
        let names = format!("subjectAltName={}", names.join(","));
        run(openssl()
            .args(["req", "-new", "-subj", "/CN=Test server", "-addext", &names, "-key"])
            .arg(own.key())
            .arg("-out")
            .arg(&request));
        run(openssl()
            .args(["ca", "-batch", "-notext", "-startdate", "20200101000000Z", "-enddate", "20200201000000Z"])
            .arg("-config")
            .arg(settings)
            .arg("-cert")
            .arg(own.authority())
            .arg("-keyfile")
            .arg(own.server.join("ca.key"))
            .arg("-in")
            .arg(request)
            .arg("-out")
            .arg(own.certificate()));
        own
    }

    /// A folder as `certs.d` has them: the authority's certificate, and `client.cert` with `client.key`, which the authority has
    /// issued for a client of this name.
    pub fn for_client(&self, name: &str) -> Folder {
        let folder = Folder::new();
        std::fs::copy(self.authority(), folder.join("ca.crt")).expect("a file can be copied");
        let issued = Invocation::new(part::installed("openssl"))
            .args(["req", "-x509", "-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-subj", &format!("/CN={name}"), "-CA"])
            .arg(self.authority())
            .arg("-CAkey")
            .arg(self.server.join("ca.key"))
            .arg("-keyout")
            .arg(folder.join("client.key"))
            .arg("-out")
            .arg(folder.join("client.cert"))
            .run();
        issued.unwrap_or_else(|failure| panic!("{failure}"));
        folder
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.trusted.join("ca.crt")
    }

    /// A folder that holds nothing but the authority's certificate, as `ca.crt`.
    pub fn trusted(&self) -> &Path {
        self.trusted.path()
    }

    /// The server's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.server.join("server.crt")
    }

    /// The server's private key.
    pub fn key(&self) -> PathBuf {
        self.server.join("server.key")
    }
}

//! The clients without a daemon and without a storage: each pull goes into an empty folder.

use std::fs;
use std::path::Path;

use crate::{Client, Failure, Folder, Invocation, Output, Pulled, Pusher, part};

/// skopeo; a pull copies the image for this platform, as CRI-O and podman see it.
#[derive(Debug, Clone, Copy)]
pub struct Skopeo;

/// crane; a pull takes the whole image, an index with all that it names.
#[derive(Debug, Clone, Copy)]
pub struct Crane;

/// oras; a pull takes the whole image, an index with all that it names.
#[derive(Debug, Clone, Copy)]
pub struct Oras;

impl Skopeo {
    /// Calls `skopeo` with these arguments.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn skopeo(self, arguments: &[&str]) -> Result<Output, Failure> {
        Invocation::new(part::installed("skopeo")).args(arguments).run()
    }

    /// Copies an image whole, every platform of it, without changing a byte; source and destination with their
    /// transports, registries without TLS.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn copy(self, from: &str, to: &str) -> Result<(), Failure> {
        self.skopeo(&[
            "copy",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            from,
            to,
        ])
        .map(drop)
    }
}

impl Client for Skopeo {
    fn name(&self) -> &str {
        "skopeo"
    }

    fn pull(&self, reference: &str) -> Result<Pulled, Failure> {
        let folder = Folder::new();
        let digest = folder.join("digest");
        let (destination, source) =
            (format!("dir:{}", folder.join("image").display()), format!("docker://{reference}"));
        self.skopeo(&[
            "copy",
            "--src-tls-verify=false",
            "--digestfile",
            &digest.to_string_lossy(),
            &source,
            &destination,
        ])?;
        Ok(Pulled::from_text(&written(&digest)))
    }

    fn forget(&self, _reference: &str) -> Result<(), Failure> {
        Ok(())
    }
}

impl Pusher for Skopeo {
    fn push(&self, from: &str, to: &str) -> Result<(), Failure> {
        self.copy(&format!("docker://{from}"), &format!("docker://{to}"))
    }
}

impl Crane {
    /// Calls `crane` with these arguments.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn crane(self, arguments: &[&str]) -> Result<Output, Failure> {
        let folder = Folder::new();
        Invocation::new(part::built("bin/crane")).env("DOCKER_CONFIG", folder.path()).args(arguments).run()
    }
}

impl Client for Crane {
    fn name(&self) -> &str {
        "crane"
    }

    fn pull(&self, reference: &str) -> Result<Pulled, Failure> {
        let folder = Folder::new();
        let layout = folder.join("image");
        self.crane(&["pull", "--insecure", "--format=oci", reference, &layout.to_string_lossy()])?;
        Ok(Pulled::from_text(&written(&layout.join("index.json"))))
    }

    fn forget(&self, _reference: &str) -> Result<(), Failure> {
        Ok(())
    }
}

impl Pusher for Crane {
    fn push(&self, from: &str, to: &str) -> Result<(), Failure> {
        self.crane(&["copy", "--insecure", from, to]).map(drop)
    }
}

impl Oras {
    /// Calls `oras` with these arguments.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn oras(self, arguments: &[&str]) -> Result<Output, Failure> {
        let folder = Folder::new();
        Invocation::new(part::built("bin/oras"))
            .env("DOCKER_CONFIG", folder.path())
            .env("ORAS_CACHE", "")
            .args(arguments)
            .run()
    }
}

impl Client for Oras {
    fn name(&self) -> &str {
        "oras"
    }

    fn pull(&self, reference: &str) -> Result<Pulled, Failure> {
        let folder = Folder::new();
        let layout = folder.join("image");
        let destination = format!("{}:pulled", layout.display());
        self.oras(&["copy", "--no-tty", "--from-plain-http", reference, "--to-oci-layout", &destination])?;
        Ok(Pulled::from_text(&written(&layout.join("index.json"))))
    }

    fn forget(&self, _reference: &str) -> Result<(), Failure> {
        Ok(())
    }
}

impl Pusher for Oras {
    fn push(&self, from: &str, to: &str) -> Result<(), Failure> {
        self.oras(&["copy", "--no-tty", "--from-plain-http", from, "--to-plain-http", to]).map(drop)
    }
}

/// cosign with a key pair of its own, which neither asks nor tells anybody on the Internet.
#[derive(Debug)]
pub struct Cosign {
    folder: Folder,
}

/// Where cosign keeps what it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bundle {
    /// Under tags made of the digest and `.sig` or `.att`, as older versions do.
    Tag,
    /// In manifests that refer to the image.
    Referrer,
}

impl Bundle {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tag, Self::Referrer];
}

impl Cosign {
    /// Makes a key pair.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn new() -> Self {
        let cosign = Self { folder: Folder::new() };
        let prefix = cosign.folder.join("cosign").display().to_string();
        let made = cosign.cosign(&["generate-key-pair", "--output-key-prefix", &prefix]);
        made.unwrap_or_else(|failure| panic!("{failure}"));
        cosign
    }

    /// Signs an image in a registry without TLS, by its digest.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn sign(&self, reference: &str, bundle: Bundle) -> Result<Output, Failure> {
        let key = self.folder.join("cosign.key").display().to_string();
        let silent = ["--tlog-upload=false", "--use-signing-config=false", "--yes"];
        self.cosign(
            &[&["sign", "--key", &key, flag(bundle), "--allow-http-registry"], &silent[..], &[reference]].concat(),
        )
    }

    /// Verifies an image's signature with the public key.
    ///
    /// # Errors
    ///
    /// When there is no signature, or another's.
    pub fn verify(&self, reference: &str, bundle: Bundle) -> Result<Output, Failure> {
        let key = self.folder.join("cosign.pub").display().to_string();
        let quiet = ["--insecure-ignore-tlog=true", "--allow-http-registry"];
        self.cosign(&[&["verify", "--key", &key, flag(bundle)], &quiet[..], &[reference]].concat())
    }

    fn cosign(&self, arguments: &[&str]) -> Result<Output, Failure> {
        Invocation::new(part::built("bin/cosign"))
            .env("COSIGN_PASSWORD", "")
            .env("HOME", self.folder.path())
            .args(arguments)
            .run()
    }
}

impl Default for Cosign {
    fn default() -> Self {
        Self::new()
    }
}

const fn flag(bundle: Bundle) -> &'static str {
    match bundle {
        Bundle::Tag => "--new-bundle-format=false",
        Bundle::Referrer => "--new-bundle-format=true",
    }
}

/// notation with a test certificate of its own, which it trusts for every repository.
#[derive(Debug)]
pub struct Notation {
    folder: Folder,
}

impl Notation {
    /// Makes the certificate.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn new() -> Self {
        let notation = Self { folder: Folder::new() };
        let made = notation.notation(&["cert", "generate-test", "--default", "example"]);
        made.unwrap_or_else(|failure| panic!("{failure}"));
        notation.folder.write(
            "notation/trustpolicy.json",
            r#"{"version":"1.0","trustPolicies":[{"name":"all","registryScopes":["*"],"trustedIdentities":["*"],
                "trustStores":["ca:example"],
                "signatureVerification":{"level":"strict","override":{"revocation":"skip"}}}]}"#,
        );
        notation
    }

    /// Calls `notation` with these arguments.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn notation(&self, arguments: &[&str]) -> Result<Output, Failure> {
        let folder = self.folder.path();
        Invocation::new(part::built("bin/notation"))
            .env("HOME", folder)
            .env("XDG_CONFIG_HOME", folder)
            .args(arguments)
            .run()
    }
}

impl Default for Notation {
    fn default() -> Self {
        Self::new()
    }
}

fn written(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{} was to be written: {error}", file.display()))
}

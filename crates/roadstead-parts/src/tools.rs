//! The clients without a daemon and without a storage: each pull goes into an empty folder.

use std::fs;
use std::path::Path;

use crate::{Client, Failure, Folder, Invocation, Output, Pulled, part};

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

fn written(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{} was to be written: {error}", file.display()))
}

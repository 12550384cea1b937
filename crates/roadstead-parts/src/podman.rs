use std::sync::LazyLock;

use crate::{Client, Engine, Failure, Folder, Invocation, Isolation, Output, Pulled, Pusher, Served, part};

/// Podman with a storage of its own.
#[derive(Debug)]
pub struct Podman {
    /// Podman has no daemon. A program that only waits stands for one, so that the storage goes when the value does, or
    /// when the process ends that has it in a `static`.
    keeper: Served,
}

/// For machines without systemd, and with few rights over limits and control groups: crun does not work there, runc
/// does.
const CONFIGURATION: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
lock_type = "file"
"#;

impl Podman {
    /// Makes an empty storage.
    pub fn new() -> Self {
        let folder = Folder::new();
        folder.write("containers.conf", CONFIGURATION);
        let waits = Invocation::new(part::installed("sleep")).arg("infinity").as_root();
        Self { keeper: Served::start(&waits, Isolation::None, folder, || true) }
    }

    /// The storage that all tests of this process may share.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Podman> = LazyLock::new(Podman::new);
        &SHARED
    }

    /// Calls `podman` with these arguments, in namespaces of its own: the container's supervisor and all mounts end
    /// with the call.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn podman(&self, arguments: &[&str]) -> Result<Output, Failure> {
        self.call("podman", &["--tmpdir", &self.keeper.folder().join("tmp").to_string_lossy()], arguments)
    }

    fn call(&self, program: &str, options: &[&str], arguments: &[&str]) -> Result<Output, Failure> {
        let folder = self.keeper.folder();
        Invocation::new(part::installed("unshare"))
            .args(["--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(part::installed(program))
            .arg("--root")
            .arg(folder.join("root"))
            .arg("--runroot")
            .arg(folder.join("run"))
            .args(["--storage-driver", "vfs"])
            .args(options)
            .args(arguments)
            .env("CONTAINERS_CONF", folder.join("containers.conf"))
            .as_root()
            .run()
    }
}

impl Client for Podman {
    fn name(&self) -> &str {
        "podman"
    }

    fn pull(&self, reference: &str) -> Result<Pulled, Failure> {
        self.podman(&["pull", "--quiet", "--tls-verify=false", reference])?;
        let inspected = self.podman(&["image", "inspect", "--format", "{{json .RepoDigests}}", reference])?;
        Ok(Pulled::from_text(&inspected.stdout))
    }

    fn forget(&self, reference: &str) -> Result<(), Failure> {
        match self.podman(&["image", "rm", "--force", reference]) {
            Err(failure) if !failure.output().stderr.contains("image not known") => Err(failure),
            _ => Ok(()),
        }
    }

    fn engine(&self) -> Option<&dyn Engine> {
        Some(self)
    }
}

impl Pusher for Podman {
    fn push(&self, from: &str, to: &str) -> Result<(), Failure> {
        self.podman(&["pull", "--quiet", "--tls-verify=false", from])?;
        self.podman(&["push", "--quiet", "--tls-verify=false", from, to])?;
        self.forget(from)
    }
}

impl Engine for Podman {
    fn run(&self, reference: &str) -> Result<String, Failure> {
        // The container writes to our file itself. Otherwise its supervisor hands the output on, and on a busy machine
        // now and then nothing arrives of a program that ends at once.
        let run = ["run", "--rm", "--pull=never", "--network=none", "--log-driver=passthrough", reference];
        self.podman(&run).map(|output| output.stdout)
    }
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}

/// buildah with a storage of its own, which it keeps as podman does.
#[derive(Debug, Default)]
pub struct Buildah(Podman);

impl Buildah {
    /// Makes an empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    /// The storage that all tests of this process may share.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Buildah> = LazyLock::new(Buildah::new);
        &SHARED
    }

    /// Calls `buildah` with these arguments, as [`Podman::podman`] does.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn buildah(&self, arguments: &[&str]) -> Result<Output, Failure> {
        self.0.call("buildah", &[], arguments)
    }
}

impl Client for Buildah {
    fn name(&self) -> &str {
        "buildah"
    }

    fn pull(&self, reference: &str) -> Result<Pulled, Failure> {
        self.buildah(&["pull", "--quiet", "--tls-verify=false", reference])?;
        let inspected = self.buildah(&["inspect", "--type=image", "--format={{.FromImageDigest}}", reference])?;
        Ok(Pulled::from_text(&inspected.stdout))
    }

    fn forget(&self, reference: &str) -> Result<(), Failure> {
        match self.buildah(&["rmi", "--force", reference]) {
            Err(failure) if !failure.output().stderr.contains("image not known") => Err(failure),
            _ => Ok(()),
        }
    }
}

impl Pusher for Buildah {
    fn push(&self, from: &str, to: &str) -> Result<(), Failure> {
        self.buildah(&["pull", "--quiet", "--tls-verify=false", from])?;
        self.buildah(&["push", "--quiet", "--tls-verify=false", from, &format!("docker://{to}")])?;
        self.forget(from)
    }
}

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use crate::invocation;
use crate::{Client, Engine, Failure, Folder, Invocation, Isolation, Output, Pulled, Pusher, Served, part};

/// A Docker engine of one's own, and the `docker` program that talks to it.
///
/// It has no network: containers run with `--network none`, and nothing of the machine's packet filter is touched.
#[derive(Debug)]
pub struct Dockerd {
    served: Served,
    socket: PathBuf,
    name: &'static str,
}

impl Dockerd {
    /// Starts the engine that the system has: 20.10 on Debian 12.
    ///
    /// # Panics
    ///
    /// When it does not start; the message has its log.
    pub fn start() -> Self {
        let daemon = Invocation::new(part::installed("dockerd")).arg("--storage-driver=overlay2");
        Self::launch("docker (20.10)", daemon, "{}")
    }

    /// Starts the engine of [`Dockerd::start`], but one that takes a layer's first failure for the last: by itself it tries
    /// five times, and waits longer each time.
    ///
    /// # Panics
    ///
    /// As [`Dockerd::start`].
    pub fn start_without_retries() -> Self {
        let daemon = Invocation::new(part::installed("dockerd"));
        let daemon = daemon.args(["--storage-driver=overlay2", "--max-download-attempts=1"]);
        Self::launch("docker (20.10)", daemon, "{}")
    }

    /// Starts Docker 29, which keeps images in containerd's store. It is not among the parts that `scripts/parts`
    /// installs unasked.
    ///
    /// # Panics
    ///
    /// As [`Dockerd::start`].
    pub fn start_29() -> Self {
        Self::launch("docker (29)", Self::invocation_29(), "{}")
    }

    /// Starts Docker 29 with the store that engines had before: the graph store, which keeps no manifests. It takes a layer's
    /// first failure for the last.
    ///
    /// # Panics
    ///
    /// As [`Dockerd::start`].
    pub fn start_29_with_graph_store() -> Self {
        let daemon = Self::invocation_29().args(["--storage-driver=overlay2", "--max-download-attempts=1"]);
        Self::launch("docker (29, graph store)", daemon, r#"{"features":{"containerd-snapshotter":false}}"#)
    }

    fn invocation_29() -> Invocation {
        Invocation::new(part::built("docker-29/dockerd"))
            .path_prefix(part::folder().join("docker-29"))
            // The lowest that it can be asked to speak, which clients as old as Debian's need.
            .env("DOCKER_MIN_API_VERSION", "1.24")
            .args(["--ip-forward=false", "--ip-masq=false", "--userland-proxy=false"])
    }

    /// The engine of [`Dockerd::start`] that all tests of this process share: started by the first that asks, ended
    /// when the process ends.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Dockerd> = LazyLock::new(Dockerd::start);
        &SHARED
    }

    fn launch(name: &'static str, daemon: Invocation, settings: &str) -> Self {
        let folder = Folder::new();
        let socket = folder.join("docker.sock");
        let daemon = daemon
            .arg("--config-file")
            .arg(folder.write("daemon.json", settings))
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("docker.pid"))
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            // Whose socket it is: the person who runs the tests asks it whether it is ready, not as root.
            .arg("--group")
            .arg(invocation::group().to_string())
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
        let served = Served::start(&daemon, Isolation::Namespaces, folder, || answers_ping(&socket));
        Self { served, socket, name }
    }

    /// The socket of its API.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        self.served.log()
    }

    /// Calls `docker` with these arguments.
    ///
    /// # Errors
    ///
    /// When it fails; the failure has the end of the engine's log.
    pub fn docker(&self, arguments: &[&str]) -> Result<Output, Failure> {
        let invocation = Invocation::new(part::installed(CLIENT))
            .env("DOCKER_CONFIG", self.served.folder().join("client"))
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .args(arguments)
            .as_root();
        invocation.run().map_err(|failure| failure.with_log(self.served.log_tail()))
    }
}

impl Client for Dockerd {
    fn name(&self) -> &str {
        self.name
    }

    fn pull(&self, reference: &str) -> Result<Pulled, Failure> {
        self.docker(&["pull", reference])?;
        let inspected = self.docker(&["image", "inspect", "--format", "{{json .RepoDigests}}", reference])?;
        Ok(Pulled::from_text(&inspected.stdout))
    }

    fn forget(&self, reference: &str) -> Result<(), Failure> {
        self.docker(&["image", "rm", "--force", reference]).map(drop)
    }

    fn engine(&self) -> Option<&dyn Engine> {
        Some(self)
    }
}

impl Pusher for Dockerd {
    fn push(&self, from: &str, to: &str) -> Result<(), Failure> {
        self.docker(&["pull", from])?;
        self.docker(&["tag", from, to])?;
        self.docker(&["push", to])?;
        self.forget(from)?;
        self.forget(to)
    }
}

impl Engine for Dockerd {
    fn run(&self, reference: &str) -> Result<String, Failure> {
        self.docker(&["run", "--rm", "--pull=never", "--network=none", reference]).map(|output| output.stdout)
    }
}

/// The client that belongs to the system's engine. Another in front of it in `PATH` may be so new that it refuses
/// 20.10.
const CLIENT: &str = "/usr/bin/docker";

/// Whether the engine's API answers. A socket that accepts connections is not enough: it does so before the engine is
/// ready.
fn answers_ping(socket: &Path) -> bool {
    let ping = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        std::io::Result::Ok(answer.ends_with(b" 200"))
    };
    ping().unwrap_or(false)
}

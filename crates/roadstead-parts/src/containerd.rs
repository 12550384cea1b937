use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cri::{self, Cri};
use crate::{Client, Engine, Failure, Folder, Invocation, Isolation, Output, Pulled, Pusher, Served, part};

/// containerd, with the `ctr` program that talks to it.
///
/// Every reference has a containerd namespace of its own, and namespaces share no content: so each pull fetches
/// everything.
#[derive(Debug)]
pub struct Containerd {
    served: Served,
    socket: PathBuf,
    release: Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    /// The system's.
    V1,
    /// The one that is built.
    V2,
}

impl Containerd {
    /// Starts the one that the system has: 1.6 on Debian 12.
    ///
    /// # Panics
    ///
    /// When it does not start; the message has its log.
    pub fn start() -> Self {
        Self::launch(Release::V1)
    }

    /// Starts containerd 2. It is not among the parts that `scripts/parts` installs unasked.
    ///
    /// # Panics
    ///
    /// As [`Containerd::start`].
    pub fn start_2() -> Self {
        Self::launch(Release::V2)
    }

    /// The daemon of [`Containerd::start`] that all tests of this process share: started by the first that asks, ended
    /// when the process ends.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Containerd> = LazyLock::new(Containerd::start);
        &SHARED
    }

    fn launch(release: Release) -> Self {
        let folder = Folder::new();
        let socket = folder.join("c.sock");
        let config = folder.write("config.toml", release.configuration(&folder, &socket));
        folder.write(cri::SCRIPT, cri::CALL);
        let daemon = release.program("containerd").arg("--config").arg(config);
        let served = Served::start(&daemon, Isolation::Namespaces, folder, || {
            socket.exists() && release.ctr(&socket).arg("version").run().is_ok()
        });
        Self { served, socket, release }
    }

    /// The socket of its gRPC services.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        self.served.log()
    }

    /// The same daemon as Kubernetes sees it.
    pub fn cri(&self) -> Cri<'_> {
        Cri::new(
            self,
            match self.release {
                Release::V1 => "containerd (CRI)",
                Release::V2 => "containerd 2 (CRI)",
            },
        )
    }

    pub(crate) fn folder(&self) -> &Path {
        self.served.folder()
    }

    /// Calls `ctr` with these arguments.
    ///
    /// # Errors
    ///
    /// When it fails; the failure has the end of the daemon's log.
    pub fn ctr(&self, arguments: &[&str]) -> Result<Output, Failure> {
        self.told(&self.release.ctr(&self.socket).args(arguments))
    }

    pub(crate) fn told(&self, invocation: &Invocation) -> Result<Output, Failure> {
        invocation.run().map_err(|failure| failure.with_log(self.served.log_tail()))
    }

    /// What the daemon says of an image: its line in the list, which ends in labels that may name other digests.
    pub(crate) fn pulled(&self, namespace: &str, reference: &str) -> Result<Pulled, Failure> {
        let listed = self.ctr(&["--namespace", namespace, "images", "list"])?.stdout;
        let columns = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let digest =
            columns.filter(|columns| columns.first() == Some(&reference)).filter_map(|columns| columns.get(2).copied());
        Ok(Pulled::from_text(&digest.collect::<String>()))
    }
}

impl Client for Containerd {
    fn name(&self) -> &str {
        match self.release {
            Release::V1 => "containerd (ctr)",
            Release::V2 => "containerd 2 (ctr)",
        }
    }

    fn pull(&self, reference: &str) -> Result<Pulled, Failure> {
        let namespace = namespace(reference);
        let local: &[&str] = if self.release == Release::V2 { &["--local"] } else { &[] };
        let pull = ["--namespace", &namespace, "images", "pull", "--plain-http", "--snapshotter=overlayfs"];
        self.ctr(&[&pull, local, &[reference]].concat())?;
        self.pulled(&namespace, reference)
    }

    fn forget(&self, reference: &str) -> Result<(), Failure> {
        self.ctr(&["--namespace", &namespace(reference), "images", "remove", "--sync", reference]).map(drop)
    }

    fn engine(&self) -> Option<&dyn Engine> {
        Some(self)
    }
}

impl Pusher for Containerd {
    fn push(&self, from: &str, to: &str) -> Result<(), Failure> {
        self.pull(from)?;
        self.ctr(&["--namespace", &namespace(from), "images", "push", "--plain-http", to, from])?;
        self.forget(from)
    }
}

impl Engine for Containerd {
    fn run(&self, reference: &str) -> Result<String, Failure> {
        static CONTAINERS: AtomicU64 = AtomicU64::new(0);
        let container = format!("c{}", CONTAINERS.fetch_add(1, Ordering::Relaxed));
        // The shim writes to a file, both outputs to one. Through `ctr`, which closes its pipes when the container
        // ends, now and then nothing arrives on a busy machine of a program that ends at once.
        let output = self.folder().join(format!("{container}.out"));
        let log = format!("--log-uri=file://{}", output.display());
        let namespace = namespace(reference);
        let run = ["--namespace", &namespace, "run", "--rm", "--snapshotter=overlayfs", &log, reference, &container];
        self.ctr(&run)?;
        Ok(fs::read_to_string(&output).unwrap_or_else(|error| panic!("{} can't be read: {error}", output.display())))
    }
}

impl Release {
    fn program(self, name: &str) -> Invocation {
        match self {
            Self::V1 => Invocation::new(part::installed(name)),
            Self::V2 => {
                let folder = part::folder().join("docker-29");
                Invocation::new(part::built(&format!("docker-29/{name}"))).path_prefix(folder)
            }
        }
    }

    fn ctr(self, socket: &Path) -> Invocation {
        self.program("ctr").arg("--address").arg(socket).as_root()
    }

    /// `isolated`: otherwise a blob that another namespace has fetched is not fetched again.
    fn configuration(self, folder: &Folder, socket: &Path) -> String {
        let (version, registries) = match self {
            Self::V1 => (2, "io.containerd.grpc.v1.cri"),
            Self::V2 => (3, "io.containerd.cri.v1.images"),
        };
        let [root, state, optional, hosts] = ["root", "state", "opt", cri::HOSTS].map(|name| folder.join(name));
        format!(
            r#"version = {version}
root = {root:?}
state = {state:?}
[grpc]
address = {socket:?}
[plugins."io.containerd.internal.v1.opt"]
path = {optional:?}
[plugins."io.containerd.metadata.v1.bolt"]
content_sharing_policy = "isolated"
[plugins."{registries}".registry]
config_path = {hosts:?}
"#
        )
    }
}

/// A namespace's name is at most 76 characters of a small alphabet: too few for a reference.
fn namespace(reference: &str) -> String {
    let mut hasher = DefaultHasher::new();
    reference.hash(&mut hasher);
    format!("test-{:016x}", hasher.finish())
}

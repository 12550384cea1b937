use std::path::{Path, PathBuf};

use crate::{Failure, Folder, Invocation, Isolation, Output, Served, part};

/// BuildKit with a store of its own, which knows nothing at first. It is not among the parts that `scripts/parts` installs
/// unasked.
#[derive(Debug)]
pub struct Buildkit {
    served: Served,
    socket: PathBuf,
}

impl Buildkit {
    /// Starts it.
    ///
    /// # Panics
    ///
    /// When it does not start; the message has its log.
    pub fn start() -> Self {
        let folder = Folder::new();
        let socket = folder.join("b.sock");
        let daemon = Invocation::new(part::built("bin/buildkitd"))
            .arg("--config")
            .arg(folder.write("buildkitd.toml", ""))
            .arg("--root")
            .arg(folder.join("root"))
            .arg("--addr")
            .arg(address(&socket))
            .args(["--containerd-worker=false", "--oci-worker=true"])
            // Its own networks need programs of others.
            .args(["--oci-worker-net=host", "--oci-worker-snapshotter=native"]);
        let served = Served::start(&daemon, Isolation::Namespaces, folder, || {
            socket.exists() && buildctl(&socket).args(["debug", "workers"]).run().is_ok()
        });
        Self { served, socket }
    }

    /// Builds what the `Dockerfile` of a folder says, with these further options. What is done, and what a cache spares, is
    /// told on standard error.
    ///
    /// # Errors
    ///
    /// When that fails; the failure has the end of the daemon's log.
    pub fn build(&self, context: &Path, options: &[&str]) -> Result<Output, Failure> {
        let folders = ["context", "dockerfile"].map(|name| format!("--local={name}={}", context.display()));
        let build = buildctl(&self.socket).args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
        build.args(folders).args(options).run().map_err(|failure| failure.with_log(self.served.log_tail()))
    }
}

fn address(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// As the daemon's user: the socket is closed to others.
fn buildctl(socket: &Path) -> Invocation {
    Invocation::new(part::built("bin/buildctl")).arg("--addr").arg(address(socket)).as_root()
}

//! Hosts that hand files out and say nothing true about them.

use std::path::{Path, PathBuf};

use crate::{Folder, Invocation, Isolation, Port, Served, part};

/// `python3 -m http.server`: types by extension, `application/octet-stream` without one, no ranges, HTTP/1.0.
#[derive(Debug)]
pub struct PlainServer {
    port: Port,
    _served: Served,
}

impl PlainServer {
    /// Serves a folder, links in it followed.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start(folder: &Path) -> Self {
        let port = Port::free();
        let server = Invocation::new(part::installed("python3")).args(["-m", "http.server", "--bind", "127.0.0.1"]);
        let server = server.arg("--directory").arg(folder).arg(port.number().to_string());
        let served = Served::start(&server, Isolation::None, Folder::new(), || port.answers());
        Self { port, _served: served }
    }

    /// `127.0.0.1:PORT`: what stands before the repository in an image reference.
    pub fn authority(&self) -> String {
        self.port.address().to_string()
    }

    /// The root of its URLs, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.authority())
    }
}

/// Kubo, the first implementation of IPFS, alone: its gateway hands out what was added here.
#[derive(Debug)]
pub struct Kubo {
    api: Port,
    gateway: Port,
    repository: PathBuf,
    _served: Served,
}

impl Kubo {
    /// Starts one with an empty repository, that talks to nobody.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start() -> Self {
        let (folder, api, gateway) = (Folder::new(), Port::free(), Port::free());
        let repository = folder.join("repository");
        let call = |arguments: &[&str]| ipfs(&repository).args(arguments);
        let run = |arguments: &[&str]| call(arguments).run().unwrap_or_else(|failure| panic!("{failure}"));
        run(&["init", "--empty-repo", "--profile=test"]);
        for (key, value) in [
            ("Addresses.API", format!("\"/ip4/127.0.0.1/tcp/{}\"", api.number())),
            ("Addresses.Gateway", format!("\"/ip4/127.0.0.1/tcp/{}\"", gateway.number())),
            ("Addresses.Swarm", "[]".to_owned()),
            ("Routing.Type", "\"none\"".to_owned()),
            ("Gateway.NoFetch", "true".to_owned()),
            ("AutoConf.Enabled", "false".to_owned()),
            ("AutoTLS.Enabled", "false".to_owned()),
            ("Provide.Enabled", "false".to_owned()),
            ("Bootstrap", "[]".to_owned()),
            ("DNS.Resolvers", "{}".to_owned()),
            ("Routing.DelegatedRouters", "[]".to_owned()),
            ("Ipns.DelegatedPublishers", "[]".to_owned()),
        ] {
            run(&["config", "--json", key, &value]);
        }
        let daemon = call(&["daemon", "--offline"]);
        let served = Served::start(&daemon, Isolation::None, folder, || gateway.answers());
        Self { api, gateway, repository, _served: served }
    }

    /// Adds a folder of plain files, and returns its CID.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn add(&self, folder: &Path) -> String {
        let add = ipfs(&self.repository).args(["add", "-Q", "-r", "--cid-version=1", "--hidden"]).arg(folder);
        let output = add.run().unwrap_or_else(|failure| panic!("{failure}"));
        output.stdout.trim().to_owned()
    }

    /// What `ipfs` prints for these arguments, asked of this node.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = ipfs(&self.repository).args(arguments).run().unwrap_or_else(|failure| panic!("{failure}"));
        output.stdout
    }

    /// What CID a folder would get from a node with this profile, without keeping it anywhere.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn cid(profile: &str, folder: &Path) -> String {
        let own = Folder::new();
        let repository = own.join("repository");
        let run = |call: Invocation| call.run().unwrap_or_else(|failure| panic!("{failure}")).stdout;
        run(ipfs(&repository).args(["init", "--empty-repo"]).arg(format!("--profile=test,{profile}")));
        run(ipfs(&repository).args(["--offline", "add", "-Q", "-r", "--hidden", "--only-hash"]).arg(folder))
            .trim()
            .to_owned()
    }

    /// Where its API listens: `127.0.0.1:PORT`.
    pub fn api(&self) -> String {
        self.api.address().to_string()
    }

    /// What the program wants as `IPFS_PATH`.
    pub fn repository(&self) -> &Path {
        &self.repository
    }

    /// The port of its gateway.
    pub fn gateway(&self) -> u16 {
        self.gateway.number()
    }

    /// The URL below which the files of a CID lie.
    pub fn url(&self, cid: &str) -> String {
        format!("http://{}/ipfs/{cid}", self.gateway.address())
    }
}

fn ipfs(repository: &Path) -> Invocation {
    Invocation::new(part::built("bin/ipfs")).env("IPFS_PATH", repository).env("IPFS_TELEMETRY", "off")
}

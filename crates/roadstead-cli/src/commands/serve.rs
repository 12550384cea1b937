//! `roadstead serve`

use std::net::SocketAddr;

use std::time::Duration;

use roadstead::http::{BaseUrl, BaseUrlError, ClientOptions, Endpoint, EndpointOptions, RetryPolicy};
use roadstead::oci::Repository;
use roadstead::server::{Limits, Origin, PushOptions, ServeOptions, Server};

use crate::args::Global;
use crate::bucket_args::TreePlace;
use crate::exit;
use crate::output::Output;
use crate::registry_args::TlsArgs;
use crate::site_args::PrivateArgs;

/// Answer pulls from the tree, or from what another host has
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Where to listen, ADDRESS:PORT; [::]:PORT takes connections from everywhere
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000", value_parser = address)]
    listen: Vec<SocketAddr>,

    /// Put this in front of every repository's name
    #[arg(long, value_name = "PREFIX")]
    name_prefix: Option<Repository>,

    /// Let pages of other origins, such as a registry's user interface, read the answers
    #[arg(long)]
    cors: bool,

    /// Connections at a time; more have to wait
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections)]
    max_connections: usize,

    /// Answer /healthz, /readyz and /metrics (for Prometheus) here, to whoever reaches it
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    status_listen: Option<SocketAddr>,

    /// Answer from what lies below this URL instead of a tree: a host of plain files that sends no headers, such as
    /// https://USER.github.io or http://GATEWAY/ipfs/CID
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,

    /// Let clients push into the tree, which has to be a folder. There are no users yet, so this needs --anonymous-push
    #[arg(long, conflicts_with = "upstream", help_heading = "Options for pushes")]
    push: bool,

    /// Let everybody push who reaches the server, which must listen on this machine's own addresses (127.0.0.1, [::1]) alone
    #[arg(long, requires = "push", help_heading = "Options for pushes")]
    anonymous_push: bool,

    /// Let everybody push from everywhere, with --anonymous-push. Whoever reaches the address can replace every image
    #[arg(long, requires = "anonymous_push", help_heading = "Options for pushes")]
    insecure_anywhere: bool,

    /// Let whoever may push also delete tags, manifests and blobs
    #[arg(long, requires = "push", help_heading = "Options for pushes")]
    allow_delete: bool,

    /// Give an upload up that nobody went on with for this long, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 60, requires = "push", help_heading = "Options for pushes")]
    upload_ttl: u64,

    /// Requests that bring content at a time; more are told to come again
    #[arg(long, value_name = "N", default_value_t = PushOptions::default().max_running, requires = "push",
        help_heading = "Options for pushes")]
    max_pushes: usize,

    #[command(flatten, next_help_heading = "Options for --upstream")]
    tls: TlsArgs,

    #[command(flatten)]
    private: PrivateArgs,
}

/// A client that waits for us asks again itself: two more attempts are for what passes in a moment.
const RETRY: RetryPolicy = RetryPolicy {
    attempts: 3,
    first_delay: Duration::from_millis(200),
    max_delay: Duration::from_secs(2),
    max_retry_after: Duration::from_secs(5),
};

impl Serve {
    /// What may be pushed, and whether that is safe.
    fn pushing(&self, tree: &TreePlace) -> anyhow::Result<Option<PushOptions>> {
        if !self.push {
            return Ok(None);
        }
        if let TreePlace::Bucket(_) = tree {
            return Err(exit::usage(format!(
                "{tree} can't be pushed to: only a folder has the locks that pushes need"
            )));
        }
        if !self.anonymous_push {
            return Err(exit::usage(
                "--push without users takes pushes from nobody: add --anonymous-push to take them from everybody on this machine",
            ));
        }
        if let Some(address) = self.listen.iter().find(|address| !address.ip().to_canonical().is_loopback())
            && !self.insecure_anywhere
        {
            return Err(exit::usage(format!(
                "--anonymous-push on {address} would let whoever reaches it replace every image: listen on 127.0.0.1, or add \
                 --insecure-anywhere"
            )));
        }
        Ok(Some(PushOptions {
            delete: self.allow_delete,
            upload_ttl: Duration::from_secs(self.upload_ttl.saturating_mul(60)),
            max_running: self.max_pushes,
            ..PushOptions::default()
        }))
    }

    /// What is answered from, and what people call it.
    async fn origin(&self, global: &Global) -> anyhow::Result<(Origin, String)> {
        let Some(url) = &self.upstream else {
            if let Some(option) = self.tls.given() {
                return Err(exit::usage(format!("{option} is about the host of --upstream, and none is named")));
            }
            let tree = if self.push {
                let tree = super::create_tree(&global.tree, &global.bucket, false).await?;
                // Whoever may push may have a blob of any repository mounted into another.
                self.private.check_all(&tree, "a server that takes pushes").await?;
                tree
            } else {
                let tree = super::open(global).await?;
                self.private.check(&tree, "this server").await?;
                tree
            };
            let origin = if self.private.authenticated { Origin::WholeTree(tree) } else { tree.into() };
            return Ok((origin, global.tree.to_string()));
        };
        self.private.refuse("is about a tree, and with --upstream there is none")?;
        // Read here, since the command line's own parser would show a password in it.
        let url: BaseUrl = url.parse().map_err(|error: BaseUrlError| exit::usage(error.to_string()))?;
        // As a stranger: whoever may ask us must see no more than whoever may ask the upstream.
        let options = EndpointOptions { plain_http: url.plain_http(), ..EndpointOptions::default() };
        let upstream: Endpoint = self
            .tls
            .client(ClientOptions { retry: RETRY, ..ClientOptions::default() })?
            .endpoint(url.registry(), options)?
            .below(url.path());
        Ok((upstream.into(), url.to_string()))
    }
}

/// An address and a port. A host's name would be looked up, and what it means can change; `localhost` can't.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let numeric = numeric.as_deref().unwrap_or(text);
    numeric.parse().map_err(|_| "expected ADDRESS:PORT, such as 0.0.0.0:5000 or [::]:5000".to_owned())
}

/// A connection and the file that it is sent take a descriptor each, and shells start programs with about a thousand.
/// The limit is raised as far as the system lets an ordinary process do that; with fewer, connections have to wait.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(problem) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!(error = %problem, "the limit of open files stays");
    }
}

/// Serves until the process is asked to stop. Signals are its own business: running transfers are finished first.
pub(crate) async fn run(args: Serve, global: &Global, output: &Output) -> anyhow::Result<()> {
    raise_descriptors();
    let push = args.pushing(&global.tree)?;
    let (origin, place) = args.origin(global).await?;
    let limits = Limits { connections: args.max_connections, ..Limits::default() };
    let options = ServeOptions {
        listen: args.listen,
        name_prefix: args.name_prefix,
        cors: args.cors,
        limits,
        push,
        status: args.status_listen,
        ..ServeOptions::default()
    };
    let server = Server::bind(origin, options).await?;
    for address in server.local_addrs() {
        output.note(&format!("serving {place} on http://{address}"));
    }
    if let Some(address) = server.status_addr() {
        output.note(&format!("telling of itself on http://{address}/metrics"));
    }
    server
        .run(async {
            crate::interrupted().await;
            output.note("stopping, once running transfers are done");
        })
        .await;
    Ok(())
}

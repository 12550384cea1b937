//! `roadstead serve`

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use roadstead::http::{BaseUrl, BaseUrlError, ClientOptions, Endpoint, EndpointOptions, RetryPolicy};
use roadstead::oci::{MAX_BLOB_SIZE, Repository};
use roadstead::server::{Access, Elsewhere, Limits, Origin, Place, PushOptions, ServeOptions, Server, State};
use roadstead::store::Store as _;
use roadstead::tree::Tree;

use crate::access_args::AccessArgs;
use crate::args::Global;
use crate::bucket_args::TreePlace;
use crate::exit;
use crate::listen_args::{ListenArgs, Listening, address};
use crate::log_args::LogArgs;
use crate::output::Output;
use crate::registry_args::TlsArgs;
use crate::site_args::PrivateArgs;

/// Answer pulls from the tree, or from what another host has
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    listen: ListenArgs,

    /// Put this in front of every repository's name
    #[arg(long, value_name = "PREFIX")]
    name_prefix: Option<Repository>,

    /// Let pages of other origins, such as a registry's user interface, read the answers
    #[arg(long)]
    cors: bool,

    /// Connections at a time; more have to wait
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections, value_parser = some())]
    max_connections: usize,

    /// Answer /healthz, /readyz and /metrics (for Prometheus) here, to whoever reaches it
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    status_listen: Option<SocketAddr>,

    /// Answer from what lies below this URL instead of a tree: a host of plain files that sends no headers, such as
    /// https://USER.github.io or http://GATEWAY/ipfs/CID
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,

    /// With a tree in a bucket: send clients there for blobs, by URLs that are good for a quarter of an hour, so that
    /// no layer passes through this server. URL is where they reach the service, if elsewhere than this server does
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = "",
        conflicts_with = "upstream")]
    redirect_blobs: Option<String>,

    /// Let clients push into the tree: users, made by `roadstead user add`, or with --anonymous-push all. With a tree
    /// in a bucket uploads wait in the folder of --state
    #[arg(long, conflicts_with = "upstream", help_heading = "Options for pushes")]
    push: bool,

    /// Let everybody push who reaches the server, which must listen on this machine's own addresses (127.0.0.1, [::1]) alone
    #[arg(long, requires = "push", help_heading = "Options for pushes")]
    anonymous_push: bool,

    /// With --anonymous-push, let everybody push from everywhere: whoever reaches the address can replace every image. With users,
    /// take passwords from everywhere without TLS: whoever is on the way can read them
    #[arg(long, help_heading = "Options for pushes")]
    insecure_anywhere: bool,

    /// Let whoever may push also delete tags, manifests and blobs
    #[arg(long, requires = "push", help_heading = "Options for pushes")]
    allow_delete: bool,

    /// Give an upload up that nobody went on with for this long, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 60, requires = "push", help_heading = "Options for pushes",
        value_parser = clap::value_parser!(u64).range(1..))]
    upload_ttl: u64,

    /// Requests that bring content at a time; more are told to come again
    #[arg(long, value_name = "N", default_value_t = PushOptions::default().max_running, requires = "push",
        help_heading = "Options for pushes", value_parser = some())]
    max_pushes: usize,

    /// Of these, so many by one user, or by one address without a name
    #[arg(long, value_name = "N", requires = "push", help_heading = "Options for pushes", value_parser = some())]
    max_pushes_per_client: Option<usize>,

    /// The largest blob that may be pushed, in MiB
    #[arg(long, value_name = "MIB", requires = "push", help_heading = "Options for pushes",
        value_parser = clap::value_parser!(u64).range(1..=MAX_BLOB_SIZE >> 20))]
    max_blob_size: Option<u64>,

    /// Requests of one address a second, on average; more are told to come again
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_requests_per_client: Option<u32>,

    #[command(flatten)]
    access: AccessArgs,

    #[command(flatten)]
    log: LogArgs,

    #[command(flatten, next_help_heading = "Options for --upstream")]
    tls: TlsArgs,

    #[command(flatten)]
    private: PrivateArgs,
}

/// A number of things at a time: with none of them nothing would ever be done.
fn some() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
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
    fn pushing(
        &self,
        tree: &TreePlace,
        users: Option<&State>,
        listening: &Listening,
    ) -> anyhow::Result<Option<PushOptions>> {
        if self.insecure_anywhere && !self.anonymous_push && users.is_none() {
            return Err(exit::usage("--insecure-anywhere is about --anonymous-push and users, and there is neither"));
        }
        if !self.push {
            return Ok(None);
        }
        let spool = match tree {
            TreePlace::Folder(_) => None,
            TreePlace::Bucket(_) => Some(self.access.state.spool(tree)?),
        };
        match users {
            Some(state) if self.anonymous_push => {
                return Err(exit::usage(format!(
                    "--anonymous-push would let everybody push, and there are users in {}: leave it out, or move that folder away",
                    state.folder().display()
                )));
            }
            None if !self.anonymous_push => {
                let at = if *tree == TreePlace::Folder("registry".into()) {
                    String::new()
                } else {
                    format!(" --tree {tree}")
                };
                return Err(exit::usage(format!(
                    "--push without users takes pushes from nobody: make one with `roadstead{at} user add NAME{}`, or add \
                     --anonymous-push to take them from everybody on this machine",
                    self.access.state.typed()
                )));
            }
            _ => {}
        }
        if users.is_none()
            && let Some(address) = listening.far()
            && !self.insecure_anywhere
            && !listening.knows_clients()
        {
            return Err(exit::usage(format!(
                "--anonymous-push on {address} would let whoever reaches it replace every image: listen on 127.0.0.1, ask \
                 for certificates with --tls-client-ca, or add --insecure-anywhere"
            )));
        }
        Ok(Some(PushOptions {
            delete: self.allow_delete,
            upload_ttl: Duration::from_secs(self.upload_ttl.saturating_mul(60)),
            max_running: self.max_pushes,
            max_running_per_client: self.max_pushes_per_client.unwrap_or(usize::MAX),
            max_blob_size: self.max_blob_size.map_or(MAX_BLOB_SIZE, |size| size << 20),
            spool,
            ..PushOptions::default()
        }))
    }

    /// Where clients fetch blobs themselves.
    async fn elsewhere(&self, global: &Global) -> anyhow::Result<Option<Elsewhere>> {
        let Some(endpoint) = &self.redirect_blobs else { return Ok(None) };
        let TreePlace::Bucket(at) = &global.tree else {
            return Err(exit::usage(format!(
                "--redirect-blobs sends clients to a bucket, and {} is none",
                global.tree
            )));
        };
        let endpoint = Some(endpoint.as_str()).filter(|url| !url.is_empty());
        let store = global.bucket.open_for_others(at, endpoint)?;
        // Whether there is one doesn't depend on the object.
        if store.signed_url(&"v2/_catalog".parse()?, Duration::from_mins(1)).await?.is_none() {
            return Err(exit::usage(format!(
                "--redirect-blobs: nobody can sign URLs for {at} with these credentials; leave it out, or add \
                 --no-sign-request if anybody may read there"
            )));
        }
        Ok(Some(Elsewhere(Arc::new(store))))
    }

    /// Says by whom this server goes, and from where nobody can log in.
    fn tell_of_users(&self, state: &State, listening: &Listening, output: &Output) {
        output.note(&format!("who may do what is said by {}", state.folder().display()));
        let told = self.insecure_anywhere || listening.tls.is_some() || !self.listen.trusted_proxies.is_empty();
        if listening.far().is_some() && !told {
            output.note(
                "passwords are taken from this machine alone: this server speaks no TLS; give it a certificate with --tls-cert, or \
                 put a proxy in front that speaks TLS, and name it with --trust-proxy",
            );
        }
    }

    /// The tree, which is made if it is to be pushed to and isn't there.
    async fn tree(&self, global: &Global) -> anyhow::Result<Tree> {
        let TreePlace::Bucket(at) = &global.tree else {
            return match self.push {
                true => super::create_tree(&global.tree, &global.bucket, false).await,
                false => super::open(global).await,
            };
        };
        let store = Arc::new(global.bucket.open_for_clients(at)?);
        Ok(if self.push { Tree::create(store).await? } else { Tree::open(store).await? })
    }

    /// What is answered from, and what people call it.
    async fn origin(&self, global: &Global, users: Option<&State>) -> anyhow::Result<(Origin, String)> {
        let Some(url) = &self.upstream else {
            if let Some(option) = self.tls.given() {
                return Err(exit::usage(format!("{option} is about the host of --upstream, and none is named")));
            }
            if let Some(state) = users {
                if self.private.authenticated {
                    return Err(exit::usage(format!(
                        "--authenticated says that somebody in front asks who is there, and this server does by {}: leave it out",
                        state.folder().display()
                    )));
                }
                let tree = self.tree(global).await?;
                // What is private is for those who may see it, unless nobody is to.
                let origin = if self.private.without_private { tree.into() } else { Origin::WholeTree(tree) };
                return Ok((origin, global.tree.to_string()));
            }
            let tree = self.tree(global).await?;
            if self.push {
                // Whoever may push may have a blob of any repository mounted into another.
                self.private.check_all(&tree, "a server that takes pushes").await?;
            } else {
                self.private.check(&tree, "this server").await?;
            }
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
    let listening = args.listen.open()?;
    let log = args.log.open()?;
    let tree = args.upstream.is_none().then_some(&global.tree);
    let (access, state) = args.access.open(tree, &args.tls, args.insecure_anywhere)?.unzip();
    let push = args.pushing(&global.tree, state.as_ref(), &listening)?;
    let elsewhere = args.elsewhere(global).await?;
    let (origin, place) = args.origin(global, state.as_ref()).await?;
    if let Some(state) = &state {
        args.tell_of_users(state, &listening, output);
    }
    if access.as_ref().is_some_and(Access::knows_certificates) && !listening.knows_clients() {
        output.note(
            "there are grants for certificates, and this server asks for none: --tls-client-ca says by which authorities",
        );
    }
    let scheme = if listening.tls.is_some() { "https" } else { "http" };
    let limits = Limits {
        connections: args.max_connections,
        requests_per_client: args.max_requests_per_client,
        ..Limits::default()
    };
    let options = ServeOptions {
        listen: listening.places,
        tls: listening.tls,
        public_url: args.listen.public_url,
        trusted_proxies: args.listen.trusted_proxies,
        access_log: log.clone(),
        name_prefix: args.name_prefix,
        cors: args.cors,
        limits,
        push,
        status: args.status_listen,
        elsewhere,
        ..ServeOptions::default()
    };
    let server = Server::bind_guarded(origin, options, access).await?;
    for listens in server.places() {
        match listens {
            Place::Tcp(address) => output.note(&format!("serving {place} on {scheme}://{address}")),
            Place::Unix(_) => output.note(&format!("serving {place} on {listens}")),
        }
    }
    if let Some(address) = server.status_addr() {
        output.note(&format!("telling of itself on http://{address}/metrics"));
    }
    let serving = server.run(async {
        crate::interrupted().await;
        output.note("stopping, once running transfers are done");
    });
    tokio::select! {
        () = serving => {}
        () = args.log.follow_hangups(log.as_ref()) => {}
    }
    Ok(())
}

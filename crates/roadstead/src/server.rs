//! The built-in server: the site's rules, answered by us.
//!
//! [`Pull`] decides what a request is answered with, from a tree or from what another host has (an [`Origin`]). Two transports
//! carry it:
//!
//! - an HTTP/1.1 path of our own (`http1`) for what pulls consist of, `GET` and `HEAD` without content, so that a
//!   manifest costs one `read`, one `readlink` and one `write`, and a blob goes from the page cache to another machine
//!   by `sendfile`;
//! - hyper (`general`) for everything else: HTTP/2, requests with content, and whatever a request has that the first
//!   path doesn't know. The connection is handed over with the bytes that were read, and stays there. What comes by TLS
//!   (`tls`), where no byte goes out uncopied, or by a Unix socket (`listen`) is there from the beginning.
//!
//! So the code that is ours knows one narrow form of HTTP and refuses to guess about any other. Serving through hyper
//! alone was the alternative; what it costs is in `ARCHITECTURE.md`.
//!
//! Pushes (`push`) come by the second transport, and only if [`ServeOptions::push`] lets them.

mod access_log;
mod alarm;
mod auth;
mod cache;
mod certificate;
mod course;
#[cfg(feature = "testing")]
mod fed;
mod files;
mod front;
mod general;
mod http1;
mod listen;
mod lists;
mod origin;
mod pull;
mod push;
mod range;
mod rewind;
mod status;
mod tls;
mod told;
mod upstream;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

pub use access_log::{AccessLog, LogFormat};
#[cfg(feature = "testing")]
pub use auth::feed;
pub use auth::{Access, AccessError, AccessOptions, MAX_PASSWORD, Right, State, TOKEN_PATH, UserFile};
#[cfg(feature = "testing")]
pub use fed::feed_requests;
pub use front::{NoProxy, Proxy};
pub use listen::{Listen, Place};
pub use origin::Origin;
pub use pull::{Body, Headers, Pull, Request, Response};
pub use push::PushOptions;
pub use tls::{TlsError, TlsFiles};

use self::auth::{Guard, Pace, Refusal};
use self::certificate::Certificate;
use self::front::{Front, Peer, Trust};
use self::listen::{Listener, Stream};
use self::push::Push;
use self::tls::Tls;
use crate::oci::Repository;
use crate::store::Store;
use crate::tree::TreeError;

/// What a client may take of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time. Those beyond wait in the system's queue.
    pub connections: usize,
    /// How long the first line and the headers of a request may take from their first byte on.
    pub head_time: Duration,
    /// How long a connection may lie idle before its first request, and between requests.
    pub idle_time: Duration,
    /// How long a client may take no byte of an answer, or send none of what it has announced.
    pub stall_time: Duration,
    /// How long running transfers may go on when the server stops.
    pub stop_time: Duration,
    /// The memory for manifests, in bytes. Lists take half as much again.
    pub memory: usize,
    /// Requests of one address a second, over all its connections, and twice as many at once; those beyond are told to come
    /// again. `None` counts nothing.
    pub requests_per_client: Option<u32>,
}

/// The most bytes of a request's first line and headers. Tokens take a few thousand.
pub const MAX_HEAD: usize = 32 << 10;

/// The most header lines of a request.
pub const MAX_HEADERS: usize = 100;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            head_time: Duration::from_secs(15),
            idle_time: Duration::from_secs(75),
            stall_time: Duration::from_secs(60),
            stop_time: Duration::from_secs(30),
            memory: 64 << 20,
            requests_per_client: None,
        }
    }
}

/// Which clients blobs go to by `sendfile`, where the system has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sendfile {
    /// Those on other machines: no byte is copied on the way to the network card.
    ///
    /// Pages that `sendfile` passes on within a machine are read from memory by the client alone, while bytes that are
    /// copied reach it through the processor's cache: a third faster for one reader, at five times the server's time.
    #[default]
    Elsewhere,
    /// All.
    Everywhere,
}

/// How to serve.
#[derive(Debug)]
pub struct ServeOptions {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// Speaks TLS with whoever doesn't come by a Unix socket.
    pub tls: Option<TlsFiles>,
    /// How clients reach the server, scheme and authority without a slash at the end, where that isn't how they ask it.
    pub public_url: Option<String>,
    /// The proxies whose word on a request counts.
    pub trusted_proxies: Vec<Proxy>,
    /// Put in front of every repository's name.
    pub name_prefix: Option<Repository>,
    /// Whether pages of other origins may read the answers: [`CORS`](crate::site::CORS).
    pub cors: bool,
    /// The limits.
    pub limits: Limits,
    /// Which clients get blobs uncopied.
    pub sendfile: Sendfile,
    /// What whoever reaches the server may push. `None` lets nobody.
    pub push: Option<PushOptions>,
    /// Writes a line for each request.
    pub access_log: Option<AccessLog>,
    /// Where `/healthz`, `/readyz` and `/metrics` are answered, to whoever reaches it. `None` answers nowhere.
    pub status: Option<SocketAddr>,
    /// Where clients fetch blobs themselves.
    pub elsewhere: Option<Elsewhere>,
}

/// The store of a tree as clients reach it: they are sent there for blobs by [URLs](Store::signed_url) that are good
/// for a quarter of an hour, so that bytes don't pass through the server. What has no such URL is handed out as ever.
#[derive(Clone)]
pub struct Elsewhere(pub Arc<dyn Store>);

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Elsewhere").field(&self.0.describe()).finish()
    }
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 5000)).into()],
            tls: None,
            public_url: None,
            trusted_proxies: Vec::new(),
            name_prefix: None,
            cors: false,
            limits: Limits::default(),
            sendfile: Sendfile::default(),
            push: None,
            access_log: None,
            status: None,
            elsewhere: None,
        }
    }
}

/// What keeps a server from serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A place can't be listened on.
    #[error("can't listen on {place}")]
    Listen {
        /// The place.
        place: Place,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No address was given.
    #[error("no address to listen on")]
    Nowhere,
    /// TLS can't be spoken as it should be.
    #[error("TLS can't be spoken")]
    Tls(#[from] TlsError),
    /// Pushes into what isn't ours.
    #[error("another host can't be pushed to by way of this server")]
    NoPushes,
    /// Pushes into what can't be written.
    #[error("pushes can't be taken")]
    Unwritable(#[source] TreeError),
}

/// A server that listens, and answers as soon as it runs.
pub struct Server {
    listeners: Vec<Listener>,
    status: Option<(TcpListener, SocketAddr)>,
    pull: Pull,
    push: Option<Push>,
    guard: Option<Guard>,
    trust: Trust,
    tls: Option<Tls>,
    access_log: Option<AccessLog>,
    cors: bool,
    limits: Limits,
    sendfile: Sendfile,
}

impl Server {
    /// Begins to listen. Connections wait until [`Server::run`].
    ///
    /// # Errors
    ///
    /// [`ServeError`] if there is no address, one can't be listened on, or the origin can't be pushed to, or not be written.
    pub async fn bind(origin: impl Into<Origin>, options: ServeOptions) -> Result<Self, ServeError> {
        Self::bind_guarded(origin, options, None).await
    }

    /// The same for a server that asks who is there, and lets nobody do what they may not. A tree is shown whole to those who may
    /// see it if it is an [`Origin::WholeTree`]; of any other nobody sees what is private.
    ///
    /// # Errors
    ///
    /// As [`Server::bind`].
    pub async fn bind_guarded(
        origin: impl Into<Origin>,
        options: ServeOptions,
        access: Option<Access>,
    ) -> Result<Self, ServeError> {
        let ServeOptions { listen, name_prefix, cors, limits, sendfile, push, access_log, status, .. } = options;
        let trust = Trust { public_url: options.public_url, proxies: options.trusted_proxies };
        let tls = options.tls.map(Tls::new).transpose()?;
        let origin = origin.into();
        let push = match (push, &origin) {
            (None, _) => None,
            (Some(options), Origin::Tree(tree) | Origin::WholeTree(tree)) => {
                let push = Push::new(tree.clone(), name_prefix.clone(), options).await;
                Some(push.map_err(ServeError::Unwritable)?)
            }
            (Some(_), Origin::Upstream(_)) => return Err(ServeError::NoPushes),
        };
        let mut listeners = Vec::with_capacity(listen.len());
        for place in listen {
            listeners.push(Listener::bind(place).await?);
        }
        if listeners.is_empty() {
            return Err(ServeError::Nowhere);
        }
        let tree = match &origin {
            Origin::Tree(tree) | Origin::WholeTree(tree) => Some(tree.clone()),
            Origin::Upstream(_) => None,
        };
        let guard = access.map(|access| Guard::new(access, tree, name_prefix.clone()));
        let status = match status {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let elsewhere = options.elsewhere.map(|Elsewhere(store)| store);
        let pull = Pull::sending_elsewhere(origin, name_prefix, cors, limits.memory, elsewhere);
        Ok(Self { listeners, status, pull, push, guard, trust, tls, access_log, cors, limits, sendfile })
    }

    /// Where it listens, with the ports that the system chose.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.listeners.iter().map(|listener| &listener.place)
    }

    /// The first address on which it listens; `None` if it listens at Unix sockets alone.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.places().find_map(|place| match place {
            Place::Tcp(address) => Some(*address),
            Place::Unix(_) => None,
        })
    }

    /// Where it tells of itself, if it does.
    #[must_use]
    pub fn status_addr(&self) -> Option<SocketAddr> {
        self.status.as_ref().map(|(_, address)| *address)
    }

    /// Serves until `shutdown` is ready. Then no connection is taken, idle ones are closed, and running transfers may go
    /// on for [`Limits::stop_time`].
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listeners, status, pull, push, guard, trust, tls, access_log, cors, limits, sendfile } = self;
        let pace = limits.requests_per_client.map(Pace::per_second);
        let (stop, counts) = (Stop::default(), status::Counts::default());
        let log = access_log.clone();
        let shared = Shared { pull, push, guard, trust, tls, pace, access_log, cors, limits, sendfile, stop, counts };
        let shared = Arc::new(shared);
        let slots = Arc::new(Semaphore::new(shared.limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            acceptors.spawn(accept(listener, Arc::clone(&shared), Arc::clone(&slots)));
        }
        // Dropped, and with it stopped, at the very end.
        let mut telling = JoinSet::new();
        if let Some((listener, _)) = status {
            telling.spawn(status::serve(listener, Arc::clone(&shared)));
        }
        let expiring = async {
            let mut every = tokio::time::interval(EXPIRY);
            loop {
                every.tick().await;
                if let Some(push) = &shared.push {
                    push.expire().await;
                }
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = expiring => {}
        }
        shared.stop.begin();
        let stop_time = shared.limits.stop_time;
        let finished = async { while acceptors.join_next().await.is_some() {} };
        if tokio::time::timeout(stop_time, finished).await.is_err() {
            tracing::warn!("stopped with transfers still running");
        }
        // What is left is cut off with the sets that hold it.
        drop(acceptors);
        if let Some(push) = &shared.push {
            push.leave().await;
        }
        if let Some(log) = log {
            log.finish().await;
        }
    }
}

/// How often uploads are looked at that may have lain still for too long.
const EXPIRY: Duration = Duration::from_secs(30);

/// What all connections share.
struct Shared {
    pull: Pull,
    push: Option<Push>,
    guard: Option<Guard>,
    trust: Trust,
    tls: Option<Tls>,
    pace: Option<Pace>,
    access_log: Option<AccessLog>,
    cors: bool,
    limits: Limits,
    sendfile: Sendfile,
    stop: Stop,
    counts: status::Counts,
}

impl Shared {
    /// Whether anybody looks at what a request says of its client.
    const fn looks_at_clients(&self) -> bool {
        self.guard.is_some() || self.pace.is_some() || self.access_log.is_some()
    }

    /// What an answer carries whatever it is.
    fn complete(&self, mut response: Response) -> Response {
        if self.cors {
            pull::open_to_pages(&mut response);
        }
        response
    }

    /// Refuses a request of a client that has sent too many.
    fn pace(&self, front: &Front) -> Result<(), Refusal> {
        let Some(pace) = &self.pace else { return Ok(()) };
        let taken = pace.take(front.client, Instant::now());
        taken.map_err(|wait| Refusal::busy("too many requests came from there", wait))
    }
}

/// Tells connections that the server stops. A connection subscribes once, so that none is told twice or never.
#[derive(Default)]
struct Stop {
    begun: std::sync::atomic::AtomicBool,
    notify: Arc<Notify>,
}

impl Stop {
    fn begin(&self) {
        self.begun.store(true, std::sync::atomic::Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    fn has_begun(&self) -> bool {
        self.begun.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Ready once the server stops.
    async fn wait(&self) {
        let mut notified = pin!(self.notify.notified());
        // Subscribed before the flag is read, so that a stop in between is not missed.
        notified.as_mut().enable();
        if !self.has_begun() {
            notified.await;
        }
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { place: Place::Tcp(address), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

async fn accept(listener: Listener, shared: Arc<Shared>, slots: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    let mut stopping = pin!(shared.stop.wait());
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stopping => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let address = peer.address;
                    if let Err(problem) = connection(stream, peer, &shared).await {
                        tracing::debug!(peer = %address, error = %problem, "connection lost");
                    }
                    drop(slot);
                });
            }
            Err(problem) => {
                // Out of descriptors, most often: others will be closed. Turning at full speed would not help them.
                tracing::warn!(error = %problem, "can't take a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: Stream, peer: Peer, shared: &Arc<Shared>) -> std::io::Result<()> {
    let _open = shared.counts.connection();
    let stream = match stream {
        Stream::Tcp(stream) => stream,
        // Whoever passes requests on from beside us.
        Stream::Unix(stream) => return general::serve(stream, BytesMut::new(), peer, shared).await,
    };
    // Answers are written whole: waiting for more to send with them only adds 40 ms to some.
    stream.set_nodelay(true)?;
    if let Some(tls) = &shared.tls {
        let greeted = tokio::select! {
            greeted = tls.greet(stream, &shared.limits) => greeted?,
            () = shared.stop.wait() => None,
        };
        let Some(stream) = greeted else { return Ok(()) };
        let shown = stream.get_ref().1.peer_certificates().and_then(|shown| shown.first());
        let certificate = shown.map(|certificate| Arc::new(Certificate::read(certificate)));
        return general::serve(stream, BytesMut::new(), Peer { tls: true, certificate, ..peer }, shared).await;
    }
    match http1::serve(stream, peer.clone(), shared).await? {
        http1::Ended::Closed => Ok(()),
        http1::Ended::HandedOver(stream, read) => general::serve(stream, read, peer, shared).await,
    }
}

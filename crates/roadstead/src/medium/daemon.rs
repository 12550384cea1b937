//! A Docker engine, or one that speaks like it, as a source and as a sink.
//!
//! Its API hands images out as `docker save` writes them, and takes what `docker load` reads; it knows no manifests, and an
//! engine without containerd's store makes one only when it exports an image. So a daemon is no
//! [`Collection`](crate::image::Collection) itself, which would have to export everything in order to list it: it lists
//! [names](Daemon::names), and what it [exports](Daemon::export) is one. Several images in one export share their layers.
//!
//! Source: Docker Engine API, "Export several images" and "Import images".

mod sink;

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ::http::Method;
use futures::TryStreamExt as _;
use tokio_util::io::StreamReader;
use url::form_urlencoded;

use super::docker_archive::DockerArchive;
use crate::http::{
    Client, ClientOptions, Endpoint, EndpointOptions, HttpError, Request, Response, RetryPolicy, Scope, Timeouts,
};
use crate::image::SourceError;
use crate::oci::{Registry, excerpt};
pub use sink::DaemonSink;

/// The oldest version of the API that is spoken: that of Docker 1.13.
const OLDEST: (u32, u32) = (1, 25);

/// How long an engine may be silent. It gathers an image before it sends the first byte, and unpacks one before it says that
/// it has it; either takes as long as the image is large.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// The longest list of images that is read.
const MAX_LIST: u64 = 64 << 20;

/// Where an engine listens, as `DOCKER_HOST` says it: `unix:///run/docker.sock`, `tcp://127.0.0.1:2375`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonHost {
    /// A Unix socket.
    Unix(PathBuf),
    /// Host and port, without TLS.
    Tcp(Registry),
}

impl Default for DaemonHost {
    /// Where Docker listens if nobody says otherwise.
    fn default() -> Self {
        Self::Unix("/var/run/docker.sock".into())
    }
}

impl FromStr for DaemonHost {
    type Err = DaemonError;

    fn from_str(text: &str) -> Result<Self, DaemonError> {
        let refused = || DaemonError::Host(excerpt(text));
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("tcp" | "http", host)) => {
                let host: Registry = host.trim_end_matches('/').parse().map_err(|_| refused())?;
                if host.port().is_some() {
                    return Ok(Self::Tcp(host));
                }
                format!("{host}:2375").parse().map(Self::Tcp).map_err(|_| refused())
            }
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for DaemonHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

/// Why an engine can't be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// A host of another kind.
    #[error("{0:?} is neither unix:///PATH nor tcp://HOST:PORT, and no other way to an engine is known")]
    Host(String),
    /// No socket, or nobody behind it.
    #[error("nobody listens there: is the engine running?")]
    NotRunning(#[source] HttpError),
    /// The socket's permissions.
    #[error(
        "its socket is for root and the group {group}, which `usermod --append --groups {group} USER` adds a user to"
    )]
    Group {
        /// The group that the socket belongs to: its name, or its number if it has none.
        group: String,
        /// What the system said.
        #[source]
        source: HttpError,
    },
}

/// An engine.
#[derive(Debug, Clone)]
pub struct Daemon {
    host: DaemonHost,
    place: Endpoint,
    version: String,
}

impl Daemon {
    /// The engine at `host`, if it answers.
    ///
    /// # Errors
    ///
    /// [`SourceError::Unreachable`] if nobody listens there, [`SourceError::Denied`] if its socket is for others,
    /// [`SourceError::Unsupported`] if it is too old, [`SourceError::Invalid`] if it is no engine.
    pub async fn connect(host: &DaemonHost) -> Result<Self, SourceError> {
        let (registry, socket) = match host {
            DaemonHost::Unix(path) => ("localhost".parse().expect("a host"), Some(path.clone())),
            DaemonHost::Tcp(host) => (host.clone(), None),
        };
        // An engine says 500 to much that stays so, and is too near for a connection to break by chance.
        let retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
        let timeouts = Timeouts { answer: PATIENCE, stall: PATIENCE, ..Timeouts::default() };
        let failed = |source: HttpError| SourceError::Failed { what: host.to_string(), source: source.into() };
        let client =
            Client::new(ClientOptions { socket, retry, timeouts, ..ClientOptions::default() }).map_err(failed)?;
        let place = client.endpoint(&registry, EndpointOptions { plain_http: true, ..EndpointOptions::default() });
        let mut daemon = Self { host: host.clone(), place: place.map_err(failed)?, version: String::new() };
        let answer = daemon.get("/_ping".to_owned(), "its version").await?;
        let version = answer.header("api-version").unwrap_or_default();
        match parse_version(version) {
            Some(number) if number >= OLDEST => daemon.version = version.to_owned(),
            Some(_) => {
                let (major, minor) = OLDEST;
                let problem = format!("{host} is too old: it speaks version {version} of the API, not {major}.{minor}");
                return Err(SourceError::Unsupported(problem));
            }
            None => {
                let problem = "it is no Docker engine: it names no version of the API".to_owned();
                return Err(SourceError::Invalid { what: host.to_string(), problem });
            }
        }
        Ok(daemon)
    }

    /// The names of all images, sorted, such as `alpine:3.20`.
    ///
    /// # Errors
    ///
    /// If the engine fails.
    pub async fn names(&self) -> Result<Vec<String>, SourceError> {
        #[derive(serde::Deserialize)]
        struct Image {
            #[serde(rename = "RepoTags", default)]
            tags: Option<Vec<String>>,
        }
        let what = "the list of its images";
        let answer = self.get(self.path("images/json"), what).await?;
        let list = answer.bytes(MAX_LIST).await.map_err(|error| self.failed(what, error))?;
        let invalid =
            |e: serde_json::Error| SourceError::Invalid { what: self.host.to_string(), problem: e.to_string() };
        let images: Vec<Image> = serde_json::from_slice(&list).map_err(invalid)?;
        let names = images.into_iter().flat_map(|image| image.tags.unwrap_or_default());
        // What has lost its name is listed by older engines like this.
        let mut names: Vec<String> = names.filter(|name| name != "<none>:<none>").collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Images by their names or IDs, as an archive in a file without a name in the folder `spool`. A name without a tag means
    /// all tags of that repository, as for `docker save`.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotFound`] if the engine has no such image; as [`DockerArchive::read`] if what comes is no whole
    /// archive.
    pub async fn export(&self, names: &[impl AsRef<str> + Sync], spool: &Path) -> Result<DockerArchive, SourceError> {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(names.iter().map(|name| ("names", name)))
            .finish();
        let path = self.path(&format!("images/get?{query}"));
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        let what = format!("docker-daemon:{}", names.join(","));
        let answer = self.get(path, &what).await?;
        let bytes = StreamReader::new(Box::pin(answer.into_stream().map_err(io::Error::other)));
        DockerArchive::read(bytes, &what, spool).await
    }

    fn path(&self, rest: &str) -> String {
        format!("/v{}/{rest}", self.version)
    }

    async fn get(&self, path: String, what: &str) -> Result<Response, SourceError> {
        let request = Request::new(Method::GET, path, Scope::None);
        self.place.expect_success(&request).await.map_err(|error| self.failed(what, error))
    }

    fn failed(&self, what: &str, error: HttpError) -> SourceError {
        let (place, what) = (self.host.to_string(), what.to_owned());
        match (error.io_kind(), error.status()) {
            (Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused), _) => {
                SourceError::Unreachable { place, source: DaemonError::NotRunning(error).into() }
            }
            (Some(io::ErrorKind::PermissionDenied), _) => {
                let cause = DaemonError::Group { group: self.group(), source: error };
                SourceError::Denied { place, what, source: Some(cause.into()) }
            }
            (_, Some(::http::StatusCode::NOT_FOUND)) => SourceError::NotFound { what, source: Some(error.into()) },
            _ if error.is_unreachable() => SourceError::Unreachable { place, source: error.into() },
            _ => SourceError::Failed { what, source: error.into() },
        }
    }

    /// The group that the socket belongs to.
    fn group(&self) -> String {
        let DaemonHost::Unix(path) = &self.host else { return "docker".to_owned() };
        let Ok(metadata) = path.metadata() else { return "docker".to_owned() };
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        group_name(&groups, metadata.gid()).unwrap_or_else(|| metadata.gid().to_string())
    }
}

/// The name of a group, from the system's list of them.
fn group_name(groups: &str, gid: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

/// `MAJOR.MINOR`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, shown) in [
            ("unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
            ("tcp://127.0.0.1:2376", "tcp://127.0.0.1:2376"),
            ("tcp://engine", "tcp://engine:2375"),
            ("http://engine:1/", "tcp://engine:1"),
        ] {
            assert_eq!(text.parse::<DaemonHost>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "/var/run/docker.sock",
            "unix://docker.sock",
            "unix://",
            "ssh://host",
            "npipe:////./x",
            "tcp://a b",
            "fd://",
        ] {
            let error = bad.parse::<DaemonHost>().unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }

    #[test]
    fn versions() {
        assert_eq!(parse_version("1.41"), Some((1, 41)));
        for bad in ["", "1", "1.x", "1.41/../x", "v1.41"] {
            assert_eq!(parse_version(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn groups() {
        let groups = "root:x:0:\nbroken\ndocker:x:999:me,you\nlast:x:1000\n";
        assert_eq!(group_name(groups, 999).as_deref(), Some("docker"));
        assert_eq!(group_name(groups, 1000).as_deref(), Some("last"));
        assert_eq!(group_name(groups, 5), None);
    }
}

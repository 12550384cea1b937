//! Where connections are taken: at addresses, at Unix sockets, and at sockets that somebody else opened.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};

use super::ServeError;
use super::front::Peer;

/// Where to listen.
#[derive(Debug)]
pub enum Listen {
    /// At an address. `[::]` takes connections of both families, where the system says so.
    Tcp(SocketAddr),
    /// At a Unix socket. One that is there already is replaced if nobody answers at it; when the server stops, it goes.
    Unix {
        /// Its place.
        path: PathBuf,
        /// Who may connect: its permissions.
        mode: u32,
    },
    /// At a socket that listens already, such as systemd passes.
    OpenTcp(std::net::TcpListener),
    /// The same of a Unix socket. It is never removed.
    OpenUnix(std::os::unix::net::UnixListener),
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An address, with the port that the system chose.
    Tcp(SocketAddr),
    /// A Unix socket; `None` if it has no path.
    Unix(Option<PathBuf>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("a Unix socket without a path"),
        }
    }
}

/// Takes connections. What it made in the file system goes with it.
pub(super) struct Listener {
    pub(super) place: Place,
    socket: Socket,
    _made: Option<Made>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// How many connections the system keeps for us. It has a limit of its own, which is lower as a rule.
const BACKLOG: u32 = 4096;

impl Listener {
    /// Begins to listen.
    pub(super) async fn bind(listen: Listen) -> Result<Self, ServeError> {
        let meant = match &listen {
            Listen::Tcp(address) => Place::Tcp(*address),
            Listen::Unix { path, .. } => Place::Unix(Some(path.clone())),
            Listen::OpenTcp(listener) => listener.local_addr().map_or(Place::Unix(None), Place::Tcp),
            Listen::OpenUnix(_) => Place::Unix(None),
        };
        Self::try_bind(listen).await.map_err(|source| ServeError::Listen { place: meant, source })
    }

    async fn try_bind(listen: Listen) -> io::Result<Self> {
        let tcp = |listener: TcpListener| {
            let place = Place::Tcp(listener.local_addr()?);
            Ok(Self { place, socket: Socket::Tcp(listener), _made: None })
        };
        match listen {
            Listen::Tcp(address) => tcp(TcpListener::bind(address).await?),
            Listen::OpenTcp(listener) => {
                listener.set_nonblocking(true)?;
                tcp(TcpListener::from_std(listener)?)
            }
            Listen::OpenUnix(listener) => {
                listener.set_nonblocking(true)?;
                let place = Place::Unix(listener.local_addr()?.as_pathname().map(Path::to_owned));
                Ok(Self { place, socket: Socket::Unix(UnixListener::from_std(listener)?), _made: None })
            }
            Listen::Unix { path, mode } => {
                let (listener, made) = bind_unix(&path, mode)?;
                Ok(Self { place: Place::Unix(Some(path)), socket: Socket::Unix(listener), _made: Some(made) })
            }
        }
    }

    /// Takes a connection.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream::Tcp(stream), Peer::by_tcp(peer.ip())))
            }
            Socket::Unix(listener) => Ok((Stream::Unix(listener.accept().await?.0), Peer::by_socket())),
        }
    }
}

/// A Unix socket's file.
struct Made {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for Made {
    fn drop(&mut self) {
        let _turn = turn(&self.path);
        // Another server may have put its own there.
        if fs::symlink_metadata(&self.path).is_ok_and(|is| (is.dev(), is.ino()) == (self.device, self.inode)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Keeps others, who do the same, from looking at the sockets of a folder and replacing them, as far as the folder
/// allows that.
fn turn(path: &Path) -> Option<File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(parent).ok()?;
    folder.lock().ok()?;
    Some(folder)
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, Made)> {
    let _turn = turn(path);
    let socket = UnixSocket::new_stream()?;
    match socket.bind(path) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            check_left_over(path)?;
            fs::remove_file(path)?;
            socket.bind(path)?;
        }
        bound => bound?,
    }
    let is = fs::symlink_metadata(path)?;
    let made = Made { path: path.to_owned(), device: is.dev(), inode: is.ino() };
    // As long as it doesn't listen, nobody can connect, whatever its mode.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok((socket.listen(BACKLOG)?, made))
}

/// Refuses to replace what is no socket, or one at which somebody answers.
fn check_left_over(path: &Path) -> io::Result<()> {
    let taken = |problem: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, problem.to_owned()));
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return taken("there is a file that is no socket");
    }
    // Without waiting: somebody whose queue is full is somebody.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => Ok(()),
        Ok(()) | Err(Errno::AGAIN) => taken("another server answers there"),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as StdStream;

    use super::*;

    fn unix(path: &Path, mode: u32) -> Listen {
        Listen::Unix { path: path.to_owned(), mode }
    }

    #[tokio::test]
    async fn a_left_over_is_replaced_and_what_lives_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Listener::bind(unix(&path, 0o640)).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let refused = Listener::bind(unix(&path, 0o600)).await.err().unwrap();
        assert_eq!(std::error::Error::source(&refused).unwrap().to_string(), "another server answers there");
        StdStream::connect(&path).unwrap();
        drop(listener);
        assert!(!path.exists(), "it goes with its listener");

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a left-over");
        let first = Listener::bind(unix(&path, 0o600)).await.unwrap();
        StdStream::connect(&path).unwrap();
        // Whoever took it away and put another one there keeps it.
        fs::remove_file(&path).unwrap();
        let second = Listener::bind(unix(&path, 0o600)).await.unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);

        fs::write(&path, "a file").unwrap();
        let refused = Listener::bind(unix(&path, 0o600)).await.err().unwrap();
        assert!(std::error::Error::source(&refused).unwrap().to_string().contains("no socket"));
        assert_eq!(fs::read(&path).unwrap(), b"a file");
    }

    #[tokio::test]
    async fn of_many_at_once_one_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let tries = (0..32).map(|_| {
            tokio::task::spawn_blocking({
                let path = path.clone();
                move || tokio::runtime::Handle::current().block_on(Listener::bind(unix(&path, 0o600)))
            })
        });
        let bound = futures::future::join_all(tries).await.into_iter().filter_map(|tried| tried.unwrap().ok());
        let bound: Vec<_> = bound.collect();
        assert_eq!(bound.len(), 1);
        StdStream::connect(&path).unwrap();
    }
}

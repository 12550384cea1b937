use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::invocation;

/// A port on 127.0.0.1 that nobody else gets while this value lives.
///
/// Asking the kernel for a free port and then closing it, so that a program can be told its number, gives it to whoever
/// asks next: with tests in parallel, that happens. So ports are taken from below the range that the kernel itself
/// hands out, and each is held by a lock on a file that all processes of this machine's test runs know.
#[derive(Debug)]
pub struct Port {
    number: u16,
    // Unlocked when it closes. The file stays: removing it would let two processes lock two files of one name.
    _lock: File,
}

impl Port {
    const FIRST: u16 = 15_000;
    const COUNT: u16 = 10_000;

    /// Takes one that is free.
    ///
    /// # Panics
    ///
    /// When none of ten thousand is.
    pub fn free() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // A folder for each user, for one can't lock another's files.
        let locks = PathBuf::from(format!("/tmp/roadstead-parts-ports-{}", invocation::user()));
        fs::create_dir_all(&locks).expect("/tmp can be written to");
        // Processes begin at different places, so that they seldom meet.
        let start = std::process::id().wrapping_mul(7919);
        for _ in 0..Self::COUNT {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let offset = u16::try_from(start.wrapping_add(step) % u32::from(Self::COUNT))
                .expect("a remainder is smaller than its divisor");
            let number = Self::FIRST + offset;
            let Ok(lock) =
                File::options().create(true).truncate(false).write(true).open(locks.join(number.to_string()))
            else {
                continue;
            };
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("no port is free between {} and {}", Self::FIRST, Self::FIRST + Self::COUNT);
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// It with 127.0.0.1 in front.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }

    /// Whether somebody accepts connections there.
    pub fn answers(&self) -> bool {
        TcpStream::connect_timeout(&self.address(), Duration::from_secs(1)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn two_ports_that_live_together_differ() {
        let ports: Vec<_> = (0..50).map(|_| Port::free()).collect();
        let numbers: BTreeSet<_> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
    }

    #[test]
    fn a_port_answers_when_somebody_listens() {
        let port = Port::free();
        assert!(!port.answers());
        let _listener = TcpListener::bind(port.address()).unwrap();
        assert!(port.answers());
    }
}

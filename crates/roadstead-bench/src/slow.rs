//! A line that takes its time: a proxy that adds to each round trip, and counts the requests that pass.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How many bytes are taken at once.
const PIECE: usize = 64 << 10;

/// How many pieces are on the way in one direction: enough for hundreds of megabytes a second on a connection.
const ON_THE_WAY: usize = 128;

/// What ends the first line of a request, and hardly ever stands in what is sent.
const END_OF_LINE: &[u8] = b" HTTP/1.1\r\n";

/// Such a line. It exists as long as the process does.
pub(crate) struct Line {
    at: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Line {
    /// A line to a server, on which each round trip takes so much longer.
    pub(crate) fn start(to: &str, round_trip: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let (at, to, requests) = (listener.local_addr()?, to.to_owned(), Arc::new(AtomicU64::new(0)));
        let counted = requests.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Who isn't connected notices that the connection ends.
                let _ = connect(client, &to, round_trip / 2, &counted);
            }
        });
        Ok(Self { at, requests })
    }

    /// Its near end, as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// How many requests have passed.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

fn connect(client: TcpStream, to: &str, delay: Duration, requests: &Arc<AtomicU64>) -> io::Result<()> {
    let server = TcpStream::connect(to)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let counted = requests.clone();
    pass(client.try_clone()?, server.try_clone()?, delay, move |count| {
        counted.fetch_add(count, Ordering::Relaxed);
    });
    pass(server, client, delay, |_| {});
    Ok(())
}

/// Passes on what comes, when its time has come, and tells `hear` how many requests begin in it.
fn pass(mut from: TcpStream, to: TcpStream, delay: Duration, hear: impl Fn(u64) + Send + 'static) {
    let (sender, receiver) = sync_channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    thread::spawn(move || deliver(&receiver, to));
    thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        let mut seen = Vec::new();
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let piece = &buffer[..length];
            seen.extend_from_slice(piece);
            hear(seen.windows(END_OF_LINE.len()).filter(|window| *window == END_OF_LINE).count() as u64);
            // The end of a line may come in two pieces.
            seen.drain(..seen.len() - seen.len().min(END_OF_LINE.len() - 1));
            if sender.send((Instant::now() + delay, piece.to_vec())).is_err() {
                break;
            }
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, which stands for distance")]
fn deliver(pieces: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    for (when, piece) in pieces {
        thread::sleep(when.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_passed_on_and_counted() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = Line::start(&server.local_addr().unwrap().to_string(), Duration::ZERO).unwrap();
        let mut client = TcpStream::connect(line.at).unwrap();
        client.write_all(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HT").unwrap();
        client.write_all(b"TP/1.1\r\n\r\n").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (mut there, _) = server.accept().unwrap();
        let mut came = String::new();
        there.read_to_string(&mut came).unwrap();
        assert_eq!(came, "GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
        assert_eq!(line.requests(), 2);
        there.write_all(b"answer").unwrap();
        drop(there);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
    }
}

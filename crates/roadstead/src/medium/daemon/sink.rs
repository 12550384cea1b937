//! Images for an engine.

use std::io::{self, Write};
use std::path::Path;

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderValue, Method};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use tokio::sync::{mpsc, oneshot};

use super::Daemon;
use crate::http::{Request, Scope};
use crate::image::{RepositorySink, SinkError};
use crate::medium::docker_archive::DockerArchiveSink;
use crate::oci::{ImageReference, excerpt};

/// How many pieces of the archive may wait to be sent.
const QUEUE: usize = 2;

/// The longest answer that is read.
const MAX_ANSWER: u64 = 16 << 20;

/// Loads images into an engine: an archive that is sent when it is closed.
pub struct DaemonSink {
    daemon: Daemon,
    archive: DockerArchiveSink,
    written: mpsc::Receiver<Bytes>,
}

impl Daemon {
    /// Somewhere to put images for this engine. They lie in a new folder below `spool` until it is closed.
    ///
    /// # Errors
    ///
    /// If `spool` can't be written.
    pub fn sink(&self, spool: &Path) -> Result<DaemonSink, SinkError> {
        let (sender, written) = mpsc::channel(QUEUE);
        let output: Box<dyn Write + Send> = Box::new(Pipe(sender));
        Ok(DaemonSink { daemon: self.clone(), archive: DockerArchiveSink::create(output, spool)?, written })
    }
}

impl DaemonSink {
    /// As [`DockerArchiveSink::image`].
    #[must_use]
    pub fn image(&self, name: Option<&ImageReference>) -> Box<dyn RepositorySink> {
        self.archive.image(name)
    }

    /// Loads the images.
    ///
    /// # Errors
    ///
    /// As [`DockerArchiveSink::close`], and if the engine doesn't take them. Those that it had read by then may be there.
    pub async fn close(self) -> Result<(), SinkError> {
        let Self { daemon, archive, mut written } = self;
        let (done, whole) = oneshot::channel();
        let writing = async {
            // Nobody waits for it if the engine has refused what came so far.
            let _ = done.send(archive.close().await);
        };
        // The stream ends well only if the archive did: else its end would look like an archive's.
        let end = stream::once(whole).filter_map(async |whole| match whole {
            Ok(Err(error)) => Some(Err(error)),
            Ok(Ok(())) | Err(_) => None,
        });
        let pieces = stream::poll_fn(move |context| written.poll_recv(context)).map(Ok).chain(end);
        let request = Request::new(Method::POST, daemon.path("images/load?quiet=1"), Scope::None)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
        let ((), sent) = tokio::join!(writing, daemon.place.send_stream(&request, pieces));
        let failed = |error| SinkError::new(&daemon.host, daemon.failed("the images", error));
        let response = match sent?.map_err(failed)? {
            response if response.status().is_success() => response,
            response => return Err(failed(response.into_error().await)),
        };
        // It says 200 before it knows whether it can load them.
        match refusal(&response.bytes(MAX_ANSWER).await.map_err(failed)?) {
            Some(said) => Err(SinkError::new(&daemon.host, said)),
            None => Ok(()),
        }
    }
}

/// The error in the messages of an engine, if there is one.
fn refusal(messages: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Message {
        #[serde(default)]
        error: Option<String>,
    }
    let messages = serde_json::Deserializer::from_slice(messages).into_iter::<Message>();
    let said = messages.map_while(Result::ok).find_map(|message| message.error)?;
    let printable: String = said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Some(format!("the engine doesn't load them: {}", excerpt(&printable)))
}

/// Where a thread writes what a connection sends.
struct Pipe(mpsc::Sender<Bytes>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_says() {
        assert_eq!(refusal(b"{\"stream\":\"Loaded image: a:1\\n\"}\r\n"), None);
        assert_eq!(refusal(b""), None);
        let bad = b"{\"stream\":\"x\"}\n{\"errorDetail\":{\"message\":\"no\\nspace\"},\"error\":\"no\\nspace\"}\n";
        assert_eq!(refusal(bad).as_deref(), Some("the engine doesn't load them: no space"));
    }
}

//! A connection of which some bytes have been read, as if none had.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Gives `read` out first. Fails once no byte has moved in either direction for as long as was allowed: a client that
/// takes nothing of its answer, or says nothing, is not waited for.
pub(super) struct Rewind<S> {
    read: BytesMut,
    stream: S,
    patience: Duration,
    moved: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<S> Rewind<S> {
    pub(super) fn new(stream: S, read: BytesMut, patience: Duration) -> Self {
        Self { read, stream, patience, moved: Instant::now(), alarm: Box::pin(tokio::time::sleep(patience)) }
    }

    /// Called where the stream makes its user wait.
    fn check<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        // The alarm is only moved when it rings: most often something has moved since it was set.
        while self.alarm.as_mut().poll(cx).is_ready() {
            let due = self.moved + self.patience;
            if due <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(due);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewind<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let length = self.read.len().min(to.remaining());
            to.put_slice(&self.read[..length]);
            self.read.advance(length);
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.stream).poll_read(cx, to) {
            Poll::Ready(outcome) => {
                self.moved = Instant::now();
                Poll::Ready(outcome)
            }
            Poll::Pending => self.check(cx),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewind<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(outcome) => {
                self.moved = Instant::now();
                Poll::Ready(outcome)
            }
            Poll::Pending => self.check(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, bytes) {
            Poll::Ready(outcome) => {
                self.moved = Instant::now();
                Poll::Ready(outcome)
            }
            Poll::Pending => self.check(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Where TLS is spoken, what was written may still have to be sent.
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(outcome) => Poll::Ready(outcome),
            Poll::Pending => self.check(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

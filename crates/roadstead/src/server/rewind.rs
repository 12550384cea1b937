//! A connection of which some bytes have been read, as if none had.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Limits;
use super::alarm::Alarm;
use super::course::{Awaited, Course};

/// Gives `read` out first. Fails once a client was waited for as long as is allowed: for a request, for the rest of its
/// head, for content, or until it takes something of an answer.
pub(super) struct Rewind<S> {
    read: BytesMut,
    stream: S,
    limits: Limits,
    course: Arc<Course>,
    /// When a byte moved last, in either direction.
    moved: Instant,
    /// Since when the client takes nothing, if it doesn't.
    blocked: Option<Instant>,
    alarm: Alarm,
}

impl<S> Rewind<S> {
    pub(super) fn new(stream: S, read: BytesMut, limits: Limits, course: Arc<Course>) -> Self {
        if !read.is_empty() {
            course.came();
        }
        let alarm = Alarm::new(limits.head_time);
        Self { read, stream, limits, course, moved: Instant::now(), blocked: None, alarm }
    }

    /// Called where a client makes its reader wait.
    fn check<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        loop {
            let due = match self.course.awaited() {
                Awaited::Request(since) => since.max(self.moved) + self.limits.idle_time,
                Awaited::Head(begun) => begun + self.limits.head_time,
                Awaited::Client(since) => since.max(self.moved) + self.limits.stall_time,
                // Looked at again then.
                Awaited::Nothing => Instant::now() + self.limits.stall_time,
            };
            if due <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.set_to(due);
            // What is due by then may be something else.
            if self.alarm.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// What an attempt to write came to.
    fn wrote<T>(&mut self, outcome: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.moved = Instant::now();
        }
        self.cleared(outcome, cx)
    }

    /// The same of an attempt that may have had nothing to write.
    fn cleared<T>(&mut self, outcome: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.blocked = None;
            return outcome;
        }
        self.alarm.set_to(*self.blocked.get_or_insert_with(Instant::now) + self.limits.stall_time);
        self.alarm.poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewind<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let length = self.read.len().min(to.remaining());
            to.put_slice(&self.read[..length]);
            self.read.advance(length);
            self.moved = Instant::now();
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.stream).poll_read(cx, to) {
            Poll::Ready(outcome) => {
                self.moved = Instant::now();
                self.course.came();
                Poll::Ready(outcome)
            }
            Poll::Pending => self.check(cx),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewind<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.wrote(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Where TLS is spoken, what was written may still have to be sent.
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.cleared(outcome, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn connection() -> (DuplexStream, Rewind<DuplexStream>, Arc<Course>, Limits) {
        let (client, stream) = tokio::io::duplex(16);
        let (course, limits) = (Course::new(), Limits::default());
        let server = Rewind::new(stream, BytesMut::new(), limits.clone(), Arc::clone(&course));
        (client, server, course, limits)
    }

    /// After how long a read fails, by a clock that leaps whenever everybody waits; `None` if it doesn't.
    async fn cut(server: &mut Rewind<DuplexStream>) -> Option<Duration> {
        let begun = Instant::now();
        let read = tokio::time::timeout(HOUR, server.read_u8()).await.ok()?;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
        Some(begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_of_waiting_has_its_limit() {
        let (mut client, mut server, course, limits) = connection();
        let is = |cut: Option<Duration>, limit: Duration| {
            assert_eq!(cut.map(|cut| cut.as_secs()), Some(limit.as_secs()), "{:?}", course.awaited());
        };
        is(cut(&mut server).await, limits.idle_time);
        client.write_u8(0).await.unwrap();
        server.read_u8().await.unwrap();
        is(cut(&mut server).await, limits.head_time);
        let working = course.work(false);
        assert_eq!(cut(&mut server).await, None, "nobody waits for the client");
        let sending = course.send();
        drop(working);
        is(cut(&mut server).await, limits.stall_time);
        // As much as fits between the two, and no more.
        server.write_all(&[0; 16]).await.unwrap();
        let begun = Instant::now();
        assert_eq!(server.write_all(&[0]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        is(Some(begun.elapsed()), limits.stall_time);
        drop(sending);
        is(cut(&mut server).await, limits.idle_time);
    }
}

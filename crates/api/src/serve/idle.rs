//! A connection that breaks when nothing has moved on it for a while, in either direction.
//!
//! It catches whoever stops reading its answer or stops sending its body, however far it got. One timer a connection,
//! looked at only when it fires: a byte that moves costs one reading of the clock.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use world::{BoxFuture, Mono, World};

/// A stream with a longest silence.
pub(super) struct Bounded<T> {
    inner: T,
    world: World,
    silence: Duration,
    moved: Mono,
    alarm: BoxFuture<'static, ()>,
}

impl<T> Bounded<T> {
    pub(super) fn new(inner: T, world: World, silence: Duration) -> Bounded<T> {
        let moved = world.now();
        let alarm = world.sleep_until(moved + silence);
        Bounded { inner, world, silence, moved, alarm }
    }

    /// Passes on `outcome`, unless it is that nothing moves and the time for that is over.
    fn watch<R>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            self.moved = self.world.now();
            return outcome;
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let until = self.moved + self.silence;
            if self.world.now() >= until {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client was silent for too long")));
            }
            self.alarm = self.world.sleep_until(until);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Bounded<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_read(cx, buffer);
        this.watch(cx, outcome)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Bounded<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.watch(cx, outcome)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // An empty flush is no progress: only its waiting is watched.
        match Pin::new(&mut this.inner).poll_flush(cx) {
            Poll::Pending => this.watch(cx, Poll::Pending),
            done @ Poll::Ready(_) => done,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.watch(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write_vectored(cx, parts);
        this.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

//! A connection that breaks when nothing has moved on it for a while, in either direction.
//!
//! It catches whoever stops reading its answer or stops sending its body, however far it got. One timer a connection,
//! looked at only when it fires: a byte that moves costs one reading of the clock.
//!
//! When our side has said its last, the client is heard out for a bounded while before the connection is closed. To close
//! it while there is unread input would make the kernel reset it, and the client lose the answer that it was sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use world::{BoxFuture, Mono, World};

use super::Limits;
use super::rooms::Room;

/// A stream with a longest silence.
pub(super) struct Bounded<T> {
    inner: T,
    world: World,
    silence: Duration,
    moved: Mono,
    alarm: BoxFuture<'static, ()>,
    room: Arc<Room>,
    hearing: Duration,
    hearing_bytes: usize,
    end: watch::Receiver<bool>,
    /// Our side is shut: until when, and for how many more bytes, the other one is heard.
    last_words: Option<(BoxFuture<'static, ()>, usize)>,
}

impl<T> Bounded<T> {
    /// Nobody is heard out once `end` says that the process ends.
    pub(super) fn new(
        inner: T,
        world: &World,
        limits: &Limits,
        room: &Arc<Room>,
        end: &watch::Receiver<bool>,
    ) -> Bounded<T> {
        let (moved, silence) = (world.now(), limits.silence);
        Bounded {
            inner,
            world: world.clone(),
            silence,
            moved,
            alarm: world.sleep_until(moved + silence),
            room: Arc::clone(room),
            hearing: limits.hearing,
            hearing_bytes: limits.hearing_bytes,
            end: end.clone(),
            last_words: None,
        }
    }

    /// Notes what was written.
    fn wrote(&mut self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(outcome, Poll::Ready(Ok(_))) {
            self.room.sent(self.moved);
        }
        outcome
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

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Bounded<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write(cx, bytes);
        let outcome = this.watch(cx, outcome);
        this.wrote(outcome)
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
        if this.last_words.is_none() {
            let outcome = Pin::new(&mut this.inner).poll_shutdown(cx);
            ready!(this.watch(cx, outcome))?;
            this.last_words = Some((this.world.sleep(this.hearing), this.hearing_bytes));
        }
        let Some((until, left)) = &mut this.last_words else { return Poll::Ready(Ok(())) };
        let mut heard = [0; 8192];
        while *left > 0 && !*this.end.borrow() && until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut heard);
            match ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => *left = left.saturating_sub(buffer.filled().len()),
                // Its end, or the connection's: there is nothing more to hear.
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write_vectored(cx, parts);
        let outcome = this.watch(cx, outcome);
        this.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

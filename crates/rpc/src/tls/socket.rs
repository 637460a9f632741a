//! TCP sockets as this cell wants them: without delay, probed by the kernel when they are quiet, and asked when the
//! other end was last heard.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use world::{BoxFuture, World};

use super::heard::Ear;
use crate::link::Link;

/// A quiet connection is probed by the kernel this often: how fine [`Link::heard`] is.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// So many probes without an answer end a connection that was accepted. Whoever asks how long it has been silent has
/// drawn the conclusion long before.
const PROBES_MAX: u32 = 60;
/// A caller's connection ends when its host was not heard for so long, with calls on their way or without.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Sets up a connection that was made.
pub(crate) fn tune_made(socket: &TcpStream) -> io::Result<()> {
    tune(socket)?;
    SockRef::from(socket).set_tcp_user_timeout(Some(SILENCE_MAX))
}

fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(PROBE_EVERY).with_interval(PROBE_EVERY).with_retries(PROBES_MAX);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// How long a connection that was hung up waits for the other end to do so as well.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// What still arrives then is read in pieces of this size, and thrown away.
const LINGER_BYTES: usize = 4096;

/// A connection that was accepted.
pub(crate) struct Accepted {
    socket: TcpStream,
    ear: Ear,
    world: World,
    /// The end of patience, once it was hung up.
    linger: Option<BoxFuture<'static, ()>>,
}

impl Accepted {
    /// Sets `socket` up.
    pub(crate) fn new(world: &World, socket: TcpStream) -> io::Result<Accepted> {
        tune(&socket)?;
        let ear = Ear::new(&socket);
        Ok(Accepted { socket, ear, world: world.clone(), linger: None })
    }

    /// What calls on this connection are told of it.
    pub(crate) fn link(&self) -> Link {
        self.ear.link()
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        // The fields are dropped after this, and with them the socket is closed.
        self.ear.close();
    }
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Hangs up, and waits for the other end to hang up. A kernel that still gets something for a socket that is closed
    /// resets the connection, and the other end may lose answers that it has not read.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            self.linger = Some(self.world.sleep(LINGER_MAX));
        }
        loop {
            let mut bytes = [0; LINGER_BYTES];
            let mut late = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.socket).poll_read(cx, &mut late) {
                Poll::Ready(Ok(())) if !late.filled().is_empty() => {}
                Poll::Ready(Ok(()) | Err(_)) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        match &mut self.linger {
            Some(linger) => linger.as_mut().poll(cx).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }
}

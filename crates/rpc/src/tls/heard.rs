//! Asks the kernel when it last heard of the other end of a TCP connection.
#![expect(unsafe_code, reason = "TCP_INFO has no safe form")]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;

use crate::link::Link;

/// Lends the descriptor of a socket for as long as the socket is open. A duplicate would keep the connection from being
/// ended, and the number alone is somebody else's as soon as the socket is closed.
pub(crate) struct Ear(Arc<Mutex<Option<RawFd>>>);

impl Ear {
    /// Of `socket`. [`Ear::close`] it before the socket.
    pub(crate) fn new(socket: &TcpStream) -> Ear {
        Ear(Arc::new(Mutex::new(Some(socket.as_raw_fd()))))
    }

    /// Nobody asks any more. Waits for who does at this moment: that is one system call.
    pub(crate) fn close(&self) {
        *self.0.lock() = None;
    }

    /// What calls on this connection are told of it.
    pub(crate) fn link(&self) -> Link {
        let open = Arc::clone(&self.0);
        Link::new(move || {
            let open = open.lock();
            heard(*open.as_ref()?).ok()
        })
    }
}

/// How long ago the peer's kernel acknowledged or sent anything on `socket`.
fn heard(socket: RawFd) -> io::Result<Duration> {
    // SAFETY: `tcp_info` is plain data for which all zeroes is a valid value.
    let mut info: libc::tcp_info = unsafe { zeroed() };
    let mut size = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).map_err(io::Error::other)?;
    let into = (&raw mut info).cast::<libc::c_void>();
    // SAFETY: the kernel writes no more than `size` bytes to `into`, which points to as many and outlives the call. The
    // descriptor is open: it is taken away under the lock that is held here before it is closed.
    if unsafe { libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, into, &raw mut size) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::from_millis(info.tcpi_last_ack_recv.min(info.tcpi_last_data_recv).into()))
}

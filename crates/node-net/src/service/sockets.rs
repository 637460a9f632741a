//! The sockets of one network's services.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, TcpListener};
use std::os::fd::AsFd;
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

use crate::names::{BRIDGE, METADATA};
use crate::sys;

const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Opened inside a network's namespace; none of them blocks.
pub(crate) struct Sockets {
    pub(super) dhcp: Socket,
    pub(super) solicitations: Socket,
    pub(super) frames: File,
    pub(super) http: TcpListener,
}

impl Sockets {
    /// Opens them in the namespace at `path`, where the bridge is up and has the metadata address.
    pub(crate) fn open(path: &Path) -> io::Result<Sockets> {
        sys::in_namespace(path, || {
            let http = TcpListener::bind((METADATA, 80))?;
            http.set_nonblocking(true)?;
            Ok(Sockets {
                dhcp: dhcp()?,
                solicitations: solicitations()?,
                frames: File::from(sys::frame_socket(BRIDGE, false)?),
                http,
            })
        })
    }
}

fn dhcp() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(BRIDGE.as_bytes()))?;
    sys::receive_marks(socket.as_fd())?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 67).into())?;
    Ok(socket)
}

fn solicitations() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW.nonblocking(), Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(BRIDGE.as_bytes()))?;
    let bridge = rustix::net::netdevice::name_to_index(&socket, BRIDGE)?;
    socket.join_multicast_v6(&ALL_ROUTERS, bridge)?;
    Ok(socket)
}

//! A node, its guests, and what guests do.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use driver::{NetworkState, PortState};
use ipnet::IpNet;

use crate::sys::{frame_socket, in_namespace};
use crate::{Config, NodeNet, destroy_all, names, space, tools};

/// Long enough for a machine under load; a test that passes does not wait for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for what must not come.
pub(super) const SILENCE: Duration = Duration::from_millis(400);

pub(super) struct Lab {
    pub(super) net: NodeNet,
    tag: &'static str,
    node: Option<&'static str>,
}

impl Lab {
    pub(super) fn new(tag: &'static str) -> Lab {
        clear(tag);
        Lab { net: open(tag, None), tag, node: None }
    }

    /// Another agent of the same cell on the same machine. What it leaves is cleared with the first one's.
    pub(super) fn beside(&self, node: &'static str) -> Lab {
        Lab { net: open(self.tag, Some(node)), tag: self.tag, node: Some(node) }
    }

    /// Ends everything that lives in this process, as the end of the agent does, and starts it again.
    pub(super) fn restart(&mut self) {
        self.net = open(self.tag, self.node);
    }

    /// Starts a guest at a port of an ensured network. Its IPv4 address is configured, with a default route.
    pub(super) fn guest(&self, network: &NetworkState, port: &PortState) -> Guest {
        let guest = self.bare_guest(network, port);
        let address = port.addresses[0];
        let gateway = network.spec.subnets[0].gateway.unwrap();
        guest.ip(&["address", "add", &address.to_string(), "dev", "eth0"]);
        guest.ip(&["route", "add", "default", "via", &gateway.to_string()]);
        guest
    }

    /// A guest that has no address yet but the one that it makes of router advertisements.
    pub(super) fn bare_guest(&self, network: &NetworkState, port: &PortState) -> Guest {
        let node = self.node.unwrap_or_default();
        let namespace = format!("msg-{}-{node}{}-{}", self.tag, network.spec.name, port.host_name);
        space::ensure(&namespace).unwrap();
        let settings = [("ipv6/conf/default/accept_dad", "0"), ("ipv6/conf/default/router_solicitation_delay", "0")];
        space::settings(&namespace, &settings.map(|(name, value)| (name.to_string(), value))).unwrap();
        self.net.plug_veth(network.spec.id, port.id, &namespace).unwrap();
        let guest = Guest { namespace, mac: port.mac.clone(), addresses: port.addresses.clone() };
        guest.ip(&["link", "set", "lo", "up"]);
        guest.ip(&["link", "set", "eth0", "up"]);
        guest
    }

    /// The names of this lab's namespaces and links that exist.
    pub(super) fn traces(&self) -> Vec<String> {
        let tag = names::Tag::parse(self.tag, self.node).unwrap();
        let mut names = space::list().unwrap();
        names.retain(|name| tag.owns(name));
        names.extend(tools::links(None).unwrap().into_keys().filter(|name| tag.owns_link(name)));
        names
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.node.is_none() {
            clear(self.tag);
        }
    }
}

fn open(tag: &str, node: Option<&str>) -> NodeNet {
    NodeNet::open(&Config { tag: tag.to_string(), node: node.map(str::to_string) }).unwrap()
}

fn clear(tag: &str) {
    for guest in space::list().unwrap().into_iter().filter(|name| name.starts_with(&format!("msg-{tag}-"))) {
        space::remove(&guest).unwrap();
    }
    destroy_all(tag).unwrap();
}

pub(super) struct Guest {
    namespace: String,
    pub(super) mac: String,
    pub(super) addresses: Vec<IpNet>,
}

impl Guest {
    pub(super) fn ip(&self, arguments: &[&str]) -> String {
        tools::ip(&[&["-n", &self.namespace], arguments].concat()).unwrap()
    }

    /// Runs `f` in the guest; sockets that it opens stay the guest's.
    pub(super) fn run<T: Send>(&self, f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        in_namespace(&space::path(&self.namespace), f)
    }

    pub(super) fn remove(&self) {
        space::remove(&self.namespace).unwrap();
    }

    pub(super) fn v4(&self) -> IpAddr {
        self.addresses[0].addr()
    }

    pub(super) fn v6(&self) -> IpAddr {
        self.addresses[1].addr()
    }

    /// Waits for the guest to have its IPv6 address from an advertisement.
    pub(super) fn await_v6(&self) {
        let have = || self.ip(&["-6", "-o", "address", "show", "dev", "eth0"]).contains(&format!("{}/64", self.v6()));
        await_that("the guest forms its IPv6 address", have);
    }

    pub(super) fn connect(&self, to: impl Into<IpAddr>, port: u16) -> io::Result<TcpStream> {
        self.connect_within(to.into(), port, PATIENCE)
    }

    /// Whether a connection cannot be made.
    pub(super) fn cannot_connect(&self, to: impl Into<IpAddr>, port: u16) -> bool {
        self.connect_within(to.into(), port, SILENCE).is_err()
    }

    fn connect_within(&self, to: IpAddr, port: u16, time: Duration) -> io::Result<TcpStream> {
        self.run(|| connect(SocketAddr::new(to, port), time))
    }

    /// Sends back, on a thread of its own, whatever arrives on connections to `port`.
    pub(super) fn echo(&self, port: u16) {
        let listener = self.run(|| TcpListener::bind(("::", port))).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut back = stream.try_clone().unwrap();
                    io::copy(&mut stream, &mut back)
                });
            }
        });
    }

    /// What the metadata service says to a GET: status and body.
    pub(super) fn metadata(&self, path: &str) -> io::Result<(u16, String)> {
        let stream = self.connect(crate::names::METADATA, 80)?;
        http(stream, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    /// A socket that sends and receives whole frames on the guest's card.
    pub(super) fn card(&self) -> Card {
        let socket: socket2::Socket = self.run(|| frame_socket("eth0", true)).unwrap().into();
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Card(socket)
    }
}

pub(super) struct Card(socket2::Socket);

impl Card {
    pub(super) fn send(&self, frame: &[u8]) {
        assert_eq!((&self.0).write(frame).unwrap(), frame.len());
    }

    /// All frames until one for which `last` holds, that one included.
    pub(super) fn until(&self, last: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = [0u8; 4096];
        loop {
            let length = (&self.0).read(&mut buffer).expect("the awaited frame comes");
            frames.push(buffer[..length].to_vec());
            if last(&buffer[..length]) {
                return frames;
            }
        }
    }
}

pub(super) fn connect(to: SocketAddr, time: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, time)?;
    stream.set_read_timeout(Some(time))?;
    Ok(stream)
}

/// Whether what is sent on `stream` comes back.
pub(super) fn echoes(stream: &mut TcpStream) -> bool {
    let mut back = [0u8; 5];
    stream.write_all(b"hello").is_ok() && stream.read_exact(&mut back).is_ok() && back == *b"hello"
}

pub(super) fn http(mut stream: TcpStream, request: &str) -> io::Result<(u16, String)> {
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or_default();
    Ok((status, body))
}

#[expect(clippy::disallowed_methods, reason = "waits for the kernel in real time")]
pub(super) fn await_that(what: &str, holds: impl Fn() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

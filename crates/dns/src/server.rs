//! The sockets, and what anybody can make this server do at most.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use hickory_proto::rr::Name;
use names::Directory;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Notify;
use world::{Mono, World};

use crate::wire::{Over, respond};
use crate::zone::Zone;

/// Connections of one listener. One more takes the place of the oldest (RFC 7766, section 6.2.2): so who holds many
/// keeps out nobody.
const CONNECTIONS_MAX: usize = 256;
/// Questions on one connection.
const QUESTIONS_MAX: usize = 128;
/// How long a connection waits for a question, all of it, and for its answer to be taken.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// A longer question over UDP is cut off, and is none then.
const DATAGRAM_READ: usize = 4096;
/// A longer question over TCP ends the connection.
const QUESTION_MAX: usize = 4096;
/// Wait before the next try when a socket failed.
const PAUSE: Duration = Duration::from_millis(50);
/// How many times as long as its making took, a zone is answered from at least: in a large cell where something changes all
/// the time, no more than a tenth of one processor goes into it. What is answered is then older by that.
const RESTS: u32 = 9;
/// How often another free port is tried for, when one is free for TCP and not for UDP.
const TRIES: usize = 16;

/// A server cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be used.
    #[error("cannot answer DNS on {address}: {reason}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        reason: io::Error,
    },
    /// The cell's name is none of the DNS.
    #[error("{cell:?} cannot be the name of a zone: {reason}")]
    Cell {
        /// The cell.
        cell: String,
        /// Why.
        reason: String,
    },
}

/// A bound address, for UDP and TCP, on which nobody answers yet.
pub struct Listener {
    udp: UdpSocket,
    tcp: TcpListener,
    address: SocketAddr,
}

/// What is answered from.
struct Source {
    world: World,
    apex: Name,
    directory: Arc<Directory>,
    ttl: Box<dyn Fn() -> Duration + Send + Sync>,
    /// The zone when it was asked for last.
    made: Mutex<Made>,
}

struct Made {
    zone: Arc<Zone>,
    /// It is not made again before.
    rests_until: Mono,
}

/// The connections that are open, in the order in which they came, and how to end each.
type Open = Arc<Mutex<BTreeMap<u64, Arc<Notify>>>>;

impl Listener {
    /// Binds `address`; port 0 is replaced by one that is free for both. It should be one address, not "any": answers to
    /// datagrams leave from the address that the way back prefers, and only one that is theirs is believed.
    pub async fn bind(address: SocketAddr) -> Result<Listener, ListenError> {
        let mut tries = if address.port() == 0 { TRIES } else { 1 };
        loop {
            tries -= 1;
            match bind(address).await {
                Ok(bound) => return Ok(bound),
                Err(_) if tries > 0 => {}
                Err(reason) => return Err(ListenError::Address { address, reason }),
            }
        }
    }

    /// The address really bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers for the zone of `cell`, from `directory`, until the process ends. What belongs to roles may be remembered
    /// for as long as `ttl` says at that moment.
    pub fn serve(
        self,
        world: &World,
        cell: &str,
        directory: Arc<Directory>,
        ttl: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Result<(), ListenError> {
        let named = Name::from_ascii(cell).and_then(|mut apex| {
            apex.set_fqdn(true);
            apex.prepend_label("hostmaster").map(|_| apex)
        });
        let apex = named
            .map_err(|error| ListenError::Cell { cell: cell.to_owned(), reason: error.to_string() })?
            .to_lowercase();
        let made = Mutex::new(make(world, &apex, &directory));
        let source = Arc::new(Source { world: world.clone(), apex, directory, ttl: Box::new(ttl), made });
        let Listener { udp, tcp, .. } = self;
        let (task, datagrams) = (world.clone(), Arc::clone(&source));
        world.spawn("dns datagrams", async move { answer_datagrams(&task, &udp, &datagrams).await });
        let task = world.clone();
        world.spawn("dns accept", async move { accept(&task, &tcp, &source).await });
        Ok(())
    }
}

async fn bind(address: SocketAddr) -> io::Result<Listener> {
    let tcp = TcpListener::bind(address).await?;
    let address = tcp.local_addr()?;
    let udp = UdpSocket::bind(address).await?;
    Ok(Listener { udp, tcp, address })
}

impl Source {
    fn respond(&self, request: &[u8], over: Over) -> Option<Vec<u8>> {
        respond(&self.zone(), (self.ttl)(), request, over)
    }

    /// The zone as the directory has it now; made anew if that has changed since somebody asked.
    fn zone(&self) -> Arc<Zone> {
        let mut made = self.made.lock();
        if made.zone.version() != self.directory.version() && self.world.now() >= made.rests_until {
            *made = make(&self.world, &self.apex, &self.directory);
        }
        Arc::clone(&made.zone)
    }
}

fn make(world: &World, apex: &Name, directory: &Directory) -> Made {
    let begun = world.now();
    // Asked for before the listings: if those are newer, the next question finds another version and looks again.
    let version = directory.version();
    let zone = Arc::new(Zone::new(apex, version, &directory.all()));
    let now = world.now();
    Made { zone, rests_until: now + now.since(begun) * RESTS }
}

async fn answer_datagrams(world: &World, socket: &UdpSocket, source: &Source) {
    let mut request = vec![0; DATAGRAM_READ];
    loop {
        match socket.recv_from(&mut request).await {
            Ok((length, from)) => {
                if let Some(answer) = source.respond(&request[..length], Over::Udp) {
                    // An answer that is lost is asked for again.
                    let _lost = socket.send_to(&answer, from).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot receive a question");
                world.sleep(PAUSE).await;
            }
        }
    }
}

async fn accept(world: &World, listener: &TcpListener, source: &Arc<Source>) {
    let open = Open::default();
    let mut number = 0;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, mostly: what is open must end before more can begin.
                tracing::warn!(%error, "cannot accept a connection");
                world.sleep(PAUSE).await;
                continue;
            }
        };
        number += 1;
        let end = Arc::new(Notify::new());
        {
            let mut open = open.lock();
            if open.len() >= CONNECTIONS_MAX
                && let Some((_, oldest)) = open.pop_first()
            {
                oldest.notify_one();
            }
            open.insert(number, Arc::clone(&end));
        }
        let (task, source, open) = (world.clone(), Arc::clone(source), Arc::clone(&open));
        world.spawn("dns connection", async move {
            let work = std::pin::pin!(answer_stream(&task, stream, &source));
            let ended = std::pin::pin!(end.notified());
            let _either = select(work, ended).await;
            open.lock().remove(&number);
        });
    }
}

/// Questions and answers one after the other. Who sends many before reading an answer waits in the kernel.
async fn answer_stream(world: &World, mut stream: TcpStream, source: &Source) {
    for _ in 0..QUESTIONS_MAX {
        let exchange = world.timeout(IDLE_MAX, exchange(&mut stream, source)).await;
        if !matches!(exchange, Ok(Ok(()))) {
            return;
        }
    }
    let _gone = world.timeout(IDLE_MAX, part(&mut stream)).await;
}

/// Ends a connection after its last answer: closing it over questions that were not read would make the system take back
/// answers that are still on their way.
async fn part(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = [0; QUESTION_MAX];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

async fn exchange(stream: &mut TcpStream, source: &Source) -> io::Result<()> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUESTION_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut request = vec![0; length];
    stream.read_exact(&mut request).await?;
    // Who sends something else over TCP than questions has nothing more to say.
    let answer = source.respond(&request, Over::Tcp).ok_or(io::ErrorKind::InvalidData)?;
    let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut framed = Vec::with_capacity(answer.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&answer);
    stream.write_all(&framed).await
}

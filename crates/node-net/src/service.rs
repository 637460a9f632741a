//! What the node answers to guests: DHCP, router advertisements, metadata. One thread for all networks.
//!
//! A socket belongs for ever to the namespace in which it was opened, so sockets are opened inside each network's
//! namespace ([`Sockets::open`]) and served here together, on a runtime of this thread's own. Guests are known by the
//! mark that the bridge's rules put on their packets.
//!
//! Bounds: one datagram is answered at a time for each network; each tap has at most [`CONNECTIONS_PER_TAP`]
//! connections, each with a small buffer and an end, so a slow or greedy guest harms only itself.
//!
//! The answers themselves are pure functions elsewhere: [`crate::dhcp`], [`crate::advert`], [`crate::metadata`].
#![expect(clippy::disallowed_methods, reason = "this shell talks to real sockets on a runtime of its own thread")]

mod http;
mod sockets;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use driver::NetworkId;
use parking_lot::RwLock;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::advert::{self, Advert, Gratuitous};
use crate::dhcp::{self, Lease};
use crate::metadata::Tree;
use crate::plan::Index;
use crate::{rules, sys};

pub(crate) use sockets::Sockets;

/// Connections to the metadata service that one guest may have at a time.
const CONNECTIONS_PER_TAP: usize = 8;
/// Between two rounds of advertisements at least, however many guests ask.
const ADVERT_PAUSE: Duration = Duration::from_millis(500);
/// How many more times news are told, and how far apart.
const ROUNDS: u32 = 3;
const ROUND_PAUSE: Duration = Duration::from_millis(700);

/// What one port is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortAnswers {
    pub(crate) lease: Option<Lease>,
    pub(crate) metadata: Tree,
}

/// All that a network's services answer from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) ports: BTreeMap<Index, Arc<PortAnswers>>,
    pub(crate) adverts: Vec<Advert>,
    pub(crate) gateways: Vec<Gratuitous>,
}

/// The answers of one network as they are now; replaced while the services run.
pub(crate) struct Current {
    answers: RwLock<Arc<Answers>>,
    changed: Notify,
}

impl Current {
    pub(crate) fn new(answers: Answers) -> Arc<Current> {
        Arc::new(Current { answers: RwLock::new(Arc::new(answers)), changed: Notify::new() })
    }

    pub(crate) fn set(&self, answers: Answers) {
        let news = {
            let mut current = self.answers.write();
            let same = current.adverts == answers.adverts && current.gateways == answers.gateways;
            *current = Arc::new(answers);
            !same
        };
        if news {
            self.changed.notify_one();
        }
    }

    fn get(&self) -> Arc<Answers> {
        self.answers.read().clone()
    }

    /// The port that a packet with this mark came from.
    fn port(&self, mark: u32) -> Option<Arc<PortAnswers>> {
        self.get().ports.get(&rules::index_of(mark)?).cloned()
    }
}

enum Order {
    Start(NetworkId, Sockets, Arc<Current>, oneshot::Sender<io::Result<()>>),
    Stop(NetworkId, oneshot::Sender<()>),
}

/// The handle of the thread; it ends when this is dropped.
pub(crate) struct Services {
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Services {
    pub(crate) fn start() -> io::Result<Services> {
        // Bounded by those who ask: each waits for its answer before it asks again.
        let (orders, inbox) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serve = move || runtime.block_on(serve(inbox));
        let thread = std::thread::Builder::new().name("node-net".into()).spawn(serve)?;
        Ok(Services { orders: Some(orders), thread: Some(thread) })
    }

    /// Serves `network` on these sockets, in place of what served it before.
    pub(crate) fn serve(&self, network: NetworkId, sockets: Sockets, current: Arc<Current>) -> io::Result<()> {
        self.ask(|done| Order::Start(network, sockets, current, done))?
    }

    /// Ends the services of `network`; their sockets are closed when this returns.
    pub(crate) fn stop(&self, network: NetworkId) -> io::Result<()> {
        self.ask(|done| Order::Stop(network, done))
    }

    fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> io::Result<T> {
        let gone = || io::Error::other("the thread that serves networks has ended");
        let (done, answer) = oneshot::channel();
        self.orders.as_ref().ok_or_else(gone)?.send(order(done)).map_err(|_| gone())?;
        wait(answer).ok_or_else(gone)
    }
}

/// Waits for an answer, also on a thread that belongs to a runtime, where tokio's own blocking wait would panic.
fn wait<T>(mut answer: oneshot::Receiver<T>) -> Option<T> {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    loop {
        match std::pin::Pin::new(&mut answer).poll(&mut context) {
            std::task::Poll::Ready(result) => return result.ok(),
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _panicked = thread.join();
        }
    }
}

async fn serve(mut inbox: mpsc::UnboundedReceiver<Order>) {
    let mut running: BTreeMap<NetworkId, Vec<JoinHandle<()>>> = BTreeMap::new();
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Start(network, sockets, current, done) => {
                stop(running.remove(&network)).await;
                // Who asked may have given up; the services run nevertheless.
                let _nobody_waits = done.send(start(sockets, current).map(|tasks| {
                    running.insert(network, tasks);
                }));
            }
            Order::Stop(network, done) => {
                stop(running.remove(&network)).await;
                let _nobody_waits = done.send(());
            }
        }
    }
}

async fn stop(tasks: Option<Vec<JoinHandle<()>>>) {
    for task in tasks.into_iter().flatten() {
        task.abort();
        // The error says that it was aborted, which was the wish.
        let _aborted = task.await;
    }
}

fn start(sockets: Sockets, current: Arc<Current>) -> io::Result<Vec<JoinHandle<()>>> {
    let Sockets { dhcp, solicitations, frames, http } = sockets;
    let dhcp = sys::watch(dhcp)?;
    let solicitations = sys::watch(solicitations)?;
    let http = tokio::net::TcpListener::from_std(http)?;
    Ok(vec![
        tokio::spawn(answer_dhcp(dhcp, current.clone())),
        tokio::spawn(advertise(solicitations, frames, current.clone())),
        tokio::spawn(http::listen(http, current)),
    ])
}

/// Waits a little after an error of a socket, so that one which persists does not keep the processor busy.
async fn pause_after(what: &str, error: &io::Error) {
    tracing::warn!(%error, "{what} failed");
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn answer_dhcp(socket: AsyncFd<socket2::Socket>, current: Arc<Current>) {
    let mut buffer = [0u8; 1500];
    loop {
        let receive = |socket: &socket2::Socket| sys::receive_marked(std::os::fd::AsFd::as_fd(socket), &mut buffer);
        let (length, mark) = match socket.async_io(Interest::READABLE, receive).await {
            Ok(received) => received,
            Err(error) => {
                pause_after("receiving a DHCP message", &error).await;
                continue;
            }
        };
        let Some(port) = current.port(mark) else { continue };
        let answer = port.lease.as_ref().and_then(|lease| dhcp::answer(lease, &buffer[..length]));
        if let Some(answer) = answer
            && let Err(error) = send_dhcp(socket.get_ref(), mark, &answer)
        {
            tracing::debug!(%error, "a DHCP answer could not be sent");
        }
    }
}

/// With the mark of the question, the answer reaches only the tap that asked.
fn send_dhcp(socket: &socket2::Socket, mark: u32, answer: &dhcp::Answer) -> io::Result<()> {
    socket.set_mark(mark)?;
    let to = std::net::SocketAddrV4::new(answer.to.unwrap_or(std::net::Ipv4Addr::BROADCAST), 68);
    socket.send_to(&answer.bytes, &to.into()).map(drop)
}

/// Advertises whenever the content changes or a guest asks, and from time to time. After a change it says everything
/// several times, since some may be lost and some neighbours believe no second news within a second.
async fn advertise(asked: AsyncFd<socket2::Socket>, frames: std::fs::File, current: Arc<Current>) {
    let mut rounds = ROUNDS;
    loop {
        let answers = current.get();
        let gateways = answers.gateways.iter().filter(|_| rounds > 0).map(Gratuitous::frame);
        for frame in answers.adverts.iter().map(Advert::frame).chain(gateways) {
            if let Err(error) = io::Write::write_all(&mut &frames, &frame) {
                tracing::debug!(%error, "an advertisement could not be sent");
            }
        }
        tokio::time::sleep(ADVERT_PAUSE).await;
        let idle = if rounds > 0 { ROUND_PAUSE } else { advert::INTERVAL };
        tokio::select! {
            () = current.changed.notified() => rounds = ROUNDS,
            () = solicited(&asked) => {}
            () = tokio::time::sleep(idle) => rounds = rounds.saturating_sub(1),
        }
    }
}

/// Completes when a guest has asked for advertisements.
async fn solicited(socket: &AsyncFd<socket2::Socket>) {
    let mut buffer = [0u8; 256];
    loop {
        let receive = |socket: &socket2::Socket| io::Read::read(&mut &*socket, &mut buffer);
        match socket.async_io(Interest::READABLE, receive).await {
            Ok(length) if advert::is_solicitation(&buffer[..length]) => return,
            Ok(_) => {}
            Err(error) => pause_after("receiving a solicitation", &error).await,
        }
    }
}

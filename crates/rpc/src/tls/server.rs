//! Accepts connections of the cell's processes.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pki::Identity;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::body::Body;
use world::{Wall, World};

use super::handshakes::Handshakes;
use super::socket::Accepted;
use super::{Credentials, PAST_END_MAX, STREAMS_MAX, TlsError, clock};
use crate::leaving::Stage;
use crate::link::Link;
use crate::server::{Peer, Server};

/// A handshake that takes longer is dropped: a slow peer holds one place for no longer than this.
const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(5);
/// How often a quiet connection is probed, and how long the answer may take.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_WAIT: Duration = Duration::from_secs(5);
/// Wait before the next accept when the last one failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be used.
    #[error("cannot listen on {address}: {reason}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// Keys or certificates cannot be used.
    #[error("cannot speak TLS")]
    Tls(#[from] TlsError),
}

/// A bound address on which nobody serves yet: connections wait in the kernel.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`; port 0 is replaced by a free one.
    pub async fn bind(address: SocketAddr) -> Result<Listener, ListenError> {
        let failed = |reason| ListenError::Address { address, reason };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Listener { socket, address })
    }

    /// The address really bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `server` until the process ends, or has left and is drained.
    pub fn serve(self, world: &World, server: Server, credentials: &Credentials) -> Result<(), ListenError> {
        let acceptor = TlsAcceptor::from(Arc::new(credentials.server_config()?));
        let accepting = world.clone();
        world.spawn("rpc accept", async move { accept(&accepting, &self.socket, &acceptor, &server).await });
        Ok(())
    }
}

async fn accept(world: &World, listener: &TcpListener, acceptor: &TlsAcceptor, server: &Server) {
    let handshakes = Handshakes::new(world);
    loop {
        let place = handshakes.place().await;
        let closed = pin!(server.leaving().clone().reached(Stage::Closed));
        let accepted = match select(pin!(listener.accept()), closed).await {
            Either::Left((accepted, _)) => accepted,
            Either::Right(((), _)) => return,
        };
        let connected = server.leaving().connections().begin();
        let (socket, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: what is open must end before more can begin.
                tracing::warn!(error = %error, "cannot accept a connection");
                world.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, server, task) = (acceptor.clone(), server.clone(), world.clone());
        world.spawn("rpc connection", async move {
            let opening = task.timeout(HANDSHAKE_WAIT_MAX, open(&task, &acceptor, socket));
            let opened = match select(pin!(opening), pin!(place.taken())).await {
                Either::Left((opened, _)) => opened.ok(),
                Either::Right(_) => None,
            };
            drop(place);
            match opened {
                Some(Ok(opened)) => serve(&task, server, opened).await,
                Some(Err(reason)) => tracing::info!(%from, %reason, "refused a connection"),
                None => tracing::info!(%from, "a peer did not finish its handshake in time"),
            }
            drop(connected);
        });
    }
}

/// A connection whose peer was verified.
struct Opened {
    stream: TlsStream<Accepted>,
    peer: Peer,
    /// When the peer's certificate ends.
    end: Wall,
    link: Link,
}

async fn open(world: &World, acceptor: &TlsAcceptor, socket: TcpStream) -> Result<Opened, String> {
    let socket = Accepted::new(world, socket).map_err(|error| error.to_string())?;
    let link = socket.link();
    let stream = acceptor.accept(socket).await.map_err(|error| error.to_string())?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.ok_or("the peer showed no certificate")?;
    let identity = Identity::from_certificate(certificate).map_err(|error| error.to_string())?;
    let end = pki::end_of(certificate).map_err(|error| error.to_string())?;
    if world.wall() >= end {
        // TLS goes by whole seconds.
        return Err(format!("the certificate of {identity} has just ended"));
    }
    Ok(Opened { stream, peer: Peer(identity), end, link })
}

/// Serves until the connection ends, which it does with the certificate that it was verified by: whoever has a newer one
/// shows it by connecting again.
async fn serve(world: &World, server: Server, opened: Opened) {
    let Opened { stream, peer, end, link } = opened;
    // Who connects to a process that has left is told so, call by call: an end without a word would look like a death.
    let stage = if server.leaving().has_left() { Stage::Closed } else { Stage::Left };
    let leaving = pin!(server.leaving().clone().reached(stage));
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(link.clone());
        let server = server.clone();
        async move { Ok::<_, std::convert::Infallible>(server.answer(request.map(Body::new)).await) }
    });
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .keep_alive_interval(Some(KEEPALIVE_EVERY))
        .keep_alive_timeout(KEEPALIVE_WAIT)
        .max_concurrent_streams(u32::try_from(STREAMS_MAX).ok());
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut ended = pin!(clock::reached(world, end));
    // How a connection ends is the peer's business: every call on it has had its own outcome.
    match select(connection.as_mut(), select(ended.as_mut(), leaving)).await {
        Either::Left(_) => return,
        Either::Right((Either::Left(_), _)) => connection.as_mut().graceful_shutdown(),
        Either::Right((Either::Right(_), _)) => {
            connection.as_mut().graceful_shutdown();
            if let Either::Left(_) = select(connection.as_mut(), ended).await {
                return;
            }
        }
    }
    let _ended_or_cut = world.timeout(PAST_END_MAX, connection).await;
}

#[cfg(test)]
mod tests;

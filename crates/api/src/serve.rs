//! HTTPS for the public APIs: accepts, shakes hands, and bounds what a client can hold.
//!
//! A client can be slow, silent, huge or rude; none of it may cost more than one bounded connection for a bounded time.
//! Headers have a size and a time in which to arrive; a connection on which nothing moves is closed; there is a most
//! of connections, and of requests at a time on one. Bodies are bounded by those who read them
//! ([`crate::extract`]).
//!
//! Deliberately absent: plain HTTP.

mod idle;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::{Either, select};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use world::World;

use idle::Bounded;

/// What one client, and all of them together, may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; further ones wait in the kernel.
    pub connections: usize,
    /// Bytes of a request's head. More is answered with 431.
    pub head_bytes: usize,
    /// Requests at a time on one HTTP/2 connection.
    pub streams: u32,
    /// The time for a TLS handshake.
    pub handshake: Duration,
    /// The time for a request's head, and for which a connection may wait for its next request.
    pub head: Duration,
    /// The time after which a connection on which no byte moves is closed, whatever it waits for.
    pub silence: Duration,
    /// The time that running requests get when the process is asked to end.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 4096,
            head_bytes: 64 * 1024,
            streams: 128,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            silence: Duration::from_secs(90),
            farewell: Duration::from_secs(10),
        }
    }
}

/// Serves `router` over TLS until `stop` completes, then lets running requests finish.
///
/// Sets the ALPN names of `tls`: HTTP/2 is spoken with those who ask for it.
pub async fn serve(
    listener: TcpListener,
    mut tls: ServerConfig,
    router: Router,
    world: World,
    limits: Limits,
    stop: impl Future<Output = ()> + Send,
) {
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let slots = Arc::new(Semaphore::new(limits.connections));
    let (ending, end) = watch::channel(false);
    let front = Front { acceptor, router, world: world.clone(), limits, end };
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = std::pin::pin!(accept(&listener, &slots, &world));
        match select(stop.as_mut(), next).await {
            Either::Left(((), _)) => break,
            Either::Right(((stream, _peer, slot), _)) => {
                let front = front.clone();
                world.spawn("https connection", async move {
                    front.serve(stream).await;
                    drop(slot);
                });
            }
        }
    }
    drop(listener);
    // Nobody listening is as good as everybody knowing.
    let _nobody = ending.send(true);
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _late = world.timeout(limits.farewell, slots.acquire_many(all)).await;
}

type Slot = tokio::sync::OwnedSemaphorePermit;

/// The next connection, once there is room for one.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>, world: &World) -> (TcpStream, SocketAddr, Slot) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
            Err(error) => {
                // A connection that broke while it waited, or no descriptors left: both pass.
                tracing::warn!(%error, "a connection could not be accepted");
                world.sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

#[derive(Clone)]
struct Front {
    acceptor: TlsAcceptor,
    router: Router,
    world: World,
    limits: Limits,
    end: watch::Receiver<bool>,
}

impl Front {
    async fn serve(mut self, stream: TcpStream) {
        // Without it small answers wait for acknowledgements; if it fails they are only slower.
        let _slower = stream.set_nodelay(true);
        let handshake = self.acceptor.accept(stream);
        let Ok(Ok(stream)) = self.world.timeout(self.limits.handshake, handshake).await else { return };
        let io = TokioIo::new(Bounded::new(stream, self.world.clone(), self.limits.silence));
        let builder = self.builder();
        let connection = builder.serve_connection(io, TowerToHyperService::new(self.router.clone()));
        let mut connection = std::pin::pin!(connection);
        let ending = std::pin::pin!(async {
            // The sender lives as long as the accepting loop; if it is gone, we end as well.
            let _gone = self.end.wait_for(|end| *end).await;
        });
        match select(connection.as_mut(), ending).await {
            Either::Left((_result, _)) => {}
            Either::Right(((), _)) => {
                connection.as_mut().graceful_shutdown();
                let _late = self.world.timeout(self.limits.farewell, connection).await;
            }
        }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(self.limits.head_bytes);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.limits.head_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(self.limits.streams)
            .max_pending_accept_reset_streams(32)
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .keep_alive_timeout(Duration::from_secs(20));
        builder
    }
}

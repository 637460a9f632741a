//! HTTPS for the public APIs: accepts, shakes hands, and bounds what a client can hold.
//!
//! A client can be slow, silent, huge or rude; none of it may cost more than one bounded connection for a bounded time.
//! Headers have a size and a time in which to arrive; a connection on which nothing moves is closed; there is a most
//! of connections, and of requests at a time on one; when all are taken, the one that has been idle for longest makes
//! room. Bodies are bounded by those who read them ([`crate::extract`]), and who is refused in the middle of sending one
//! is still heard out for a while, so that the refusal arrives.
//!
//! A head of up to twice [`HEAD_BYTES_MAX`] is read and refused in its family's words; what is larger, or is no HTTP, is
//! refused with the bare status: there is no family to speak for.
//!
//! Deliberately absent: plain HTTP.

mod idle;
mod rooms;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use config::Permits;
use futures_util::future::{Either, select};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use world::World;

use crate::request::HEAD_BYTES_MAX;
use idle::Bounded;
use rooms::{Counted, Key, Rooms};

/// What one client, and all of them together, may hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time, which may be moved while they are served; for a further one the longest idle one is closed.
    pub connections: Permits,
    /// Requests at a time on one HTTP/2 connection.
    pub streams: u32,
    /// The time for a TLS handshake.
    pub handshake: Duration,
    /// The time for a request's head, and for which a connection may wait for its next request.
    pub head: Duration,
    /// The time after which a connection on which no byte moves is closed, whatever it waits for.
    pub silence: Duration,
    /// The time, and the bytes, for which a client that was refused in the middle of sending is still heard out.
    pub hearing: Duration,
    /// See `hearing`.
    pub hearing_bytes: usize,
    /// The time that running requests get when the process is asked to end.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: Permits::new(2048),
            streams: 128,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            silence: Duration::from_secs(90),
            hearing: Duration::from_secs(5),
            hearing_bytes: 32 * 1024 * 1024,
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
    tls.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let rooms = Rooms::new(&world, &limits.connections);
    let (ending, end) = watch::channel(false);
    let farewell = limits.farewell;
    let front = Front { acceptor, router, world: world.clone(), limits, end };
    let mut stop = std::pin::pin!(stop);
    for number in 0.. {
        let next = std::pin::pin!(accept(&listener, &rooms, number, &world));
        match select(stop.as_mut(), next).await {
            Either::Left(((), _)) => break,
            Either::Right(((stream, key), _)) => {
                let front = front.clone();
                world.spawn("https connection", async move { front.serve(stream, &key).await });
            }
        }
    }
    drop(listener);
    // Nobody listening is as good as everybody knowing.
    let _nobody = ending.send(true);
    let _late = world.timeout(farewell, rooms.empty()).await;
}

const H2: &[u8] = b"h2";

/// The next connection, with room for it.
async fn accept(listener: &TcpListener, rooms: &Rooms, number: u64, world: &World) -> (TcpStream, Key) {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => return (stream, rooms.enter(number).await),
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
    /// Serves one connection until it ends, is told to end, or its room is needed.
    async fn serve(self, stream: TcpStream, key: &Key) {
        let needed = std::pin::pin!(key.room.is_needed());
        let served = std::pin::pin!(self.converse(stream, key));
        let (Either::Left(_) | Either::Right(_)) = select(served, needed).await;
    }

    async fn converse(&self, stream: TcpStream, key: &Key) {
        // Without it small answers wait for acknowledgements; if it fails they are only slower.
        let _slower = stream.set_nodelay(true);
        let handshake = self.acceptor.accept(stream);
        let Ok(Ok(stream)) = self.world.timeout(self.limits.handshake, handshake).await else { return };
        let h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
        let bounded = Bounded::new(stream, &self.world, &self.limits, &key.room, &self.end);
        let builder = self.builder();
        // Said from the start: to find out by looking would be a wait for the first bytes without a bound of its own.
        let builder = if h2 { builder.http2_only() } else { builder.http1_only() };
        let connection = builder.serve_connection(TokioIo::new(bounded), Counted::new(&self.router, &key.room));
        let mut connection = std::pin::pin!(connection);
        let mut end = self.end.clone();
        let ending = std::pin::pin!(async {
            // The sender lives as long as the accepting loop; if it is gone, we end as well.
            let _gone = end.wait_for(|end| *end).await;
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
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.limits.head).max_buf_size(2 * HEAD_BYTES_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(2 * HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .max_concurrent_streams(self.limits.streams)
            .max_pending_accept_reset_streams(32)
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .keep_alive_timeout(Duration::from_secs(20));
        builder
    }
}

//! One connection to one endpoint: made when it is first needed, and again when it broke.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use http::uri::{Authority, Scheme, Uri};
use http::{Request, Response};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::body::Body;
use world::{BoxFuture, Wall, World};

use super::socket::tune_made;
use super::{PAST_END_MAX, STREAMS_MAX, clock};
use crate::channel::Wire;
use crate::error::elsewhere;
use crate::held::hold_until_end;

/// Connecting, handshake included, takes no longer.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(3);
/// Without probes a peer whose host lives and that does not answer would never be noticed. One that is starved or held for a
/// while is no reason to lose what stands; a host that is gone is noticed by the kernel, much sooner.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_WAIT: Duration = Duration::from_secs(10);
/// Calls in progress on one connection; somewhat fewer than it takes, because calls that were given up count for a while.
const CALLS_MAX: usize = STREAMS_MAX - 24;
/// A request that a closing connection gave back is sent on a new one. So many in a row are a defect of the other end.
const CONNECTIONS_MAX: usize = 3;

/// Where an endpoint is, and who must be there.
pub(super) struct Way {
    pub(super) tls: TlsConnector,
    pub(super) server_name: ServerName<'static>,
    pub(super) authority: Authority,
}

/// A wire to one endpoint.
pub(super) struct Connection(Arc<Inner>);

struct Inner {
    world: World,
    way: Way,
    state: Mutex<State>,
}

enum State {
    Idle,
    /// All who need it wait for the same attempt, and hear how it ended.
    Making(watch::Receiver<Option<Attempt>>),
    Made(Made),
}

/// A connection.
#[derive(Clone)]
struct Made {
    sender: SendRequest<Body>,
    /// Each call takes one until it has ended. HTTP/2 would make one more call wait as well, but when the connection closes
    /// meanwhile, nobody can tell any more whether it was sent.
    places: Arc<Semaphore>,
}

/// A connection, or why there is none.
type Attempt = Result<Made, Arc<str>>;

impl Connection {
    /// A wire on the way `way`, not connected yet.
    pub(super) fn new(world: &World, way: Way) -> Connection {
        Connection(Arc::new(Inner { world: world.clone(), way, state: Mutex::new(State::Idle) }))
    }

    /// Whether it is connected, or about to be.
    pub(super) fn is_made(&self) -> bool {
        match &*self.0.state.lock() {
            State::Idle => false,
            State::Making(_) => true,
            State::Made(made) => !made.sender.is_closed(),
        }
    }
}

impl Wire for Connection {
    fn ready(&self) -> BoxFuture<'static, Result<(), Status>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.made().await.map(drop) })
    }

    fn send(&self, mut request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            inner.address(&mut request)?;
            for _ in 0..CONNECTIONS_MAX {
                let Made { mut sender, places } = inner.made().await?;
                // Closed as soon as anybody finds that the connection is.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { continue };
                let mut failed = match sender.try_send_request(request).await {
                    Ok(response) => return Ok(response.map(|body| hold_until_end(Body::new(body), place))),
                    Err(failed) => failed,
                };
                if sender.is_closed() {
                    places.close();
                }
                match failed.take_message() {
                    // The connection was closing, and nothing of the request has left.
                    Some(back) => request = back,
                    None => return Err(status_of(&failed.into_error())),
                }
            }
            Err(elsewhere("unsent", format!("{} closes each connection at once", inner.way.authority)))
        })
    }
}

impl Inner {
    /// HTTP/2 names the server in each request.
    fn address(&self, request: &mut Request<Body>) -> Result<(), Status> {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(self.way.authority.clone());
        let uri = Uri::from_parts(parts).map_err(|error| Status::internal(error.to_string()))?;
        *request.uri_mut() = uri;
        Ok(())
    }

    async fn made(self: &Arc<Self>) -> Result<Made, Status> {
        let mut attempt = match &mut *self.state.lock() {
            State::Made(made) if !made.sender.is_closed() => return Ok(made.clone()),
            State::Making(attempt) => attempt.clone(),
            state @ (State::Idle | State::Made(_)) => {
                let (tell, attempt) = watch::channel(None);
                *state = State::Making(attempt.clone());
                // In a task of its own: whoever needed it first may have lost interest before it is there.
                self.world.spawn("rpc connect", Arc::clone(self).make(tell));
                attempt
            }
        };
        let ended = attempt.wait_for(Option::is_some).await.map(|ended| ended.clone());
        match ended.ok().flatten() {
            Some(Ok(made)) => Ok(made),
            Some(Err(why)) => Err(elsewhere("unsent", why)),
            None => Err(elsewhere("unsent", "this process ends")),
        }
    }

    async fn make(self: Arc<Self>, tell: watch::Sender<Option<Attempt>>) {
        let made = self.world.timeout(CONNECT_WAIT_MAX, Box::pin(self.connect())).await;
        let made = made.unwrap_or_else(|_| Err("no connection in time".into()));
        let made = made.map_err(|why| format!("cannot connect to {}: {why}", self.way.authority).into());
        *self.state.lock() = made.clone().map_or(State::Idle, State::Made);
        let _nobody_waits = tell.send(Some(made));
    }

    async fn connect(self: &Arc<Self>) -> Result<Made, String> {
        let text = |error: std::io::Error| error.to_string();
        let socket = TcpStream::connect(self.way.authority.as_str()).await.map_err(text)?;
        tune_made(&socket).map_err(text)?;
        let stream = self.way.tls.connect(self.way.server_name.clone(), socket).await.map_err(text)?;
        let end = end_of(&stream)?;
        let mut http = Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_WAIT)
            .keep_alive_while_idle(true)
            .initial_max_send_streams(STREAMS_MAX);
        let (sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
        let (world, owner) = (self.world.clone(), Arc::downgrade(self));
        self.world.spawn("rpc client", async move {
            let mut connection = pin!(connection);
            // How it ends, those hear who have calls on it.
            if let Either::Right(((), _)) = select(connection.as_mut(), pin!(clock::reached(&world, end))).await {
                leave(&owner);
                let _ended_or_cut = world.timeout(PAST_END_MAX, connection).await;
            }
        });
        Ok(Made { sender, places: Arc::new(Semaphore::new(CALLS_MAX)) })
    }
}

/// The peer's certificate has ended: new calls go over another connection, on which it shows a newer one.
fn leave(owner: &Weak<Inner>) {
    if let Some(owner) = owner.upgrade() {
        let mut state = owner.state.lock();
        if matches!(*state, State::Made(_)) {
            *state = State::Idle;
        }
    }
}

fn end_of(stream: &TlsStream<TcpStream>) -> Result<Wall, String> {
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    pki::end_of(certificate.ok_or("the peer showed no certificate")?).map_err(|error| error.to_string())
}

/// What a call on a connection that broke comes to. HTTP/2 says of two ends that the server has not begun with it.
fn status_of(error: &hyper::Error) -> Status {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            if error.is_remote() && (refused || error.is_go_away()) {
                return elsewhere("unsent", chain(error));
            }
        }
        source = inner.source();
    }
    Status::unavailable(chain(error))
}

/// An error with what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = inner.source();
    }
    text
}

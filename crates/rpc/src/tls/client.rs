//! Connects to the cell's processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use pki::{Identity, Role};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use telemetry::Cx;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Endpoint;
use tower_service::Service;
use world::{BoxFuture, World};

use super::socket::tune_made;
use super::{Credentials, TlsError};
use crate::channel::{Channel, Peers, Target, Wire};
use crate::server::Server;

/// Connecting, handshake included, takes no longer.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(3);
/// Without probes a connection that a partition cut would never be noticed.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_WAIT: Duration = Duration::from_secs(3);

/// Hands out channels over TCP with mutual TLS; one connection a target, made when first needed and made again when
/// it broke. Roles that this very process runs are called without a socket.
pub struct TlsPeers {
    world: World,
    own: Identity,
    config: Arc<ClientConfig>,
    wires: Mutex<BTreeMap<Target, Arc<dyn Wire>>>,
    here: Mutex<BTreeMap<Role, Arc<dyn Wire>>>,
}

impl TlsPeers {
    /// Peers of the process `own`.
    pub fn new(world: &World, own: Identity, credentials: &Credentials) -> Result<Arc<TlsPeers>, TlsError> {
        Ok(Arc::new(TlsPeers {
            world: world.clone(),
            own,
            config: Arc::new(credentials.client_config()?),
            wires: Mutex::default(),
            here: Mutex::default(),
        }))
    }

    /// From now on calls to `role` stay in this process.
    pub fn serve_here(&self, role: Role, server: &Server) {
        self.here.lock().insert(role, server.local(self.own.clone()));
    }

    fn wire(&self, target: &Target) -> Arc<dyn Wire> {
        if target.endpoint.is_empty()
            && let Some(wire) = self.here.lock().get(&target.role)
        {
            return Arc::clone(wire);
        }
        let make = || self.connect(target);
        Arc::clone(self.wires.lock().entry(target.clone()).or_insert_with(make))
    }

    /// What the certificate at the other end must name: that process, or any of that role.
    fn server_name(&self, target: &Target) -> String {
        let cell = self.own.cell.clone();
        match target.name.is_empty() {
            true => Identity::any(&cell, target.role),
            false => Identity { cell, role: target.role, name: target.name.clone() }.server_name(),
        }
    }

    fn connect(&self, target: &Target) -> Arc<dyn Wire> {
        let Ok(server_name) = ServerName::try_from(self.server_name(target)) else {
            return Arc::new(Nowhere(format!("{target} cannot be a TLS server name")));
        };
        let Ok(endpoint) = Endpoint::from_shared(format!("http://{}", target.endpoint)) else {
            return Arc::new(Nowhere(format!("{target} is nowhere: {:?} is no address", target.endpoint)));
        };
        let endpoint = endpoint
            .http2_keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_WAIT)
            .keep_alive_while_idle(true);
        let connector = Connector {
            world: self.world.clone(),
            tls: TlsConnector::from(Arc::clone(&self.config)),
            server_name,
            address: target.endpoint.clone().into(),
        };
        Arc::new(Connection(endpoint.connect_with_connector_lazy(connector)))
    }
}

impl Peers for TlsPeers {
    fn channel(&self, target: &Target, cx: &Cx) -> Channel {
        Channel::new(self.wire(target), cx)
    }
}

struct Connection(tonic::transport::Channel);

impl Wire for Connection {
    fn send(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>> {
        let mut channel = self.0.clone();
        Box::pin(async move {
            std::future::poll_fn(|cx| channel.poll_ready(cx)).await.map_err(status_of)?;
            channel.call(request).await.map_err(status_of)
        })
    }
}

fn status_of(error: tonic::transport::Error) -> Status {
    let error: Box<dyn std::error::Error + Send + Sync> = error.into();
    Status::from_error(error)
}

struct Nowhere(String);

impl Wire for Nowhere {
    fn send(&self, _request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>> {
        let reason = self.0.clone();
        Box::pin(async move { Err(crate::Error::not_now(reason).into()) })
    }
}

#[derive(Clone)]
struct Connector {
    world: World,
    tls: TlsConnector,
    server_name: ServerName<'static>,
    address: Arc<str>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let connect = async {
                let socket = TcpStream::connect(&*this.address).await?;
                tune_made(&socket)?;
                this.tls.connect(this.server_name, socket).await.map(TokioIo::new)
            };
            let slow = |_| std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection in time");
            this.world.timeout(CONNECT_WAIT_MAX, connect).await.map_err(slow)?
        })
    }
}

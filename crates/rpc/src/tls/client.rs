//! Connects to the cell's processes.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::uri::Authority;
use http::{Request, Response};
use parking_lot::Mutex;
use pki::{Identity, Role};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use telemetry::Cx;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::body::Body;
use world::{BoxFuture, World};

use super::connection::{Connection, Way};
use super::{Credentials, TlsError};
use crate::channel::{Channel, Peers, Target, Wire};
use crate::error::elsewhere;
use crate::server::Server;

/// Hands out channels over TCP with mutual TLS; one connection a target, made when first needed and made again when
/// it broke. Roles that this very process runs are called without a socket.
pub struct TlsPeers {
    world: World,
    own: Identity,
    config: Arc<ClientConfig>,
    connections: Mutex<BTreeMap<Target, Arc<Connection>>>,
    here: Mutex<BTreeMap<Role, Arc<dyn Wire>>>,
}

impl TlsPeers {
    /// Peers of the process `own`.
    pub fn new(world: &World, own: Identity, credentials: &Credentials) -> Result<Arc<TlsPeers>, TlsError> {
        Ok(Arc::new(TlsPeers {
            world: world.clone(),
            own,
            config: Arc::new(credentials.client_config()?),
            connections: Mutex::default(),
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
        let mut connections = self.connections.lock();
        if let Some(connection) = connections.get(target) {
            return Arc::clone(connection) as Arc<dyn Wire>;
        }
        let way = match self.way(target) {
            Ok(way) => way,
            Err(why) => return Arc::new(Nowhere(why)),
        };
        // Processes move, and nobody says which endpoints are of the past.
        connections.retain(|_, other| other.is_made() || Arc::strong_count(other) > 1);
        let connection = Arc::new(Connection::new(&self.world, way));
        connections.insert(target.clone(), Arc::clone(&connection));
        connection
    }

    fn way(&self, target: &Target) -> Result<Way, String> {
        let server_name = ServerName::try_from(self.server_name(target))
            .map_err(|_| format!("{target} cannot be a TLS server name"))?;
        let authority: Authority =
            target.endpoint.parse().map_err(|_| format!("{target} is nowhere: {:?} is no address", target.endpoint))?;
        let tls = TlsConnector::from(Arc::clone(&self.config));
        Ok(Way { tls, server_name, authority })
    }

    /// What the certificate at the other end must name: that process, or any of that role.
    fn server_name(&self, target: &Target) -> String {
        let cell = self.own.cell.clone();
        match target.name.is_empty() {
            true => Identity::any(&cell, target.role),
            false => Identity { cell, role: target.role, name: target.name.clone() }.server_name(),
        }
    }
}

impl Peers for TlsPeers {
    fn channel(&self, target: &Target, cx: &Cx) -> Channel {
        Channel::new(self.wire(target), cx)
    }
}

struct Nowhere(String);

impl Wire for Nowhere {
    fn ready(&self) -> BoxFuture<'static, Result<(), Status>> {
        Box::pin(std::future::ready(Err(elsewhere("unsent", &self.0))))
    }

    fn send(&self, _request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>> {
        Box::pin(std::future::ready(Err(elsewhere("unsent", &self.0))))
    }
}

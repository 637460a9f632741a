//! The gRPC service that the API calls for what only nodes know.

use std::sync::Arc;

use ids::uuid::Uuid;
use proto::agent::v1 as agent;
use proto::agent::v1::agent_service_client::AgentServiceClient;
use proto::coordinator::v1 as wire;
use proto::coordinator::v1::servers_service_server::{ServersService, ServersServiceServer};
use rpc::{Peers, cx_of};
use store::View;
use tonic::{Request, Response, Status};

use super::Attendance;
use crate::server::{Server, ServerId};

/// What the service needs.
#[derive(Clone)]
pub struct ServersContext {
    /// Everything there is.
    pub view: Arc<View>,
    /// Who attends.
    pub attendance: Arc<Attendance>,
    /// How agents are reached.
    pub peers: Arc<dyn Peers>,
}

struct Service(ServersContext);

/// The service.
pub fn servers_service(context: &ServersContext) -> ServersServiceServer<impl ServersService> {
    ServersServiceServer::new(Service(context.clone()))
}

#[async_trait::async_trait]
impl ServersService for Service {
    async fn read_console(
        &self,
        request: Request<wire::ReadConsoleRequest>,
    ) -> Result<Response<wire::ReadConsoleResponse>, Status> {
        let cx = cx_of(&request)?;
        let wire::ReadConsoleRequest { server, bytes_max } = request.into_inner();
        let id = Uuid::from_slice(&server).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let id = ServerId::from_uuid(id);
        let found = self.0.view.read(|reader| reader.get::<Server>(&id)).await;
        let found = found.map_err(|error| Status::from(rpc::Error::not_now(error)))?;
        let found = found.map_err(|error| Status::from(rpc::Error::no(error)))?;
        let (server, _) = found.ok_or_else(|| Status::from(rpc::Error::no("the server is gone")))?;
        let node = server.node.ok_or_else(|| Status::from(rpc::Error::no("the server is on no node yet")))?;
        let target = self.0.attendance.target(&node);
        let target = target.ok_or_else(|| Status::from(rpc::Error::not_now(format!("the node {node} is away"))))?;
        let mut client = AgentServiceClient::new(self.0.peers.channel(&target, &cx));
        let guest = crate::stored::bytes(id.as_uuid());
        let answer = client.read_console(agent::ReadConsoleRequest { guest, bytes_max }).await?;
        Ok(Response::new(wire::ReadConsoleResponse { text: answer.into_inner().text }))
    }

    async fn list_attendance(
        &self,
        _request: Request<wire::ListAttendanceRequest>,
    ) -> Result<Response<wire::ListAttendanceResponse>, Status> {
        Ok(Response::new(wire::ListAttendanceResponse { nodes: self.0.attendance.all() }))
    }
}

//! What the cell may ask of a node: decode, hand on, encode.

use std::sync::Arc;

use agent_core::Refusal;
use bytes::Bytes;
use driver::{DriverError, GuestId};
use proto::agent::v1::agent_service_server::{AgentService, AgentServiceServer};
use proto::agent::v1::{
    ApplyNetworksRequest, ApplyNetworksResponse, ListGuestsRequest, ListGuestsResponse, PerformRequest,
    PerformResponse, ReadConsoleRequest, ReadConsoleResponse, TakeStockRequest, TakeStockResponse,
};
use tonic::{Request, Response, Status};

use crate::node::Node;
use crate::wire;

/// The most of a console that is told at once.
const CONSOLE_BYTES_MAX: usize = 1024 * 1024;
/// The largest order: user data and the descriptions of a guest's networks.
const ORDER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The service of `node`, to be mounted behind an `rpc::Server` with the node's own certificate.
pub fn service(node: &Arc<Node>) -> AgentServiceServer<impl AgentService> {
    AgentServiceServer::new(Agent(Arc::clone(node))).max_decoding_message_size(ORDER_BYTES_MAX)
}

struct Agent(Arc<Node>);

#[tonic::async_trait]
impl AgentService for Agent {
    async fn perform(&self, request: Request<PerformRequest>) -> Result<Response<PerformResponse>, Status> {
        let cx = rpc::cx_of(&request)?;
        let order = wire::order(request.into_inner()).map_err(bad)?;
        let reached = self.0.perform(&cx.about(&order.guest), order).await.map_err(refused)?;
        Ok(Response::new(wire::reached(reached)))
    }

    async fn apply_networks(
        &self,
        request: Request<ApplyNetworksRequest>,
    ) -> Result<Response<ApplyNetworksResponse>, Status> {
        let told = wire::descriptions(request.into_inner()).map_err(bad)?;
        let unknown = self.0.apply_networks(told).await.map_err(refused)?;
        let ports_unknown = unknown.iter().map(|port| Bytes::copy_from_slice(port.as_uuid().as_bytes())).collect();
        Ok(Response::new(ApplyNetworksResponse { ports_unknown }))
    }

    async fn read_console(
        &self,
        request: Request<ReadConsoleRequest>,
    ) -> Result<Response<ReadConsoleResponse>, Status> {
        let request = request.into_inner();
        let guest = GuestId::from_uuid(wire::id(&request.guest).map_err(bad)?);
        let bytes = usize::try_from(request.bytes_max).unwrap_or(usize::MAX).min(CONSOLE_BYTES_MAX);
        let text = self.0.config.driver.console(guest, bytes).await.map_err(undone)?;
        Ok(Response::new(ReadConsoleResponse { text }))
    }

    async fn list_guests(&self, _request: Request<ListGuestsRequest>) -> Result<Response<ListGuestsResponse>, Status> {
        let guests = self.0.notes().iter().map(wire::report).collect();
        Ok(Response::new(ListGuestsResponse { guests }))
    }

    async fn take_stock(&self, _request: Request<TakeStockRequest>) -> Result<Response<TakeStockResponse>, Status> {
        let stock = self.0.config.driver.take_stock().await.map_err(undone)?;
        Ok(Response::new(wire::stock(stock)))
    }
}

fn undone(error: DriverError) -> Status {
    let error = match error {
        DriverError::Refused(reason) => rpc::Error::no(reason),
        DriverError::Failed(reason) => rpc::Error::not_now(reason),
    };
    error.into()
}

fn bad(error: wire::BadMessage) -> Status {
    rpc::Error::no(error).into()
}

fn refused(refusal: Refusal) -> Status {
    let error = match refusal {
        Refusal::No(reason) => rpc::Error::no(reason),
        Refusal::NotNow(reason) => rpc::Error::not_now(reason),
        Refusal::Unknown(reason) => rpc::Error::unknown(reason),
    };
    error.into()
}

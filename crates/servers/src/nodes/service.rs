//! The gRPC service that nodes call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use config::Settings;
use futures_util::Stream;
use proto::coordinator::v1 as wire;
use proto::coordinator::v1::nodes_service_server::{NodesService, NodesServiceServer};
use rpc::peer_of;
use store::View;
use tonic::{Request, Response, Status};
use world::World;

use super::enrol::Enrolled;
use super::{Attendance, enrol, report, share};

/// What the service needs.
#[derive(Clone)]
pub struct NodesContext {
    /// The world of this process.
    pub world: World,
    /// Everything there is.
    pub view: Arc<View>,
    /// Who attends.
    pub attendance: Arc<Attendance>,
    /// The name of this coordinator.
    pub coordinator: String,
    /// How much of a node is given out.
    pub settings: Arc<Settings>,
}

struct Service(NodesContext);

/// The service.
pub fn service(context: &NodesContext) -> NodesServiceServer<impl NodesService> {
    NodesServiceServer::new(Service(context.clone()))
}

/// Says welcome once and then stands; when it is dropped, the node has left.
struct Attended {
    welcome: Option<wire::AttendResponse>,
    attendance: Arc<Attendance>,
    node: String,
    number: u64,
}

impl Stream for Attended {
    type Item = Result<wire::AttendResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.welcome.take() {
            Some(welcome) => Poll::Ready(Some(Ok(welcome))),
            // Nothing will ever come: whoever holds the other end learns of our end from the transport.
            None => Poll::Pending,
        }
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        tracing::info!(node = self.node, "a node is away");
        self.attendance.left(&self.node, self.number);
    }
}

#[async_trait::async_trait]
impl NodesService for Service {
    type AttendStream = Pin<Box<dyn Stream<Item = Result<wire::AttendResponse, Status>> + Send>>;

    async fn attend(&self, request: Request<wire::AttendRequest>) -> Result<Response<Self::AttendStream>, Status> {
        let node = peer_of(&request)?.name;
        let told = request.into_inner();
        let NodesContext { world, view, attendance, coordinator, settings } = &self.0;
        let not_now = |reason: String| Status::from(rpc::Error::not_now(reason));
        let configured = settings.revision();
        if let Enrolled::KnownLife(known) = enrol::enrol(world, view, settings, &node, &told).await.map_err(not_now)? {
            let asked = wire::AttendResponse { coordinator: coordinator.clone(), known_life: Some(known) };
            return Ok(Response::new(Box::pin(futures_util::stream::once(std::future::ready(Ok(asked))))));
        }
        let unknown = report::record(world, view, &node, &told.guests).await.map_err(not_now)?;
        for guest in &unknown {
            tracing::warn!(
                node,
                guest = guest.guest,
                "a node has a guest that the cell does not know; it is left alone"
            );
        }
        let number = attendance.arrived(&node, &told.endpoint, unknown);
        if settings.revision() != configured {
            // Whoever saw to the change may have done so before this node was there to be seen.
            share::again(world, view, settings, &node).await;
        }
        tracing::info!(node, endpoint = told.endpoint, guests = told.guests.len(), "a node attends");
        let welcome = Some(wire::AttendResponse { coordinator: coordinator.clone(), known_life: None });
        let attended = Attended { welcome, attendance: Arc::clone(attendance), node, number };
        Ok(Response::new(Box::pin(attended)))
    }

    async fn report(&self, request: Request<wire::ReportRequest>) -> Result<Response<wire::ReportResponse>, Status> {
        let node = peer_of(&request)?.name;
        let reports = request.into_inner().guests;
        let NodesContext { world, view, .. } = &self.0;
        let recorded = report::record(world, view, &node, &reports).await;
        recorded.map_err(|reason| Status::from(rpc::Error::not_now(reason)))?;
        Ok(Response::new(wire::ReportResponse {}))
    }
}

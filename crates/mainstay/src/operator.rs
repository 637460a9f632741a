//! What operators ask a cell: status, works, nodes, traces, audits, configuration. Served by coordinators.

mod audit;
mod config;
mod nodes;
mod status;
mod trace;
mod works;

use std::sync::{Arc, OnceLock};

use coordinator::{Coordinator, Work};
use names::Directory;
use pki::{Identity, Role};
use proto::operator::v1 as wire;
use proto::operator::v1::operator_service_server::{OperatorService, OperatorServiceServer};
use rpc::{Health, Peers, Target};
use servers::nodes::Attendance;
use store::{Record, View};
use telemetry::Ring;
use tonic::{Request, Response, Status};

use crate::control::Plan;
use crate::membership::Membership;

/// The release of this program.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Answers operators. Cloning shares it.
#[derive(Clone)]
pub struct Operator(Arc<Inner>);

struct Inner {
    view: Arc<View>,
    ring: Arc<Ring>,
    peers: Arc<dyn Peers>,
    attendance: Arc<Attendance>,
    coordinator: OnceLock<Arc<Coordinator>>,
    health: Health,
    cell: String,
    own: Identity,
    directory: Arc<Directory>,
}

impl Operator {
    /// Answers for the process that `plan` describes.
    pub fn new(
        view: &Arc<View>,
        ring: &Arc<Ring>,
        membership: &Membership,
        attendance: &Arc<Attendance>,
        plan: &Plan,
        health: &Health,
    ) -> Operator {
        Operator(Arc::new(Inner {
            view: Arc::clone(view),
            ring: Arc::clone(ring),
            peers: Arc::clone(&membership.peers),
            attendance: Arc::clone(attendance),
            coordinator: OnceLock::new(),
            health: health.clone(),
            cell: plan.home.cell.name.clone(),
            own: membership.own.clone(),
            directory: Arc::clone(&membership.directory),
        }))
    }

    /// From now on what is known of works in flight is told as well.
    pub fn set_coordinator(&self, coordinator: Arc<Coordinator>) {
        // Set once, by the one place that starts a process.
        let _first_wins = self.0.coordinator.set(coordinator);
    }

    /// The gRPC service.
    pub fn service(&self) -> OperatorServiceServer<impl OperatorService + use<>> {
        OperatorServiceServer::new(self.clone())
    }
}

impl Inner {
    /// Every process of the cell that may answer, beside this one.
    fn others(&self) -> Vec<Target> {
        let listed = self.directory.all();
        let others = listed.iter().filter(|listing| listing.who != self.own && !listing.status.is_final());
        others.filter_map(|listing| listing.target()).collect()
    }
}

pub(super) fn unavailable(error: impl std::fmt::Display) -> Status {
    rpc::Error::not_now(error).into()
}

#[async_trait::async_trait]
impl OperatorService for Operator {
    async fn get_status(
        &self,
        _: Request<wire::GetStatusRequest>,
    ) -> Result<Response<wire::GetStatusResponse>, Status> {
        status::of(&self.0).await.map(Response::new)
    }

    async fn list_work(&self, _: Request<wire::ListWorkRequest>) -> Result<Response<wire::ListWorkResponse>, Status> {
        let works = self.0.view.read(|reader| works::all(&self.0, reader)).await.map_err(unavailable)?;
        Ok(Response::new(wire::ListWorkResponse { works }))
    }

    async fn show_work(
        &self,
        request: Request<wire::ShowWorkRequest>,
    ) -> Result<Response<wire::ShowWorkResponse>, Status> {
        let id = request.into_inner().id;
        let shown = self.0.view.read(|reader| works::show(&self.0, reader, &id)).await.map_err(unavailable)?;
        let shown = shown.ok_or_else(|| Status::not_found(format!("there is no work {id} in flight")))?;
        Ok(Response::new(shown))
    }

    async fn retry_work(
        &self,
        request: Request<wire::RetryWorkRequest>,
    ) -> Result<Response<wire::RetryWorkResponse>, Status> {
        let id = request.into_inner().id;
        let work = id.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        let found = self.0.view.read(|reader| reader.entry(&Work::key_of(&work)).is_some()).await;
        if !found.map_err(unavailable)? {
            return Err(Status::not_found(format!("there is no work {id} in flight")));
        }
        if let Some(coordinator) = self.0.coordinator.get() {
            coordinator.retry(work);
        }
        Ok(Response::new(wire::RetryWorkResponse {}))
    }

    async fn rotate_token_keys(
        &self,
        request: Request<wire::RotateTokenKeysRequest>,
    ) -> Result<Response<wire::RotateTokenKeysResponse>, Status> {
        let void = request.into_inner().void_tokens;
        let rotated = identity::keys::rotate(self.0.ring.world(), &self.0.view, void).await;
        let rotated = rotated.map_err(|error| {
            if let identity::Error::Invalid(reason) = error {
                return Status::failed_precondition(reason);
            }
            unavailable(error)
        })?;
        tracing::info!(key = rotated.signs, kept = rotated.kept, removed = rotated.removed, "token keys were rotated");
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Response::new(wire::RotateTokenKeysResponse {
            signs: rotated.signs,
            kept: count(rotated.kept),
            removed: count(rotated.removed),
        }))
    }

    async fn list_nodes(
        &self,
        _: Request<wire::ListNodesRequest>,
    ) -> Result<Response<wire::ListNodesResponse>, Status> {
        let nodes = self.0.view.read(|reader| nodes::all(&self.0, reader)).await.map_err(unavailable)?;
        Ok(Response::new(wire::ListNodesResponse { nodes }))
    }

    async fn audit(&self, _: Request<wire::AuditRequest>) -> Result<Response<wire::AuditResponse>, Status> {
        audit::hold(&self.0).await.map(Response::new)
    }

    async fn get_config(
        &self,
        request: Request<wire::GetConfigRequest>,
    ) -> Result<Response<wire::GetConfigResponse>, Status> {
        config::get(&self.0, &request.into_inner()).await.map(Response::new)
    }

    async fn set_config(
        &self,
        request: Request<wire::SetConfigRequest>,
    ) -> Result<Response<wire::SetConfigResponse>, Status> {
        let who = rpc::peer_of(&request)?;
        config::set(&self.0, &who, request.into_inner()).await.map(Response::new)
    }

    async fn unset_config(
        &self,
        request: Request<wire::UnsetConfigRequest>,
    ) -> Result<Response<wire::UnsetConfigResponse>, Status> {
        let who = rpc::peer_of(&request)?;
        config::unset(&self.0, &who, request.into_inner()).await.map(Response::new)
    }

    async fn config_history(
        &self,
        request: Request<wire::ConfigHistoryRequest>,
    ) -> Result<Response<wire::ConfigHistoryResponse>, Status> {
        config::history(&self.0, &request.into_inner().key).await.map(Response::new)
    }

    async fn rollback_config(
        &self,
        request: Request<wire::RollbackConfigRequest>,
    ) -> Result<Response<wire::RollbackConfigResponse>, Status> {
        let who = rpc::peer_of(&request)?;
        config::roll_back(&self.0, &who, request.into_inner().revision).await.map(Response::new)
    }

    async fn explain_config(
        &self,
        request: Request<wire::ExplainConfigRequest>,
    ) -> Result<Response<wire::ExplainConfigResponse>, Status> {
        config::explain(&self.0, &request.into_inner()).await.map(Response::new)
    }

    async fn get_trace(
        &self,
        request: Request<wire::GetTraceRequest>,
    ) -> Result<Response<wire::GetTraceResponse>, Status> {
        trace::gather(&self.0, &request.into_inner().subject).await.map(Response::new)
    }
}

/// Roles whose processes hold spans; kept here so that a new role makes the compiler ask.
pub(super) fn remembers(role: Role) -> bool {
    match role {
        Role::Control
        | Role::Store
        | Role::Api
        | Role::Coordinator
        | Role::Scheduler
        | Role::Liveness
        | Role::Names
        | Role::Agent => true,
        Role::Operator => false,
    }
}

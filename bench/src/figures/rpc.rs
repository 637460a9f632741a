//! Calls over our stack beside calls over bare tonic: the same service, the same order to build a guest, mutual TLS.
//!
//! Ours has more around it: the peer's identity and the table of who may call what, a deadline in and out, a limit of
//! calls in progress, a trace with a span on both sides, a metric of each call. The client is this process in both cases,
//! with one connection, and the server a process of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use proto::agent::v1::agent_service_client::AgentServiceClient;
use proto::agent::v1::agent_service_server::{AgentService, AgentServiceServer};
use proto::agent::v1::{
    ApplyNetworksRequest, ApplyNetworksResponse, Build, GuestSpec, GuestState, ListGuestsRequest, ListGuestsResponse,
    PerformRequest, PerformResponse, ReadConsoleRequest, ReadConsoleResponse, TakeStockRequest, TakeStockResponse,
    WorkRef, perform_request,
};
use rpc::tls::{Listener, TlsPeers};
use rpc::{Limits, Peers as _, Server, Target};
use telemetry::metrics::Metrics;
use telemetry::{Cx, Ring};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::peers;
use crate::serve::{self, Certificates, Leave, Pem, Served, Which};
use crate::stats::median;
use crate::table::{Aim, Row};

const CONCURRENT: usize = 64;
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(600);
const WARM_UP: Duration = Duration::from_millis(500);
const CALL_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of the documents that an order to build carries.
const DOCUMENT_BYTES: usize = 600;

pub async fn measure() -> anyhow::Result<Vec<Row>> {
    let certificates = Certificates::new()?;
    let dir = certificates.dir.path();
    let (ours, bare) = (Served::start(Which::Rpc, dir)?, Served::start(Which::Tonic, dir)?);
    let world = serve::world();
    let ring = Ring::new(&world, "bench");
    let peers = TlsPeers::new(&world, serve::client(), &Pem::read(dir, "client")?.credentials()?)?;
    let agent = serve::server();
    let target = Target { role: agent.role, name: agent.name, endpoint: ours.address.to_string() };
    let client = peers::tonic::connect(dir, bare.address).await?;

    let call_ours = async || {
        let cx = Cx::root(&ring, Some("req-bench".into()), world.now() + CALL_WITHIN);
        let (cx, _span) = cx.span("order");
        AgentServiceClient::new(peers.channel(&target, &cx)).perform(order()).await
    };
    let call_bare = async || client.clone().perform(order()).await;
    rate(WARM_UP, &call_ours).await?;
    rate(WARM_UP, &call_bare).await?;
    let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        of_ours.push(rate(ROUND, &call_ours).await?);
        of_bare.push(rate(ROUND, &call_bare).await?);
    }
    let how = format!(
        "bare tonic with mutual TLS: an order of {} B, {CONCURRENT} calls at a time on one connection, {ROUNDS} rounds \
         in turns",
        prost::Message::encoded_len(&order())
    );
    Ok(vec![Row::new("RPC calls", median(&of_ours), "/s").aim(Aim::OfPeer(0.7)).peer(&of_ours, &of_bare).against(how)])
}

/// Calls in a second.
async fn rate<F>(span: Duration, call: &F) -> anyhow::Result<f64>
where
    F: AsyncFn() -> Result<Response<PerformResponse>, Status>,
{
    let begun = Instant::now();
    let one = async |_| -> Result<u64, Status> {
        let mut count = 0;
        while begun.elapsed() < span {
            call().await?;
            count += 1;
        }
        Ok(count)
    };
    let counts = try_join_all((0..CONCURRENT).map(one)).await?;
    Ok(counts.iter().sum::<u64>() as f64 / begun.elapsed().as_secs_f64())
}

/// An order as a create sends it, without networks.
pub fn order() -> PerformRequest {
    let document = "x".repeat(DOCUMENT_BYTES);
    let spec = GuestSpec {
        id: vec![7; 16].into(),
        name: "bench".into(),
        vcpus: 1,
        memory_mib: 128,
        disk_gib: 1,
        meta_data: document.clone(),
        network_data: document,
        ..GuestSpec::default()
    };
    PerformRequest {
        work: Some(WorkRef { work: vec![9; 16].into(), epoch: 1, step: 2, floor: 3, created: 4 }),
        guest: vec![7; 16].into(),
        act: Some(perform_request::Act::Build(Build { spec: Some(spec), ..Build::default() })),
    }
}

/// A node that has always done already what it is told.
pub struct Echo {
    /// The port that it serves at, which every answer names.
    pub port: u16,
}

#[tonic::async_trait]
impl AgentService for Echo {
    async fn perform(&self, _order: Request<PerformRequest>) -> Result<Response<PerformResponse>, Status> {
        Ok(Response::new(PerformResponse { state: GuestState::Running.into(), run: self.port.into() }))
    }

    async fn apply_networks(
        &self,
        _request: Request<ApplyNetworksRequest>,
    ) -> Result<Response<ApplyNetworksResponse>, Status> {
        Err(Status::unimplemented("only orders are measured"))
    }

    async fn read_console(
        &self,
        _request: Request<ReadConsoleRequest>,
    ) -> Result<Response<ReadConsoleResponse>, Status> {
        Err(Status::unimplemented("only orders are measured"))
    }

    async fn list_guests(&self, _request: Request<ListGuestsRequest>) -> Result<Response<ListGuestsResponse>, Status> {
        Err(Status::unimplemented("only orders are measured"))
    }

    async fn take_stock(&self, _request: Request<TakeStockRequest>) -> Result<Response<TakeStockResponse>, Status> {
        Err(Status::unimplemented("only orders are measured"))
    }
}

/// Serves by our stack, on a port of loopback, until the process ends.
pub async fn serve(dir: &Path) -> anyhow::Result<(SocketAddr, Leave)> {
    let world = serve::world();
    let ring = Ring::new(&world, "bench-node");
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await?;
    let address = listener.address();
    let routes = Routes::new(AgentServiceServer::new(Echo { port: address.port() }));
    let server = Server::new(&ring, &Metrics::default(), Limits::default(), routes.prepare());
    listener.serve(&world, server.clone(), &Pem::read(dir, "server")?.credentials()?)?;
    let leave = async move {
        server.leave();
        server.drained().await;
    };
    Ok((address, Box::pin(leave)))
}

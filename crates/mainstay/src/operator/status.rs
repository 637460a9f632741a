//! How the cell is: what its store holds, and what each of its processes says of itself.

use futures_util::{StreamExt, stream};
use names::Listing;
use pki::Role;
use proto::health::v1 as health;
use proto::health::v1::health_service_client::HealthServiceClient;
use proto::operator::v1 as wire;
use rpc::Target;
use store::Record;
use telemetry::Cx;
use tonic::Status;

use super::trace::{ANSWER_WAIT_MAX, ASKED_AT_ONCE_MAX};
use super::{Inner, RELEASE, unavailable, works};

/// Asks every process at the same time: one that is silent delays the answer by its deadline, not by one for each.
pub(super) async fn of(inner: &Inner) -> Result<wire::GetStatusResponse, Status> {
    let counted = inner.view.read(|reader| {
        let servers = reader.range(servers::Server::all()).count();
        let nodes = reader.range(placement::Node::all()).count();
        (reader.revision().as_u64(), servers, nodes, works::all(inner, reader))
    });
    let (revision, servers, nodes, works) = counted.await.map_err(unavailable)?;
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let listed = inner.directory.all();
    let asked = listed.into_iter().map(|listing| async move {
        let answer = match listing.target() {
            _ if listing.who == inner.own => Some(Ok(inner.health.answer())),
            Some(target) if !listing.status.is_final() => Some(check(inner, &target).await),
            Some(_) | None => None,
        };
        process(inner, &listing, answer)
    });
    let mut processes: Vec<wire::Process> = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE_MAX).collect().await;
    let own = inner.own.to_string();
    processes.sort_by_key(|process| (process.identity != own, process.identity.clone()));
    let agents = inner.directory.of(Role::Agent);
    let up = agents.iter().filter(|listing| listing.status == names::Status::Alive).count();
    Ok(wire::GetStatusResponse {
        cell: inner.cell.clone(),
        release: RELEASE.to_owned(),
        revision,
        processes,
        works: count(works.len()),
        works_failing: count(works.iter().filter(|work| work.failures > 0).count()),
        servers: count(servers),
        nodes_up: count(up),
        config: inner.view.peek(config::source::document).revision,
        nodes: count(nodes),
    })
}

async fn check(inner: &Inner, target: &Target) -> Result<health::CheckResponse, rpc::Error> {
    let cx = Cx::root(&inner.ring, None, inner.ring.world().now() + ANSWER_WAIT_MAX);
    let mut client = HealthServiceClient::new(inner.peers.channel(target, &cx));
    Ok(client.check(health::CheckRequest {}).await.map_err(rpc::Error::from)?.into_inner())
}

/// One row: what is known of a process, and what it says, or why it says nothing.
fn process(
    inner: &Inner,
    listing: &Listing,
    answer: Option<Result<health::CheckResponse, rpc::Error>>,
) -> wire::Process {
    let known = wire::Process {
        identity: listing.who.to_string(),
        roles: listing.roles.iter().map(Role::to_string).collect(),
        endpoint: match listing.who == inner.own {
            true => String::new(),
            false => listing.endpoints.get(Listing::RPC).cloned().unwrap_or_default(),
        },
        release: listing.release.clone(),
        status: listing.status.name().to_owned(),
        evidence: listing.status.evidence(),
        since_us: listing.status.since().map_or(0, |since| since.as_micros()),
        config: listing.config,
        zone: listing.zone.clone(),
        machine: listing.machine.clone(),
        load: listing.load,
        ..wire::Process::default()
    };
    match answer {
        Some(Ok(said)) => wire::Process {
            up: true,
            serving: said.status() == health::ServingStatus::Serving,
            roles: said.roles,
            release: said.release,
            uptime_us: said.uptime_us,
            views_loaded: said.views_loaded,
            revision: said.revision,
            metrics: said.metrics,
            ..known
        },
        Some(Err(error)) => wire::Process { error: error.reason, ..known },
        None => known,
    }
}

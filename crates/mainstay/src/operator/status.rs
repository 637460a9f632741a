//! How the cell is: what its store holds, and what each of its processes says of itself.

use futures_util::{StreamExt, stream};
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
    let own = process(inner.ring.process().to_owned(), String::new(), Ok(inner.health.answer()));
    let asked = inner.others().into_iter().map(|target| async move {
        let answer = check(inner, &target).await;
        process(target.to_string(), target.endpoint, answer)
    });
    let mut processes: Vec<wire::Process> = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE_MAX).collect().await;
    processes.sort_by(|one, two| one.identity.cmp(&two.identity));
    processes.insert(0, own);
    Ok(wire::GetStatusResponse {
        cell: inner.cell.clone(),
        release: RELEASE.to_owned(),
        revision,
        processes,
        works: count(works.len()),
        works_failing: count(works.iter().filter(|work| work.failures > 0).count()),
        servers: count(servers),
        nodes_up: count(inner.attendance.all().len()),
        nodes: count(nodes),
    })
}

async fn check(inner: &Inner, target: &Target) -> Result<health::CheckResponse, rpc::Error> {
    let cx = Cx::root(&inner.ring, None, inner.ring.world().now() + ANSWER_WAIT_MAX);
    let mut client = HealthServiceClient::new(inner.peers.channel(target, &cx));
    Ok(client.check(health::CheckRequest {}).await.map_err(rpc::Error::from)?.into_inner())
}

/// One row: what a process says, or why it says nothing.
fn process(identity: String, endpoint: String, answer: Result<health::CheckResponse, rpc::Error>) -> wire::Process {
    match answer {
        Ok(said) => wire::Process {
            identity,
            up: true,
            endpoint,
            serving: said.status() == health::ServingStatus::Serving,
            roles: said.roles,
            release: said.release,
            uptime_us: said.uptime_us,
            views_loaded: said.views_loaded,
            revision: said.revision,
            metrics: said.metrics,
            error: String::new(),
        },
        Err(error) => {
            let role = identity.split('/').next().unwrap_or_default().to_owned();
            wire::Process { identity, roles: vec![role], endpoint, error: error.reason, ..wire::Process::default() }
        }
    }
}

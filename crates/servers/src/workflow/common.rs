//! What the steps share: reading their server, giving orders to a node, concluding an action.

use std::collections::BTreeSet;
use std::time::Duration;

use coordinator::{Outcome, StepCx, StepError, StepTime};
use placement::{Holder, TakerId};
use prost::Message;
use proto::agent::v1 as wire;
use proto::agent::v1::agent_service_client::AgentServiceClient;
use proto::compute::state::v1::{ServerWork, ServerWorkState};
use rpc::Verdict;
use store::{Record, Revision, Txn};

use super::Context;
use crate::action::Action;
use crate::server::{Server, ServerId};
use crate::stored::bytes;

/// How long an order waits for a node that does not attend before the node counts as away.
const ARRIVAL_WAIT_MAX: Duration = Duration::from_secs(5);

/// The server that the work is about.
pub(super) fn subject(cx: &StepCx) -> Result<ServerId, StepError> {
    cx.subject.parse().map_err(StepError::fatal)
}

/// This work, as the holder of a claim.
pub(super) fn held_by(cx: &StepCx) -> Holder {
    Holder::Work(TakerId::from_uuid(*cx.work.as_uuid()))
}

/// What was asked.
pub(super) fn asked(cx: &StepCx) -> Result<ServerWork, StepError> {
    ServerWork::decode(cx.input.clone()).map_err(StepError::fatal)
}

/// The server's record, if it still exists.
pub(super) async fn server(cx: &StepCx) -> Result<Option<(Server, Revision)>, StepError> {
    let id = subject(cx)?;
    Ok(cx.view.read(|reader| reader.get::<Server>(&id)).await??)
}

/// How an order to a node went.
pub(super) enum Ordered {
    /// Done; the guest is as told.
    Done(wire::PerformResponse),
    /// Nothing happened: the node refused, and nothing of the order exists there.
    Refused(String),
    /// Nothing was sent: the node does not attend.
    Away(String),
}

/// Gives `act` to `node` and waits for it to be done.
pub(super) async fn order(
    context: &Context,
    cx: &StepCx,
    node: &str,
    act: wire::perform_request::Act,
) -> Result<Ordered, StepError> {
    // An agent or a coordinator that was just started again needs a moment until they have found each other.
    let arrival = context.attendance.arrival(node);
    let Ok(target) = cx.cx.world().timeout(ARRIVAL_WAIT_MAX, arrival).await else {
        return Ok(Ordered::Away(format!("the node {node} is away")));
    };
    let request = wire::PerformRequest {
        work: Some(wire::WorkRef {
            work: bytes(cx.work.as_uuid()),
            epoch: cx.epoch.as_u64(),
            step: cx.order,
            floor: cx.floor.as_u64(),
            created: cx.created.as_u64(),
        }),
        guest: bytes(subject(cx)?.as_uuid()),
        act: Some(act),
    };
    let mut client = AgentServiceClient::new(cx.peers.channel(&target, &cx.cx));
    match client.perform(request).await.map_err(rpc::Error::from) {
        Ok(response) => Ok(Ordered::Done(response.into_inner())),
        Err(error) => match error.verdict {
            Verdict::No => Ok(Ordered::Refused(error.reason)),
            Verdict::NotNow | Verdict::Unknown => Err(error.into()),
        },
    }
}

/// The order to remove everything of the server from its node, with its networks. The node keeps those that another guest
/// of it is on by then; only the node can tell which: of two servers that are deleted at once, each would see the other's
/// port in the records, and neither would take their network along.
pub(super) async fn destroy(cx: &StepCx) -> Result<wire::Destroy, StepError> {
    let id = subject(cx)?;
    let ports = cx.view.read(|reader| networks::ports_of(reader, id.guest())).await?.map_err(StepError::fatal)?;
    let networks: BTreeSet<_> = ports.iter().map(|(port, _)| port.network).collect();
    Ok(wire::Destroy { networks: networks.iter().map(|network| bytes(network.as_uuid())).collect() })
}

/// Adds to `txn` that the action behind this work has ended.
pub(super) async fn finish_action(cx: &StepCx, outcome: &Outcome, times: &[StepTime]) -> Result<Txn, StepError> {
    let mut txn = Txn::new();
    let id = subject(cx)?;
    let request = cx.cx.request().map(|request| request.to_string()).unwrap_or_default();
    let key = Action::key_for(id, &request);
    let found = cx.view.read(|reader| reader.entry(&key).map(Action::decode_entry).transpose()).await??;
    if let Some((mut action, revision)) = found {
        let failure = match outcome {
            Outcome::Succeeded => None,
            Outcome::Failed(reason) => Some(reason.as_str()),
        };
        action.finished(cx.cx.world().wall(), failure, times);
        txn.replace(key, revision, action.encode());
    }
    Ok(txn)
}

/// Takes over what a node said of a guest after an order.
pub(super) fn note(state: &mut ServerWorkState, response: &wire::PerformResponse) {
    state.guest_state = response.state.unsigned_abs();
    state.run = response.run;
}

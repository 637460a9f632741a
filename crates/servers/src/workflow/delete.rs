//! Deletes a server. Starts behind its point of no return: it only goes forward.
//!
//! `Destroy` (call): the node removes everything of the guest. A node that does not answer does not keep the tenant
//! waiting: the server disappears and its quota is returned, while claims, addresses and the quota of its ports
//! stay with the work until the node has confirmed. `Return` (store): everything that the server held.

use async_trait::async_trait;
use coordinator::{Advance, Conclusion, Effect, Outcome, Step, StepCx, StepError, StepTime, Workflow};
use placement::{Claim, Holder};
use planted::Bug;
use proto::agent::v1::perform_request::Act;
use proto::compute::state::v1::ServerWorkState;
use store::{Reader, Record, Txn};

use super::common::{self, Ordered};
use super::{Context, VERSION};
use crate::action::Action;
use crate::server::{Server, ServerId};
use crate::stored::UserData;

/// The workflow's name.
pub const DELETE: &str = "server.delete";
/// Actions that one transaction removes.
const ACTIONS_A_COMMIT: usize = 40;

pub(super) fn workflow(context: &Context) -> Workflow {
    let steps: Vec<Box<dyn Step<ServerWorkState>>> = vec![Box::new(Destroy(context.clone())), Box::new(Return)];
    Workflow::new(DELETE, VERSION, 0, steps, Deleting)
}

struct Destroy(Context);

#[async_trait]
impl Step<ServerWorkState> for Destroy {
    fn name(&self) -> &'static str {
        "destroy on node"
    }

    fn effect(&self) -> Effect {
        Effect::Call
    }

    async fn run(&self, cx: &StepCx, state: &mut ServerWorkState) -> Result<Advance, StepError> {
        let id = common::subject(cx)?;
        let node = cx.view.read(|reader| holder(reader, id)).await??;
        // Without a claim nothing was ever built that is not gone: a boot that failed has returned its claim last.
        let Some(node) = node else { return Ok(Advance::Done(Txn::new())) };
        let ordered = common::order(&self.0, cx, &node, Act::Destroy(common::destroy(cx).await?)).await;
        let reason = match ordered {
            Ok(Ordered::Done(_)) => return Ok(Advance::Done(Txn::new())),
            Ok(Ordered::Away(_)) if planted::is(Bug::DeletesWithoutTheNode) => return Ok(Advance::Done(Txn::new())),
            Ok(Ordered::Refused(reason) | Ordered::Away(reason)) => reason,
            Err(error) => error.to_string(),
        };
        if !state.vanished
            && let Some(txn) = cx.view.read(|reader| vanish(reader, id, common::held_by(cx))).await??
        {
            state.vanished = true;
            return Ok(Advance::Again(txn));
        }
        Err(StepError::Retry { reason, unknown: true })
    }

    async fn undo(&self, _cx: &StepCx, _state: &mut ServerWorkState) -> Result<Txn, StepError> {
        Ok(Txn::new())
    }
}

/// The node that holds the server's claim.
fn holder(reader: &Reader<'_>, id: ServerId) -> Result<Option<String>, StepError> {
    let Some((claim, _)) = reader.get::<Claim>(&id.consumer())? else { return Ok(None) };
    let provider = reader.get::<placement::Provider>(&claim.provider)?;
    Ok(provider.map(|(provider, _)| provider.name))
}

/// The server disappears for its tenant, and what it holds is the work's; `None` if it has already.
fn vanish(reader: &Reader<'_>, id: ServerId, work: Holder) -> Result<Option<Txn>, StepError> {
    let Some((server, revision)) = reader.get::<Server>(&id)? else { return Ok(None) };
    let mut txn = Txn::new();
    txn.remove(server.key(), revision);
    crate::accept::refund(&server, &mut txn);
    placement::claim::hand_over(reader, id.consumer(), work, &mut txn)?;
    Ok(Some(txn))
}

struct Return;

#[async_trait]
impl Step<ServerWorkState> for Return {
    fn name(&self) -> &'static str {
        "return claims"
    }

    fn effect(&self) -> Effect {
        Effect::Store
    }

    async fn run(&self, cx: &StepCx, _state: &mut ServerWorkState) -> Result<Advance, StepError> {
        let id = common::subject(cx)?;
        cx.view.read(|reader| returned(reader, id)).await?
    }

    async fn undo(&self, _cx: &StepCx, _state: &mut ServerWorkState) -> Result<Txn, StepError> {
        Ok(Txn::new())
    }
}

fn returned(reader: &Reader<'_>, id: ServerId) -> Result<Advance, StepError> {
    let mut txn = Txn::new();
    let actions: Vec<_> = reader.range(Action::of(id)).map(|(key, _)| key.clone()).collect();
    for key in actions.iter().take(ACTIONS_A_COMMIT) {
        txn.delete(key.clone());
    }
    if actions.len() > ACTIONS_A_COMMIT {
        return Ok(Advance::Again(txn));
    }
    txn.delete(UserData::key_of(&id));
    let mut freed = Txn::new();
    let claim = placement::claim::release(reader, id.consumer(), &mut freed)?;
    if !planted::is(Bug::DeleteKeepsTheClaim) {
        txn.merge(freed);
    }
    let found = reader.get::<Server>(&id)?;
    let project = match (&found, claim) {
        (Some((server, _)), _) => Some(server.project.clone()),
        (None, Some(claim)) => Some(claim.project.parse().map_err(StepError::fatal)?),
        (None, None) => None,
    };
    let (ports, removed) = networks::release_ports(reader, id.guest()).map_err(StepError::fatal)?;
    txn.merge(ports);
    if let (Some(project), true) = (project, removed > 0) {
        txn.merge(networks::return_ports(&project, removed));
    }
    if let Some((server, revision)) = found {
        txn.remove(server.key(), revision);
        crate::accept::refund(&server, &mut txn);
    }
    Ok(Advance::Done(txn))
}

struct Deleting;

#[async_trait]
impl Conclusion<ServerWorkState> for Deleting {
    async fn failing(&self, _cx: &StepCx, _state: &mut ServerWorkState, _reason: &str) -> Result<Txn, StepError> {
        Ok(Txn::new())
    }

    async fn ended(
        &self,
        _cx: &StepCx,
        _state: &ServerWorkState,
        _outcome: &Outcome,
        _times: &[StepTime],
    ) -> Result<Txn, StepError> {
        // The server's actions went with it.
        Ok(Txn::new())
    }
}

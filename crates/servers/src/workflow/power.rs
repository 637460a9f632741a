//! Starts, stops, reboots, pauses and unpauses a server: one order to its node, one record of what came of it.
//!
//! If nothing was sent, or the node refused, the server is as it was and the action says why. After an unknown outcome
//! the order is sent until the node has answered: it may yet happen, so nothing else may be concluded.

use async_trait::async_trait;
use coordinator::{Advance, Conclusion, Effect, Outcome, Step, StepCx, StepError, StepTime, Workflow};
use proto::agent::v1::{GuestState, Pause, Reboot, Start, Stop, Unpause, perform_request::Act};
use proto::compute::state::v1::{ServerWork, ServerWorkState};
use store::{Record, Txn};

use super::common::{self, Ordered};
use super::{Context, SHUTDOWN_GRACE, VERSION};
use crate::server::VmState;

/// The workflow's name.
pub const POWER: &str = "server.power";

pub(super) fn workflow(context: &Context) -> Workflow {
    let steps: Vec<Box<dyn Step<ServerWorkState>>> = vec![Box::new(OnNode(context.clone())), Box::new(Note)];
    Workflow::new(POWER, VERSION, 2, steps, Changing)
}

fn act(asked: &ServerWork) -> Result<Act, StepError> {
    let grace_ms = if asked.hard { 0 } else { u32::try_from(SHUTDOWN_GRACE.as_millis()).unwrap_or(u32::MAX) };
    match asked.action.as_str() {
        "start" => Ok(Act::Start(Start {})),
        "stop" => Ok(Act::Stop(Stop { grace_ms })),
        "reboot" => Ok(Act::Reboot(Reboot { hard: asked.hard, grace_ms })),
        "pause" => Ok(Act::Pause(Pause {})),
        "unpause" => Ok(Act::Unpause(Unpause {})),
        other => Err(StepError::refused(format!("this release does not know the action {other}"))),
    }
}

struct OnNode(Context);

#[async_trait]
impl Step<ServerWorkState> for OnNode {
    fn name(&self) -> &'static str {
        "order to node"
    }

    fn effect(&self) -> Effect {
        Effect::Call
    }

    async fn run(&self, cx: &StepCx, state: &mut ServerWorkState) -> Result<Advance, StepError> {
        let Some((server, _)) = common::server(cx).await? else {
            return Err(StepError::refused("the server is gone"));
        };
        let Some(node) = server.node else {
            return Err(StepError::refused("the server is on no node"));
        };
        match common::order(&self.0, cx, &node, act(&common::asked(cx)?)?).await? {
            Ordered::Done(response) => {
                common::note(state, &response);
                Ok(Advance::Done(Txn::new()))
            }
            Ordered::Refused(reason) => Err(StepError::refused(reason)),
            Ordered::Away(reason) if cx.maybe_sent => Err(StepError::Retry { reason, unknown: true }),
            Ordered::Away(reason) => Err(StepError::refused(reason)),
        }
    }

    async fn undo(&self, _cx: &StepCx, _state: &mut ServerWorkState) -> Result<Txn, StepError> {
        // Reached only when the server is being deleted: the node serves that order after this one.
        Ok(Txn::new())
    }
}

struct Note;

#[async_trait]
impl Step<ServerWorkState> for Note {
    fn name(&self) -> &'static str {
        "note the state"
    }

    fn effect(&self) -> Effect {
        Effect::Store
    }

    async fn run(&self, cx: &StepCx, state: &mut ServerWorkState) -> Result<Advance, StepError> {
        let Some((mut server, revision)) = common::server(cx).await? else {
            return Err(StepError::fatal("the server is gone"));
        };
        let told = i32::try_from(state.guest_state).ok().and_then(|number| GuestState::try_from(number).ok());
        let told = match told.unwrap_or(GuestState::Unspecified) {
            GuestState::Running => Some(VmState::Active),
            GuestState::Stopped => Some(VmState::Stopped),
            GuestState::Paused => Some(VmState::Paused),
            GuestState::Absent | GuestState::Unspecified => None,
        };
        // News that a run has ended by itself may have come before the answer to an order about it.
        let up = matches!(told, Some(VmState::Active | VmState::Paused));
        let overtaken = up && server.run == state.run && server.state == VmState::Stopped;
        if let (Some(told), false) = (told, overtaken) {
            server.state = told;
            server.fault = None;
        }
        (server.run, server.task) = (server.run.max(state.run), None);
        server.updated = cx.cx.world().wall();
        let mut txn = Txn::new();
        txn.replace(server.key(), revision, server.encode());
        Ok(Advance::Done(txn))
    }

    async fn undo(&self, _cx: &StepCx, _state: &mut ServerWorkState) -> Result<Txn, StepError> {
        Ok(Txn::new())
    }
}

pub(super) struct Changing;

#[async_trait]
impl Conclusion<ServerWorkState> for Changing {
    async fn failing(&self, cx: &StepCx, _state: &mut ServerWorkState, _reason: &str) -> Result<Txn, StepError> {
        let mut txn = Txn::new();
        if let Some((mut server, revision)) = common::server(cx).await? {
            server.task = server.task.filter(|task| *task == crate::Task::Deleting);
            server.updated = cx.cx.world().wall();
            txn.replace(server.key(), revision, server.encode());
        }
        Ok(txn)
    }

    async fn ended(
        &self,
        cx: &StepCx,
        _state: &ServerWorkState,
        outcome: &Outcome,
        times: &[StepTime],
    ) -> Result<Txn, StepError> {
        common::finish_action(cx, outcome, times).await
    }
}

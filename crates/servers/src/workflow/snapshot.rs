//! Uploads a server's disk as an image: the node exports and uploads, then the server is free again.
//!
//! The image record exists and is queued since the request was accepted; it turns active when its content is durable.
//! A snapshot that cannot be made leaves the record to its owner, still queued, and the action says why.

use async_trait::async_trait;
use coordinator::{Advance, Effect, Step, StepCx, StepError, Work, Workflow};
use images::ImageId;
use prost::Message;
use proto::agent::v1::{Snapshot as SnapshotOrder, perform_request::Act};
use proto::compute::state::v1::{ServerWork, ServerWorkState};
use store::{Reader, Record, Txn};

use super::common::{self, Ordered};
use super::power::Changing;
use super::{Context, VERSION};
use crate::server::Server;

/// The workflow's name.
pub const SNAPSHOT: &str = "server.snapshot";

pub(super) fn workflow(context: &Context) -> Workflow {
    let steps: Vec<Box<dyn Step<ServerWorkState>>> = vec![Box::new(Upload(context.clone())), Box::new(Free)];
    Workflow::new(SNAPSHOT, VERSION, 2, steps, Changing)
}

/// Whether `image` awaits the disk of a server that runs on `node`: what that node may upload, and nothing else.
pub fn awaited_from(reader: &Reader<'_>, image: ImageId, node: &str) -> bool {
    let works = reader.all::<Work>().filter_map(Result::ok).filter(|(work, _)| work.kind == SNAPSHOT);
    works.into_iter().any(|(work, _)| {
        let asked = ServerWork::decode(work.input.clone());
        let server = reader.get::<Server>(&work.subject).ok().flatten();
        asked.is_ok_and(|asked| asked.image == image.as_uuid().as_bytes().as_slice())
            && server.is_some_and(|(server, _)| server.node.as_deref() == Some(node))
    })
}

struct Upload(Context);

#[async_trait]
impl Step<ServerWorkState> for Upload {
    fn name(&self) -> &'static str {
        "upload the disk"
    }

    fn effect(&self) -> Effect {
        Effect::Call
    }

    async fn run(&self, cx: &StepCx, _state: &mut ServerWorkState) -> Result<Advance, StepError> {
        let Some((server, _)) = common::server(cx).await? else {
            return Err(StepError::refused("the server is gone"));
        };
        let Some(node) = server.node else {
            return Err(StepError::refused("the server is on no node"));
        };
        let order = Act::Snapshot(SnapshotOrder { image: common::asked(cx)?.image });
        match common::order(&self.0, cx, &node, order).await? {
            Ordered::Done(_) => Ok(Advance::Done(Txn::new())),
            Ordered::Refused(reason) => Err(StepError::refused(reason)),
            Ordered::Away(reason) if cx.maybe_sent => Err(StepError::Retry { reason, unknown: true }),
            Ordered::Away(reason) => Err(StepError::refused(reason)),
        }
    }

    async fn undo(&self, _cx: &StepCx, _state: &mut ServerWorkState) -> Result<Txn, StepError> {
        // Reached only when the server is being deleted; a finished image stays its owner's.
        Ok(Txn::new())
    }
}

struct Free;

#[async_trait]
impl Step<ServerWorkState> for Free {
    fn name(&self) -> &'static str {
        "free the server"
    }

    fn effect(&self) -> Effect {
        Effect::Store
    }

    async fn run(&self, cx: &StepCx, _state: &mut ServerWorkState) -> Result<Advance, StepError> {
        let Some((mut server, revision)) = common::server(cx).await? else {
            return Err(StepError::fatal("the server is gone"));
        };
        (server.task, server.updated) = (None, cx.cx.world().wall());
        let mut txn = Txn::new();
        txn.replace(server.key(), revision, server.encode());
        Ok(Advance::Done(txn))
    }

    async fn undo(&self, _cx: &StepCx, _state: &mut ServerWorkState) -> Result<Txn, StepError> {
        Ok(Txn::new())
    }
}

//! Calls of the driver.

use agent_core::{ImageId, Op};
use driver::{DriverError, GuestId};
use telemetry::Cx;

use crate::node::Node;

/// The guest that a call is about, if it is about one.
pub(crate) fn guest_of(op: &Op) -> Option<GuestId> {
    match op {
        Op::Network(_) | Op::NoNetwork(_) => None,
        Op::Prepare(spec) | Op::Run(spec, _) => Some(spec.id),
        Op::Stop(guest, _) | Op::Pause(guest, _) | Op::Absent(guest) | Op::Snapshot(guest, _) => Some(*guest),
    }
}

fn name(op: &Op) -> &'static str {
    match op {
        Op::Network(_) => "driver.network",
        Op::NoNetwork(_) => "driver.no_network",
        Op::Prepare(_) => "driver.prepare",
        Op::Run(..) => "driver.run",
        Op::Stop(..) => "driver.stop",
        Op::Pause(..) => "driver.pause",
        Op::Absent(_) => "driver.absent",
        Op::Snapshot(..) => "driver.snapshot",
    }
}

/// Makes the call, within the trace of whoever asked for it.
pub(crate) async fn call(node: &Node, cx: Option<Cx>, op: Op) -> Result<(), DriverError> {
    let (cx, mut span) = match &cx {
        Some(cx) => {
            let (inside, span) = cx.span(name(&op));
            (Some(inside), Some(span))
        }
        None => (None, None),
    };
    let what = name(&op);
    let result = act(node, cx.as_ref(), op).await;
    if let Err(error) = &result {
        tracing::warn!(node = node.name(), what, %error, "the driver could not do it");
        if let Some(span) = &mut span {
            span.failed(error);
        }
    }
    result
}

async fn act(node: &Node, cx: Option<&Cx>, op: Op) -> Result<(), DriverError> {
    let driver = &node.config.driver;
    match op {
        Op::Network(network) => driver.ensure_network(&network).await,
        Op::NoNetwork(network) => driver.ensure_no_network(network).await,
        Op::Prepare(spec) => driver.ensure_prepared(&spec, &node.blobs.within(cx)).await,
        Op::Run(spec, run) => driver.ensure_running(&spec, run).await,
        Op::Stop(guest, grace) => driver.ensure_stopped(guest, grace).await,
        Op::Pause(guest, paused) => driver.ensure_paused(guest, paused).await,
        Op::Absent(guest) => driver.ensure_absent(guest).await,
        Op::Snapshot(guest, image) => snapshot(node, cx, guest, image).await,
    }
}

/// Exports the disk and uploads it. What a crash leaves in the scratch directory is removed by the next start, which does
/// this anew unless the log says how it ended.
async fn snapshot(node: &Node, cx: Option<&Cx>, guest: GuestId, image: ImageId) -> Result<(), DriverError> {
    let failed = |error: std::io::Error| {
        DriverError::Failed(format!("the scratch directory {} cannot be used: {error}", node.config.scratch.display()))
    };
    node.config.files.make_dir(&node.config.scratch).map_err(failed)?;
    let path = node.config.scratch.join(format!("snapshot-{guest}-{image}"));
    let result = match node.config.driver.export_disk(guest, &path).await {
        Ok(()) => node.blobs.upload(cx, image, &path).await,
        Err(error) => Err(error),
    };
    if let Err(error) = node.config.files.remove(&path).await {
        // What was uploaded is uploaded all the same.
        tracing::warn!(node = node.name(), path = %path.display(), %error, "an exported disk stays until the next start");
    }
    result
}

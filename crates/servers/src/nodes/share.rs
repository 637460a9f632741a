//! How much of a node is given out follows the configuration while the node attends.
//!
//! A change is written into the provider of each node that attends, in one commit a node; of a node that is away, when it
//! comes back. A node that moves to another zone is looked at as well: the zone may have values of its own.

use std::sync::Arc;
use std::time::Duration;

use config::Settings;
use futures_util::future::{Either, select};
use placement::Node;
use store::{Record, Revision, View, Watch, WatchError};
use world::World;

use super::{Attendance, NodesContext, enrol};

/// Tries to write one node's share, and the wait between them; after that it is put off until the next change.
const TRIES: usize = 5;
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Follows the configuration and the nodes' records as long as the process runs.
pub fn follow(context: &NodesContext) {
    let NodesContext { world, view, attendance, settings, .. } = context.clone();
    world.clone().spawn("shares of nodes", async move {
        let mut configured = settings.revision();
        let mut seen = view.revision();
        loop {
            all(&world, &view, &settings, &attendance).await;
            match watch(&world, &view, &settings, &attendance, &mut seen, configured).await {
                Ok(revision) => configured = revision,
                Err(WatchError::Compacted { .. }) => seen = view.revision(),
                Err(WatchError::Closed { .. }) => world.sleep(RETRY_PAUSE).await,
            }
        }
    });
}

/// Looks at nodes whose records change, until the configuration does.
async fn watch(
    world: &World,
    view: &View,
    settings: &Settings,
    attendance: &Attendance,
    seen: &mut Revision,
    configured: u64,
) -> Result<u64, WatchError> {
    let mut records = view.store().watch(&Node::all(), *seen).await?;
    let mut changed = Box::pin(settings.changed(configured));
    loop {
        let names = match select(changed, Box::pin(names(&mut *records, seen))).await {
            Either::Left((revision, _)) => return Ok(revision),
            Either::Right((names, rest)) => {
                changed = rest;
                names?
            }
        };
        for name in names.iter().filter(|name| attendance.target(name).is_some()) {
            again(world, view, settings, name).await;
        }
    }
}

/// The nodes whose records change next.
async fn names(records: &mut dyn Watch, seen: &mut Revision) -> Result<Vec<String>, WatchError> {
    let batches = records.next().await?;
    let mut names = Vec::new();
    for batch in &batches {
        *seen = batch.revision;
        let keys = batch.events.iter().map(|event| event.key.to_text().into_owned());
        names.extend(keys.filter_map(|key| key.strip_prefix(Node::TABLE).map(str::to_owned)));
    }
    Ok(names)
}

async fn all(world: &World, view: &View, settings: &Settings, attendance: &Arc<Attendance>) {
    for node in attendance.all() {
        again(world, view, settings, &node).await;
    }
}

/// Writes what is given out of `node`, as it is configured now.
pub(super) async fn again(world: &World, view: &View, settings: &Settings, node: &str) {
    for _ in 0..TRIES {
        match enrol::replan(view, settings, node).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(node, error, "what is given out of a node cannot be written yet"),
        }
        world.sleep(RETRY_PAUSE).await;
    }
}

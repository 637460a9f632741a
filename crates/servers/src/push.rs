//! Keeps the networks on the nodes as the records say: a reconciler.
//!
//! Every commit tells which descriptions it may have changed; these are made anew and pushed. A node that comes back gets
//! all of its networks. Pushing the same description twice changes nothing, so nothing is remembered of what was pushed.
//! Changes that only add members to a large group are gathered: the pause between two pushes grows with what one costs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use networks::NetworkId;
use networks::affected::{Affected, Tracker};
use proto::agent::v1::ApplyNetworksRequest;
use proto::agent::v1::agent_service_client::AgentServiceClient;
use rpc::Peers;
use store::{KeyRange, Revision, View};
use telemetry::{Cx, Ring};

use crate::guest;
use crate::nodes::Attendance;

/// Between a change of a group's members and its push, changes are gathered at least this long.
const GATHER_MIN: Duration = Duration::from_millis(200);
/// Pushes take at most one part in this many of the time.
const PUSH_SHARE: u32 = 20;
/// A push that takes longer is tried again.
const PUSH_WAIT_MAX: Duration = Duration::from_secs(30);
const RETRY_PAUSE: Duration = Duration::from_millis(500);

type Place = (NetworkId, String);

/// Pushes until the process ends.
pub fn start(view: &Arc<View>, ring: &Arc<Ring>, peers: &Arc<dyn Peers>, attendance: &Arc<Attendance>) {
    let pusher = Pusher {
        view: Arc::clone(view),
        ring: Arc::clone(ring),
        peers: Arc::clone(peers),
        attendance: Arc::clone(attendance),
    };
    ring.world().spawn("network push", async move { pusher.run().await });
}

struct Pusher {
    view: Arc<View>,
    ring: Arc<Ring>,
    peers: Arc<dyn Peers>,
    attendance: Arc<Attendance>,
}

impl Pusher {
    async fn run(&self) {
        loop {
            if let Err(reason) = self.follow().await {
                tracing::info!(reason, "networks are compared from the start");
            }
            self.ring.world().sleep(RETRY_PAUSE).await;
        }
    }

    /// Follows the store from a state that is known whole.
    async fn follow(&self) -> Result<(), String> {
        let opened = self.view.read(|reader| Tracker::open(reader).map(|tracker| (tracker, reader.revision()))).await;
        let (mut tracker, mut seen) = opened.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let mut attending: BTreeSet<String> = BTreeSet::new();
        let mut arrivals = 0;
        let mut pending = Affected::default();
        loop {
            let now: BTreeSet<String> = self.attendance.all().into_iter().collect();
            for node in now.difference(&attending) {
                pending.own.extend(tracker.places_on(node).into_iter().map(|network| (network, node.clone())));
            }
            attending = now;
            let start = self.ring.world().now();
            let due = std::mem::take(&mut pending);
            let places = due.own.union(&due.members).filter(|(_, node)| attending.contains(node)).cloned().collect();
            let failed = self.push(places).await;
            pending.own.extend(failed);
            let pause = self.ring.world().now().since(start).saturating_mul(PUSH_SHARE);
            self.ring.world().sleep(pause.clamp(GATHER_MIN, PUSH_WAIT_MAX)).await;
            if pending.is_empty() {
                let changed = std::pin::pin!(self.attendance.changed(arrivals));
                let advanced = std::pin::pin!(self.view.advanced(seen));
                match futures_util::future::select(advanced, changed).await {
                    Either::Left(_) => {}
                    Either::Right((changes, _)) => arrivals = changes,
                }
            }
            seen = self.catch_up(seen, &mut tracker, &mut pending).await?;
        }
    }

    async fn catch_up(
        &self,
        seen: Revision,
        tracker: &mut Tracker,
        pending: &mut Affected,
    ) -> Result<Revision, String> {
        let newest = self.view.revision();
        if newest <= seen {
            return Ok(seen);
        }
        let mut watch = self.view.store().watch(&KeyRange::all(), seen).await.map_err(|error| error.to_string())?;
        let mut at = seen;
        while at < newest {
            for batch in watch.next().await.map_err(|error| error.to_string())? {
                at = batch.revision;
                pending.merge(tracker.apply(&batch));
            }
        }
        Ok(at)
    }

    /// Returns the places that could not be pushed.
    async fn push(&self, places: BTreeSet<Place>) -> Vec<Place> {
        let mut failed = Vec::new();
        for (network, node) in places {
            let Some(target) = self.attendance.target(&node) else { continue };
            let made = self.view.read(|reader| guest::network_on(reader, network, &node)).await;
            let state = match made {
                Ok(Ok(Some(state))) => state,
                Ok(Ok(None)) => continue,
                Ok(Err(error)) => {
                    tracing::error!(%network, node, %error, "a network cannot be described");
                    continue;
                }
                Err(_) => {
                    failed.push((network, node));
                    continue;
                }
            };
            let cx = Cx::root(&self.ring, None, self.ring.world().now() + PUSH_WAIT_MAX);
            let mut client = AgentServiceClient::new(self.peers.channel(&target, &cx));
            if let Err(error) = client.apply_networks(ApplyNetworksRequest { networks: vec![state] }).await {
                tracing::info!(%network, node, error = %rpc::Error::from(error), "a network could not be pushed yet");
                failed.push((network, node));
            }
        }
        failed
    }
}

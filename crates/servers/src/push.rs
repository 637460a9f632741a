//! Keeps what nodes know of networks as the records say: a reconciler.
//!
//! Every commit tells which descriptions it may have changed; these are made anew and pushed. A node that comes back
//! gets all that it must know. Pushing the same description twice changes nothing, so nothing is remembered of what was
//! pushed. Who is in a group is told to all nodes whose rules name it, in rounds of bounded size; the pause between two
//! rounds grows with what one costs. So a large group takes a bounded part of this process however fast it grows, and
//! never much of it at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::Either;
use networks::affected::{Affected, NodeName, Parts, Tracker};
use networks::{GroupId, PortId};
use proto::agent::v1 as wire;
use proto::agent::v1::agent_service_client::AgentServiceClient;
use rpc::Peers;
use store::{KeyRange, Revision, View};
use telemetry::{Cx, Ring};
use world::Mono;

use crate::guest;
use crate::nodes::Attendance;
use crate::stored::bytes;

/// Changes are gathered this long.
const GATHER: Duration = Duration::from_millis(200);
/// Rounds that only tell of members take at most one part in this many of the time.
const MEMBERS_SHARE: u32 = 20;
/// Members that one round tells, in bytes; at least one node is told.
const MEMBERS_BYTES: usize = 512 * 1024;
/// A push that takes longer is tried again.
const PUSH_WAIT_MAX: Duration = Duration::from_secs(30);
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Nodes that are told at once.
const NODES_AT_ONCE: usize = 16;
/// Ports in one message.
const PORTS_AT_ONCE: usize = 256;
/// A port whose guest the node does not know yet is told again so many times, each [`RETRY_PAUSE`] after the last. The
/// order that builds the guest was made before the change and is on its way, or will be made anew and know of it.
const STRANGER_TRIES: u32 = 20;

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

/// Where following has come to.
struct Following {
    tracker: Tracker,
    /// The revision up to which the tracker knows everything.
    seen: Revision,
    attending: BTreeSet<String>,
    arrivals: u64,
    pending: Affected,
    /// Nodes that must be told of members, in turn, each group and node once.
    queue: VecDeque<(GroupId, NodeName)>,
    queued: BTreeSet<(GroupId, NodeName)>,
    /// When the next of them may be told.
    members_due: Mono,
    /// Ports whose guest was not known: when they are told again, and how many times they were.
    strangers: BTreeMap<(NodeName, PortId), (Mono, u32)>,
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
        let (tracker, seen) = opened.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let mut at = Following {
            tracker,
            seen,
            attending: BTreeSet::new(),
            arrivals: 0,
            pending: Affected::default(),
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            members_due: self.ring.world().now(),
            strangers: BTreeMap::new(),
        };
        loop {
            self.greet(&mut at);
            self.round(&mut at).await;
            self.ring.world().sleep(GATHER).await;
            if at.pending.is_empty() && at.strangers.is_empty() && at.queue.is_empty() {
                let changed = std::pin::pin!(self.attendance.changed(at.arrivals));
                let advanced = std::pin::pin!(self.view.advanced(at.seen));
                match futures_util::future::select(advanced, changed).await {
                    Either::Left(_) => {}
                    Either::Right((changes, _)) => at.arrivals = changes,
                }
            }
            self.catch_up(&mut at).await?;
        }
    }

    /// Who has come gets everything.
    fn greet(&self, at: &mut Following) {
        let now: BTreeSet<String> = self.attendance.all().into_iter().collect();
        for node in now.difference(&at.attending) {
            let parts = at.tracker.all_on(node);
            at.pending.nodes.entry(Arc::from(node.as_str())).or_default().merge(parts);
        }
        at.attending = now;
        let attending = &at.attending;
        // Who has gone will get everything.
        at.pending.nodes.retain(|node, _| attending.contains(&**node));
        at.strangers.retain(|(node, _), _| attending.contains(&**node));
    }

    /// Pushes what is due.
    async fn round(&self, at: &mut Following) {
        let start = self.ring.world().now();
        let mut due = std::mem::take(&mut at.pending.nodes);
        for ((node, port), _) in at.strangers.iter().filter(|(_, (when, _))| *when <= start) {
            due.entry(Arc::clone(node)).or_default().ports.insert(*port);
        }
        let named: BTreeSet<GroupId> = due.values().flat_map(|parts| &parts.groups).copied().collect();
        let mut members = BTreeMap::new();
        for group in named {
            members.insert(group, self.members(at, group));
        }
        let with_members = self.take_members(at, start, &mut due, &mut members);
        if due.is_empty() {
            return;
        }
        let seen = at.seen;
        let pushes = due.into_iter().map(|(node, parts)| {
            let members = &members;
            async move {
                let told = self.push(&node, &parts, members, seen).await;
                (node, parts, told)
            }
        });
        let told: Vec<_> = futures_util::stream::iter(pushes).buffer_unordered(NODES_AT_ONCE).collect().await;
        let now = self.ring.world().now();
        for (node, parts, told) in told {
            match told {
                Ok(strange) => note_strangers(&mut at.strangers, &node, &parts, &strange, now),
                Err(error) => {
                    tracing::info!(%node, %error, "what a node must know of networks could not be pushed yet");
                    at.pending.nodes.entry(node).or_default().merge(parts);
                }
            }
        }
        if with_members {
            let pause = now.since(start).saturating_mul(MEMBERS_SHARE);
            at.members_due = now + pause.clamp(GATHER, PUSH_WAIT_MAX);
        }
    }

    fn members(&self, at: &Following, group: GroupId) -> wire::GroupState {
        guest::group_to_wire(group, at.seen, &at.tracker.members(group))
    }

    /// Adds to `due` who is next to be told of members, if it is time; whether anybody is.
    fn take_members(
        &self,
        at: &mut Following,
        now: Mono,
        due: &mut BTreeMap<NodeName, Parts>,
        members: &mut BTreeMap<GroupId, wire::GroupState>,
    ) -> bool {
        for group in std::mem::take(&mut at.pending.members) {
            for node in at.tracker.nodes_naming(group).filter(|node| at.attending.contains(&***node)) {
                if at.queued.insert((group, Arc::clone(node))) {
                    at.queue.push_back((group, Arc::clone(node)));
                }
            }
        }
        if at.members_due > now || at.queue.is_empty() {
            return false;
        }
        let mut bytes = 0;
        while bytes < MEMBERS_BYTES
            && let Some(next) = at.queue.pop_front()
        {
            at.queued.remove(&next);
            let (group, node) = next;
            let state = members.entry(group).or_insert_with(|| self.members(at, group));
            bytes += state.hosts_v4.len() + state.hosts_v6.len() + 64;
            due.entry(node).or_default().groups.insert(group);
        }
        true
    }

    async fn catch_up(&self, at: &mut Following) -> Result<(), String> {
        let newest = self.view.revision();
        if newest <= at.seen {
            return Ok(());
        }
        let mut watch = self.view.store().watch(&KeyRange::all(), at.seen).await.map_err(|error| error.to_string())?;
        while at.seen < newest {
            for batch in watch.next().await.map_err(|error| error.to_string())? {
                at.seen = batch.revision;
                at.pending.merge(at.tracker.apply(&batch));
            }
        }
        Ok(())
    }

    /// Tells one node; returns the ports whose guest it does not know.
    async fn push(
        &self,
        node: &NodeName,
        parts: &Parts,
        members: &BTreeMap<GroupId, wire::GroupState>,
        seen: Revision,
    ) -> Result<Vec<PortId>, rpc::Error> {
        let Some(target) = self.attendance.target(node) else { return Ok(Vec::new()) };
        let groups = parts.groups.iter().filter_map(|group| members.get(group).cloned()).collect();
        let gone = |group: &GroupId| wire::GroupGone { id: bytes(group.as_uuid()), revision: seen.as_u64() };
        let mut request = wire::ApplyNetworksRequest {
            groups,
            groups_gone: parts.unnamed.iter().map(gone).collect(),
            ..wire::ApplyNetworksRequest::default()
        };
        let ports: Vec<PortId> = parts.ports.iter().copied().collect();
        let mut networks = &parts.networks;
        let none = BTreeSet::new();
        let mut chunks = ports.chunks(PORTS_AT_ONCE);
        let mut strange = Vec::new();
        loop {
            let chunk = chunks.next().unwrap_or_default();
            let made = self.view.read(|reader| guest::described(reader, node, networks, chunk)).await;
            match made.map_err(|error| rpc::Error::not_now(error.to_string()))? {
                Ok((networks, ports)) => (request.networks, request.ports) = (networks, ports),
                Err(error) => tracing::error!(%node, %error, "a network cannot be described"),
            }
            let cx = Cx::root(&self.ring, None, self.ring.world().now() + PUSH_WAIT_MAX);
            let mut client = AgentServiceClient::new(self.peers.channel(&target, &cx));
            let told = client.apply_networks(std::mem::take(&mut request)).await.map_err(rpc::Error::from)?;
            strange.extend(told.into_inner().ports_unknown.iter().filter_map(|id| port_id(id)));
            if chunks.len() == 0 {
                return Ok(strange);
            }
            networks = &none;
        }
    }
}

fn port_id(id: &[u8]) -> Option<PortId> {
    ids::uuid::Uuid::from_slice(id).ok().map(PortId::from_uuid)
}

fn note_strangers(
    strangers: &mut BTreeMap<(NodeName, PortId), (Mono, u32)>,
    node: &NodeName,
    parts: &Parts,
    strange: &[PortId],
    now: Mono,
) {
    for port in &parts.ports {
        let key = (Arc::clone(node), *port);
        let tries = strangers.remove(&key).map_or(0, |(_, tries)| tries) + 1;
        if strange.contains(port) && tries < STRANGER_TRIES {
            strangers.insert(key, (now + RETRY_PAUSE, tries));
        }
    }
}

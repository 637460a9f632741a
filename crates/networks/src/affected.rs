//! Which nodes' descriptions a commit may have changed: so that only these are made and pushed again.
//!
//! A commit shows what a record is now, not what it was, so a [`Tracker`] remembers of each port where it is, whose
//! groups it is in and from which addresses it sends. It is fed every commit in order and is otherwise pure; whoever
//! runs it opens it on a view's state and then follows the store from that state's revision.
//!
//! A port that has just been bound is not named: the order that builds its guest describes it. What a change of a
//! group's members does to others is told apart from the rest: in a large group each new port changes what all others
//! let in, and a newcomer may be let in a moment later. So pushes for that may be gathered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use store::{Batch, Event, Key, Reader, Record};

use crate::error::NetError;
use crate::model::{Holder, Network, Port, Remote, Router, SecurityGroup, Subnet};
use crate::name::{GroupId, NetworkId, PortId, RouterId, SubnetId};

/// A node's name.
pub type NodeName = Arc<str>;

/// What one node may have to be told anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Networks, but for their ports.
    pub networks: BTreeSet<NetworkId>,
    /// Ports of guests there.
    pub ports: BTreeSet<PortId>,
    /// Groups whose members it must know.
    pub groups: BTreeSet<GroupId>,
    /// Groups that it may forget.
    pub unnamed: BTreeSet<GroupId>,
}

impl Parts {
    /// Adds what is so later.
    pub fn merge(&mut self, later: Parts) {
        self.networks.extend(later.networks);
        self.ports.extend(later.ports);
        self.groups.retain(|group| !later.unnamed.contains(group));
        self.unnamed.retain(|group| !later.groups.contains(group));
        self.groups.extend(later.groups);
        self.unnamed.extend(later.unnamed);
    }
}

/// Descriptions that may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// Push soon.
    pub nodes: BTreeMap<NodeName, Parts>,
    /// Groups that have other members: to be pushed to all nodes where rules name them, and may be gathered.
    pub members: BTreeSet<GroupId>,
}

impl Affected {
    /// Whether nothing has to be pushed.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.members.is_empty()
    }

    /// Adds what is so later.
    pub fn merge(&mut self, later: Affected) {
        for (node, parts) in later.nodes {
            self.nodes.entry(node).or_default().merge(parts);
        }
        self.members.extend(later.members);
    }

    fn on(&mut self, node: &NodeName) -> &mut Parts {
        self.nodes.entry(Arc::clone(node)).or_default()
    }
}

/// What is remembered of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    network: NetworkId,
    node: Option<NodeName>,
    router: Option<RouterId>,
    groups: Vec<GroupId>,
    /// From where it may send: what its groups are to others.
    reach: Vec<IpNet>,
}

/// Remembers who is where.
#[derive(Debug, Default)]
pub struct Tracker {
    ports: BTreeMap<PortId, Seen>,
    /// The ports of each node's guests.
    on_node: BTreeMap<NodeName, BTreeSet<PortId>>,
    /// How many ports of a network are on a node.
    places: BTreeMap<NetworkId, BTreeMap<NodeName, usize>>,
    /// The ports in a group.
    members: BTreeMap<GroupId, BTreeSet<PortId>>,
    /// How many ports on a node are in groups whose rules name a group.
    naming: BTreeMap<GroupId, BTreeMap<NodeName, usize>>,
    /// The groups that a group's rules name.
    remotes: BTreeMap<GroupId, BTreeSet<GroupId>>,
    subnets: BTreeMap<SubnetId, NetworkId>,
    legs: BTreeMap<RouterId, BTreeMap<NetworkId, usize>>,
}

impl Tracker {
    /// Knows everything of this state.
    pub fn open(reader: &Reader<'_>) -> Result<Tracker, NetError> {
        let mut tracker = Tracker::default();
        let mut ignored = Affected::default();
        for found in reader.all::<SecurityGroup>() {
            let (group, _) = found?;
            tracker.group(group.id, Some(&group), &mut ignored);
        }
        for found in reader.all::<Subnet>() {
            let (subnet, _) = found?;
            tracker.subnets.insert(subnet.id, subnet.network);
        }
        for found in reader.all::<Port>() {
            let (port, _) = found?;
            tracker.note_port(port.id, Some(seen(&port)), &mut ignored);
        }
        Ok(tracker)
    }

    /// Everything that a node must know: what has to be pushed when it comes back.
    pub fn all_on(&self, node: &str) -> Parts {
        let mut parts = Parts::default();
        for id in self.on_node.get(node).into_iter().flatten() {
            let Some(seen) = self.ports.get(id) else { continue };
            parts.networks.insert(seen.network);
            parts.ports.insert(*id);
            parts.groups.extend(seen.groups.iter().filter_map(|group| self.remotes.get(group)).flatten().copied());
        }
        parts
    }

    /// The nodes on which rules name `group`.
    pub fn nodes_naming(&self, group: GroupId) -> impl Iterator<Item = &NodeName> {
        self.naming.get(&group).into_iter().flat_map(BTreeMap::keys)
    }

    /// The addresses from which the members of `group` may send, sorted and each once.
    pub fn members(&self, group: GroupId) -> Vec<IpNet> {
        let ports = self.members.get(&group).into_iter().flatten().filter_map(|id| self.ports.get(id));
        let mut members: Vec<IpNet> = ports.flat_map(|seen| seen.reach.iter().copied()).collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// Feeds one commit. A record that cannot be decoded counts as unchanged here; making the description says why.
    pub fn apply(&mut self, batch: &Batch) -> Affected {
        let mut affected = Affected::default();
        for event in &batch.events {
            self.event(event, &mut affected);
        }
        affected
    }

    fn event(&mut self, event: &Event, out: &mut Affected) {
        let bytes = event.entry.as_ref().and_then(store::Entry::record);
        if let Some(id) = id_of::<Port, PortId>(&event.key) {
            match bytes.map(|bytes| Port::decode(bytes)) {
                None => self.port(id, None, out),
                Some(Ok(port)) => self.port(id, Some(seen(&port)), out),
                Some(Err(_)) => {}
            }
        } else if let Some(id) = id_of::<SecurityGroup, GroupId>(&event.key) {
            let group = bytes.and_then(|bytes| SecurityGroup::decode(bytes).ok());
            self.group(id, group.as_ref(), out);
        } else if let Some(id) = id_of::<Network, NetworkId>(&event.key) {
            self.network_and_ports(id, out);
        } else if let Some(id) = id_of::<Subnet, SubnetId>(&event.key) {
            let known = match bytes.map(|bytes| Subnet::decode(bytes)) {
                None => self.subnets.remove(&id),
                Some(Ok(subnet)) => {
                    self.subnets.insert(id, subnet.network);
                    Some(subnet.network)
                }
                Some(Err(_)) => None,
            };
            if let Some(network) = known {
                self.network_and_ports(network, out);
            }
        } else if let Some(id) = id_of::<Router, RouterId>(&event.key) {
            let networks: Vec<NetworkId> = self.legs.get(&id).into_iter().flat_map(BTreeMap::keys).copied().collect();
            for network in networks {
                self.network(network, out);
            }
        }
    }

    fn network(&self, network: NetworkId, out: &mut Affected) {
        for node in self.places.get(&network).into_iter().flat_map(BTreeMap::keys) {
            out.on(node).networks.insert(network);
        }
    }

    /// What guests are told of addresses, and whether anything passes, hangs on the network too.
    fn network_and_ports(&self, network: NetworkId, out: &mut Affected) {
        self.network(network, out);
        for node in self.places.get(&network).into_iter().flat_map(BTreeMap::keys) {
            let there = self.on_node.get(node).into_iter().flatten();
            let on_it = there.filter(|id| self.ports.get(id).is_some_and(|seen| seen.network == network));
            out.on(node).ports.extend(on_it);
        }
    }

    fn port(&mut self, id: PortId, now: Option<Seen>, out: &mut Affected) {
        let before = self.ports.get(&id).cloned();
        // First, because a leg that goes is still seen by the nodes that are there now.
        for seen in before.iter().chain(&now).filter(|seen| seen.router.is_some()) {
            self.network(seen.network, out);
        }
        if let (Some(Seen { node: Some(was), .. }), Some(Seen { node: Some(is), .. })) = (&before, &now)
            && was == is
        {
            out.on(is).ports.insert(id);
        }
        let of_groups = |seen: &Option<Seen>| seen.as_ref().map(|seen| (seen.groups.clone(), seen.reach.clone()));
        if of_groups(&before) != of_groups(&now) {
            out.members.extend(before.iter().chain(&now).flat_map(|seen| seen.groups.iter().copied()));
        }
        self.note_port(id, now, out);
    }

    fn note_port(&mut self, id: PortId, now: Option<Seen>, out: &mut Affected) {
        // The new one first: what it names as before is not forgotten in between.
        let before = self.ports.remove(&id);
        if let Some(now) = &now {
            self.count(now, true, out);
        }
        if let Some(before) = before {
            self.count(&before, false, out);
            let stays = |group: &GroupId| now.as_ref().is_some_and(|now| now.groups.contains(group));
            for group in before.groups.iter().filter(|group| !stays(group)) {
                remove(&mut self.members, group, &id);
            }
            if let Some(node) = &before.node
                && now.as_ref().is_none_or(|now| now.node.as_ref() != Some(node))
            {
                remove(&mut self.on_node, node, &id);
            }
        }
        if let Some(now) = now {
            for group in &now.groups {
                self.members.entry(*group).or_default().insert(id);
            }
            if let Some(node) = &now.node {
                self.on_node.entry(Arc::clone(node)).or_default().insert(id);
            }
            self.ports.insert(id, now);
        }
    }

    fn count(&mut self, seen: &Seen, more: bool, out: &mut Affected) {
        if let Some(node) = &seen.node {
            count(self.places.entry(seen.network).or_default(), node, 1, more);
            for group in &seen.groups {
                for remote in self.remotes.get(group).into_iter().flatten() {
                    name(&mut self.naming, *remote, node, 1, more, out);
                }
            }
        }
        if let Some(router) = seen.router {
            count(self.legs.entry(router).or_default(), &seen.network, 1, more);
        }
    }

    fn group(&mut self, id: GroupId, now: Option<&SecurityGroup>, out: &mut Affected) {
        let before = self.remotes.remove(&id).unwrap_or_default();
        let after: BTreeSet<GroupId> = now
            .into_iter()
            .flat_map(|group| &group.rules)
            .filter_map(|rule| match rule.remote {
                Remote::Group(remote) => Some(remote),
                Remote::Any | Remote::Prefix(_) => None,
            })
            .collect();
        let mut there: BTreeMap<NodeName, usize> = BTreeMap::new();
        for port in self.members.get(&id).into_iter().flatten() {
            if let Some(node) = self.ports.get(port).and_then(|seen| seen.node.as_ref()) {
                out.on(node).ports.insert(*port);
                count(&mut there, node, 1, true);
            }
        }
        for (node, ports) in &there {
            for remote in after.difference(&before) {
                name(&mut self.naming, *remote, node, *ports, true, out);
            }
            for remote in before.difference(&after) {
                name(&mut self.naming, *remote, node, *ports, false, out);
            }
        }
        if !after.is_empty() {
            self.remotes.insert(id, after);
        }
    }
}

/// Counts that rules of ports on `node` name `group`.
fn name(
    naming: &mut BTreeMap<GroupId, BTreeMap<NodeName, usize>>,
    group: GroupId,
    node: &NodeName,
    ports: usize,
    more: bool,
    out: &mut Affected,
) {
    let nodes = naming.entry(group).or_default();
    let was = nodes.contains_key(node);
    count(nodes, node, ports, more);
    let mut change = Parts::default();
    match (was, nodes.contains_key(node)) {
        (false, true) => drop(change.groups.insert(group)),
        (true, false) => drop(change.unnamed.insert(group)),
        (true, true) | (false, false) => return,
    }
    if nodes.is_empty() {
        naming.remove(&group);
    }
    out.on(node).merge(change);
}

fn count<K: Ord + Clone>(counts: &mut BTreeMap<K, usize>, key: &K, by: usize, more: bool) {
    if more {
        *counts.entry(key.clone()).or_default() += by;
    } else if let Some(left) = counts.get_mut(key) {
        *left = left.saturating_sub(by);
        if *left == 0 {
            counts.remove(key);
        }
    }
}

fn remove<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

fn seen(port: &Port) -> Seen {
    let own = port.fixed_ips.iter().map(|fixed| IpNet::from(fixed.address));
    Seen {
        network: port.network,
        node: port.node().map(Arc::from),
        router: match port.holder {
            Holder::Router(router) => Some(router),
            Holder::Free { .. } | Holder::Server { .. } => None,
        },
        groups: port.groups.clone(),
        reach: own.chain(port.allowed_pairs.iter().map(|pair| pair.address)).collect(),
    }
}

fn id_of<R: Record, I: std::str::FromStr>(key: &Key) -> Option<I> {
    let text = std::str::from_utf8(key.as_bytes()).ok()?;
    text.strip_prefix(R::TABLE)?.parse().ok()
}

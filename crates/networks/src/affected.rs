//! Which nodes' descriptions a commit may have changed: so that only these are made and pushed again.
//!
//! A commit shows what a record is now, not what it was, so a [`Tracker`] remembers of each port where it is and whose
//! groups it is in. It is fed every commit in order and is otherwise pure; whoever runs it opens it on a view's state
//! and then follows the store from that state's revision.
//!
//! What a change of a group's members does to others is told apart from the rest: in a large group each new port
//! changes what all others let in, and a newcomer may be let in a moment later. So pushes for that may be gathered.

use std::collections::{BTreeMap, BTreeSet};

use store::{Batch, Event, Key, Reader, Record};

use crate::error::NetError;
use crate::model::{Holder, Network, Port, Remote, Router, SecurityGroup, Subnet};
use crate::name::{GroupId, NetworkId, PortId, RouterId, SubnetId};

/// A network on a node.
pub type Place = (NetworkId, String);

/// Descriptions that may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// Because of the network itself or one of its ports there: push soon.
    pub own: BTreeSet<Place>,
    /// Only because a group that rules there name has other members: may be gathered for a moment.
    pub members: BTreeSet<Place>,
}

impl Affected {
    /// Whether nothing has to be pushed.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.members.is_empty()
    }

    /// Adds what `other` says.
    pub fn merge(&mut self, other: Affected) {
        self.own.extend(other.own);
        self.members.extend(other.members);
    }
}

/// What is remembered of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    network: NetworkId,
    node: Option<String>,
    router: Option<RouterId>,
    groups: Vec<GroupId>,
    /// What others see of it: addresses, as members of its groups.
    reach: Vec<String>,
}

/// Remembers who is where.
#[derive(Debug, Default)]
pub struct Tracker {
    ports: BTreeMap<PortId, Seen>,
    /// How many ports of a network are on a node.
    places: BTreeMap<NetworkId, BTreeMap<String, usize>>,
    /// How many ports of a group are at a place.
    group_places: BTreeMap<GroupId, BTreeMap<Place, usize>>,
    /// Groups whose rules name a group.
    referrers: BTreeMap<GroupId, BTreeSet<GroupId>>,
    remotes: BTreeMap<GroupId, BTreeSet<GroupId>>,
    subnets: BTreeMap<SubnetId, NetworkId>,
    legs: BTreeMap<RouterId, BTreeMap<NetworkId, usize>>,
}

impl Tracker {
    /// Knows everything of this state.
    pub fn open(reader: &Reader<'_>) -> Result<Tracker, NetError> {
        let mut tracker = Tracker::default();
        for found in reader.all::<SecurityGroup>() {
            let (group, _) = found?;
            tracker.note_group(group.id, Some(&group));
        }
        for found in reader.all::<Subnet>() {
            let (subnet, _) = found?;
            tracker.subnets.insert(subnet.id, subnet.network);
        }
        for found in reader.all::<Port>() {
            let (port, _) = found?;
            tracker.note_port(port.id, Some(seen(&port)));
        }
        Ok(tracker)
    }

    /// All places that there are: what has to be pushed to begin with.
    pub fn places(&self) -> BTreeSet<Place> {
        self.places.iter().flat_map(|(network, nodes)| nodes.keys().map(move |node| (*network, node.clone()))).collect()
    }

    /// The networks on one node: what has to be pushed when it comes back.
    pub fn places_on(&self, node: &str) -> BTreeSet<NetworkId> {
        self.places.iter().filter(|(_, nodes)| nodes.contains_key(node)).map(|(network, _)| *network).collect()
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
            self.note_group(id, group.as_ref());
            let places = self.group_places.get(&id).into_iter().flat_map(BTreeMap::keys);
            out.own.extend(places.cloned());
        } else if let Some(id) = id_of::<Network, NetworkId>(&event.key) {
            self.whole_network(id, out);
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
                self.whole_network(network, out);
            }
        } else if let Some(id) = id_of::<Router, RouterId>(&event.key) {
            let networks: Vec<NetworkId> = self.legs.get(&id).into_iter().flat_map(BTreeMap::keys).copied().collect();
            for network in networks {
                self.whole_network(network, out);
            }
        }
    }

    fn whole_network(&self, network: NetworkId, out: &mut Affected) {
        let nodes = self.places.get(&network).into_iter().flat_map(BTreeMap::keys);
        out.own.extend(nodes.map(|node| (network, node.clone())));
    }

    fn port(&mut self, id: PortId, now: Option<Seen>, out: &mut Affected) {
        let before = self.ports.get(&id).cloned();
        // First, because a leg that goes is still seen by the nodes that are there now.
        for seen in before.iter().chain(&now) {
            if seen.router.is_some() {
                self.whole_network(seen.network, out);
            }
            if let Some(node) = &seen.node {
                out.own.insert((seen.network, node.clone()));
            }
        }
        let joined = |seen: &Option<Seen>| seen.as_ref().map(|seen| (seen.groups.clone(), seen.reach.clone()));
        let moved = joined(&before) != joined(&now);
        let groups: BTreeSet<GroupId> =
            before.iter().chain(&now).flat_map(|seen| seen.groups.iter().copied()).collect();
        self.note_port(id, now);
        if !moved {
            return;
        }
        for referrer in groups.iter().filter_map(|group| self.referrers.get(group)).flatten() {
            let places = self.group_places.get(referrer).into_iter().flat_map(BTreeMap::keys);
            out.members.extend(places.filter(|place| !out.own.contains(*place)).cloned());
        }
    }

    fn note_port(&mut self, id: PortId, now: Option<Seen>) {
        if let Some(before) = self.ports.remove(&id) {
            self.count(&before, false);
        }
        if let Some(now) = now {
            self.count(&now, true);
            self.ports.insert(id, now);
        }
    }

    fn count(&mut self, seen: &Seen, more: bool) {
        if let Some(node) = &seen.node {
            count(self.places.entry(seen.network).or_default(), node.clone(), more);
            for group in &seen.groups {
                count(self.group_places.entry(*group).or_default(), (seen.network, node.clone()), more);
            }
        }
        if let Some(router) = seen.router {
            count(self.legs.entry(router).or_default(), seen.network, more);
        }
    }

    fn note_group(&mut self, id: GroupId, now: Option<&SecurityGroup>) {
        for remote in self.remotes.remove(&id).unwrap_or_default() {
            if let Some(referrers) = self.referrers.get_mut(&remote) {
                referrers.remove(&id);
            }
        }
        let remotes: BTreeSet<GroupId> = now
            .into_iter()
            .flat_map(|group| &group.rules)
            .filter_map(|rule| match rule.remote {
                Remote::Group(remote) => Some(remote),
                Remote::Any | Remote::Prefix(_) => None,
            })
            .collect();
        for remote in &remotes {
            self.referrers.entry(*remote).or_default().insert(id);
        }
        if !remotes.is_empty() {
            self.remotes.insert(id, remotes);
        }
    }
}

fn count<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K, more: bool) {
    if more {
        *counts.entry(key).or_default() += 1;
    } else if let Some(left) = counts.get_mut(&key) {
        *left -= 1;
        if *left == 0 {
            counts.remove(&key);
        }
    }
}

fn seen(port: &Port) -> Seen {
    let addresses = port.fixed_ips.iter().map(|fixed| fixed.address.to_string());
    Seen {
        network: port.network,
        node: port.node().map(str::to_owned),
        router: match port.holder {
            Holder::Router(router) => Some(router),
            Holder::Free { .. } | Holder::Server { .. } => None,
        },
        groups: port.groups.clone(),
        reach: addresses.chain(port.allowed_pairs.iter().map(|pair| pair.address.to_string())).collect(),
    }
}

fn id_of<R: Record, I: std::str::FromStr>(key: &Key) -> Option<I> {
    let text = std::str::from_utf8(key.as_bytes()).ok()?;
    text.strip_prefix(R::TABLE)?.parse().ok()
}

//! What the node was told of networks: in parts, as they change, and put together, as the driver wants them.
//!
//! A part counts if it was made from a newer state of the cell than the one that is known. Saying the same again under
//! a newer revision is no news: only the revision is noted, and only in memory, where running ahead of the log refuses
//! more and never less.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driver::{GroupId, GroupState, GuestSpec, NetworkId, NetworkSpec, NetworkState, PortId, PortState, Remote};

use crate::entry::Entry;

/// A description, and the revision of the cell's state that it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told<T> {
    /// Orders descriptions of one thing.
    pub revision: u64,
    /// What it must be.
    pub what: Arc<T>,
}

impl<T: PartialEq> Told<T> {
    /// Whether `told` says something that `known` does not; if only its revision is newer, that is noted.
    fn is_news(known: Option<&mut Told<T>>, told: &Told<T>) -> bool {
        match known {
            None => true,
            Some(known) if known.revision >= told.revision => false,
            Some(known) if known.what == told.what => {
                known.revision = told.revision;
                false
            }
            Some(_) => true,
        }
    }

    fn renew(&mut self, told: &Told<T>)
    where
        Told<T>: Clone,
    {
        if self.revision < told.revision {
            *self = told.clone();
        }
    }
}

/// Descriptions that came without an order. What is not named stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptions {
    /// Networks, but for their ports.
    pub networks: Vec<Told<NetworkSpec>>,
    /// Ports of guests of this node.
    pub ports: Vec<Told<PortState>>,
    /// Members of groups.
    pub groups: Vec<Told<GroupState>>,
    /// Groups that no rule here names, as of these revisions.
    pub groups_gone: Vec<(GroupId, u64)>,
}

/// What the log says of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) networks: BTreeMap<NetworkId, Told<NetworkSpec>>,
    ports: BTreeMap<NetworkId, BTreeMap<PortId, Told<PortState>>>,
    groups: BTreeMap<GroupId, Told<GroupState>>,
}

impl Described {
    pub(crate) fn network_is_news(&mut self, told: &Told<NetworkSpec>) -> bool {
        Told::is_news(self.networks.get_mut(&told.what.id), told)
    }

    pub(crate) fn port_is_news(&mut self, told: &Told<PortState>) -> bool {
        let known = self.ports.get_mut(&told.what.network).and_then(|ports| ports.get_mut(&told.what.id));
        Told::is_news(known, told)
    }

    pub(crate) fn group_is_news(&mut self, told: &Told<GroupState>) -> bool {
        Told::is_news(self.groups.get_mut(&told.what.id), told)
    }

    pub(crate) fn group_may_go(&self, group: GroupId, revision: u64) -> bool {
        self.groups.get(&group).is_some_and(|known| known.revision < revision)
    }

    pub(crate) fn has_port(&self, network: NetworkId, port: PortId) -> bool {
        self.ports.get(&network).is_some_and(|ports| ports.contains_key(&port))
    }

    pub(crate) fn network(&mut self, told: &Told<NetworkSpec>) {
        self.networks.entry(told.what.id).or_insert_with(|| told.clone()).renew(told);
    }

    pub(crate) fn port(&mut self, told: &Told<PortState>) {
        let ports = self.ports.entry(told.what.network).or_default();
        ports.entry(told.what.id).or_insert_with(|| told.clone()).renew(told);
    }

    pub(crate) fn group(&mut self, told: &Told<GroupState>) {
        self.groups.entry(told.what.id).or_insert_with(|| told.clone()).renew(told);
    }

    pub(crate) fn group_gone(&mut self, group: GroupId) {
        self.groups.remove(&group);
    }

    pub(crate) fn network_gone(&mut self, network: NetworkId) {
        self.networks.remove(&network);
        self.ports.remove(&network);
    }

    /// Forgets the ports of a guest that is gone.
    pub(crate) fn guest_gone(&mut self, spec: &GuestSpec) {
        for nic in &spec.nics {
            let Some(ports) = self.ports.get_mut(&nic.network) else { continue };
            ports.remove(&nic.port);
            if ports.is_empty() {
                self.ports.remove(&nic.network);
            }
        }
    }

    /// Forgets groups that no port names: what was told to forget them may have been lost.
    pub(crate) fn forget_unnamed_groups(&mut self) {
        let named: BTreeSet<GroupId> = self.all_ports().flat_map(|port| groups_named(&port.what)).collect();
        self.groups.retain(|group, _| named.contains(group));
    }

    /// The networks with ports whose rules name `group`.
    pub(crate) fn networks_naming(&self, group: GroupId) -> BTreeSet<NetworkId> {
        let names = |port: &Told<PortState>| groups_named(&port.what).any(|named| named == group);
        self.ports.iter().filter(|(_, ports)| ports.values().any(names)).map(|(network, _)| *network).collect()
    }

    /// A network put together for the driver, if the node was told of it.
    pub(crate) fn whole(&self, network: NetworkId, version: u64) -> Option<NetworkState> {
        let spec = Arc::clone(&self.networks.get(&network)?.what);
        let ports = self.ports.get(&network).into_iter().flat_map(BTreeMap::values);
        let ports = ports.map(|port| Arc::clone(&port.what)).collect();
        let groups = self.groups.iter().map(|(id, group)| (*id, Arc::clone(&group.what))).collect();
        Some(NetworkState { version, spec, ports, groups })
    }

    /// The entries that give this again. Ports come behind the guests that they belong to.
    pub(crate) fn live_networks(&self) -> impl Iterator<Item = Entry> {
        let groups = self.groups.values().cloned().map(Entry::Group);
        self.networks.values().cloned().map(Entry::Network).chain(groups)
    }

    pub(crate) fn live_ports(&self) -> impl Iterator<Item = Entry> {
        self.all_ports().cloned().map(Entry::Port)
    }

    fn all_ports(&self) -> impl Iterator<Item = &Told<PortState>> {
        self.ports.values().flat_map(BTreeMap::values)
    }
}

fn groups_named(port: &PortState) -> impl Iterator<Item = GroupId> {
    port.rules.iter().filter_map(|rule| match rule.remote {
        Remote::Group(group) => Some(group),
        Remote::Any | Remote::Prefix(_) => None,
    })
}

//! What a network's description comes to on this node: names, numbers and places, still without any effect.
//!
//! Everything else in the crate (rules, devices, answers) is derived from a [`Plan`], so they cannot disagree about
//! what a tap is called or where a gateway lives.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use driver::{GroupId, GroupState, NetworkId, NetworkSpec, NetworkState, PortId, PortState, Subnet};
use ipnet::IpNet;

use crate::error::NetError;
use crate::names::{self, Mac};

/// The smallest MTU that IPv4 allows.
const SMALLEST_MTU: u16 = 68;
/// The smallest MTU that IPv6 allows; Linux switches it off on devices below.
const SMALLEST_DEVICE_MTU: u16 = 1280;

/// A port's number on this node's part of its network, 2 or more. It is what marks on packets carry.
pub(crate) type Index = u16;

/// The number that stands for routers' legs in marks.
pub(crate) const LEGS: Index = 1;

/// A description with everything that follows from it.
pub(crate) struct Plan<'a> {
    pub(crate) spec: &'a NetworkSpec,
    pub(crate) groups: &'a BTreeMap<GroupId, Arc<GroupState>>,
    pub(crate) bridge_mac: Mac,
    pub(crate) ports: Vec<PlannedPort<'a>>,
    pub(crate) legs: Vec<Leg>,
}

/// A port with its device and number.
pub(crate) struct PlannedPort<'a> {
    pub(crate) index: Index,
    pub(crate) tap: String,
    pub(crate) mac: Mac,
    pub(crate) state: &'a PortState,
}

/// One device that joins a router to the network; it may have an address in several subnets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leg {
    pub(crate) router: String,
    pub(crate) outside: String,
    pub(crate) inside: String,
    pub(crate) mac: Mac,
    pub(crate) addresses: Vec<IpNet>,
}

/// Where a subnet's gateway address is answered.
pub(crate) enum Gateway<'p> {
    /// On the network's own bridge.
    Bridge(IpAddr),
    /// On a router's leg.
    Leg(IpAddr, &'p Leg),
}

impl<'a> Plan<'a> {
    /// Checks `state` and works out the plan. `indices` has a number for each of its ports.
    pub(crate) fn of(state: &'a NetworkState, indices: &BTreeMap<PortId, Index>) -> Result<Plan<'a>, NetError> {
        let spec = &*state.spec;
        let bad = |reason: String| NetError::Description { network: spec.id, reason };
        if spec.mtu < SMALLEST_MTU {
            return Err(bad(format!("its MTU {} is below {SMALLEST_MTU}", spec.mtu)));
        }
        let mut ports = Vec::with_capacity(state.ports.len());
        for port in &state.ports {
            let mac = Mac::parse(&port.mac)
                .ok_or_else(|| bad(format!("port {} has the hardware address {:?}", port.id, port.mac)))?;
            let index = *indices.get(&port.id).ok_or_else(|| bad(format!("port {} has no number", port.id)))?;
            ports.push(PlannedPort { index, tap: names::tap(port.id), mac, state: port });
        }
        ports.sort_by_key(|port| port.index);
        let legs = legs(spec, bad)?;
        Ok(Plan { spec, groups: &state.groups, bridge_mac: names::bridge_mac(spec.id), ports, legs })
    }

    pub(crate) fn id(&self) -> NetworkId {
        self.spec.id
    }

    /// The MTU of devices. Guests may be told a smaller one.
    pub(crate) fn device_mtu(&self) -> u16 {
        self.spec.mtu.max(SMALLEST_DEVICE_MTU)
    }

    /// Where `subnet`'s gateway is answered, if it has one.
    pub(crate) fn gateway(&self, subnet: &Subnet) -> Option<Gateway<'_>> {
        let address = subnet.gateway?;
        let leg = self.legs.iter().find(|leg| leg.addresses.iter().any(|own| own.addr() == address));
        Some(leg.map_or(Gateway::Bridge(address), |leg| Gateway::Leg(address, leg)))
    }

    /// The address by which guests of `subnet` see the host, when the host speaks to them.
    pub(crate) fn host_seen_as(&self, subnet: &Subnet) -> IpAddr {
        let own = match self.gateway(subnet) {
            Some(Gateway::Bridge(address)) => Some(address),
            Some(Gateway::Leg(..)) | None => None,
        };
        let on_leg = |address: IpAddr| self.legs.iter().flat_map(|leg| &leg.addresses).any(|own| own.addr() == address);
        match subnet.cidr {
            IpNet::V4(range) => {
                let free = |address: &Ipv4Addr| range.contains(address) && !on_leg(IpAddr::V4(*address));
                let given = self.spec.host_address.filter(free);
                given.map(IpAddr::V4).or(own).unwrap_or(IpAddr::V4(names::METADATA))
            }
            IpNet::V6(range) => own.unwrap_or(IpAddr::V6(self.bridge_mac.address_in(range.network()))),
        }
    }

    /// All addresses that the network's own bridge has, link-local IPv6 aside.
    pub(crate) fn bridge_addresses(&self) -> Vec<IpAddr> {
        // The metadata address first: the kernel takes the first one as source where nothing else decides.
        let mut addresses = vec![IpAddr::V4(names::METADATA)];
        for subnet in &self.spec.subnets {
            match self.gateway(subnet) {
                Some(Gateway::Bridge(address)) => addresses.push(address),
                Some(Gateway::Leg(..)) | None => {}
            }
            if self.spec.host_access {
                addresses.push(self.host_seen_as(subnet));
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        addresses.retain(|address| seen.insert(*address));
        addresses
    }
}

fn legs(state: &NetworkSpec, bad: impl Fn(String) -> NetError) -> Result<Vec<Leg>, NetError> {
    let mut legs: BTreeMap<(String, Mac), Leg> = BTreeMap::new();
    for leg in &state.routers {
        let mac = Mac::parse(&leg.mac)
            .ok_or_else(|| bad(format!("router {} has the hardware address {:?}", leg.router, leg.mac)))?;
        let safe = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if leg.router.is_empty() || leg.router.len() > 64 || !leg.router.bytes().all(safe) {
            return Err(bad(format!("{:?} is not the id of a router", leg.router)));
        }
        let entry = legs.entry((leg.router.clone(), mac)).or_insert_with(|| Leg {
            router: leg.router.clone(),
            outside: names::leg_outside(&leg.router, mac),
            inside: names::leg_inside(state.id, mac),
            mac,
            addresses: Vec::new(),
        });
        entry.addresses.push(leg.address);
    }
    Ok(legs.into_values().collect())
}

/// Gives each port a number and keeps those that were given before. Numbers of ports that went are not given again
/// soon, so that a packet on its way with an old number never meets a new port's rules.
pub(crate) fn number_ports(
    before: &BTreeMap<PortId, Index>,
    next: &mut Index,
    ports: &[Arc<PortState>],
) -> BTreeMap<PortId, Index> {
    let mut ids: Vec<PortId> = ports.iter().map(|port| port.id).collect();
    ids.sort_unstable();
    let mut numbers: BTreeMap<PortId, Index> =
        ids.iter().filter_map(|id| before.get(id).map(|index| (*id, *index))).collect();
    let mut taken: std::collections::BTreeSet<Index> = numbers.values().copied().collect();
    for id in ids {
        if numbers.contains_key(&id) {
            continue;
        }
        // A node never has 65,000 ports of one network; if it did, those beyond would stay without a number and
        // the plan would be refused.
        for _ in 0..=Index::MAX {
            let candidate = (*next).max(LEGS + 1);
            *next = candidate.checked_add(1).unwrap_or(LEGS + 1);
            if taken.insert(candidate) {
                numbers.insert(id, candidate);
                break;
            }
        }
    }
    numbers
}

/// The address if it is of IPv4.
pub(crate) fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

//! Descriptions to start from.

use std::collections::BTreeMap;
use std::sync::Arc;

use driver::network::RouterLeg;
use driver::{
    Direction, GroupId, GroupState, GuestId, NetworkId, NetworkSpec, NetworkState, PortId, PortState, Protocol, Remote,
    Rule, Subnet,
};
use ids::uuid::Uuid;

/// A network with an IPv4 and an IPv6 range and two ports, a (`.5`) and b (`.6`), that may send and receive all.
pub(crate) fn network(number: u16) -> NetworkState {
    let subnet = |cidr: String, gateway: String| Subnet {
        cidr: cidr.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
        dhcp: true,
        dns: vec!["192.0.2.53".parse().unwrap(), "2001:db8::53".parse().unwrap()],
        routes: vec![],
    };
    let spec = NetworkSpec {
        id: network_id(number),
        name: format!("net{number}"),
        mtu: 1450,
        subnets: vec![
            subnet(format!("10.213.{number}.0/24"), format!("10.213.{number}.1")),
            subnet(format!("fd00:213:{number:x}::/64"), format!("fd00:213:{number:x}::1")),
        ],
        routers: vec![],
        host_access: false,
        host_address: None,
    };
    let ports = [5, 6].map(|last| Arc::new(port(number, last))).into();
    NetworkState { version: 1, spec: Arc::new(spec), ports, groups: BTreeMap::new() }
}

/// The network itself, to be changed.
pub(crate) fn spec(network: &mut NetworkState) -> &mut NetworkSpec {
    Arc::make_mut(&mut network.spec)
}

/// One of its ports, to be changed.
pub(crate) fn edit(network: &mut NetworkState, port: usize) -> &mut PortState {
    Arc::make_mut(&mut network.ports[port])
}

/// Says who is in group `number`.
pub(crate) fn group(network: &mut NetworkState, number: u128, members: &[&str]) -> Remote {
    let id = GroupId::from_uuid(Uuid::from_u128(number));
    let members = members.iter().map(|member| member.parse().unwrap()).collect();
    network.groups.insert(id, Arc::new(GroupState { id, members }));
    Remote::Group(id)
}

fn network_id(number: u16) -> NetworkId {
    NetworkId::from_uuid(Uuid::from_u128(0x6e00_0000_0000_4000_8000_0000_0000_0000 + u128::from(number)))
}

/// The port `last` of network `number`.
pub(crate) fn port(number: u16, last: u8) -> PortState {
    let id = (u128::from(number) << 8) + u128::from(last);
    PortState {
        id: PortId::from_uuid(Uuid::from_u128(0x7000_0000_0000_4000_8000_0000_0000_0000 + id)),
        network: network_id(number),
        guest: GuestId::from_uuid(Uuid::from_u128(0x7900_0000_0000_4000_8000_0000_0000_0000 + id)),
        mac: format!("fa:16:3e:00:{number:02x}:{last:02x}"),
        addresses: vec![
            format!("10.213.{number}.{last}/24").parse().unwrap(),
            format!("fd00:213:{number:x}::f816:3eff:fe00:{number:x}{last:02x}/64").parse().unwrap(),
        ],
        allowed_pairs: vec![],
        host_name: format!("guest{last}"),
        secured: true,
        rules: all(),
        metadata: [("openstack/latest/meta_data.json", format!("{{\"port\":{last}}}"))].into_iter().collect(),
    }
}

/// Rules that let everything pass.
pub(crate) fn all() -> Vec<Rule> {
    let ways = [Direction::Ingress, Direction::Egress];
    ways.into_iter().flat_map(|way| [false, true].map(|ipv6| rule(way, ipv6, Protocol::Any))).collect()
}

/// A rule for any far end.
pub(crate) fn rule(direction: Direction, ipv6: bool, protocol: Protocol) -> Rule {
    Rule { direction, ipv6, protocol, remote: Remote::Any }
}

/// Joins `network` to `router` by the gateway addresses of its subnets.
pub(crate) fn join(network: &mut NetworkState, number: u16, router: &str) {
    let spec = spec(network);
    spec.routers = spec
        .subnets
        .iter()
        .enumerate()
        .map(|(index, subnet)| RouterLeg {
            router: router.to_string(),
            address: ipnet::IpNet::new(subnet.gateway.unwrap(), subnet.cidr.prefix_len()).unwrap(),
            mac: format!("fa:16:3e:ff:{number:02x}:{index:02x}"),
        })
        .collect();
}

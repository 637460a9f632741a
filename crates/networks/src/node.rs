//! What a node must do about a network: a pure function of the records.
//!
//! Remote groups are resolved here, over the whole cell, so that a node needs to know nothing but its own description.

use std::collections::BTreeMap;

use driver::network::RouterLeg;
use driver::{NetworkState, PortState, Protocol, Rule};
use ipnet::IpNet;
use store::{Reader, Revision};

use crate::error::NetError;
use crate::group;
use crate::keys::PortTerm;
use crate::model::{Holder, Network, Port, Remote, SecurityGroup, SecurityRule, Subnet};
use crate::name::{GroupId, NetworkId};
use crate::plan;
use crate::port::with_prefix;

/// Documents of the metadata service: path without the leading slash, and content.
pub type Documents = Vec<(String, Vec<u8>)>;

/// The description of `network` for `node`; `None` if no server's port on that node needs it. What the metadata service
/// serves behind a port is the caller's to say.
///
/// Descriptions of one network are ordered by the revision of the state that they were made from.
pub fn node_state(
    reader: &Reader<'_>,
    network: NetworkId,
    node: &str,
    metadata: impl Fn(&Port) -> Documents,
) -> Result<Option<NetworkState>, NetError> {
    let ports = plan::ports(reader, PortTerm::At(network, node))?;
    let Some((network, _)) = reader.get::<Network>(&network)? else { return Ok(None) };
    if ports.is_empty() {
        return Ok(None);
    }
    let subnets = plan::subnets(reader, network.id)?;
    let mut groups = Groups { reader, rules: BTreeMap::new(), members: BTreeMap::new() };
    let mut states = Vec::with_capacity(ports.len());
    for (port, _) in &ports {
        let documents = metadata(port);
        if let Some(state) = port_state(&network, &subnets, &mut groups, port, documents)? {
            states.push(state);
        }
    }
    Ok(Some(NetworkState {
        id: network.id,
        revision: reader.revision().as_u64(),
        name: network.standard.name.clone(),
        mtu: network.mtu,
        subnets: subnets.iter().map(|(subnet, _)| subnet_state(subnet)).collect(),
        ports: states,
        routers: legs(reader, network.id, &subnets)?,
        host_access: network.host_address.is_some(),
        host_address: network.host_address,
    }))
}

fn subnet_state(subnet: &Subnet) -> driver::Subnet {
    let dhcp = match subnet.cidr {
        IpNet::V4(_) => subnet.dhcp,
        // Without a mode somebody else advertises, or nobody.
        IpNet::V6(_) => subnet.dhcp && subnet.ra_mode.is_some(),
    };
    driver::Subnet {
        cidr: subnet.cidr,
        gateway: subnet.gateway,
        dhcp,
        dns: subnet.name_servers.clone(),
        routes: subnet.routes.clone(),
    }
}

fn port_state(
    network: &Network,
    subnets: &[(Subnet, Revision)],
    groups: &mut Groups<'_>,
    port: &Port,
    metadata: Documents,
) -> Result<Option<PortState>, NetError> {
    let Some(guest) = port.server() else { return Ok(None) };
    let mut rules = Vec::new();
    // A port that is down lets nothing through: no rule, and rules apply.
    let up = port.admin_state_up && network.admin_state_up;
    if up && port.port_security {
        for group in &port.groups {
            rules.extend(groups.rules(*group)?.iter().cloned());
        }
        rules.sort();
        rules.dedup();
    }
    Ok(Some(PortState {
        id: port.id,
        guest,
        mac: port.mac.to_string(),
        addresses: port.fixed_ips.iter().filter_map(|fixed| with_prefix(subnets, fixed)).collect(),
        allowed_pairs: port.allowed_pairs.iter().map(|pair| pair.address).collect(),
        host_name: host_name(port),
        secured: port.port_security || !up,
        rules,
        metadata,
    }))
}

/// The port's own name, else one made of its first address.
pub fn host_name(port: &Port) -> String {
    if !port.host_name.is_empty() {
        return port.host_name.clone();
    }
    match port.fixed_ips.first() {
        Some(fixed) => format!("host-{}", fixed.address.to_string().replace(['.', ':'], "-")),
        None => format!("host-{}", port.mac.to_string().replace(':', "-")),
    }
}

fn legs(reader: &Reader<'_>, network: NetworkId, subnets: &[(Subnet, Revision)]) -> Result<Vec<RouterLeg>, NetError> {
    let mut legs = Vec::new();
    for (port, _) in plan::ports(reader, PortTerm::Legs(network))? {
        let Holder::Router(id) = port.holder else { continue };
        let up = reader.get::<crate::Router>(&id)?.is_some_and(|(router, _)| router.admin_state_up);
        if !up || !port.admin_state_up {
            continue;
        }
        for address in port.fixed_ips.iter().filter_map(|fixed| with_prefix(subnets, fixed)) {
            legs.push(RouterLeg { router: id.to_string(), address, mac: port.mac.to_string() });
        }
    }
    Ok(legs)
}

/// Groups in the form that nodes want, each resolved once.
struct Groups<'a> {
    reader: &'a Reader<'a>,
    rules: BTreeMap<GroupId, Vec<Rule>>,
    /// Addresses of a group's members: IPv4, IPv6.
    members: BTreeMap<GroupId, [Vec<IpNet>; 2]>,
}

impl Groups<'_> {
    /// What the group lets through. A group that is gone lets nothing through.
    fn rules(&mut self, id: GroupId) -> Result<&[Rule], NetError> {
        if !self.rules.contains_key(&id) {
            let mut resolved = Vec::new();
            if let Some((group, _)) = self.reader.get::<SecurityGroup>(&id)? {
                for rule in &group.rules {
                    let remotes = match rule.remote {
                        Remote::Group(remote) => self.members(remote, rule.ipv6)?.to_vec(),
                        Remote::Any | Remote::Prefix(_) => Vec::new(),
                    };
                    resolved.extend(resolve(rule, remotes));
                }
            }
            self.rules.insert(id, resolved);
        }
        Ok(self.rules.get(&id).map_or(&[], Vec::as_slice))
    }

    /// The addresses of a group's ports, anywhere in the cell, of one IP version.
    fn members(&mut self, id: GroupId, ipv6: bool) -> Result<&[IpNet], NetError> {
        if !self.members.contains_key(&id) {
            let ports = plan::ports(self.reader, PortTerm::Group(id))?;
            self.members.insert(id, addresses_of(ports.iter().map(|(port, _)| port)));
        }
        let found = self.members.get(&id);
        Ok(found.map_or(&[], |[four, six]| if ipv6 { six.as_slice() } else { four.as_slice() }))
    }
}

/// All addresses from which these ports may send: IPv4, IPv6.
fn addresses_of<'a>(ports: impl Iterator<Item = &'a Port>) -> [Vec<IpNet>; 2] {
    let (mut four, mut six) = (Vec::new(), Vec::new());
    for port in ports {
        let own = port.fixed_ips.iter().map(|fixed| IpNet::from(fixed.address));
        for address in own.chain(port.allowed_pairs.iter().map(|pair| pair.address)) {
            match address {
                IpNet::V4(_) => four.push(address),
                IpNet::V6(_) => six.push(address),
            }
        }
    }
    for addresses in [&mut four, &mut six] {
        addresses.sort_unstable();
        addresses.dedup();
    }
    [four, six]
}

/// A rule in the form that nodes want; `None` if it can match nothing at all.
fn resolve(rule: &SecurityRule, members: Vec<IpNet>) -> Option<Rule> {
    let (remotes, remote_any) = match rule.remote {
        Remote::Any => (Vec::new(), true),
        Remote::Prefix(prefix) if group::is_everything(&prefix) => (Vec::new(), true),
        Remote::Prefix(prefix) => (vec![prefix], false),
        Remote::Group(_) if members.is_empty() => return None,
        Remote::Group(_) => (members, false),
    };
    let number = rule.protocol.as_deref().and_then(group::protocol_number);
    let ports = || (rule.port_min.unwrap_or(0), rule.port_max.unwrap_or(u16::MAX));
    let byte = |value: Option<u16>| value.and_then(|value| u8::try_from(value).ok());
    let protocol = match number {
        None if rule.protocol.is_some() => return None,
        None => Protocol::Any,
        Some(6) => Protocol::Tcp(ports().0, ports().1),
        Some(17) => Protocol::Udp(ports().0, ports().1),
        // The rule's IP version says which of the two is meant.
        Some(1 | 58) => Protocol::Icmp(byte(rule.port_min), byte(rule.port_max)),
        Some(number) => Protocol::Number(number),
    };
    Some(Rule { direction: rule.direction, ipv6: rule.ipv6, protocol, remotes, remote_any })
}

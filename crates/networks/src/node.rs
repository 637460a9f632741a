//! What a node must do about networks: pure functions of the records.
//!
//! It is told in parts (a network, a port, the members of a group), so that a change costs what it changes. Rules that
//! name a group keep the name; who is in it, anywhere in the cell, is told once for all ports of the node.

use std::collections::BTreeMap;

use driver::network::RouterLeg;
use driver::{Documents, NetworkSpec, PortState, Protocol, Rule};
use ipnet::IpNet;
use store::{Reader, Revision};

use crate::error::NetError;
use crate::group;
use crate::keys::PortTerm;
use crate::model::{Holder, Network, Port, Remote, SecurityGroup, SecurityRule, Subnet};
use crate::name::{GroupId, NetworkId};
use crate::plan;
use crate::port::with_prefix;

/// Describes parts of one state, each record of it decoded once. Descriptions of one thing are ordered by the revision
/// of the state that they were made from.
pub struct Describer<'a> {
    reader: &'a Reader<'a>,
    networks: BTreeMap<NetworkId, Option<Known>>,
    rules: BTreeMap<GroupId, Vec<Rule>>,
}

struct Known {
    network: Network,
    subnets: Vec<(Subnet, Revision)>,
}

impl<'a> Describer<'a> {
    /// Describes the state of `reader`.
    pub fn new(reader: &'a Reader<'a>) -> Describer<'a> {
        Describer { reader, networks: BTreeMap::new(), rules: BTreeMap::new() }
    }

    /// The description of a network, but for its ports; `None` if it is gone.
    pub fn network(&mut self, id: NetworkId) -> Result<Option<NetworkSpec>, NetError> {
        let reader = self.reader;
        let Some(Known { network, subnets }) = self.known(id)? else { return Ok(None) };
        Ok(Some(NetworkSpec {
            id: network.id,
            name: network.standard.name.clone(),
            mtu: network.mtu,
            subnets: subnets.iter().map(|(subnet, _)| subnet_state(subnet)).collect(),
            routers: legs(reader, network.id, subnets)?,
            host_access: network.host_address.is_some(),
            host_address: network.host_address,
        }))
    }

    /// The description of a port for the node of its guest; `None` if there is no guest behind it. What the metadata
    /// service serves behind it is the caller's to say.
    pub fn port(&mut self, port: &Port, metadata: Documents) -> Result<Option<PortState>, NetError> {
        let Some(guest) = port.server() else { return Ok(None) };
        let Some(Known { network, subnets }) = self.known(port.network)? else { return Ok(None) };
        // A port that is down lets nothing through: no rule, and rules apply.
        let up = port.admin_state_up && network.admin_state_up;
        let addresses = port.fixed_ips.iter().filter_map(|fixed| with_prefix(subnets, fixed)).collect();
        let mut rules = Vec::new();
        if up && port.port_security {
            for group in &port.groups {
                rules.extend_from_slice(self.rules(*group)?);
            }
            rules.sort_unstable();
            rules.dedup();
        }
        Ok(Some(PortState {
            id: port.id,
            network: port.network,
            guest,
            mac: port.mac.to_string(),
            addresses,
            allowed_pairs: port.allowed_pairs.iter().map(|pair| pair.address).collect(),
            host_name: host_name(port),
            secured: port.port_security || !up,
            rules,
            metadata,
        }))
    }

    fn known(&mut self, id: NetworkId) -> Result<Option<&Known>, NetError> {
        if !self.networks.contains_key(&id) {
            let found = self.reader.get::<Network>(&id)?;
            let known = match found {
                Some((network, _)) => Some(Known { network, subnets: plan::subnets(self.reader, id)? }),
                None => None,
            };
            self.networks.insert(id, known);
        }
        Ok(self.networks.get(&id).and_then(Option::as_ref))
    }

    /// What the group lets through. A group that is gone lets nothing through.
    fn rules(&mut self, id: GroupId) -> Result<&[Rule], NetError> {
        if !self.rules.contains_key(&id) {
            let group = self.reader.get::<SecurityGroup>(&id)?;
            let rules = group.iter().flat_map(|(group, _)| &group.rules).filter_map(rule_of).collect();
            self.rules.insert(id, rules);
        }
        Ok(self.rules.get(&id).map_or(&[], Vec::as_slice))
    }
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

/// A rule in the form that nodes want; `None` if it can match nothing at all.
fn rule_of(rule: &SecurityRule) -> Option<Rule> {
    let remote = match rule.remote {
        Remote::Any => driver::Remote::Any,
        Remote::Prefix(prefix) if group::is_everything(&prefix) => driver::Remote::Any,
        Remote::Prefix(prefix) => driver::Remote::Prefix(prefix),
        Remote::Group(group) => driver::Remote::Group(group),
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
    Some(Rule { direction: rule.direction, ipv6: rule.ipv6, protocol, remote })
}

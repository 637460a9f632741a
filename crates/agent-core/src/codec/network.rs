//! What a network is, as the log stores it.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use driver::network::PackedMembers;
use driver::network::RouterLeg;
use driver::{
    Direction, GroupId, GroupState, GuestId, NetworkId, NetworkSpec, PortId, PortState, Protocol, Remote, Rule, Subnet,
};
use proto::agent::state::v1 as stored;

use super::{CodecError, Result, put_id, take_id};
use crate::described::Told;

pub(super) fn put(told: &Told<NetworkSpec>) -> stored::Network {
    let network = &told.what;
    stored::Network {
        id: put_id(network.id.as_uuid()),
        revision: told.revision,
        name: network.name.clone(),
        mtu: network.mtu.into(),
        subnets: network.subnets.iter().map(put_subnet).collect(),
        routers: network.routers.iter().map(put_router).collect(),
        host_access: network.host_access,
        host_address: text(network.host_address.as_ref()),
    }
}

pub(super) fn take(network: stored::Network) -> Result<Told<NetworkSpec>> {
    let what = NetworkSpec {
        id: NetworkId::from_uuid(take_id(&network.id)?),
        name: network.name,
        mtu: small(network.mtu)?,
        subnets: network.subnets.into_iter().map(take_subnet).collect::<Result<_>>()?,
        routers: network.routers.into_iter().map(take_router).collect::<Result<_>>()?,
        host_access: network.host_access,
        host_address: optional(&network.host_address)?,
    };
    Ok(Told { revision: network.revision, what: Arc::new(what) })
}

pub(super) fn put_group(told: &Told<GroupState>) -> stored::Group {
    let PackedMembers { hosts_v4, hosts_v6, ranges } = PackedMembers::of(&told.what.members);
    stored::Group {
        id: put_id(told.what.id.as_uuid()),
        revision: told.revision,
        hosts_v4: hosts_v4.into(),
        hosts_v6: hosts_v6.into(),
        ranges,
    }
}

pub(super) fn take_group(group: stored::Group) -> Result<Told<GroupState>> {
    let stored::Group { id, revision, hosts_v4, hosts_v6, ranges } = group;
    let packed = PackedMembers { hosts_v4: hosts_v4.into(), hosts_v6: hosts_v6.into(), ranges };
    let members = packed.members().ok_or(CodecError("members of a group that are no addresses"))?;
    Ok(Told { revision, what: Arc::new(GroupState { id: GroupId::from_uuid(take_id(&id)?), members }) })
}

fn put_subnet(subnet: &Subnet) -> stored::Subnet {
    stored::Subnet {
        cidr: subnet.cidr.to_string(),
        gateway: text(subnet.gateway.as_ref()),
        dhcp: subnet.dhcp,
        dns: texts(&subnet.dns),
        route_destinations: subnet.routes.iter().map(|(to, _)| to.to_string()).collect(),
        route_next_hops: subnet.routes.iter().map(|(_, hop)| hop.to_string()).collect(),
    }
}

fn take_subnet(subnet: stored::Subnet) -> Result<Subnet> {
    let routes = subnet.route_destinations.iter().zip(&subnet.route_next_hops);
    Ok(Subnet {
        cidr: parse(&subnet.cidr)?,
        gateway: optional(&subnet.gateway)?,
        dhcp: subnet.dhcp,
        dns: parse_all(&subnet.dns)?,
        routes: routes.map(|(to, hop)| Ok((parse(to)?, parse(hop)?))).collect::<Result<_>>()?,
    })
}

pub(super) fn put_port(told: &Told<PortState>) -> stored::Port {
    let port = &told.what;
    let document = |(path, content): (&str, &[u8])| stored::Document {
        path: path.to_owned(),
        content: Bytes::copy_from_slice(content),
    };
    stored::Port {
        id: put_id(port.id.as_uuid()),
        guest: put_id(port.guest.as_uuid()),
        mac: port.mac.clone(),
        addresses: texts(&port.addresses),
        allowed_pairs: texts(&port.allowed_pairs),
        host_name: port.host_name.clone(),
        secured: port.secured,
        rules: port.rules.iter().map(put_rule).collect(),
        metadata: port.metadata.iter().map(document).collect(),
        network: put_id(port.network.as_uuid()),
        revision: told.revision,
    }
}

pub(super) fn take_port(port: stored::Port) -> Result<Told<PortState>> {
    let what = PortState {
        id: PortId::from_uuid(take_id(&port.id)?),
        network: NetworkId::from_uuid(take_id(&port.network)?),
        guest: GuestId::from_uuid(take_id(&port.guest)?),
        mac: port.mac,
        addresses: parse_all(&port.addresses)?,
        allowed_pairs: parse_all(&port.allowed_pairs)?,
        host_name: port.host_name,
        secured: port.secured,
        rules: port.rules.into_iter().map(take_rule).collect::<Result<_>>()?,
        metadata: port.metadata.iter().map(|file| (&file.path, &file.content)).collect(),
    };
    Ok(Told { revision: port.revision, what: Arc::new(what) })
}

fn put_rule(rule: &Rule) -> stored::Rule {
    use stored::RuleProtocol as To;
    let one_up = |value: Option<u8>| value.map_or(0, |value| u32::from(value) + 1);
    let (protocol, first, second) = match rule.protocol {
        Protocol::Any => (To::Any, 0, 0),
        Protocol::Tcp(from, to) => (To::Tcp, from.into(), to.into()),
        Protocol::Udp(from, to) => (To::Udp, from.into(), to.into()),
        Protocol::Icmp(kind, code) => (To::Icmp, one_up(kind), one_up(code)),
        Protocol::Number(number) => (To::Number, number.into(), 0),
    };
    stored::Rule {
        egress: match rule.direction {
            Direction::Egress => true,
            Direction::Ingress => false,
        },
        ipv6: rule.ipv6,
        protocol: protocol.into(),
        first,
        second,
        remote: match &rule.remote {
            Remote::Any => None,
            Remote::Prefix(prefix) => Some(stored::rule::Remote::Prefix(prefix.to_string())),
            Remote::Group(group) => Some(stored::rule::Remote::Group(put_id(group.as_uuid()))),
        },
    }
}

fn take_rule(rule: stored::Rule) -> Result<Rule> {
    use stored::RuleProtocol as From;
    let one_down = |value: u32| match value.checked_sub(1) {
        None => Ok(None),
        Some(value) => u8::try_from(value).map(Some).map_err(|_| CodecError("an ICMP number above 255")),
    };
    let protocol = match From::try_from(rule.protocol) {
        Ok(From::Any) => Protocol::Any,
        Ok(From::Tcp) => Protocol::Tcp(small(rule.first)?, small(rule.second)?),
        Ok(From::Udp) => Protocol::Udp(small(rule.first)?, small(rule.second)?),
        Ok(From::Icmp) => Protocol::Icmp(one_down(rule.first)?, one_down(rule.second)?),
        Ok(From::Number) => {
            Protocol::Number(u8::try_from(rule.first).map_err(|_| CodecError("an IP protocol above 255"))?)
        }
        Ok(From::Unspecified) | Err(_) => return Err(CodecError("a protocol of a newer release")),
    };
    Ok(Rule {
        direction: if rule.egress { Direction::Egress } else { Direction::Ingress },
        ipv6: rule.ipv6,
        protocol,
        remote: match rule.remote {
            None => Remote::Any,
            Some(stored::rule::Remote::Prefix(prefix)) => Remote::Prefix(parse(&prefix)?),
            Some(stored::rule::Remote::Group(group)) => Remote::Group(GroupId::from_uuid(take_id(&group)?)),
        },
    })
}

fn put_router(leg: &RouterLeg) -> stored::RouterLeg {
    stored::RouterLeg { router: leg.router.clone(), address: leg.address.to_string(), mac: leg.mac.clone() }
}

fn take_router(leg: stored::RouterLeg) -> Result<RouterLeg> {
    Ok(RouterLeg { router: leg.router, address: parse(&leg.address)?, mac: leg.mac })
}

fn text<T: ToString>(value: Option<&T>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn parse<T: FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| CodecError("an address that is none"))
}

fn parse_all<T: FromStr>(texts: &[String]) -> Result<Vec<T>> {
    texts.iter().map(|text| parse(text)).collect()
}

fn optional<T: FromStr>(text: &str) -> Result<Option<T>> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn small(value: u32) -> Result<u16> {
    u16::try_from(value).map_err(|_| CodecError("a number above 65535"))
}

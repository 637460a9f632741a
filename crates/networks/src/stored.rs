//! Between the domain's types and the stored messages: the one place that knows both.

use std::fmt::Display;
use std::str::FromStr;

use bytes::Bytes;
use driver::GuestId;
use ids::uuid::Uuid;
use ipnet::IpNet;
use proto::network::state::v1 as pb;
use store::Record;
use world::Wall;

use crate::address::Pool;
use crate::model::{
    AllowedPair, FixedIp, Holder, Ipv6Mode, Network, Port, Remote, Router, RuleDirection, SecurityGroup, SecurityRule,
    Standard, Subnet,
};
use crate::name::{GroupId, Mac, NetworkId, PortId, RouterId, RuleId, SubnetId};
use crate::quota::{Quota, Resource};

fn bits(id: &Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

fn uuid(bytes: &[u8]) -> Result<Uuid, String> {
    Uuid::from_slice(bytes).map_err(|error| error.to_string())
}

fn parsed<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| format!("{text:?}: {error}"))
}

fn optional<T: FromStr>(text: &str) -> Result<Option<T>, String>
where
    T::Err: Display,
{
    if text.is_empty() { Ok(None) } else { parsed(text).map(Some) }
}

fn text<T: Display>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn standard_out(standard: &Standard) -> Option<pb::Standard> {
    Some(pb::Standard {
        name: standard.name.clone(),
        description: standard.description.clone(),
        project: standard.project.to_string(),
        created_us: standard.created.as_micros(),
        updated_us: standard.updated.as_micros(),
        revision: standard.revision,
        tags: standard.tags.iter().cloned().collect(),
    })
}

fn standard_in(stored: Option<pb::Standard>) -> Result<Standard, String> {
    let stored = stored.ok_or("it has no standard attributes")?;
    Ok(Standard {
        name: stored.name,
        description: stored.description,
        project: parsed(&stored.project)?,
        created: Wall::from_micros(stored.created_us),
        updated: Wall::from_micros(stored.updated_us),
        revision: stored.revision,
        tags: stored.tags.into_iter().collect(),
    })
}

impl Record for Network {
    const TABLE: &'static str = "net/";
    type Stored = pb::Network;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn to_stored(&self) -> pb::Network {
        pb::Network {
            id: bits(self.id.as_uuid()),
            standard: standard_out(&self.standard),
            admin_state_up: self.admin_state_up,
            shared: self.shared,
            mtu: u32::from(self.mtu),
            port_security: self.port_security,
            host_address: text(self.host_address),
        }
    }

    fn from_stored(stored: pb::Network) -> Result<Network, String> {
        Ok(Network {
            id: NetworkId::from_uuid(uuid(&stored.id)?),
            standard: standard_in(stored.standard)?,
            admin_state_up: stored.admin_state_up,
            shared: stored.shared,
            mtu: u16::try_from(stored.mtu).map_err(|_| "its MTU is too large")?,
            port_security: stored.port_security,
            host_address: optional(&stored.host_address)?,
        })
    }
}

fn mode_out(mode: Option<Ipv6Mode>) -> i32 {
    let stored = match mode {
        None => pb::Ipv6Mode::Unspecified,
        Some(Ipv6Mode::Slaac) => pb::Ipv6Mode::Slaac,
        Some(Ipv6Mode::DhcpStateless) => pb::Ipv6Mode::Dhcpv6Stateless,
    };
    stored.into()
}

fn mode_in(stored: i32) -> Result<Option<Ipv6Mode>, String> {
    match pb::Ipv6Mode::try_from(stored) {
        Ok(pb::Ipv6Mode::Unspecified) => Ok(None),
        Ok(pb::Ipv6Mode::Slaac) => Ok(Some(Ipv6Mode::Slaac)),
        Ok(pb::Ipv6Mode::Dhcpv6Stateless) => Ok(Some(Ipv6Mode::DhcpStateless)),
        Err(_) => Err(format!("its IPv6 mode is {stored}")),
    }
}

impl Record for Subnet {
    const TABLE: &'static str = "subnet/";
    type Stored = pb::Subnet;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn to_stored(&self) -> pb::Subnet {
        let pool = |pool: &Pool| pb::Pool { first: pool.first().to_string(), last: pool.last().to_string() };
        pb::Subnet {
            id: bits(self.id.as_uuid()),
            standard: standard_out(&self.standard),
            network: bits(self.network.as_uuid()),
            cidr: self.cidr.to_string(),
            gateway: text(self.gateway),
            dhcp: self.dhcp,
            pools: self.pools.iter().map(pool).collect(),
            name_servers: self.name_servers.iter().map(ToString::to_string).collect(),
            routes: self
                .routes
                .iter()
                .map(|(to, by)| pb::Route { destination: to.to_string(), next_hop: by.to_string() })
                .collect(),
            ra_mode: mode_out(self.ra_mode),
            address_mode: mode_out(self.address_mode),
        }
    }

    fn from_stored(stored: pb::Subnet) -> Result<Subnet, String> {
        let pool = |pool: &pb::Pool| {
            Pool::new(parsed(&pool.first)?, parsed(&pool.last)?).ok_or_else(|| "a pool is upside down".to_owned())
        };
        let route = |route: &pb::Route| Ok::<_, String>((parsed(&route.destination)?, parsed(&route.next_hop)?));
        Ok(Subnet {
            id: SubnetId::from_uuid(uuid(&stored.id)?),
            standard: standard_in(stored.standard)?,
            network: NetworkId::from_uuid(uuid(&stored.network)?),
            cidr: parsed(&stored.cidr)?,
            gateway: optional(&stored.gateway)?,
            dhcp: stored.dhcp,
            pools: stored.pools.iter().map(pool).collect::<Result<_, _>>()?,
            name_servers: stored.name_servers.iter().map(|address| parsed(address)).collect::<Result<_, _>>()?,
            routes: stored.routes.iter().map(route).collect::<Result<_, _>>()?,
            ra_mode: mode_in(stored.ra_mode)?,
            address_mode: mode_in(stored.address_mode)?,
        })
    }
}

fn holder_out(holder: &Holder) -> pb::port::Holder {
    match holder {
        Holder::Free { device_id, device_owner } => {
            pb::port::Holder::Free(pb::FreeHolder { device_id: device_id.clone(), device_owner: device_owner.clone() })
        }
        Holder::Server { server, made_for_it, node, zone, card } => pb::port::Holder::Server(pb::ServerHolder {
            server: bits(server.as_uuid()),
            made_for_it: *made_for_it,
            node: node.clone().unwrap_or_default(),
            zone: zone.clone(),
            card: *card,
        }),
        Holder::Router(router) => pb::port::Holder::Router(pb::RouterHolder { router: bits(router.as_uuid()) }),
    }
}

fn holder_in(stored: Option<pb::port::Holder>) -> Result<Holder, String> {
    match stored.ok_or("it has no holder")? {
        pb::port::Holder::Free(free) => Ok(Holder::Free { device_id: free.device_id, device_owner: free.device_owner }),
        pb::port::Holder::Server(held) => Ok(Holder::Server {
            server: GuestId::from_uuid(uuid(&held.server)?),
            made_for_it: held.made_for_it,
            node: (!held.node.is_empty()).then_some(held.node),
            zone: held.zone,
            card: held.card,
        }),
        pb::port::Holder::Router(held) => Ok(Holder::Router(RouterId::from_uuid(uuid(&held.router)?))),
    }
}

impl Record for Port {
    const TABLE: &'static str = "port/";
    type Stored = pb::Port;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn to_stored(&self) -> pb::Port {
        pb::Port {
            id: bits(self.id.as_uuid()),
            standard: standard_out(&self.standard),
            network: bits(self.network.as_uuid()),
            admin_state_up: self.admin_state_up,
            mac: Bytes::copy_from_slice(self.mac.as_bytes()),
            fixed_ips: self
                .fixed_ips
                .iter()
                .map(|fixed| pb::FixedIp { subnet: bits(fixed.subnet.as_uuid()), address: fixed.address.to_string() })
                .collect(),
            groups: self.groups.iter().map(|group| bits(group.as_uuid())).collect(),
            allowed_pairs: self
                .allowed_pairs
                .iter()
                .map(|pair| pb::AllowedPair { address: pair.address.to_string(), mac: text(pair.mac) })
                .collect(),
            port_security: self.port_security,
            host_name: self.host_name.clone(),
            requested_node: self.requested_node.clone(),
            holder: Some(holder_out(&self.holder)),
        }
    }

    fn from_stored(stored: pb::Port) -> Result<Port, String> {
        let fixed = |fixed: &pb::FixedIp| {
            let subnet = SubnetId::from_uuid(uuid(&fixed.subnet)?);
            Ok::<_, String>(FixedIp { subnet, address: parsed(&fixed.address)? })
        };
        let pair = |pair: &pb::AllowedPair| {
            Ok::<_, String>(AllowedPair { address: parsed(&pair.address)?, mac: optional(&pair.mac)? })
        };
        let mac: [u8; 6] = stored.mac.as_ref().try_into().map_err(|_| "its hardware address is damaged")?;
        Ok(Port {
            id: PortId::from_uuid(uuid(&stored.id)?),
            standard: standard_in(stored.standard)?,
            network: NetworkId::from_uuid(uuid(&stored.network)?),
            admin_state_up: stored.admin_state_up,
            mac: Mac::from_bytes(mac),
            fixed_ips: stored.fixed_ips.iter().map(fixed).collect::<Result<_, _>>()?,
            groups: stored.groups.iter().map(|id| uuid(id).map(GroupId::from_uuid)).collect::<Result<_, _>>()?,
            allowed_pairs: stored.allowed_pairs.iter().map(pair).collect::<Result<_, _>>()?,
            port_security: stored.port_security,
            host_name: stored.host_name,
            requested_node: stored.requested_node,
            holder: holder_in(stored.holder)?,
        })
    }
}

fn rule_out(rule: &SecurityRule) -> pb::SecurityRule {
    let direction = match rule.direction {
        RuleDirection::Ingress => pb::Direction::Ingress,
        RuleDirection::Egress => pb::Direction::Egress,
    };
    pb::SecurityRule {
        id: bits(rule.id.as_uuid()),
        direction: direction.into(),
        ipv6: rule.ipv6,
        protocol: rule.protocol.clone().unwrap_or_default(),
        port_min: rule.port_min.map(u32::from),
        port_max: rule.port_max.map(u32::from),
        remote: match rule.remote {
            Remote::Any => None,
            Remote::Prefix(prefix) => Some(pb::security_rule::Remote::RemotePrefix(prefix.to_string())),
            Remote::Group(id) => Some(pb::security_rule::Remote::RemoteGroup(bits(id.as_uuid()))),
        },
        description: rule.description.clone(),
        created_us: rule.created.as_micros(),
    }
}

fn rule_in(stored: pb::SecurityRule) -> Result<SecurityRule, String> {
    let port = |port: Option<u32>| port.map(u16::try_from).transpose().map_err(|_| "a port is too large".to_owned());
    Ok(SecurityRule {
        id: RuleId::from_uuid(uuid(&stored.id)?),
        direction: match pb::Direction::try_from(stored.direction) {
            Ok(pb::Direction::Ingress) => RuleDirection::Ingress,
            Ok(pb::Direction::Egress) => RuleDirection::Egress,
            Ok(pb::Direction::Unspecified) | Err(_) => return Err("a rule has no direction".to_owned()),
        },
        ipv6: stored.ipv6,
        protocol: (!stored.protocol.is_empty()).then_some(stored.protocol),
        port_min: port(stored.port_min)?,
        port_max: port(stored.port_max)?,
        remote: match stored.remote {
            None => Remote::Any,
            Some(pb::security_rule::Remote::RemotePrefix(prefix)) => Remote::Prefix(parsed::<IpNet>(&prefix)?),
            Some(pb::security_rule::Remote::RemoteGroup(id)) => Remote::Group(GroupId::from_uuid(uuid(&id)?)),
        },
        description: stored.description,
        created: Wall::from_micros(stored.created_us),
    })
}

impl Record for SecurityGroup {
    const TABLE: &'static str = "sg/";
    type Stored = pb::SecurityGroup;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn to_stored(&self) -> pb::SecurityGroup {
        pb::SecurityGroup {
            id: bits(self.id.as_uuid()),
            standard: standard_out(&self.standard),
            is_default: self.is_default,
            rules: self.rules.iter().map(rule_out).collect(),
        }
    }

    fn from_stored(stored: pb::SecurityGroup) -> Result<SecurityGroup, String> {
        Ok(SecurityGroup {
            id: GroupId::from_uuid(uuid(&stored.id)?),
            standard: standard_in(stored.standard)?,
            is_default: stored.is_default,
            rules: stored.rules.into_iter().map(rule_in).collect::<Result<_, _>>()?,
        })
    }
}

impl Record for Router {
    const TABLE: &'static str = "router/";
    type Stored = pb::Router;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn to_stored(&self) -> pb::Router {
        pb::Router {
            id: bits(self.id.as_uuid()),
            standard: standard_out(&self.standard),
            admin_state_up: self.admin_state_up,
        }
    }

    fn from_stored(stored: pb::Router) -> Result<Router, String> {
        Ok(Router {
            id: RouterId::from_uuid(uuid(&stored.id)?),
            standard: standard_in(stored.standard)?,
            admin_state_up: stored.admin_state_up,
        })
    }
}

impl Record for Quota {
    const TABLE: &'static str = "net-quota/";
    type Stored = pb::Quota;

    fn id(&self) -> String {
        self.project.to_string()
    }

    fn to_stored(&self) -> pb::Quota {
        let limit = |(resource, most): (&Resource, &Option<u64>)| pb::Limit {
            resource: resource.name().to_owned(),
            most: *most,
        };
        pb::Quota { project: self.project.to_string(), limits: self.limits.iter().map(limit).collect() }
    }

    fn from_stored(stored: pb::Quota) -> Result<Quota, String> {
        let limit = |limit: pb::Limit| {
            let resource = Resource::named(&limit.resource);
            resource.map(|resource| (resource, limit.most)).ok_or_else(|| format!("no resource {}", limit.resource))
        };
        let limits = stored.limits.into_iter().map(limit).collect::<Result<_, _>>()?;
        Ok(Quota { project: parsed(&stored.project)?, limits })
    }
}

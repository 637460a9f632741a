//! Subnets: made, changed, deleted; what makes a range, its gateway and its pools acceptable.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use store::{Record, Txn};

use crate::address::{self, Pool};
use crate::error::{Kind, NetError};
use crate::keys::{self, PortTerm};
use crate::model::{Holder, Ipv6Mode, Network, Port, Standard, Subnet};
use crate::name::{NetworkId, ProjectId, SubnetId};
use crate::network;
use crate::plan::{self, Plan};
use crate::quota::{self, Resource};

/// Pools, name servers or routes of one subnet.
const LIST_MAX: usize = 20;
/// Ports from which a deletion takes derived addresses in its own transaction.
const DERIVED_PORTS_MAX: usize = 30;
/// Where guests find their metadata; no subnet may hide it.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// The gateway of a new subnet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gateway {
    /// The first address.
    #[default]
    First,
    /// None.
    None,
    /// This one.
    At(IpAddr),
}

/// A subnet to be made.
#[derive(Clone, Debug)]
pub struct NewSubnet {
    /// Its network.
    pub network: NetworkId,
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// Its owner, if that is not the caller's project.
    pub project: Option<ProjectId>,
    /// The range; bits behind its length are dropped.
    pub cidr: IpNet,
    /// The gateway.
    pub gateway: Gateway,
    /// Whether the node hands out addresses.
    pub dhcp: bool,
    /// Pools; `None`: everything but the gateway.
    pub pools: Option<Vec<Pool>>,
    /// Name servers.
    pub name_servers: Vec<IpAddr>,
    /// Routes.
    pub routes: Vec<(IpNet, IpAddr)>,
    /// Router advertisements.
    pub ra_mode: Option<Ipv6Mode>,
    /// How guests get IPv6 addresses.
    pub address_mode: Option<Ipv6Mode>,
}

/// Changes to a subnet.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Name.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Gateway; `Some(None)`: none from now on.
    pub gateway: Option<Option<IpAddr>>,
    /// Whether the node hands out addresses.
    pub dhcp: Option<bool>,
    /// Pools.
    pub pools: Option<Vec<Pool>>,
    /// Name servers.
    pub name_servers: Option<Vec<IpAddr>>,
    /// Routes.
    pub routes: Option<Vec<(IpNet, IpAddr)>>,
}

fn invalid<T>(reason: String) -> Result<T, NetError> {
    Err(NetError::Invalid(reason))
}

/// Whether guests can live in this range.
fn check_cidr(cidr: &IpNet) -> Result<(), NetError> {
    let (least, most) = if cidr.addr().is_ipv4() { (1, 30) } else { (1, 126) };
    if !(least..=most).contains(&cidr.prefix_len()) {
        return invalid(format!(
            "Invalid input for cidr. Reason: '{cidr}' must have a prefix length in {least}..={most}."
        ));
    }
    let special = cidr.addr().is_multicast() || cidr.addr().is_loopback() || cidr.addr().is_unspecified();
    let local = cidr.contains(&IpAddr::V4(METADATA)) || IpNet::V6(link_local()).contains(&cidr.addr());
    if special || local {
        return invalid(format!("Invalid input for cidr. Reason: '{cidr}' is reserved for special use."));
    }
    Ok(())
}

fn link_local() -> ipnet::Ipv6Net {
    ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)
}

fn check_modes(subnet: &Subnet) -> Result<(), NetError> {
    let modes = [subnet.ra_mode, subnet.address_mode];
    if modes == [None, None] {
        return Ok(());
    }
    let IpNet::V6(net) = subnet.cidr else {
        return invalid("ipv6_ra_mode and ipv6_address_mode are for IPv6 subnets only.".into());
    };
    if !subnet.dhcp {
        return invalid("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False.".into());
    }
    if let [Some(ra), Some(address)] = modes
        && ra != address
    {
        return invalid("ipv6_ra_mode and ipv6_address_mode must be the same when both are set.".into());
    }
    if net.prefix_len() != 64 {
        return invalid(format!("Invalid CIDR {net} for IPv6 address mode: addresses by EUI-64 need a /64 prefix."));
    }
    Ok(())
}

fn check_gateway(cidr: &IpNet, gateway: Option<IpAddr>) -> Result<(), NetError> {
    match gateway {
        Some(gateway) if !address::is_host(cidr, gateway) => {
            invalid(format!("Invalid input for gateway_ip. Reason: {gateway} is no host's address of {cidr}."))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_pools(subnet: &Subnet) -> Result<(), NetError> {
    if subnet.pools.len() > LIST_MAX {
        return invalid(format!("A subnet has at most {LIST_MAX} allocation pools."));
    }
    for (position, pool) in subnet.pools.iter().enumerate() {
        if !address::is_host(&subnet.cidr, pool.first()) || !address::is_host(&subnet.cidr, pool.last()) {
            return invalid(format!("The allocation pool {pool} spans beyond the subnet cidr {}.", subnet.cidr));
        }
        if let Some(gateway) = subnet.gateway.filter(|gateway| pool.contains(*gateway)) {
            return Err(NetError::GatewayInPool { gateway, pool: pool.to_string() });
        }
        if let Some(other) = subnet.pools.iter().skip(position + 1).find(|other| other.overlaps(pool)) {
            return Err(NetError::Overlap(format!("The allocation pools {pool} and {other} overlap.")));
        }
    }
    Ok(())
}

fn check_lists(subnet: &Subnet) -> Result<(), NetError> {
    if subnet.name_servers.len() > LIST_MAX || subnet.routes.len() > LIST_MAX {
        return invalid(format!("A subnet has at most {LIST_MAX} name servers and {LIST_MAX} host routes."));
    }
    for (position, server) in subnet.name_servers.iter().enumerate() {
        if subnet.name_servers.iter().take(position).any(|other| other == server) {
            return invalid(format!("Invalid input for dns_nameservers. Reason: Duplicate nameserver '{server}'."));
        }
        if server.is_ipv4() != subnet.cidr.addr().is_ipv4() {
            return invalid(format!("The name server {server} is not of the subnet's IP version."));
        }
    }
    for (to, by) in &subnet.routes {
        let v4 = subnet.cidr.addr().is_ipv4();
        if to.addr().is_ipv4() != v4 || by.is_ipv4() != v4 {
            return invalid(format!("The host route {to} by way of {by} is not of the subnet's IP version."));
        }
    }
    Ok(())
}

/// Makes a subnet.
pub fn create(plan: &mut Plan<'_>, new: NewSubnet) -> Result<Subnet, NetError> {
    let (network, _) = plan::owned::<Network>(plan.reader, plan.who, &new.network)?;
    make(plan, &network, new, &[])
}

/// Makes subnets in one transaction; they must not overlap each other either.
pub fn create_many(plan: &mut Plan<'_>, all: Vec<NewSubnet>) -> Result<Vec<Subnet>, NetError> {
    let mut made: Vec<Subnet> = Vec::new();
    for new in all {
        let (network, _) = plan::owned::<Network>(plan.reader, plan.who, &new.network)?;
        let subnet = make(plan, &network, new, &made)?;
        made.push(subnet);
    }
    Ok(made)
}

fn make(plan: &mut Plan<'_>, network: &Network, new: NewSubnet, beside: &[Subnet]) -> Result<Subnet, NetError> {
    let mut subnet = described(plan, network, new)?;
    check_cidr(&subnet.cidr)?;
    check_gateway(&subnet.cidr, subnet.gateway)?;
    check_modes(&subnet)?;
    check_pools(&subnet)?;
    check_lists(&subnet)?;
    let others = plan.subnets(network.id)?;
    let mut others = others.iter().map(|(other, _)| other).chain(beside.iter().filter(|o| o.network == network.id));
    if let Some(other) = others.find(|other| address::overlap(&other.cidr, &subnet.cidr)) {
        return Err(NetError::Invalid(format!(
            "Invalid input for operation: Requested subnet with cidr: {} for network: {} overlaps with another subnet \
             ({}).",
            subnet.cidr, network.id, other.cidr
        )));
    }
    subnet.standard.project = plan.who.owner_of_new(Some(subnet.standard.project))?;
    quota::claim(plan.reader, &mut plan.txn, &subnet.standard.project, Resource::Subnet, 1)?;
    network::touch_for_subnets(plan, network.id)?;
    plan.txn.create(subnet.key(), subnet.encode());
    Ok(subnet)
}

fn described(plan: &Plan<'_>, network: &Network, new: NewSubnet) -> Result<Subnet, NetError> {
    let cidr = new.cidr.trunc();
    check_cidr(&cidr)?;
    let gateway = match new.gateway {
        Gateway::First => Some(address::default_gateway(&cidr)),
        Gateway::None => None,
        Gateway::At(address) => Some(address),
    };
    let host = network.host_address.map(IpAddr::V4);
    let reserved: Vec<IpAddr> = gateway.into_iter().chain(host).collect();
    let project = new.project.unwrap_or_else(|| plan.who.project.clone());
    Ok(Subnet {
        id: SubnetId::random(plan.world),
        standard: Standard::new(new.name, new.description, project, plan.now()),
        network: network.id,
        cidr,
        gateway,
        dhcp: new.dhcp,
        pools: new.pools.unwrap_or_else(|| address::default_pools(&cidr, &reserved)),
        name_servers: new.name_servers,
        routes: new.routes,
        ra_mode: new.ra_mode,
        address_mode: new.address_mode,
    })
}

/// Changes a subnet.
pub fn update(plan: &mut Plan<'_>, id: SubnetId, change: Change) -> Result<Subnet, NetError> {
    let (mut subnet, revision) = plan::owned::<Subnet>(plan.reader, plan.who, &id)?;
    if let Some(gateway) = change.gateway
        && gateway != subnet.gateway
    {
        move_gateway(plan, &subnet, gateway)?;
        subnet.gateway = gateway;
    }
    subnet.standard.name = change.name.unwrap_or(subnet.standard.name);
    subnet.standard.description = change.description.unwrap_or(subnet.standard.description);
    subnet.dhcp = change.dhcp.unwrap_or(subnet.dhcp);
    subnet.pools = change.pools.unwrap_or(subnet.pools);
    subnet.name_servers = change.name_servers.unwrap_or(subnet.name_servers);
    subnet.routes = change.routes.unwrap_or(subnet.routes);
    check_gateway(&subnet.cidr, subnet.gateway)?;
    check_modes(&subnet)?;
    check_pools(&subnet)?;
    check_lists(&subnet)?;
    subnet.standard.touch(plan.now());
    plan.txn.replace(subnet.key(), revision, subnet.encode());
    Ok(subnet)
}

/// The gateway may move if no router has the old address and nobody the new one.
fn move_gateway(plan: &mut Plan<'_>, subnet: &Subnet, to: Option<IpAddr>) -> Result<(), NetError> {
    for (port, _) in plan::ports(plan.reader, PortTerm::Legs(subnet.network))? {
        let old = port.fixed_ips.iter().find(|fixed| Some(fixed.address) == subnet.gateway);
        if let Some(old) = old {
            return Err(NetError::GatewayInUse { gateway: old.address, port: port.id.to_string() });
        }
    }
    if let Some(to) = to {
        let key = keys::address(subnet.id, to);
        if plan.reader.entry(&key).is_some() {
            return Err(NetError::AddressInUse(to));
        }
        plan.txn.absent(key);
    }
    Ok(())
}

/// Deletes a subnet. Chosen addresses hold it; derived ones are taken from their ports.
pub fn delete(plan: &mut Plan<'_>, id: SubnetId) -> Result<(), NetError> {
    let (subnet, revision) = plan::owned::<Subnet>(plan.reader, plan.who, &id)?;
    let users = plan::ports(plan.reader, PortTerm::Subnet(id))?;
    let holds = |port: &Port| !subnet.derives_addresses() || matches!(port.holder, Holder::Router(_));
    if let Some((port, _)) = users.iter().find(|(port, _)| holds(port)) {
        let by = format!("{} ports have addresses of it, {} among them", users.len(), port.id);
        return Err(NetError::in_use(Kind::Subnet, &id, by));
    }
    if users.len() > DERIVED_PORTS_MAX {
        let by = format!("{} ports have addresses of it; delete some of them first", users.len());
        return Err(NetError::in_use(Kind::Subnet, &id, by));
    }
    for (mut port, revision) in users {
        port.fixed_ips.retain(|fixed| fixed.subnet != id);
        port.standard.touch(plan.now());
        plan.txn.replace(port.key(), revision, port.encode());
    }
    nobody_came(plan, subnet.network);
    network::touch_for_subnets(plan, subnet.network)?;
    quota::give_back(&mut plan.txn, &subnet.standard.project, Resource::Subnet, 1);
    plan.txn.remove(subnet.key(), revision);
    Ok(())
}

/// Requires that no port of the network has been made or got other addresses since the plan's state.
fn nobody_came(plan: &mut Plan<'_>, network: NetworkId) {
    let key = keys::network_use(network);
    let seen = plan.reader.entry(&key).map(|entry| entry.modified);
    let txn: &mut Txn = &mut plan.txn;
    match seen {
        Some(revision) => txn.unchanged(key, revision),
        None => txn.absent(key),
    };
}

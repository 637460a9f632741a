//! The ports of a server: fragments for the transactions in which a server comes, moves and goes.
//!
//! The workflow of a server merges what these functions return into its own commits, so that a server never has half
//! of its ports. A conflict means that somebody was quicker or that what the request named has changed: read again and
//! plan again.

use std::net::IpAddr;

use driver::GuestId;
use store::{Reader, Record, Revision, Txn};

use crate::error::{Kind, NetError};
use crate::keys::PortTerm;
use crate::model::{Holder, Network, Port, SecurityGroup};
use crate::name::{GroupId, NetworkId, PortId, ProjectId};
use crate::plan::{self, Plan, Who};
use crate::port::{self, NewPort, WantedIp};
use crate::quota::{self, Resource};

/// One card that a server is to have: on a network, or behind a port that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRequest {
    /// A port made for it.
    Network {
        /// On this network.
        network: NetworkId,
        /// With this address.
        fixed_ip: Option<IpAddr>,
    },
    /// A port of its owner.
    Port(PortId),
}

/// What the ports of one server have in common.
#[derive(Clone, Copy, Debug)]
pub struct ServerNeeds<'a> {
    /// The server.
    pub server: GuestId,
    /// The cards, in the order in which the guest sees them.
    pub requests: &'a [PortRequest],
    /// The groups of ports that are made for it; empty: the default group.
    pub groups: &'a [GroupId],
    /// The name that DHCP tells the guest.
    pub host_name: &'a str,
    /// Where it will run, if that is decided.
    pub node: Option<&'a str>,
    /// The availability zone of that node.
    pub zone: &'a str,
}

/// Adds the ports of a server to a plan, and returns them in the order of the requests. The quota of ports that are
/// made has been claimed before, with [`claim_ports`].
pub fn server_ports(plan: &mut Plan<'_>, needs: &ServerNeeds<'_>) -> Result<Vec<Port>, NetError> {
    (0..).zip(needs.requests).map(|(card, request)| one_port(plan, needs, request, card)).collect()
}

fn one_port(plan: &mut Plan<'_>, needs: &ServerNeeds<'_>, request: &PortRequest, card: u32) -> Result<Port, NetError> {
    let holder = |made_for_it| Holder::Server {
        server: needs.server,
        made_for_it,
        node: needs.node.map(str::to_owned),
        zone: needs.zone.to_owned(),
        card,
    };
    match request {
        PortRequest::Network { network, fixed_ip } => {
            let (network, _) = plan::seen::<Network>(plan.reader, plan.who, network)?;
            permit_address(plan.who, &network, *fixed_ip)?;
            let asked = fixed_ip.map(|address| vec![WantedIp { subnet: None, address: Some(address) }]);
            let secured = network.port_security;
            let new = NewPort {
                fixed_ips: asked,
                groups: (secured && !needs.groups.is_empty()).then(|| needs.groups.to_vec()),
                host_name: needs.host_name.to_owned(),
                ..NewPort::on(network.id)
            };
            let project = plan.who.project.clone();
            port::make(plan, &network, project, new, holder(true))
        }
        PortRequest::Port(id) => {
            let (mut port, revision) = free_port(plan.reader, plan.who, *id)?;
            port.holder = holder(false);
            if port.host_name.is_empty() {
                port.host_name = needs.host_name.to_owned();
            }
            port.standard.touch(plan.now());
            plan.txn.replace(port.key(), revision, port.encode());
            Ok(port)
        }
    }
}

fn permit_address(who: &Who, network: &Network, fixed_ip: Option<IpAddr>) -> Result<(), NetError> {
    if fixed_ip.is_none() || who.owns(&network.standard.project) {
        return Ok(());
    }
    Err(NetError::Forbidden(format!("only the owner of the network {} chooses addresses on it", network.id)))
}

fn free_port(reader: &Reader<'_>, who: &Who, id: PortId) -> Result<(Port, Revision), NetError> {
    let (port, revision) = plan::owned::<Port>(reader, who, &id)?;
    let device = port.device_id();
    if device.is_empty() {
        Ok((port, revision))
    } else {
        Err(NetError::in_use(Kind::Port, &id, format!("the device {device} has it")))
    }
}

/// Whether requests make sense, before anything is claimed: networks, ports and groups are there and may be used. Says
/// nothing about free addresses.
pub fn check_requests(
    reader: &Reader<'_>,
    who: &Who,
    requests: &[PortRequest],
    groups: &[GroupId],
) -> Result<(), NetError> {
    for request in requests {
        match request {
            PortRequest::Network { network, fixed_ip } => {
                let (network, _) = plan::seen::<Network>(reader, who, network)?;
                permit_address(who, &network, *fixed_ip)?;
                let subnets = plan::subnets(reader, network.id)?;
                if subnets.is_empty() {
                    return Err(NetError::Invalid(format!("the network {} has no subnet", network.id)));
                }
                if let Some(address) = fixed_ip
                    && !subnets.iter().any(|(subnet, _)| subnet.cidr.contains(address))
                {
                    let text = format!("the address {address} is in no subnet of the network {}", network.id);
                    return Err(NetError::Invalid(text));
                }
            }
            PortRequest::Port(id) => {
                free_port(reader, who, *id)?;
            }
        }
    }
    for group in groups {
        plan::seen::<SecurityGroup>(reader, who, group)?;
    }
    Ok(())
}

/// The network of a server that names none: the only one with a subnet that its project may use; `None` if there is
/// no such network.
pub fn default_network(reader: &Reader<'_>, who: &Who) -> Result<Option<NetworkId>, NetError> {
    let mut only = None;
    for network in plan::usable_networks(reader, &who.project)? {
        if !plan::subnets(reader, network.id)?.is_empty() && only.replace(network.id).is_some() {
            return Err(NetError::AmbiguousNetwork);
        }
    }
    Ok(only)
}

/// Claims quota for `count` ports: for the commit that accepts a server, because its refusal is the answer.
pub fn claim_ports(reader: &Reader<'_>, project: &ProjectId, count: u64) -> Result<Txn, NetError> {
    let mut txn = Txn::new();
    if count > 0 {
        quota::claim(reader, &mut txn, project, Resource::Port, count)?;
    }
    Ok(txn)
}

/// Gives back what [`claim_ports`] has claimed, for ports that were not made or are gone.
pub fn return_ports(project: &ProjectId, count: u64) -> Txn {
    let mut txn = Txn::new();
    quota::give_back(&mut txn, project, Resource::Port, count);
    txn
}

/// The ports of a server, in the order of its cards, which is that of the requests.
pub fn ports_of(reader: &Reader<'_>, server: GuestId) -> Result<Vec<(Port, Revision)>, NetError> {
    let mut ports = plan::ports(reader, PortTerm::Server(server))?;
    ports.sort_by_key(|(port, _)| (port.card(), port.standard.created, port.id));
    Ok(ports)
}

/// Lets go of the ports of a server: those made for it are removed with their addresses, the others are free again.
/// Returns how many were removed, for [`return_ports`]. Only when the node has confirmed that the guest is absent: until
/// then it could still use the addresses.
pub fn release_ports(reader: &Reader<'_>, server: GuestId) -> Result<(Txn, u64), NetError> {
    let mut txn = Txn::new();
    let mut removed = 0;
    for (port, revision) in ports_of(reader, server)? {
        removed += u64::from(release(&mut txn, port, revision));
    }
    Ok((txn, removed))
}

fn release(txn: &mut Txn, mut port: Port, revision: Revision) -> bool {
    let made = matches!(port.holder, Holder::Server { made_for_it: true, .. });
    if made {
        port::remove(txn, &port, revision);
    } else {
        port.holder = Holder::Free { device_id: String::new(), device_owner: String::new() };
        port.standard.revision += 1;
        txn.replace(port.key(), revision, port.encode());
    }
    made
}

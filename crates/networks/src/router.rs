//! Routers and their interfaces.
//!
//! An interface is a port that the router holds. Adding one writes the router's record too, so that two additions to
//! one router see each other, and a router cannot go while one is being added.

use store::{Record, Revision};

use crate::address;
use crate::error::{Kind, NetError};
use crate::keys::PortTerm;
use crate::model::{Holder, Network, Port, Router, Standard, Subnet};
use crate::name::{PortId, ProjectId, RouterId, SubnetId};
use crate::plan::{self, Plan};
use crate::port::{self, NewPort, WantedIp};
use crate::quota::{self, Resource};

/// A router's interface: a port and one of its subnets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// By its subnet.
    Subnet(SubnetId),
    /// By its port.
    Port(PortId),
}

/// Makes a router.
pub fn create(
    plan: &mut Plan<'_>,
    name: String,
    description: String,
    project: Option<ProjectId>,
    admin_state_up: bool,
) -> Result<Router, NetError> {
    let project = plan.who.owner_of_new(project)?;
    let standard = Standard::new(name, description, project, plan.now());
    let router = Router { id: RouterId::random(plan.world), standard, admin_state_up };
    quota::claim(plan.reader, &mut plan.txn, &router.standard.project, Resource::Router, 1)?;
    plan.txn.create(router.key(), router.encode());
    Ok(router)
}

/// Changes a router.
pub fn update(
    plan: &mut Plan<'_>,
    id: RouterId,
    name: Option<String>,
    description: Option<String>,
    admin_state_up: Option<bool>,
) -> Result<Router, NetError> {
    let (mut router, revision) = plan::owned::<Router>(plan.reader, plan.who, &id)?;
    router.standard.name = name.unwrap_or(router.standard.name);
    router.standard.description = description.unwrap_or(router.standard.description);
    router.admin_state_up = admin_state_up.unwrap_or(router.admin_state_up);
    router.standard.touch(plan.now());
    plan.txn.replace(router.key(), revision, router.encode());
    Ok(router)
}

/// Deletes a router without interfaces.
pub fn delete(plan: &mut Plan<'_>, id: RouterId) -> Result<(), NetError> {
    let (router, revision) = plan::owned::<Router>(plan.reader, plan.who, &id)?;
    if let Some((port, _)) = plan::ports(plan.reader, PortTerm::Router(id))?.first() {
        let by = format!("the port {} is an interface of it", port.id);
        return Err(NetError::in_use(Kind::Router, &id, by));
    }
    quota::give_back(&mut plan.txn, &router.standard.project, Resource::Router, 1);
    plan.txn.remove(router.key(), revision);
    Ok(())
}

/// Adds an interface; returns its port and the subnet.
pub fn add_interface(plan: &mut Plan<'_>, id: RouterId, by: Interface) -> Result<(Router, Port, SubnetId), NetError> {
    let (router, revision) = plan::owned::<Router>(plan.reader, plan.who, &id)?;
    let (port, subnet) = match by {
        Interface::Subnet(subnet) => add_by_subnet(plan, &router, subnet)?,
        Interface::Port(port) => add_by_port(plan, &router, port)?,
    };
    touch(plan, &router, revision);
    Ok((router, port, subnet))
}

fn touch(plan: &mut Plan<'_>, router: &Router, revision: Revision) {
    let mut router = router.clone();
    router.standard.touch(plan.now());
    plan.txn.replace(router.key(), revision, router.encode());
}

fn add_by_subnet(plan: &mut Plan<'_>, router: &Router, id: SubnetId) -> Result<(Port, SubnetId), NetError> {
    let (subnet, network) = usable_subnet(plan, id)?;
    let Some(gateway) = subnet.gateway else {
        return Err(NetError::Invalid("Subnet for router interface must have a gateway IP".into()));
    };
    check_overlap(plan, router, &subnet)?;
    let wanted = WantedIp { subnet: Some(subnet.id), address: Some(gateway) };
    let new = NewPort { fixed_ips: Some(vec![wanted]), groups: Some(Vec::new()), ..NewPort::on(network.id) };
    let project = router.standard.project.clone();
    quota::claim(plan.reader, &mut plan.txn, &project, Resource::Port, 1)?;
    let port = port::make(plan, &network, project, new, Holder::Router(router.id))?;
    Ok((port, subnet.id))
}

fn add_by_port(plan: &mut Plan<'_>, router: &Router, id: PortId) -> Result<(Port, SubnetId), NetError> {
    let (mut port, revision) = plan::owned::<Port>(plan.reader, plan.who, &id)?;
    if !port.device_id().is_empty() {
        return Err(NetError::in_use(Kind::Port, &id, format!("the device {} has it", port.device_id())));
    }
    let Some(first) = port.fixed_ips.first().map(|fixed| fixed.subnet) else {
        return Err(NetError::Invalid("Router port must have at least one fixed IP".into()));
    };
    if port.fixed_ips.iter().filter(|fixed| fixed.address.is_ipv4()).count() > 1 {
        return Err(NetError::Invalid("Cannot have multiple IPv4 subnets on router port".into()));
    }
    for fixed in &port.fixed_ips {
        let (subnet, _) = usable_subnet(plan, fixed.subnet)?;
        check_overlap(plan, router, &subnet)?;
    }
    port.holder = Holder::Router(router.id);
    port.port_security = false;
    port.groups.clear();
    port.allowed_pairs.clear();
    port.standard.touch(plan.now());
    plan.txn.replace(port.key(), revision, port.encode());
    Ok((port, first))
}

/// A router on somebody else's network could stand between its guests.
fn usable_subnet(plan: &Plan<'_>, id: SubnetId) -> Result<(Subnet, Network), NetError> {
    let found = plan.reader.get::<Subnet>(&id)?;
    let (subnet, _) = found.ok_or_else(|| NetError::missing(Kind::Subnet, &id))?;
    match plan::owned::<Network>(plan.reader, plan.who, &subnet.network) {
        Ok((network, _)) => Ok((subnet, network)),
        Err(NetError::NotFound { .. }) => Err(NetError::missing(Kind::Subnet, &id)),
        Err(error) => Err(error),
    }
}

fn check_overlap(plan: &Plan<'_>, router: &Router, subnet: &Subnet) -> Result<(), NetError> {
    for (port, _) in plan::ports(plan.reader, PortTerm::Router(router.id))? {
        for fixed in &port.fixed_ips {
            if fixed.subnet == subnet.id {
                let text = format!("Router already has a port on subnet {}", subnet.id);
                return Err(NetError::Invalid(text));
            }
            let Some((other, _)) = plan.reader.get::<Subnet>(&fixed.subnet)? else { continue };
            if address::overlap(&other.cidr, &subnet.cidr) {
                return Err(NetError::Invalid(format!(
                    "Cidr {} of subnet {} overlaps with cidr {} of subnet {}",
                    subnet.cidr, subnet.id, other.cidr, other.id
                )));
            }
        }
    }
    Ok(())
}

/// Removes an interface with its port. With both named they must belong together.
pub fn remove_interface(
    plan: &mut Plan<'_>,
    id: RouterId,
    by_port: Option<PortId>,
    by_subnet: Option<SubnetId>,
) -> Result<(Router, Port, SubnetId), NetError> {
    let (router, revision) = plan::owned::<Router>(plan.reader, plan.who, &id)?;
    let fits = |port: &Port| {
        by_port.is_none_or(|wanted| port.id == wanted)
            && by_subnet.is_none_or(|wanted| port.fixed_ips.iter().any(|fixed| fixed.subnet == wanted))
    };
    let legs = plan::ports(plan.reader, PortTerm::Router(id))?;
    let found = legs.into_iter().find(|(port, _)| fits(port));
    let (Some((port, port_revision)), true) = (found, by_port.is_some() || by_subnet.is_some()) else {
        return Err(match (by_port, by_subnet) {
            (Some(port), _) => NetError::missing(Kind::Port, &port),
            (None, Some(subnet)) => NetError::missing(Kind::Subnet, &subnet),
            (None, None) => NetError::Invalid("Either subnet_id or port_id must be specified".into()),
        });
    };
    let subnet = by_subnet.or_else(|| port.fixed_ips.first().map(|fixed| fixed.subnet));
    let subnet = subnet.ok_or_else(|| NetError::missing(Kind::Port, &port.id))?;
    quota::give_back(&mut plan.txn, &port.standard.project, Resource::Port, 1);
    port::remove(&mut plan.txn, &port, port_revision);
    touch(plan, &router, revision);
    Ok((router, port, subnet))
}

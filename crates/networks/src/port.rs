//! Ports: made, changed, deleted; how they get their addresses.

mod wanted;

use std::net::IpAddr;

use bytes::Bytes;
use ipnet::IpNet;
use store::{Key, Record, Revision};

use crate::address;
use crate::error::{Kind, NetError};
use crate::keys::{self, PortTerm};
use crate::model::{AllowedPair, FixedIp, Holder, Network, Port, SecurityGroup, Standard, Subnet};
use crate::name::{GroupId, Mac, NetworkId, PortId, ProjectId, SubnetId};
use crate::plan::{self, Plan};
use crate::quota::{self, Resource};
use wanted::Wanted;

pub use wanted::{FIXED_IPS_MAX, WantedIp};

/// Security groups of one port.
pub const GROUPS_MAX: usize = 16;
/// Allowed address pairs of one port, as in Neutron.
pub const PAIRS_MAX: usize = 10;
/// Draws for a hardware address; of 16 million, so the second is hardly ever needed.
const MAC_DRAWS: usize = 16;

/// A port to be made.
#[derive(Clone, Debug)]
pub struct NewPort {
    /// Its network.
    pub network: NetworkId,
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// Its owner, if that is not the caller's project.
    pub project: Option<ProjectId>,
    /// Whether it is meant to carry traffic.
    pub admin_state_up: bool,
    /// Its hardware address; `None`: drawn.
    pub mac: Option<Mac>,
    /// Its addresses; `None`: one of each IP version that the network has.
    pub fixed_ips: Option<Vec<WantedIp>>,
    /// Its groups; `None`: the default group.
    pub groups: Option<Vec<GroupId>>,
    /// Further addresses that may pass.
    pub allowed_pairs: Vec<AllowedPair>,
    /// Port security; `None`: as the network says.
    pub port_security: Option<bool>,
    /// The name that DHCP tells.
    pub host_name: String,
    /// What its owner says is behind it.
    pub device_id: String,
    /// What kind of thing that is.
    pub device_owner: String,
    /// A node named by an administrator.
    pub requested_node: String,
}

impl NewPort {
    /// An ordinary port of `network`.
    pub fn on(network: NetworkId) -> NewPort {
        NewPort {
            network,
            name: String::new(),
            description: String::new(),
            project: None,
            admin_state_up: true,
            mac: None,
            fixed_ips: None,
            groups: None,
            allowed_pairs: Vec::new(),
            port_security: None,
            host_name: String::new(),
            device_id: String::new(),
            device_owner: String::new(),
            requested_node: String::new(),
        }
    }
}

/// Changes to a port.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Name.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Whether it is meant to carry traffic.
    pub admin_state_up: Option<bool>,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// Addresses: all that it has from now on.
    pub fixed_ips: Option<Vec<WantedIp>>,
    /// Groups.
    pub groups: Option<Vec<GroupId>>,
    /// Further addresses that may pass.
    pub allowed_pairs: Option<Vec<AllowedPair>>,
    /// Port security.
    pub port_security: Option<bool>,
    /// The name that DHCP tells.
    pub host_name: Option<String>,
    /// What its owner says is behind it.
    pub device_id: Option<String>,
    /// What kind of thing that is.
    pub device_owner: Option<String>,
    /// A node named by an administrator.
    pub requested_node: Option<String>,
}

/// Makes a port that the caller asked for.
pub fn create(plan: &mut Plan<'_>, new: NewPort) -> Result<Port, NetError> {
    let (network, _) = plan::seen::<Network>(plan.reader, plan.who, &new.network)?;
    let project = plan.who.owner_of_new(new.project.clone())?;
    let wants_address = new.fixed_ips.iter().flatten().any(|wanted| wanted.address.is_some());
    let special = [
        (new.mac.is_some(), "mac_address"),
        (wants_address, "fixed_ips:ip_address"),
        (new.port_security.is_some(), "port_security_enabled"),
        (!new.allowed_pairs.is_empty(), "allowed_address_pairs"),
        (new.device_owner.starts_with("network:"), "device_owner"),
    ];
    permit(plan, &network, &special)?;
    if !new.requested_node.is_empty() && !plan.who.admin {
        return Err(NetError::Forbidden("only an administrator sets binding:host_id".into()));
    }
    let holder = Holder::Free { device_id: new.device_id.clone(), device_owner: new.device_owner.clone() };
    quota::claim(plan.reader, &mut plan.txn, &project, Resource::Port, 1)?;
    make(plan, &network, project, new, holder)
}

/// Some attributes belong to who owns the network: with them a guest could pass for another one.
fn permit(plan: &Plan<'_>, network: &Network, special: &[(bool, &str)]) -> Result<(), NetError> {
    if plan.who.owns(&network.standard.project) {
        return Ok(());
    }
    match special.iter().find(|(asked, _)| *asked) {
        Some((_, name)) => {
            Err(NetError::Forbidden(format!("only the owner of the network {} sets {name}", network.id)))
        }
        None => Ok(()),
    }
}

/// Makes a port; its quota is claimed by the caller.
pub(crate) fn make(
    plan: &mut Plan<'_>,
    network: &Network,
    project: ProjectId,
    new: NewPort,
    holder: Holder,
) -> Result<Port, NetError> {
    let router = matches!(holder, Holder::Router(_));
    let port_security = new.port_security.unwrap_or(network.port_security && !router);
    let subnets = plan.subnets(network.id)?;
    let id = PortId::random(plan.world);
    let mac = pick_mac(plan, network.id, new.mac)?;
    let mut wanted = Wanted { network, subnets: &subnets, mac, router, kept: &[] };
    let fixed_ips = match &new.fixed_ips {
        None => wanted.by_default(plan)?,
        Some(list) => {
            let mut chosen = wanted.all(plan, list)?;
            if !router && !list.is_empty() {
                wanted.add_derived(&mut chosen)?;
            }
            chosen
        }
    };
    let groups = match new.groups {
        Some(groups) => check_groups(plan, &project, port_security, groups)?,
        None if port_security => vec![plan.default_group(&project)?],
        None => Vec::new(),
    };
    check_pairs(port_security, &new.allowed_pairs, mac)?;
    let port = Port {
        id,
        standard: Standard::new(new.name, new.description, project, plan.now()),
        network: network.id,
        admin_state_up: new.admin_state_up,
        mac,
        fixed_ips,
        groups,
        allowed_pairs: new.allowed_pairs,
        port_security,
        host_name: new.host_name,
        requested_node: new.requested_node,
        holder,
    };
    claim_addresses(plan, &port, &subnets, &port.fixed_ips);
    if port.fixed_ips.is_empty() {
        plan.txn.exists(network.key());
    }
    plan.txn.create(keys::mac(network.id, mac), owner_mark(id));
    plan.txn.create(port.key(), port.encode());
    plan.txn.add(keys::network_use(network.id), 1, None);
    Ok(port)
}

/// What a claim holds: whose it is, for people who look into the store.
fn owner_mark(id: PortId) -> Bytes {
    Bytes::copy_from_slice(id.as_uuid().as_bytes())
}

fn claim_addresses(plan: &mut Plan<'_>, port: &Port, subnets: &[(Subnet, Revision)], claimed: &[FixedIp]) {
    for fixed in claimed {
        let Some((subnet, revision)) = subnets.iter().find(|(subnet, _)| subnet.id == fixed.subnet) else { continue };
        plan.txn.unchanged(subnet.key(), *revision);
        if !is_derived(subnet, port.mac, fixed.address) {
            plan.txn.create(keys::address(fixed.subnet, fixed.address), owner_mark(port.id));
        }
    }
}

/// The keys that a port holds while it exists: its hardware address, and each address of it that was chosen.
pub fn held_keys<'a>(port: &Port, subnet: impl Fn(SubnetId) -> Option<&'a Subnet>) -> Vec<Key> {
    let derived =
        |fixed: &FixedIp| subnet(fixed.subnet).is_some_and(|subnet| is_derived(subnet, port.mac, fixed.address));
    let chosen = port.fixed_ips.iter().filter(|fixed| !derived(fixed));
    let addresses = chosen.map(|fixed| keys::address(fixed.subnet, fixed.address));
    std::iter::once(keys::mac(port.network, port.mac)).chain(addresses).collect()
}

/// Whether the address needs no claim because it follows from the hardware address.
fn is_derived(subnet: &Subnet, mac: Mac, address: IpAddr) -> bool {
    subnet.derives_addresses() && address::derived(&subnet.cidr, mac) == Some(address)
}

fn pick_mac(plan: &mut Plan<'_>, network: NetworkId, asked: Option<Mac>) -> Result<Mac, NetError> {
    let mut free = |mac: Mac| {
        let key = keys::mac(network, mac);
        plan.reader.entry(&key).is_none() && plan.picked.take(&key)
    };
    match asked {
        Some(mac) if free(mac) => Ok(mac),
        Some(mac) => Err(NetError::MacInUse(mac.to_string())),
        None => {
            let drawn = (0..MAC_DRAWS).map(|_| Mac::random(plan.world)).find(|mac| free(*mac));
            drawn.ok_or_else(|| NetError::Busy("no free hardware address was drawn; try again".into()))
        }
    }
}

fn check_groups(
    plan: &mut Plan<'_>,
    project: &ProjectId,
    port_security: bool,
    mut groups: Vec<GroupId>,
) -> Result<Vec<GroupId>, NetError> {
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|group| seen.insert(*group));
    if !port_security && !groups.is_empty() {
        return Err(NetError::PortSecurity("Port security must be enabled for a port with security groups.".into()));
    }
    if groups.len() > GROUPS_MAX {
        return Err(NetError::Invalid(format!("A port has at most {GROUPS_MAX} security groups.")));
    }
    for id in &groups {
        // The default group may be one that this very plan makes.
        let fresh = plan.txn.ops.iter().any(|op| *op.key() == SecurityGroup::key_of(id));
        let usable = fresh
            || plan
                .reader
                .get::<SecurityGroup>(id)?
                .is_some_and(|(group, _)| group.standard.project == *project || plan.who.owns(&group.standard.project));
        if !usable {
            return Err(NetError::missing(Kind::SecurityGroup, id));
        }
        if !fresh {
            plan.txn.exists(SecurityGroup::key_of(id));
        }
    }
    Ok(groups)
}

fn check_pairs(port_security: bool, pairs: &[AllowedPair], own: Mac) -> Result<(), NetError> {
    if !port_security && !pairs.is_empty() {
        return Err(NetError::PortSecurity(
            "Port security must be enabled in order to have allowed address pairs.".into(),
        ));
    }
    if pairs.len() > PAIRS_MAX {
        return Err(NetError::Invalid(format!("A port has at most {PAIRS_MAX} allowed address pairs.")));
    }
    for (position, pair) in pairs.iter().enumerate() {
        if pairs.iter().take(position).any(|other| other == pair) {
            return Err(NetError::Invalid(format!("allowed_address_pairs: {} is there twice.", pair.address)));
        }
        if pair.mac.is_some_and(|mac| mac != own) {
            // Nothing but a port's own hardware address passes its tap.
            return Err(NetError::Unsupported("an allowed address pair with another hardware address".into()));
        }
    }
    Ok(())
}

/// Changes a port.
pub fn update(plan: &mut Plan<'_>, id: PortId, change: Change) -> Result<Port, NetError> {
    let (mut port, revision) = plan::owned::<Port>(plan.reader, plan.who, &id)?;
    let network = plan.reader.get::<Network>(&port.network)?;
    let (network, _) = network.ok_or_else(|| NetError::missing(Kind::Network, &port.network))?;
    permit_change(plan, &network, &port, &change)?;
    if let Some(mac) = change.mac.filter(|mac| *mac != port.mac) {
        change_mac(plan, &mut port, mac)?;
    }
    if let Some(list) = &change.fixed_ips {
        change_addresses(plan, &network, &mut port, list)?;
    }
    let port_security = change.port_security.unwrap_or(port.port_security);
    let groups = change.groups.unwrap_or_else(|| port.groups.clone());
    let project = port.standard.project.clone();
    port.groups = check_groups(plan, &project, port_security, groups)?;
    port.allowed_pairs = change.allowed_pairs.unwrap_or(port.allowed_pairs);
    port.port_security = port_security;
    check_pairs(port_security, &port.allowed_pairs, port.mac)?;
    port.standard.name = change.name.unwrap_or(port.standard.name);
    port.standard.description = change.description.unwrap_or(port.standard.description);
    port.admin_state_up = change.admin_state_up.unwrap_or(port.admin_state_up);
    port.host_name = change.host_name.unwrap_or(port.host_name);
    port.requested_node = change.requested_node.unwrap_or(port.requested_node);
    port.holder = match port.holder {
        Holder::Free { device_id, device_owner } => Holder::Free {
            device_id: change.device_id.unwrap_or(device_id),
            device_owner: change.device_owner.unwrap_or(device_owner),
        },
        held @ (Holder::Server { .. } | Holder::Router(_)) => held,
    };
    port.standard.touch(plan.now());
    // Whoever deletes a group has to see that a port may have come to it.
    plan.txn.add(Resource::Port.use_key(&port.standard.project), 0, None);
    plan.txn.replace(port.key(), revision, port.encode());
    Ok(port)
}

fn permit_change(plan: &Plan<'_>, network: &Network, port: &Port, change: &Change) -> Result<(), NetError> {
    let wants_address = change.fixed_ips.iter().flatten().any(|wanted| {
        wanted.address.is_some_and(|address| !port.fixed_ips.iter().any(|fixed| fixed.address == address))
    });
    let owner = change.device_owner.as_ref();
    let special = [
        (change.mac.is_some_and(|mac| mac != port.mac), "mac_address"),
        (wants_address, "fixed_ips:ip_address"),
        (change.port_security.is_some_and(|secured| secured != port.port_security), "port_security_enabled"),
        (change.allowed_pairs.as_ref().is_some_and(|pairs| *pairs != port.allowed_pairs), "allowed_address_pairs"),
        (owner.is_some_and(|owner| owner.starts_with("network:") && *owner != port.device_owner()), "device_owner"),
    ];
    permit(plan, network, &special)?;
    let node = change.requested_node.as_ref();
    if node.is_some_and(|node| *node != port.requested_node) && !plan.who.admin {
        return Err(NetError::Forbidden("only an administrator sets binding:host_id".into()));
    }
    let other_device = change.device_id.as_ref().is_some_and(|device| *device != port.device_id())
        || owner.is_some_and(|owner| *owner != port.device_owner());
    match &port.holder {
        Holder::Free { .. } => Ok(()),
        Holder::Server { server, .. } if other_device || change.mac.is_some_and(|mac| mac != port.mac) => {
            Err(NetError::in_use(Kind::Port, &port.id, format!("the server {server} has it")))
        }
        Holder::Router(router) if other_device || change.mac.is_some_and(|mac| mac != port.mac) => {
            Err(NetError::in_use(Kind::Port, &port.id, format!("the router {router} has it")))
        }
        Holder::Server { .. } | Holder::Router(_) => Ok(()),
    }
}

fn change_mac(plan: &mut Plan<'_>, port: &mut Port, mac: Mac) -> Result<(), NetError> {
    let subnets = plan.subnets(port.network)?;
    let derived = |fixed: &FixedIp| {
        subnets.iter().any(|(subnet, _)| subnet.id == fixed.subnet && is_derived(subnet, port.mac, fixed.address))
    };
    if port.fixed_ips.iter().any(derived) {
        return Err(NetError::Invalid("The hardware address cannot change: an IPv6 address follows from it.".into()));
    }
    pick_mac(plan, port.network, Some(mac))?;
    plan.txn.delete(keys::mac(port.network, port.mac));
    plan.txn.create(keys::mac(port.network, mac), owner_mark(port.id));
    port.mac = mac;
    Ok(())
}

fn change_addresses(
    plan: &mut Plan<'_>,
    network: &Network,
    port: &mut Port,
    list: &[WantedIp],
) -> Result<(), NetError> {
    let subnets = plan.subnets(port.network)?;
    let router = matches!(port.holder, Holder::Router(_));
    let before = std::mem::take(&mut port.fixed_ips);
    let mut wanted = Wanted { network, subnets: &subnets, mac: port.mac, router, kept: &before };
    let after = wanted.all(plan, list)?;
    let fresh: Vec<FixedIp> = after.iter().filter(|fixed| !before.contains(fixed)).copied().collect();
    claim_addresses(plan, port, &subnets, &fresh);
    for gone in before.iter().filter(|fixed| !after.contains(fixed)) {
        plan.txn.delete(keys::address(gone.subnet, gone.address));
    }
    // Whoever deletes a subnet has to see that a port may have come to it.
    plan.txn.add(keys::network_use(port.network), 0, None);
    port.fixed_ips = after;
    Ok(())
}

/// Deletes a port that nothing of the cloud holds.
pub fn delete(plan: &mut Plan<'_>, id: PortId) -> Result<(), NetError> {
    let (port, revision) = plan::owned::<Port>(plan.reader, plan.who, &id)?;
    match &port.holder {
        Holder::Free { .. } => {}
        Holder::Server { server, .. } => {
            return Err(NetError::in_use(Kind::Port, &id, format!("the server {server} has it; detach it there")));
        }
        Holder::Router(router) => {
            let by = format!("the router {router} has it as an interface; remove the interface there");
            return Err(NetError::in_use(Kind::Port, &id, by));
        }
    }
    quota::give_back(&mut plan.txn, &port.standard.project, Resource::Port, 1);
    remove(&mut plan.txn, &port, revision);
    Ok(())
}

/// Removes a port with its claims; its quota is given back by the caller.
pub(crate) fn remove(txn: &mut store::Txn, port: &Port, revision: Revision) {
    txn.remove(port.key(), revision);
    txn.delete(keys::mac(port.network, port.mac));
    for fixed in &port.fixed_ips {
        // A derived address has no claim; deleting what is not there changes nothing.
        txn.delete(keys::address(fixed.subnet, fixed.address));
    }
    txn.add(keys::network_use(port.network), -1, None);
}

/// The range that an address of a port lies in, with the address: as nodes want it.
pub(crate) fn with_prefix(subnets: &[(Subnet, Revision)], fixed: &FixedIp) -> Option<IpNet> {
    let (subnet, _) = subnets.iter().find(|(subnet, _)| subnet.id == fixed.subnet)?;
    IpNet::new(fixed.address, subnet.cidr.prefix_len()).ok()
}

/// Whether any port is in the group.
pub(crate) fn any_in_group(plan: &Plan<'_>, group: GroupId) -> Option<PortId> {
    let term = PortTerm::Group(group).text();
    let key = plan.reader.keys_by(keys::PORTS, &term).next()?;
    key.to_text().strip_prefix(Port::TABLE).and_then(|id| id.parse().ok())
}

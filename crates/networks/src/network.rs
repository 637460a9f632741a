//! Networks: made, changed, deleted.

use store::{Record, Txn};

use crate::error::{Kind, NetError};
use crate::keys::{self, PortTerm};
use crate::model::{Network, Standard};
use crate::name::{NetworkId, ProjectId};
use crate::plan::{self, Plan};
use crate::quota::{self, Resource};

/// What a guest's card carries unless something else is asked for.
pub const MTU_DEFAULT: u16 = 1500;
/// IPv6 needs at least this much; IPv4 gets by with [`MTU_MIN`].
pub const MTU_MIN_IPV6: u16 = 1280;
/// The least that the API takes.
pub const MTU_MIN: u16 = 68;
/// What the node's devices carry at most.
pub const MTU_MAX: u16 = 9000;

/// A network to be made.
#[derive(Clone, Debug)]
pub struct NewNetwork {
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// Its owner, if that is not the caller's project.
    pub project: Option<ProjectId>,
    /// Whether it is meant to carry traffic.
    pub admin_state_up: bool,
    /// Whether every project may use it.
    pub shared: bool,
    /// MTU in bytes.
    pub mtu: Option<u16>,
    /// What its ports get as port security.
    pub port_security: bool,
}

impl Default for NewNetwork {
    fn default() -> NewNetwork {
        NewNetwork {
            name: String::new(),
            description: String::new(),
            project: None,
            admin_state_up: true,
            shared: false,
            mtu: None,
            port_security: true,
        }
    }
}

/// Changes to a network.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Name.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Whether it is meant to carry traffic.
    pub admin_state_up: Option<bool>,
    /// Whether every project may use it.
    pub shared: Option<bool>,
    /// MTU in bytes.
    pub mtu: Option<u16>,
    /// What new ports get as port security.
    pub port_security: Option<bool>,
}

fn check_mtu(mtu: u16) -> Result<u16, NetError> {
    if (MTU_MIN..=MTU_MAX).contains(&mtu) {
        Ok(mtu)
    } else {
        Err(NetError::Invalid(format!("Invalid input for mtu. Reason: it is {mtu}, not in {MTU_MIN}..={MTU_MAX}.")))
    }
}

/// Makes a network.
pub fn create(plan: &mut Plan<'_>, new: NewNetwork) -> Result<Network, NetError> {
    if new.shared && !plan.who.admin {
        return Err(NetError::Forbidden("only an administrator shares a network".into()));
    }
    let project = plan.who.owner_of_new(new.project)?;
    let network = Network {
        id: NetworkId::random(plan.world),
        standard: Standard::new(new.name, new.description, project, plan.now()),
        admin_state_up: new.admin_state_up,
        shared: new.shared,
        mtu: check_mtu(new.mtu.unwrap_or(MTU_DEFAULT))?,
        port_security: new.port_security,
        host_address: None,
    };
    quota::claim(plan.reader, &mut plan.txn, &network.standard.project, Resource::Network, 1)?;
    plan.txn.create(network.key(), network.encode());
    Ok(network)
}

/// Changes a network.
pub fn update(plan: &mut Plan<'_>, id: NetworkId, change: Change) -> Result<Network, NetError> {
    let (mut network, revision) = plan::owned::<Network>(plan.reader, plan.who, &id)?;
    if let Some(shared) = change.shared
        && shared != network.shared
    {
        if !plan.who.admin {
            return Err(NetError::Forbidden("only an administrator shares a network, or ends that".into()));
        }
        let foreign = |port: &crate::Port| port.standard.project != network.standard.project;
        if !shared && plan::ports(plan.reader, PortTerm::Network(id))?.iter().any(|(port, _)| foreign(port)) {
            return Err(NetError::in_use(Kind::Network, &id, "other projects have ports on it"));
        }
        network.shared = shared;
    }
    network.standard.name = change.name.unwrap_or(network.standard.name);
    network.standard.description = change.description.unwrap_or(network.standard.description);
    network.admin_state_up = change.admin_state_up.unwrap_or(network.admin_state_up);
    network.mtu = change.mtu.map_or(Ok(network.mtu), check_mtu)?;
    network.port_security = change.port_security.unwrap_or(network.port_security);
    network.standard.touch(plan.now());
    plan.txn.replace(network.key(), revision, network.encode());
    Ok(network)
}

/// Deletes a network with its subnets; no port may be on it.
pub fn delete(plan: &mut Plan<'_>, id: NetworkId) -> Result<(), NetError> {
    let (network, revision) = plan::owned::<Network>(plan.reader, plan.who, &id)?;
    let uses = keys::network_use(id);
    let ports = plan.reader.counter(&uses);
    if ports > 0 {
        let by = format!("There are one or more ports still in use on the network ({ports} of them)");
        return Err(NetError::in_use(Kind::Network, &id, by));
    }
    plan.txn.counter_is(uses.clone(), 0);
    if plan.reader.entry(&uses).is_some() {
        plan.txn.delete(uses);
    }
    for (subnet, revision) in plan.subnets(id)? {
        plan.txn.remove(subnet.key(), revision);
        quota::give_back(&mut plan.txn, &subnet.standard.project, Resource::Subnet, 1);
    }
    quota::give_back(&mut plan.txn, &network.standard.project, Resource::Network, 1);
    plan.txn.remove(network.key(), revision);
    Ok(())
}

/// Notes in the network's record that its subnets change: two such changes exclude each other.
pub(crate) fn touch_for_subnets(plan: &mut Plan<'_>, id: NetworkId) -> Result<(), NetError> {
    let found = plan.reader.get::<Network>(&id)?;
    let (mut network, revision) = found.ok_or_else(|| NetError::missing(Kind::Network, &id))?;
    network.standard.touch(plan.now());
    let key = network.key();
    // A bulk create touches a network once.
    if !changes(&plan.txn, &key) {
        plan.txn.replace(key, revision, network.encode());
    }
    Ok(())
}

fn changes(txn: &Txn, key: &store::Key) -> bool {
    txn.ops.iter().any(|op| op.key() == key)
}

//! The domain's types: what is known of each resource. Plain data; the rules are in the modules named after them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use driver::GuestId;
use ipnet::IpNet;
use world::Wall;

use crate::address::Pool;
use crate::name::{GroupId, Mac, NetworkId, PortId, ProjectId, RouterId, RuleId, SubnetId};

/// What every resource has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standard {
    /// Name for people; need not be unique.
    pub name: String,
    /// Description for people.
    pub description: String,
    /// Whose it is.
    pub project: ProjectId,
    /// When it was made.
    pub created: Wall,
    /// When it was last changed.
    pub updated: Wall,
    /// Rises with each change.
    pub revision: u64,
    /// Labels.
    pub tags: BTreeSet<String>,
}

impl Standard {
    /// Of something made now.
    pub fn new(name: String, description: String, project: ProjectId, now: Wall) -> Standard {
        Standard { name, description, project, created: now, updated: now, revision: 1, tags: BTreeSet::new() }
    }

    /// Notes a change.
    pub fn touch(&mut self, now: Wall) {
        self.updated = now;
        self.revision += 1;
    }
}

/// A layer 2 network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Name, owner, times.
    pub standard: Standard,
    /// Whether it is meant to carry traffic.
    pub admin_state_up: bool,
    /// Whether every project may use it.
    pub shared: bool,
    /// MTU in bytes.
    pub mtu: u16,
    /// What new ports get as their port security.
    pub port_security: bool,
    /// The address by which the host systems of nodes reach it, if they do.
    pub host_address: Option<Ipv4Addr>,
}

/// How guests get IPv6 addresses from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6Mode {
    /// By router advertisements: addresses are derived from hardware addresses.
    Slaac,
    /// The same, with further options by DHCPv6.
    DhcpStateless,
}

/// An address range of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its id.
    pub id: SubnetId,
    /// Name, owner, times.
    pub standard: Standard,
    /// Its network.
    pub network: NetworkId,
    /// The range.
    pub cidr: IpNet,
    /// The router's address.
    pub gateway: Option<IpAddr>,
    /// Whether the node hands out addresses.
    pub dhcp: bool,
    /// Where addresses are chosen from.
    pub pools: Vec<Pool>,
    /// Name servers announced to guests.
    pub name_servers: Vec<IpAddr>,
    /// Routes announced to guests: (destination, next hop).
    pub routes: Vec<(IpNet, IpAddr)>,
    /// Router advertisements by the node.
    pub ra_mode: Option<Ipv6Mode>,
    /// How guests get addresses; `None` with IPv6: by other means, from the pools.
    pub address_mode: Option<Ipv6Mode>,
}

impl Subnet {
    /// Whether addresses are derived from hardware addresses instead of chosen.
    pub fn derives_addresses(&self) -> bool {
        self.address_mode.is_some()
    }

    /// 4 or 6.
    pub fn ip_version(&self) -> u8 {
        match self.cidr {
            IpNet::V4(_) => 4,
            IpNet::V6(_) => 6,
        }
    }
}

/// An address of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedIp {
    /// The subnet that it is of.
    pub subnet: SubnetId,
    /// The address.
    pub address: IpAddr,
}

/// A further address that may pass a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedPair {
    /// The address or range.
    pub address: IpNet,
    /// With this hardware address; `None`: the port's.
    pub mac: Option<Mac>,
}

/// What stands behind a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nothing of the cloud. The texts are its owner's own; nothing is derived from them.
    Free {
        /// What its owner says is behind it.
        device_id: String,
        /// What kind of thing that is.
        device_owner: String,
    },
    /// A server.
    Server {
        /// Which.
        server: GuestId,
        /// Whether the port was made for it and goes with it.
        made_for_it: bool,
        /// Where it runs.
        node: Option<String>,
        /// The availability zone of that node.
        zone: String,
        /// Which of the server's cards it is, from 0.
        card: u32,
    },
    /// A router.
    Router(RouterId),
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its id.
    pub id: PortId,
    /// Name, owner, times.
    pub standard: Standard,
    /// Its network.
    pub network: NetworkId,
    /// Whether it is meant to carry traffic.
    pub admin_state_up: bool,
    /// Its hardware address.
    pub mac: Mac,
    /// Its addresses.
    pub fixed_ips: Vec<FixedIp>,
    /// Its security groups.
    pub groups: Vec<GroupId>,
    /// Further addresses that may pass it.
    pub allowed_pairs: Vec<AllowedPair>,
    /// Whether rules and anti-spoofing apply.
    pub port_security: bool,
    /// The name that DHCP tells its guest.
    pub host_name: String,
    /// The node that an administrator named for it. A wish on paper: nodes act only on ports of servers.
    pub requested_node: String,
    /// What stands behind it.
    pub holder: Holder,
}

impl Port {
    /// The node where it is realised.
    pub fn node(&self) -> Option<&str> {
        match &self.holder {
            Holder::Server { node, .. } => node.as_deref(),
            Holder::Free { .. } | Holder::Router(_) => None,
        }
    }

    /// The server behind it.
    pub fn server(&self) -> Option<GuestId> {
        match &self.holder {
            Holder::Server { server, .. } => Some(*server),
            Holder::Free { .. } | Holder::Router(_) => None,
        }
    }

    /// Which of its server's cards it is.
    pub fn card(&self) -> u32 {
        match &self.holder {
            Holder::Server { card, .. } => *card,
            Holder::Free { .. } | Holder::Router(_) => 0,
        }
    }

    /// What the API calls the device behind it.
    pub fn device_id(&self) -> String {
        match &self.holder {
            Holder::Free { device_id, .. } => device_id.clone(),
            Holder::Server { server, .. } => server.to_string(),
            Holder::Router(router) => router.to_string(),
        }
    }

    /// What the API calls the kind of that device.
    pub fn device_owner(&self) -> String {
        match &self.holder {
            Holder::Free { device_owner, .. } => device_owner.clone(),
            Holder::Server { zone, .. } => format!("compute:{zone}"),
            Holder::Router(_) => "network:router_interface".to_owned(),
        }
    }
}

/// Which way a rule looks, seen from the guest.
pub type RuleDirection = driver::Direction;

/// The far end of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Anything.
    Any,
    /// A range of addresses.
    Prefix(IpNet),
    /// The members of a group.
    Group(GroupId),
}

/// What a group lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityRule {
    /// Its id.
    pub id: RuleId,
    /// Which way.
    pub direction: RuleDirection,
    /// Whether it is about IPv6.
    pub ipv6: bool,
    /// The protocol's name or number as it was given.
    pub protocol: Option<String>,
    /// First port, or ICMP type.
    pub port_min: Option<u16>,
    /// Last port, or ICMP code.
    pub port_max: Option<u16>,
    /// The far end.
    pub remote: Remote,
    /// Description for people.
    pub description: String,
    /// When it was made. Rules do not change.
    pub created: Wall,
}

/// A security group with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    /// Its id.
    pub id: GroupId,
    /// Name, owner, times.
    pub standard: Standard,
    /// Whether its project's ports get it by default.
    pub is_default: bool,
    /// Its rules.
    pub rules: Vec<SecurityRule>,
}

/// A router. Its interfaces are the ports that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// Its id.
    pub id: RouterId,
    /// Name, owner, times.
    pub standard: Standard,
    /// Whether it is meant to carry traffic.
    pub admin_state_up: bool,
}

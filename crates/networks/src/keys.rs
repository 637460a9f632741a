//! The keys that are no records, and the indexes over the records: together with the `TABLE`s in `stored.rs` this
//! is the whole schema.
//!
//! | key | holds | why |
//! |---|---|---|
//! | `addr/<subnet>/<ip>` | the port | an address is had once |
//! | `mac/<network>/<mac>` | the port | a hardware address is had once on a network |
//! | `net-use/<network>` | counter: ports | a network goes only when nobody is on it |
//! | `quota-use/<project>/<resource>` | counter | quota |
//! | `sg-default/<project>` | the group | a project has one default group |
//! | `net-shared/<name>` | the network | the cell's own network is made once |

use std::net::IpAddr;

use bytes::Bytes;
use store::{Index, Key, Record};

use crate::model::{Holder, Network, Port, Remote, Router, SecurityGroup, Subnet};
use crate::name::{GroupId, Mac, NetworkId, ProjectId, RouterId, RuleId, SubnetId};

/// All claims of addresses begin with this.
pub const ADDRESSES: &str = "addr/";
/// All claims of hardware addresses begin with this.
pub const MACS: &str = "mac/";
/// All counters of ports on networks begin with this.
pub const NETWORK_USES: &str = "net-use/";

/// The claim of an address.
pub fn address(subnet: SubnetId, address: IpAddr) -> Key {
    Key::from(format!("{ADDRESSES}{subnet}/{address}"))
}

/// The claim of a hardware address.
pub fn mac(network: NetworkId, mac: Mac) -> Key {
    Key::from(format!("{MACS}{network}/{mac}"))
}

/// The number of ports on a network. Each change of any of its ports' addresses moves its revision.
pub fn network_use(network: NetworkId) -> Key {
    Key::from(format!("{NETWORK_USES}{network}"))
}

/// Which group is a project's default.
pub fn default_group(project: &ProjectId) -> Key {
    Key::from(format!("sg-default/{project}"))
}

/// Which network the cell made for everybody under this name.
pub fn shared_network(name: &str) -> Key {
    Key::from(format!("net-shared/{name}"))
}

/// Ports by what is in them; see [`PortTerm`].
pub const PORTS: &str = "networks.port";
/// Networks by project, and the shared ones under [`SHARED`].
pub const NETWORKS: &str = "networks.net";
/// The term of shared networks; no project has a space in its id.
pub const SHARED: &str = "all projects";
/// Subnets by their network's id, and by their project.
pub const SUBNETS: &str = "networks.subnet";
/// Security groups; see [`GroupTerm`].
pub const GROUPS: &str = "networks.sg";
/// Routers by project.
pub const ROUTERS: &str = "networks.router";

/// Under what a port is found in the index [`PORTS`].
#[derive(Clone, Copy, Debug)]
pub enum PortTerm<'a> {
    /// Its project.
    Project(&'a ProjectId),
    /// Its network.
    Network(NetworkId),
    /// A subnet that it has an address of.
    Subnet(SubnetId),
    /// A group that it is in.
    Group(GroupId),
    /// The server behind it.
    Server(driver::GuestId),
    /// The router behind it.
    Router(RouterId),
    /// The routers' ports of a network.
    Legs(NetworkId),
    /// Network and node.
    At(NetworkId, &'a str),
    /// What the API calls its device.
    Device(&'a str),
}

impl PortTerm<'_> {
    /// The term's text.
    pub fn text(&self) -> String {
        match self {
            PortTerm::Project(project) => format!("p:{project}"),
            PortTerm::Network(network) => format!("n:{network}"),
            PortTerm::Subnet(subnet) => format!("u:{subnet}"),
            PortTerm::Group(group) => format!("g:{group}"),
            PortTerm::Server(server) => format!("s:{server}"),
            PortTerm::Router(router) => format!("r:{router}"),
            PortTerm::Legs(network) => format!("l:{network}"),
            PortTerm::At(network, node) => format!("a:{network}@{node}"),
            PortTerm::Device(device) => format!("d:{device}"),
        }
    }
}

/// Under what a group is found in the index [`GROUPS`].
#[derive(Clone, Copy, Debug)]
pub enum GroupTerm<'a> {
    /// Its project.
    Project(&'a ProjectId),
    /// A rule of it.
    Rule(RuleId),
    /// A group that one of its rules names as the far end.
    Remote(GroupId),
}

impl GroupTerm<'_> {
    /// The term's text.
    pub fn text(&self) -> String {
        match self {
            GroupTerm::Project(project) => format!("p:{project}"),
            GroupTerm::Rule(rule) => format!("r:{rule}"),
            GroupTerm::Remote(group) => format!("g:{group}"),
        }
    }
}

/// The indexes that this crate reads; whoever opens a view gives them to it.
pub fn indexes() -> Vec<Index> {
    vec![
        Index::new(PORTS, Port::TABLE, port_terms),
        Index::new(NETWORKS, Network::TABLE, |_, bytes| {
            let Ok(network) = Network::decode(bytes) else { return Vec::new() };
            let shared = network.shared.then(|| SHARED.to_owned());
            shared.into_iter().chain([network.standard.project.to_string()]).collect()
        }),
        Index::new(SUBNETS, Subnet::TABLE, |_, bytes| {
            let Ok(subnet) = Subnet::decode(bytes) else { return Vec::new() };
            vec![format!("n:{}", subnet.network), format!("p:{}", subnet.standard.project)]
        }),
        Index::new(GROUPS, SecurityGroup::TABLE, group_terms),
        Index::new(ROUTERS, Router::TABLE, |_, bytes| {
            Router::decode(bytes).map_or_else(|_| Vec::new(), |router| vec![router.standard.project.to_string()])
        }),
    ]
}

fn port_terms(_key: &Key, bytes: &Bytes) -> Vec<String> {
    let Ok(port) = Port::decode(bytes) else { return Vec::new() };
    let mut terms = vec![PortTerm::Project(&port.standard.project).text(), PortTerm::Network(port.network).text()];
    terms.extend(port.fixed_ips.iter().map(|fixed| PortTerm::Subnet(fixed.subnet).text()));
    terms.extend(port.groups.iter().map(|group| PortTerm::Group(*group).text()));
    let device = port.device_id();
    if !device.is_empty() {
        terms.push(PortTerm::Device(&device).text());
    }
    match &port.holder {
        Holder::Free { .. } => {}
        Holder::Server { server, node, .. } => {
            terms.push(PortTerm::Server(*server).text());
            terms.extend(node.iter().map(|node| PortTerm::At(port.network, node).text()));
        }
        Holder::Router(router) => {
            terms.push(PortTerm::Router(*router).text());
            terms.push(PortTerm::Legs(port.network).text());
        }
    }
    terms
}

fn group_terms(_key: &Key, bytes: &Bytes) -> Vec<String> {
    let Ok(group) = SecurityGroup::decode(bytes) else { return Vec::new() };
    let mut terms = vec![GroupTerm::Project(&group.standard.project).text()];
    for rule in &group.rules {
        terms.push(GroupTerm::Rule(rule.id).text());
        match rule.remote {
            Remote::Group(remote) => terms.push(GroupTerm::Remote(remote).text()),
            Remote::Any | Remote::Prefix(_) => {}
        }
    }
    terms.sort();
    terms.dedup();
    terms
}

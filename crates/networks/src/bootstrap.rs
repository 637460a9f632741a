//! The network that every project of a new cell may use, and that the machine itself reaches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use store::Record;

use crate::address::{self, Pool};
use crate::cloud::Networks;
use crate::error::NetError;
use crate::keys;
use crate::model::{Ipv6Mode, Network, Standard, Subnet};
use crate::name::{NetworkId, ProjectId, SubnetId};
use crate::plan::{Plan, Who};
use crate::quota::{self, Resource};

/// Its name.
pub const SHARED_NETWORK: &str = "private";

/// Guests get addresses from here. Its ends are kept for whoever needs an address by hand, and for the host.
const POOL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 77, 0, 16), Ipv4Addr::new(10, 77, 255, 239));
/// The node's own address on it.
const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 255, 254);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

impl Networks {
    /// Makes the shared network with its subnets, owned by `project`, unless that has been done before: in one commit,
    /// so a cell has all of it or nothing.
    pub async fn bootstrap(&self, project: &ProjectId) -> Result<(), NetError> {
        let who = Who { project: project.clone(), admin: true };
        self.decide(&who, shared_network).await
    }
}

fn shared_network(plan: &mut Plan<'_>) -> Result<(), NetError> {
    let made = keys::shared_network(SHARED_NETWORK);
    if plan.reader.entry(&made).is_some() {
        return Ok(());
    }
    let now = plan.now();
    let standard = |name: &str| Standard::new(name.to_owned(), String::new(), plan.who.project.clone(), now);
    let network = Network {
        id: NetworkId::random(plan.world),
        standard: standard(SHARED_NETWORK),
        admin_state_up: true,
        shared: true,
        mtu: crate::network::MTU_DEFAULT,
        port_security: true,
        host_address: Some(HOST_ADDRESS),
    };
    let v4 = Subnet {
        id: SubnetId::random(plan.world),
        standard: standard("private-v4"),
        network: network.id,
        cidr: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 77, 0, 0), 16)),
        gateway: Some(IpAddr::V4(GATEWAY)),
        dhcp: true,
        pools: Pool::new(IpAddr::V4(POOL.0), IpAddr::V4(POOL.1)).into_iter().collect(),
        name_servers: Vec::new(),
        routes: Vec::new(),
        ra_mode: None,
        address_mode: None,
    };
    let cidr = unique_local(plan);
    let gateway = address::default_gateway(&cidr);
    let v6 = Subnet {
        id: SubnetId::random(plan.world),
        standard: standard("private-v6"),
        cidr,
        gateway: Some(gateway),
        pools: address::default_pools(&cidr, &[gateway]),
        ra_mode: Some(Ipv6Mode::Slaac),
        address_mode: Some(Ipv6Mode::Slaac),
        ..v4.clone()
    };
    plan.txn.create(made, bytes::Bytes::copy_from_slice(network.id.as_uuid().as_bytes()));
    plan.txn.create(network.key(), network.encode());
    plan.txn.create(v4.key(), v4.encode());
    plan.txn.create(v6.key(), v6.encode());
    quota::claim(plan.reader, &mut plan.txn, &plan.who.project, Resource::Network, 1)?;
    quota::claim(plan.reader, &mut plan.txn, &plan.who.project, Resource::Subnet, 2)
}

/// A range of the cell's own (RFC 4193): the prefix fd00::/8 and 56 random bits.
fn unique_local(plan: &Plan<'_>) -> IpNet {
    let [a, b, c, d, e, f, g]: [u8; 7] = plan.world.random();
    let network = Ipv6Addr::from([0xfd, a, b, c, d, e, f, g, 0, 0, 0, 0, 0, 0, 0, 0]);
    IpNet::V6(Ipv6Net::new_assert(network, 64))
}

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

/// Private blocks (RFC 1918), the largest first: the next is looked at when the machine reaches all of one elsewhere.
const BLOCKS: [(Ipv4Addr, u8); 3] =
    [(Ipv4Addr::new(10, 0, 0, 0), 8), (Ipv4Addr::new(172, 16, 0, 0), 12), (Ipv4Addr::new(192, 168, 0, 0), 16)];
/// Size of the IPv4 range: 16,000 addresses, and a thousand ranges to choose from, so that cells on one machine hardly
/// meet even if one of them is not running, and thus not to be seen, while the other is made.
const PREFIX: u8 = 18;
/// Addresses at each end of the range that guests do not get: for the host, and for whoever needs one by hand.
const KEPT: u32 = 16;
/// Draws of an IPv6 range before it is given up. Of 2^40 prefixes hardly one is taken.
const DRAWS: usize = 8;

impl Networks {
    /// Whether the shared network has been made, be it there still or not.
    pub async fn has_shared_network(&self) -> Result<bool, NetError> {
        self.read(|reader| Ok(reader.entry(&keys::shared_network(SHARED_NETWORK)).is_some())).await
    }

    /// Makes the shared network with its subnets, owned by `project`, unless that has been done before: in one commit,
    /// so a cell has all of it or nothing. Its ranges are drawn from what is free beside `elsewhere`, the ranges that
    /// the machine reaches by other ways; they are recorded in the subnets and never drawn again.
    pub async fn bootstrap(&self, project: &ProjectId, elsewhere: &[IpNet]) -> Result<(), NetError> {
        let who = Who { project: project.clone(), admin: true };
        self.decide(&who, |plan| shared_network(plan, elsewhere)).await
    }
}

fn shared_network(plan: &mut Plan<'_>, elsewhere: &[IpNet]) -> Result<(), NetError> {
    let made = keys::shared_network(SHARED_NETWORK);
    if plan.reader.entry(&made).is_some() {
        return Ok(());
    }
    let no_range = || NetError::NoAddress("this machine reaches every private range by ways of its own".into());
    let free = free_ranges(elsewhere);
    // One more than there are ranges if there are none, because something must be drawn.
    let draw = plan.world.random_below(free.len().max(1) as u64);
    let range = *usize::try_from(draw).ok().and_then(|at| free.get(at)).ok_or_else(no_range)?;
    let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
    let pool = (Ipv4Addr::from(first + KEPT), Ipv4Addr::from(last - KEPT));
    let now = plan.now();
    let standard = |name: &str| Standard::new(name.to_owned(), String::new(), plan.who.project.clone(), now);
    let network = Network {
        id: NetworkId::random(plan.world),
        standard: standard(SHARED_NETWORK),
        admin_state_up: true,
        shared: true,
        mtu: crate::network::MTU_DEFAULT,
        port_security: true,
        host_address: Some(Ipv4Addr::from(last - 1)),
    };
    let v4 = Subnet {
        id: SubnetId::random(plan.world),
        standard: standard("private-v4"),
        network: network.id,
        cidr: IpNet::V4(range),
        gateway: Some(address::default_gateway(&IpNet::V4(range))),
        dhcp: true,
        pools: Pool::new(IpAddr::V4(pool.0), IpAddr::V4(pool.1)).into_iter().collect(),
        name_servers: Vec::new(),
        routes: Vec::new(),
        ra_mode: None,
        address_mode: None,
    };
    let cidr = unique_local(plan, elsewhere).ok_or_else(no_range)?;
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

/// The ranges of the first private block that has any which share no address with `elsewhere`.
fn free_ranges(elsewhere: &[IpNet]) -> Vec<Ipv4Net> {
    let free = |range: &Ipv4Net| !elsewhere.iter().any(|other| address::overlap(&IpNet::V4(*range), other));
    BLOCKS
        .iter()
        .filter_map(|(block, prefix)| Ipv4Net::new_assert(*block, *prefix).subnets(PREFIX).ok())
        .map(|ranges| ranges.filter(free).collect::<Vec<_>>())
        .find(|ranges| !ranges.is_empty())
        .unwrap_or_default()
}

/// A range of the cell's own as RFC 4193 has it: the prefix fd00::/8, 40 random bits, and subnet 0.
fn unique_local(plan: &Plan<'_>, elsewhere: &[IpNet]) -> Option<IpNet> {
    let draw = || {
        let [a, b, c, d, e]: [u8; 5] = plan.world.random();
        let network = Ipv6Addr::from([0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        IpNet::V6(Ipv6Net::new_assert(network, 64))
    };
    (0..DRAWS).map(|_| draw()).find(|range| !elsewhere.iter().any(|other| address::overlap(range, other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn what_the_machine_reaches_elsewhere_is_left_alone() {
        let all = free_ranges(&[]);
        assert_eq!((all.len(), all[0].to_string()), (1024, "10.0.0.0/18".to_owned()));
        // An address of the machine, a network beside it, another cell's range, and routes that are no matter here.
        let some = free_ranges(&nets("10.0.3.4/32 10.1.0.0/16 10.77.64.0/18 192.0.2.0/24 fd00::/64"));
        assert_eq!(some.len(), 1024 - 1 - 4 - 1);
        assert!(some.iter().all(|range| !range.contains(&Ipv4Addr::new(10, 77, 100, 1))));
        let next = free_ranges(&nets("10.0.0.0/8 172.16.0.0/13"));
        assert_eq!((next.len(), next[0].to_string()), (32, "172.24.0.0/18".to_owned()));
        assert_eq!(free_ranges(&nets("10.0.0.0/9 10.128.0.0/9 172.16.0.0/12 192.168.0.0/16")), []);
        assert_eq!(free_ranges(&nets("0.0.0.0/1 128.0.0.0/1")), [], "some send everything through a tunnel so");
    }
}

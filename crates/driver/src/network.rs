//! What a network is on one node: plain data. Devices, leases and rules are a function of it.
//!
//! It comes in three kinds of parts, because they change apart: the network itself, each port, and the addresses of
//! each group that rules name. So what one more server costs does not grow with those that are there. A driver sees
//! them put together: [`NetworkState`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::guest::GuestId;

ids::uuid_id! {
    /// A network, as in the API.
    pub struct NetworkId;
}

ids::uuid_id! {
    /// A port, as in the API.
    pub struct PortId;
}

ids::uuid_id! {
    /// A security group whose members' addresses rules name, as in the API.
    pub struct GroupId;
}

/// An address range of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The range.
    pub cidr: IpNet,
    /// The router's address in it, answered by the node; `None`: no gateway is announced.
    pub gateway: Option<IpAddr>,
    /// Whether the node hands out addresses (IPv4: DHCP; IPv6: router advertisements with autonomous prefix).
    pub dhcp: bool,
    /// Name servers announced to guests.
    pub dns: Vec<IpAddr>,
    /// Further routes announced to guests: (destination, next hop).
    pub routes: Vec<(IpNet, IpAddr)>,
}

/// Which way a rule looks, seen from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Into the guest.
    Ingress,
    /// Out of the guest.
    Egress,
}

/// What a rule matches above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Everything.
    Any,
    /// TCP, with the destination ports from..=to.
    Tcp(u16, u16),
    /// UDP, with the destination ports from..=to.
    Udp(u16, u16),
    /// ICMP or ICMPv6 (by the family of the rule), with type and code where given.
    Icmp(Option<u8>, Option<u8>),
    /// Another IP protocol, by number.
    Number(u8),
}

/// What a port lets through; everything that no rule allows is dropped. Answers to what was allowed pass (stateful).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Which way.
    pub direction: Direction,
    /// Whether it is about IPv6; else IPv4.
    pub ipv6: bool,
    /// What it matches above IP.
    pub protocol: Protocol,
    /// The far end: the source of ingress, the destination of egress.
    pub remote: Remote,
}

/// The far end of what a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remote {
    /// Whoever it is.
    Any,
    /// An address in this range.
    Prefix(IpNet),
    /// An address of this group's members. A group that the node was told nothing of has none.
    Group(GroupId),
}

/// From which addresses the members of a group send, anywhere in the cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// The group.
    pub id: GroupId,
    /// Their addresses, of both IP versions, sorted and each once.
    pub members: Vec<IpNet>,
}

/// Documents of the metadata service, by path without the leading slash. One piece of memory: a node of a large cell
/// holds thousands of them and reads them only when a network is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents(Box<[u8]>);

impl Documents {
    /// The documents, in the order in which they were put in: path and content.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = &*self.0;
        let mut piece = move || {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let (piece, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = behind;
            Some(piece)
        };
        std::iter::from_fn(move || Some((std::str::from_utf8(piece()?).ok()?, piece()?)))
    }
}

impl<P: AsRef<str>, C: AsRef<[u8]>> FromIterator<(P, C)> for Documents {
    fn from_iter<I: IntoIterator<Item = (P, C)>>(documents: I) -> Documents {
        let mut bytes = Vec::new();
        for (path, content) in documents {
            for piece in [path.as_ref().as_bytes(), content.as_ref()] {
                let length = u32::try_from(piece.len()).expect("a message of 4 GiB does not arrive");
                bytes.extend_from_slice(&length.to_le_bytes());
                bytes.extend_from_slice(piece);
            }
        }
        Documents(bytes.into())
    }
}

/// One port that is bound to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortState {
    /// Its id.
    pub id: PortId,
    /// The network that it is on.
    pub network: NetworkId,
    /// The guest behind it.
    pub guest: GuestId,
    /// Its hardware address, lower case with colons. Nothing else passes its tap.
    pub mac: String,
    /// Its addresses, each with the prefix length of its subnet. Nothing else passes its tap (beside link-local IPv6
    /// derived from the MAC).
    pub addresses: Vec<IpNet>,
    /// Further addresses that may pass its tap.
    pub allowed_pairs: Vec<IpNet>,
    /// Host name that DHCP tells.
    pub host_name: String,
    /// Whether rules and anti-spoofing apply (`port_security_enabled`).
    pub secured: bool,
    /// What may pass.
    pub rules: Vec<Rule>,
    /// What the metadata service serves to this port: path (without the leading slash) and content.
    pub metadata: Documents,
}

/// A router's leg into this network, realised on every node that has ports here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterLeg {
    /// The router, as in the API (its id's text).
    pub router: String,
    /// The router's address in this network, with prefix length.
    pub address: IpNet,
    /// The router's hardware address on this leg.
    pub mac: String,
}

/// The addresses of a group's members as octets: the short form that the wire and logs carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedMembers {
    /// IPv4 addresses, 4 octets each.
    pub hosts_v4: Vec<u8>,
    /// IPv6 addresses, 16 octets each.
    pub hosts_v6: Vec<u8>,
    /// Ranges that are more than one address, as address/length.
    pub ranges: Vec<String>,
}

impl PackedMembers {
    /// Packs `members`.
    pub fn of(members: &[IpNet]) -> PackedMembers {
        let mut packed = PackedMembers::default();
        for member in members {
            match member {
                IpNet::V4(net) if net.prefix_len() == 32 => packed.hosts_v4.extend(net.addr().octets()),
                IpNet::V6(net) if net.prefix_len() == 128 => packed.hosts_v6.extend(net.addr().octets()),
                IpNet::V4(_) | IpNet::V6(_) => packed.ranges.push(member.to_string()),
            }
        }
        packed
    }

    /// The members, sorted and each once; `None` if this is not what [`PackedMembers::of`] makes.
    pub fn members(&self) -> Option<Vec<IpNet>> {
        let (v4, rest_v4) = self.hosts_v4.as_chunks::<4>();
        let (v6, rest_v6) = self.hosts_v6.as_chunks::<16>();
        if !rest_v4.is_empty() || !rest_v6.is_empty() {
            return None;
        }
        let hosts = v4.iter().map(|octets| IpNet::from(IpAddr::from(*octets)));
        let mut members: Vec<IpNet> = hosts.chain(v6.iter().map(|octets| IpNet::from(IpAddr::from(*octets)))).collect();
        for range in &self.ranges {
            members.push(range.parse().ok()?);
        }
        members.sort_unstable();
        members.dedup();
        Some(members)
    }
}

/// A network, but for its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its id.
    pub id: NetworkId,
    /// Name for people.
    pub name: String,
    /// MTU in bytes.
    pub mtu: u16,
    /// Its ranges.
    pub subnets: Vec<Subnet>,
    /// Routers that join it to other networks.
    pub routers: Vec<RouterLeg>,
    /// Whether the node itself (its host system) can reach it: the cell's shared network.
    pub host_access: bool,
    /// The node's own address towards this network, if `host_access`.
    pub host_address: Option<Ipv4Addr>,
}

/// A network as it must be on this node, put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkState {
    /// Orders what one agent process says of one network: a driver ignores what is older than what it has.
    pub version: u64,
    /// The network itself.
    pub spec: Arc<NetworkSpec>,
    /// Its ports on this node.
    pub ports: Vec<Arc<PortState>>,
    /// Groups that rules of its ports may name; there may be others.
    pub groups: BTreeMap<GroupId, Arc<GroupState>>,
}

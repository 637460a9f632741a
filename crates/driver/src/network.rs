//! What a network is on one node: plain data. Devices, leases and rules are a function of it.

use std::net::{IpAddr, Ipv4Addr};

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
    /// The far ends: sources of ingress, destinations of egress. Empty with `remote_any` false: matches nothing (a
    /// remote group without members).
    pub remotes: Vec<IpNet>,
    /// Any far end.
    pub remote_any: bool,
}

/// One port that is bound to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortState {
    /// Its id.
    pub id: PortId,
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
    pub metadata: Vec<(String, Vec<u8>)>,
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

/// A network as it must be on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkState {
    /// Its id.
    pub id: NetworkId,
    /// Orders descriptions of one network: a node ignores one that is older than what it has.
    pub revision: u64,
    /// Name for people.
    pub name: String,
    /// MTU in bytes.
    pub mtu: u16,
    /// Its ranges.
    pub subnets: Vec<Subnet>,
    /// Its ports on this node.
    pub ports: Vec<PortState>,
    /// Routers that join it to other networks.
    pub routers: Vec<RouterLeg>,
    /// Whether the node itself (its host system) can reach it: the cell's shared network.
    pub host_access: bool,
    /// The node's own address towards this network, if `host_access`.
    pub host_address: Option<Ipv4Addr>,
}

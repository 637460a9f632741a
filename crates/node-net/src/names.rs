//! Names and addresses that follow from ids alone.
//!
//! Whatever this crate makes carries a name from here, so that after any crash it can be found, adopted or removed
//! without a record of it. A namespace's name holds the whole id; a device has only 15 characters, so its name holds
//! a hash and its alias the id. The cell's tag is in every name that is visible outside a namespace of ours, because
//! two cells may share a machine.

use std::net::{Ipv4Addr, Ipv6Addr};

use driver::{NetworkId, PortId};

/// The bridge in each network's namespace.
pub(crate) const BRIDGE: &str = "br0";
/// The end of the host's link that lies in the network's namespace.
pub(crate) const HOST_LINK: &str = "host0";
/// Where the metadata service answers; also the identity of the DHCP server, because each network has this address
/// whether or not it has a gateway.
pub(crate) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The host's address on each link to a network. It may be the same on all of them: nothing routes to it but the
/// other end of the link.
pub(crate) const HOST_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 95, 1);
/// The other end of the host's link.
pub(crate) const HOST_PEER_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 95, 2);
/// As [`HOST_V4`], for IPv6. Not link-local, since link-local sources are not forwarded.
pub(crate) const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x7368, 0x6f73, 0x7400, 0, 0, 0, 1);
/// As [`HOST_PEER_V4`], for IPv6.
pub(crate) const HOST_PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x7368, 0x6f73, 0x7400, 0, 0, 0, 2);

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl Mac {
    /// Reads `02:00:00:00:00:01`; `None` if it is anything else, or no address of one station.
    pub(crate) fn parse(text: &str) -> Option<Mac> {
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2)?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        (parts.next().is_none() && bytes[0] & 1 == 0).then_some(Mac(bytes))
    }

    /// The interface identifier that IPv6 makes of it (modified EUI-64).
    pub(crate) fn interface_id(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    }

    /// Its link-local address.
    pub(crate) fn link_local(self) -> Ipv6Addr {
        self.address_in(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0))
    }

    /// The address that a station with it gives itself in the /64 of `prefix`.
    pub(crate) fn address_in(self, prefix: Ipv6Addr) -> Ipv6Addr {
        let mut bytes = prefix.octets();
        bytes[8..].copy_from_slice(&self.interface_id());
        Ipv6Addr::from(bytes)
    }
}

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The part of names that tells what is this agent's from all else on the machine: the cell, 1 to 4 lower-case letters or
/// digits, and the node where several agents of the cell share the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    cell: String,
    node: Option<String>,
}

impl Tag {
    pub(crate) fn parse(cell: &str, node: Option<&str>) -> Option<Tag> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let cell_fits = (1..=4).contains(&cell.len()) && cell.bytes().all(plain);
        let node_fits =
            node.is_none_or(|node| (1..=63).contains(&node.len()) && node.bytes().all(|b| plain(b) || b == b'-'));
        (cell_fits && node_fits).then(|| Tag { cell: cell.to_string(), node: node.map(str::to_string) })
    }

    /// Whether the cell has no other agent on this machine that is told from it.
    pub(crate) fn is_alone(&self) -> bool {
        self.node.is_none()
    }

    /// A node's name has no dot, so that of no node starts like that of another.
    fn after(&self, kind: &str) -> String {
        match &self.node {
            None => format!("{kind}-{}-", self.cell),
            Some(node) => format!("{kind}-{}.{node}.", self.cell),
        }
    }

    fn network_prefix(&self) -> String {
        self.after("ms")
    }

    /// How the names of this agent's router namespaces start.
    pub(crate) fn router_prefix(&self) -> String {
        self.after("msr")
    }

    /// The namespace of a network.
    pub(crate) fn network(&self, id: NetworkId) -> String {
        format!("{}{id}", self.network_prefix())
    }

    /// The network whose namespace has this name; `None`: it is none of this agent's.
    pub(crate) fn network_of(&self, namespace: &str) -> Option<NetworkId> {
        namespace.strip_prefix(&self.network_prefix())?.parse().ok()
    }

    /// The namespace of a router.
    pub(crate) fn router(&self, router: &str) -> String {
        format!("{}{router}", self.router_prefix())
    }

    /// Whether a namespace with this name was made by this agent.
    #[cfg(test)]
    pub(crate) fn owns(&self, namespace: &str) -> bool {
        namespace.starts_with(&self.network_prefix()) || namespace.starts_with(&self.router_prefix())
    }

    /// Whose a namespace with this name is, if it is of the cell `cell`.
    pub(crate) fn owner_of(cell: &str, namespace: &str) -> Option<Tag> {
        let (kind, rest) = namespace.split_once('-').filter(|(kind, _)| matches!(*kind, "ms" | "msr"))?;
        let rest = rest.strip_prefix(cell)?;
        let node = rest.strip_prefix('.').and_then(|rest| Some(rest.split_once('.')?.0));
        let tag = Tag::parse(cell, node)?;
        namespace.starts_with(&tag.after(kind)).then_some(tag)
    }

    /// The host's link to a network.
    pub(crate) fn host_link(&self, id: NetworkId) -> String {
        match &self.node {
            None => format!("msh{}{:08x}", self.cell, hash(id.as_uuid().as_bytes()) & 0xffff_ffff),
            Some(_) => format!("{}{}", self.shared_prefix(id), self.shared_suffix()),
        }
    }

    /// How links to this network are called that agents of this cell made who share the machine.
    fn shared_prefix(&self, id: NetworkId) -> String {
        format!("msn{}", short(&[self.cell.as_bytes(), b".", id.as_uuid().as_bytes()]))
    }

    fn shared_suffix(&self) -> String {
        short(&[self.cell.as_bytes(), b".", self.node.as_deref().unwrap_or_default().as_bytes()])
    }

    /// Whether a link on the host with this name was made by this agent. A longer tag that starts with this one cannot be
    /// meant: the rest of the name has a fixed length.
    pub(crate) fn owns_link(&self, name: &str) -> bool {
        match &self.node {
            None => name.strip_prefix(&format!("msh{}", self.cell)).is_some_and(|rest| rest.len() == 8),
            Some(_) => name.starts_with("msn") && name.len() == 15 && name.ends_with(&self.shared_suffix()),
        }
    }

    /// Whether a link on the host with this name leads to this network, by whichever agent of this cell.
    pub(crate) fn leads_to(&self, name: &str, id: NetworkId) -> bool {
        let alone = Tag { cell: self.cell.clone(), node: None };
        name == alone.host_link(id) || name.len() == 15 && name.starts_with(&self.shared_prefix(id))
    }
}

/// The tap of a port.
pub(crate) fn tap(port: PortId) -> String {
    format!("t{}", hash14(&[port.as_uuid().as_bytes()]))
}

/// The end of a router's leg that lies in the network's namespace, enslaved to the bridge.
pub(crate) fn leg_outside(router: &str, mac: Mac) -> String {
    format!("r{}", hash14(&[router.as_bytes(), &mac.0]))
}

/// The end of a router's leg that lies in the router's namespace.
pub(crate) fn leg_inside(network: NetworkId, mac: Mac) -> String {
    format!("l{}", hash14(&[network.as_uuid().as_bytes(), &mac.0]))
}

/// The hardware address of a network's bridge; locally administered, so it meets no port's.
pub(crate) fn bridge_mac(network: NetworkId) -> Mac {
    let [.., a, b, c, d, e] = hash(network.as_uuid().as_bytes()).to_be_bytes();
    Mac([0x02, a, b, c, d, e])
}

/// Six letters and digits: as many different ones as 31 bits have.
fn short(parts: &[&[u8]]) -> String {
    let digits = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut rest = hash(&parts.concat());
    // The high bits of this hash depend on every byte; the low ones do too little.
    rest ^= rest >> 32;
    let mut text = String::new();
    for _ in 0..6 {
        text.push(char::from(digits[usize::try_from(rest % 36).unwrap_or_default()]));
        rest /= 36;
    }
    text
}

fn hash14(parts: &[&[u8]]) -> String {
    format!("{:014x}", hash(&parts.concat()) & 0x00ff_ffff_ffff_ffff)
}

/// FNV-1a, because names must stay the same from release to release. Ids are random and not the tenants' to choose,
/// so nobody can aim at a collision.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_stable_and_belong_to_one_cell() {
        let id: NetworkId = "6f2b7c1e-0c1d-4a6e-9b8f-0123456789ab".parse().unwrap();
        let tag = |cell| Tag::parse(cell, None).unwrap();
        let (one, other) = (tag("ab"), tag("abc"));
        assert_eq!(one.network(id), "ms-ab-6f2b7c1e-0c1d-4a6e-9b8f-0123456789ab");
        assert_eq!(one.network_of(&one.network(id)), Some(id));
        assert_eq!(one.network_of(&other.network(id)), None);
        assert!(!one.owns(&other.router("r")) && one.owns(&one.router("r")));
        assert!(one.owns_link(&one.host_link(id)) && !one.owns_link(&other.host_link(id)));
        assert!(other.host_link(id).len() <= 15);
        let port: PortId = "6f2b7c1e-0c1d-4a6e-9b8f-0123456789ab".parse().unwrap();
        assert_eq!(tap(port).len(), 15);
        for bad in ["", "abcde", "a-b", "A"] {
            assert_eq!(Tag::parse(bad, None), None, "{bad}");
        }
        for bad in ["", "a.b", "A", "a/b", &"x".repeat(64)] {
            assert_eq!(Tag::parse("ab", Some(bad)), None, "{bad}");
        }
    }

    #[test]
    fn agents_that_share_a_machine_share_no_name() {
        let id: NetworkId = "6f2b7c1e-0c1d-4a6e-9b8f-0123456789ab".parse().unwrap();
        let other_network: NetworkId = "6f2b7c1e-0c1d-4a6e-9b8f-0123456789ac".parse().unwrap();
        let nodes = [None, Some("n"), Some("n-1"), Some("n-2"), Some("ab")];
        let tags: Vec<Tag> = nodes.iter().map(|node| Tag::parse("ab", *node).unwrap()).collect();
        for (at, one) in tags.iter().enumerate() {
            let link = one.host_link(id);
            assert!(link.len() <= 15 && one.leads_to(&link, id) && !one.leads_to(&link, other_network), "{link}");
            assert!(!Tag::parse("abc", nodes[at]).unwrap().leads_to(&link, id), "another cell's");
            for name in [one.network(id), one.router("r.n.x")] {
                assert_eq!(Tag::owner_of("ab", &name).as_ref(), Some(one), "{name}");
                assert_eq!(Tag::owner_of("a", &name), None, "{name}");
            }
            for other in tags.iter().filter(|other| *other != one) {
                assert!(!other.owns(&one.network(id)) && !other.owns(&one.router("r.n.x")), "{one:?} {other:?}");
                assert_eq!(other.network_of(&one.network(id)), None);
                assert!(!other.owns_link(&link) && other.leads_to(&link, id), "{link}");
            }
        }
        assert_eq!(tags[2].network(id), "ms-ab.n-1.6f2b7c1e-0c1d-4a6e-9b8f-0123456789ab");
        assert_eq!(tags[2].host_link(id), "msn18ohkaxjosm8");
    }

    #[test]
    fn hardware_addresses() {
        let mac = Mac::parse("fa:16:3e:00:0a:ff").unwrap();
        assert_eq!(mac.to_string(), "fa:16:3e:00:0a:ff");
        assert_eq!(mac.link_local().to_string(), "fe80::f816:3eff:fe00:aff");
        assert_eq!(mac.address_in("fd00:1::".parse().unwrap()).to_string(), "fd00:1::f816:3eff:fe00:aff");
        for bad in ["", "fa:16:3e:00:0a", "fa:16:3e:00:0a:ff:00", "01:00:00:00:00:01", "fa:16:3e:00:0a:f"] {
            assert_eq!(Mac::parse(bad), None, "{bad}");
        }
    }
}

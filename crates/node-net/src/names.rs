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

/// The part of names that tells this cell from others on the machine: 1 to 4 lower-case letters or digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag(String);

impl Tag {
    pub(crate) fn parse(text: &str) -> Option<Tag> {
        let fits = (1..=4).contains(&text.len());
        (fits && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())).then(|| Tag(text.to_string()))
    }

    fn network_prefix(&self) -> String {
        format!("ms-{}-", self.0)
    }

    /// How the names of this cell's router namespaces start.
    pub(crate) fn router_prefix(&self) -> String {
        format!("msr-{}-", self.0)
    }

    /// The namespace of a network.
    pub(crate) fn network(&self, id: NetworkId) -> String {
        format!("{}{id}", self.network_prefix())
    }

    /// The network whose namespace has this name; `None`: it is none of this cell's.
    pub(crate) fn network_of(&self, namespace: &str) -> Option<NetworkId> {
        namespace.strip_prefix(&self.network_prefix())?.parse().ok()
    }

    /// The namespace of a router.
    pub(crate) fn router(&self, router: &str) -> String {
        format!("{}{router}", self.router_prefix())
    }

    /// Whether a namespace with this name was made by this cell.
    pub(crate) fn owns(&self, namespace: &str) -> bool {
        namespace.starts_with(&self.network_prefix()) || namespace.starts_with(&self.router_prefix())
    }

    /// How the names of this cell's links on the host start. A longer tag that starts with this one cannot be meant:
    /// the rest of the name has a fixed length, see [`Tag::owns_link`].
    fn link_prefix(&self) -> String {
        format!("msh{}", self.0)
    }

    /// The host's link to a network.
    pub(crate) fn host_link(&self, id: NetworkId) -> String {
        format!("{}{:08x}", self.link_prefix(), hash(id.as_uuid().as_bytes()) & 0xffff_ffff)
    }

    /// Whether a link on the host with this name was made by this cell.
    pub(crate) fn owns_link(&self, name: &str) -> bool {
        name.strip_prefix(&self.link_prefix()).is_some_and(|rest| rest.len() == 8)
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
        let (one, other) = (Tag::parse("ab").unwrap(), Tag::parse("abc").unwrap());
        assert_eq!(one.network(id), "ms-ab-6f2b7c1e-0c1d-4a6e-9b8f-0123456789ab");
        assert_eq!(one.network_of(&one.network(id)), Some(id));
        assert_eq!(one.network_of(&other.network(id)), None);
        assert!(!one.owns(&other.router("r")) && one.owns(&one.router("r")));
        assert!(one.owns_link(&one.host_link(id)) && !one.owns_link(&other.host_link(id)));
        assert!(other.host_link(id).len() <= 15);
        let port: PortId = "6f2b7c1e-0c1d-4a6e-9b8f-0123456789ab".parse().unwrap();
        assert_eq!(tap(port).len(), 15);
        for bad in ["", "abcde", "a-b", "A"] {
            assert_eq!(Tag::parse(bad), None, "{bad}");
        }
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

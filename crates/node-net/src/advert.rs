//! What is told to guests unasked: router advertisements (IPv6), and where gateway addresses live (IPv4). Pure.
//!
//! An advertisement names its sender as the router, so it must seem to come from where the gateway address lives: the
//! network's bridge, or a router's leg. Therefore whole frames are built here and sent past the IP layer.
//!
//! Guests form their addresses from the prefix and their hardware address (SLAAC); the API hands out the same ones.
//! Not here: DHCPv6 and default routes to anything but a subnet's own gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};

use crate::names::Mac;
use crate::plan::{Gateway, Plan};

/// Between two advertisements that nobody asked for. Less than a third of [`ROUTER_LIFETIME`], so that two may be lost.
pub(crate) const INTERVAL: Duration = Duration::from_secs(300);
const ROUTER_LIFETIME: u16 = 1800;
/// How long guests keep addresses and name servers while the node is silent: it may be restarting.
const VALID_SECONDS: u32 = 86_400;
const PREFERRED_SECONDS: u32 = 43_200;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;

/// What one sender announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advert {
    from: Mac,
    /// Whether the sender is a way out, beside announcing prefixes.
    router: bool,
    mtu: u16,
    prefixes: Vec<Ipv6Net>,
    dns: Vec<Ipv6Addr>,
}

/// All advertisements of a network, one for each sender.
pub(crate) fn adverts(plan: &Plan<'_>) -> Vec<Advert> {
    let mut adverts: Vec<Advert> = Vec::new();
    for subnet in plan.spec.subnets.iter().filter(|subnet| subnet.dhcp) {
        let IpNet::V6(prefix) = subnet.cidr else { continue };
        let (from, router) = match plan.gateway(subnet) {
            Some(Gateway::Leg(_, leg)) => (leg.mac, true),
            Some(Gateway::Bridge(_)) => (plan.bridge_mac, true),
            None => (plan.bridge_mac, false),
        };
        let dns = subnet.dns.iter().filter_map(|server| match server {
            IpAddr::V6(server) => Some(*server),
            IpAddr::V4(_) => None,
        });
        let advert = match adverts.iter_mut().find(|advert| advert.from == from) {
            Some(advert) => advert,
            None => {
                let mtu = plan.spec.mtu;
                adverts.push(Advert { from, router: false, mtu, prefixes: Vec::new(), dns: Vec::new() });
                adverts.last_mut().expect("it was pushed in the line above")
            }
        };
        advert.router |= router;
        advert.prefixes.push(prefix.trunc());
        advert.dns.extend(dns);
    }
    adverts
}

impl Advert {
    /// The whole Ethernet frame, to all nodes.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let source = self.from.link_local();
        let mut body = self.body();
        let sum = checksum(source, ALL_NODES, &body);
        body[2..4].copy_from_slice(&sum.to_be_bytes());
        let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
        let mut frame = Vec::with_capacity(54 + body.len());
        frame.extend_from_slice(&ALL_NODES_MAC);
        frame.extend_from_slice(&self.from.0);
        frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend_from_slice(&length.to_be_bytes());
        // Hop limit 255 proves to receivers that it comes from their own link.
        frame.extend_from_slice(&[ICMPV6, 255]);
        frame.extend_from_slice(&source.octets());
        frame.extend_from_slice(&ALL_NODES.octets());
        frame.extend_from_slice(&body);
        frame
    }

    fn body(&self) -> Vec<u8> {
        let lifetime = if self.router { ROUTER_LIFETIME } else { 0 };
        let [high, low] = lifetime.to_be_bytes();
        // Type, code, checksum (later), hop limit, flags (no DHCPv6), lifetime, reachable and retransmit times.
        let mut body = vec![134, 0, 0, 0, 64, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 0];
        body.extend_from_slice(&[1, 1]);
        body.extend_from_slice(&self.from.0);
        body.extend_from_slice(&[5, 1, 0, 0]);
        // Below 1280 IPv6 does not work, and guests ignore such an option.
        body.extend_from_slice(&u32::from(self.mtu.max(1280)).to_be_bytes());
        for prefix in &self.prefixes {
            // On-link; autonomous only where guests can form an interface identifier of 64 bits.
            let flags = if prefix.prefix_len() == 64 { 0xc0 } else { 0x80 };
            body.extend_from_slice(&[3, 4, prefix.prefix_len(), flags]);
            body.extend_from_slice(&VALID_SECONDS.to_be_bytes());
            body.extend_from_slice(&PREFERRED_SECONDS.to_be_bytes());
            body.extend_from_slice(&[0; 4]);
            body.extend_from_slice(&prefix.network().octets());
        }
        // The length byte counts 8-byte units, two for each server and one for the head.
        for servers in self.dns.chunks(8) {
            let units = u8::try_from(1 + 2 * servers.len()).expect("at most 8 servers are in a chunk");
            body.extend_from_slice(&[25, units, 0, 0]);
            body.extend_from_slice(&VALID_SECONDS.to_be_bytes());
            body.extend(servers.iter().flat_map(Ipv6Addr::octets));
        }
        body
    }
}

/// Tells neighbours under which hardware address an IPv4 address is found. A gateway moves when a router is attached
/// or detached, and guests would go on sending to where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gratuitous {
    mac: Mac,
    address: Ipv4Addr,
}

/// Where the gateways of a network are.
pub(crate) fn gateways(plan: &Plan<'_>) -> Vec<Gratuitous> {
    let of_subnet = |gateway| match gateway {
        Gateway::Bridge(IpAddr::V4(address)) => Some(Gratuitous { mac: plan.bridge_mac, address }),
        Gateway::Leg(IpAddr::V4(address), leg) => Some(Gratuitous { mac: leg.mac, address }),
        Gateway::Bridge(IpAddr::V6(_)) | Gateway::Leg(IpAddr::V6(_), _) => None,
    };
    plan.spec.subnets.iter().filter_map(|subnet| plan.gateway(subnet)).filter_map(of_subnet).collect()
}

impl Gratuitous {
    /// The whole Ethernet frame: an ARP request for its own sender.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let (mac, address) = (&self.mac.0[..], &self.address.octets()[..]);
        let kind = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
        [&[0xff; 6], mac, &kind, mac, address, &[0; 6], address, &[0; 18]].concat()
    }
}

/// The checksum of an ICMPv6 message whose own checksum field is zero.
fn checksum(source: Ipv6Addr, target: Ipv6Addr, body: &[u8]) -> u16 {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let pseudo = [&source.octets()[..], &target.octets()[..], &length[..], &[0, 0, 0, ICMPV6][..]];
    let words = pseudo.into_iter().chain(std::iter::once(body)).flat_map(|part| part.chunks(2));
    let sum: u64 = words.map(|word| u64::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded & 0xffff).expect("masked to 16 bits")
}

/// Whether an ICMPv6 message asks for advertisements.
pub(crate) fn is_solicitation(message: &[u8]) -> bool {
    matches!(message, [133, 0, ..]) && message.len() >= 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_in_full() {
        let frame = Gratuitous { mac: Mac([2, 0, 0, 0, 0, 1]), address: Ipv4Addr::new(10, 0, 0, 1) }.frame();
        let head = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
        assert_eq!(frame[..22], head);
        assert_eq!(frame[22..42], [2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
        assert_eq!(frame.len(), 60);
    }

    #[test]
    fn one_frame_in_full() {
        let advert = Advert {
            from: Mac([2, 0, 0, 0, 0, 1]),
            router: true,
            mtu: 1450,
            prefixes: vec!["fd00:5::/64".parse().unwrap()],
            dns: vec!["fd00:5::53".parse().unwrap()],
        };
        let expected: &[&[u8]] = &[
            &[0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd],
            &[0x60, 0, 0, 0, 0, 88, 58, 255],
            &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 1],
            &[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 1, 2, 0, 0, 0, 0, 1, 5, 1, 0, 0, 0, 0, 5, 0xaa],
            &[3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0xa8, 0xc0, 0, 0, 0, 0],
            &[0xfd, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[25, 3, 0, 0, 0, 1, 0x51, 0x80, 0xfd, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53],
        ];
        let mut frame = advert.frame();
        // Over a message that holds its checksum, the sum comes to zero.
        assert_eq!(checksum(advert.from.link_local(), ALL_NODES, &frame[54..]), 0);
        frame[56..58].fill(0);
        assert_eq!(frame, expected.concat());
    }
}

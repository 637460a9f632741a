//! Which `ip` commands turn the devices that are there into those that the plan wants: pure, and nothing to do when
//! they agree.

use std::collections::BTreeSet;
use std::net::IpAddr;

use driver::PortId;
use ipnet::IpNet;

use crate::names::{self, BRIDGE, Mac};
use crate::plan::{Leg, Plan};
use crate::tools::{Link, Links, Route};

/// Makes the bridge if it is missing. It is not up yet: settings of the device come before. It learns nothing from
/// frames for the bridge protocols, since those pass it without having been looked at by the rules.
pub(crate) fn create_bridge(plan: &Plan<'_>, found: &Links) -> Vec<String> {
    if found.contains_key(BRIDGE) {
        return Vec::new();
    }
    vec![format!(
        "link add name {BRIDGE} address {} mtu {} type bridge stp_state 0 forward_delay 0 mcast_snooping 0 \
         no_linklocal_learn 1",
        plan.bridge_mac,
        plan.device_mtu()
    )]
}

/// Brings bridge, taps and addresses to what the plan says, and removes taps that a crash left half made.
pub(crate) fn configure(plan: &Plan<'_>, found: &Links) -> Vec<String> {
    let mut lines = Vec::new();
    let absent = Link::default();
    let bridge = found.get(BRIDGE).unwrap_or(&absent);
    let mtu = plan.device_mtu();
    if bridge.mtu != u32::from(mtu) {
        lines.push(format!("link set dev {BRIDGE} mtu {mtu}"));
    }
    if !bridge.up {
        lines.push(format!("link set dev {BRIDGE} up"));
    }
    let whole = |address: IpAddr| (address, IpNet::from(address).max_prefix_len());
    lines.extend(addresses(BRIDGE, &bridge.addresses, plan.bridge_addresses().into_iter().map(whole)));
    for port in &plan.ports {
        if let Some(link) = found.get(&port.tap) {
            lines.extend(enslave(&port.tap, link, mtu, &port.state.id.to_string()));
        }
    }
    lines.extend(half_made(plan, found).into_iter().map(|tap| format!("link delete dev {tap}")));
    lines
}

/// Taps that never were handed out: the alias is given before that. Others stay even if the plan does not have them,
/// since a guest may hold them; no rule lets anything through them.
fn half_made<'f>(plan: &Plan<'_>, found: &'f Links) -> Vec<&'f str> {
    let planned = |name: &str| plan.ports.iter().any(|port| port.tap == name);
    let taps = found.iter().filter(|(name, link)| is_tap(name) && link.alias.is_none() && !planned(name));
    taps.map(|(name, _)| name.as_str()).collect()
}

fn is_tap(name: &str) -> bool {
    name.len() == 15 && name.starts_with('t')
}

/// The ports whose taps are among `found`.
pub(crate) fn ports_of(found: &Links) -> Vec<PortId> {
    let aliases = found.iter().filter(|(name, _)| is_tap(name)).filter_map(|(_, link)| link.alias.as_deref());
    aliases.filter_map(|alias| alias.parse().ok()).collect()
}

/// Puts a device on the bridge.
pub(crate) fn enslave(name: &str, link: &Link, mtu: u16, alias: &str) -> Option<String> {
    let done = link.up
        && link.mtu == u32::from(mtu)
        && link.master.as_deref() == Some(BRIDGE)
        && link.alias.as_deref() == Some(alias);
    (!done).then(|| format!("link set dev {name} alias {alias} mtu {mtu} master {BRIDGE} up"))
}

/// Adds and removes addresses until `device` has exactly the wanted ones, link-local IPv6 aside.
fn addresses(device: &str, found: &BTreeSet<(IpAddr, u8)>, wanted: impl Iterator<Item = (IpAddr, u8)>) -> Vec<String> {
    let wanted: Vec<(IpAddr, u8)> = wanted.collect();
    let gone = found.iter().filter(|address| !wanted.contains(address));
    let removals = gone.map(|(address, length)| format!("address delete {address}/{length} dev {device}"));
    let missing = wanted.iter().filter(|address| !found.contains(address));
    // The node is the only one that may have them, so nobody has to be asked.
    let additions = missing.map(|(address, length)| match address {
        IpAddr::V4(_) => format!("address add {address}/{length} dev {device}"),
        IpAddr::V6(_) => format!("address add {address}/{length} dev {device} nodad"),
    });
    removals.chain(additions).collect()
}

/// Routes from the namespace to the subnets, which the bridge's addresses do not imply: they are single ones, because
/// a subnet need not have any address of the node in it. `found` has those of one family.
pub(crate) fn routes(plan: &Plan<'_>, v6: bool, found: &[Route]) -> Vec<String> {
    let cidrs = plan.spec.subnets.iter().map(|subnet| subnet.cidr).filter(|cidr| (cidr.max_prefix_len() == 128) == v6);
    let wanted: BTreeSet<String> = cidrs.map(shown).collect();
    let found: BTreeSet<&str> = found.iter().map(|route| route.dst.as_str()).collect();
    let gone = found.iter().filter(|route| !wanted.contains(**route));
    let removals = gone.map(|route| format!("route delete {route} dev {BRIDGE} proto static"));
    let missing = wanted.iter().filter(|route| !found.contains(route.as_str()));
    let additions = missing.map(|route| format!("route replace {route} dev {BRIDGE} proto static"));
    removals.chain(additions).collect()
}

/// A range as `ip` shows it: single addresses without a length.
pub(crate) fn shown(range: IpNet) -> String {
    let range = range.trunc();
    if range.prefix_len() == range.max_prefix_len() { range.addr().to_string() } else { range.to_string() }
}

/// The devices of legs among `found` that the plan does not have.
pub(crate) fn stale_legs(plan: Option<&Plan<'_>>, found: &Links) -> Vec<String> {
    let planned: BTreeSet<&str> =
        plan.iter().flat_map(|plan| plan.legs.iter()).map(|leg| leg.outside.as_str()).collect();
    let legs = found.keys().filter(|name| name.len() == 15 && name.starts_with('r'));
    legs.filter(|name| !planned.contains(name.as_str())).cloned().collect()
}

/// Brings the inside of a leg to what the plan says.
pub(crate) fn configure_leg(leg: &Leg, link: &Link, mtu: u16) -> Vec<String> {
    let mut lines = Vec::new();
    let device = &leg.inside;
    if Mac::parse(&link.mac) != Some(leg.mac) {
        lines.push(format!("link set dev {device} down"));
        lines.push(format!("link set dev {device} address {}", leg.mac));
    }
    if link.mtu != u32::from(mtu) {
        lines.push(format!("link set dev {device} mtu {mtu}"));
    }
    let wanted = leg.addresses.iter().map(|address| (address.addr(), address.prefix_len()));
    lines.extend(addresses(device, &link.addresses, wanted));
    // Last, so that neighbours are told of the addresses when it comes up.
    if !link.up || !lines.is_empty() {
        lines.push(format!("link set dev {device} up"));
    }
    lines
}

/// The commands that give the host's link to a network its addresses. `inside`: the end in the network's namespace.
pub(crate) fn configure_host(inside: bool, device: &str, link: &Link, mtu: u16) -> Vec<String> {
    let (v4, v6) = if inside { (names::HOST_PEER_V4, names::HOST_PEER_V6) } else { (names::HOST_V4, names::HOST_V6) };
    let mut lines = Vec::new();
    if link.mtu != u32::from(mtu) {
        lines.push(format!("link set dev {device} mtu {mtu}"));
    }
    if !link.up {
        lines.push(format!("link set dev {device} up"));
    }
    let wanted = [(IpAddr::V4(v4), 32), (IpAddr::V6(v6), 128)];
    lines.extend(addresses(device, &link.addresses, wanted.into_iter()));
    lines
}

#[cfg(test)]
mod tests {
    use driver::NetworkState;

    use super::*;
    use crate::plan::number_ports;

    #[test]
    fn a_network_as_wanted_needs_nothing_and_a_leftover_goes() {
        let state: NetworkState = crate::tests::samples::network(1);
        let plan = Plan::of(&state, &number_ports(&Default::default(), &mut 2, &state.ports)).unwrap();
        let mut found = Links::new();
        assert_eq!(create_bridge(&plan, &found).len(), 1);
        let addresses = plan.bridge_addresses().into_iter().map(|a| (a, IpNet::from(a).max_prefix_len())).collect();
        let bridge = Link { mtu: u32::from(state.spec.mtu), up: true, addresses, ..Link::default() };
        found.insert(BRIDGE.into(), bridge);
        assert_eq!(create_bridge(&plan, &found), Vec::<String>::new());
        assert_eq!(configure(&plan, &found), Vec::<String>::new());

        found.insert("t00000000000000".into(), Link::default());
        let unlisted = Link { alias: Some("aaaaaaaa-0000-4000-8000-000000000000".into()), ..Link::default() };
        found.insert("t11111111111111".into(), unlisted);
        found.insert(plan.ports[0].tap.clone(), Link::default());
        assert_eq!(
            configure(&plan, &found),
            [
                format!("link set dev {} alias {} mtu 1450 master br0 up", plan.ports[0].tap, plan.ports[0].state.id),
                "link delete dev t00000000000000".to_string(),
            ]
        );
    }
}

//! The bridge table: what may come from a tap at all, and where it comes from and goes to.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{braces, line, mark_of};
use crate::names::METADATA;
use crate::plan::{LEGS, Plan, PlannedPort};

pub(super) fn table(text: &mut String, plan: &Plan<'_>) {
    line(text, format_args!("table bridge mainstay {{"));
    from_devices(text, plan);
    for port in &plan.ports {
        from_port(text, plan, port);
    }
    to_devices(text, plan);
    line(text, format_args!("}}"));
}

/// First thing on arrival, before the bridge hands the packet to connection tracking.
fn from_devices(text: &mut String, plan: &Plan<'_>) {
    line(text, format_args!("  chain arriving {{"));
    line(text, format_args!("    type filter hook prerouting priority -300; policy drop;"));
    let legs = plan.legs.iter().map(|leg| format!("{} : goto from_leg", leg.outside));
    let ports = plan.ports.iter().map(|port| format!("{} : goto from_{}", port.tap, port.tap));
    let all: Vec<String> = ports.chain(legs).collect();
    if !all.is_empty() {
        line(text, format_args!("    iifname vmap {}", braces(all)));
    }
    line(text, format_args!("  }}"));
    if !plan.legs.is_empty() {
        line(text, format_args!("  chain from_leg {{"));
        line(text, format_args!("    meta mark set {:#010x}", mark_of(LEGS)));
        line(text, format_args!("    accept"));
        line(text, format_args!("  }}"));
    }
}

fn from_port(text: &mut String, plan: &Plan<'_>, port: &PlannedPort<'_>) {
    let tap = &port.tap;
    let capture = format!("ip daddr {METADATA} meta pkttype set host ether daddr set {} accept", plan.bridge_mac);
    line(text, format_args!("  chain from_{tap} {{"));
    line(text, format_args!("    meta mark set {:#010x}", mark_of(port.index)));
    limits(text);
    if port.state.secured {
        // By the bytes of the frame: of a tagged frame the kernel would tell the type of what is inside.
        line(text, format_args!("    ether saddr != {} drop", port.mac));
        line(
            text,
            format_args!("    ether type vmap {{ arp : goto arp_{tap}, ip : goto ip_{tap}, ip6 : goto ip6_{tap} }}"),
        );
        line(text, format_args!("    drop"));
    } else {
        line(text, format_args!("    ether type ip {capture}"));
        line(text, format_args!("    accept"));
    }
    line(text, format_args!("  }}"));
    if port.state.secured {
        let (v4, v6) = own_addresses(port);
        arp(text, port, &v4);
        ip(text, port, &v4, &capture);
        ip6(text, port, &v6);
    }
}

/// What costs the node work is limited for each port, so that a flood of one guest does not delay the others'.
fn limits(text: &mut String) {
    line(text, format_args!("    udp dport 67 limit rate over 20/second burst 20 packets drop"));
    line(text, format_args!("    icmpv6 type nd-router-solicit limit rate over 5/second burst 5 packets drop"));
    line(
        text,
        format_args!(
            "    ip daddr {METADATA} tcp flags & (fin | syn | rst | ack) == syn limit rate over 50/second burst 100 \
             packets drop"
        ),
    );
}

/// What the port may claim to be, IPv6 link-local included. Smaller ranges that lie in larger ones are left out: nft
/// refuses overlaps.
fn own_addresses(port: &PlannedPort<'_>) -> (Vec<Ipv4Net>, Vec<Ipv6Net>) {
    let (mut v4, mut v6) = (Vec::new(), vec![Ipv6Net::from(port.mac.link_local())]);
    let addresses = port.state.addresses.iter().map(|address| IpNet::from(address.addr()));
    for net in addresses.chain(port.state.allowed_pairs.iter().map(IpNet::trunc)) {
        match net {
            IpNet::V4(net) => v4.push(net),
            IpNet::V6(net) => v6.push(net),
        }
    }
    (Ipv4Net::aggregate(&v4), Ipv6Net::aggregate(&v6))
}

fn arp(text: &mut String, port: &PlannedPort<'_>, own: &[Ipv4Net]) {
    line(text, format_args!("  chain arp_{} {{", port.tap));
    line(text, format_args!("    arp saddr ether != {} drop", port.mac));
    // Asking from no address is how a guest finds out whether its address is taken.
    line(text, format_args!("    arp operation request arp saddr ip 0.0.0.0 accept"));
    if !own.is_empty() {
        line(text, format_args!("    arp operation {{ request, reply }} arp saddr ip {} accept", braces(own)));
    }
    line(text, format_args!("    drop"));
    line(text, format_args!("  }}"));
}

fn ip(text: &mut String, port: &PlannedPort<'_>, own: &[Ipv4Net], capture: &str) {
    line(text, format_args!("  chain ip_{} {{", port.tap));
    line(text, format_args!("    ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept"));
    line(text, format_args!("    udp sport 67 drop"));
    if own.is_empty() {
        line(text, format_args!("    drop"));
    } else {
        line(text, format_args!("    ip saddr != {} drop", braces(own)));
        // Whatever next hop the guest takes for it, the node answers, and on this tap only.
        line(text, format_args!("    {capture}"));
        line(text, format_args!("    accept"));
    }
    line(text, format_args!("  }}"));
}

fn ip6(text: &mut String, port: &PlannedPort<'_>, own: &[Ipv6Net]) {
    let tap = &port.tap;
    line(text, format_args!("  chain ip6_{tap} {{"));
    line(text, format_args!("    icmpv6 type {{ nd-router-advert, nd-redirect }} drop"));
    line(text, format_args!("    udp sport 547 drop"));
    line(text, format_args!("    icmpv6 type nd-neighbor-advert jump advert_{tap}"));
    line(
        text,
        format_args!(
            "    ip6 saddr :: icmpv6 type {{ nd-neighbor-solicit, nd-router-solicit, mld-listener-report, \
             mld2-listener-report }} accept"
        ),
    );
    line(text, format_args!("    ip6 saddr {} accept", braces(own)));
    line(text, format_args!("    drop"));
    line(text, format_args!("  }}"));
    // The target of an advertisement is what a neighbour believes, so it must be the port's own too. It stands 8
    // bytes into the message; older versions of nft have no name for it.
    line(text, format_args!("  chain advert_{tap} {{"));
    for net in own {
        match target_prefix(*net) {
            Some((bits, value)) => line(text, format_args!("    @th,64,{bits} {value:#x} return")),
            None => line(text, format_args!("    return")),
        }
    }
    line(text, format_args!("    drop"));
    line(text, format_args!("  }}"));
}

/// The leading bits of `net` as a number; `None`: all addresses are in it.
fn target_prefix(net: Ipv6Net) -> Option<(u8, u128)> {
    let bits = net.prefix_len();
    (bits > 0).then(|| (bits, Ipv6Addr::to_bits(net.network()) >> (128 - u32::from(bits))))
}

fn to_devices(text: &mut String, plan: &Plan<'_>) {
    line(text, format_args!("  chain forwarding {{"));
    line(text, format_args!("    type filter hook forward priority -200; policy drop;"));
    let legs = plan.legs.iter().map(|leg| format!("{} : goto to_leg", leg.outside));
    let ports = plan.ports.iter().map(|port| format!("{} : goto to_{}", port.tap, port.tap));
    let all: Vec<String> = ports.chain(legs).collect();
    if !all.is_empty() {
        line(text, format_args!("    oifname vmap {}", braces(all)));
    }
    line(text, format_args!("  }}"));
    let legs = (!plan.legs.is_empty()).then_some(("leg", LEGS));
    for (name, index) in plan.ports.iter().map(|port| (port.tap.as_str(), port.index)).chain(legs) {
        line(text, format_args!("  chain to_{name} {{"));
        line(text, format_args!("    meta mark set meta mark & 0xffff0000 | {index:#010x}"));
        line(text, format_args!("    accept"));
        line(text, format_args!("  }}"));
    }
    // Most frames for the bridge protocols themselves come here without having passed the first chain. What did pass it
    // has a mark.
    line(text, format_args!("  chain entering {{"));
    line(text, format_args!("    type filter hook input priority -200; policy drop;"));
    line(text, format_args!("    meta mark != 0 accept"));
    line(text, format_args!("  }}"));
    leaving(text, plan);
}

/// What the node itself sends. An answer to one port carries that port's mark and can reach no other, whatever the
/// others have told about who they are.
fn leaving(text: &mut String, plan: &Plan<'_>) {
    line(text, format_args!("  chain leaving {{"));
    line(text, format_args!("    type filter hook output priority -200; policy drop;"));
    for leg in &plan.legs {
        // What is sent in a router's name is not for the router itself.
        line(text, format_args!("    oifname {} ether saddr {} drop", leg.outside, leg.mac));
    }
    let taps: Vec<&str> = plan.ports.iter().map(|port| port.tap.as_str()).collect();
    let legs = plan.legs.iter().map(|leg| leg.outside.as_str());
    let all: Vec<&str> = taps.iter().copied().chain(legs).collect();
    if !all.is_empty() {
        line(text, format_args!("    meta mark 0 oifname {} accept", braces(all)));
    }
    if !plan.ports.is_empty() {
        let pairs = plan.ports.iter().map(|port| format!("{:#010x} . {}", mark_of(port.index), port.tap));
        line(text, format_args!("    meta mark . oifname {} accept", braces(pairs)));
    }
    line(text, format_args!("  }}"));
}

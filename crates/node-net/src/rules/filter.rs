//! The inet table: security groups, what the node answers, and the host's way in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use driver::{Direction, GroupId, Protocol, Remote, Rule};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{braces, line, mark_of};
use crate::names::{BRIDGE, HOST_LINK, HOST_V4, HOST_V6, METADATA};
use crate::plan::{LEGS, Plan, PlannedPort};

pub(super) fn table(text: &mut String, plan: &Plan<'_>) {
    line(text, format_args!("table inet mainstay {{"));
    members(text, plan);
    for port in plan.ports.iter().filter(|port| port.state.secured) {
        group_rules(text, port);
    }
    arriving(text);
    forward(text, plan);
    input(text, plan);
    if plan.spec.host_access {
        translate_host(text, plan);
    }
    line(text, format_args!("}}"));
}

/// A port's rules, one chain each way. Egress returns so that the receiver is asked too; ingress is the last word.
fn group_rules(text: &mut String, port: &PlannedPort<'_>) {
    for (name, direction, verdict) in
        [("egress", Direction::Egress, "return"), ("ingress", Direction::Ingress, "accept")]
    {
        line(text, format_args!("  chain {name}_{} {{", port.tap));
        line(text, format_args!("    ct state invalid drop"));
        let rules = port.state.rules.iter().filter(|rule| rule.direction == direction);
        for matches in rules.filter_map(matches_of).collect::<BTreeSet<String>>() {
            line(text, format_args!("    {matches} {verdict}"));
        }
        line(text, format_args!("    drop"));
        line(text, format_args!("  }}"));
    }
}

/// The conditions of a rule; `None`: it matches nothing.
fn matches_of(rule: &Rule) -> Option<String> {
    let mut parts = vec![format!("meta nfproto {}", if rule.ipv6 { "ipv6" } else { "ipv4" })];
    let family = if rule.ipv6 { "ip6" } else { "ip" };
    let side = match rule.direction {
        Direction::Ingress => "saddr",
        Direction::Egress => "daddr",
    };
    match rule.remote {
        Remote::Any => {}
        Remote::Prefix(range) if matches!(range, IpNet::V6(_)) == rule.ipv6 => {
            parts.push(format!("{family} {side} {}", range.trunc()));
        }
        Remote::Prefix(_) => return None,
        Remote::Group(group) => parts.push(format!("{family} {side} @{}", set_name(group, rule.ipv6))),
    }
    parts.extend(protocol(rule));
    Some(parts.join(" "))
}

/// The members of groups that rules name, each once for all ports. A group of which nothing is known has none.
fn members(text: &mut String, plan: &Plan<'_>) {
    let rules = plan.ports.iter().filter(|port| port.state.secured).flat_map(|port| &port.state.rules);
    let named: BTreeSet<(GroupId, bool)> = rules
        .filter_map(|rule| match rule.remote {
            Remote::Group(group) => Some((group, rule.ipv6)),
            Remote::Any | Remote::Prefix(_) => None,
        })
        .collect();
    for (group, ipv6) in named {
        let members = plan.groups.get(&group).map_or(&[][..], |group| &group.members);
        line(text, format_args!("  set {} {{", set_name(group, ipv6)));
        line(text, format_args!("    type {}", if ipv6 { "ipv6_addr" } else { "ipv4_addr" }));
        line(text, format_args!("    flags interval"));
        if let Some(elements) = ranges(members, ipv6) {
            line(text, format_args!("    elements = {elements}"));
        }
        line(text, format_args!("  }}"));
    }
}

fn set_name(group: GroupId, ipv6: bool) -> String {
    format!("group_v{}_{}", if ipv6 { 6 } else { 4 }, group.simple())
}

/// Those of one IP version, without ranges inside others: nft refuses overlaps.
fn ranges(members: &[IpNet], ipv6: bool) -> Option<String> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for member in members {
        match member.trunc() {
            IpNet::V4(net) => v4.push(net),
            IpNet::V6(net) => v6.push(net),
        }
    }
    if ipv6 {
        let nets = Ipv6Net::aggregate(&v6);
        (!nets.is_empty()).then(|| braces(nets))
    } else {
        let nets = Ipv4Net::aggregate(&v4);
        (!nets.is_empty()).then(|| braces(nets))
    }
}

fn protocol(rule: &Rule) -> Vec<String> {
    let ports = |name: &str, from: u16, to: u16| match from.cmp(&to) {
        std::cmp::Ordering::Equal => vec![format!("{name} dport {from}")],
        std::cmp::Ordering::Less | std::cmp::Ordering::Greater => {
            vec![format!("{name} dport {}-{}", from.min(to), from.max(to))]
        }
    };
    match rule.protocol {
        Protocol::Any => Vec::new(),
        Protocol::Tcp(from, to) => ports("tcp", from, to),
        Protocol::Udp(from, to) => ports("udp", from, to),
        Protocol::Icmp(kind, code) => {
            let (number, name) = if rule.ipv6 { ("58", "icmpv6") } else { ("1", "icmp") };
            let mut parts = vec![format!("meta l4proto {number}")];
            parts.extend(kind.map(|kind| format!("{name} type {kind}")));
            parts.extend(code.map(|code| format!("{name} code {code}")));
            parts
        }
        Protocol::Number(number) => vec![format!("meta l4proto {number}")],
    }
}

/// The bridge hands frames for the link layer's own discovery (LLDP) to the tap's device without asking any rule, and
/// they may hold anything. What comes from guests otherwise comes by way of the bridge.
fn arriving(text: &mut String) {
    line(text, format_args!("  chain arriving {{"));
    line(text, format_args!("    type filter hook prerouting priority raw; policy drop;"));
    line(text, format_args!("    iifname {} accept", braces([BRIDGE, HOST_LINK, "lo"])));
    line(text, format_args!("  }}"));
}

fn forward(text: &mut String, plan: &Plan<'_>) {
    line(text, format_args!("  chain forwarding {{"));
    line(text, format_args!("    type filter hook forward priority filter; policy drop;"));
    line(
        text,
        format_args!(
            "    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-query, \
             mld-listener-report, mld-listener-done, mld2-listener-report }} accept"
        ),
    );
    line(text, format_args!("    ct direction reply ct state established accept"));
    line(text, format_args!("    ct state related accept"));
    if plan.spec.host_access {
        line(text, format_args!("    iifname {HOST_LINK} oifname {BRIDGE} goto from_host"));
    }
    let verdict = |port: &PlannedPort<'_>, secured: String, open: &str| {
        if port.state.secured { secured } else { open.to_string() }
    };
    let legs = |verdict: &str, mark: u32| (!plan.legs.is_empty()).then(|| format!("{mark:#010x} : {verdict}"));
    let senders = plan.ports.iter().map(|port| {
        format!("{:#010x} : {}", mark_of(port.index), verdict(port, format!("jump egress_{}", port.tap), "continue"))
    });
    let receivers = plan.ports.iter().map(|port| {
        format!("{:#010x} : {}", port.index, verdict(port, format!("goto ingress_{}", port.tap), "accept"))
    });
    let senders: Vec<String> = senders.chain(legs("continue", mark_of(LEGS))).collect();
    let receivers: Vec<String> = receivers.chain(legs("accept", u32::from(LEGS))).collect();
    if !senders.is_empty() {
        line(text, format_args!("    meta mark & 0xffff0000 vmap {}", braces(senders)));
        line(text, format_args!("    meta mark & 0x0000ffff vmap {}", braces(receivers)));
    }
    line(text, format_args!("  }}"));
    if plan.spec.host_access {
        from_host(text, plan);
    }
}

/// What the host sends is routed, not bridged, so the receiving port is known by its address here.
fn from_host(text: &mut String, plan: &Plan<'_>) {
    let mut receivers: BTreeMap<IpAddr, String> = BTreeMap::new();
    for port in &plan.ports {
        let verdict = if port.state.secured { format!("goto ingress_{}", port.tap) } else { "accept".to_string() };
        for address in &port.state.addresses {
            receivers.entry(address.addr()).or_insert_with(|| verdict.clone());
        }
    }
    line(text, format_args!("  chain from_host {{"));
    for (family, v6, host) in [("ip", false, IpAddr::V4(HOST_V4)), ("ip6", true, IpAddr::V6(HOST_V6))] {
        let of_family = receivers.iter().filter(|(address, _)| address.is_ipv6() == v6);
        let all: Vec<String> = of_family.map(|(address, verdict)| format!("{address} : {verdict}")).collect();
        if !all.is_empty() {
            line(text, format_args!("    {family} saddr {host} {family} daddr vmap {}", braces(all)));
        }
    }
    line(text, format_args!("    drop"));
    line(text, format_args!("  }}"));
}

/// What the node itself answers: DHCP and metadata to ports, neighbour discovery and pings to everyone here.
fn input(text: &mut String, plan: &Plan<'_>) {
    let lowest = mark_of(LEGS + 1);
    line(text, format_args!("  chain input {{"));
    line(text, format_args!("    type filter hook input priority filter; policy drop;"));
    line(text, format_args!("    iifname {BRIDGE} meta mark >= {lowest:#010x} udp sport 68 udp dport 67 accept"));
    line(
        text,
        format_args!("    iifname {BRIDGE} meta mark >= {lowest:#010x} ip daddr {METADATA} tcp dport 80 goto metadata"),
    );
    line(text, format_args!("    iifname {BRIDGE} icmp type echo-request accept"));
    line(text, format_args!("    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept"));
    line(text, format_args!("    iifname {BRIDGE} icmpv6 type nd-router-solicit ip6 hoplimit 255 accept"));
    line(text, format_args!("    iifname {BRIDGE} icmpv6 type echo-request accept"));
    line(text, format_args!("    ct state related accept"));
    line(text, format_args!("  }}"));
    // A connection stays with the tap that opened it: another guest cannot put its own packets into it.
    line(text, format_args!("  chain metadata {{"));
    if !plan.ports.is_empty() {
        line(text, format_args!("    ct mark 0 ct mark set meta mark"));
        let same = plan.ports.iter().map(|port| format!("{0:#010x} . {0:#010x}", mark_of(port.index)));
        line(text, format_args!("    ct mark . meta mark {} accept", braces(same)));
    }
    line(text, format_args!("    drop"));
    line(text, format_args!("  }}"));
}

/// The host appears to guests under an address that they can answer.
fn translate_host(text: &mut String, plan: &Plan<'_>) {
    line(text, format_args!("  chain leaving {{"));
    line(text, format_args!("    type nat hook postrouting priority srcnat;"));
    for subnet in &plan.spec.subnets {
        let (family, host) = match subnet.cidr {
            IpNet::V4(_) => ("ip", IpAddr::V4(HOST_V4)),
            IpNet::V6(_) => ("ip6", IpAddr::V6(HOST_V6)),
        };
        let (range, seen_as) = (subnet.cidr.trunc(), plan.host_seen_as(subnet));
        line(
            text,
            format_args!(
                "    oifname {BRIDGE} {family} saddr {host} {family} daddr {range} snat {family} to {seen_as}"
            ),
        );
    }
    line(text, format_args!("  }}"));
}

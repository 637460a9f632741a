//! The host's own way into a network: a link that is routed, not bridged.
//!
//! The host never is a neighbour of guests: it has a point-to-point link to the network's namespace and routes to the
//! network's ranges. The namespace lets through what the ports' ingress rules allow, gives it a source address that
//! guests can answer, and lets nothing start in the other direction.
//!
//! Where several agents share the machine, each has a part of the network. The first one's link has the routes to the
//! ranges, the others' those to their own guests, which are more specific.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::devices;
use crate::error::NetError;
use crate::names::{HOST_LINK, HOST_PEER_V4, HOST_PEER_V6, HOST_V4, HOST_V6, Tag};
use crate::plan::Plan;
use crate::space;
use crate::tools::{self, Route};

/// Makes the host's link and routes, or removes them if the plan has no host access.
pub(crate) fn ensure(tag: &Tag, namespace: &str, plan: &Plan<'_>) -> Result<(), NetError> {
    let device = tag.host_link(plan.id());
    if !plan.spec.host_access {
        return remove(&device);
    }
    let mtu = plan.device_mtu();
    let mut outside = link(None, &device)?;
    let mut inside = link(Some(namespace), HOST_LINK)?;
    if outside.is_none() || inside.is_none() {
        let mut lines: Vec<String> = outside.iter().map(|_| format!("link delete dev {device}")).collect();
        lines.push(format!(
            "link add name {device} mtu {mtu} type veth peer name {HOST_LINK} mtu {mtu} netns {namespace}"
        ));
        tools::ip_batch(None, &lines)?;
        (outside, inside) = (link(None, &device)?, link(Some(namespace), HOST_LINK)?);
    }
    // Also for a link that was there: whoever made it may have been killed before this.
    host_settings(&device)?;
    space::settings(namespace, &inside_settings())?;
    let lines = devices::configure_host(true, HOST_LINK, &inside.unwrap_or_default(), mtu);
    let returns = [
        format!("route replace {HOST_V4} dev {HOST_LINK} proto static"),
        format!("route replace {HOST_V6} dev {HOST_LINK} proto static"),
    ];
    tools::ip_batch(Some(namespace), &lines.into_iter().chain(returns).collect::<Vec<_>>())?;
    let mut lines = devices::configure_host(false, &device, &outside.unwrap_or_default(), mtu);
    lines.extend(routes(tag, plan, &device)?);
    tools::ip_batch(None, &lines)
}

/// Removes the host's link if it is there; its other end and its routes go with it.
pub(crate) fn remove(device: &str) -> Result<(), NetError> {
    if link(None, device)?.is_none() {
        return Ok(());
    }
    tools::ip_batch(None, &[format!("link delete dev {device}")])
}

fn link(namespace: Option<&str>, device: &str) -> Result<Option<tools::Link>, NetError> {
    Ok(tools::links(namespace)?.remove(device))
}

/// Nothing on this link may configure the host, and nobody else is there to have its addresses.
fn host_settings(device: &str) -> Result<(), NetError> {
    for setting in ["accept_ra", "autoconf", "accept_redirects", "accept_dad"] {
        let path = format!("/proc/sys/net/ipv6/conf/{device}/{setting}");
        std::fs::write(&path, "0").map_err(NetError::io(format!("set {path}")))?;
    }
    let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    std::fs::write(&path, "0").map_err(NetError::io(format!("set {path}")))
}

fn inside_settings() -> Vec<(String, &'static str)> {
    let of_device = [("accept_ra", "0"), ("accept_dad", "0"), ("disable_ipv6", "0")];
    of_device.into_iter().map(|(setting, value)| (format!("ipv6/conf/{HOST_LINK}/{setting}"), value)).collect()
}

/// Refuses ranges that the host already reaches elsewhere: a route of ours would cut it off from its own network, or
/// lead to another cell's guests. Other parts of the same network on this machine are not elsewhere.
pub(crate) fn check_ranges(tag: &Tag, plan: &Plan<'_>) -> Result<(), NetError> {
    if !plan.spec.host_access {
        return Ok(());
    }
    for family in ["-4", "-6"] {
        for route in tools::routes(None, family, &["table", "main"])? {
            let ours = route.dev.as_deref().is_some_and(|device| tag.leads_to(device, plan.id()));
            let Some(existing) = range_of(&route).filter(|_| !ours) else { continue };
            let hit = plan.spec.subnets.iter().find(|subnet| overlap(subnet.cidr, existing));
            if let Some(subnet) = hit {
                let range = subnet.cidr.to_string();
                let route = format!("{} on {}", route.dst, route.dev.as_deref().unwrap_or("no single device"));
                return Err(NetError::HostRange { network: plan.id(), range, route });
            }
        }
    }
    Ok(())
}

/// All ranges and single addresses that the host has or reaches by a route of any table, its default routes left out.
pub(crate) fn reached() -> Result<Vec<IpNet>, NetError> {
    let mut found = Vec::new();
    for family in ["-4", "-6"] {
        found.extend(tools::routes(None, family, &["table", "all"])?.iter().filter_map(range_of));
    }
    Ok(found)
}

/// The destination of a route; `None` for the default route, which overlaps everything and loses to any other, and
/// for the host ends of our own links.
fn range_of(route: &Route) -> Option<IpNet> {
    let range: IpNet = route.dst.parse().ok().or_else(|| route.dst.parse::<IpAddr>().ok().map(IpNet::from))?;
    (range.prefix_len() > 0).then_some(range)
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other.addr()) && one.prefix_len() <= other.prefix_len()
        || other.contains(&one.addr()) && other.prefix_len() <= one.prefix_len()
}

/// Routes of the host to the ranges or guests, and the end of routes to those that the network has no more.
fn routes(tag: &Tag, plan: &Plan<'_>, device: &str) -> Result<Vec<String>, NetError> {
    let targets = targets(tag, plan);
    let mut lines = Vec::new();
    let ends: [(&str, IpAddr, IpAddr); 2] =
        [("-4", HOST_PEER_V4.into(), HOST_V4.into()), ("-6", HOST_PEER_V6.into(), HOST_V6.into())];
    for (family, peer, own) in ends {
        let of_family = |range: &&IpNet| range.addr().is_ipv4() == own.is_ipv4();
        let wanted: Vec<String> = targets.iter().filter(of_family).map(|range| devices::shown(*range)).collect();
        let found = tools::routes(None, family, &["dev", device, "proto", "static"])?;
        let gone = found.iter().filter(|route| !wanted.contains(&route.dst));
        lines.extend(gone.map(|route| format!("route delete {} dev {device} proto static", route.dst)));
        let missing = wanted.iter().filter(|range| !found.iter().any(|route| route.dst == **range));
        lines.extend(
            missing.map(|range| format!("route add {range} via {peer} dev {device} onlink src {own} proto static")),
        );
    }
    Ok(lines)
}

/// What the host reaches over the link.
fn targets(tag: &Tag, plan: &Plan<'_>) -> Vec<IpNet> {
    let ranges = || plan.spec.subnets.iter().map(|subnet| subnet.cidr);
    if tag.is_alone() {
        return ranges().collect();
    }
    let addresses = plan.ports.iter().flat_map(|port| &port.state.addresses).map(IpNet::addr);
    let inside = |address: &IpAddr| ranges().any(|range| range.contains(address));
    addresses.filter(inside).map(IpNet::from).collect()
}

//! Routers on this node: a namespace each, with a leg into every network that it joins.
//!
//! A leg is a pair of devices, one end on the network's bridge, the other in the router's namespace. Each network
//! brings its own legs, in any order; a router's namespace comes with the first and goes with the last.

use parking_lot::Mutex;

use crate::devices;
use crate::error::NetError;
use crate::names::Tag;
use crate::plan::{Leg, Plan};
use crate::rules::router_ruleset;
use crate::space;
use crate::tools::{self, Link, Links};

/// Held while routers change: networks are ensured side by side, and the last leg of one may be the first of another.
pub(crate) type RouterLock = Mutex<()>;

/// Makes the legs of the plan, and removes those that `found` has beyond them.
pub(crate) fn ensure_legs(
    tag: &Tag,
    lock: &RouterLock,
    namespace: &str,
    plan: &Plan<'_>,
    found: &Links,
) -> Result<(), NetError> {
    let stale = devices::stale_legs(Some(plan), found);
    if stale.is_empty() && plan.legs.is_empty() {
        return Ok(());
    }
    let _one_at_a_time = lock.lock();
    remove_stale(tag, namespace, &stale)?;
    for leg in &plan.legs {
        ensure_leg(tag, namespace, plan, leg, found)?;
    }
    Ok(())
}

/// Removes all legs into the network, which is about to go.
pub(crate) fn remove_legs(tag: &Tag, lock: &RouterLock, namespace: &str) -> Result<(), NetError> {
    let stale = devices::stale_legs(None, &tools::links(Some(namespace))?);
    let _one_at_a_time = lock.lock();
    remove_stale(tag, namespace, &stale)
}

fn ensure_leg(tag: &Tag, namespace: &str, plan: &Plan<'_>, leg: &Leg, found: &Links) -> Result<(), NetError> {
    let router = tag.router(&leg.router);
    let mtu = plan.device_mtu();
    let made = space::ensure(&router)?;
    let inside = if made { None } else { tools::links(Some(&router))?.remove(&leg.inside) };
    if made || inside.is_none() {
        space::settings(&router, &settings())?;
        tools::nft(&router, router_ruleset())?;
    }
    let (outside, inside) = match (found.get(&leg.outside), inside) {
        (Some(outside), Some(inside)) => (outside.clone(), inside),
        // One end without the other: its namespace was lost and made again. Such an end leads nowhere.
        (outside, _) => {
            let mut lines = Vec::new();
            lines.extend(outside.map(|_| format!("link delete dev {}", leg.outside)));
            lines.push(format!(
                "link add name {} mtu {mtu} type veth peer name {} address {} mtu {mtu} netns {router}",
                leg.outside, leg.inside, leg.mac
            ));
            tools::ip_batch(Some(namespace), &lines)?;
            let inside = Link { mac: leg.mac.to_string(), mtu: u32::from(mtu), ..Link::default() };
            (Link::default(), inside)
        }
    };
    let lines: Vec<String> = devices::enslave(&leg.outside, &outside, mtu, &leg.router).into_iter().collect();
    tools::ip_batch(Some(namespace), &lines)?;
    tools::ip_batch(Some(&router), &devices::configure_leg(leg, &inside, mtu))
}

/// Removes legs by the names of their outer ends, then routers that have none left.
fn remove_stale(tag: &Tag, namespace: &str, stale: &[String]) -> Result<(), NetError> {
    if stale.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = stale.iter().map(|device| format!("link delete dev {device}")).collect();
    tools::ip_batch(Some(namespace), &lines)?;
    remove_unused(tag)
}

/// Removes this cell's routers that have no leg. The caller holds the lock.
fn remove_unused(tag: &Tag) -> Result<(), NetError> {
    for router in space::list()?.into_iter().filter(|name| name.starts_with(&tag.router_prefix())) {
        if !tools::links(Some(&router))?.keys().any(|device| device.starts_with('l') && device != "lo") {
            space::remove(&router)?;
            tracing::info!(router, "removed a router that joins nothing any more");
        }
    }
    Ok(())
}

fn settings() -> Vec<(String, &'static str)> {
    let values = [
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv6/conf/default/forwarding", "1"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv4/conf/all/accept_redirects", "0"),
        ("ipv4/conf/default/accept_redirects", "0"),
        ("ipv6/conf/default/accept_redirects", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        // Guests may know the gateway address under another hardware address; they are told when a leg comes up.
        ("ipv4/conf/default/arp_notify", "1"),
        ("ipv6/conf/default/ndisc_notify", "1"),
    ];
    values.into_iter().map(|(setting, value)| (setting.to_string(), value)).collect()
}
